//! Which sessions of this host still have a process: a killed backup leaves a session on the ledger that would hold up a removal for as
//! long as its lease.
//!
//! - **Owns** one file for each backup that runs, in `sessions/`, locked by it from before its session is opened, with the session's id
//!   once there is one.
//! - **Does not** judge: ending a session wrongly costs a backup its commit, never a byte, for the ledger takes no commit of it then.
//!
//! # Invariants
//! - **S1** A session is ended only if it is of this host's writer, no locked file has its id, and no locked file is without one.
//!
//! Page: `docs/design/host-files.md`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blockhouse_crypto::AccountSecret;
use blockhouse_types::SessionId;

use crate::folder::VaultFolder;
use crate::ledger::{Ledger, LedgerError, LiveSession};

/// The mark of a running backup. Its file goes when this is dropped; of a killed process it stays, unlocked.
#[derive(Debug)]
pub(crate) struct Running {
    file: fs::File,
    path: PathBuf,
}

impl Running {
    /// Makes the file, locked, before the session is opened.
    pub(crate) fn begin(folder: &VaultFolder) -> io::Result<Self> {
        let folder = folder.sessions();
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{:032x}", rand::random::<u128>()));
        let unnamed = path.with_extension("new");
        let file = fs::OpenOptions::new().append(true).create_new(true).open(&unnamed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        // Under its name it is never seen unlocked while its process lives.
        fs::rename(&unnamed, &path)?;
        Ok(Self { file, path })
    }

    /// Says which session it is.
    pub(crate) fn is_of(&mut self, session: SessionId) -> io::Result<()> {
        writeln!(self.file, "{session}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What stays is unlocked, and removed by the next prune.
        let _ = fs::remove_file(&self.path);
    }
}

/// What the files say.
#[derive(Debug, Default)]
struct Alive {
    sessions: BTreeSet<SessionId>,
    /// A process is between its file and its session: nothing can be said of sessions that nobody claims.
    is_opening: bool,
}

/// Reads the files; those that nobody locks are removed.
fn alive(folder: &Path) -> io::Result<Alive> {
    let mut alive = Alive::default();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(alive),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        // One that has no name yet is left to its process, which is about to lock it, and would find it busy: it opens its session only
        // under the name, later than the sessions were read that this is asked for.
        if path.extension().is_some() {
            continue;
        }
        let Ok(file) = fs::File::open(&path) else { continue };
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(&path);
            continue;
        }
        match io::read_to_string(&file)?.trim().parse() {
            Ok(session) => drop(alive.sessions.insert(session)),
            Err(_) => alive.is_opening = true,
        }
    }
    Ok(alive)
}

/// Ends the sessions of this host's writer whose processes are gone; gives them.
pub(crate) async fn end_dead(
    folder: &VaultFolder,
    ledger: &Ledger,
    writer: &AccountSecret,
) -> Result<Vec<LiveSession>, LedgerError> {
    // The ledger first: a session that is opened after it is not looked at.
    let mut dead = ledger.live_sessions().await?;
    let Ok(alive) = alive(&folder.sessions()) else { return Ok(Vec::new()) };
    dead.retain(|session| session.writer == writer.account() && !alive.sessions.contains(&session.id));
    if alive.is_opening {
        dead.clear();
    }
    for session in &dead {
        match ledger.end_session(session.id).await {
            // It ended by itself meanwhile.
            Ok(()) | Err(LedgerError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_claims_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = VaultFolder::new(root.path());
        let [one, other] = [1, 2].map(|byte| SessionId::new([byte; 32]));
        let mut running = Running::begin(&folder).unwrap();
        assert!(alive(&folder.sessions()).unwrap().is_opening);
        running.is_of(one).unwrap();
        let mut killed = Running::begin(&folder).unwrap();
        killed.is_of(other).unwrap();
        // A kill closes the file and leaves it.
        let left = killed.path.clone();
        fs::copy(&left, left.with_file_name("left")).unwrap();
        drop(killed);
        let found = alive(&folder.sessions()).unwrap();
        assert_eq!((found.sessions, found.is_opening), (BTreeSet::from([one]), false));
        assert!(!left.with_file_name("left").exists());
    }

    /// A prune that looked at such a file held its lock for a moment, and the backup that had just made it failed to take it.
    #[test]
    fn a_file_without_its_name_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let folder = VaultFolder::new(root.path());
        fs::create_dir_all(folder.sessions()).unwrap();
        let unnamed = folder.sessions().join("session.new");
        let file = fs::File::create(&unnamed).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let found = alive(&folder.sessions()).unwrap();
        assert_eq!((found.sessions.len(), found.is_opening), (0, false), "it was asked whether it is locked");
        assert!(unnamed.exists());
    }
}
