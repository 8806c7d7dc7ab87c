//! Sealing: transactions in, one durable and certified block out.

use std::time::{Duration, Instant};

use alloy_consensus::{ReceiptEnvelope, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{B256, Bytes};
use blockhouse_crypto::LedgerKey;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::execute::{Executed, build};
use blockhouse_ledger::time::{BEHIND_MAX_SECONDS, BlockTime, ClockError, choose_time};

use super::error::HomeError;
use super::keys::LedgerKeys;
use super::own_calls::completed;
use super::{Embedded, standing_of};
use crate::store::{Access, Store};

/// How long sealing waits for a clock that it is just ahead of: its limit, and some more for other sealers.
const PACE_MAX: Duration = Duration::from_secs(BEHIND_MAX_SECONDS + 5);
/// How often it looks at the clock then.
const PACE: Duration = Duration::from_millis(100);

/// Transactions that are in blocks, and those durable here. Sealed by this host they are one block alone; by a network they may
/// stand in several, with others.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The height of the block that holds the last of them.
    pub height: u64,
    /// Its hash.
    pub hash: B256,
    /// The hashes of the transactions, in the order in which they were given.
    pub transactions: Vec<B256>,
    /// Their receipts, in the same order. A transaction may have failed: its status says so.
    pub receipts: Vec<ReceiptEnvelope>,
    /// That block with its certificate, as it is copied to the sites.
    pub object: BlockObject,
}

impl Embedded {
    /// Seals one block of these transactions, each in its EIP-2718 bytes; or has the network seal them.
    ///
    /// The guard is asked while the store is closed. What it waits for cannot hold up other processes.
    pub async fn seal(&self, raw: Vec<Bytes>) -> Result<Sealed, HomeError> {
        let transactions = decode(&raw)?;
        if let Some(nodes) = self.network() {
            return self.send(nodes, &raw, &transactions).await;
        }
        if let Some(guard) = &self.shared.options.before_seal {
            let standing = self.read(standing_of).await??;
            let height = standing.height;
            guard(standing).await.map_err(|source| HomeError::Guard { height, source })?;
        }
        self.seal_when_due(transactions).await
    }

    /// Blocks are at least a second apart. Who seals faster than the clock runs gets ahead of it, up to the limit of
    /// `choose_time`, and waits from there on; a clock that is really behind is refused at once.
    async fn seal_when_due(&self, transactions: Vec<TxEnvelope>) -> Result<Sealed, HomeError> {
        let started = Instant::now();
        loop {
            let again = transactions.clone();
            match self.blocking(|home| home.seal_now(again)).await {
                Err(HomeError::Clock(ClockError::Behind { behind, .. }))
                    if behind <= BEHIND_MAX_SECONDS && started.elapsed() < PACE_MAX =>
                {
                    tokio::time::sleep(PACE).await;
                }
                done => return done,
            }
        }
    }

    fn seal_now(&self, transactions: Vec<TxEnvelope>) -> Result<Sealed, HomeError> {
        let key = self.shared.options.sealer.key().cloned().ok_or(HomeError::NoKey)?;
        self.with_store(Access::Write, |store| {
            let given = transactions.len();
            let executed = self.build(store, &key, completed(store, transactions)?)?;
            let chain_id = store.genesis().chain_id;
            let place = BlockPlace { chain_id, height: executed.block.header.number, hash: executed.hash };
            let certificate = Certificate::solo(&key, &place);
            store.append(&executed, &certificate)?;
            Ok(sealed(chain_id, executed, certificate, given))
        })
    }

    /// Makes the block, and refuses it unless this host's key is in force at it.
    fn build(&self, store: &Store, key: &LedgerKey, transactions: Vec<TxEnvelope>) -> Result<Executed, HomeError> {
        if let Some(heir) = store.heir()? {
            return Err(HomeError::Left { heir });
        }
        let (head, own) = (store.head(), key.public());
        let authority = LedgerKeys::of(store)?.authority(head);
        let time = choose_time(self.now(), head.header().timestamp, self.shared.options.clock_rule);
        let built = time.map_err(HomeError::Clock).and_then(|time| {
            build(store.genesis(), head.header(), store, transactions, BlockTime::of_seconds(time))
                .map_err(|error| HomeError::of_build(store, error))
        });
        // A clock that is behind says nothing of whose ledger this is: whoever waits for it asks again.
        if let Err(HomeError::Clock(ClockError::Behind { behind, .. })) = &built
            && *behind <= BEHIND_MAX_SECONDS
        {
            return built;
        }
        let in_force = built.as_ref().map_or(authority.ledger_key(), |executed| authority.key_at(executed));
        // A host that lost the ledger is told so first, whatever else is wrong with its block.
        if in_force != own {
            return Err(HomeError::HandedOver { in_force, own });
        }
        built
    }
}

fn decode(raw: &[Bytes]) -> Result<Vec<TxEnvelope>, HomeError> {
    let decoded = raw.iter().enumerate().map(|(index, bytes)| {
        TxEnvelope::decode_2718_exact(bytes).map_err(|source| HomeError::Transaction { index, source })
    });
    decoded.collect()
}

/// What became of the first transactions of the block, which are those that were given.
fn sealed(chain_id: u64, executed: Executed, certificate: Certificate, given: usize) -> Sealed {
    let transactions = executed.block.body.transactions.iter().take(given).map(|tx| *tx.tx_hash()).collect();
    let mut receipts = executed.receipts;
    receipts.truncate(given);
    Sealed {
        height: executed.block.header.number,
        hash: B256::new(executed.hash.to_bytes()),
        transactions,
        receipts,
        object: BlockObject { chain_id, block: executed.block, certificate, genesis: None },
    }
}
