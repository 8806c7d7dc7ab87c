//! The pool of a node at work: what comes in from clients and peers, what is kept of it over a restart, what goes out.
//!
//! - **Owns** the lock around the [`Pool`], its journal, who is woken when something waits, and who hears of what came.
//! - **Does not** decide anything about a transaction: the pool does, and the ledger's rules.
//!
//! # Invariants
//! - **W1** A transaction that was handed in here is durable before its hash is given back.
//! - **W2** The pool is locked for no longer than it takes to change it: signatures are checked outside.
//!
//! Format: `docs/design/mempool.md`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxHash};
use blockhouse_consensus::tuning::GOSSIP_MAX;
use blockhouse_ledger::TransactionFault;
use blockhouse_ledger::block::{Block, block_hash};
use blockhouse_ledger::execute::Executed;
use blockhouse_ledger::rules::is_enrolled;
use blockhouse_ledger::state::State;
use blockhouse_ledger::system::{SYSTEM_ADDRESS, TICK_GAS};
use blockhouse_types::limits::BLOCK_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, broadcast};

use super::chain::Chain;
use super::pool::journal::{Journal, JournalError, Recovered};
use super::pool::limits::{GOSSIP_BYTES_MAX, GOSSIP_COUNT_MAX, TRANSACTION_MAX};
use super::pool::{AddError, Added, Ahead, Examined, Limits, Origin, PeerId, Pending, Pool, Refusal, Rules, Standing};
use crate::store::{Store, StoreError};

/// How many arrivals a slow listener may fall behind before it misses some.
const ARRIVALS: usize = 4096;

/// How much more gas than a block has the candidates for it may ask for: most use a part of their limits.
const GAS_OFFERED: u64 = 8;

/// A message of the longest transactions that are due together is one that the network carries: one that is not would be due again for ever.
const _: () = assert!(
    GOSSIP_BYTES_MAX + GOSSIP_COUNT_MAX * LENGTH_MAX <= GOSSIP_MAX && TRANSACTION_MAX <= GOSSIP_BYTES_MAX,
    "the pool gives more at once than a message may hold"
);
/// The longest encoding of a length, before each transaction of a message and before all of them.
const LENGTH_MAX: usize = 10;

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    #[error(transparent)]
    Refused(Refusal),
    #[error("its sender {sender} could not be looked up")]
    Standing {
        sender: Address,
        #[source]
        source: StoreError,
    },
    #[error("it could not be kept")]
    Journal(#[from] JournalError),
}

/// The pool of a node.
#[derive(Debug)]
pub struct Waiting {
    chain: Arc<Chain>,
    rules: Rules,
    pool: Mutex<Pool>,
    queue: Mutex<Queue>,
    journal: tokio::sync::Mutex<Kept>,
    wake: Arc<Notify>,
    arrivals: broadcast::Sender<TxHash>,
    started: Instant,
}

/// What is to be written to the journal next: many at once, with one wait for the disk.
#[derive(Debug, Default)]
struct Queue {
    last: u64,
    transactions: Vec<Arc<Examined>>,
}

#[derive(Debug)]
struct Kept {
    journal: Journal,
    /// Up to which number of the queue all is durable.
    durable: u64,
}

impl Waiting {
    /// An empty pool over that chain, which takes up what the journal held.
    pub fn open(chain: Arc<Chain>, journal: Journal, recovered: &Recovered) -> Self {
        let genesis = chain.head().genesis().clone();
        let gas_max = genesis.gas_limit.saturating_sub(TICK_GAS);
        let rules = Rules { genesis, system: *SYSTEM_ADDRESS, gas_max, recall: Arc::clone(chain.recall()) };
        let waiting = Self {
            chain,
            rules,
            pool: Mutex::new(Pool::new(Limits::default())),
            queue: Mutex::default(),
            journal: tokio::sync::Mutex::new(Kept { journal, durable: 0 }),
            wake: Arc::default(),
            arrivals: broadcast::Sender::new(ARRIVALS),
            started: Instant::now(),
        };
        for bytes in &recovered.transactions {
            // What is final by now, or not valid any more, is simply not there.
            let _ = waiting.take_in(bytes, Origin::Local);
        }
        waiting
    }

    /// Takes a transaction that was handed in here; durable when this returns.
    pub async fn submit(&self, bytes: &[u8]) -> Result<TxHash, SubmitError> {
        let (examined, added) = self.take_in(bytes, Origin::Local)?;
        let hash = examined.hash();
        if let Err(error) = self.keep(examined).await {
            // Who is told that it was not taken may sign another with its nonce.
            self.pool().reject(&hash, TransactionFault::Invalid { reason: "it could not be kept".to_owned() });
            return Err(error.into());
        }
        self.announce(hash, added);
        self.wake.notify_waiters();
        Ok(hash)
    }

    /// Takes what a peer sent: a list of transactions. What is refused is counted against it.
    pub fn hear(&self, peer: PeerId, message: &[u8]) -> Result<(), DecodeError> {
        let mut is_any = false;
        for bytes in decode_message(message)? {
            if let Ok((examined, added)) = self.take_in(&bytes, Origin::Peer(peer)) {
                self.announce(examined.hash(), added);
                is_any = true;
            }
        }
        if is_any {
            self.wake.notify_waiters();
        }
        Ok(())
    }

    /// What is to be sent to all peers now, as one message.
    pub fn due_message(&self) -> Option<Bytes> {
        let due = self.pool().due_gossip(self.now());
        (!due.is_empty()).then(|| encode_message(&due))
    }

    /// How long until [`Self::due_message`] has something.
    pub fn next_due(&self) -> Option<Duration> {
        self.pool().next_gossip().map(|due| due.saturating_sub(self.now()))
    }

    /// Ends when something new waits, counted from this call.
    pub fn woken(&self) -> OwnedNotified {
        Arc::clone(&self.wake).notified_owned()
    }

    /// The hash of each transaction that is taken from now on, wherever it was handed in.
    pub fn arrivals(&self) -> broadcast::Receiver<TxHash> {
        self.arrivals.subscribe()
    }

    /// Whether a block above these could hold a transaction.
    pub fn has_any(&self, pending: &[Arc<Block>]) -> bool {
        let ahead = self.ahead(pending);
        let pool = self.pool();
        pool.turns(&ahead).next(u64::MAX, BLOCK_MAX).is_some()
    }

    /// What a block above these may hold, in the order of turns; more than its gas limit allows, since most use less than they ask for.
    pub fn candidates(&self, pending: &[Arc<Block>], gas_limit: u64) -> Vec<TxEnvelope> {
        let ahead = self.ahead(pending);
        let taken = self.pool().take(gas_limit.saturating_mul(GAS_OFFERED), BLOCK_MAX, &ahead);
        taken.iter().map(|examined| examined.tx().clone()).collect()
    }

    /// No block can hold these.
    pub fn reject(&self, refused: Vec<(B256, TransactionFault)>) {
        let mut pool = self.pool();
        for (hash, fault) in refused {
            pool.reject(&hash, fault);
        }
    }

    /// A block is final.
    pub fn on_final(&self, executed: &Executed) {
        let txs = executed.block.body.transactions.iter().zip(&executed.senders);
        let included: Vec<_> = txs
            .map(|(tx, sender)| super::pool::Included { sender: *sender, nonce: tx.nonce(), hash: *tx.tx_hash() })
            .collect();
        let mut pool = self.pool();
        pool.on_final(executed.block.header.number, &included);
        pool.expire(self.now());
    }

    /// Writes the journal anew without what is done, if it has grown.
    pub async fn tidy(&self) -> Result<(), JournalError> {
        let mut kept = self.journal.lock().await;
        if !kept.journal.is_grown() {
            return Ok(());
        }
        let live: Vec<_> = self.pool().local().cloned().collect();
        tokio::task::block_in_place(|| kept.journal.rewrite(live.iter().map(AsRef::as_ref)))
    }

    /// The pool itself, to be asked.
    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    /// Tells of a transaction the first time it comes.
    fn announce(&self, hash: TxHash, added: Added) {
        if added != Added::Adopted {
            // Nobody may be listening.
            let _ = self.arrivals.send(hash);
        }
    }

    fn take_in(&self, bytes: &[u8], origin: Origin) -> Result<(Arc<Examined>, Added), SubmitError> {
        let store = self.chain.head();
        let examined = match self.rules.examine_bytes(bytes, store.head().header().timestamp) {
            Ok(examined) => examined,
            Err(refusal) => {
                if let Origin::Peer(peer) = origin {
                    self.pool().count_refused(peer, &refusal);
                }
                return Err(SubmitError::Refused(refusal));
            }
        };
        let hash = examined.hash();
        let mut pool = self.pool();
        let added = pool.add(examined, origin, self.now(), |sender| self.standing(&store, sender)).map_err(
            |error| match error {
                AddError::Refused(refusal) => SubmitError::Refused(refusal),
                AddError::Standing { sender, source } => SubmitError::Standing { sender, source },
            },
        )?;
        let held = pool.get(&hash).cloned().ok_or(SubmitError::Refused(Refusal::AlreadyKnown { hash }))?;
        Ok((held, added))
    }

    /// Makes it durable, together with what others wait for.
    async fn keep(&self, examined: Arc<Examined>) -> Result<(), JournalError> {
        let number = {
            let mut queue = lock(&self.queue);
            queue.transactions.push(examined);
            queue.last += 1;
            queue.last
        };
        // What was handed in together is all in the queue before one of them writes it.
        tokio::task::yield_now().await;
        let mut kept = self.journal.lock().await;
        if kept.durable >= number {
            return Ok(());
        }
        let (last, batch) = {
            let mut queue = lock(&self.queue);
            (queue.last, std::mem::take(&mut queue.transactions))
        };
        tokio::task::block_in_place(|| kept.journal.append(batch.iter().map(AsRef::as_ref)))?;
        kept.durable = last;
        Ok(())
    }

    /// By account, what blocks that are not final hold.
    fn ahead(&self, pending: &[Arc<Block>]) -> Pending {
        let mut ahead = BTreeMap::new();
        let executed = pending.iter().filter_map(|block| self.chain.executed(&block_hash(&block.header)));
        for executed in executed {
            let height = executed.block.header.number;
            for (tx, sender) in executed.block.body.transactions.iter().zip(&executed.senders) {
                ahead.insert(*sender, Ahead { nonce: tx.nonce().saturating_add(1), height });
            }
        }
        ahead
    }

    /// How an account stands at the head of that store.
    fn standing(&self, store: &Store, sender: &Address) -> Result<Standing, StoreError> {
        let (nodes, head) = (self.chain.nodes(store, &[]), store.head().header());
        let record = State::at(head.state_root, &nodes).account(sender).map_err(|error| store.of_state(error))?;
        let enrolled =
            is_enrolled(store.genesis(), head, &nodes, sender).map_err(|error| match error.into_state() {
                Ok(state) => store.of_state(state),
                Err(other) => store.damaged(format!("Access could not be asked: {}", crate::chain::chain(&other))),
            })?;
        Ok(Standing { nonce: record.map_or(0, |record| record.nonce), enrolled })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

fn encode_message(transactions: &[Arc<Examined>]) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.list(transactions.iter(), |encoder, examined| {
        encoder.bytes(&examined.bytes());
    });
    encoder.finish().into()
}

/// The transactions of a peer's message.
pub fn decode_message(message: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut decoder = Decoder::new("a message of transactions", message);
    let transactions = decoder.list("transactions", GOSSIP_COUNT_MAX, |decoder| {
        decoder.bytes("transaction", TRANSACTION_MAX).map(<[u8]>::to_vec)
    })?;
    decoder.finish()?;
    Ok(transactions)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
