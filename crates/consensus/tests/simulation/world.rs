//! The simulated network: how a validator is made, and when a run has gone far enough.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::wiring::{Channels, Member, run};
use blockhouse_consensus::{Dealt, Keys, tuning};
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

use crate::liar::{Lie, lie};
use crate::support::{Judge, Ledger, committee, seeds};

/// Simulated time after which a run is stuck.
const STUCK: Duration = Duration::from_mins(10);
/// Who lies, if anyone does.
const LIAR: usize = 3;

/// Runs a test for each seed; a failure prints how to run it again.
pub(crate) fn each_seed(test: &str, usual: u64, run: impl Fn(u64) -> Result<String, String>) {
    for seed in seeds(usual) {
        println!(
            "replay with BLOCKHOUSE_SEED={seed} cargo test --profile ci -p blockhouse-consensus --test simulation {test}"
        );
        run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Four validators and what survives them.
#[derive(Clone)]
pub(crate) struct World {
    seed: u64,
    dealt: Arc<Dealt>,
    ledgers: Vec<Ledger>,
    liar: Option<Lie>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let dealt = Arc::new(committee(seed, 4));
        let judge = Judge::default();
        let ledgers = (0..4).map(|mark| Ledger::new(&dealt.network, mark, &judge)).collect();
        Self { seed, dealt, ledgers, liar: None }
    }

    pub(crate) fn with_liar(mut self, lie: Lie) -> Self {
        self.liar = Some(lie);
        self
    }

    pub(crate) fn public(&self, index: usize) -> PublicKey {
        PublicKey::decode(Copying(&self.dealt.keys[index].public())).unwrap()
    }

    /// Runs until that many nodes recorded that many blocks; returns what the run came to.
    pub(crate) fn run(
        self,
        blocks: u64,
        nodes: usize,
        plan: impl FnOnce(PlanBuilder<Self>) -> PlanBuilder<Self>,
    ) -> Result<String, String> {
        let seed = self.seed;
        let builder = PlanBuilder::new(self).seed(seed).timeout(STUCK).exit_condition(Recorded { blocks, nodes });
        let result = plan(builder).run()?;
        Ok(result.first().map(|result| result.state.clone()).unwrap_or_default())
    }
}

impl EngineDefinition for World {
    type PublicKey = PublicKey;
    type Engine = Handle<()>;
    type State = State;

    fn participants(&self) -> Vec<PublicKey> {
        (0..4).map(|index| self.public(index)).collect()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        let quotas = [tuning::VOTES, tuning::CERTIFICATES, tuning::RESOLVER, tuning::BACKFILL, tuning::BLOCKS];
        (0..).zip(quotas).collect()
    }

    fn max_message_size(&self) -> u32 {
        max_message_size(&[tuning::BLOCK_MAX + 4096])
    }

    async fn init(&self, context: InitContext<'_, PublicKey>) -> (Handle<()>, State) {
        let InitContext { context, index, public_key, oracle, channels, .. } = context;
        let mut channels = channels.into_iter();
        let mut next = || channels.next().unwrap();
        let channels =
            Channels { votes: next(), certificates: next(), resolver: next(), backfill: next(), blocks: next() };
        let keys: Keys = self.dealt.keys[index].clone();
        let network = self.dealt.network.clone();
        if let (Some(kind), LIAR) = (self.liar, index) {
            let handle = context.child("liar").spawn(move |context| lie(context, kind, network, keys, channels));
            return (handle, State(None));
        }
        let peers = Peers { manager: oracle.manager(), control: oracle.control(public_key.clone()) };
        let ledger = self.ledgers[index].clone();
        let state = State(Some(ledger.clone()));
        let member = Member::new(network, keys, Arc::new(ledger), &format!("node-{index}-"));
        let handle = context.child("node").spawn(move |context| async move {
            let ended = Box::pin(run::<ed25519::Scheme, _, _, _, _>(context, member, peers, channels)).await;
            println!("node {index} ended: {ended:?}");
        });
        (handle, state)
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

/// What the harness sees of a node: its ledger; nothing of a liar.
pub(crate) struct State(Option<Ledger>);

impl ProcessedHeight for State {
    async fn processed_height(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, Ledger::height)
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
        let done = |state: &&&State| state.0.as_ref().is_none_or(|ledger| ledger.height() >= 7 + self.blocks);
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
