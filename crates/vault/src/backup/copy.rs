//! Copying snapshots to another vault: opened with the keys of the one, cut, named and sealed anew with those of the other.
//!
//! - **Owns** which snapshots are still to be copied, what a copy says of where it is from, and what becomes of its source.
//! - **Does not** store or commit by rules of its own: a copy goes the way of every backup, and leaves what a backup leaves when it is
//!   killed: garbage that the next run reuses.
//!
//! # Invariants
//! - **C1** A copy has the tree, the metadata and the facts of its original, every file compared with its hash on the way; else there
//!   is none.
//! - **C2** A snapshot whose copy stands is not copied again: the commitment that says so stands in the block that made it stand.
//! - **C3** Copies are snapshots of sources of their own: they never are the latest of what this vault's own hosts back up.
//!
//! Format: `docs/design/manifests.md`, section *Copies*.

mod memory;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::B256;
use blockhouse_crypto::{RecipientSet, Secret, hash};
use blockhouse_pipeline::cut::Cutter;
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_pipeline::manifest::{FactError, Facts};
use blockhouse_sources::files::Options;
use blockhouse_types::{DecodeError, Decoder, Encoder, SnapshotId, SourceId, VaultId};

use super::commit::Prepared;
use super::{BackupError, BackupReport, BackupRequest, Opening, Run, WalkError, admit, wall_clock};
use crate::folder::{Config, SourceEntry, UpdateError};
use crate::ledger::LedgerError;
use crate::progress::Progress;
use crate::reader::{self, OpenSnapshotError, OpenedSnapshot, ReadTreeError};
use crate::select::{Known, tag_key};
use crate::unlock::Unlocked;
use crate::vault::{HostSecrets, Vault};

pub use memory::CopyMemory;
use tree::Copier;

/// The fact that says what a snapshot is a copy of.
const ORIGIN: &str = "copied-from";

/// Where a copy is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The vault.
    pub vault: VaultId,
    /// The source, by its id there.
    pub source: SourceId,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

impl Origin {
    /// What a manifest says; none if the snapshot is no copy.
    pub fn of(facts: &Facts) -> Option<Self> {
        Self::decode(facts.get(ORIGIN)?).ok()
    }

    fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new("what a copy is from", value);
        let origin = Self {
            vault: VaultId::new(decoder.array()?),
            source: SourceId::new(decoder.array()?),
            snapshot: SnapshotId::new(decoder.array()?),
        };
        decoder.finish().map(|()| origin)
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(self.vault.as_bytes()).raw(self.source.as_bytes()).raw(self.snapshot.as_bytes());
        encoder.finish()
    }

    /// The source's name in `config.toml`, to be found again by.
    pub(crate) fn source_key(&self) -> String {
        format!("{}/{}", self.vault, self.source)
    }

    /// What the ledger of the vault that holds the copy says of it, beside the commitments of tags: those with that vault's index key
    /// recognise it. No tag is spelled so, for tags have no control characters.
    fn commitment(&self, secrets: &HostSecrets) -> B256 {
        let text = format!("copied-from\u{1f}{}\u{1f}{}", self.vault, self.snapshot);
        B256::new(hash::keyed(&tag_key(&secrets.write.index_key), text.as_bytes()))
    }
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyRequest {
    /// The base level of compression.
    pub level: i32,
    /// Who shares chunks with the copies.
    pub dedup: DomainKind,
}

/// What is to be done with one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// It is to be copied.
    New,
    /// Its copy stands.
    There,
    /// It was copied and that copy was forgotten: it is copied again only if it is named.
    Forgotten,
}

/// A snapshot and what is to be done with it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The snapshot.
    pub known: Known,
    /// What is to be done.
    pub state: CopyState,
}

/// What made a copy impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no other vault.
    #[error("both vaults are vault {vault}")]
    SameVault { vault: VaultId },
    /// A ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// The original cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenSnapshotError),
    /// A part of the original cannot be read.
    #[error("`{}` in snapshot {snapshot} could not be read, so the snapshot was not copied", path.escape_ascii())]
    Read {
        snapshot: SnapshotId,
        path: Vec<u8>,
        #[source]
        source: ReadTreeError,
    },
    /// A file is not what the snapshot says.
    #[error("`{}` in snapshot {snapshot} does not have the bytes that the snapshot says, so it was not copied", path.escape_ascii())]
    OtherContent { snapshot: SnapshotId, path: Vec<u8> },
    /// The fact of where it is from.
    #[error("what the snapshot is a copy of could not be recorded")]
    Fact(#[from] FactError),
    /// The other vault's configuration could not be changed.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// The other vault did not take it.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// Says what is to be done with each snapshot: those of one source after another, oldest first. `named` are copied again though their
/// copies were forgotten.
pub async fn plan_copy(
    from: &Vault,
    to: &Vault,
    wanted: Vec<Known>,
    named: &BTreeSet<SnapshotId>,
) -> Result<Vec<Planned>, CopyError> {
    if from.id() == to.id() {
        return Err(CopyError::SameVault { vault: from.id() });
    }
    let secrets = to.secrets().ok_or(BackupError::NoWriter)?;
    // Of several copies one that stands decides.
    let mut copied: BTreeMap<B256, bool> = BTreeMap::new();
    for record in to.ledger().snapshots().await? {
        for tag in &record.commit.tags {
            *copied.entry(*tag).or_default() |= !record.forgotten;
        }
    }
    let mut first: BTreeMap<SourceId, usize> = BTreeMap::new();
    for (place, known) in wanted.iter().enumerate() {
        first.entry(known.record.source).or_insert(place);
    }
    let mut planned: Vec<Planned> = wanted
        .into_iter()
        .map(|known| {
            let state = match copied.get(&origin_of(from, &known).commitment(secrets)) {
                Some(true) => CopyState::There,
                Some(false) if !named.contains(&known.record.id) => CopyState::Forgotten,
                _ => CopyState::New,
            };
            Planned { known, state }
        })
        .collect();
    planned.sort_by_key(|planned| first.get(&planned.known.record.source).copied());
    Ok(planned)
}

fn origin_of(from: &Vault, known: &Known) -> Origin {
    Origin { vault: from.id(), source: known.record.source, snapshot: known.record.id }
}

/// Copies a snapshot, and returns once the copy is acknowledged.
pub async fn copy(
    (from, unlocked, to): (&Vault, &Unlocked, &Vault),
    known: &Known,
    request: CopyRequest,
    (memory, progress): (&mut CopyMemory, &Arc<Progress>),
) -> Result<BackupReport, CopyError> {
    let secrets = to.secrets().ok_or(BackupError::NoWriter)?;
    let origin = origin_of(from, known);
    let opened = reader::open(from, unlocked, known.record.clone()).await?;
    let facts = facts_of(&opened.manifest.facts, origin)?;
    progress.set_total(progress.bytes() + facts.bytes().unwrap_or_default());
    let source = enrol(to, &facts, known, origin)?;
    let recipients = crate::recipients::of_config(to.config()).map_err(BackupError::from)?;
    let (ledger, lease) = admit(to, secrets, source, &recipients).await?;
    let request = as_backup(&facts, request);
    let run = Run { vault: to, secrets, request: &request, ledger: &ledger, session: lease.session, source };
    let copied = Copied { facts, commitment: origin.commitment(secrets) };
    let done = run.copy_and_commit((opened, copied), recipients, (memory, progress)).await;
    lease.end(&ledger, done.is_ok()).await;
    to.keep_summary().await;
    done
}

/// What a commit says of a copy.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    /// The original's facts, and what it is a copy of.
    pub(super) facts: Facts,
    /// What the ledger is told of that.
    pub(super) commitment: B256,
}

fn facts_of(original: &Facts, origin: Origin) -> Result<Facts, FactError> {
    let mut facts = original.clone();
    facts.insert(ORIGIN, origin.to_bytes())?;
    Ok(facts)
}

/// The source of copies in the other vault: one for each source that is copied.
fn enrol(to: &Vault, facts: &Facts, known: &Known, origin: Origin) -> Result<SourceId, UpdateError> {
    let key = origin.source_key();
    let roots: Vec<String> = match &known.source {
        Some(entry) => entry.roots.clone(),
        None => facts.roots().unwrap_or_default().iter().map(|root| super::readable(root)).collect(),
    };
    let named = known.source.as_ref().map(|entry| (entry.name.clone(), entry.host.clone()));
    let (name, host) =
        named.unwrap_or_else(|| (facts.source().unwrap_or_else(|| roots.join(" ")), facts.host().unwrap_or_default()));
    let enter = |config: &mut Config| {
        let is_it = |entry: &SourceEntry| entry.copied_from.as_ref() == Some(&key);
        if let Some((id, entry)) = config.sources.iter_mut().find(|(_, entry)| is_it(entry)) {
            entry.roots = roots;
            return *id;
        }
        let id = SourceId::new(rand::random());
        let entry = SourceEntry { name, host, roots, copied_from: Some(key), ..SourceEntry::default() };
        config.sources.insert(id, entry);
        id
    };
    Ok(Config::update(to.folder(), enter)?.1)
}

/// What the commit of a backup wants to know, of a copy.
fn as_backup(facts: &Facts, request: CopyRequest) -> BackupRequest {
    BackupRequest {
        origin: super::Origin::Paths(Vec::new()),
        source: facts.source(),
        host: facts.host().unwrap_or_default(),
        options: Options::default(),
        tags: facts.tags().unwrap_or_default(),
        level: request.level,
        dedup: request.dedup,
        force: false,
        skip_if_unchanged: false,
    }
}

impl Run<'_> {
    async fn copy_and_commit(
        &self,
        (opened, copied): (OpenedSnapshot, Copied),
        recipients: RecipientSet,
        (memory, progress): (&mut CopyMemory, &Arc<Progress>),
    ) -> Result<BackupReport, CopyError> {
        let Opening { domain, stripes, marked, mut store } = self.open_store().await?;
        let manifest_key = Secret::random(&mut rand::rng());
        let (roots, started) = (copied.facts.roots().unwrap_or_default(), wall_clock());
        let (key, progress, cutter) =
            (manifest_key.clone(), Arc::clone(progress), Cutter::new(self.secrets.write.cut_seed));
        let mut held = std::mem::take(memory);
        held.begin(domain.id_subkey());
        let work = move || {
            let snapshot = opened.record.id;
            let copied = Copier::new((opened.chunks, snapshot), (&mut store, &cutter), &mut held, (&key, &progress));
            let copied = copied.run(&opened.manifest.root);
            // What stopped the threads behind the store says more than that they stopped.
            let stored = store.finish();
            (held, copied.and_then(|tree| Ok((tree, stored.map_err(BackupError::from)?))))
        };
        let (held, done) = tokio::task::spawn_blocking(work).await.map_err(BackupError::Stopped)?;
        *memory = held;
        let (tree, stored) = done?;
        let copied = Some(copied);
        let prepared = Prepared { roots, tree, stored, domain, recipients, manifest_key, started, marked, copied };
        Ok(self.commit(prepared, &stripes).await?)
    }
}

impl From<WalkError> for CopyError {
    fn from(error: WalkError) -> Self {
        Self::Backup(error.into())
    }
}
