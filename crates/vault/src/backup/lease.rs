//! The session of a running backup: opened, kept alive, ended.
//!
//! - **Owns** the lease on the ledger and the mark on this host that says that a process stands behind it.
//! - **Does not** commit: a commit ends the session by itself.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::BackupError;
use crate::ledger::{Ledger, Session};
use crate::sessions::Running;
use crate::vault::Vault;

/// How long a session's lease is, and how often it is renewed.
const LEASE_SECONDS: u64 = 24 * 60 * 60;
const RENEWAL: Duration = Duration::from_hours(6);

/// A session that is renewed until it is ended.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) session: Session,
    keeper: JoinHandle<()>,
    _running: Running,
}

impl Lease {
    /// Marks this process before the session is opened, so that no prune takes the session for a killed run's.
    pub(super) async fn open(vault: &Vault, ledger: &Ledger) -> Result<Self, BackupError> {
        let no_mark = |source| BackupError::Mark { folder: vault.folder().sessions(), source };
        let mut running = Running::begin(vault.folder()).map_err(no_mark)?;
        let session = ledger.open_session(LEASE_SECONDS).await?;
        running.is_of(session.id).map_err(no_mark)?;
        Ok(Self { session, keeper: keep(ledger.clone(), session), _running: running })
    }

    /// Ends the session, unless a commit did.
    pub(super) async fn end(self, ledger: &Ledger, is_committed: bool) {
        self.keeper.abort();
        if !is_committed {
            // The lease would end by itself; ending it now spares the ledger a live session. The first error is the one to tell.
            let _ = ledger.end_session(self.session.id).await;
        }
    }
}

/// Renews the lease of a long backup.
fn keep(ledger: Ledger, session: Session) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RENEWAL).await;
            // A lease that cannot be renewed makes the commit fail, which tells the reason.
            let _ = ledger.renew_session(session.id, LEASE_SECONDS).await;
        }
    })
}
