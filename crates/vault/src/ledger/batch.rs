//! Many records in few blocks: transactions that are sent together are sealed together.
//!
//! - **Owns** how many go into a block, and that each of them succeeded.
//! - **Does not** rely on it: a home that seals them in several blocks is as good.

use std::collections::BTreeSet;

use alloy_eips::eip2718::Encodable2718;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_network::TransactionBuilder;
use alloy_primitives::{B256, Bytes, TxKind};
use alloy_provider::Provider;
use alloy_rpc_client::BatchRequest;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::Request;
use blockhouse_ledger::contracts::Vault;
use blockhouse_types::{Account, Durability, SnapshotId};

use super::{Ledger, LedgerError, NONCE_TRIES, address};

/// How many transactions go into one block at most, whatever gas is left: a bound on the work that a kill can undo.
pub(crate) const BATCH_MAX: usize = 200;
/// Enough for any call of the owner several times over; what one does is not known before those before it are done.
const OWNER_GAS: u64 = 1_000_000;

impl Ledger {
    /// Sends calls that belong together, in their order; a home that seals them in one block does all of them or none.
    pub(crate) async fn send_all(
        &self,
        sender: &AccountSecret,
        calls: Vec<(Account, Bytes)>,
    ) -> Result<(), LedgerError> {
        let chain_id = self.provider.get_chain_id().await?;
        let request = |(to, input): (Account, Bytes)| Request {
            chain_id,
            nonce: 0,
            to: TxKind::Call(address(to)),
            input,
            gas: OWNER_GAS,
        };
        let requests: Vec<Request> = calls.into_iter().map(request).collect();
        let what = "the owner's calls";
        for _ in 1..NONCE_TRIES {
            match self.send_together(sender, requests.clone(), what).await {
                Err(error) if error.is_nonce_taken() => {}
                done => return done.map(drop),
            }
        }
        self.send_together(sender, requests, what).await.map(drop)
    }

    /// Records the durability of several snapshots as it is now, in one block as far as they fit; gives how many did. The
    /// account's nonce may be taken by another process of this host: then all is done anew.
    pub(crate) async fn record_health_of(
        &self,
        sender: &AccountSecret,
        health: &[(SnapshotId, Durability)],
    ) -> Result<usize, LedgerError> {
        let call = |(snapshot, now): &(SnapshotId, Durability)| {
            let Durability { d, w, wd } = *now;
            Bytes::from(Vault::recordHealthCall { id: B256::new(snapshot.to_bytes()), d, w, wd }.abi_encode())
        };
        let inputs: Vec<Bytes> = health.iter().take(BATCH_MAX).map(call).collect();
        let requests = self.fitting(sender, inputs).await?;
        let what = Vault::recordHealthCall::SIGNATURE;
        for _ in 1..NONCE_TRIES {
            match self.send_together(sender, requests.clone(), what).await {
                Err(error) if error.is_nonce_taken() => {}
                done => return done,
            }
        }
        self.send_together(sender, requests, what).await
    }

    /// The first of these calls that fit into a block together, one at least; nonces are not in them yet.
    async fn fitting(&self, sender: &AccountSecret, inputs: Vec<Bytes>) -> Result<Vec<Request>, LedgerError> {
        let head = self.provider.get_block(BlockId::Number(BlockNumberOrTag::Latest)).await?;
        let mut left = head.map_or(0, |block| block.header.gas_limit);
        let chain_id = self.provider.get_chain_id().await?;
        let mut requests = Vec::with_capacity(inputs.len());
        for input in inputs {
            let request = TransactionRequest::default()
                .with_from(address(sender.account()))
                .with_to(self.vault)
                .with_input(input.clone());
            let gas = self.provider.estimate_gas(request).await?;
            if gas > left && !requests.is_empty() {
                break;
            }
            left = left.saturating_sub(gas);
            requests.push(Request { chain_id, nonce: 0, to: TxKind::Call(self.vault), input, gas });
        }
        Ok(requests)
    }

    async fn send_together(
        &self,
        sender: &AccountSecret,
        requests: Vec<Request>,
        what: &'static str,
    ) -> Result<usize, LedgerError> {
        let count = requests.len();
        let first = self.provider.get_transaction_count(address(sender.account())).await?;
        let mut batch = BatchRequest::new(self.provider.client());
        let mut waiting = Vec::with_capacity(count);
        for (nonce, request) in (first..).zip(requests) {
            let signed = Request { nonce, ..request }.sign(sender);
            let raw = (Bytes::from(signed.encoded_2718()),);
            waiting.push(batch.add_call::<_, B256>("eth_sendRawTransaction", &raw)?);
        }
        batch.send().await?;
        let mut open = BTreeSet::new();
        for sent in waiting {
            open.insert(sent.await?);
        }
        self.await_receipts(open, what).await?;
        Ok(count)
    }

    /// Waits until all of these are sealed, a block at a time; fails at one that failed.
    async fn await_receipts(&self, mut open: BTreeSet<B256>, call: &'static str) -> Result<(), LedgerError> {
        while let Some(transaction) = open.first().copied() {
            let pending = alloy_provider::PendingTransactionBuilder::new(self.provider.root().clone(), transaction);
            let receipt = pending.get_receipt().await.map_err(LedgerError::pending)?;
            let block = receipt.block_number.map_or(BlockNumberOrTag::Latest, BlockNumberOrTag::Number);
            let others = self.provider.get_block_receipts(block.into()).await?.unwrap_or_default();
            for receipt in others.iter().chain([&receipt]) {
                if open.remove(&receipt.transaction_hash) && !receipt.status() {
                    let transaction = receipt.transaction_hash;
                    return Err(LedgerError::Failed { call, transaction });
                }
            }
        }
        Ok(())
    }
}
