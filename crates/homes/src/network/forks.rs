//! The eye of a node on forks: it compares its chain with those that other nodes serve, keeps evidence, tells it on the ledger, and then votes no more.
//!
//! Two certified blocks of one height can be made only by those who hold the keys of more than f validators. Nothing that the others agree on with them is
//! final for everybody any more, so a validator that knows of it gives no vote: not by its own chain's fault, but so that no second
//! chain has its word. Its last votes bring its report onto the ledger.
//!
//! - **Owns** when other nodes are asked, what is said on the ledger, and when this node falls silent.
//! - **Does not** choose a chain, nor take blocks: what is final here stays. What comes of a fork is for people to say.
//!
//! # Invariants
//! - **S1** No peer's word raises an alarm: only evidence whose check succeeded. It is durable before anybody is told.
//! - **S2** A fork is told once, by who met it; whoever reads it on the ledger checks it, keeps it too, and does not tell it again.
//! - **S3** Only a fork by the key that is in force silences: who stole the keys of validators that are none any more stops nobody. Of a network that takes a
//!   ledger over that is its own key from the start: a fork by those before, for which it may have been founded, does not keep it from beginning. Where one
//!   key is handed on it is in force for ever, so a quorum of shares of any polynomial of it stops the network.
//!
//! Format: `docs/design/forks.md`.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256, Log};
use alloy_sol_types::SolEvent as _;
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::contracts::{Alarms, Validators};
use blockhouse_ledger::fork::{ForkEvidence, ForkSide, ProvedFork};
use blockhouse_ledger::validators::government;
use tokio::sync::{mpsc, watch};

use super::chain::Chain;
use super::network_file::NetworkFile;
use super::node::News;
use super::outdone::{last_common, theirs};
use super::recorded::Recorded;
use super::signs::Signs;
use super::speaker::{SpeakError, Speaker, ask, module};
use crate::embedded::{HomeError, LedgerKeys};
use crate::forks::{ForkFolder, KeptFork, evidence_between, evidence_of};
use crate::remote::{NodeUrl, Remote};
use crate::rpc::ForkStatus;
use crate::store::{EventKey, EventPlace, Order, Sought, Store, StoreError, Wanted};

/// How often other nodes are asked, and the ledger is looked at for what others tell.
const LOOK: Duration = Duration::from_secs(5);
/// How long a validator votes on so that its report gets onto the ledger.
const LAST_WORD: Duration = Duration::from_mins(1);
/// What a report costs beside its bytes, doubled.
const GAS: u64 = 300_000;
/// What a byte of it costs: as data of the transaction, and of the event.
const GAS_BYTE: u64 = 30;
/// The longest evidence of one block that the contract takes.
const SIDE_MAX: usize = 16 * 1024;
/// The word of a fork where there is no contract that takes evidence.
const WORD: &str = "fork";
/// How many look-ups of the index one search may take.
const WORK: u64 = 4096;

/// What a node knows of forks.
#[derive(Debug)]
pub(super) struct Eye {
    folder: ForkFolder,
    /// Of a network that takes a ledger over: the last block of those before, and its own key.
    opening: Option<(u64, [u8; 32])>,
    /// Rises with each fork that is found.
    found: watch::Sender<u64>,
    known: Mutex<Vec<KeptFork>>,
    untold: AtomicU64,
    /// What only looks like one.
    signs: Signs,
}

impl Eye {
    /// Of a node of that network, with what it saw before.
    pub(super) fn open(folder: ForkFolder, file: &NetworkFile) -> Result<Self, HomeError> {
        let (found, known, signs) = (watch::Sender::new(0), Mutex::default(), Signs::default());
        let opening = file.handover.as_ref().map(|_| (file.network.base().height, file.network.key()));
        let eye = Self { folder, opening, found, known, untold: AtomicU64::new(0), signs };
        eye.read()?;
        Ok(eye)
    }

    fn read(&self) -> Result<(), HomeError> {
        let known = self.folder.all()?;
        let untold = known.iter().filter(|kept| !kept.is_told()).count();
        self.untold.store(untold as u64, Ordering::Relaxed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn known(&self) -> Vec<KeptFork> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at a block that came beside the own one of its height: true if it is a fork that was not known.
    pub(super) fn see(&self, store: &Store, theirs: &BlockObject) -> Result<bool, HomeError> {
        match evidence_of(store, theirs)? {
            Some((evidence, proved)) => self.keep(&evidence, &proved).map(|(_, is_new)| is_new),
            None => Ok(false),
        }
    }

    /// Keeps evidence that was checked; gives its file, and whether it was not known.
    pub(super) fn keep(
        &self,
        evidence: &ForkEvidence,
        proved: &ProvedFork,
    ) -> Result<(std::path::PathBuf, bool), HomeError> {
        let kept = self.folder.keep(evidence, proved)?;
        if kept.1 {
            self.read()?;
            self.found.send_modify(|count| *count += 1);
        }
        Ok(kept)
    }

    /// Keeps what the ledger tells. That is noted before anybody hears of it: who tells forks must not tell it again (S2).
    fn keep_told(&self, evidence: ForkEvidence, proved: ProvedFork) -> Result<(), HomeError> {
        let (path, is_new) = self.folder.keep(&evidence, &proved)?;
        let kept = KeptFork { path, evidence, proved };
        let is_noted = kept.path.exists() && !kept.is_told();
        if is_noted {
            self.folder.note_told(&kept);
        }
        if is_new || is_noted {
            self.read()?;
        }
        if is_new {
            self.found.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Why this node gives no vote: a fork by the key that is in force, which its operator has not called settled.
    pub(super) fn silences(&self, store: &Store) -> Option<String> {
        let mut open = self.known();
        open.retain(|kept| !kept.is_settled());
        if open.is_empty() {
            return None;
        }
        let in_force = self.in_force(store).ok()?;
        let open = open.iter().find(|kept| kept.proved.key == in_force)?;
        Some(format!(
            "the ledger is forked at block {}: {} and {} are both certified; the evidence is {}",
            open.proved.height,
            open.proved.blocks[0],
            open.proved.blocks[1],
            open.path.display()
        ))
    }

    /// The key by which this node's network votes above the head (S3). Until its handover is final the state names the key of those before.
    fn in_force(&self, store: &Store) -> Result<[u8; 32], HomeError> {
        match self.opening.filter(|(base, _)| store.height() <= *base) {
            Some((_, own)) => Ok(own),
            None => Ok(LedgerKeys::of(store)?.in_force()),
        }
    }

    /// For who asks the node for its status.
    pub(super) fn status(&self, store: &Store) -> ForkStatus {
        let (known, untold) = (self.known(), self.untold.load(Ordering::Relaxed));
        let unsettled = known.iter().filter(|kept| !kept.is_settled()).count() as u64;
        let (signs, first_signs) = self.signs.told();
        ForkStatus { known: known.len() as u64, unsettled, untold, silent: self.silences(store), signs, first_signs }
    }

    fn told(&self, kept: &KeptFork) {
        self.folder.note_told(kept);
        // What cannot be read now is read at the next start.
        let _ = self.read();
    }
}

/// Who looks.
pub(super) struct Lookout {
    pub(super) eye: Arc<Eye>,
    pub(super) chain: Arc<Chain>,
    pub(super) peers: Option<Remote>,
    /// The next place on the ledger where others may tell of a fork.
    pub(super) place: EventPlace,
    /// From where on its blocks are here: a store that began by a state gets those below later.
    pub(super) bottom: u64,
    /// Whom signs without proof are told.
    pub(super) news: mpsc::Sender<News>,
}

impl Lookout {
    /// Looks until it is dropped. A store that fails is found, and healed, by others.
    pub(super) async fn run(mut self) {
        loop {
            // A search may take a while: the other tasks go to another thread meanwhile.
            let signs = tokio::task::block_in_place(|| {
                let _ = self.read_ledger();
                self.eye.signs.look(&self.chain.head()).unwrap_or_default()
            });
            for sign in signs {
                // Who is told went away only with the node.
                let _ = self.news.send(News::Sign(Box::new(sign))).await;
            }
            let nodes = self.peers.iter().flat_map(Remote::nodes);
            let looks = nodes.map(|node| tokio::time::timeout(LAST_WORD, self.compare(node)));
            let _ = futures::future::join_all(looks).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Compares the chains, and looks at the first block in which they differ.
    async fn compare(&self, node: &NodeUrl) -> Result<(), HomeError> {
        let Some(peers) = &self.peers else { return Ok(()) };
        let store = self.chain.head();
        let Ok(height) = peers.height(node).await else { return Ok(()) };
        let top = store.height().min(height);
        let Ok(Some(other)) = theirs(peers, node, top).await else { return Ok(()) };
        if store.hash_at(top)? == Some(other) {
            return Ok(());
        }
        let Ok(Some(common)) = last_common(&store, (peers, node), top).await? else { return Ok(()) };
        let Ok(objects) = peers.blocks(node, common + 1, 1).await else { return Ok(()) };
        if let Some(object) = objects.into_iter().next() {
            tokio::task::block_in_place(|| self.eye.see(&store, &object))?;
        }
        Ok(())
    }

    /// Checks what others tell on the ledger (S2).
    fn read_ledger(&mut self) -> Result<(), HomeError> {
        let store = self.chain.head();
        if store.bottom() < self.bottom {
            (self.bottom, self.place) = (store.bottom(), EventPlace::first_of(store.bottom()));
        }
        let Some(contract) = contract(&store) else { return Ok(()) };
        let wanted = Wanted::new([
            [EventKey::Emitter(contract)],
            [EventKey::Signature(Validators::ForkReported::SIGNATURE_HASH)],
        ]);
        let (mut work, mut recorded) = (WORK, Recorded::of(&store));
        while work > 0 {
            match store.seek_event(&wanted, (self.place, Order::Oldest), &mut work)? {
                Sought::At(found) => {
                    if let Some(log) = recorded.at(found, contract)? {
                        self.read_report(&store, log)?;
                    }
                    self.place = found.next(Order::Oldest).unwrap_or(found);
                }
                Sought::Spent(next) => self.place = next,
                Sought::Nowhere => {
                    self.place = self.place.max(EventPlace::first_of(store.indexed_events()));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_report(&self, store: &Store, log: &Log) -> Result<(), HomeError> {
        let Ok(report) = Validators::ForkReported::decode_log(log) else { return Ok(()) };
        let sides = [&report.evidenceA, &report.evidenceB].map(|side| ForkSide::decode(side));
        let [Ok(one), Ok(other)] = sides else { return Ok(()) };
        let proved = evidence_between(store, [one, other])?;
        proved.map_or(Ok(()), |(evidence, proved)| self.eye.keep_told(evidence, proved))
    }
}

/// Tells what is known and not told: first whoever runs the node, then the ledger. A node that votes then is sent to where it gives no vote. Ends with
/// the node.
pub(super) async fn tell(
    eye: Arc<Eye>,
    mut speaker: Speaker,
    votes: impl Fn() -> bool + Send,
    news: mpsc::Sender<News>,
) {
    let (mut found, mut shown) = (eye.found.subscribe(), Vec::new());
    loop {
        found.mark_unchanged();
        let last_word = tokio::time::Instant::now() + LAST_WORD;
        for kept in eye.known() {
            if !shown.contains(&kept.path) {
                shown.push(kept.path.clone());
                // Who is told went away only with the node.
                if news.send(News::Fork(Box::new(kept.clone()))).await.is_err() {
                    return;
                }
            }
            // What the ledger does not take now is said again, later or after the next start.
            if !kept.is_told() {
                let _ = tokio::time::timeout_at(last_word, say(&eye, &mut speaker, &kept)).await;
            }
        }
        if votes() && eye.silences(&speaker.head()).is_some() {
            let _ = news.send(News::Silenced).await;
        }
        let _ = tokio::time::timeout(LAST_WORD, found.changed()).await;
    }
}

/// Tells one, and waits until the ledger has it; nothing where it takes none from this node, or where the same waits already.
async fn say(eye: &Eye, speaker: &mut Speaker, kept: &KeptFork) -> Result<(), SpeakError> {
    let store = speaker.head();
    let [one, other] = kept.evidence.sides();
    let (a, b) = (one.encode(), other.encode());
    let signers: Vec<B256> = kept.proved.signers().into_iter().map(B256::new).collect();
    if let Some(contract) = contract(&store).filter(|_| a.len().max(b.len()) <= SIDE_MAX) {
        let gas = GAS + GAS_BYTE * (a.len() + b.len() + 32 * signers.len()) as u64;
        let call = Validators::reportForkCall { evidenceA: a.into(), evidenceB: b.into(), signers };
        if speaker.waits(contract, &call) {
            return Ok(());
        }
        speaker.say(contract, &call, gas).await?;
    } else {
        let Some(alarms) = module(&store, "alarms") else { return Ok(()) };
        let node = ask(&store, alarms, &Alarms::nodeOfCall { account: speaker.account() });
        if node.is_none_or(|node| node.is_zero()) {
            return Ok(());
        }
        let height = kept.proved.height.min(store.height());
        let call = Alarms::reportTamperCall {
            height,
            blockHash: foreign(&store, &kept.proved)?,
            what: B256::right_padding_from(WORD.as_bytes()),
        };
        if speaker.waits(alarms, &call) {
            return Ok(());
        }
        speaker.say(alarms, &call, GAS).await?;
    }
    eye.told(kept);
    Ok(())
}

/// The hash of the block that is not this ledger's.
fn foreign(store: &Store, proved: &ProvedFork) -> Result<B256, StoreError> {
    let own = store.hash_at(proved.height)?;
    let mut hashes = proved.blocks.iter().map(|block| B256::new(block.to_bytes()));
    Ok(hashes.find(|hash| Some(*hash) != own).unwrap_or_default())
}

/// The contract that takes evidence, if there is one: that which governs the ledger, or the module of its vault.
fn contract(store: &Store) -> Option<Address> {
    let governed = government(store.genesis(), store.head().header(), store).ok().flatten();
    governed.map(|governed| governed.contract).or_else(|| module(store, "validators"))
}
