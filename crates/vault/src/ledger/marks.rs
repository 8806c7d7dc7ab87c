//! Markings and the sessions that a sweep waits for.

use alloy_primitives::B256;
use alloy_sol_types::SolEvent;
use blockhouse_ledger::Event;
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::contracts::Vault::VaultEvents;
use blockhouse_types::{Account, ListHash, SessionId};

use super::{Ledger, LedgerError, account};

/// A set of stripes that was marked for removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marking {
    /// Its number: sessions opened at this epoch or later know of it.
    pub epoch: u64,
    /// The root of the list of its stripes.
    pub root: ListHash,
    /// How many they are.
    pub count: u32,
    /// The height of the block of the mark.
    pub block: u64,
    /// The time of that block.
    pub time: u64,
    /// True once no session is left that does not know of it.
    pub is_swept: bool,
}

/// A session that may still commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub writer: Account,
    /// The epoch in which it was opened.
    pub epoch: u64,
    /// When its lease ends, if it is not renewed.
    pub expires: u64,
}

/// How a sweep went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swept {
    /// No session is left that does not know of the marking.
    Done,
    /// These are.
    Waiting(Vec<LiveSession>),
}

impl Ledger {
    /// Every marking, in order.
    pub async fn markings(&self) -> Result<Vec<Marking>, LedgerError> {
        let mut markings: Vec<Marking> = Vec::new();
        let kinds = [Vault::Marked::SIGNATURE_HASH, Vault::Swept::SIGNATURE_HASH];
        self.scan(&kinds, |page| {
            for entry in page.entries {
                match &entry.event {
                    Event::Vault(VaultEvents::Marked(marked)) => markings.push(Marking {
                        epoch: marked.epoch,
                        root: ListHash::new(marked.stripesRoot.0),
                        count: marked.count,
                        block: entry.block,
                        time: entry.time,
                        is_swept: false,
                    }),
                    Event::Vault(VaultEvents::Swept(swept)) => {
                        if let Some(found) = markings.iter_mut().find(|marking| marking.epoch == swept.epoch) {
                            found.is_swept = true;
                        }
                    }
                    _ => {}
                }
            }
        })
        .await?;
        Ok(markings)
    }

    /// The sessions that may still commit.
    pub async fn live_sessions(&self) -> Result<Vec<LiveSession>, LedgerError> {
        let mut live = Vec::new();
        for id in self.call(self.vault, &Vault::openSessionsCall {}).await? {
            let found = self.call(self.vault, &Vault::sessionCall { id }).await?;
            live.push(LiveSession {
                id: SessionId::new(id.0),
                writer: account(found.writer),
                epoch: found.openedEpoch,
                expires: found.expires,
            });
        }
        Ok(live)
    }

    /// Marks a set of stripes of the whole vault; gives its epoch. The default policy decides.
    pub async fn mark(&self, root: ListHash, count: u32) -> Result<u64, LedgerError> {
        let call = Vault::markCall { source: B256::ZERO, stripesRoot: B256::new(root.to_bytes()), count };
        let receipt = self.send(self.vault, &call).await?;
        let marked = receipt.decoded_log::<Vault::Marked>();
        Ok(marked.ok_or(LedgerError::MissingEvent { event: "Marked" })?.epoch)
    }

    /// Sweeps a marking, unless sessions are live that do not know of it.
    pub async fn sweep(&self, epoch: u64) -> Result<Swept, LedgerError> {
        let older = self.older_than(epoch).await?;
        if !older.is_empty() {
            return Ok(Swept::Waiting(older));
        }
        match self.send(self.vault, &Vault::sweepCall { of_: epoch }).await {
            Ok(_) => Ok(Swept::Done),
            // One was opened before the mark and seen by the contract alone: it says so again.
            Err(LedgerError::Refused { reason }) if reason.contains("SessionStillOpen") => {
                Ok(Swept::Waiting(self.older_than(epoch).await?))
            }
            Err(error) => Err(error),
        }
    }

    async fn older_than(&self, epoch: u64) -> Result<Vec<LiveSession>, LedgerError> {
        let mut older = self.live_sessions().await?;
        older.retain(|session| session.epoch < epoch);
        Ok(older)
    }
}
