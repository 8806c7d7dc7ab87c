//! The simulated network: how a validator is made, and what a run has to come to.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::bind::{Group, Individuals};
use blockhouse_consensus::wiring::Channels;
use blockhouse_consensus::{Keys, Scheme, tuning};
use blockhouse_homes::Store;
use blockhouse_homes::network::{Founded, Founding, Governed, Signing, network_above};
use blockhouse_ledger::governance::Founder;
use blockhouse_ledger::validators::{Tenure, tenures};
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::action::Crash;
use commonware_glue::simulate::engine::{EngineDefinition, InitContext};
use commonware_glue::simulate::plan::PlanBuilder;
use commonware_p2p::simulated::Link;
use commonware_p2p::{Receiver, Sender, max_message_size};
use commonware_runtime::{Handle, Quota, Spawner, Supervisor, deterministic};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use crate::goal::{Goal, State};
use crate::liar::{Liar, Lie};
use crate::load::{Load, owner, writer};
use crate::node::{Peers, take_turns};
use crate::seat::Seat;
use crate::seeds::Outcome;
use crate::storm::{Failure, Storm};
use crate::witness::{Event, Witness};

/// When a run begins, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;
/// Simulated time after which a run is stuck.
const STUCK: Duration = Duration::from_mins(10);
/// Blocks in an epoch, where validators change: the fewest that there may be.
const EPOCH_LENGTH: u64 = 16;
/// By how much the clock of a node may be wrong, in milliseconds: less than what honest nodes wait out.
const SKEW: i64 = 200;

/// The engines of two tenures never meet: each has channels of its own, as at real nodes each has connections of its own.
const TENURES: u64 = 2;

/// What befalls all nodes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// Whether the last node comes in the place of the one before it.
    pub(crate) changes: bool,
    /// When disks fail, the earliest first.
    pub(crate) failures: Arc<[Failure]>,
    /// Whether it is as a storm says.
    pub(crate) storm: bool,
}

impl Weather {
    /// How disks failed last.
    pub(crate) fn failed(&self, now: Duration) -> Option<&Failure> {
        self.failures.iter().rfind(|failure| failure.begin <= now)
    }
}

/// Validators, maybe a node that is to become one, and what survives them.
#[derive(Clone)]
pub(crate) struct World {
    seed: u64,
    founded: Arc<Founded>,
    seats: Vec<Seat>,
    load: Arc<Load>,
    /// Who lies, and in which way.
    liars: Vec<(usize, Lie)>,
    weather: Weather,
    witness: Witness,
    /// Removed with the last of the world.
    folder: Arc<TempDir>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, (4, 0), Signing::Committee)
    }

    /// Seven, of whom two may be faulty.
    pub(crate) fn seven(seed: u64) -> Self {
        Self::of(seed, (7, 0), Signing::Committee)
    }

    /// Four validators with shares of one key.
    pub(crate) fn sharing(seed: u64) -> Self {
        Self::of(seed, (4, 0), Signing::Threshold)
    }

    /// The same, which hand the key on to a set in which a fifth node has the place of the fourth.
    pub(crate) fn handing_on(seed: u64) -> Self {
        Self::of(seed, (4, 1), Signing::Threshold)
    }

    /// Four validators, and a fifth node that comes in the place of the fourth once the governors say so.
    pub(crate) fn changing(seed: u64) -> Self {
        Self::of(seed, (4, 1), Signing::Committee)
    }

    fn of(seed: u64, (validators, newcomers): (u8, u8), signing: Signing) -> Self {
        let (mut random, nodes) = (StdRng::seed_from_u64(seed), validators + newcomers);
        let mut keys: Vec<Keys> = (0..nodes).map(|_| Keys::generate(&mut random)).collect();
        keys.sort_by_key(Keys::public);
        let newcomers = keys.split_off(usize::from(validators));
        let changes = !newcomers.is_empty();
        let governed = Governed::by_operators(EPOCH_LENGTH, founders(&keys)).filter(|_| changes);
        let founding = Founding { owner: owner().account(), time: START, signing, validators: keys, governed };
        let mut founded = founding.found(&mut random).unwrap();
        founded.keys.extend(newcomers);
        let file = Arc::new(founded.file.clone());
        let folder = Arc::new(folder());
        let witness = Witness::default();
        let seat = |(index, keys): (u8, &Keys)| {
            let path = folder.path().join(format!("node-{index}"));
            Seat::new(&path, (&file, keys), &witness, (random.random_range(-SKEW..=SKEW), writer(index)))
        };
        let seats = (0..).zip(&founded.keys).map(seat).collect();
        let change = founded.keys.get(4).filter(|_| changes).map(|comes| (founded.keys[3].public(), comes.public()));
        let load = Arc::new(Load::new(&file.genesis, nodes, change));
        let (founded, weather) = (Arc::new(founded), Weather { changes, failures: Arc::default(), storm: false });
        Self { seed, founded, seats, load, liars: Vec::new(), weather, witness, folder }
    }

    pub(crate) fn with_liar(mut self, index: usize, lie: Lie) -> Self {
        self.liars.push((index, lie));
        self
    }

    pub(crate) fn public(&self, index: usize) -> PublicKey {
        PublicKey::decode(Copying(&self.founded.keys[index].public())).unwrap()
    }

    /// Runs until that many nodes recorded that many blocks.
    pub(crate) fn run(
        self,
        blocks: u64,
        nodes: usize,
        plan: impl FnOnce(PlanBuilder<Self>) -> PlanBuilder<Self>,
    ) -> Result<Outcome, String> {
        let Self { seed, seats, load, liars, weather, witness, .. } = self.clone();
        // What the nodes leave is looked at.
        let _folder = Arc::clone(&self.folder);
        let goal = Goal {
            blocks,
            nodes,
            all: seats.len(),
            changes: weather.changes,
            storm: weather.storm,
            witness: witness.clone(),
            progress: Arc::default(),
        };
        let builder = PlanBuilder::new(self).seed(seed).timeout(STUCK).exit_condition(goal);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| plan(builder).run()));
        // What was broken says more than what came of it.
        let counts = witness.verdict()?;
        let state = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let state = state.into_iter().next().map(|result| result.state).unwrap_or_default();
        // A run that recorded heartbeats alone would show nothing of the ledger.
        let best = seats.iter().filter_map(Seat::chain).max_by_key(|chain| chain.head().height());
        let store = best.ok_or("no node lives")?.head();
        let recorded = load.recorded(&store);
        if recorded < blocks {
            return Err(format!("only {recorded} transactions in {} blocks", store.height()));
        }
        let tenures = tenures(store.genesis(), store.head().header(), &store, store.height()).unwrap();
        if tenures.len() != usize::from(weather.changes) {
            return Err(format!("{} tenures followed, up to block {}", tenures.len(), store.height()));
        }
        if let Some(tenure) = tenures.last() {
            expect_heirs(&seats, &store, tenure)?;
        }
        match liars.iter().find(|(_, lie)| counts.of(Event::Told(*lie)) == 0) {
            Some((_, lie)) => Err(format!("{lie:?} was never told")),
            None => Ok(Outcome { state, recorded, counts }),
        }
    }

    /// A storm over these nodes, as its seed draws it.
    pub(crate) fn storm(&self, link: Link, calm: u64) -> Storm {
        Storm::new(self.seed, self.participants(), link, calm)
    }

    /// Lets the storm pass, and runs until all nodes recorded that many blocks more.
    pub(crate) fn weather(mut self, storm: Storm, blocks: u64) -> Result<Outcome, String> {
        (self.weather.failures, self.weather.storm) = (storm.failures().into(), true);
        let (nodes, link) = (self.seats.len(), storm.link());
        self.run(blocks, nodes, |plan| plan.link(link).crash(Crash::Schedule(storm.schedule())))
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

impl World {
    /// The task of a validator that lies.
    fn lie<X, R>(
        &self,
        context: &deterministic::Context,
        (index, lie): (usize, Lie),
        channels: Channels<X, R>,
    ) -> Handle<()>
    where
        X: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        if self.founded.file.network.shares_a_key() {
            let liar = self.liar::<Group>(index, lie);
            context.child("liar").spawn(move |context| liar.live(context, channels))
        } else {
            let liar = self.liar::<Individuals>(index, lie);
            context.child("liar").spawn(move |context| liar.live(context, channels))
        }
    }

    fn liar<S: Scheme>(&self, index: usize, lie: Lie) -> Liar<S> {
        let (network, keys) = (&self.founded.file.network, &self.founded.keys[index]);
        Liar {
            lie,
            scheme: S::of(network, keys, true).unwrap(),
            base: network.base().height,
            seats: self.seats.clone(),
            witness: self.witness.clone(),
        }
    }
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
        if let Some((_, lie)) = self.liars.iter().find(|(at, _)| *at == index) {
            let state = State { seat: None, clock: context.child("clock_of_state") };
            return (self.lie(&context, (index, *lie), first.0), state);
        }
        let peers = Peers {
            manager: oracle.manager(),
            control: oracle.control(public_key.clone()),
            liars: self.liars.iter().map(|(at, _)| self.public(*at)).collect(),
            witness: self.witness.clone(),
        };
        let (seat, load) = (self.seats[index].clone(), Arc::clone(&self.load));
        let state = State { seat: Some(seat.clone()), clock: context.child("clock_of_state") };
        let life = seat.open(&context).await;
        let others: Vec<Seat> =
            self.seats.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, it)| it.clone()).collect();
        let weather = self.weather.clone();
        let handle = context.child("node").spawn(move |context| async move {
            let life = Arc::new(life);
            let (presses, follows) = (Arc::clone(&life), Arc::clone(&life));
            let clients = context.child("clients").spawn(move |context| async move {
                load.press(&context, index, &presses).await;
            });
            let changes = weather.changes;
            let follower = context.child("follower").spawn(move |context| async move {
                if changes {
                    follows.follow(&context, &others).await;
                }
            });
            let turns = Box::pin(take_turns(&context, (index, &life, &weather), &peers, [first, second]));
            // In this order: a run is the seed's alone.
            tokio::select! {
                biased;
                () = turns => {}
                ended = clients => life.seat.witness.demand(false, || format!("the client of node {index} ended: {ended:?}")),
            }
            drop(follower);
        });
        (handle, state)
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}
