//! A node's own calls to the ledger, by the account that the owner enrolled for it.
//!
//! - **Owns** the way of one call from its making until it is final: nonce, signature, pool, outcome.
//! - **Does not** say anything by itself, and keeps nothing over a restart: who calls finds on the ledger what was said.

use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::Transaction as _;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::transaction::Request;
use tokio::sync::watch;

use super::chain::Chain;
use super::pool::Examined;
use super::waiting::{SubmitError, Waiting};
use crate::store::{Store, StoreError};

/// The longest pause between two looks at what became of a call.
const LOOK: Duration = Duration::from_secs(15);

/// Why something was not said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeakError {
    #[error("the ledger of the node could not be read")]
    Store(#[from] StoreError),
    #[error(
        "the ledger takes nothing from this node's account {account}: the vault's owner lets it speak with `blockhouse node enrol`"
    )]
    Refused {
        account: Address,
        #[source]
        source: SubmitError,
    },
    #[error("the contract refused what this node's account {account} sent in transaction {transaction}")]
    Failed { account: Address, transaction: B256 },
    #[error("the vault has no module `{name}`: its owner makes it with `blockhouse node enrol`")]
    NoModule { name: &'static str },
}

/// Who speaks.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    chain: Arc<Chain>,
    waiting: Arc<Waiting>,
    account: AccountSecret,
    heights: watch::Receiver<u64>,
}

impl Speaker {
    pub(super) const fn new(
        chain: Arc<Chain>,
        waiting: Arc<Waiting>,
        account: AccountSecret,
        heights: watch::Receiver<u64>,
    ) -> Self {
        Self { chain, waiting, account, heights }
    }

    /// Its address.
    pub(super) fn account(&self) -> Address {
        address(&self.account)
    }

    /// Its secret, which can pay on a chain outside too.
    pub(super) const fn secret(&self) -> &AccountSecret {
        &self.account
    }

    /// The store at the last final block.
    pub(super) fn head(&self) -> Store {
        self.chain.head()
    }

    /// Waits for another final block, but no longer than that.
    pub(super) async fn next_block(&mut self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.heights.changed()).await;
    }

    /// Makes a call, and waits until a final block holds it. Cancelled, it may still be made.
    pub(super) async fn say<C: SolCall>(&mut self, to: Address, what: &C, gas: u64) -> Result<(), SpeakError> {
        let account = self.account();
        loop {
            let transaction = self.submit(to, what.abi_encode(), gas).await?;
            while self.waiting.pool().get(&transaction).is_some() {
                self.next_block(LOOK).await;
            }
            match outcome(&self.head(), &transaction)? {
                Some(true) => return Ok(()),
                Some(false) => return Err(SpeakError::Failed { account, transaction }),
                // Another transaction had its nonce, or a full pool dropped it.
                None => self.next_block(LOOK).await,
            }
        }
    }

    /// Whether such a call of this account waits for a block already: one that was made before a restart.
    pub(super) fn waits<C: SolCall>(&self, to: Address, what: &C) -> bool {
        let content = self.waiting.pool().content(&self.account());
        let input = what.abi_encode();
        let is_it = |waiting: &Arc<Examined>| waiting.tx().to() == Some(to) && waiting.tx().input()[..] == input[..];
        content.pending.iter().chain(&content.queued).any(is_it)
    }

    async fn submit(&self, to: Address, input: Vec<u8>, gas: u64) -> Result<B256, SpeakError> {
        let (store, account) = (self.head(), self.account());
        let record = store.state().account(&account).map_err(|error| store.of_state(error))?;
        let pending = self.waiting.pool().pending_nonce(&account);
        let nonce = pending.or(record.map(|record| record.nonce)).unwrap_or_default();
        let chain_id = store.genesis().chain_id;
        let request = Request { chain_id, nonce, to: TxKind::Call(to), input: input.into(), gas };
        let raw = request.sign(&self.account).encoded_2718();
        self.waiting.submit(&raw).await.map_err(|source| SpeakError::Refused { account, source })
    }
}

/// The address of an account.
pub(super) fn address(account: &AccountSecret) -> Address {
    Address::new(account.account().to_bytes())
}

/// Whether a transaction did what it should; nothing while it is in no block.
pub(super) fn outcome(store: &Store, hash: &B256) -> Result<Option<bool>, StoreError> {
    let Some(place) = store.find_transaction(hash)? else { return Ok(None) };
    let receipts = store.receipts(place.height)?;
    Ok(Some(receipts.get(place.index).is_some_and(alloy_consensus::ReceiptEnvelope::status)))
}

/// Where a module of the vault stands, if it does.
pub(super) fn module(store: &Store, name: &str) -> Option<Address> {
    let name = B256::right_padding_from(name.as_bytes());
    ask(store, store.genesis().vault_address(), &Vault::moduleCall { name }).filter(|found| !found.is_zero())
}

/// The answer of a contract; nothing where there is none, or another one.
pub(super) fn ask<C: SolCall>(store: &Store, to: Address, question: &C) -> Option<C::Return> {
    let read = Call::read(Address::ZERO, to, question.abi_encode());
    match call(store.genesis(), store.head().header(), store, &read).ok()?.outcome {
        CallOutcome::Returned(output) => C::abi_decode_returns(&output).ok(),
        _ => None,
    }
}
