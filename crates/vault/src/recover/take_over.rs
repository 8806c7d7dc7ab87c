//! Making a new host the home of the ledger: handover, new writer, new folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::ObjectKey;
use blockhouse_types::{Account, BlockHash};
use bytes::Bytes;

use super::RecoverError;
use crate::blocks::Purpose;
use crate::folder::{SourceEntry, Unfinished, VaultFolder, leftovers, set_aside, write_durably};
use crate::ledger::WriterRecord;
use crate::publish::Publication;
use crate::reader;
use crate::sheet;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// How the vault is taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// What the old host wrote is not reused.
    pub(super) host_stolen: bool,
    /// The owner named the chain by its fingerprint.
    pub(super) is_chosen: bool,
}

impl Terms {
    const fn purpose(self) -> Purpose {
        if self.is_chosen { Purpose::Chosen } else { Purpose::Handover }
    }
}

/// Makes the new host's folder. What an earlier vault left there without its configuration is moved aside, not removed: `secrets`
/// cannot be made anew as it was.
pub(super) fn begin_folder(folder: &VaultFolder) -> Result<Unfinished, RecoverError> {
    let begun = leftovers(folder).into_iter().try_for_each(|file| set_aside(&file).map(drop));
    begun
        .and_then(|()| Unfinished::begin(folder))
        .map_err(|source| RecoverError::Folder { folder: folder.root().to_owned(), source })
}

/// Hands the ledger over to this host and makes it the vault's writer.
pub(super) async fn take_over(
    vault: &mut Vault,
    bag: &KeyBag,
    unlocked: &Unlocked,
    terms: Terms,
) -> Result<(), RecoverError> {
    let sites = vault.config().sites.len();
    let needed = sites.saturating_sub(usize::from(vault.plan().w)).max(1);
    let writable = vault.sites().members().iter().filter(|member| member.writable().is_some()).count();
    if writable < needed {
        return Err(RecoverError::TooFewSites { needed, sites, writable });
    }
    let seed = Secret::random(&mut rand::rng());
    let key = Arc::new(LedgerKey::from_seed(&seed));
    let next_key = key.public();
    vault.set_home(vault.embedded(Some(Arc::clone(&key)), terms.purpose()));
    let parent = vault.standing().await?;
    let account = unlocked.recovery_account().ok_or(RecoverError::ReaderOnly)?;
    vault.ledger_as(&account).hand_over(next_key, parent.hash).await?;
    vault.set_home(vault.embedded(Some(key), Purpose::Block));
    let mut published = Publication::begin(vault.sites());
    publish_handover(vault, &mut published).await?;
    published.require("the handover", needed)?;
    // Another host may have done the same at the same moment. Both wrote before they ask: at least one finds the other's.
    vault.guard(Purpose::Block).check(vault.standing().await?.height).await.map_err(RecoverError::NotAlone)?;
    let writer = AccountSecret::random(&mut rand::rng());
    let first = enrol(vault, bag, &writer, parent.height, terms.host_stolen).await?;
    let secrets = HostSecrets {
        vault: vault.id(),
        write: bag.vault_secret.write_secrets(first.unwrap_or_else(|| writer.account())),
        writer,
        ledger_seed: seed,
    };
    write_durably(&vault.folder().secrets(), 0o600, &secrets.to_bytes())?;
    vault.set_secrets(secrets);
    let height = vault.standing().await?.height;
    published.copy_blocks(vault.sites(), vault.home(), height).await;
    Ok(published.require("the recovery's blocks", needed)?)
}

/// Copies the chain up to the handover, and its marker.
async fn publish_handover(vault: &Vault, published: &mut Publication) -> Result<(), RecoverError> {
    let standing = vault.standing().await?;
    published.copy_blocks(vault.sites(), vault.home(), standing.height).await;
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
