//! Real engines over TCP on this machine: four of them agree, one is killed and comes back from its folder.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockhouse_consensus::{
    Base, Config, Dealt, Engine, EngineError, Handle, Inbox, Keys, Kind, Network, Role, StartError,
};
use bytes::Bytes;

use support::{Judge, Ledger, Work, committee, identities, threshold};

/// After this much a test fails instead of waiting on.
const DEADLINE: Duration = Duration::from_mins(2);

/// Ports that were free a moment ago.
fn ports(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// Four validators of one network and their ledgers.
struct Town {
    dealt: Dealt,
    ports: Vec<SocketAddr>,
    folder: tempfile::TempDir,
    ledgers: Vec<Ledger>,
    work: Arc<Work>,
    followers: Vec<Keys>,
}

impl Town {
    fn new(dealt: Dealt) -> Self {
        let (judge, work) = (Judge::default(), Work::new());
        let ledger = |mark| Ledger::new(&dealt.network, mark, &judge).with_work(&work);
        let ledgers = (0..5).map(ledger).collect();
        let (ports, folder) = (ports(5), tempfile::tempdir().unwrap());
        let town = Self { dealt, ports, folder, ledgers, work, followers: identities(77, 1) };
        for index in 0..town.dealt.keys.len() {
            Engine::prepare(&town.folder(index), town.keys(index).public()).unwrap();
        }
        town
    }

    fn config(&self, index: usize) -> Config {
        let keys = self.dealt.keys.iter().map(Keys::public);
        let addresses: BTreeMap<_, _> = keys.zip(self.ports.iter().map(ToString::to_string)).collect();
        Config {
            network: self.dealt.network.clone(),
            addresses,
            followers: self.followers.iter().map(Keys::public).collect(),
            listen: self.ports[index],
            never_voted: false,
            keep_blocks: None,
            jumped: false,
            silent: false,
        }
    }

    fn folder(&self, index: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("node-{index}"))
    }

    fn keys(&self, index: usize) -> Keys {
        self.dealt.keys.get(index).unwrap_or(&self.followers[0]).clone()
    }

    fn try_start(&self, index: usize) -> Result<(Handle, Inbox), StartError> {
        let ledger = Arc::new(self.ledgers[index].clone());
        Engine::start(self.config(index), self.keys(index), ledger, &self.folder(index))
    }

    fn start(&self, index: usize) -> Handle {
        self.try_start(index).unwrap().0
    }

    /// Asks for blocks up to that height.
    fn want(&self, height: u64) {
        self.work.wanted.send_replace(height);
    }

    fn wait(&self, nodes: &[usize], height: u64) {
        let begun = Instant::now();
        while nodes.iter().any(|index| self.ledgers[*index].height() < height) {
            let heights: Vec<u64> = self.ledgers.iter().map(Ledger::height).collect();
            assert!(begun.elapsed() < DEADLINE, "block {height} is not reached: {heights:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until an engine counts so many blocks as delivered.
    fn wait_processed(node: &Handle, blocks: u64) {
        let begun = Instant::now();
        while processed(node) < blocks {
            assert!(begun.elapsed() < DEADLINE, "{}", node.metrics());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn one_is_killed_and_comes_back(dealt: Dealt) {
    let town = Town::new(dealt);
    let mut nodes: Vec<Handle> = (0..4).map(|index| town.start(index)).collect();
    town.want(20);
    town.wait(&[0, 1, 2, 3], 20);
    assert!(nodes.iter().all(|node| node.status().role == Role::Validator));
    drop(nodes.remove(1));
    town.want(40);
    town.wait(&[0, 2, 3], 40);
    assert!(town.ledgers[1].height() < 40);
    nodes.push(town.start(1));
    town.want(50);
    town.wait(&[0, 1, 2, 3], 50);
    let hashes = town.ledgers[0].hashes();
    assert!(town.ledgers[..4].iter().all(|ledger| ledger.hashes()[..44] == hashes[..44]));
    for node in &nodes {
        // The blocks may be there before all have met again.
        let begun = Instant::now();
        while node.status().peers != 3 {
            assert!(begun.elapsed() < DEADLINE, "{}", node.metrics());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(node.status().conflicts, 0);
    }
    for node in nodes {
        node.stop().unwrap();
    }
}

#[test]
fn one_of_four_is_killed_and_comes_back_with_a_shared_key() {
    one_is_killed_and_comes_back(threshold(11, 4));
}

#[test]
fn one_of_four_is_killed_and_comes_back_with_keys_of_their_own() {
    one_is_killed_and_comes_back(committee(11, 4));
}

/// Three of four end an epoch by themselves: its last block is proposed again until it is final, and nothing stands above it. Other validators go on
/// from there, the one that was dead among them, and so does a key that comes to a later epoch first.
#[test]
fn an_epoch_ends_with_its_last_block_and_another_begins_above_it() {
    const LAST: u64 = 13;
    let mut town = Town::new(committee(15, 4));
    town.ledgers.iter_mut().for_each(|ledger| *ledger = ledger.clone().ending_at(LAST));
    let nodes: Vec<Handle> = (0..3).map(|index| town.start(index)).collect();
    town.want(100);
    town.wait(&[0, 1, 2], LAST);
    let (view, begun) = (nodes[0].status().view, Instant::now());
    while nodes.iter().any(|node| node.status().view < view + 8) {
        assert!(begun.elapsed() < DEADLINE, "the last block is not proposed again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(town.ledgers[..3].iter().all(|ledger| ledger.height() == LAST));
    let certificates = town.ledgers[0].certificates();
    assert!(certificates.last().unwrap().finality().unwrap().descendants.is_empty(), "it was signed itself");
    for node in nodes {
        assert_eq!(node.status().conflicts, 0);
        node.stop().unwrap();
    }

    // The second, the third, the fourth that was away and has the blocks from elsewhere, and a fifth.
    let keys: Vec<Keys> = town.dealt.keys[1..].iter().chain(&town.followers).cloned().collect();
    let public: Vec<[u8; 32]> = keys.iter().map(Keys::public).collect();
    let base = Base { height: LAST, hash: town.ledgers[0].standing_hash() };
    let network = Network::try_new(support::CHAIN, 5, base, &public, Kind::Committee).unwrap();
    Engine::prepare(&town.folder(4), town.followers[0].public()).unwrap();
    let next = Town {
        ports: ports(5),
        ledgers: (0..4).map(|_| town.ledgers[0].copy().in_epoch_of(&network)).collect(),
        dealt: Dealt { network, keys },
        folder: town.folder,
        work: town.work,
        followers: town.followers,
    };
    let nodes: Vec<Handle> = (0..4)
        .map(|index| {
            let ledger = Arc::new(next.ledgers[index].clone());
            Engine::start(next.config(index), next.keys(index), ledger, &next.folder(index + 1)).unwrap().0
        })
        .collect();
    next.wait(&[0, 1, 2, 3], LAST + 10);
    let roles: Vec<Role> = nodes.iter().map(|node| node.status().role).collect();
    // The fourth never began the first epoch, so it has the word that it never voted.
    assert_eq!(roles, [Role::Validator; 4]);
    for node in nodes {
        node.stop().unwrap();
    }
}

#[test]
fn a_follower_receives_all_blocks_and_hears_gossip() {
    let town = Town::new(committee(12, 4));
    let nodes: Vec<Handle> = (0..4).map(|index| town.start(index)).collect();
    town.want(15);
    town.wait(&[0, 1, 2, 3], 15);
    let (follower, mut inbox) = town.try_start(4).unwrap();
    assert_eq!(follower.status().role, Role::Follower);
    town.want(25);
    town.wait(&[4], 25);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let heard = runtime.block_on(async {
        let gossip = nodes[2].gossip();
        let send = async {
            loop {
                assert!(gossip.send(Bytes::from_static(b"a transaction")));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            heard = inbox.recv() => heard,
            () = send => None,
            () = tokio::time::sleep(DEADLINE) => None,
        }
    });
    let heard = heard.unwrap();
    assert_eq!((heard.from, heard.bytes.as_ref()), (town.keys(2).public(), b"a transaction".as_slice()));
    assert!(!nodes[2].gossip().send(Bytes::from(vec![0; blockhouse_consensus::tuning::GOSSIP_MAX + 1])));
}

#[test]
fn a_single_validator_is_a_network() {
    let town = Town::new(threshold(13, 1));
    let node = town.start(0);
    town.want(30);
    town.wait(&[0], 30);
    node.stop().unwrap();
}

#[test]
fn a_ledger_behind_the_engine_is_given_what_it_lost() {
    let town = Town::new(committee(14, 1));
    let node = town.start(0);
    town.want(20);
    town.wait(&[0], 20);
    node.stop().unwrap();
    town.ledgers[0].lose(6);
    let node = town.start(0);
    town.wait(&[0], 20);
    town.want(25);
    town.wait(&[0], 25);
    node.stop().unwrap();
}

#[test]
fn a_block_counts_as_delivered_once_it_is_durable() {
    let town = Town::new(committee(19, 1));
    let begin = town.dealt.network.base().height;
    town.ledgers[0].set_disk(false);
    let node = town.start(0);
    town.want(begin + 20);
    town.wait(&[0], begin + 1);
    assert_eq!(processed(&node), 0, "what waits for the disk does not count");
    node.stop().unwrap();
    assert!(town.ledgers[0].crash() > 0, "nothing was durable");
    town.ledgers[0].set_disk(true);
    let node = town.start(0);
    Town::wait_processed(&node, 20);
    assert_eq!(town.ledgers[0].crash(), 0, "what counts is durable");
    assert_eq!(town.ledgers[0].height(), begin + 20);
    node.stop().unwrap();
}

/// None of the others may have the block any more where a node goes on that caught up without its engine.
#[test]
fn who_jumped_ahead_needs_nobody_to_go_on_there() {
    let mut town = Town::new(committee(18, 4));
    let mut nodes: Vec<Handle> = (0..4).map(|index| town.start(index)).collect();
    town.want(20);
    town.wait(&[0, 1, 2, 3], 20);
    nodes.remove(1).stop().unwrap();
    town.want(40);
    town.wait(&[0, 2, 3], 40);
    drop(nodes);
    town.ledgers[1] = town.ledgers[0].copy();
    let config = Config { jumped: true, ..town.config(1) };
    let ledger = Arc::new(town.ledgers[1].clone());
    let (alone, _inbox) = Engine::start(config, town.keys(1), ledger, &town.folder(1)).unwrap();
    // The engine counts from the base.
    Town::wait_processed(&alone, town.ledgers[1].height() - town.dealt.network.base().height);
    alone.stop().unwrap();
}

/// The height up to which the engine has given its ledger what is final.
fn processed(node: &Handle) -> u64 {
    let metrics = node.metrics();
    let line = metrics.lines().find(|line| !line.starts_with('#') && line.contains("processed_height"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_validator_that_lost_its_votes_is_silent_and_follows() {
    let town = Town::new(threshold(15, 4));
    let mut nodes: Vec<Handle> = (0..4).map(|index| town.start(index)).collect();
    town.want(15);
    town.wait(&[0, 1, 2, 3], 15);
    nodes.pop().unwrap().stop().unwrap();
    std::fs::remove_dir_all(town.folder(3)).unwrap();
    let wiped = town.start(3);
    assert_eq!(wiped.status().role, Role::Silent);
    town.want(25);
    town.wait(&[0, 1, 2, 3], 25);
    wiped.stop().unwrap();
    // It stays so: what it said is in its folder.
    let wiped = town.start(3);
    assert_eq!(wiped.status().role, Role::Silent);
    town.want(30);
    town.wait(&[0, 1, 2, 3], 30);
}

/// A ledger at the base is no evidence: it may have been put back, or begun again, without the votes.
#[test]
fn only_a_folder_that_was_made_with_its_key_is_one_of_a_new_validator() {
    let town = Town::new(committee(18, 4));
    let role = |index| town.start(index).status().role;
    assert!(Engine::remembers(&town.folder(0), town.keys(0).public()).unwrap());
    assert_eq!(role(0), Role::Validator);
    assert!(!town.folder(0).join("unvoted").exists(), "the word is given once");
    // What a kill between the two leaves.
    Engine::prepare(&town.folder(0), town.keys(0).public()).unwrap();
    assert_eq!(role(0), Role::Validator);
    assert!(!town.folder(0).join("unvoted").exists());
    assert!(Engine::remembers(&town.folder(0), town.keys(0).public()).unwrap());
    // Lost with the ledger at its base.
    std::fs::remove_dir_all(town.folder(0)).unwrap();
    assert!(!Engine::remembers(&town.folder(0), town.keys(0).public()).unwrap());
    assert_eq!(role(0), Role::Silent);
    // The word of another identity, and one that is damaged.
    Engine::prepare(&town.folder(1), town.keys(2).public()).unwrap();
    assert_eq!(role(1), Role::Silent);
    std::fs::write(town.folder(2).join("unvoted"), b"BHNU").unwrap();
    assert_eq!(role(2), Role::Silent);
    // The operator's word.
    std::fs::remove_file(town.folder(3).join("unvoted")).unwrap();
    let config = Config { never_voted: true, ..town.config(3) };
    let ledger = Arc::new(town.ledgers[3].clone());
    let (node, _inbox) = Engine::start(config, town.keys(3), ledger, &town.folder(3)).unwrap();
    assert_eq!(node.status().role, Role::Validator);
}

#[test]
fn what_cannot_start_says_why() {
    let town = Town::new(committee(16, 1));
    let node = town.start(0);
    let error = town.try_start(0).unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    node.stop().unwrap();
    let stranger = identities(99, 1).remove(0);
    let ledger = || Arc::new(town.ledgers[0].clone());
    let error = Engine::start(town.config(0), stranger, ledger(), &town.folder(0)).unwrap_err();
    assert!(matches!(error, StartError::OtherNode { .. }), "{error}");
    let held = TcpListener::bind(town.ports[0]).unwrap();
    let error = town.try_start(0).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    drop(held);
    let config = Config { addresses: BTreeMap::new(), ..town.config(0) };
    let error = Engine::start(config, town.keys(0), ledger(), &town.folder(0)).unwrap_err();
    assert!(matches!(error, StartError::NoAddress { .. }), "{error}");
    std::fs::write(town.folder(0).join("epoch-0/node"), b"BHNJ").unwrap();
    let error = town.try_start(0).unwrap_err();
    assert!(matches!(error, StartError::NodeFile { .. }), "{error}");
}

/// Flips bytes in every file below the folder.
fn damage(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            count += damage(&entry.path());
            continue;
        }
        let mut bytes = std::fs::read(entry.path()).unwrap();
        for byte in bytes.iter_mut().step_by(7) {
            *byte ^= 0x55;
        }
        std::fs::write(entry.path(), bytes).unwrap();
        count += 1;
    }
    count
}

#[test]
fn a_damaged_journal_ends_the_node_and_not_the_process() {
    let town = Town::new(committee(17, 1));
    let node = town.start(0);
    town.want(20);
    town.wait(&[0], 20);
    node.stop().unwrap();
    assert!(damage(&town.folder(0).join("epoch-0/journal")) > 0);
    let node = town.start(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, node.ended()).await }).unwrap();
    assert!(matches!(ended, Err(EngineError::Failed { .. } | EngineError::Archive { .. })), "{ended:?}");
}
