//! Evidence of forks, in the folder `forks` beside the ledger of whoever met them: a node, or a host.
//!
//! - **Owns** the files, and how evidence is made of a block that came beside the own one.
//! - **Does not** look for forks, nor act on them: who follows, or serves, a ledger does.
//!
//! # Invariants
//! - **K1** What is kept is proved: its check succeeded, and it is of this ledger.
//! - **K2** A file of evidence is durable when it has its name, and is never written again while it proves something: of two blocks there is one file,
//!   whoever certified them how often.
//! - **K3** There are at most [`FORKS_MAX`] of them by one key, whatever comes: who can fork a ledger can do it without end.
//! - **K4** What is no fork costs two checks of a certificate at most: anybody may hand it in.
//!
//! Format: `docs/design/forks.md`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use alloy_primitives::keccak256;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::fingerprint::TrustRoot;
use blockhouse_ledger::fork::{FORK_EVIDENCE_MAX, ForkEvidence, ForkSide, ProvedFork};
use blockhouse_ledger::receipt::Link;
use blockhouse_types::BlockHash;

use crate::embedded::{HomeError, LedgerKeys, block_object, links};
use crate::store::{Store, folder_of};

/// The most forks by one key that are kept: one is enough to stop, and a few more show who was in all of them.
pub const FORKS_MAX: usize = 16;
const FOLDER: &str = "forks";
/// The word that the ledger has it: a file of that ending beside the evidence.
const TOLD: &str = "told";
/// The operator's word that this fork is settled: a file of that ending beside the evidence.
const SETTLED: &str = "settled";
/// What a file is called until it is whole.
const NEW: &str = "new";

/// A folder of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkFolder {
    path: PathBuf,
}

/// Evidence with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFork {
    /// Its file.
    pub path: PathBuf,
    /// The evidence.
    pub evidence: ForkEvidence,
    /// What it proves.
    pub proved: ProvedFork,
}

impl KeptFork {
    /// Whether the ledger has it, as far as is known here.
    pub fn is_told(&self) -> bool {
        self.path.with_extension(TOLD).exists()
    }

    /// Whether the operator said that it is settled.
    pub fn is_settled(&self) -> bool {
        self.path.with_extension(SETTLED).exists()
    }
}

impl ForkFolder {
    /// That beside the ledger with this path.
    pub fn beside(store: &Path) -> Self {
        Self { path: folder_of(store).join(FOLDER) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps evidence, durably. Gives its file, and whether the fork was not known; where there are enough it is not kept. `proved` is what it was
    /// checked to prove.
    pub fn keep(&self, evidence: &ForkEvidence, proved: &ProvedFork) -> Result<(PathBuf, bool), HomeError> {
        let path = self.path.join(name(proved));
        if read(path.clone()).is_some() {
            return Ok((path, false));
        }
        // By one key: who has keys of validators that left must not use up the room for a fork by those in force.
        if self.all()?.iter().filter(|kept| kept.proved.key == proved.key).count() >= FORKS_MAX {
            return Ok((path, false));
        }
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { action, path, source }
        };
        fs::create_dir_all(&self.path).map_err(io("make", &self.path))?;
        crate::store::sync_folder(&self.path).map_err(HomeError::Store)?;
        let is_first = self.write(&path, &evidence.encode()).map_err(io("write", &path))?;
        Ok((path, is_first))
    }

    /// Writes a file that is not there, whole and durable or not at all; false if another one was faster. Evidence that was altered proves nothing
    /// and is written over: it hides no fork that is met again. A kill leaves a `.new`, which nobody reads and the next one writes over.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let folder = File::open(&self.path)?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
        if path.exists() && (bytes.is_empty() || read(path.to_owned()).is_some()) {
            return Ok(false);
        }
        let new = path.with_extension(NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        folder.sync_all()?;
        Ok(true)
    }

    /// Notes that the ledger has it. Where that cannot be written it is told once more after the next start.
    pub fn note_told(&self, kept: &KeptFork) {
        let _ = self.write(&kept.path.with_extension(TOLD), b"");
    }

    /// All evidence here that can be read and proves something, in the order of names. What was altered proves nothing and is passed over.
    pub fn all(&self) -> Result<Vec<KeptFork>, HomeError> {
        Ok(self.files()?.into_iter().filter_map(read).collect())
    }

    /// The files of evidence, whatever is in them.
    fn files(&self) -> Result<Vec<PathBuf>, HomeError> {
        let failed = |source| HomeError::Io { action: "list", path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none() {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }
}

/// The evidence in a file, if it can be read and proves something.
fn read(path: PathBuf) -> Option<KeptFork> {
    let mut bytes = Vec::new();
    File::open(&path).ok()?.take(FORK_EVIDENCE_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    let evidence = ForkEvidence::decode(&bytes).ok()?;
    let proved = evidence.check(None).ok()?;
    Some(KeptFork { path, evidence, proved })
}

/// The name of a fork's file: its height, and what its two blocks give.
fn name(proved: &ProvedFork) -> String {
    let digest = keccak256(proved.blocks.map(BlockHash::to_bytes).as_flattened());
    format!("fork-{}-{}", proved.height, hex::encode(digest.get(..8).unwrap_or_default()))
}

/// The evidence that a block of this ledger is beside the own one of its height; nothing if it is no fork: it is the own one, of another ledger, above
/// the head, or not certified by the key that was in force there.
pub fn evidence_of(store: &Store, theirs: &BlockObject) -> Result<Option<(ForkEvidence, ProvedFork)>, HomeError> {
    let height = theirs.block.header.number;
    let is_here =
        height >= store.bottom() && store.hash_at(height)?.is_some_and(|own| own.0 != theirs.hash().to_bytes());
    if theirs.chain_id != store.genesis().chain_id || height == 0 || !is_here {
        return Ok(None);
    }
    let own = block_object(store, &LedgerKeys::of(store)?, height)?;
    evidence_between(store, [ForkSide::from(&own), ForkSide::from(theirs)])
}

/// Keeps the evidence that a block is beside the own one, if it is a fork, and gives its file. Where it cannot be kept it is not: that there is a
/// fork is the greater trouble, which the caller tells.
pub(crate) fn keep_evidence(store: &Store, theirs: &BlockObject) -> Option<PathBuf> {
    let (evidence, proved) = evidence_of(store, theirs).ok().flatten()?;
    let kept = ForkFolder::beside(store.path()).keep(&evidence, &proved).ok();
    kept.map(|(path, _)| path).filter(|path| path.exists())
}

/// The evidence that two blocks are, which are both said to be of this ledger; nothing if they are no fork of it.
pub fn evidence_between(store: &Store, sides: [ForkSide; 2]) -> Result<Option<(ForkEvidence, ProvedFork)>, HomeError> {
    let keys = LedgerKeys::of(store)?;
    let [ForkSide { header, .. }, _] = &sides;
    let height = header.number;
    // No header leads over a handover, and none does where closing blocks are not here. Behind the last handover validators follow each other again.
    let is_behind = keys.handovers().last().is_none_or(|last| height >= last.height);
    let lead = || if is_behind { links(store, &keys, height).ok() } else { None };
    Ok(evidence_by(TrustRoot::new(store.genesis(), keys.at(height)), sides, lead))
}

/// The same by the key of that root, which was in force there; `lead` gives an earlier key, and the links that lead from it to this one.
fn evidence_by(
    root: TrustRoot,
    sides: [ForkSide; 2],
    lead: impl FnOnce() -> Option<([u8; 32], Vec<Link>)>,
) -> Option<(ForkEvidence, ProvedFork)> {
    let alone = ForkEvidence::new(root, Vec::new(), sides);
    // K4: each link is one check more, and there are many of an old ledger.
    let proved = alone.check(None).ok()?;
    let linked = lead()
        .map(|(ledger_key, links)| ForkEvidence::new(TrustRoot { ledger_key, ..root }, links, alone.sides().clone()));
    let evidence = linked.unwrap_or(alone);
    // What nobody could read again is none: a header may be longer than those of a ledger.
    let is_read = ForkEvidence::decode(&evidence.encode()).is_ok();
    let is_proved = evidence.check(None).is_ok_and(|found| found == proved);
    (is_read && is_proved).then_some((evidence, proved))
}

#[cfg(test)]
mod tests;
