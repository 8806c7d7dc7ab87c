//! Holds a key ceremony over TCP: between the participants alone, authenticated and encrypted as in a running network.
//!
//! - **Owns** the carrying of messages, the pace, and when a node may leave.
//! - **Does not** write files: a [`Keeper`] does, and what is not durable there is not sent.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{AddressableManager, AddressableTrackedPeers, Receiver, Recipients, Sender, max_message_size};
use commonware_runtime::{Clock, Runner, Spawner, Supervisor, tokio as runtime};
use commonware_utils::ordered::Map;
use tokio::sync::oneshot;

use crate::ceremony::{Agreed, Attestation, Ceremony, Failure, MESSAGE_MAX, Outcome, Outgoing, Plan, Progress};
use crate::engine::{StartError, said};
use crate::keys::{Keys, public_bytes};
use crate::peers::{Greeted, dialled};
use crate::tuning;

/// What tells the connections of key ceremonies from those of a ledger. It is the same for all: so who comes with another founding file is
/// heard, and can be told of.
const STREAM: &[u8] = b"blockhouse v1 ceremony peers";
const CHANNEL: u64 = 0;

/// What a participant is told at its start.
pub struct Convening {
    /// What the ceremony is for.
    pub plan: Plan,
    /// The keys of this node.
    pub keys: Keys,
    /// `host:port` of every participant, by its identity.
    pub addresses: BTreeMap<[u8; 32], String>,
    /// Where this node listens.
    pub listen: SocketAddr,
    /// Higher than any before, durably.
    pub incarnation: u64,
    /// What this node agreed to before.
    pub agreed: Option<(Agreed, Option<Share>)>,
    /// If this node has its key already, and is there for others.
    pub completed: Option<Attestation>,
    /// How long it waits for the key; without end, if not told.
    pub patience: Option<Duration>,
    /// A folder that is there; nothing is written to it.
    pub folder: PathBuf,
}

/// Makes durable what a ceremony must not forget, and tells how it stands.
pub trait Keeper: Send + 'static {
    /// Why it cannot.
    type Error: Send + 'static;

    /// Makes durable what the node agreed to, and its share; then the node signs.
    fn keep(&mut self, agreed: &Agreed, share: Option<&Share>) -> Result<(), Self::Error>;

    /// Makes the key durable; then the node says that it is through.
    fn complete(&mut self, outcome: &Outcome) -> Result<(), Self::Error>;

    /// How it stands, at every change.
    fn tell(&mut self, progress: &Progress);
}

/// Why a ceremony ended without a key at this node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConveneError<E> {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("it was not possible to keep what a ceremony must not forget")]
    Keeper(E),
    #[error("no key was made in the time that was given")]
    Patience(Progress),
    #[error("the ceremony was stopped before it had a key")]
    Stopped,
    #[error("the network of the ceremony failed: {reason}")]
    Network { reason: String },
}

/// Takes part in a ceremony until it is over; blocks this thread. Gives how it stood at the end: the key is there, and some may not have
/// said that they have it too.
pub fn convene<K: Keeper>(
    config: Convening,
    keeper: K,
    stopped: oneshot::Receiver<()>,
) -> Result<Progress, ConveneError<K::Error>> {
    // The engine's own listener panics if the port is taken; this one says so.
    let address = config.listen;
    TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
    let peers = dialled(&config.plan.participants(), &config.addresses)?;
    let peers = AddressableTrackedPeers::new(Map::from_iter_dedup(peers), Map::default());
    let settings = runtime::Config::new()
        .with_worker_threads(tuning::WORKERS)
        .with_max_blocking_threads(tuning::DISK_THREADS)
        .with_storage_directory(&config.folder);
    let run = || runtime::Runner::new(settings).start(|context| hold(context, config, peers, keeper, stopped));
    let failed = |panic: Box<dyn Any + Send>| ConveneError::Network { reason: said(&*panic) };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(failed(panic)))
}

async fn hold<K: Keeper>(
    context: runtime::Context,
    config: Convening,
    peers: AddressableTrackedPeers<PublicKey>,
    keeper: K,
    stopped: oneshot::Receiver<()>,
) -> Result<Progress, ConveneError<K::Error>> {
    let nodes = NonZeroUsize::MIN.saturating_add(config.plan.participants().len());
    let (namespace, longest) = (STREAM.to_vec(), max_message_size(&[MESSAGE_MAX]));
    let greeted = Greeted { namespace, listen: config.listen, longest, nodes };
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), greeted.settings(&config.keys));
    oracle.track(0, peers);
    let channel = network.register(CHANNEL, tuning::CEREMONY);
    let network_end = network.start();
    let patience = config.patience;
    let ceremony = Ceremony::new(config.plan, config.keys, config.incarnation, config.agreed);
    let is_recorded = config.completed.is_some();
    let ceremony = match &config.completed {
        Some(attestation) => ceremony.completed(attestation),
        None => ceremony,
    };
    let seat = Seat { ceremony, keeper, is_recorded, told: None, awaited: Vec::new(), ticks: Ticks::default() };
    let ended = tokio::select! {
        ended = seat.sit(&context, channel, patience) => ended,
        _ = network_end => Err(ConveneError::Network { reason: "it ended".to_owned() }),
        _ = stopped => Err(ConveneError::Stopped),
    };
    let _ = context.stop(0, Some(tuning::STOP_TIMEOUT)).await;
    ended
}

/// Ticks since something.
#[derive(Default)]
struct Ticks {
    all: u32,
    awaited: u32,
    over: u32,
    alone: u32,
    failed: u32,
}

/// The place of this node in the ceremony.
struct Seat<K> {
    ceremony: Ceremony,
    keeper: K,
    is_recorded: bool,
    told: Option<Progress>,
    awaited: Vec<[u8; 32]>,
    ticks: Ticks,
}

impl<K: Keeper> Seat<K> {
    async fn sit(
        mut self,
        context: &runtime::Context,
        (mut sender, mut receiver): (impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>),
        patience: Option<Duration>,
    ) -> Result<Progress, ConveneError<K::Error>> {
        let most = patience.map(|patience| patience.as_millis() / tuning::CEREMONY_TICK.as_millis());
        let mut random = context.child("random");
        let mut tick = Box::pin(context.sleep(tuning::CEREMONY_TICK));
        loop {
            let sends = tokio::select! {
                heard = receiver.recv() => match heard {
                    Ok((from, message)) => self.ceremony.hear(&mut random, &public_bytes(&from), message.as_ref()),
                    Err(_) => return Err(ConveneError::Network { reason: "its channel ended".to_owned() }),
                },
                () = &mut tick => {
                    tick = Box::pin(context.sleep(tuning::CEREMONY_TICK));
                    if let Some(ended) = self.ended(most) {
                        return ended;
                    }
                    self.ceremony.tick(&mut random)
                }
            };
            post(&mut sender, sends);
            self.keep()?;
            self.tell();
        }
    }

    /// Makes durable what must be. See K1.
    fn keep(&mut self) -> Result<(), ConveneError<K::Error>> {
        if let Some((agreed, share)) = self.ceremony.to_keep() {
            self.keeper.keep(agreed, share).map_err(ConveneError::Keeper)?;
            self.ceremony.kept();
        }
        if let Some(outcome) = self.ceremony.outcome() {
            if !self.is_recorded {
                self.keeper.complete(outcome).map_err(ConveneError::Keeper)?;
                self.is_recorded = true;
            }
            self.ceremony.recorded();
        }
        Ok(())
    }

    fn tell(&mut self) {
        let mut progress = self.ceremony.progress();
        if progress.awaited != self.awaited {
            self.awaited.clone_from(&progress.awaited);
            self.ticks.awaited = 0;
        }
        // In a ceremony that goes on, everybody is awaited for a moment.
        if self.ticks.awaited < tuning::CEREMONY_AWAITED {
            progress.awaited.clear();
        }
        if self.told.as_ref() != Some(&progress) {
            self.keeper.tell(&progress);
            self.told = Some(progress);
        }
    }

    /// Whether this node may leave. Who has the key stays until all have said so, or nobody else is heard any more: they can come back, and
    /// the network file of any one completes them.
    fn ended(&mut self, most: Option<u128>) -> Option<Result<Progress, ConveneError<K::Error>>> {
        let progress = self.ceremony.progress();
        let count = |ticks: &mut u32, holds: bool| *ticks = if holds { *ticks + 1 } else { 0 };
        let alone = progress.unfinished.iter().all(|key| progress.absent.contains(key));
        count(&mut self.ticks.all, true);
        count(&mut self.ticks.awaited, true);
        count(&mut self.ticks.over, self.ceremony.is_over());
        count(&mut self.ticks.alone, progress.complete && alone);
        count(&mut self.ticks.failed, self.ceremony.failure().is_some());
        if self.ticks.failed > tuning::CEREMONY_PARTING {
            return self.ceremony.failure().cloned().map(|failure| Err(failure.into()));
        }
        if self.ticks.over > tuning::CEREMONY_PARTING || self.ticks.alone > tuning::CEREMONY_LINGER {
            return Some(Ok(progress));
        }
        let is_late = most.is_some_and(|most| u128::from(self.ticks.all) > most);
        (is_late && !progress.complete).then_some(Err(ConveneError::Patience(progress)))
    }
}

/// What does not arrive is sent again at a later tick.
fn post(sender: &mut impl Sender<PublicKey = PublicKey>, sends: Vec<Outgoing>) {
    for Outgoing { to, message } in sends {
        if let Ok(to) = PublicKey::decode(Copying(&to)) {
            sender.send(Recipients::One(to), Bytes::copy_from_slice(&message.encode()), false);
        }
    }
}
