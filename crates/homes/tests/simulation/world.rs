//! The simulated network: how a validator is made, and when a run has gone far enough.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blockhouse_consensus::wiring::{Channels, Member, run};
use blockhouse_consensus::{Keys, Scheme, tuning};
use blockhouse_homes::Store;
use blockhouse_homes::network::{Founded, Founding, Governed, Signing, network_above};
use blockhouse_ledger::governance::Founder;
use blockhouse_ledger::validators::{Tenure, tenures};
use commonware_actor::Feedback;
use commonware_codec::{Copying, DecodeExt};
use commonware_consensus::simplex::scheme::{bls12381_threshold::standard, ed25519};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::engine::{EngineDefinition, InitContext};
use commonware_glue::simulate::exit::ExitCondition;
use commonware_glue::simulate::plan::PlanBuilder;
use commonware_glue::simulate::processed::ProcessedHeight;
use commonware_glue::simulate::tracker::ProgressTracker;
use commonware_p2p::simulated::{Control, Manager};
use commonware_p2p::{
    BlockedSubscription, Blocker, PeerSetSubscription, Provider, Receiver, Sender, TrackedPeers, max_message_size,
};
use commonware_runtime::{Handle, Quota, Spawner, Supervisor, deterministic};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::liar::{Liar, Lie};
use crate::load::{Load, owner, writer};
use crate::seat::{Judge, Life, Seat};

/// How validators sign that share a key.
type Group = standard::Scheme<PublicKey, MinPk>;

/// When a run begins, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;
/// Simulated time after which a run is stuck.
const STUCK: Duration = Duration::from_mins(10);
/// Who lies, if anyone does.
const LIAR: usize = 3;
/// Blocks in an epoch, where validators change: the fewest that there may be.
const EPOCH_LENGTH: u64 = 16;
/// How many blocks of the tenure that follows are enough.
const FOLLOWED: u64 = 6;
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
    folder: Arc<TempDir>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, 4, Signing::Committee)
    }

    /// Four validators with shares of one key.
    pub(crate) fn sharing(seed: u64) -> Self {
        Self::of(seed, 4, Signing::Threshold)
    }

    /// The same, which hand the key on to a set in which a fifth node has the place of the fourth.
    pub(crate) fn handing_on(seed: u64) -> Self {
        Self::of(seed, 5, Signing::Threshold)
    }

    /// Four validators, and a fifth node that comes in the place of the fourth once the governors say so.
    pub(crate) fn changing(seed: u64) -> Self {
        Self::of(seed, 5, Signing::Committee)
    }

    fn of(seed: u64, nodes: u8, signing: Signing) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut validators: Vec<Keys> = (0..nodes).map(|_| Keys::generate(&mut random)).collect();
        validators.sort_by_key(Keys::public);
        let newcomers = validators.split_off(4);
        let governed = Governed::by_operators(EPOCH_LENGTH, founders(&validators)).filter(|_| nodes > 4);
        let founding = Founding { owner: owner().account(), time: START, signing, validators, governed };
        let mut founded = founding.found(&mut random).unwrap();
        founded.keys.extend(newcomers);
        let file = Arc::new(founded.file.clone());
        let folder = Arc::new(folder());
        let judge = Judge::default();
        let seat = |(index, keys): (u8, &Keys)| {
            let path = folder.path().join(format!("node-{index}"));
            Seat::new(&path, (&file, keys), &judge, (random.random_range(-SKEW..=SKEW), writer(index)))
        };
        let seats = (0..).zip(&founded.keys).map(seat).collect();
        let change = founded.keys.get(4).map(|newcomer| (founded.keys[3].public(), newcomer.public()));
        let load = Arc::new(Load::new(&file.genesis, nodes, change));
        let (founded, changes) = (Arc::new(founded), change.is_some());
        Self { seed, founded, seats, load, liar: None, changes, told: Arc::default(), folder }
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
        // What the nodes leave is looked at.
        let _folder = Arc::clone(&self.folder);
        let exit = Recorded { blocks, nodes, changes };
        let builder = PlanBuilder::new(self).seed(seed).timeout(STUCK).exit_condition(exit);
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
        if let Some(tenure) = tenures.last() {
            expect_heirs(&seats, &store, tenure)?;
        }
        if let (Some(lie), 0) = (liar, told.load(Ordering::Relaxed)) {
            return Err(format!("{lie:?} was never told"));
        }
        Ok(result.first().map(|result| format!("{} {recorded}", result.state)).unwrap_or_default())
    }
}

/// Where one key is handed on it is the same, and the new set, nobody else, has shares of its new polynomial.
fn expect_heirs(seats: &[Seat], store: &Store, tenure: &Tenure) -> Result<(), String> {
    let (_, file) = seats[0].of();
    let network = network_above(store, &file).unwrap();
    if !network.shares_a_key() {
        return Ok(());
    }
    if tenure.key != store.genesis().ledger_key || network.polynomial() == file.network.polynomial() {
        return Err("the key is another one, or its polynomial is not".to_owned());
    }
    let has_share = |seat: &Seat| {
        let keys = seat.keys(&network);
        (keys.public(), network.is_share_of(&keys))
    };
    match seats.iter().map(has_share).find(|(key, has)| *has != tenure.voters.contains(key)) {
        Some((key, has)) => Err(format!("{}: it has a share: {has}", hex::encode(key))),
        None => Ok(()),
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
        let quotas =
            [tuning::VOTES, tuning::CERTIFICATES, tuning::RESOLVER, tuning::BACKFILL, tuning::BLOCKS, tuning::CEREMONY];
        (0..).zip(quotas.repeat(usize::try_from(TENURES).unwrap())).collect()
    }

    fn max_message_size(&self) -> u32 {
        max_message_size(&[tuning::BLOCK_MAX + 4096])
    }

    async fn init(&self, context: InitContext<'_, PublicKey>) -> (Handle<()>, State) {
        let InitContext { context, index, public_key, oracle, channels, .. } = context;
        let mut channels = channels.into_iter();
        let mut next = || channels.next().unwrap();
        let mut channels = || {
            let five =
                Channels { votes: next(), certificates: next(), resolver: next(), backfill: next(), blocks: next() };
            (five, next())
        };
        let (first, second) = (channels(), channels());
        let network = self.founded.file.network.clone();
        if let (Some(kind), LIAR) = (self.liar, index) {
            let keys = &self.founded.keys[index];
            let liar = Liar {
                lie: kind,
                scheme: <ed25519::Scheme as Scheme>::of(&network, keys, true).unwrap(),
                base: network.base().height,
                seats: self.seats.clone(),
                told: Arc::clone(&self.told),
            };
            let handle = context.child("liar").spawn(move |context| liar.live(context, first.0));
            return (handle, State(None));
        }
        let peers = Peers { manager: oracle.manager(), control: oracle.control(public_key.clone()) };
        let (seat, load) = (self.seats[index].clone(), Arc::clone(&self.load));
        let state = State(Some(seat.clone()));
        let life = seat.open(&context).await;
        let others: Vec<Seat> =
            self.seats.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, it)| it.clone()).collect();
        let changes = self.changes;
        let handle = context.child("node").spawn(move |context| async move {
            let life = Arc::new(life);
            let (presses, follows) = (Arc::clone(&life), Arc::clone(&life));
            let clients = context.child("clients").spawn(move |context| async move {
                load.press(&context, index, &presses).await;
            });
            let follower = context.child("follower").spawn(move |context| async move {
                if changes {
                    follows.follow(&context, &others).await;
                }
            });
            Box::pin(take_turns(&context, (index, &life, changes), &peers, [first, second])).await;
            drop((clients, follower));
        });
        (handle, state)
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

/// The engines of a node, one after the other, for as long as it lives.
async fn take_turns<S, R>(
    context: &deterministic::Context,
    (index, life, changes): (usize, &Life, bool),
    peers: &Peers,
    channels: [(Channels<S, R>, (S, R)); 2],
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (base, mut channels) = (life.seat.of().1.network.epoch(), channels.map(Some));
    loop {
        let (network, ordered) = life.take_part();
        let (follows, prefix) = (network.epoch() != base, format!("node-{index}-{}-", network.epoch()));
        let (channels, letters) = channels[usize::from(follows)].take().unwrap();
        let (name, hands) = if follows { ("second", "hands_second") } else { ("first", "hands_first") };
        let (shares, keys) = (network.shares_a_key(), life.seat.keys(&network));
        let member = Member::new(network.clone(), keys, ordered, &prefix);
        let (child, peers) = (context.child(name), peers.clone());
        let engine = async {
            if shares {
                Box::pin(run::<Group, _, _, _, _>(child, member, peers, channels)).await
            } else {
                Box::pin(run::<ed25519::Scheme, _, _, _, _>(child, member, peers, channels)).await
            }
        };
        let hand_on = async {
            if shares && changes {
                life.hand_on(context.child(hands), network, letters).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let over = async {
            if changes {
                life.run_out(context).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        // In this order: a run is the seed's alone.
        tokio::select! {
            biased;
            ended = engine => {
                println!("node {index} ended: {ended:?}");
                break;
            }
            () = hand_on => unreachable!("it goes on for as long as it is polled"),
            () = over => {}
        }
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
    /// And some of the tenure that follows.
    changes: bool,
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
        let is_done = |seat: &Seat| seat.height() >= self.blocks && (!self.changes || seat.has_followed(FOLLOWED));
        let done = |state: &&&State| state.0.as_ref().is_none_or(is_done);
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
