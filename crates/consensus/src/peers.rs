//! The network of a node over TCP: authenticated and encrypted by the engine, between peers that are named beforehand.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use commonware_codec::{Copying, DecodeExt};
use commonware_consensus::marshal::standard::Standard;
use commonware_consensus::{marshal, simplex};
use commonware_cryptography::ChaCha20Poly1305;
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{Address, AddressableManager, AddressableTrackedPeers, Ingress, max_message_size};
use commonware_stream::SakeCups;
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::ordered::Map;
use commonware_utils::{Hostname, NZUsize};
use tokio::sync::mpsc;

use crate::bind::Scheme;
use crate::block::{Digest, WireBlock};
use crate::engine::{Config, StartError};
use crate::keys::Keys;
use crate::network::Network;
use crate::tuning;

/// What tells the streams of one ledger's network from all others.
const STREAM: &[u8] = b" peers";

/// Where no address is known, for nobody dials it: a follower connects by itself.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub(crate) type Handshake = SakeCups<PrivateKey, ChaCha20Poly1305>;

/// The settings of the network of this node.
pub(crate) fn settings<S: Scheme>(config: &Config, keys: &Keys) -> lookup::Config<Handshake> {
    let validators = u32::try_from(config.network.validators().len()).unwrap_or(u32::MAX);
    let longest = max_message_size(&[
        simplex::max_payload_size::<S, Digest>(validators),
        marshal::max_payload_size::<Standard<WireBlock>, S>(validators, &config.network.base().height),
        tuning::GOSSIP_MAX,
    ]);
    let namespace = streams(&config.network);
    let guests = if config.network.shares_a_key() { guests_max(config.network.validators().len()) } else { 0 };
    let greeted = Greeted { namespace, listen: config.listen, longest, nodes: set_size(config).saturating_add(guests) };
    greeted.settings(keys)
}

/// What differs between the networks that nodes form: the ledger's, and those of key ceremonies.
pub(crate) struct Greeted {
    /// What their greetings are signed under.
    pub(crate) namespace: Vec<u8>,
    /// Where this node listens.
    pub(crate) listen: SocketAddr,
    /// The greatest length of a message.
    pub(crate) longest: u32,
    /// How many nodes there are, with this one.
    pub(crate) nodes: NonZeroUsize,
}

impl Greeted {
    pub(crate) fn settings(self, keys: &Keys) -> lookup::Config<Handshake> {
        lookup::Config {
            handshake: Cups::new(greeting(keys.identity().clone()), cups::Version::V1),
            namespace: self.namespace,
            listen: self.listen,
            // Networks live in one rack as well as across the world; who a peer is decides its key, not its address.
            allow_private_ips: true,
            allow_dns: true,
            bypass_ip_check: true,
            max_message_size: self.longest,
            max_peers_per_set: self.nodes,
            mailbox_size: tuning::MAILBOX,
            send_batch_size: NZUsize!(8),
            handshake_timeout: tuning::GREETING_TIMEOUT,
            dial_timeout: tuning::DIAL_TIMEOUT,
            peer_connection_cooldown: tuning::RECONNECT,
            max_concurrent_handshakes: tuning::GREETINGS_AT_ONCE,
            allowed_handshake_rate_per_ip: tuning::GREETINGS,
            allowed_handshake_rate_per_subnet: tuning::GREETINGS,
            ping_frequency: tuning::PING,
            dial_frequency: tuning::DIAL,
            // Validators change with the engine, which starts anew; followers come and go, and addresses change, one set after another.
            tracked_peer_sets: NZUsize!(1),
            block_duration: tuning::BLOCKED,
        }
    }
}

/// Nodes meet those of their own epoch alone: the engine keeps out whoever sends a vote of another one, and a node that is some seconds late is no
/// liar.
fn streams(network: &Network) -> Vec<u8> {
    let mut name = [network.namespace().as_slice(), STREAM].concat();
    if network.epoch() > 0 {
        name.extend_from_slice(&network.epoch().to_be_bytes());
    }
    name
}

fn greeting(signer: PrivateKey) -> Sake<PrivateKey> {
    Sake {
        signer,
        synchrony_bound: tuning::CLOCK_AHEAD,
        max_handshake_age: tuning::GREETING_AGE,
        version: sake::Version::V1,
    }
}

/// All nodes, this one included whether it is named or not, and those that may come while the engine runs; guests come beside them.
pub(crate) fn set_size(config: &Config) -> NonZeroUsize {
    let known = config.network.validators().len() + config.followers.len();
    NonZeroUsize::MIN.saturating_add((known + tuning::FOLLOWERS_MORE).min(tuning::PEERS_MAX))
}

/// Who is dialled, and who may connect besides.
pub(crate) fn peers(
    network: &Network,
    addresses: &BTreeMap<[u8; 32], String>,
    followers: &[[u8; 32]],
) -> Result<AddressableTrackedPeers<PublicKey>, StartError> {
    let primary = dialled(&network.validators(), addresses)?;
    let mut secondary = BTreeMap::new();
    for key in followers {
        let key = public(*key)?;
        if !primary.contains_key(&key) {
            secondary.insert(key, Address::Symmetric(NOWHERE));
        }
    }
    if primary.len() + secondary.len() > tuning::PEERS_MAX {
        return Err(StartError::Peers { found: primary.len() + secondary.len() });
    }
    Ok(AddressableTrackedPeers::new(Map::from_iter_dedup(primary), Map::from_iter_dedup(secondary)))
}

/// Where nodes that dial each other are reached.
pub(crate) fn dialled(
    keys: &[[u8; 32]],
    addresses: &BTreeMap<[u8; 32], String>,
) -> Result<BTreeMap<PublicKey, Address>, StartError> {
    let reached = |key: &[u8; 32]| {
        let text = addresses.get(key).ok_or(StartError::NoAddress { key: *key })?;
        Ok((public(*key)?, address(text)?))
    };
    keys.iter().map(reached).collect()
}

/// Nodes that are let in beside those that an engine began with, and where they are reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(pub(crate) BTreeMap<[u8; 32], String>);

/// The same peers with guests: they dial the validators, and each other. Those that are too many are left out.
fn with_guests(
    peers: &AddressableTrackedPeers<PublicKey>,
    me: &PublicKey,
    guests: &Guests,
) -> AddressableTrackedPeers<PublicKey> {
    let mut primary: BTreeMap<_, _> =
        peers.primary.iter_pairs().map(|(key, address)| (key.clone(), address.clone())).collect();
    let mut secondary: BTreeMap<_, _> =
        peers.secondary.iter_pairs().map(|(key, address)| (key.clone(), address.clone())).collect();
    let room = guests_max(primary.len());
    let known: Vec<_> = guests.0.iter().filter_map(|(key, text)| Some((public(*key).ok()?, text))).collect();
    let is_guest = known.iter().any(|(key, _)| key == me) && !primary.contains_key(me);
    for (key, text) in known.into_iter().take(room) {
        if key == *me || primary.contains_key(&key) {
            continue;
        }
        match address(text) {
            Ok(address) if is_guest => {
                primary.insert(key, address);
            }
            _ => {
                secondary.insert(key, Address::Symmetric(NOWHERE));
            }
        }
    }
    AddressableTrackedPeers::new(Map::from_iter_dedup(primary), Map::from_iter_dedup(secondary))
}

/// How many guests may be let in: those of a set that comes, and of some that never did before it.
const fn guests_max(validators: usize) -> usize {
    validators + tuning::FOLLOWERS_MORE
}

fn public(key: [u8; 32]) -> Result<PublicKey, StartError> {
    PublicKey::decode(Copying(&key)).map_err(|_| StartError::NoKey { key })
}

/// True if it is a key that a node can have.
pub fn is_node_key(key: &[u8; 32]) -> bool {
    public(*key).is_ok()
}

/// Whom the network of a node is told of, and under which number last.
pub(crate) struct Tracked<O> {
    oracle: O,
    /// The numbers of sets rise; nothing else is in them.
    number: u64,
    me: PublicKey,
    peers: AddressableTrackedPeers<PublicKey>,
    guests: Guests,
}

impl<O: AddressableManager<PublicKey = PublicKey>> Tracked<O> {
    /// Begins with that number, and without guests.
    pub(crate) fn new(oracle: O, number: u64, me: PublicKey, peers: AddressableTrackedPeers<PublicKey>) -> Self {
        Self { oracle, number, me, peers, guests: Guests::default() }
    }

    /// Tells it of them as they are now.
    pub(crate) fn tell(&mut self) {
        let _ = self.oracle.track(self.number, with_guests(&self.peers, &self.me, &self.guests));
        self.number += 1;
    }

    /// Tells it again whenever they change, until nobody can say so any more.
    pub(crate) async fn keep_told(
        mut self,
        mut changes: mpsc::UnboundedReceiver<AddressableTrackedPeers<PublicKey>>,
        mut guests: mpsc::Receiver<Guests>,
    ) {
        loop {
            tokio::select! {
                Some(peers) = changes.recv() => self.peers = peers,
                Some(guests) = guests.recv() => self.guests = guests,
                else => break,
            }
            self.tell();
        }
        std::future::pending::<()>().await;
    }
}

/// True if nodes can be told that another is reached there: `host:port` or `ip:port`.
pub fn is_address(text: &str) -> bool {
    address(text).is_ok()
}

/// Reads `host:port` or `ip:port`.
fn address(text: &str) -> Result<Address, StartError> {
    if let Ok(socket) = text.parse() {
        return Ok(Address::Symmetric(socket));
    }
    let refused = || StartError::Address { text: text.to_owned() };
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let host = Hostname::new(host).map_err(|_| refused())?;
    let ingress = Ingress::Dns { host, port: port.parse().map_err(|_| refused())? };
    Ok(Address::Asymmetric { ingress, egress: NOWHERE })
}
