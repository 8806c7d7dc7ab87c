//! Many records in few blocks: transactions that are sent together are sealed together.
//!
//! - **Owns** how many go into a block, and that each of them succeeded.
//! - **Does not** rely on it: a home that seals them in several blocks is as good.

use std::collections::{BTreeMap, BTreeSet};

use alloy_eips::eip2718::Encodable2718;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_provider::Provider;
use alloy_rpc_client::BatchRequest;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::contracts::{Timeline, Vault};
use blockhouse_ledger::system::TICK_GAS;
use blockhouse_ledger::{Contract, Request};
use blockhouse_types::{Account, Durability, SnapshotId, SourceId};

use super::{Ledger, LedgerError, NONCE_TRIES, address};

/// How many transactions go into one block at most, whatever gas is left: a bound on the work that a kill can undo.
pub(crate) const BATCH_MAX: usize = 200;
/// Enough for any call of the owner several times over; what one does is not known before those before it are done.
const OWNER_GAS: u64 = 1_000_000;

/// A snapshot that is to be forgotten, and where it stands in its source's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgetting {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its source.
    pub source: SourceId,
    /// Who committed it: the chain that a rule walks for it.
    pub writer: Account,
    /// Its index among the snapshots of its source, plus one.
    pub place: u32,
}

/// What became of the first of several forgettings.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// How many were dealt with.
    pub(crate) dealt: usize,
    /// Those that are forgotten now.
    pub(crate) done: Vec<SnapshotId>,
    /// Those that the contract refused, with its reason.
    pub(crate) refused: Vec<(SnapshotId, String)>,
}

/// Gas for taking one place out of a timeline: two records read and three slots written, twice over.
const DROP_GAS: u64 = 120_000;
const CALL_GAS: u64 = 60_000;
/// What a removal may need beyond its estimate: those before it in the block change what the rule walks.
const SPARE_GAS: u64 = 400_000;

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
        let requests = calls.into_iter().map(request).collect();
        all_done(&self.send_in_one_block(sender, requests).await?, "the owner's calls")
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
        let done = self.send_in_one_block(sender, requests).await?;
        all_done(&done, Vault::recordHealthCall::SIGNATURE)?;
        Ok(done.len())
    }

    /// Forgets the first of these, in one block as far as they fit, and takes them out of their timelines there. What the contract
    /// refuses is told and holds up no other.
    pub(crate) async fn forget_some(
        &self,
        sender: &AccountSecret,
        wanted: &[Forgetting],
        timeline: Option<Address>,
    ) -> Result<Forgotten, LedgerError> {
        let (most, chain_id) = (self.block_gas().await?, self.provider.get_chain_id().await?);
        let (mut forgotten, mut sent, mut requests, mut left) = (Forgotten::default(), Vec::new(), Vec::new(), most);
        let per_drop = if timeline.is_some() { DROP_GAS + CALL_GAS } else { 0 };
        let wanted = wanted.get(..BATCH_MAX.min(wanted.len())).unwrap_or_default();
        let gas = self.gas_to_forget(sender, wanted, most).await?;
        for one in wanted {
            let input = forget_input(one);
            match self.try_as(sender, &input).await {
                Ok(()) => {}
                Err(LedgerError::Refused { reason }) => {
                    forgotten.refused.push((one.snapshot, reason));
                    forgotten.dealt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let gas = gas.get(&(one.source, one.writer)).copied().unwrap_or(most);
            if gas + per_drop > left && !sent.is_empty() {
                break;
            }
            left = left.saturating_sub(gas + per_drop);
            requests.push(Request { chain_id, nonce: 0, to: TxKind::Call(self.vault), input, gas });
            sent.push(*one);
            forgotten.dealt += 1;
        }
        if sent.is_empty() {
            return Ok(forgotten);
        }
        let outcomes = self.send_forgets(sender, requests, drops(chain_id, timeline, &sent), most).await?;
        for (one, outcome) in sent.into_iter().zip(outcomes) {
            if outcome.is_done {
                forgotten.done.push(one.snapshot);
            } else {
                forgotten.refused.push((one.snapshot, "it failed when it was sealed".to_owned()));
            }
        }
        Ok(forgotten)
    }

    /// Sends removals with what takes them out of their timelines, in one block if all of it fits; else that comes in the next.
    async fn send_forgets(
        &self,
        sender: &AccountSecret,
        mut requests: Vec<Request>,
        drops: Vec<Request>,
        most: u64,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let gas: u64 = requests.iter().chain(&drops).map(|request| request.gas).sum();
        if gas <= most {
            requests.extend(drops);
            return self.send_in_one_block(sender, requests).await;
        }
        let outcomes = self.send_in_one_block(sender, requests).await?;
        if !drops.is_empty() {
            self.send_in_one_block(sender, drops).await?;
        }
        Ok(outcomes)
    }

    /// Takes these places out of a source's timeline; all of them must be forgotten.
    pub(super) async fn drop_places(
        &self,
        sender: &AccountSecret,
        source: SourceId,
        places: &[u32],
    ) -> Result<(), LedgerError> {
        let timeline =
            self.modules().await?.timeline.ok_or(LedgerError::NoModule { name: Contract::Timeline.name() })?;
        let (most, chain_id) = (self.block_gas().await?, self.provider.get_chain_id().await?);
        let fitting = usize::try_from(most.saturating_sub(CALL_GAS) / DROP_GAS).unwrap_or(BATCH_MAX);
        for places in places.chunks(fitting.clamp(1, BATCH_MAX)) {
            let request = drop_request(chain_id, timeline, source, places.to_vec());
            all_done(&self.send_in_one_block(sender, vec![request]).await?, Timeline::dropCall::SIGNATURE)?;
        }
        Ok(())
    }

    /// What a removal of each chain may need, never more than a block has: the oldest that goes is the one for which most is walked; and
    /// some more, for those before it in the block change what the rule walks. To estimate each would cost more than to forget it.
    async fn gas_to_forget(
        &self,
        sender: &AccountSecret,
        wanted: &[Forgetting],
        most: u64,
    ) -> Result<BTreeMap<(SourceId, Account), u64>, LedgerError> {
        let mut oldest: BTreeMap<(SourceId, Account), &Forgetting> = BTreeMap::new();
        for one in wanted {
            let known = oldest.entry((one.source, one.writer)).or_insert(one);
            if one.place < known.place {
                *known = one;
            }
        }
        let mut gas = BTreeMap::new();
        for (chain, one) in oldest {
            let estimate = match self.estimated(sender, self.vault, &forget_input(one)).await {
                Ok(gas) => gas,
                // The others of its chain may be let go all the same.
                Err(LedgerError::Refused { .. }) => SPARE_GAS,
                Err(error) => return Err(error),
            };
            gas.insert(chain, gas_limit_of(estimate, most));
        }
        Ok(gas)
    }

    /// Whether the contract would take a call of this account now.
    async fn try_as(&self, sender: &AccountSecret, input: &Bytes) -> Result<(), LedgerError> {
        let request = TransactionRequest::default()
            .with_from(address(sender.account()))
            .with_to(self.vault)
            .with_input(input.clone());
        self.provider.call(request).await.map(drop).map_err(LedgerError::from)
    }

    /// The first of these calls that fit into a block together, one at least; nonces are not in them yet.
    async fn fitting(&self, sender: &AccountSecret, inputs: Vec<Bytes>) -> Result<Vec<Request>, LedgerError> {
        let (mut left, chain_id) = (self.block_gas().await?, self.provider.get_chain_id().await?);
        let mut requests = Vec::with_capacity(inputs.len());
        for input in inputs {
            let gas = self.estimated(sender, self.vault, &input).await?;
            if gas > left && !requests.is_empty() {
                break;
            }
            left = left.saturating_sub(gas);
            requests.push(Request { chain_id, nonce: 0, to: TxKind::Call(self.vault), input, gas });
        }
        Ok(requests)
    }

    /// The gas that one block has for what accounts send: the ledger's own call at its end keeps some.
    pub(crate) async fn block_gas(&self) -> Result<u64, LedgerError> {
        let head = self.provider.get_block(BlockId::Number(BlockNumberOrTag::Latest)).await?;
        Ok(head.map_or(0, |block| block.header.gas_limit.saturating_sub(TICK_GAS)))
    }

    async fn estimated(&self, sender: &AccountSecret, to: Address, input: &Bytes) -> Result<u64, LedgerError> {
        let request =
            TransactionRequest::default().with_from(address(sender.account())).with_to(to).with_input(input.clone());
        self.provider.estimate_gas(request).await.map_err(LedgerError::from)
    }

    /// Sends these one after another in one block. The account's nonce may be taken by another process of this host: then all is
    /// done anew.
    pub(super) async fn send_in_one_block(
        &self,
        sender: &AccountSecret,
        requests: Vec<Request>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        for _ in 1..NONCE_TRIES {
            match self.send_together(sender, requests.clone()).await {
                Err(error) if error.is_nonce_taken() => {}
                done => return done,
            }
        }
        self.send_together(sender, requests).await
    }

    /// The next nonce of an account, after what it sent that is in no block yet.
    pub(crate) async fn nonce(&self, sender: &AccountSecret) -> Result<u64, LedgerError> {
        Ok(self.provider.get_transaction_count(address(sender.account())).pending().await?)
    }

    async fn send_together(&self, sender: &AccountSecret, requests: Vec<Request>) -> Result<Vec<Outcome>, LedgerError> {
        let first = self.nonce(sender).await?;
        self.send_from(sender, first, requests).await
    }

    /// The same from a nonce on that the caller counted with.
    pub(super) async fn send_from(
        &self,
        sender: &AccountSecret,
        first: u64,
        requests: Vec<Request>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let mut batch = BatchRequest::new(self.provider.client());
        let mut waiting = Vec::with_capacity(requests.len());
        for (nonce, request) in (first..).zip(requests) {
            let request = Request { nonce, ..request };
            waiting.push(if self.home_signs {
                batch.add_call::<_, B256>("eth_sendTransaction", &(wish(sender, request),))?
            } else {
                let raw = (Bytes::from(request.sign(sender).encoded_2718()),);
                batch.add_call::<_, B256>("eth_sendRawTransaction", &raw)?
            });
        }
        batch.send().await?;
        let mut sent = Vec::with_capacity(waiting.len());
        for transaction in waiting {
            sent.push(transaction.await?);
        }
        let statuses = self.await_receipts(sent.iter().copied().collect()).await?;
        let outcome = |transaction: B256| {
            let is_done = statuses.get(&transaction).copied().unwrap_or_default();
            Outcome { transaction, is_done }
        };
        Ok(sent.into_iter().map(outcome).collect())
    }

    /// Waits until all of these are sealed, a block at a time; says which succeeded.
    async fn await_receipts(&self, mut open: BTreeSet<B256>) -> Result<BTreeMap<B256, bool>, LedgerError> {
        let mut statuses = BTreeMap::new();
        while let Some(transaction) = open.first().copied() {
            let pending = alloy_provider::PendingTransactionBuilder::new(self.provider.root().clone(), transaction);
            let receipt = pending.get_receipt().await.map_err(LedgerError::pending)?;
            let block = receipt.block_number.map_or(BlockNumberOrTag::Latest, BlockNumberOrTag::Number);
            // Blocks of an outside chain hold what others sent, of kinds that are not known here.
            let others = if self.home_signs { None } else { self.provider.get_block_receipts(block.into()).await? };
            let others = others.unwrap_or_default();
            for receipt in others.iter().chain([&receipt]) {
                if open.remove(&receipt.transaction_hash) {
                    statuses.insert(receipt.transaction_hash, receipt.status());
                }
            }
        }
        Ok(statuses)
    }
}

/// How one of several transactions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) transaction: B256,
    pub(super) is_done: bool,
}

fn all_done(outcomes: &[Outcome], call: &'static str) -> Result<(), LedgerError> {
    match outcomes.iter().find(|outcome| !outcome.is_done) {
        Some(failed) => Err(LedgerError::Failed { call, transaction: failed.transaction }),
        None => Ok(()),
    }
}

/// What a home that signs is asked to send. How much gas it needs is the home's to find out: there it costs something.
fn wish(sender: &AccountSecret, request: Request) -> TransactionRequest {
    let Request { nonce, to, input, .. } = request;
    let wish = TransactionRequest::default().with_from(address(sender.account())).with_nonce(nonce).with_input(input);
    match to {
        TxKind::Call(to) => wish.with_to(to),
        TxKind::Create => wish.with_kind(TxKind::Create),
    }
}

fn forget_input(one: &Forgetting) -> Bytes {
    Vault::forgetCall { id: B256::new(one.snapshot.to_bytes()) }.abi_encode().into()
}

/// What takes these out of their timelines, behind the transactions that forget them. If one of those fails this fails as a whole and
/// harms nothing: a timeline may hold what is forgotten, and the next [`Ledger::drop_forgotten`] takes it out.
fn drops(chain_id: u64, timeline: Option<Address>, sent: &[Forgetting]) -> Vec<Request> {
    let Some(timeline) = timeline else { return Vec::new() };
    let mut by_source: BTreeMap<SourceId, Vec<u32>> = BTreeMap::new();
    for one in sent {
        by_source.entry(one.source).or_default().push(one.place);
    }
    let drop = |(source, places)| drop_request(chain_id, timeline, source, places);
    by_source.into_iter().map(drop).collect()
}

fn drop_request(chain_id: u64, timeline: Address, source: SourceId, places: Vec<u32>) -> Request {
    let gas = CALL_GAS + DROP_GAS * places.len() as u64;
    let input = Timeline::dropCall { source: B256::new(source.to_bytes()), places }.abi_encode();
    Request { chain_id, nonce: 0, to: TxKind::Call(timeline), input: input.into(), gas }
}

/// The gas that a removal is sent with: more than its estimate, and never more than a block has, which no home would take.
fn gas_limit_of(estimate: u64, most: u64) -> u64 {
    most.min(estimate.saturating_add(estimate / 2).saturating_add(SPARE_GAS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An estimate of more than 19.7 M once made a transaction that no block of 30 M takes, and nothing was forgotten.
    #[test]
    fn a_removal_never_asks_for_more_than_a_block() {
        assert_eq!(gas_limit_of(300_000, 30_000_000), 850_000);
        for estimate in [20_000_000, 29_000_000, u64::MAX] {
            assert_eq!(gas_limit_of(estimate, 30_000_000), 30_000_000);
        }
    }
}
