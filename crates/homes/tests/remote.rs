//! A host whose ledger is kept by others: what it believes, what it sends, and what it makes of nodes that fail or lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_network::TransactionBuilder;
use alloy_primitives::{Bytes, TxKind};
use alloy_provider::Provider;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;
use blockhouse_homes::forks::ForkFolder;
use blockhouse_homes::remote::{Deadlines, NodeError};
use blockhouse_homes::rpc::{EmbeddedBackend, Server, ServerOptions};
use blockhouse_homes::{Embedded, HomeError, Options, Remote, RemoteError, provider};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::fork::{ForkEvidence, ForkSide};
use blockhouse_ledger::{BlockPlace, Certificate, TrustRoot};
use blockhouse_types::BlockHash;
use support::node::{Fault, Node};
use support::{World, account, genesis, ledger_key, open_session, sign, signer};
use tempfile::TempDir;

/// Short where a test waits for it to pass.
const SHORT: Deadlines = Deadlines {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(30),
    finality: Duration::from_millis(50),
    again: Duration::from_mins(1),
};

/// A host with a copy of its own, at its beginning.
struct Host {
    folder: TempDir,
    home: Embedded,
}

impl Host {
    fn new(world: &World, urls: &[String], deadlines: Deadlines) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = follower(world, &folder.path().join("ledger.redb"), urls, deadlines);
        Self { folder, home }
    }

    async fn begun(world: &World, urls: &[String], deadlines: Deadlines) -> Self {
        let host = Self::new(world, urls, deadlines);
        host.home.rebuild_from_network(genesis().hash()).await.unwrap();
        host
    }

    async fn heads_agree(&self, world: &World) -> bool {
        self.home.standing().await.unwrap() == world.home.standing().await.unwrap()
    }
}

fn follower(world: &World, path: &Path, urls: &[String], deadlines: Deadlines) -> Embedded {
    let clock = Arc::clone(&world.clock);
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    Embedded::new(Options::of_network(path, clock, Remote::with_deadlines(urls, deadlines).unwrap()))
}

/// A port at which nobody is.
fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn remote_error(error: HomeError) -> RemoteError {
    match error {
        HomeError::Remote(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_copy_is_made_from_block_0_and_then_follows() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    assert!(host.heads_agree(&world).await);
    host.home.check().await.unwrap();
    for nonce in 0..3 {
        world.session(nonce).await;
    }
    assert_eq!(host.home.follow().await.unwrap().added, 3);
    assert_eq!(host.home.follow().await.unwrap().added, 0);
    assert!(host.heads_agree(&world).await);
    // A damaged copy is made anew the same way.
    std::fs::write(host.folder.path().join("ledger.redb"), b"rot").unwrap();
    let again = follower(&world, &host.folder.path().join("ledger.redb"), &[node.url()], Deadlines::default());
    let (rebuilt, followed) = again.rebuild_from_network(genesis().hash()).await.unwrap();
    assert!(rebuilt.kept.is_some() && followed.problems.is_empty());
    assert_eq!(again.standing().await.unwrap(), world.home.standing().await.unwrap());
}

/// The server that nodes have, and not the one that these tests hold in their hand.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_gives_what_a_host_asks_for() {
    let world = World::with_writer().await;
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let backend = EmbeddedBackend::open(world.home.clone()).await.unwrap();
    let server = Server::start(backend, ServerOptions { listen, ..ServerOptions::default() }).await.unwrap();
    let url = format!("http://{}", server.address());
    let host = Host::begun(&world, std::slice::from_ref(&url), SHORT).await;
    assert_eq!(host.home.network().unwrap().genesis().await.unwrap(), genesis());
    let sealed = host.home.seal(vec![open_session(0), open_session(1)]).await.unwrap();
    assert!(sealed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
    assert!(host.heads_agree(&world).await);
    let refused = remote_error(host.home.seal(vec![open_session(1)]).await.unwrap_err());
    assert!(matches!(&refused, RemoteError::Refused { why } if why.contains("nonce")), "{refused}");
    let stranger = sign(&account(9), 0, TxKind::Call(genesis().vault_address()), Bytes::new(), 100_000);
    let refused = remote_error(host.home.seal(vec![stranger]).await.unwrap_err());
    assert!(matches!(refused, RemoteError::NotEnrolled { .. }), "{refused}");
    server.stop().await;
    assert!(matches!(remote_error(host.home.follow().await.unwrap_err()), RemoteError::NoNode { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_counts_when_its_block_is_here() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    // Another host's block comes between the copy and the sending.
    world.session(0).await;
    let sealed = host.home.seal(vec![open_session(1), open_session(2)]).await.unwrap();
    assert_eq!(sealed.receipts.len(), 2);
    assert!(sealed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
    assert!(host.heads_agree(&world).await);
    assert_eq!(host.home.standing().await.unwrap().height, sealed.height);
    assert_eq!(host.home.block_objects(sealed.height, 1).await.unwrap(), vec![sealed.object]);
}

/// The provider that `vault` uses: the nonce comes from the node, all else from the host's own copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_sends_through_the_nodes_and_reads_its_own_copy() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    let writer = provider::sender(host.home.clone(), signer(&account(3)));
    // The copy does not know that nonce 0 is used.
    world.session(0).await;
    let call = Vault::openSessionCall { leaseSeconds: 600 };
    let request = || TransactionRequest::default().with_to(genesis().vault_address()).with_input(call.abi_encode());
    let receipt = writer.send_transaction(request()).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert_eq!(writer.get_transaction_count(support::address(&account(3))).await.unwrap(), 2);
    let asked = node.asked();
    writer.get_block_number().await.unwrap();
    writer.estimate_gas(request().with_from(support::address(&account(3)))).await.unwrap();
    assert_eq!(node.asked(), asked, "reading asks nobody");
}

/// What was seen: two hosts opened sessions at the same time, and the later one ran out of the gas that it had estimated before.
#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_has_room_for_what_others_record_meanwhile() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    let call = Vault::openSessionCall { leaseSeconds: 600 };
    let request = TransactionRequest::default().with_to(genesis().vault_address()).with_input(call.abi_encode());
    let request = request.with_from(support::address(&account(3)));
    let there = provider::reader(world.home.clone()).estimate_gas(request.clone()).await.unwrap();
    let here = provider::reader(host.home.clone()).estimate_gas(request).await.unwrap();
    assert_eq!(here, there + there / 2 + 100_000);
}

/// Two processes with one account: each is told apart by the nonce, and both get through.
#[tokio::test(flavor = "multi_thread")]
async fn two_senders_of_one_account_do_not_lose_each_others_transactions() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let one = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    let other = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    let (first, second) =
        tokio::join!(one.home.seal(vec![open_session(0)]), other.home.seal(vec![distinct_session(0)]));
    let (sealed, refused) = match (first, second) {
        (Ok(sealed), Err(refused)) | (Err(refused), Ok(sealed)) => (sealed, refused),
        both => panic!("{both:?}"),
    };
    assert!(sealed.receipts[0].status());
    let refused = remote_error(refused);
    assert!(matches!(&refused, RemoteError::Refused { why } if why.contains("nonce")), "{refused}");
    other.home.seal(vec![open_session(1)]).await.unwrap();
}

fn distinct_session(nonce: u64) -> Bytes {
    let input = Vault::openSessionCall { leaseSeconds: 700 }.abi_encode();
    sign(&account(3), nonce, TxKind::Call(genesis().vault_address()), input.into(), 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_is_asked_when_one_fails() {
    let world = World::with_writer().await;
    let (bad, good) = (Node::start(world.home.clone()), Node::start(world.home.clone()));
    let urls = [nobody(), bad.url(), good.url()];
    let mut nonce = 0;
    for fault in [Fault::Mute, Fault::Status, Fault::Garbage, Fault::Endless, Fault::Forges, Fault::Skips] {
        bad.set(fault);
        let host = Host::begun(&world, &urls, Deadlines::default()).await;
        world.session(nonce).await;
        // Asked in the order of their URLs: a handle of its own remembers no good node.
        let fresh = follower(&world, &host.folder.path().join("ledger.redb"), &urls, Deadlines::default());
        let followed = fresh.follow().await.unwrap();
        assert_eq!((followed.added, followed.problems.len()), (1, 2), "{fault:?}");
        let is_evidence = followed.problems[1].error.is_evidence();
        assert_eq!(is_evidence, fault == Fault::Forges, "{fault:?}: {}", followed.problems[1]);
        fresh.seal(vec![open_session(nonce + 1)]).await.unwrap();
        assert!(host.heads_agree(&world).await);
        nonce += 2;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_blocks_and_those_of_another_ledger_are_never_taken() {
    let world = World::with_writer().await;
    let other = World::other(77).await;
    let node = Node::start(world.home.clone());
    let foreign = Node::start(other.home.clone());
    let host = Host::begun(&world, &[node.url()], Deadlines::default()).await;
    let before = host.home.standing().await.unwrap();
    world.session(0).await;
    node.set(Fault::Forges);
    let path = host.folder.path().join("ledger.redb");
    for url in [node.url(), foreign.url()] {
        let home = follower(&world, &path, &[url], SHORT);
        for error in [home.follow().await.unwrap_err(), home.seal(vec![open_session(1)]).await.unwrap_err()] {
            let RemoteError::NoNode { problems } = remote_error(error) else { panic!("no node is usable") };
            assert!(matches!(problems[0].error, NodeError::Blocks(_)), "{}", problems[0]);
        }
        assert_eq!(home.standing().await.unwrap(), before);
    }
    let fresh = Host::new(&world, &[foreign.url()], SHORT);
    let error = fresh.home.rebuild_from_network(genesis().hash()).await.unwrap_err();
    let RemoteError::NoNode { problems } = remote_error(error) else { panic!("no node is usable") };
    assert!(matches!(problems[0].error, NodeError::OtherGenesis { .. }));
    assert!(!fresh.folder.path().join("ledger.redb").exists());
}

/// A node of another ledger that is shorter has no block at the host's head: it is told by its block 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_ledger_of_others_is_told_from_one_that_is_behind() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], SHORT).await;
    let other = World::other(77).await;
    let foreign = Node::start(other.home.clone());
    foreign.set(Fault::Stale);
    let home = follower(&world, &host.folder.path().join("ledger.redb"), &[foreign.url()], SHORT);
    let RemoteError::NoNode { problems } = remote_error(home.follow().await.unwrap_err()) else { panic!("unusable") };
    assert!(matches!(problems[0].error, NodeError::OtherGenesis { .. }), "{}", problems[0]);
    node.set(Fault::Stale);
    assert_eq!(host.home.follow().await.unwrap().added, 0);
}

/// R2: an answer that was lost is neither a success nor a refusal; the blocks decide.
#[tokio::test(flavor = "multi_thread")]
async fn a_sending_whose_answer_was_lost_is_found_in_the_blocks() {
    let world = World::with_writer().await;
    let (loses, good) = (Node::start(world.home.clone()), Node::start(world.home.clone()));
    for urls in [vec![loses.url()], vec![loses.url(), good.url()]] {
        let nonce = world.home.standing().await.unwrap().height - 2;
        let host = Host::begun(&world, &urls, Deadlines::default()).await;
        loses.set(Fault::LosesAnswers);
        let sealed = host.home.seal(vec![open_session(nonce)]).await.unwrap();
        assert!(sealed.receipts[0].status());
        loses.set(Fault::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_become_final_is_said_with_its_hash() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], SHORT).await;
    node.set(Fault::Swallows);
    let error = remote_error(host.home.seal(vec![open_session(0)]).await.unwrap_err());
    let RemoteError::NotFinal { sent, .. } = &error else { panic!("{error}") };
    assert_eq!(sent.len(), 1);
    assert!(error.to_string().contains(&sent[0].to_string()) && error.to_string().contains("may still become final"));
}

/// A node that took a transaction and died with it holds up nobody for ever: the next one gets it too.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_lost_is_given_to_the_next() {
    let world = World::with_writer().await;
    let (lossy, good) = (Node::start(world.home.clone()), Node::start(world.home.clone()));
    let deadlines = Deadlines { again: Duration::from_millis(1), ..Deadlines::default() };
    let host = Host::begun(&world, &[lossy.url(), good.url()], deadlines).await;
    lossy.set(Fault::Swallows);
    assert!(host.home.seal(vec![open_session(0)]).await.unwrap().receipts[0].status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_that_he_is_one_and_others_why() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], SHORT).await;
    let to = TxKind::Call(genesis().vault_address());
    let stranger = sign(&account(9), 0, to, Bytes::new(), 100_000);
    let error = remote_error(host.home.seal(vec![stranger]).await.unwrap_err());
    assert!(matches!(error, RemoteError::NotEnrolled { account } if account == support::address(&support::account(9))));
    let too_much = sign(&account(3), 0, to, Bytes::new(), u64::MAX);
    let error = remote_error(host.home.seal(vec![too_much]).await.unwrap_err());
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    let in_part = vec![open_session(0), sign(&account(3), 1, to, Bytes::new(), u64::MAX)];
    let error = remote_error(host.home.seal(in_part).await.unwrap_err());
    assert!(matches!(error, RemoteError::InPart { sent: 1, of: 2, .. }), "{error}");
    assert!(matches!(remote_error(host.home.seal(vec![]).await.unwrap_err()), RemoteError::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_reading_goes_on_and_sending_does_not() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let address = node.address();
    let host = Host::begun(&world, &[node.url()], SHORT).await;
    drop(node);
    assert!(host.heads_agree(&world).await);
    let error = remote_error(host.home.seal(vec![open_session(0)]).await.unwrap_err());
    assert!(matches!(error, RemoteError::NoNode { .. }));
    let _back = Node::start_at(world.home.clone(), address);
    host.home.seal(vec![open_session(0)]).await.unwrap();
}

/// A node that is behind shows nothing new, and takes nothing away.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_changes_nothing() {
    let world = World::with_writer().await;
    let node = Node::start(world.home.clone());
    let host = Host::begun(&world, &[node.url()], SHORT).await;
    node.set(Fault::Stale);
    assert_eq!(host.home.follow().await.unwrap().added, 0);
    assert!(host.heads_agree(&world).await);
}

/// Keeps so many forks beside the ledger of that host.
fn keep_forks(host: &Host, count: u64) -> ForkFolder {
    let key = ledger_key(9);
    let forks = ForkFolder::beside(&host.folder.path().join("ledger.redb"));
    let root = TrustRoot::new(&genesis(), key.public());
    for height in 1..=count {
        let side = |timestamp| {
            let header = alloy_consensus::Header { number: height, timestamp, ..Default::default() };
            let hash = BlockHash::new(header.hash_slow().0);
            let place = BlockPlace { chain_id: root.chain_id, height, hash };
            ForkSide { header, certificate: Certificate::solo(&key, &place) }
        };
        let evidence = ForkEvidence::new(root, Vec::new(), [side(1), side(2)]);
        forks.keep(&evidence, &evidence.check(None).unwrap()).unwrap();
    }
    forks
}

/// What was seen: a node that hung took all the time that there is for handing on, and of a second fork no other node heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_keeps_no_fork_from_the_others() {
    let world = World::with_writer().await;
    let (hangs, good) = (Node::start(world.home.clone()), Node::start(world.home.clone()));
    let host = Host::begun(&world, &[hangs.url(), good.url()], Deadlines::default()).await;
    let forks = keep_forks(&host, 3);
    hangs.set(Fault::Hangs);
    let all_are_there = async {
        while good.handed() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        () = all_are_there => {}
        _ = host.home.follow() => panic!("it ended, and the other node was handed {} of 3 forks", good.handed()),
    }
    assert!(forks.all().unwrap().iter().all(|kept| !kept.is_told()), "who did not answer may not have heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_handed_on_until_every_node_could_judge_it() {
    let world = World::with_writer().await;
    let (busy, good) = (Node::start(world.home.clone()), Node::start(world.home.clone()));
    let host = Host::begun(&world, &[good.url(), busy.url()], Deadlines::default()).await;
    let forks = keep_forks(&host, 1);
    for (fault, is_told) in [(Fault::Busy, false), (Fault::None, true)] {
        busy.set(fault);
        host.home.follow().await.unwrap();
        assert_eq!(forks.all().unwrap()[0].is_told(), is_told, "{fault:?}");
    }
    assert_eq!((good.handed(), busy.handed()), (2, 2));
    host.home.follow().await.unwrap();
    assert_eq!((good.handed(), busy.handed()), (2, 2), "who has all of it is handed nothing");
}

#[test]
fn a_network_has_nodes() {
    assert!(matches!(Remote::new(Vec::new()), Err(RemoteError::NoUrl)));
}
