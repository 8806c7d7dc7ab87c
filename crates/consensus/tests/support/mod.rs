//! A small ledger for the engine to order: headers without transactions, kept in memory that outlives a node.
#![allow(dead_code, unreachable_pub, reason = "each test binary is a crate of its own and uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alloy_consensus::{BlockBody, Header};
use alloy_primitives::B256;
use blockhouse_consensus::{Application, Base, Dealt, Keys, Kind, Network, Standing, Stop, deal};
use blockhouse_ledger::{Block, BlockPlace, Certificate, block_hash};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

pub const CHAIN: u64 = 0x1_0000_0007;

/// The seeds of this run: `BLOCKHOUSE_SEED` alone, or as many from the first on as `BLOCKHOUSE_SEEDS` says.
pub fn seeds(usual: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("BLOCKHOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("BLOCKHOUSE_SEEDS").unwrap_or(usual),
    }
}

pub fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A block without transactions.
pub fn block(parent: Option<&Header>, number: u64, mark: &[u8]) -> Block {
    let header = Header {
        number,
        parent_hash: parent.map_or(B256::ZERO, |parent| B256::new(block_hash(parent).to_bytes())),
        timestamp: parent.map_or(1, |parent| parent.timestamp + 1),
        extra_data: mark.to_vec().into(),
        ..Header::default()
    };
    Block::new(header, BlockBody { transactions: Vec::new(), ommers: Vec::new(), withdrawals: Some(Vec::new().into()) })
}

/// The block that all networks of the tests begin above.
pub fn base_block() -> Block {
    block(None, 7, b"base")
}

pub fn base() -> Base {
    Base { height: 7, hash: block_hash(&base_block().header) }
}

pub fn identities(seed: u64, count: usize) -> Vec<Keys> {
    let mut rng = rng(seed);
    let mut keys: Vec<Keys> = (0..count).map(|_| Keys::generate(&mut rng)).collect();
    keys.sort_by_key(Keys::public);
    keys
}

pub fn committee(seed: u64, count: usize) -> Dealt {
    let keys = identities(seed, count);
    let validators: Vec<[u8; 32]> = keys.iter().map(Keys::public).collect();
    Dealt { network: Network::try_new(CHAIN, 0, base(), &validators, Kind::Committee).unwrap(), keys }
}

pub fn threshold(seed: u64, count: usize) -> Dealt {
    deal(&mut rng(seed), CHAIN, 0, base(), identities(seed, count)).unwrap()
}

/// Which hash each height has, over all nodes: the test's own judge of forks.
pub type Judge = Arc<Mutex<BTreeMap<u64, B256>>>;

/// A block with its certificate; the base has none.
type Kept = (Arc<Block>, Option<Certificate>);

/// The ledger of one node. Clones share it: it is what survives the node.
#[derive(Clone)]
pub struct Ledger {
    key: [u8; 32],
    mark: u8,
    blocks: Arc<Mutex<Vec<Kept>>>,
    judge: Judge,
    work: Option<Arc<Work>>,
    /// The last block of the epoch.
    last: Option<u64>,
    /// How many of the blocks are durable.
    synced: Arc<AtomicUsize>,
    /// Whether its disk works.
    disk: watch::Sender<bool>,
}

/// Whether there is something to record.
pub struct Work {
    pub wanted: watch::Sender<u64>,
}

impl Work {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { wanted: watch::Sender::new(0) })
    }
}

impl Ledger {
    pub fn new(network: &Network, mark: u8, judge: &Judge) -> Self {
        let blocks = Arc::new(Mutex::new(vec![(Arc::new(base_block()), None)]));
        let (synced, disk) = (Arc::default(), watch::Sender::new(true));
        Self { key: network.key(), mark, blocks, judge: Arc::clone(judge), work: None, last: None, synced, disk }
    }

    /// Makes blocks only up to the height that is wanted.
    pub fn with_work(mut self, work: &Arc<Work>) -> Self {
        self.work = Some(Arc::clone(work));
        self
    }

    /// The epoch ends with the block of that height.
    pub fn ending_at(mut self, last: u64) -> Self {
        self.last = Some(last);
        self
    }

    /// The same blocks in the next epoch, which has no end.
    pub fn in_epoch_of(mut self, network: &Network) -> Self {
        self.key = network.key();
        self.last = None;
        self
    }

    pub fn height(&self) -> u64 {
        self.standing().height
    }

    pub fn hashes(&self) -> Vec<B256> {
        self.blocks.lock().unwrap().iter().map(|(block, _)| B256::new(block_hash(&block.header).to_bytes())).collect()
    }

    pub fn certificates(&self) -> Vec<Certificate> {
        self.blocks.lock().unwrap().iter().filter_map(|(_, certificate)| certificate.clone()).collect()
    }

    /// The hash of the last block.
    pub fn standing_hash(&self) -> blockhouse_types::BlockHash {
        self.standing().hash
    }

    /// Another ledger with the same blocks.
    pub fn copy(&self) -> Self {
        let blocks = Arc::new(Mutex::new(self.blocks.lock().unwrap().clone()));
        Self { blocks, ..self.clone() }
    }

    /// Forgets the newest blocks, as a restored backup would.
    pub fn lose(&self, count: usize) {
        let mut blocks = self.blocks.lock().unwrap();
        let keep = blocks.len().saturating_sub(count).max(1);
        blocks.truncate(keep);
    }

    /// Forgets what is not durable, as a kill does; returns how many blocks those were.
    pub fn crash(&self) -> usize {
        let mut blocks = self.blocks.lock().unwrap();
        let (before, synced) = (blocks.len(), self.synced.load(Ordering::Relaxed).max(1));
        blocks.truncate(synced);
        before - synced
    }

    /// From now on its disk works, or makes whoever syncs wait.
    pub fn set_disk(&self, works: bool) {
        self.disk.send_replace(works);
    }

    fn parent(&self, pending: &[Arc<Block>]) -> Header {
        let blocks = self.blocks.lock().unwrap();
        let last = &blocks.last().unwrap().0.header;
        let mut newest = last.clone();
        for block in pending.iter().filter(|block| block.header.number > last.number) {
            assert_eq!(block.header.number, newest.number + 1, "pending blocks have a gap");
            assert_eq!(block.header.parent_hash.0, block_hash(&newest).to_bytes(), "pending blocks do not link");
            newest = block.header.clone();
        }
        newest
    }
}

impl Application for Ledger {
    async fn propose(&self, pending: Vec<Arc<Block>>) -> Option<Block> {
        let parent = self.parent(&pending);
        if self.last.is_some_and(|last| parent.number >= last) {
            return None;
        }
        if let Some(work) = &self.work {
            let mut wanted = work.wanted.subscribe();
            wanted.wait_for(|wanted| *wanted > parent.number).await.ok()?;
        }
        Some(block(Some(&parent), parent.number + 1, &[self.mark]))
    }

    async fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> bool {
        let parent = self.parent(&pending);
        if self.last.is_some_and(|last| block.header.number > last) {
            return false;
        }
        block.header.number <= parent.number || block.header.timestamp == parent.timestamp + 1
    }

    async fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> Result<(), Stop> {
        let hash = block_hash(&block.header);
        let place = BlockPlace { chain_id: CHAIN, height: block.header.number, hash };
        certificate.verify(&self.key, &place).map_err(|error| Stop { reason: error.to_string() })?;
        let certificate =
            Certificate::decode(&certificate.encode()).map_err(|error| Stop { reason: error.to_string() })?;
        let mut blocks = self.blocks.lock().unwrap();
        let last = &blocks.last().unwrap().0.header;
        assert_eq!(block.header.number, last.number + 1, "blocks are not delivered in order");
        assert_eq!(
            block.header.parent_hash.0,
            block_hash(last).to_bytes(),
            "a block is not delivered above its parent"
        );
        let first = *self.judge.lock().unwrap().entry(place.height).or_insert(B256::new(hash.to_bytes()));
        assert_eq!(first.0, hash.to_bytes(), "two blocks are final at height {}", place.height);
        blocks.push((block, Some(certificate)));
        Ok(())
    }

    async fn sync(&self) -> Result<(), Stop> {
        let recorded = self.blocks.lock().unwrap().len();
        self.disk.subscribe().wait_for(|works| *works).await.map_err(|error| Stop { reason: error.to_string() })?;
        self.synced.store(recorded, Ordering::Relaxed);
        Ok(())
    }

    fn last_block(&self) -> Option<u64> {
        self.last
    }

    fn standing(&self) -> Standing {
        let blocks = self.blocks.lock().unwrap();
        let header = &blocks.last().unwrap().0.header;
        Standing { height: header.number, hash: block_hash(header) }
    }

    fn block(&self, height: u64) -> Option<Arc<Block>> {
        let blocks = self.blocks.lock().unwrap();
        blocks.get(usize::try_from(height.checked_sub(7)?).ok()?).map(|(block, _)| Arc::clone(block))
    }

    fn certificate(&self, height: u64) -> Option<Certificate> {
        let blocks = self.blocks.lock().unwrap();
        blocks.get(usize::try_from(height.checked_sub(7)?).ok()?).and_then(|(_, certificate)| certificate.clone())
    }
}
