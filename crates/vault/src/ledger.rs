//! What `vault` asks of the ledger and writes to it, over Ethereum's interface.
//!
//! - **Owns** the calls of `Vault` and `Access`, and the reading of their events into records.
//! - **Does not** know which home the ledger is in: any `alloy` provider will do.
//!
//! Contracts: `docs/design/contracts.md`.

mod anchors;
mod batch;
mod error;
mod marks;
mod modules;
mod policy;
mod records;
mod scan;
mod watches;

use std::collections::BTreeSet;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::SolCall;
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_types::{Account, BagHash, RecipientSetHash, SessionId, SnapshotId, SourceId};

pub use anchors::AnchorRecord;
pub use batch::Forgetting;
pub use error::LedgerError;
pub use marks::{LiveSession, Marking, Swept};
pub(crate) use modules::Contracts;
pub use modules::Modules;
pub use policy::{Force, Frozen, Policy};
pub(crate) use records::{EarlyTags, Snapshots};
pub use records::{History, HistoryEntry, SnapshotRecord, VerifyRecord, snapshots_of};
pub(crate) use scan::OF_SNAPSHOTS;
pub use watches::Watch;

use crate::folder::{HomeKind, LedgerEntry};
use crate::summary::Keeper;

/// What a commit says.
pub use blockhouse_ledger::contracts::Vault::Commit;

/// How often a transaction is sent anew because another process of this host took its nonce.
const NONCE_TRIES: u32 = 8;

/// A writer's open backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The removal epoch in which it was opened.
    pub epoch: u64,
    /// When its lease ends, in the ledger's seconds.
    pub expires: u64,
}

/// Where a transaction stands on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The height of its block.
    pub block: u64,
    /// Its hash.
    pub transaction: B256,
}

/// A writer account, as `Access` knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterRecord {
    /// The account.
    pub account: Account,
    /// False once it is revoked.
    pub active: bool,
    /// True if what its predecessor wrote must be verified before reuse.
    pub host_stolen: bool,
    /// The writer whose work it continues, if any.
    pub predecessor: Option<Account>,
    /// Up to which block the predecessor's commits count as its own.
    pub predecessor_last_block: u64,
}

impl WriterRecord {
    /// A writer that continues nobody's work.
    pub const fn first(account: Account) -> Self {
        Self { account, active: true, host_stolen: false, predecessor: None, predecessor_last_block: 0 }
    }
}

/// A change of who may hand the ledger over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryChange {
    /// The height of the block that says so.
    pub block: u64,
    /// What it is.
    pub step: RecoveryStep,
}

/// What changed of who may hand the ledger over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryStep {
    /// This account may.
    Added(Account),
    /// It may not any more.
    Removed(Account),
    /// So many of them must agree.
    Threshold(u64),
}

/// Who may hand the ledger over, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The accounts.
    pub accounts: BTreeSet<Account>,
    /// How many must agree.
    pub threshold: u64,
}

impl Recovery {
    /// As these changes, in their order, leave it.
    pub fn after<'a>(changes: impl IntoIterator<Item = &'a RecoveryChange>) -> Self {
        let mut found = Self { accounts: BTreeSet::new(), threshold: 1 };
        for change in changes {
            match change.step {
                RecoveryStep::Added(who) => {
                    found.accounts.insert(who);
                }
                RecoveryStep::Removed(who) => {
                    found.accounts.remove(&who);
                }
                RecoveryStep::Threshold(threshold) => found.threshold = threshold,
            }
        }
        found
    }
}

/// The ledger of one vault.
#[derive(Debug, Clone)]
pub struct Ledger {
    provider: DynProvider,
    vault: Address,
    access: Address,
    /// What was read before, where the host keeps it.
    kept: Option<Keeper>,
    /// The home signs what it sends: it alone knows what the chain's fees are.
    home_signs: bool,
}

impl Ledger {
    /// The vault's ledger behind `provider`.
    pub fn new(provider: DynProvider, entry: &LedgerEntry) -> Self {
        Self {
            provider,
            vault: address(entry.vault),
            access: address(entry.access),
            kept: None,
            home_signs: entry.home == HomeKind::External,
        }
    }

    /// The same, which reads nothing again that the host has kept of this very head.
    #[must_use]
    pub(crate) fn with_kept(self, kept: Keeper) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// Opens a session of this writer.
    pub async fn open_session(&self, lease_seconds: u64) -> Result<Session, LedgerError> {
        let receipt = self.send(self.vault, &Vault::openSessionCall { leaseSeconds: lease_seconds }).await?;
        let opened = receipt.decoded_log::<Vault::SessionOpened>();
        let opened = opened.ok_or(LedgerError::MissingEvent { event: "SessionOpened" })?;
        Ok(Session { id: SessionId::new(opened.session.0), epoch: opened.epoch, expires: opened.expires })
    }

    /// Renews the lease of a session of this writer.
    pub async fn renew_session(&self, session: SessionId, lease_seconds: u64) -> Result<(), LedgerError> {
        let call = Vault::renewSessionCall { id: B256::new(session.to_bytes()), leaseSeconds: lease_seconds };
        self.send(self.vault, &call).await.map(drop)
    }

    /// Ends a session of this writer without a commit.
    pub async fn end_session(&self, session: SessionId) -> Result<(), LedgerError> {
        self.send(self.vault, &Vault::endSessionCall { id: B256::new(session.to_bytes()) }).await.map(drop)
    }

    /// Commits a snapshot and ends its session.
    pub async fn commit(&self, commit: Commit) -> Result<Recorded, LedgerError> {
        self.send(self.vault, &Vault::commitCall { c: commit }).await.map(|receipt| recorded(&receipt))
    }

    /// Records the outcome of a verification.
    pub async fn record_verify(&self, snapshot: SnapshotId, verify: VerifyRecord) -> Result<(), LedgerError> {
        let call = Vault::recordVerifyCall {
            id: B256::new(snapshot.to_bytes()),
            dataBasisPoints: verify.data_basis_points,
            missing: verify.missing,
            damaged: verify.damaged,
            ok: verify.ok,
        };
        self.send(self.vault, &call).await.map(drop)
    }

    /// Records a new version of the key bag. Owner.
    pub async fn record_bag(&self, version: u32, hash: BagHash) -> Result<(), LedgerError> {
        self.send(self.vault, &Vault::recordBagCall { version, hash: B256::new(hash.to_bytes()) }).await.map(drop)
    }

    /// Approves a recipient set for every source that has none of its own. Owner.
    pub async fn set_default_recipients(&self, set: RecipientSetHash) -> Result<(), LedgerError> {
        self.send(self.vault, &Vault::setDefaultRecipientsCall { set: B256::new(set.to_bytes()) }).await.map(drop)
    }

    /// Enrols a writer. Owner.
    pub async fn enrol_writer(&self, writer: WriterRecord) -> Result<(), LedgerError> {
        let call = Access::enrolWriterCall {
            who: address(writer.account),
            predecessor: writer.predecessor.map(address).unwrap_or_default(),
            predecessorLastBlock: writer.predecessor_last_block,
            hostStolen: writer.host_stolen,
        };
        self.send(self.access, &call).await.map(drop)
    }

    /// Revokes a writer, for ever. Owner.
    pub async fn revoke_writer(&self, writer: Account) -> Result<(), LedgerError> {
        self.send(self.access, &Access::revokeWriterCall { who: address(writer) }).await.map(drop)
    }

    /// Offers the vault to another owner, who has to accept it. Owner.
    pub async fn transfer_ownership(&self, next: Account) -> Result<(), LedgerError> {
        self.send(self.access, &Access::transferOwnershipCall { newOwner: address(next) }).await.map(drop)
    }

    /// Accepts the vault that was offered to this account.
    pub(crate) async fn accept_ownership(&self) -> Result<(), LedgerError> {
        self.send(self.access, &Access::acceptOwnershipCall {}).await.map(drop)
    }

    /// The account that the vault is offered to, if it is to one.
    pub(crate) async fn pending_owner(&self) -> Result<Option<Account>, LedgerError> {
        let offered = self.call(self.access, &Access::pendingOwnerCall {}).await?;
        Ok((!offered.is_zero()).then(|| account(offered)))
    }

    /// Who may hand the ledger over now.
    pub async fn recovery(&self) -> Result<Recovery, LedgerError> {
        Ok(Recovery::after(&self.recovery_changes().await?))
    }

    /// The accounts that may hand the ledger over now, alone or with others.
    pub(crate) async fn recovery_accounts(&self) -> Result<BTreeSet<Account>, LedgerError> {
        Ok(self.recovery().await?.accounts)
    }

    /// How many changes of these accounts were made with the word of several.
    pub async fn count_recovery_changes(&self) -> Result<u64, LedgerError> {
        self.call(self.access, &Access::recoveryChangesCall {}).await
    }

    /// Changes who may hand the ledger over, and how many it takes. Owner.
    pub async fn change_recovery(&self, call: &Access::changeRecoveryCall) -> Result<(), LedgerError> {
        self.send(self.access, call).await.map(drop)
    }

    /// How many snapshots were ever committed.
    pub(crate) async fn snapshot_count(&self) -> Result<u64, LedgerError> {
        Ok(self.call(self.vault, &Vault::snapshotCountCall {}).await?.saturating_to())
    }

    /// The owner's account.
    pub async fn owner(&self) -> Result<Account, LedgerError> {
        Ok(account(self.call(self.access, &Access::ownerCall {}).await?))
    }

    /// The contract `Access`.
    pub(crate) const fn access_account(&self) -> Account {
        account(self.access)
    }

    /// The contract `Vault`.
    pub(crate) const fn vault_account(&self) -> Account {
        account(self.vault)
    }

    /// Hands the ledger over to another ledger key. A recovery account.
    pub async fn hand_over(&self, next_key: [u8; 32], parent: B256) -> Result<(), LedgerError> {
        let call = Access::handoverCall { nextKey: B256::new(next_key), parentHash: parent };
        self.send(self.access, &call).await.map(drop)
    }

    /// Removes a recovery account. Owner.
    pub async fn remove_recovery(&self, account: Account) -> Result<(), LedgerError> {
        self.send(self.access, &Access::removeRecoveryCall { who: address(account) }).await.map(drop)
    }

    /// Enrols a recovery account. Owner.
    pub async fn add_recovery(&self, account: Account) -> Result<(), LedgerError> {
        self.send(self.access, &Access::addRecoveryCall { who: address(account) }).await.map(drop)
    }

    /// The version and hash of the key bag; version 0 before the first.
    pub async fn bag(&self) -> Result<(u32, BagHash), LedgerError> {
        match self.kept().await {
            Some(summary) => Ok(summary.bag),
            None => self.read_bag().await,
        }
    }

    pub(crate) async fn read_bag(&self) -> Result<(u32, BagHash), LedgerError> {
        let version = self.call(self.vault, &Vault::bagVersionCall {}).await?;
        let hash = self.call(self.vault, &Vault::bagHashCall {}).await?;
        Ok((version, BagHash::new(hash.0)))
    }

    /// The recipient set of sources that have none of their own.
    pub async fn default_recipients(&self) -> Result<RecipientSetHash, LedgerError> {
        let set = self.call(self.vault, &Vault::defaultRecipientsCall {}).await?;
        Ok(RecipientSetHash::new(set.0))
    }

    /// True if the owner approved that set for that source.
    pub async fn is_approved(&self, source: SourceId, set: RecipientSetHash) -> Result<bool, LedgerError> {
        let call = Vault::isApprovedCall { source: B256::new(source.to_bytes()), set: B256::new(set.to_bytes()) };
        self.call(self.vault, &call).await
    }

    /// The removal epoch.
    pub async fn epoch(&self) -> Result<u64, LedgerError> {
        self.call(self.vault, &Vault::epochCall {}).await
    }

    /// How many backups are open: those of runs that were killed too, until their leases end.
    pub async fn open_sessions(&self) -> Result<u64, LedgerError> {
        Ok(self.call(self.vault, &Vault::openSessionCountCall {}).await?.saturating_to())
    }

    /// Every writer that was ever enrolled, in order.
    pub async fn writers(&self) -> Result<Vec<WriterRecord>, LedgerError> {
        match self.kept().await {
            Some(summary) => Ok(summary.writers.clone()),
            None => self.read_writers().await,
        }
    }

    /// What the host has kept, if it is of the head as it is now.
    async fn kept(&self) -> Option<std::sync::Arc<crate::summary::Summary>> {
        self.kept.as_ref()?.current().await
    }

    pub(crate) async fn read_writers(&self) -> Result<Vec<WriterRecord>, LedgerError> {
        let count: u64 = self.call(self.access, &Access::writerCountCall {}).await?.saturating_to();
        let mut writers = Vec::new();
        for index in 0..count {
            let at = Access::writerAtCall { index: alloy_primitives::U256::from(index) };
            let who = self.call(self.access, &at).await?;
            let record = self.call(self.access, &Access::writerCall { who }).await?;
            writers.push(WriterRecord {
                account: account(who),
                active: record.active,
                host_stolen: record.hostStolen,
                predecessor: (!record.predecessor.is_zero()).then(|| account(record.predecessor)),
                predecessor_last_block: record.predecessorLastBlock,
            });
        }
        Ok(writers)
    }

    /// The height of the head.
    pub async fn height(&self) -> Result<u64, LedgerError> {
        self.provider.get_block_number().await.map_err(LedgerError::from)
    }

    async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, LedgerError> {
        let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
        let output = self.provider.call(request).await.map_err(LedgerError::from)?;
        C::abi_decode_returns(&output)
            .map_err(|source| LedgerError::Answer { call: C::SIGNATURE, source: Box::new(source) })
    }

    /// Sends a transaction. Another process may use the same account at the same time: a nonce that it took is asked for anew.
    async fn send<C: SolCall>(&self, to: Address, call: &C) -> Result<TransactionReceipt, LedgerError> {
        for _ in 0..NONCE_TRIES {
            match self.send_once(to, call).await {
                Err(error) if error.is_nonce_taken() => {}
                done => return done,
            }
        }
        self.send_once(to, call).await
    }

    async fn send_once<C: SolCall>(&self, to: Address, call: &C) -> Result<TransactionReceipt, LedgerError> {
        let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
        let pending = self.provider.send_transaction(request).await.map_err(LedgerError::from)?;
        let transaction = *pending.tx_hash();
        let receipt = pending.get_receipt().await.map_err(LedgerError::pending)?;
        if !receipt.status() {
            return Err(LedgerError::Failed { call: C::SIGNATURE, transaction });
        }
        Ok(receipt)
    }
}

fn recorded(receipt: &TransactionReceipt) -> Recorded {
    Recorded { block: receipt.block_number.unwrap_or_default(), transaction: receipt.transaction_hash }
}

/// An account as the EVM writes it.
pub const fn address(account: Account) -> Address {
    Address::new(account.to_bytes())
}

/// An EVM address as ours.
pub const fn account(address: Address) -> Account {
    Account::new(address.into_array())
}
