//! Anchoring the vault's ledger: its last block is shown to a chain outside, and that is recorded here.
//!
//! - **Owns** the order of the steps, and what goes into an anchor file.
//! - **Does not** decide when: who runs it does, or a node by its configuration.
//!
//! # Invariants
//! - **H1** An anchor is recorded once its block outside is final, with its proof. A kill between leaves one that the next run finds on the
//!   chain outside and records before it makes another.
//! - **H2** Of what stands in `Anchors` only that goes into an anchor file which was checked as a stranger will check it.
//!
//! Format: `docs/design/anchors.md`.

mod file;
mod ots;

use alloy_primitives::{Address, B256};
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::attest::{has_news, place_at};
use blockhouse_homes::calendar::CalendarError;
use blockhouse_homes::external::{AnchorChain, Anchorer, Made};
use blockhouse_homes::{HomeError, StoreError};
use blockhouse_ledger::anchor::ledger_name;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;

use crate::folder::{Held, LockError};
use crate::ledger::{Ledger, LedgerError};
use crate::retention::{self, RetentionError};
use crate::unlock::Unlocked;
use crate::vault::Vault;

pub use file::{HEADERS_MAX, anchor_file};
pub use ots::{Promised, Upgraded, promise, upgrade};

/// What was done.
#[derive(Debug, Clone)]
pub struct EvmReport {
    /// The account that pays on the chain outside.
    pub sender: Address,
    /// Anchors that were made and recorded, in this order: one that an earlier run did not come to record, and the new one.
    pub recorded: Vec<Made>,
    /// The block that is anchored now; none if the ledger has block 0 only.
    pub anchored: Option<u64>,
}

/// Why nothing was anchored, or no proof was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// The chain outside, or the ledger's blocks here.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The blocks here.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error("the ledger could not be asked, or did not take the record")]
    Ledger(#[from] LedgerError),
    /// The owner's account, or the copies of what was recorded.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Another process anchors.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Nothing can be recorded from here.
    #[error("this folder has no writer's secrets: it can record nothing")]
    NoAccount,
    /// The history that was anchored is not the one that is here.
    #[error(
        "block {height} was anchored as {anchored} at {time} and is {here} here: this ledger is not the one that was anchored, it was rewritten"
    )]
    Rewritten {
        /// The block.
        height: u64,
        /// When it was anchored, in seconds.
        time: u64,
        /// The hash that was anchored.
        anchored: blockhouse_types::BlockHash,
        /// The hash here, or that there is none.
        here: String,
    },
    /// No calendar was named.
    #[error("no calendar was named")]
    NoCalendar,
    /// No calendar promised anything.
    #[error("no calendar took the digest")]
    Calendar(#[source] CalendarError),
    /// The ledger takes no proof of that length.
    #[error("the proof has {length} bytes, more than the ledger takes: name fewer calendars")]
    LongProof {
        /// Its length.
        length: usize,
    },
    /// No anchor covers the block.
    #[error("no anchor covers block {height} of the ledger yet")]
    NotAnchored {
        /// The block.
        height: u64,
    },
}

/// Anchors the last block of the vault's ledger on a chain outside. `payer` pays there; without one, the account of this host.
pub async fn evm(
    vault: &Vault,
    unlocked: Option<&Unlocked>,
    chain: &AnchorChain,
    payer: Option<AccountSecret>,
) -> Result<EvmReport, AnchorError> {
    let own = vault.home().own_copy()?;
    let writer = vault.secrets().ok_or(AnchorError::NoAccount)?.writer.clone();
    let contract = contract(vault, unlocked).await?;
    let _alone = Held::try_alone(&vault.folder().anchor_lock())?;
    let genesis = own.read(|store| (store.genesis().chain_id, store.genesis().hash())).await?;
    let payer = payer.unwrap_or_else(|| writer.clone());
    let anchorer =
        Anchorer::connect(chain, payer, ledger_name(genesis.0, genesis.1), &vault.folder().anchors()).await?;
    let ledger = vault.ledger_as(&writer);
    let mut report = EvmReport { sender: anchorer.sender(), recorded: Vec::new(), anchored: None };
    let last = anchorer.last().await?;
    report.anchored = last.map(|last| last.height);
    if let Some(last) = last
        && !is_recorded(&ledger, &anchorer, (crate::ledger::address(writer.account()), last.height)).await?
    {
        let made = anchorer.found(last, genesis.0).await?;
        record(vault, &ledger, made, &mut report).await?;
    }
    let above = last.map_or(0, |last| last.height);
    let head = own
        .read(move |store| {
            let is_due = store.height() > above && has_news(store, contract, above)?;
            if is_due { place_at(store, store.height()) } else { Ok(None) }
        })
        .await??;
    if let Some(head) = head {
        let made = anchorer.anchor(&head).await?;
        report.anchored = Some(head.height);
        record(vault, &ledger, made, &mut report).await?;
    }
    if !report.recorded.is_empty() {
        retention::conclude(vault).await?;
    }
    Ok(report)
}

/// The contract `Anchors`; the owner makes it if it is not there.
async fn contract(vault: &Vault, unlocked: Option<&Unlocked>) -> Result<Address, AnchorError> {
    match (vault.ledger().anchors_contract().await, unlocked) {
        (Err(LedgerError::NoModule { .. }), Some(unlocked)) => {
            let owner = retention::owner(vault, unlocked).await?;
            vault.ledger_as(&owner).establish_anchors(&owner).await?;
            Ok(vault.ledger().anchors_contract().await?)
        }
        (found, _) => Ok(found?),
    }
}

/// True if this host recorded the payer's anchor of that block, with its proof. What others recorded may be around a block outside that never
/// was.
async fn is_recorded(ledger: &Ledger, anchorer: &Anchorer, (own, height): (Address, u64)) -> Result<bool, AnchorError> {
    let records = ledger.anchor_records().await?;
    Ok(records.iter().rev().any(|record| match &record.event {
        AnchorsEvents::Anchored(event) => event.by == own && event.height == height && anchorer.is_own(event),
        AnchorsEvents::Cosigned(_) => false,
    }))
}

/// H1. What was anchored is compared with what is here first: it is the ledger's memory that its host cannot change.
async fn record(vault: &Vault, ledger: &Ledger, made: Made, report: &mut EvmReport) -> Result<(), AnchorError> {
    let BlockPlace { height, hash, .. } = made.place;
    let here = vault.home().own_copy()?.read(move |store| store.hash_at(height)).await??;
    if here != Some(B256::new(hash.to_bytes())) {
        let here = here.map_or_else(|| "not there".to_owned(), |here| here.to_string());
        return Err(AnchorError::Rewritten { height, time: made.time, anchored: hash, here });
    }
    ledger.record_anchor(&made.record()).await?;
    report.recorded.push(made);
    Ok(())
}
