//! The parts of a node, put together: the same for TCP and for the simulation of the tests.
//!
//! Everything that a node runs is a child of one task: when that ends, all of it does.

use std::sync::Arc;

use blockhouse_ledger::block_hash;
use blockhouse_ledger::certificate::DESCENDANTS_MAX;
use blockhouse_types::BlockHash;
use commonware_broadcast::buffered;
use commonware_consensus::Reporters;
use commonware_consensus::marshal::core::{Actor, Mailbox};
use commonware_consensus::marshal::resolver::p2p as backfill;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::config::{Floor as VoteFloor, ForwardPolicy, SkipPolicy};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::types::Finalization;
use commonware_consensus::simplex::{self, SkipBudget};
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_cryptography::Sha256;
use commonware_cryptography::certificate::ConstantProvider;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage};
use commonware_storage::archive::prunable;
use commonware_storage::translator::TwoCap;
use commonware_utils::NonZeroDuration;
use commonware_utils::channel::oneshot;
use rand::CryptoRng;

use crate::application::{Application, Erased};
use crate::bind::Scheme;
use crate::block::{Digest, WireBlock, digest};
use crate::deliver::{Courier, Delivery};
use crate::door::Door;
use crate::engine::EngineError;
use crate::epoch::OneEpoch;
use crate::folder::Floor;
use crate::keys::Keys;
use crate::network::Network;
use crate::status::{Counts, Watcher};
use crate::tuning;

/// The numbers of the channels. All nodes of a network share them.
pub mod channel {
    /// Votes of the validators.
    pub const VOTES: u64 = 0;
    /// Certificates as they are made.
    pub const CERTIFICATES: u64 = 1;
    /// Certificates that are asked for.
    pub const RESOLVER: u64 = 2;
    /// Blocks that are asked for.
    pub const BACKFILL: u64 = 3;
    /// Blocks as they are proposed.
    pub const BLOCKS: u64 = 4;
    /// What the application sends.
    pub const GOSSIP: u64 = 5;
    /// Letters from one node to another: only where validators share one key.
    pub const LETTERS: u64 = 6;
}

/// The ends of the five channels that order blocks.
#[derive(Debug)]
pub struct Channels<S, R> {
    /// See [`channel::VOTES`].
    pub votes: (S, R),
    /// See [`channel::CERTIFICATES`].
    pub certificates: (S, R),
    /// See [`channel::RESOLVER`].
    pub resolver: (S, R),
    /// See [`channel::BACKFILL`].
    pub backfill: (S, R),
    /// See [`channel::BLOCKS`].
    pub blocks: (S, R),
}

/// Who a node is and what it orders.
pub struct Member {
    pub(crate) network: Network,
    pub(crate) keys: Keys,
    pub(crate) application: Arc<dyn Erased>,
    pub(crate) may_vote: bool,
    pub(crate) floor: Option<Floor>,
    pub(crate) keep: Option<u64>,
    pub(crate) counts: Arc<Counts>,
    /// What the names of its files begin with.
    pub(crate) prefix: String,
}

impl Member {
    /// A node that begins at the base and keeps all blocks. In a simulation all nodes share one disk, so the names of
    /// each one's files have a prefix.
    pub fn new(network: Network, keys: Keys, application: Arc<impl Application>, prefix: &str) -> Self {
        let (counts, prefix) = (Arc::default(), prefix.to_owned());
        Self { network, keys, application, may_vote: true, floor: None, keep: None, counts, prefix }
    }

    fn base(&self) -> u64 {
        self.network.base().height
    }

    fn epoch(&self) -> Epoch {
        Epoch::new(self.network.epoch())
    }

    /// The block of that hash, if it is one of the newest that the ledger has.
    fn recent(&self, hash: &BlockHash) -> Option<WireBlock> {
        let standing = self.application.standing().height;
        let heights = (self.base() + 1..=standing).rev().take(DESCENDANTS_MAX + 1);
        let mut blocks = heights.filter_map(|height| self.application.block(height));
        let block = blocks.find(|block| block_hash(&block.header) == *hash);
        block.and_then(|block| WireBlock::new(block, self.base()))
    }

    /// The validators do not change while an engine runs.
    fn one_epoch(&self) -> OneEpoch {
        OneEpoch::new(self.epoch(), self.base(), Arc::clone(&self.application))
    }
}

/// What every part of the engine asks of the runtime.
pub trait Runtime: Spawner + Metrics + Clock + Storage + CryptoRng {}
impl<E: Spawner + Metrics + Clock + Storage + CryptoRng> Runtime for E {}

/// The engine's files share pages and settings.
#[derive(Clone)]
struct Files {
    pages: CacheRef,
    prefix: String,
}

impl Files {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn archive<C>(&self, name: &str, codec_config: C) -> prunable::Config<TwoCap, C> {
        prunable::Config {
            translator: TwoCap,
            metadata_partition: self.name(&format!("{name}-metadata")),
            key_partition: self.name(&format!("{name}-keys")),
            key_page_cache: self.pages.clone(),
            value_partition: self.name(&format!("{name}-values")),
            compression: None,
            codec_config,
            items_per_section: tuning::SECTION,
            key_write_buffer: tuning::WRITE_BUFFER,
            value_write_buffer: tuning::WRITE_BUFFER,
            replay_buffer: tuning::REPLAY_BUFFER,
        }
    }
}

/// Where the engine begins: at a block that is known to be final, or at the base.
enum Beginning<S: Scheme> {
    Base(Box<WireBlock>),
    /// With the block, if the ledger has it.
    Final(Finalization<S, Digest>, Option<Box<WireBlock>>),
}

impl<S: Scheme> Beginning<S> {
    fn of(member: &Member, scheme: &S) -> Result<Self, EngineError> {
        if let Some(floor) = &member.floor {
            let finalization = scheme.finalization(&floor.certificate, digest(&floor.hash));
            let block = member.recent(&floor.hash).map(Box::new);
            let begins = |finalization| Self::Final(finalization, block);
            return finalization.map(begins).ok_or(EngineError::Floor { hash: floor.hash });
        }
        let base = member.network.base();
        let block = member.application.block(base.height).and_then(|block| WireBlock::new(block, base.height));
        let block = block.filter(|block| block_hash(&block.block().header) == base.hash);
        block.map(|block| Self::Base(Box::new(block))).ok_or(EngineError::Base { height: base.height, hash: base.hash })
    }

    fn marshal(&self) -> Start<S, Digest, commonware_cryptography::Digested<WireBlock>> {
        match self {
            Self::Base(block) => Start::Genesis(block.as_ref().clone().digested()),
            Self::Final(finalization, _) => Start::Floor(finalization.clone()),
        }
    }

    fn votes(self) -> VoteFloor<S, Digest> {
        match self {
            Self::Base(block) => VoteFloor::Genesis(commonware_cryptography::Digestible::digest(block.as_ref())),
            Self::Final(finalization, _) => VoteFloor::Finalized(finalization),
        }
    }

    /// Gives the marshal the block where it begins: it would ask the other nodes' engines for it, and wait for good if none of them has it yet.
    fn give(&self, marshal: &Mailbox<S, Standard<WireBlock>>) {
        let Self::Final(finalization, Some(block)) = self else { return };
        // It is durable in the ledger: nobody waits until the marshal has it durable too.
        let (durable, _) = oneshot::channel();
        marshal.verified_deferred(finalization.round(), block.as_ref().clone().digested(), durable);
    }
}

/// Runs a node until a part of it ends. Dropping the future ends all parts.
pub async fn run<S, E, N, X, R>(
    context: E,
    member: Member,
    peers: N,
    channels: Channels<X, R>,
) -> Result<(), EngineError>
where
    S: Scheme,
    E: Runtime,
    N: Provider<PublicKey = PublicKey> + Blocker<PublicKey = PublicKey>,
    X: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let scheme = S::of(&member.network, &member.keys, member.may_vote).ok_or(EngineError::Scheme)?;
    let beginning = Beginning::of(&member, &scheme)?;
    let files = Files { pages: CacheRef::new(tuning::PAGE, tuning::PAGES), prefix: member.prefix.clone() };
    let Channels { votes, certificates, resolver, backfill, blocks } = channels;

    let fetch = fetch(&context, &member, peers.clone(), backfill);
    let (broadcast, buffer) = buffered::Engine::new(context.child("broadcast"), broadcast(&member, peers.clone()));
    let broadcast = broadcast.start(blocks);

    let (actor, mailbox) = open_marshal(&context, &member, &scheme, &beginning, &files).await?;
    let (delivery, queue) = Delivery::new(Arc::clone(&member.counts), member.base());
    let marshal = actor.start(delivery, buffer, fetch);
    beginning.give(&mailbox);
    let courier = Courier {
        clock: context.child("courier"),
        application: Arc::clone(&member.application),
        marshal: mailbox.clone(),
        scheme: scheme.clone(),
        charter: member.network.kind().charter(),
        counts: Arc::clone(&member.counts),
        base: member.base(),
        keep: member.keep,
    };
    let courier = courier.run(queue);

    let engine = engine(&context, &member, scheme, beginning, mailbox, peers, &files);
    let engine = engine.start(votes, certificates, resolver);
    first_end(courier, [("broadcast", broadcast), ("marshal", marshal), ("votes", engine)]).await
}

/// Ends with the first part that does. A part that fails may take the others with it, so the courier's word goes first.
async fn first_end(
    courier: impl Future<Output = Result<(), EngineError>>,
    parts: [(&'static str, Handle<()>); 3],
) -> Result<(), EngineError> {
    let parts = futures::future::select_all(parts.map(|(name, handle)| {
        Box::pin(async move {
            let _ = handle.await;
            name
        })
    }));
    futures::pin_mut!(courier);
    match futures::future::select(courier, parts).await {
        futures::future::Either::Left((ended, _)) => ended,
        futures::future::Either::Right(((part, ..), _)) => Err(EngineError::Ended { part }),
    }
}

/// Who asks peers for blocks that are missing.
fn fetch<E: Runtime, N>(
    context: &E,
    member: &Member,
    peers: N,
    channel: (impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>),
) -> (marshal::resolver::handler::Receiver<Digest>, backfill::Mailbox<Digest, PublicKey>)
where
    N: Provider<PublicKey = PublicKey> + Blocker<PublicKey = PublicKey>,
{
    let config = backfill::Config {
        public_key: public(member),
        peer_provider: peers.clone(),
        blocker: peers,
        mailbox_size: tuning::MAILBOX,
        fetch_timeout: NonZeroDuration::new_panic(tuning::FETCH_TIMEOUT),
        fetch_retry_delay: tuning::FETCH_RETRY,
        priority_requests: false,
        priority_responses: false,
    };
    backfill::init(context.child("backfill"), config, channel)
}

fn broadcast<N>(member: &Member, peers: N) -> buffered::Config<PublicKey, u64, N, Sequential>
where
    N: Provider<PublicKey = PublicKey>,
{
    buffered::Config {
        public_key: public(member),
        mailbox_size: tuning::MAILBOX,
        deque_size: tuning::BLOCKS_BUFFERED,
        priority: true,
        codec_config: member.base(),
        peer_provider: peers,
        strategy: Sequential,
    }
}

fn public(member: &Member) -> PublicKey {
    commonware_cryptography::Signer::public_key(member.keys.identity())
}

type Certificates<E, S> = prunable::Archive<TwoCap, E, Digest, Finalization<S, Digest>>;
type Blocks<E> = prunable::Archive<TwoCap, E, Digest, Arc<WireBlock>>;
type Marshal<E, S> = Actor<
    E,
    Standard<WireBlock>,
    ConstantProvider<S, Epoch>,
    Certificates<E, S>,
    Blocks<E>,
    OneEpoch,
    Sequential,
    commonware_utils::acknowledgement::Exact,
>;

/// Opens the archives and who keeps them in order.
async fn open_marshal<E: Runtime, S: Scheme>(
    context: &E,
    member: &Member,
    scheme: &S,
    beginning: &Beginning<S>,
    files: &Files,
) -> Result<(Marshal<E, S>, Mailbox<S, Standard<WireBlock>>), EngineError> {
    let damaged = |what| {
        move |source: commonware_storage::archive::Error| EngineError::Archive { what, reason: source.to_string() }
    };
    let certificates = files.archive("certificates", scheme.certificate_codec_config());
    let certificates = prunable::Archive::init(context.child("certificates"), certificates).await;
    let blocks = prunable::Archive::init(context.child("blocks"), files.archive("blocks", member.base())).await;
    let config = marshal::Config {
        provider: ConstantProvider::new(scheme.clone()),
        epocher: member.one_epoch(),
        start: beginning.marshal(),
        partition_prefix: files.name("marshal"),
        mailbox_size: tuning::MAILBOX,
        view_retention: ViewDelta::new(tuning::VIEW_RETENTION),
        prunable_items_per_section: tuning::SECTION,
        page_cache: files.pages.clone(),
        replay_buffer: tuning::REPLAY_BUFFER,
        key_write_buffer: tuning::WRITE_BUFFER,
        value_write_buffer: tuning::WRITE_BUFFER,
        block_codec_config: member.base(),
        max_repair: tuning::REPAIR_MAX,
        max_pending_acks: tuning::PENDING_ACKS,
        strategy: Sequential,
    };
    let certificates = certificates.map_err(damaged("certificates"))?;
    let blocks = blocks.map_err(damaged("blocks"))?;
    let (actor, mailbox, _) = Actor::init(context.child("marshal"), certificates, blocks, config).await;
    Ok((actor, mailbox))
}

/// Asks the application by way of the archive of blocks.
type Inlined<E, S> = Inline<E, S, Door<S>, WireBlock, OneEpoch>;
type Votes<E, S, N> = simplex::Engine<
    E,
    S,
    RoundRobin<Sha256>,
    N,
    Digest,
    Inlined<E, S>,
    Inlined<E, S>,
    Reporters<Inlined<E, S>, Watcher<S>>,
    Sequential,
>;

/// Who votes.
#[expect(clippy::too_many_arguments, reason = "each part of the node once")]
fn engine<E: Runtime, S: Scheme, N>(
    context: &E,
    member: &Member,
    scheme: S,
    beginning: Beginning<S>,
    mailbox: Mailbox<S, Standard<WireBlock>>,
    peers: N,
    files: &Files,
) -> Votes<E, S, N>
where
    N: Blocker<PublicKey = PublicKey>,
{
    let door = Door::new(Arc::clone(&member.application), member.base());
    let inline = Inline::new(context.child("inline"), door, mailbox, member.one_epoch());
    let config = simplex::Config {
        scheme,
        elector: RoundRobin::<Sha256>::default(),
        blocker: peers,
        automaton: inline.clone(),
        relay: inline.clone(),
        reporter: Reporters::from((inline, Watcher::new(Arc::clone(&member.counts)))),
        track_historical_votes: false,
        strategy: Sequential,
        partition: files.name("votes"),
        mailbox_size: tuning::MAILBOX,
        epoch: member.epoch(),
        floor: beginning.votes(),
        replay_buffer: tuning::REPLAY_BUFFER,
        write_buffer: tuning::WRITE_BUFFER,
        page_cache: files.pages.clone(),
        leader_timeout: tuning::LEADER_TIMEOUT,
        certification_timeout: tuning::CERTIFICATION_TIMEOUT,
        timeout_retry: tuning::TIMEOUT_RETRY,
        view_retention: ViewDelta::new(tuning::VIEW_RETENTION),
        skip: SkipPolicy::Enabled { timeout: tuning::SKIP_TIMEOUT, budget: SkipBudget::Fixed(tuning::SKIP_BUDGET) },
        fetch_timeout: NonZeroDuration::new_panic(tuning::FETCH_TIMEOUT),
        fetch_retry_delay: tuning::FETCH_RETRY,
        forward: ForwardPolicy::SilentLeader,
    };
    simplex::Engine::new(context.child("votes"), config)
}
