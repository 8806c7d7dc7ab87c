//! Making a new host the home of the ledger: handover, new writer, new folder.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::ObjectKey;
use blockhouse_types::{Account, BlockHash};
use bytes::Bytes;

use super::RecoverError;
use crate::blocks;
use crate::folder::{SourceEntry, write_durably};
use crate::ledger::WriterRecord;
use crate::publish::Publication;
use crate::reader;
use crate::sheet;
use crate::unlock::{Unlocked, open_bag};
use crate::vault::Vault;

pub(super) fn make_folder(folder: &Path) -> Result<(), RecoverError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| RecoverError::Folder { folder: folder.to_owned(), source })
}

/// The bag that the ledger names: the one that was found, or a newer one.
pub(super) async fn bag_in_force(vault: &Vault, unlocked: &Unlocked) -> Result<KeyBag, RecoverError> {
    let named = vault.ledger().bag().await?;
    open_bag(vault.sites(), named, unlocked).await.map_err(|source| RecoverError::OldBag { version: named.0, source })
}

/// Hands the ledger over to this host and makes it the vault's writer.
pub(super) async fn take_over(
    vault: &mut Vault,
    bag: &KeyBag,
    unlocked: &Unlocked,
    host_stolen: bool,
) -> Result<(), RecoverError> {
    let sites = vault.config().sites.len();
    let needed = sites.saturating_sub(usize::from(vault.plan().w)).max(1);
    let writable = vault.sites().members().iter().filter(|member| member.writable().is_some()).count();
    if writable < needed {
        return Err(RecoverError::TooFewSites { needed, sites, writable });
    }
    let seed = Secret::random(&mut rand::rng());
    let key = Arc::new(LedgerKey::from_seed(&seed));
    vault.set_home(vault.embedded(Some(Arc::clone(&key))));
    let parent = vault.standing().await?;
    let account = unlocked.recovery_account().ok_or(RecoverError::ReaderOnly)?;
    vault.ledger_as(&account).hand_over(key.public(), parent.hash).await?;
    let mut published = Publication::begin(vault.sites());
    publish_handover(vault, &mut published).await?;
    published.require("the handover", needed)?;
    let writer = AccountSecret::random(&mut rand::rng());
    let first = enrol(vault, bag, &writer, parent.height, host_stolen).await?;
    let secrets = HostSecrets {
        vault: vault.id(),
        write: bag.vault_secret.write_secrets(first.unwrap_or_else(|| writer.account())),
        writer,
        ledger_seed: seed,
    };
    write_durably(&vault.folder().secrets(), 0o600, &secrets.to_bytes())?;
    vault.set_secrets(secrets);
    let height = vault.standing().await?.height;
    for copied in blocks::copy_everywhere(vault.sites(), vault.home(), height).await {
        if copied.result.is_err() {
            published.exclude(copied.member);
        }
    }
    Ok(published.require("the recovery's blocks", needed)?)
}

/// Copies the chain up to the handover, and its marker.
async fn publish_handover(vault: &Vault, published: &mut Publication) -> Result<(), RecoverError> {
    let standing = vault.standing().await?;
    for copied in blocks::copy_everywhere(vault.sites(), vault.home(), standing.height).await {
        if copied.result.is_err() {
            published.exclude(copied.member);
        }
    }
    for object in vault.home().block_objects(standing.height, 1).await? {
        let number = standing.keys.handovers().len() as u64;
        let key = ObjectKey::Handover { number, hash: BlockHash::new(object.hash().to_bytes()) };
        published.put(vault.sites(), &key, Bytes::from(object.encode())).await;
    }
    Ok(())
}

/// Enrols the new writer after the last one and revokes all others; the first account of the line names its dedup domain.
async fn enrol(
    vault: &Vault,
    bag: &KeyBag,
    writer: &AccountSecret,
    last_block: u64,
    host_stolen: bool,
) -> Result<Option<Account>, RecoverError> {
    let owner = vault.ledger_as(&bag.owner);
    let writers = owner.writers().await?;
    let predecessor = writers.iter().rev().find(|writer| writer.active).or(writers.last());
    owner
        .enrol_writer(WriterRecord {
            account: writer.account(),
            active: true,
            host_stolen,
            predecessor: predecessor.map(|predecessor| predecessor.account),
            predecessor_last_block: predecessor.map_or(0, |_| last_block),
        })
        .await?;
    for old in writers.iter().filter(|writer| writer.active) {
        owner.revoke_writer(old.account).await?;
    }
    let by_account: BTreeMap<Account, &WriterRecord> = writers.iter().map(|it| (it.account, it)).collect();
    let mut first = predecessor;
    for _ in 0..writers.len() {
        let before = first.and_then(|it| it.predecessor).and_then(|account| by_account.get(&account).copied());
        first = before.or(first);
    }
    Ok(first.map(|it| it.account))
}

/// Writes what this host knows: sources by what their snapshots say, configuration, recovery sheet.
pub(super) async fn finish(vault: &mut Vault, unlocked: &Unlocked) -> Result<(), RecoverError> {
    let snapshots = vault.ledger().snapshots().await?;
    let mut sources = BTreeMap::new();
    for record in snapshots.into_iter().rev().filter(|record| !record.forgotten) {
        if sources.contains_key(&record.source) {
            continue;
        }
        let source = record.source;
        // A source whose snapshot cannot be opened keeps its id for a name.
        let Ok(opened) = reader::open(vault, unlocked, record).await else { continue };
        let facts = &opened.manifest.facts;
        let roots: Vec<String> =
            facts.roots().unwrap_or_default().iter().map(|root| crate::backup::readable(root)).collect();
        let name = facts.source().unwrap_or_else(|| roots.join(" "));
        let entry = SourceEntry { name, host: facts.host().unwrap_or_default(), roots, tags: BTreeMap::new() };
        sources.insert(source, entry);
    }
    vault.set_sources(sources);
    let fingerprint = vault.standing().await?.fingerprint;
    sheet::write(vault.folder(), vault.config(), fingerprint)?;
    Ok(vault.config().save(vault.folder())?)
}
