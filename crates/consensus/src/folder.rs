//! The engine's folder: one process, one identity, one journal of votes.
//!
//! ```text
//! lock               held while a process uses the folder
//! unvoted            the word that the identity whose hash it holds never voted in an epoch that has no folder here: until one begins
//! epoch-<n>/node     whose folder it is, whether it votes, what it began with
//! epoch-<n>/over     the word that a later epoch began
//! epoch-<n>/journal/ the engine's files: votes, blocks, certificates, how far the application was given them; until a later epoch begins
//! ```
//!
//! # Invariants
//! - **F1** A folder is used by one process at a time.
//! - **F2** The file `node` is there before the first vote, and says no to voting for good once a journal was lost.
//! - **F3** A folder without `node` lets nobody vote but by `unvoted`, which is written before the key that it is of and gone before the
//!   first vote: a folder that was lost, with whatever ledger beside it, is no new one.
//! - **F4** `unvoted` is written again once for each epoch that had `node`, when the next one begins, and only if the votes of no epoch before were
//!   lost: so a key that was in the folder without a gap since it was drawn votes in each new epoch, and no other does.
//! - **F5** A journal is removed once a later epoch has its own: its name goes first, durably, so what a kill leaves of it is no journal.
//!
//! Format: `docs/design/consensus.md`, section *Folder*.

mod over;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use blockhouse_crypto::hash::hash;
use blockhouse_ledger::Certificate;
use blockhouse_types::limits::CERTIFICATE_MAX;
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder, Magic};
use rustix::fs::{FlockOperation, flock};

use crate::application::Erased;
use crate::engine::{Config, StartError};
use crate::network::Network;

const MAGIC: Magic = *b"BHNJ";
const WHAT: &str = "the file `node` of an engine's folder";
/// The greatest length of the file: a certificate and some numbers.
const NODE_MAX: u64 = CERTIFICATE_MAX as u64 + 256;
const UNVOTED_MAGIC: Magic = *b"BHNU";

/// A block that counts as final without what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Its hash.
    pub hash: BlockHash,
    /// Its certificate, without descendants.
    pub certificate: Certificate,
}

/// What a node has in place of its journal while it is to give no vote.
const SILENT: &str = "silent";

/// An engine's folder, held by this process.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Where the engine keeps its files.
    pub(crate) journal: PathBuf,
    /// False if votes may have been lost.
    pub(crate) may_vote: bool,
    /// What the engine begins with, if not with the base.
    pub(crate) floor: Option<Floor>,
    /// Held open: the lock goes with it.
    _lock: File,
}

/// What the file `node` says.
struct Node {
    network: [u8; 32],
    identity: [u8; 32],
    right: Right,
    floor: Option<Floor>,
}

/// Whether an identity votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Votes of any epoch may have been lost: it never votes again in this folder.
    Lost,
    /// It votes.
    Votes,
    /// Those of this epoch were lost, and it never began another: it votes from the next epoch on.
    Paused,
}

impl Right {
    const fn tag(self) -> u8 {
        match self {
            Self::Lost => 0,
            Self::Votes => 1,
            Self::Paused => 2,
        }
    }
}

impl Folder {
    /// Takes the folder, or makes it.
    pub(crate) fn open(
        path: &Path,
        config: &Config,
        identity: [u8; 32],
        application: &dyn Erased,
    ) -> Result<Self, StartError> {
        let folder = Self::enter(path, config, identity, application)?;
        // F5. What cannot be removed takes room, and is tried again by the next start.
        let _ = over::remove_journals(path, config.network.epoch());
        let _ = fs::remove_dir_all(folder.journal.with_file_name(SILENT));
        Ok(folder)
    }

    /// The same for a node that is to give no vote though it may. Its journal waits as it is, for it holds votes of its own, which no node that only
    /// follows may have; what it follows with begins anew with each start, at what is final here.
    pub(crate) fn silenced(self, network: &Network, application: &dyn Erased) -> Result<Self, StartError> {
        if !self.may_vote {
            return Ok(self);
        }
        let journal = self.journal.with_file_name(SILENT);
        let begin = || {
            match fs::remove_dir_all(&journal) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&journal)
        };
        begin().map_err(|source| StartError::Folder { path: journal.clone(), source })?;
        Ok(Self { journal, may_vote: false, floor: floor(application, network), ..self })
    }

    /// Enters the epoch of the network, or goes on in it.
    fn enter(path: &Path, config: &Config, identity: [u8; 32], application: &dyn Erased) -> Result<Self, StartError> {
        let Config { network, never_voted, jumped, .. } = config;
        let epoch = path.join(format!("epoch-{}", network.epoch()));
        let (journal, file, unvoted) = (epoch.join("journal"), epoch.join("node"), path.join("unvoted"));
        let failed = |source| StartError::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path)?;
        let id = hash("blockhouse v1 network", &network.encode());
        let known = read(&file)?;
        if let Some(node) = &known {
            if node.network != id || node.identity != identity {
                return Err(StartError::OtherNode { path: epoch });
            }
            if journal.is_dir() {
                // A kill may have left it.
                remove(&unvoted).map_err(failed)?;
                let raised = if *jumped { floor(application, network) } else { None };
                let node = Node { right: node.right, floor: raised.clone().or(node.floor.clone()), ..*node };
                if raised.is_some() {
                    // Votes below it count no more, and those above it stay in the journal.
                    write(&file, &node.encode()).map_err(failed)?;
                }
                return Ok(Self { journal, may_vote: node.right == Right::Votes, floor: node.floor, _lock: lock });
            }
        }
        let right = match &known {
            Some(node) if node.right == Right::Lost => Right::Lost,
            Some(_) => Right::Paused,
            None => {
                carry_on(path, network.epoch(), &identity)?;
                let may_vote = *never_voted || is_unvoted(&unvoted, &identity).map_err(failed)?;
                if may_vote { Right::Votes } else { Right::Lost }
            }
        };
        let may_vote = right == Right::Votes;
        let ahead = application.standing().height > network.base().height;
        let floor = if ahead { floor(application, network) } else { None };
        let node = Node { network: id, identity, right, floor };
        let begin = || {
            if known.is_some() {
                // First: under its old word an empty journal would vote again.
                write(&file, &node.encode())?;
            }
            fs::create_dir_all(&journal)?;
            write(&file, &node.encode())?;
            remove(&unvoted)
        };
        begin().map_err(failed)?;
        Ok(Self { journal, may_vote, floor: node.floor, _lock: lock })
    }
}

/// Takes the folder for this process, and makes it if it is not there (F1).
pub(crate) fn hold(path: &Path) -> Result<File, StartError> {
    fs::create_dir_all(path).map_err(|source| StartError::Folder { path: path.to_owned(), source })?;
    lock(path)
}

/// Makes the folder of an identity that was drawn just now (F3).
pub(crate) fn prepare(path: &Path, identity: &[u8; 32]) -> io::Result<()> {
    fs::create_dir_all(path)?;
    write(&path.join("unvoted"), &unvoted(identity))?;
    sync(folder_of(path))
}

/// Whether the folder says of an identity whether it voted.
pub(crate) fn remembers(path: &Path, identity: &[u8; 32]) -> io::Result<bool> {
    if is_unvoted(&path.join("unvoted"), identity)? {
        return Ok(true);
    }
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        if entry?.path().join("node").try_exists().unwrap_or(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Before an epoch begins: if the identity was here through the one before, it never voted in this one, and the word of that is written. F4.
fn carry_on(path: &Path, epoch: u64, identity: &[u8; 32]) -> Result<(), StartError> {
    let failed = |source| StartError::Folder { path: path.to_owned(), source };
    let Some(before) = latest_before(path, epoch).map_err(failed)? else { return Ok(()) };
    let over = before.join("over");
    let node = read(&before.join("node"))?.filter(|node| node.identity == *identity && node.right != Right::Lost);
    if node.is_none() || over.try_exists().map_err(failed)? {
        return Ok(());
    }
    // A kill between the two writes the same word again: the epoch that it is for did not begin.
    write(&path.join("unvoted"), &unvoted(identity)).and_then(|()| write(&over, &[])).map_err(failed)
}

/// The folder of the last epoch before this one that began.
fn latest_before(path: &Path, epoch: u64) -> io::Result<Option<PathBuf>> {
    let mut before = over::epochs_before(path, epoch)?;
    before.sort_unstable();
    for (_, folder) in before.into_iter().rev() {
        if folder.join("node").try_exists()? {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// The word that this identity never voted in an epoch that has no folder.
fn unvoted(identity: &[u8; 32]) -> Vec<u8> {
    let mut encoder = Encoder::with_header(UNVOTED_MAGIC);
    encoder.raw(&hash("blockhouse v1 unvoted", identity));
    encoder.finish()
}

/// What is of another identity, or damaged, says nothing.
fn is_unvoted(file: &Path, identity: &[u8; 32]) -> io::Result<bool> {
    let word = unvoted(identity);
    let mut found = Vec::new();
    match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?.take(word.len() as u64 + 1).read_to_end(&mut found)?,
    };
    Ok(found == word)
}

/// Gone for good when this returns, and all that was made in its folder before is durable.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync(folder_of(file)),
    }
}

/// The highest durable block that was itself signed as final. Blocks above it are fetched again and skipped.
fn floor(application: &dyn Erased, network: &Network) -> Option<Floor> {
    let standing = application.standing().height;
    let heights = (network.base().height + 1..=standing).rev();
    heights.take(blockhouse_ledger::certificate::DESCENDANTS_MAX + 1).find_map(|height| {
        let certificate = application.certificate(height)?;
        let own = certificate.finality()?;
        if !own.descendants.is_empty() || own.epoch != network.epoch() {
            return None;
        }
        let hash = blockhouse_ledger::block_hash(&application.block(height)?.header);
        Some(Floor { hash, certificate })
    })
}

fn lock(path: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::Folder { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn read(file: &Path) -> Result<Option<Node>, StartError> {
    let failed = |source| StartError::Folder { path: file.to_owned(), source };
    let bytes = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > NODE_MAX => Vec::new(),
        _ => fs::read(file).map_err(failed)?,
    };
    Node::decode(&bytes).map(Some).map_err(|source| StartError::NodeFile { path: file.to_owned(), source })
}

/// Writes the file whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut out = File::create(&fresh)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    sync(folder_of(file))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl Node {
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&self.network).raw(&self.identity).u8(self.right.tag());
        encoder.option(self.floor.as_ref(), |encoder, floor| {
            encoder.raw(floor.hash.as_bytes()).bytes(&floor.certificate.encode());
        });
        encoder.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let (network, identity) = (decoder.array()?, decoder.array()?);
        let right = match decoder.u8()? {
            0 => Right::Lost,
            1 => Right::Votes,
            2 => Right::Paused,
            other => return Err(decoder.unknown("right to vote", other.into())),
        };
        let floor = decoder.option(|decoder| {
            let hash = BlockHash::new(decoder.array()?);
            let certificate = Certificate::decode(decoder.bytes("certificate", CERTIFICATE_MAX)?)?;
            Ok(Floor { hash, certificate })
        })?;
        decoder.finish()?;
        Ok(Self { network, identity, right, floor })
    }
}

#[cfg(test)]
mod tests;
