//! The simulated network: how a validator is made, and when a run has gone far enough.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blockhouse_consensus::wiring::{Channels, Member, run};
use blockhouse_consensus::{Keys, Scheme, tuning};
use blockhouse_homes::network::{Founded, Founding, Governed, Signing};
use blockhouse_ledger::governance::Founder;
use blockhouse_ledger::validators::tenures;
use commonware_actor::Feedback;
use commonware_codec::{Copying, DecodeExt};
use commonware_consensus::simplex::scheme::ed25519;
use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::engine::{EngineDefinition, InitContext};
use commonware_glue::simulate::exit::ExitCondition;
use commonware_glue::simulate::plan::PlanBuilder;
use commonware_glue::simulate::processed::ProcessedHeight;
use commonware_glue::simulate::tracker::ProgressTracker;
use commonware_p2p::simulated::{Control, Manager};
use commonware_p2p::{BlockedSubscription, Blocker, PeerSetSubscription, Provider, TrackedPeers, max_message_size};
use commonware_runtime::{Handle, Quota, Spawner, Supervisor, deterministic};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::liar::{Liar, Lie};
use crate::load::{Load, owner, writer};
use crate::seat::{Judge, Seat};

/// When a run begins, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;
/// Simulated time after which a run is stuck.
const STUCK: Duration = Duration::from_mins(10);
/// Who lies, if anyone does.
const LIAR: usize = 3;
/// Blocks in an epoch, where validators change: the fewest that there may be.
const EPOCH_LENGTH: u64 = 16;
/// By how much the clock of a node may be wrong, in milliseconds: less than what honest nodes wait out.
const SKEW: i64 = 200;

/// Runs a test for each of its seeds; a failure prints how to run it again. `BLOCKHOUSE_SEED` says the first one,
/// `BLOCKHOUSE_SEEDS` how many.
pub(crate) fn each_seed(test: &str, usual: u64, run: impl Fn(u64) -> Result<String, String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("BLOCKHOUSE_SEED");
    let count = number("BLOCKHOUSE_SEEDS").unwrap_or(if first.is_some() { 1 } else { usual });
    let first = first.unwrap_or(1);
    for seed in first..first.saturating_add(count) {
        println!(
            "replay with BLOCKHOUSE_SEED={seed} cargo test --profile ci --workspace --test simulation -- --exact {test}"
        );
        run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// The engines of two tenures never meet: each has channels of its own, as at real nodes each has connections of its own.
const TENURES: u64 = 2;

/// Validators, maybe a node that is to become one, and what survives them.
#[derive(Clone)]
pub(crate) struct World {
    seed: u64,
    founded: Arc<Founded>,
    seats: Vec<Seat>,
    load: Arc<Load>,
    liar: Option<Lie>,
    /// Whether the last node comes in the place of the one before it.
    changes: bool,
    /// How many lies were told: a run without any shows nothing.
    told: Arc<AtomicU64>,
    /// Removed with the last of the world.
    _folder: Arc<TempDir>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, 4)
    }

    /// Four validators, and a fifth node that comes in the place of the fourth once the governors say so.
    pub(crate) fn changing(seed: u64) -> Self {
        Self::of(seed, 5)
    }

    fn of(seed: u64, nodes: u8) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut validators: Vec<Keys> = (0..nodes).map(|_| Keys::generate(&mut random)).collect();
        validators.sort_by_key(Keys::public);
        let newcomers = validators.split_off(4);
        let governed = Governed::by_operators(EPOCH_LENGTH, founders(&validators)).filter(|_| nodes > 4);
        let founding =
            Founding { owner: owner().account(), time: START, signing: Signing::Committee, validators, governed };
        let mut founded = founding.found(&mut random).unwrap();
        founded.keys.extend(newcomers);
        let file = Arc::new(founded.file.clone());
        let folder = Arc::new(folder());
        let judge = Judge::default();
        let seat = |index: usize| {
            let path = folder.path().join(format!("node-{index}"));
            Seat::new(&path, &file, &judge, random.random_range(-SKEW..=SKEW))
        };
        let seats = (0..usize::from(nodes)).map(seat).collect();
        let change = founded.keys.get(4).map(|newcomer| (founded.keys[3].public(), newcomer.public()));
        let load = Arc::new(Load::new(&file.genesis, nodes, change));
        let (founded, changes) = (Arc::new(founded), change.is_some());
        Self { seed, founded, seats, load, liar: None, changes, told: Arc::default(), _folder: folder }
    }

    pub(crate) fn with_liar(mut self, lie: Lie) -> Self {
        self.liar = Some(lie);
        self
    }

    pub(crate) fn public(&self, index: usize) -> PublicKey {
        PublicKey::decode(Copying(&self.founded.keys[index].public())).unwrap()
    }

    /// Runs until that many nodes recorded that many blocks; returns what the run came to.
    pub(crate) fn run(
        self,
        blocks: u64,
        nodes: usize,
        plan: impl FnOnce(PlanBuilder<Self>) -> PlanBuilder<Self>,
    ) -> Result<String, String> {
        let (seed, seats, load) = (self.seed, self.seats.clone(), Arc::clone(&self.load));
        let (liar, changes, told) = (self.liar, self.changes, Arc::clone(&self.told));
        let builder = PlanBuilder::new(self).seed(seed).timeout(STUCK).exit_condition(Recorded { blocks, nodes });
        let result = plan(builder).run()?;
        // A run that recorded heartbeats alone would show nothing of the ledger.
        let best = seats.iter().filter_map(Seat::chain).max_by_key(|chain| chain.head().height());
        let best = best.ok_or("no node lives")?;
        let recorded = load.recorded(&best.head());
        if recorded < blocks {
            return Err(format!("only {recorded} transactions in {} blocks", best.head().height()));
        }
        let store = best.head();
        let tenures = tenures(store.genesis(), store.head().header(), &store, store.height()).unwrap();
        if tenures.len() != usize::from(changes) {
            return Err(format!("{} tenures followed, up to block {}", tenures.len(), store.height()));
        }
        if let (Some(lie), 0) = (liar, told.load(Ordering::Relaxed)) {
            return Err(format!("{lie:?} was never told"));
        }
        Ok(result.first().map(|result| format!("{} {recorded}", result.state)).unwrap_or_default())
    }
}

/// What the ledger says of the first validators.
fn founders(validators: &[Keys]) -> Vec<Founder> {
    let founder = |(place, keys): (u8, &Keys)| Founder {
        key: keys.public(),
        address: format!("h{place}:1"),
        operator: writer(place).account(),
    };
    (0..).zip(validators).map(founder).collect()
}

/// On a file system in memory, where there is one: what a disk loses is not simulated for the ledger's own file.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl EngineDefinition for World {
    type PublicKey = PublicKey;
    type Engine = Handle<()>;
    type State = State;

    fn participants(&self) -> Vec<PublicKey> {
        (0..self.seats.len()).map(|index| self.public(index)).collect()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        let quotas = [tuning::VOTES, tuning::CERTIFICATES, tuning::RESOLVER, tuning::BACKFILL, tuning::BLOCKS];
        (0..).zip(quotas.repeat(usize::try_from(TENURES).unwrap())).collect()
    }

    fn max_message_size(&self) -> u32 {
        max_message_size(&[tuning::BLOCK_MAX + 4096])
    }

    async fn init(&self, context: InitContext<'_, PublicKey>) -> (Handle<()>, State) {
        let InitContext { context, index, public_key, oracle, channels, .. } = context;
        let mut channels = channels.into_iter();
        let mut next = || channels.next().unwrap();
        let mut channels =
            || Channels { votes: next(), certificates: next(), resolver: next(), backfill: next(), blocks: next() };
        let (first, second) = (channels(), channels());
        let keys: Keys = self.founded.keys[index].clone();
        let network = self.founded.file.network.clone();
        if let (Some(kind), LIAR) = (self.liar, index) {
            let liar = Liar {
                lie: kind,
                scheme: <ed25519::Scheme as Scheme>::of(&network, &keys, true).unwrap(),
                base: network.base().height,
                seats: self.seats.clone(),
                told: Arc::clone(&self.told),
            };
            let handle = context.child("liar").spawn(move |context| liar.live(context, first));
            return (handle, State(None));
        }
        let peers = Peers { manager: oracle.manager(), control: oracle.control(public_key.clone()) };
        let (seat, load) = (self.seats[index].clone(), Arc::clone(&self.load));
        let state = State(Some(seat.clone()));
        let life = seat.open(&context).await;
        let others: Vec<Seat> =
            self.seats.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, it)| it.clone()).collect();
        let (base, changes) = (network.epoch(), self.changes);
        let handle = context.child("node").spawn(move |context| async move {
            let life = Arc::new(life);
            let (presses, follows) = (Arc::clone(&life), Arc::clone(&life));
            let clients = context.child("clients").spawn(move |context| async move {
                load.press(&context, index, &presses.chain, &presses.waiting).await;
            });
            let follower = context.child("follower").spawn(move |context| async move {
                if changes {
                    follows.follow(&context, &others).await;
                }
            });
            let mut channels = [Some(first), Some(second)];
            loop {
                let (network, ordered) = life.take_part();
                let (follows, prefix) = (network.epoch() != base, format!("node-{index}-{}-", network.epoch()));
                let channels = channels[usize::from(follows)].take().unwrap();
                let name = if follows { "second" } else { "first" };
                let member = Member::new(network, keys.clone(), ordered, &prefix);
                let run = run::<ed25519::Scheme, _, _, _, _>(context.child(name), member, peers.clone(), channels);
                let over = async {
                    if changes {
                        life.run_out(&context).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                // In this order: a run is the seed's alone.
                tokio::select! {
                    biased;
                    ended = Box::pin(run) => {
                        println!("node {index} ended: {ended:?}");
                        break;
                    }
                    () = over => {}
                }
            }
            drop((clients, follower));
        });
        (handle, state)
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

/// What the harness sees of a node: its ledger; nothing of a liar.
pub(crate) struct State(Option<Seat>);

impl ProcessedHeight for State {
    async fn processed_height(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, Seat::height)
    }
}

/// Enough nodes have recorded enough blocks.
#[derive(Clone)]
struct Recorded {
    blocks: u64,
    nodes: usize,
}

impl ExitCondition<PublicKey, State> for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn requires_polling(&self) -> bool {
        true
    }

    fn reached<'a>(
        &'a self,
        _: &'a ProgressTracker<PublicKey>,
        states: &'a [&'a State],
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + 'a>> {
        let done = |state: &&&State| state.0.as_ref().is_none_or(|seat| seat.height() >= self.blocks);
        let reached = states.iter().filter(done).count() >= self.nodes;
        Box::pin(async move { Ok(reached) })
    }
}

/// The simulated network's two halves as the engine wants them: in one.
#[derive(Clone)]
struct Peers {
    manager: Manager<PublicKey, deterministic::Context>,
    control: Control<PublicKey, deterministic::Context>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Provider for Peers {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<PublicKey>> {
        self.manager.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        self.manager.subscribe().await
    }
}

impl Blocker for Peers {
    type PublicKey = PublicKey;

    fn block(&mut self, peer: PublicKey) -> Feedback {
        self.control.block(peer)
    }

    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        self.control.blocked()
    }
}
