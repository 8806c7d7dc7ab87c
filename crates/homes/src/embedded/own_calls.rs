//! The ledger's own calls on a ledger that this host seals: it does without until its owner first needs them, and from then on each of
//! its blocks ends with one, as a network's do.
//!
//! # Invariants
//! - **O1** `Automation` stands where it stands on every ledger, so whoever takes this one over goes on with what is watched.

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Encodable2718;
use blockhouse_ledger::execute::{first_own_call, own_call};

use super::Embedded;
use super::error::HomeError;
use crate::store::Store;

impl Embedded {
    /// Makes `Automation`, by a block of its own. Nothing is done where it stands, or where the nodes of a network seal: they make it
    /// themselves.
    pub async fn begin_own_calls(&self) -> Result<(), HomeError> {
        if self.network().is_some() {
            return Ok(());
        }
        let Some(call) = self.first_own_call().await? else { return Ok(()) };
        match self.seal(vec![call.encoded_2718().into()]).await {
            // Another process of this host was faster.
            Err(_) if self.first_own_call().await?.is_none() => Ok(()),
            done => done.map(drop),
        }
    }

    async fn first_own_call(&self) -> Result<Option<TxEnvelope>, HomeError> {
        let first = |store: &Store| {
            let head = store.head();
            first_own_call(head.genesis(), head.header(), store).map_err(|error| store.of_state(error))
        };
        Ok(self.read(first).await??)
    }
}

/// These transactions, and behind them the ledger's own call if one is due.
pub(super) fn completed(store: &Store, mut transactions: Vec<TxEnvelope>) -> Result<Vec<TxEnvelope>, HomeError> {
    let head = store.head();
    let call = own_call(head.genesis(), head.header(), store, &transactions).map_err(|error| store.of_state(error))?;
    transactions.extend(call);
    Ok(transactions)
}
