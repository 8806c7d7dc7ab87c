//! A real process is killed while it seals: what it reported as sealed is there, whole, and the chain goes on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "a child reports to its parent")]

mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy_primitives::TxKind;
use blockhouse_homes::store::{Access, PagePlace};
use blockhouse_homes::{Embedded, Store};
use support::{Choices, World, account, genesis, options, seed};

const FOLDER: &str = "BLOCKHOUSE_TEST_KILL_FOLDER";
const ROUNDS: u64 = 25;

/// The child of the test below: seals and reports until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run as a child process by the test below"]
async fn child_seals_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let clock = std::sync::Arc::new(support::START.into());
    let home = Embedded::new(options(&std::path::Path::new(&folder).join("ledger.redb"), &clock));
    let mut nonce: u64 = std::env::var("NONCE").unwrap().parse().unwrap();
    loop {
        clock.store(home.standing().await.unwrap().time + 1, std::sync::atomic::Ordering::SeqCst);
        // A new writer with each block, so that the state grows and pages are split.
        let mut who = [0; 32];
        who[24..].copy_from_slice(&(nonce + 1_000_000).to_be_bytes());
        let writer = blockhouse_crypto::AccountSecret::try_new(&blockhouse_crypto::Secret::new(who)).unwrap();
        let to = TxKind::Call(genesis().access_address());
        let raw = support::sign(&account(1), nonce, to, support::enrol(&writer), 1_000_000);
        let sealed = home.seal(vec![raw]).await.unwrap();
        println!("sealed {} {}", sealed.height, sealed.hash);
        std::io::stdout().flush().unwrap();
        nonce += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_a_sealed_block_stays() {
    let world = World::deployed().await;
    let mut choices = Choices(seed());
    let mut sealed = 1;
    for round in 0..ROUNDS {
        let before = world.another().standing().await.unwrap();
        let delay = Duration::from_micros(choices.below(40_000));
        let after_blocks = choices.below(5);
        let reported = run_child(&world, before.height + 2, after_blocks, delay);
        expect_a_start(&world);
        let standing = world.another().standing().await.unwrap();
        let hint = format!("round {round}, seed {}", seed());
        for (height, hash) in &reported {
            let objects = world.another().block_objects(*height, 1).await.unwrap();
            assert_eq!(&format!("0x{}", objects[0].hash()), hash, "{hint}");
        }
        let last = reported.last().map_or(before.height, |(height, _)| *height);
        assert!((last..=last + 1).contains(&standing.height), "at most one more than was reported: {hint}");
        sealed = standing.height;
    }
    assert!(sealed > ROUNDS, "the children came to seal");
    let fresh = Embedded::new(options(&world.folder.path().join("fresh.redb"), &world.clock));
    let objects = world.home.block_objects(0, usize::MAX).await.unwrap();
    assert_eq!(fresh.rebuild_from(objects).await.unwrap().imported.height, sealed);
}

/// A node starts over what the kill left, and all pages are sound.
fn expect_a_start(world: &World) {
    let copy = world.folder.path().join("copy.redb");
    std::fs::copy(world.path(), &copy).unwrap();
    let store = Store::open(&copy, Access::Watched, Duration::ZERO, None).unwrap();
    let mut place = Some(PagePlace::default());
    while let Some(from) = place {
        place = store.compare_pages(&from, 1 << 16).unwrap();
    }
}

/// Starts a child, kills it a while after it reported some blocks, and returns all that it reported.
fn run_child(world: &World, nonce: u64, blocks: u64, delay: Duration) -> Vec<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_seals_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, world.folder.path())
        .env("NONCE", nonce.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut reported: Vec<_> =
        lines.by_ref().filter_map(|line| report(&line)).take(usize::try_from(blocks).unwrap()).collect();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reported.extend(lines.filter_map(|line| report(&line)));
    reported
}

fn report(line: &str) -> Option<(u64, String)> {
    // The first report follows words of the test runner on the same line.
    let mut words = line.split_once("sealed ")?.1.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
}
