//! Making a new host the home of the ledger: handover, new writer, new folder.
//!
//! # Invariants
//! - **T1** The handover is written before the sites are asked for blocks that the old host wrote meanwhile; the old host writes the
//!   block of a snapshot before it asks for handovers. So of a snapshot that the handover cuts off, one of the two hears.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::Replay;
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::ObjectKey;
use blockhouse_types::{Account, BlockHash};
use bytes::Bytes;

use super::RecoverError;
use super::chains::{LeftOuts, note_left_out};
use crate::backup::copy::Origin;
use crate::blocks::{Chain, Purpose, continuations};
use crate::folder::{SourceEntry, Unfinished, VaultFolder, write_durably};
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
    /// The owner named the chain.
    pub(super) is_chosen: bool,
    /// The most handovers that another chain has: a chosen one is handed over until it has more.
    pub(super) outdo: u64,
}

/// The most handovers that one recovery makes: what forks honest hosts make is ended at once.
const HANDOVERS_MAX: u64 = 16;

impl Terms {
    const fn purpose(self) -> Purpose {
        if self.is_chosen { Purpose::Chosen } else { Purpose::Handover }
    }
}

/// Makes the new host's folder. What an earlier vault left there without its configuration is moved aside, not removed: `secrets`
/// cannot be made anew as it was. Unless what is there is taken up.
pub(super) fn begin_folder(
    folder: &VaultFolder,
    is_taken_up: bool,
) -> Result<(Unfinished, Vec<PathBuf>), RecoverError> {
    let failed = |source| RecoverError::Folder { folder: folder.root().to_owned(), source };
    let busy = || RecoverError::Busy { folder: folder.root().to_owned() };
    let mut unfinished = Unfinished::begin(folder).map_err(failed)?.ok_or_else(busy)?;
    if folder.exists() {
        return Err(RecoverError::Exists { folder: folder.root().to_owned() });
    }
    let kept = if is_taken_up { Vec::new() } else { unfinished.set_aside(folder).map_err(failed)? };
    Ok((unfinished, kept))
}

/// True if a site holds valid blocks above the chain that was read: somebody seals on it.
pub(super) async fn is_outgrown(vault: &Vault) -> Result<bool, RecoverError> {
    let replay = vault.home().own_copy()?.replay().await?;
    for (_, site) in vault.sites().up() {
        let grown = continuations(site, Chain::above(replay.clone())).await;
        if grown.is_ok_and(|chains| chains.iter().any(|chain| !chain.blocks().is_empty())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Hands the ledger over to this host and makes it the vault's writer; the snapshots that the handover has cut off.
pub(super) async fn take_over(
    vault: &mut Vault,
    bag: &KeyBag,
    unlocked: &Unlocked,
    terms: Terms,
) -> Result<LeftOuts, RecoverError> {
    let sites = vault.config().sites.len();
    let needed = vault.handover_copies();
    let writable = vault.sites().members().iter().filter(|member| member.writable().is_some()).count();
    if writable < needed {
        return Err(RecoverError::TooFewSites { needed, sites, writable });
    }
    let seed = Secret::random(&mut rand::rng());
    let key = Arc::new(LedgerKey::from_seed(&seed));
    let parent = vault.home().own_copy()?.replay().await?;
    hand_over(vault, &key, unlocked, terms).await?;
    vault.set_home(vault.embedded(Some(key), Purpose::Block));
    let mut published = Publication::begin(vault.sites());
    publish_handovers(vault, &parent, &mut published).await?;
    published.require("the handover", needed)?;
    // Another host may have done the same at the same moment. Both wrote before they ask: at least one finds the other's.
    vault.guard(Purpose::Block).check(vault.standing().await?.height).await.map_err(RecoverError::NotAlone)?;
    let cut_off = cut_off(vault, &parent, needed).await?;
    let writer = AccountSecret::random(&mut rand::rng());
    let first = enrol(vault, bag, &writer, parent.authority().height(), terms.host_stolen).await?;
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
    published.require("the recovery's blocks", needed)?;
    Ok(cut_off)
}

/// Seals the handover; of a chain that the owner chose as many as it takes to outdo every other.
async fn hand_over(
    vault: &mut Vault,
    key: &Arc<LedgerKey>,
    unlocked: &Unlocked,
    terms: Terms,
) -> Result<(), RecoverError> {
    vault.set_home(vault.embedded(Some(Arc::clone(key)), terms.purpose()));
    let account = unlocked.recovery_account().ok_or(RecoverError::ReaderOnly)?;
    let ledger = vault.ledger_as(&account);
    match ledger.recovery().await?.threshold {
        0 | 1 => {}
        threshold => return Err(RecoverError::NeedsOthers { threshold }),
    }
    for _ in 0..HANDOVERS_MAX {
        ledger.hand_over(key.public(), vault.standing().await?.hash).await?;
        if vault.standing().await?.keys.handovers().len() as u64 > terms.outdo {
            break;
        }
    }
    Ok(())
}

/// Copies the chain up to its last handover, and the markers of those above `parent`. Blocks go first: what is named is there, so
/// whoever recovers after a kill in between goes on from this handover.
async fn publish_handovers(vault: &Vault, parent: &Replay, published: &mut Publication) -> Result<(), RecoverError> {
    let standing = vault.standing().await?;
    published.copy_blocks(vault.sites(), vault.home(), standing.height).await;
    let made = vault.home().own_copy()?.block_objects(parent.authority().height() + 1, usize::MAX).await?;
    for (number, object) in (parent.authority().handovers() + 1..).zip(made) {
        let key = ObjectKey::Handover { number, hash: BlockHash::new(object.hash().to_bytes()) };
        published.put(vault.sites(), &key, Bytes::from(object.encode())).await;
    }
    Ok(())
}

/// The snapshots in valid blocks that follow `parent` beside the handover (T1).
async fn cut_off(vault: &Vault, parent: &Replay, needed: usize) -> Result<LeftOuts, RecoverError> {
    let own = vault.home().own_copy()?.block_objects(parent.authority().height() + 1, 1).await?;
    let is_own = |chain: &Chain| chain.blocks().iter().zip(&own).all(|(one, own)| one.hash() == own.hash());
    let (mut read, mut notes) = (0, LeftOuts::new());
    for (_, site) in vault.sites().up() {
        let Ok(chains) = continuations(site, Chain::above(parent.clone())).await else { continue };
        read += 1;
        for chain in chains.iter().filter(|chain| !is_own(chain)) {
            note_left_out(&mut notes, site.name(), chain.snapshots());
        }
    }
    if read < needed { Err(RecoverError::Unasked { read, needed }) } else { Ok(notes) }
}

/// Enrols the new writer after the last one and revokes all others; the first account of the line names its dedup domain.
pub(super) async fn enrol(
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
    Ok(first_of(&writers))
}

/// The first account of the line of writers that the last one continues.
pub(super) fn first_of(writers: &[WriterRecord]) -> Option<Account> {
    let predecessor = writers.iter().rev().find(|writer| writer.active).or(writers.last());
    let by_account: BTreeMap<Account, &WriterRecord> = writers.iter().map(|it| (it.account, it)).collect();
    let mut first = predecessor;
    for _ in 0..writers.len() {
        let before = first.and_then(|it| it.predecessor).and_then(|account| by_account.get(&account).copied());
        first = before.or(first);
    }
    first.map(|it| it.account)
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
        let (host, copied_from) =
            (facts.host().unwrap_or_default(), Origin::of(facts).map(|origin| origin.source_key()));
        let entry = SourceEntry { name, host, roots, copied_from, ..SourceEntry::default() };
        sources.insert(source, entry);
    }
    vault.set_sources(sources);
    let fingerprint = vault.standing().await?.fingerprint;
    sheet::write(vault.folder(), vault.config(), fingerprint)?;
    Ok(vault.config().save(vault.folder())?)
}
