//! Locks between the processes of one host: held by an open file, so that a process that dies lets go of them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("another process holds {}", path.display())]
    Busy { path: PathBuf },
    /// It could not be locked.
    #[error("could not lock {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Held {
    /// Takes the lock alone, or finds it busy.
    pub fn try_alone(path: &Path) -> Result<Self, LockError> {
        take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock alone, when nobody else holds it any more.
    pub async fn alone(path: PathBuf) -> Result<Self, LockError> {
        wait(path, FlockOperation::LockExclusive).await
    }

    /// Takes the lock beside others who take it so, when nobody holds it alone any more.
    pub async fn together(path: PathBuf) -> Result<Self, LockError> {
        wait(path, FlockOperation::LockShared).await
    }
}

async fn wait(path: PathBuf, how: FlockOperation) -> Result<Held, LockError> {
    let (own, waiting) = (path.clone(), tokio::task::spawn_blocking(move || take(&path, how)));
    waiting.await.unwrap_or_else(|ended| Err(LockError::Io { path: own, source: std::io::Error::other(ended) }))
}

fn take(path: &Path, how: FlockOperation) -> Result<Held, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(Held { _file: file }),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Busy { path: path.to_owned() }),
            Err(error) => return Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holds_it_alone_or_several_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let alone = Held::try_alone(&path).unwrap();
        assert!(matches!(Held::try_alone(&path), Err(LockError::Busy { .. })));
        drop(alone);
        let one = Held::together(path.clone()).await.unwrap();
        let other = Held::together(path.clone()).await.unwrap();
        assert!(matches!(Held::try_alone(&path), Err(LockError::Busy { .. })));
        drop((one, other));
        drop(Held::alone(path).await.unwrap());
    }
}
