//! A simulated node: its engines, one after the other, over the simulated network.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use blockhouse_consensus::bind::{Group, Individuals};
use blockhouse_consensus::wiring::{Channels, Member, run};
use commonware_actor::Feedback;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::simulated::{Control, Manager};
use commonware_p2p::{BlockedSubscription, Blocker, PeerSetSubscription, Provider, Receiver, Sender, TrackedPeers};
use commonware_runtime::{Supervisor as _, deterministic};
use futures::FutureExt as _;

use crate::goal::elapsed;
use crate::seat::Life;
use crate::witness::{Event, Witness};
use crate::world::Weather;

/// The engines of a node, one after the other, for as long as it lives.
pub(crate) async fn take_turns<S, R>(
    context: &deterministic::Context,
    (index, life, weather): (usize, &Life, &Weather),
    peers: &Peers,
    channels: [(Channels<S, R>, (S, R)); 2],
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (base, mut channels) = (life.seat.of().1.network.epoch(), channels.map(Some));
    loop {
        let (network, ordered) = life.take_part(context, weather);
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
                Box::pin(run::<Individuals, _, _, _, _>(child, member, peers, channels)).await
            }
        };
        let hand_on = async {
            if shares && weather.changes {
                life.hand_on(context.child(hands), network, letters).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let over = async {
            if weather.changes {
                life.run_out(context).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        // In this order: a run is the seed's alone.
        tokio::select! {
            biased;
            ended = AssertUnwindSafe(engine).catch_unwind() => {
                let why = ended.map_or_else(|panic| said(panic.as_ref()), |ended| format!("{ended:?}"));
                judge_end(context, (index, life, weather), &why);
                break;
            }
            () = hand_on => unreachable!("it goes on for as long as it is polled"),
            () = over => {}
        }
    }
}

/// An engine ends by itself where its disk fails, and nowhere else.
fn judge_end(context: &deterministic::Context, (index, life, weather): (usize, &Life, &Weather), why: &str) {
    let (now, witness) = (elapsed(context), &life.seat.witness);
    println!("node {index} ended after {now:?}: {why}");
    let failed = weather.failed(now).filter(|_| !witness.is_calm());
    witness.demand(failed.is_some(), || format!("node {index} ended after {now:?}, and nothing had failed: {why}"));
    if let Some(failure) = failed {
        witness.count(Event::Stopped(failure.disk), 1);
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The simulated network's two halves as the engine wants them: in one.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) manager: Manager<PublicKey, deterministic::Context>,
    pub(crate) control: Control<PublicKey, deterministic::Context>,
    /// Nobody else may be kept out.
    pub(crate) liars: Arc<[PublicKey]>,
    pub(crate) witness: Witness,
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
        self.witness.demand(self.liars.contains(&peer), || format!("{peer} is honest, and was kept out"));
        self.control.block(peer)
    }

    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        self.control.blocked()
    }
}
