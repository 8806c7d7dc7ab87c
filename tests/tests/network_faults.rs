//! Four real nodes under kills, pauses, partitions, delay, a full disk and strange clocks, while writers commit: what was called final stays,
//! once, and is the same at all nodes; and the network goes on as soon as three of four can.
//!
//! `BLOCKHOUSE_SEED` says which faults, `BLOCKHOUSE_FAULTS` how many times as many as in CI. Instants are up to the processes: a seed repeats
//! the faults, not the run.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how it is replayed"
)]

#[path = "support/faults.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod faults;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blockhouse_tests::network::number;
use blockhouse_tests::network::proxy::{Cut, Link};
use blockhouse_tests::{need, tree};
use faults::Turn;
use faults::load;
use rand::RngExt;
use serde_json::json;

/// Longer than all timeouts of the engine after which a leader's turn is passed over.
const LONG: Duration = Duration::from_secs(6);
/// For so long nothing becomes final before it is taken that nothing will.
const STILL: Duration = Duration::from_secs(4);

fn millis(random: &mut rand::rngs::StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

/// Kills at any instant, one node or two at once: what was final is final, no transaction is there twice, and each node is the validator
/// that it was.
#[test]
fn kills_at_any_instant_lose_nothing_that_was_final() {
    let mut turn = Turn::begin();
    let mut random = tree::random(turn.seed);
    turn.start_all();
    let load = turn.load(&[0, 1, 2, 3]);
    load.wait_for(1, "the network works");
    for _ in 0..4 * turn.effort {
        std::thread::sleep(millis(&mut random, 100..1200));
        let first = random.random_range(0..4);
        let mut down = vec![first];
        if random.random_ratio(1, 3) {
            // Without a quorum until they are back.
            down.push((first + random.random_range(1..4)) % 4);
        }
        for at in &down {
            turn.apart.kill(*at);
        }
        std::thread::sleep(millis(&mut random, 0..1000));
        for at in &down {
            turn.apart.start(*at);
        }
    }
    load.wait_for(3, "the network goes on after the kills");
    let done = turn.stop(load);
    println!("{} transactions", done.len());
    turn.expect_all_well(&done);
    for at in 0..4 {
        let status = turn.apart.node(at).ask("blockhouse_nodeStatus", &json!([]));
        assert_eq!((&status["role"], &status["conflicts"]), (&json!("validator"), &json!(0)), "{status}");
    }
}

/// A node that stands still longer than all timeouts is passed over, and takes part again when its time goes on.
#[test]
fn a_paused_node_is_passed_over_and_catches_up() {
    let mut turn = Turn::begin();
    let mut random = tree::random(turn.seed);
    turn.start_all();
    for _ in 0..turn.effort {
        let paused = random.random_range(0..4);
        let load = turn.load(&[0, 1, 2, 3]);
        load.wait_for(1, "the network works");
        turn.apart.node(paused).pause(true);
        std::thread::sleep(LONG);
        load.wait_for(5, "three go on without the fourth");
        turn.apart.node(paused).pause(false);
        load.wait_for(5, "they go on with the fourth");
        let done = turn.stop(load);
        turn.expect_all_well(&done);
        // It counts again: without it there is no quorum now.
        turn.apart.kill((paused + 1) % 4);
        let load = turn.load(&[0, 1, 2, 3]);
        load.wait_for(1, "it votes again");
        turn.apart.start((paused + 1) % 4);
        let done = turn.stop(load);
        turn.expect_all_well(&done);
    }
}

/// Two and two agree on nothing, three and one go on; healed, all have one history, with what was handed in on either side.
#[test]
fn a_partition_forks_nothing_and_heals() {
    let mut turn = Turn::begin();
    let mut random = tree::random(turn.seed);
    turn.start_all();
    for round in 0..turn.effort {
        let cut = if (round + turn.seed).is_multiple_of(2) { Cut::Refused } else { Cut::Silent };
        let other = random.random_range(1..4);
        let load = turn.load(&[0, 1, 2, 3]);
        load.wait_for(1, "the network works");
        let mut done = turn.stop(load);
        turn.apart.proxies.cut_off(&[0, other], cut);
        let mut writers = turn.writers.clone();
        let sides: Vec<_> = [0, (1..4).find(|at| *at != other).unwrap()].into_iter().zip(&mut writers).collect();
        let waiting: Vec<_> = sides.into_iter().map(|(at, writer)| (at, writer.open())).collect();
        turn.writers = writers;
        for (at, opening) in &waiting {
            turn.apart.node(*at).ask("eth_sendRawTransaction", &json!([opening.raw]));
        }
        std::thread::sleep(STILL);
        for (at, opening) in &waiting {
            for node in turn.apart.nodes() {
                assert!(load::receipt(&node, opening).is_none(), "half of the nodes made what came to node {at} final");
            }
        }
        turn.apart.proxies.heal();
        let nodes = turn.apart.nodes();
        done.extend(waiting.iter().map(|(_, opening)| load::make_final(&nodes, opening, &mut random)));

        turn.apart.proxies.cut_off(&[other], cut);
        let three: Vec<usize> = (0..4).filter(|at| *at != other).collect();
        let load = turn.load(&three);
        load.wait_for(5, "three go on without the fourth");
        let before = turn.apart.node(other).height();
        load.wait_for(1, "three go on without the fourth");
        assert_eq!(turn.apart.node(other).height(), before, "who is cut off has nothing new");
        turn.apart.proxies.heal();
        load.wait_for(5, "all four go on");
        done.extend(turn.stop(load));
        turn.expect_all_well(&done);
    }
}

/// Over a bad network across the world blocks still become final, and connections that break come back.
#[test]
fn a_slow_and_lossy_network_goes_on() {
    let mut turn = Turn::begin();
    let far = |link: &mut Link| {
        *link = Link {
            delay: Duration::from_millis(150),
            jitter: Duration::from_millis(100),
            lost: 20,
            resets: 2,
            ..Link::default()
        };
    };
    turn.start_all();
    turn.apart.proxies.set(far);
    let load = turn.load(&[0, 1, 2, 3]);
    load.wait_for(12 * usize::try_from(turn.effort).unwrap(), "it goes on, slowly");
    // A proxy that changes does not carry what was sent before any faster.
    turn.apart.proxies.set(|link| *link = Link::default());
    load.wait_for(5, "it is fast again");
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

/// A small disk for a node, and what fills it.
struct SmallDisk {
    at: PathBuf,
    is_mounted: bool,
}

/// A node's files and some blocks.
const DISK: &str = "size=24m";

impl SmallDisk {
    /// Moves the folder to a disk of its own, if this user may mount.
    fn below(folder: &Path) -> Self {
        let aside = folder.with_extension("aside");
        fs::rename(folder, &aside).unwrap();
        fs::create_dir(folder).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(folder).status().unwrap();
        assert!(copied.success());
        fs::remove_dir_all(aside).unwrap();
        Self { at: folder.to_owned(), is_mounted }
    }

    fn fill(&self) {
        let mut ballast = File::create(self.at.join("ballast")).unwrap();
        let mut block = vec![7; 4096];
        while !block.is_empty() {
            match ballast.write(&block) {
                Ok(0) | Err(_) => block.truncate(block.len() / 2),
                Ok(_) => {}
            }
        }
    }

    fn give_space(&self) {
        fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}

/// What a node whose disk is full says, and what becomes of it.
fn expect_out_of_space(turn: &mut Turn, space: &str) {
    let ended = turn.apart.wait_for_end(3, "a node without space ends");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.talk);
    let talk = ended.talk.to_lowercase();
    assert!(talk.contains(space), "it should say `{space}`: {}", ended.talk);
    assert!(talk.contains("error:") && talk.contains("hint:"), "it should say what to do: {}", ended.talk);
}

/// A node without space says so and ends; the others go on; with space it is back.
#[test]
fn a_full_disk_ends_its_node_alone() {
    let mut turn = Turn::begin();
    let disk = SmallDisk::below(&turn.apart.node(3).dir.clone());
    if !need::right(disk.is_mounted, "this user may not mount: a file may not grow instead") {
        return where_a_file_may_not_grow(&mut turn);
    }
    turn.start_all();
    let load = turn.load(&[0, 1, 2, 3]);
    load.wait_for(1, "the network works");
    disk.fill();
    expect_out_of_space(&mut turn, "no space left");
    load.wait_for(5, "three go on without the fourth");
    match turn.apart.try_start(3) {
        Err(refused) => assert!(refused.talk.to_lowercase().contains("no space left"), "{}", refused.talk),
        // Nothing had to be written yet.
        Ok(()) => expect_out_of_space(&mut turn, "no space left"),
    }
    disk.give_space();
    turn.apart.start(3);
    load.wait_for(5, "all four go on");
    let done = turn.stop(load);
    turn.expect_all_well(&done);
    if turn.effort > 1 {
        (0..4).for_each(|at| turn.apart.kill(at));
        where_a_file_may_not_grow(&mut turn);
    }
    // Else its disk would be in use.
    turn.apart.kill(3);
}

/// The same where a file may not grow, which needs no right.
fn where_a_file_may_not_grow(turn: &mut Turn) {
    for at in 0..3 {
        turn.apart.start(at);
    }
    let largest = fs::metadata(turn.apart.node(3).dir.join("ledger.redb")).unwrap().len();
    // In blocks of 512 bytes, as `ulimit` counts; the signal that comes with it is not for nodes.
    let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", largest / 512);
    turn.apart.start_under(3, &["sh", "-c", &limited], &[]);
    let load = turn.load(&[0, 1, 2, 3]);
    expect_out_of_space(turn, "too large");
    load.wait_for(5, "three go on without the fourth");
    turn.apart.start(3);
    load.wait_for(5, "all four go on");
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

fn faketime() -> Option<String> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found = places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|path| path.is_file());
    let found = need::program("libfaketime", "libfaketime", found.is_some()).then_some(found).flatten();
    found.map(|path| path.to_str().unwrap().to_owned())
}

/// Starts a node whose clock is off by so much.
fn start_off(turn: &mut Turn, at: usize, library: &str, off: &str) {
    let variables = [("LD_PRELOAD", library), ("FAKETIME", off), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    turn.apart.start_under(at, &[], &variables);
}

/// Clocks that differ by less than half a second harm nothing. One that is an hour ahead loses its turns, and no time of the ledger comes
/// from it.
#[test]
fn a_strange_clock_costs_its_node_its_turns() {
    let Some(library) = faketime() else { return };
    let mut turn = Turn::begin();
    for (at, off) in ["-0.4s", "+0.0s", "-0.2s", "+0.4s"].into_iter().enumerate() {
        start_off(&mut turn, at, &library, off);
    }
    let load = turn.load(&[0, 1, 2, 3]);
    load.wait_for(12, "clocks that are a little off");
    let mut done = turn.stop(load);
    turn.expect_all_well(&done);

    turn.apart.kill(1);
    start_off(&mut turn, 1, &library, "+1h");
    let load = turn.load(&[0, 2, 3]);
    load.wait_for(12, "three go on beside a clock that is an hour ahead");
    done.extend(turn.stop(load));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let last = turn.apart.node(0).ask("eth_getBlockByNumber", &json!(["latest", false]));
    assert!(number(&last["timestamp"]).abs_diff(now) < 600, "the ledger's time is that of the others: {last}");
    assert!(turn.apart.runs(1), "it ended: {}", turn.apart.talk(1));

    turn.apart.kill(1);
    turn.apart.start(1);
    turn.expect_all_well(&done);
}
