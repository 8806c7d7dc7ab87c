//! What survives a simulated node: its folder; and the node that is made of it, as often as it is killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blockhouse_consensus::{Application, Keys, Network, Standing, Stop};
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::pool::journal::Journal;
use blockhouse_homes::network::{Chain, Clock, NetworkFile, NodeFolder, Orderer, Waiting, network_above, write_secret};
use blockhouse_homes::store::{Access, Store, StoreError};
use blockhouse_ledger::resharing::Outcome;
use blockhouse_ledger::{Block, BlockObject, BlockPlace, Certificate, block_hash};
use commonware_runtime::{Clock as _, Supervisor as _, deterministic};
use futures::future::BoxFuture;

use crate::goal::elapsed;
use crate::storm::Disk;
use crate::witness::{Event, Witness};
use crate::world::Weather;

/// How long the executor has to drop what a kill left running.
const RELEASE: Duration = Duration::from_millis(1);

/// How often a node looks whether its tenure is over.
const LOOK: Duration = Duration::from_millis(20);
/// How long its engine goes on after that, and how long a head stands still before others are asked: as at a real node.
const HANDING_OVER: Duration = Duration::from_secs(2);
const STILL: Duration = Duration::from_secs(3);

/// Where a node keeps its ledger over all its lives, and what the test watches of it.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    folder: PathBuf,
    file: Arc<NetworkFile>,
    pub(crate) witness: Witness,
    height: Arc<AtomicU64>,
    /// The block above which the tenure began that it takes part in.
    base: Arc<AtomicU64>,
    /// By how much its clock is wrong, in milliseconds.
    skew: i64,
    /// The account by which it speaks.
    account: AccountSecret,
    /// The ledger of its present life, for a liar who knows everything.
    chain: Arc<Mutex<Option<Arc<Chain>>>>,
}

impl Seat {
    /// A folder with nothing but block 0.
    pub(crate) fn new(
        folder: &Path,
        (file, keys): (&Arc<NetworkFile>, &Keys),
        witness: &Witness,
        (skew, account): (i64, AccountSecret),
    ) -> Self {
        std::fs::create_dir(folder).unwrap();
        write_secret(&folder.join("node.key"), &keys.encode()).unwrap();
        let genesis = &file.genesis;
        let certificate = Certificate::Genesis { key: genesis.ledger_key };
        Store::create(&folder.join("ledger.redb"), genesis, &certificate).unwrap();
        let (witness, height, base, chain) = (witness.clone(), Arc::default(), Arc::default(), Arc::default());
        Self { folder: folder.to_owned(), file: Arc::clone(file), witness, height, base, skew, account, chain }
    }

    /// Where its keys are, and what all nodes were given.
    pub(crate) fn of(&self) -> (NodeFolder, Arc<NetworkFile>) {
        (NodeFolder::new(&self.folder), Arc::clone(&self.file))
    }

    pub(crate) fn account(&self) -> AccountSecret {
        self.account.clone()
    }

    /// Its keys, with its share of that network's key if it has one.
    pub(crate) fn keys(&self, network: &Network) -> Keys {
        NodeFolder::new(&self.folder).keys_for(network).unwrap()
    }

    /// True once it has so many blocks of another tenure than the first.
    pub(crate) fn has_followed(&self, blocks: u64) -> bool {
        let base = self.base.load(Ordering::Relaxed);
        base > self.file.network.base().height && self.height() >= base + blocks
    }

    pub(crate) fn height(&self) -> u64 {
        self.height.load(Ordering::Relaxed)
    }

    /// The ledger of its present life, if it lives.
    pub(crate) fn chain(&self) -> Option<Arc<Chain>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ledger as the kill left it: closing the file would make durable what was not.
    async fn store(&self, context: &deterministic::Context) -> Store {
        let (path, killed) = (self.folder.join("ledger.redb"), self.folder.join("ledger.killed"));
        let before = self.chain.lock().unwrap_or_else(PoisonError::into_inner).take();
        if before.is_some() {
            std::fs::copy(&path, &killed).unwrap();
        }
        let recorded = before.map(|chain| chain.head().height());
        loop {
            match Store::open(&path, Access::Write, Duration::ZERO, None) {
                Ok(_) if killed.exists() => std::fs::rename(&killed, &path).unwrap(),
                Ok(store) => {
                    self.count(recorded, store.height());
                    return store;
                }
                // The life before it is killed, and not gone yet.
                Err(StoreError::Busy { .. }) => context.sleep(RELEASE).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A node came back, and has so many blocks of those that it had recorded.
    fn count(&self, recorded: Option<u64>, left: u64) {
        if let Some(recorded) = recorded {
            self.witness.count(Event::Return, 1);
            self.witness.count(Event::TakenBack, recorded.saturating_sub(left));
        }
    }

    fn watch(&self, chain: &Chain) {
        self.height.store(chain.head().height(), Ordering::Relaxed);
    }

    /// A life of the node.
    pub(crate) async fn open(&self, context: &deterministic::Context) -> Life {
        let store = self.store(context).await;
        let chain = Arc::new(Chain::open(store, self.file.network.key()).unwrap());
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::clone(&chain));
        let (journal, recovered) = Journal::open(&self.folder.join("pool")).unwrap();
        let waiting = Arc::new(Waiting::open(Arc::clone(&chain), journal, &recovered));
        let clock = SimulatedClock { context: context.child("clock"), skew: self.skew };
        let orderer = Arc::new(Orderer::new(Arc::clone(&chain), Arc::clone(&waiting), Arc::new(clock)));
        let life = Life { orderer, chain, waiting, to_post: Mutex::default(), seat: self.clone() };
        self.watch(&life.chain);
        life
    }
}

/// A node from its start to its end.
pub(crate) struct Life {
    pub(crate) orderer: Arc<Orderer>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) waiting: Arc<Waiting>,
    /// What came of a resharing, when it is this node's turn to post it, and for the set of which epoch.
    pub(crate) to_post: Mutex<Option<(u64, Outcome)>>,
    pub(crate) seat: Seat,
}

impl Life {
    /// Takes part in the tenure in which the ledger stands, as a node does: it may pass the end of one meanwhile.
    pub(crate) fn take_part(&self, context: &deterministic::Context, weather: &Weather) -> (Network, Arc<Ordered>) {
        let now = || network_above(&self.chain.head(), &self.seat.file).unwrap();
        loop {
            let network = now();
            self.chain.begin(&network);
            if now() == network {
                self.seat.base.store(network.base().height, Ordering::Relaxed);
                let (orderer, key) = (Arc::clone(&self.orderer), network.key());
                let (clock, weather) = (context.child("ledger"), weather.clone());
                return (network, Arc::new(Ordered { orderer, key, seat: self.seat.clone(), clock, weather }));
            }
        }
    }

    /// Waits until the tenure is over, and has been so long enough for the others to see it.
    pub(crate) async fn run_out(&self, context: &deterministic::Context) {
        while !self.chain.is_over() {
            context.sleep(LOOK).await;
        }
        context.sleep(HANDING_OVER).await;
    }

    /// Takes the blocks of nodes that live, as by JSON-RPC, whenever the head stands still: each is certified by the key in force there.
    pub(crate) async fn follow(&self, context: &deterministic::Context, others: &[Seat]) {
        let mut before = None;
        loop {
            context.sleep(STILL).await;
            let height = self.chain.head().height();
            if before.replace(height) != Some(height) {
                continue;
            }
            for store in others.iter().filter_map(Seat::chain).map(|chain| chain.head()) {
                for height in self.chain.head().height() + 1..=store.height() {
                    let (block, certificate) = (store.block(height).unwrap().block, store.certificate(height).unwrap());
                    let object =
                        BlockObject { chain_id: self.seat.file.genesis.chain_id, block, certificate, genesis: None };
                    // The engine may be faster; else it is certified, and the same everywhere.
                    if self.orderer.take(&object).is_ok() {
                        self.seat.witness.hear(height, object.hash());
                    }
                }
            }
            self.seat.watch(&self.chain);
        }
    }
}

/// The orderer of a node, with every final block shown to the judge.
pub(crate) struct Ordered {
    orderer: Arc<Orderer>,
    key: [u8; 32],
    seat: Seat,
    clock: deterministic::Context,
    weather: Weather,
}

impl Ordered {
    /// True while the disk under the ledger fails.
    fn fails(&self) -> bool {
        let now = elapsed(&self.clock);
        self.weather.failed(now).is_some_and(|failure| failure.disk == Disk::Ledger && now < failure.end)
    }
}

impl Application for Ordered {
    async fn propose(&self, pending: Vec<Arc<Block>>) -> Option<Block> {
        self.orderer.propose(pending).await
    }

    async fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> bool {
        self.orderer.verify(pending, block).await
    }

    async fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> Result<(), Stop> {
        let (height, hash) = (block.header.number, block_hash(&block.header));
        let chain_id = self.seat.file.genesis.chain_id;
        let witness = &self.seat.witness;
        let proven = certificate.verify(&self.key, &BlockPlace { chain_id, height, hash });
        witness.demand(proven.is_ok(), || format!("the certificate of block {height} does not hold: {proven:?}"));
        witness.hear(height, hash);
        let recorded = self.orderer.finalize(block, certificate).await;
        witness.demand(recorded.is_ok(), || format!("block {height} was not recorded: {recorded:?}"));
        let stored = self.orderer.block(height).map(|block| block_hash(&block.header));
        witness.demand(stored == Some(hash), || format!("block {height} is not what was final: {stored:?}"));
        self.seat.height.store(self.orderer.standing().height, Ordering::Relaxed);
        Ok(())
    }

    async fn sync(&self) -> Result<(), Stop> {
        if self.fails() {
            return Err(Stop { reason: "the disk under the ledger fails".to_owned() });
        }
        self.orderer.sync().await
    }

    fn standing(&self) -> Standing {
        self.orderer.standing()
    }

    fn block(&self, height: u64) -> Option<Arc<Block>> {
        self.orderer.block(height)
    }

    fn certificate(&self, height: u64) -> Option<Certificate> {
        self.orderer.certificate(height)
    }

    fn last_block(&self) -> Option<u64> {
        self.orderer.last_block()
    }
}

/// Simulated time, as a clock that is wrong by a little reads it.
struct SimulatedClock {
    context: deterministic::Context,
    skew: i64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> u64 {
        now(&self.context).saturating_add_signed(self.skew)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.context.sleep(time))
    }
}

/// Milliseconds: a run begins at [`crate::world::START`].
pub(crate) fn now(context: &deterministic::Context) -> u64 {
    crate::world::START * 1000 + u64::try_from(elapsed(context).as_millis()).unwrap_or(u64::MAX)
}
