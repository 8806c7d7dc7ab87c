//! Sealing by a network: transactions go to its nodes, and count once they are in blocks that this host has checked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes};
use blockhouse_ledger::{CallError, is_enrolled};

use super::error::HomeError;
use super::follow::From;
use super::keys::LedgerKeys;
use super::seal::Sealed;
use super::{Embedded, block_object};
use crate::remote::{Remote, RemoteError, SendError};
use crate::store::{Place, Store, StoreError};

/// How often the nodes are asked for new blocks at first: a network of one place is final in a few of these.
const POLL_MIN: Duration = Duration::from_millis(25);
/// How often at last: a network that takes longer is not made faster by questions.
const POLL_MAX: Duration = Duration::from_millis(500);

/// What became of transactions so far.
enum Outcome {
    /// All are in blocks here.
    Sealed(Box<Sealed>),
    /// Some are not.
    Waiting,
    /// Others have the nonces of all that are missing, the first of them named: they never will be.
    Taken { hash: B256, nonce: u64 },
}

/// Transactions that are under way.
struct Underway<'a> {
    raw: &'a [Bytes],
    transactions: &'a [TxEnvelope],
    /// Up to which height blocks were searched for them.
    searched: u64,
    found: BTreeMap<B256, Place>,
}

impl Embedded {
    /// Sends transactions to the network's nodes and waits until all are in final blocks here.
    pub(super) async fn send(
        &self,
        nodes: &Remote,
        raw: &[Bytes],
        transactions: &[TxEnvelope],
    ) -> Result<Sealed, HomeError> {
        if transactions.is_empty() {
            return Err(RemoteError::Nothing.into());
        }
        // What is searched for the transactions begins here; and a node of another ledger is found before it gets any.
        self.follow_any(nodes, From::Head).await?;
        let searched = self.read(Store::height).await?;
        for (sent, (raw, transaction)) in raw.iter().zip(transactions).enumerate() {
            if let Err(error) = nodes.send(raw, *transaction.tx_hash()).await {
                return Err(self.not_sent(nodes, error, (sent, transactions.len()), transaction).await);
            }
        }
        self.await_blocks(nodes, Underway { raw, transactions, searched, found: BTreeMap::new() }).await
    }

    /// Why a transaction was not sent. One that comes after others of its kind is never just refused: who then sends all anew
    /// would do the first ones twice.
    async fn not_sent(
        &self,
        nodes: &Remote,
        error: SendError,
        (sent, of): (usize, usize),
        transaction: &TxEnvelope,
    ) -> HomeError {
        let error = match error {
            SendError::NoNode(problems) => RemoteError::NoNode { problems },
            SendError::Refused(why) => match self.refusal(nodes, why, transaction).await {
                Ok(error) => error,
                Err(error) => return error,
            },
        };
        if sent == 0 { error.into() } else { RemoteError::InPart { sent, of, why: error.to_string() }.into() }
    }

    /// What a node's refusal means, by what this host can see itself.
    async fn refusal(&self, nodes: &Remote, why: String, transaction: &TxEnvelope) -> Result<RemoteError, HomeError> {
        let Ok(account) = transaction.recover_signer() else { return Ok(RemoteError::Refused { why }) };
        if !self.read(move |store| knows(store, account)).await?? {
            return Ok(RemoteError::NotEnrolled { account });
        }
        let nonce = transaction.nonce();
        let is_taken = nodes.pending_nonce(account).await.is_ok_and(|next| next > nonce);
        let why = if is_taken { format!("the nonce {nonce} is taken ({why})") } else { why };
        Ok(RemoteError::Refused { why })
    }

    async fn await_blocks(&self, nodes: &Remote, mut underway: Underway<'_>) -> Result<Sealed, HomeError> {
        let (started, deadlines) = (Instant::now(), *nodes.deadlines());
        let (mut pace, mut told) = (POLL_MIN, started);
        loop {
            let (last, is_over) = match self.follow_any(nodes, From::Next).await {
                Ok(_) => (None, started.elapsed() >= deadlines.finality),
                // Nodes that are away may come back, and the deadline decides. Those that all serve forged blocks end it at once.
                Err(HomeError::Remote(error)) => {
                    (Some(error.to_string()), error.is_evidence() || started.elapsed() >= deadlines.finality)
                }
                Err(error) => return Err(error),
            };
            match self.look(&mut underway).await? {
                Outcome::Sealed(sealed) => return Ok(*sealed),
                Outcome::Taken { hash, nonce } => return Err(underway.taken(hash, nonce).into()),
                Outcome::Waiting => {}
            }
            if is_over {
                let sent = underway.missing().map(|transaction| *transaction.tx_hash()).collect();
                return Err(RemoteError::NotFinal { sent, waited: started.elapsed(), last }.into());
            }
            if told.elapsed() >= deadlines.again {
                told = Instant::now();
                nodes.pass_over();
                underway.send_again(nodes).await;
            }
            tokio::time::sleep(pace).await;
            pace = (pace * 2).min(POLL_MAX);
        }
    }

    /// Searches the blocks that are new.
    async fn look(&self, underway: &mut Underway<'_>) -> Result<Outcome, HomeError> {
        let hashes: Vec<B256> = underway.transactions.iter().map(|transaction| *transaction.tx_hash()).collect();
        let senders = underway.missing().filter_map(|transaction| {
            let sender = transaction.recover_signer().ok()?;
            Some((*transaction.tx_hash(), sender, transaction.nonce()))
        });
        let (senders, searched, mut found) = (senders.collect::<Vec<_>>(), underway.searched, underway.found.clone());
        let looked = move |store: &Store| {
            for height in searched + 1..=store.height() {
                let block = store.block(height)?.block;
                for (index, transaction) in block.body.transactions.iter().enumerate() {
                    if hashes.contains(transaction.tx_hash()) {
                        found.insert(*transaction.tx_hash(), Place { height, index });
                    }
                }
            }
            let outcome = outcome(store, &hashes, &found, &senders)?;
            Ok::<_, HomeError>((outcome, found, store.height()))
        };
        let (outcome, found, searched) = self.read(looked).await??;
        (underway.found, underway.searched) = (found, searched);
        Ok(outcome)
    }
}

impl Underway<'_> {
    /// Those that are in no block here.
    fn missing(&self) -> impl Iterator<Item = &TxEnvelope> {
        self.transactions.iter().filter(|transaction| !self.found.contains_key(transaction.tx_hash()))
    }

    /// Gives what is missing to the next node too. What it says counts for nothing: the blocks decide.
    async fn send_again(&self, nodes: &Remote) {
        for (raw, transaction) in self.raw.iter().zip(self.transactions) {
            if !self.found.contains_key(transaction.tx_hash()) {
                let _ = nodes.send(raw, *transaction.tx_hash()).await;
            }
        }
    }

    fn taken(&self, hash: B256, nonce: u64) -> RemoteError {
        let why = format!("the nonce {nonce} of transaction {hash} was taken by another one");
        match self.found.len() {
            0 => RemoteError::Refused { why },
            sent => RemoteError::InPart { sent, of: self.transactions.len(), why },
        }
    }
}

fn outcome(
    store: &Store,
    hashes: &[B256],
    found: &BTreeMap<B256, Place>,
    senders: &[(B256, Address, u64)],
) -> Result<Outcome, HomeError> {
    let mut taken = None;
    for (hash, sender, nonce) in senders.iter().filter(|(hash, ..)| !found.contains_key(hash)) {
        let account = store.state().account(sender).map_err(|error| store.of_state(error))?;
        if account.is_none_or(|account| account.nonce <= *nonce) {
            // Those behind one whose nonce was taken may still come: until that is known nothing is sent anew.
            return Ok(Outcome::Waiting);
        }
        taken = taken.or(Some(Outcome::Taken { hash: *hash, nonce: *nonce }));
    }
    if let Some(taken) = taken {
        return Ok(taken);
    }
    let places: Option<Vec<Place>> = hashes.iter().map(|hash| found.get(hash).copied()).collect();
    let Some(places) = places else { return Ok(Outcome::Waiting) };
    Ok(Outcome::Sealed(Box::new(sealed(store, hashes, &places)?)))
}

fn sealed(store: &Store, hashes: &[B256], places: &[Place]) -> Result<Sealed, HomeError> {
    let height = places.iter().map(|place| place.height).max().unwrap_or_default();
    let mut by_height = BTreeMap::new();
    let mut receipts = Vec::with_capacity(places.len());
    for place in places {
        let of_block = match by_height.entry(place.height) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(unknown) => unknown.insert(store.receipts(place.height)?),
        };
        let lacks = || store.damaged(format!("block {} has fewer receipts than transactions", place.height));
        receipts.push(of_block.get(place.index).cloned().ok_or_else(lacks)?);
    }
    let object = block_object(store, &LedgerKeys::of(store)?, height)?;
    Ok(Sealed { height, hash: B256::new(object.hash().to_bytes()), transactions: hashes.to_vec(), receipts, object })
}

/// True if the ledger takes transactions of that account on top of the head.
fn knows(store: &Store, account: Address) -> Result<bool, HomeError> {
    let asked = is_enrolled(store.genesis(), store.head().header(), store, &account);
    asked.map_err(|error: CallError<StoreError>| HomeError::of_handovers(store, error))
}
