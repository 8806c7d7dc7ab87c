//! A node with files, a configuration or peers that cannot be right: it says so and how to go on, and three others do not care.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failure is a failed test, and says how it is replayed"
)]

#[path = "support/faults.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod faults;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use blockhouse_tests::network::apart::{Apart, Ended, Founded, found};
use blockhouse_tests::network::wait_until;
use blockhouse_tests::tree;
use blockhouse_tests::world::exit;
use faults::Turn;
use faults::load::Load;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;

/// The node that suffers.
const ODD: usize = 3;

/// Three nodes with a load, and the fourth ready to be started.
fn three_at_work() -> (Turn, Load) {
    let mut turn = Turn::begin();
    turn.start_all();
    let load = turn.load(&[0, 1, 2]);
    go_on(&load);
    turn.apart.end(ODD);
    (turn, load)
}

#[track_caller]
fn go_on(load: &Load) {
    load.wait_for(2, "the others go on");
}

/// One clear error: what failed, where, what to do.
#[track_caller]
fn expect_refusal(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.talk);
    assert_eq!(ended.talk.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ended.talk);
    assert!(!ended.talk.contains("panicked"), "{}", ended.talk);
    for word in words.iter().chain(&["hint: "]) {
        assert!(ended.talk.contains(word), "it should name `{word}`: {}", ended.talk);
    }
}

/// A network that has nothing to do with the one of the tests.
fn another_network() -> &'static Founded {
    static OTHER: OnceLock<Founded> = OnceLock::new();
    OTHER.get_or_init(|| found(|_, _| {}))
}

/// A folder as it is now, to be put back.
struct Kept {
    folder: PathBuf,
    copy: PathBuf,
}

impl Kept {
    fn of(folder: &Path) -> Self {
        let kept = Self { folder: folder.to_owned(), copy: folder.with_extension("kept") };
        copy_folder(&kept.folder, &kept.copy);
        kept
    }

    fn put_back(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
        copy_folder(&self.copy, &self.folder);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn configurations_that_cannot_be_are_refused_with_the_reason() {
    let (mut turn, load) = three_at_work();
    let kept = Kept::of(&turn.apart.node(ODD).dir);
    let file = kept.folder.join("node.toml");
    let text = fs::read_to_string(&file).unwrap();
    let validators: Vec<&str> = text.lines().filter(|line| line.len() > 64 && line.contains(" = ")).collect();
    let address = validators[1].split_once(" = ").unwrap().1;
    let moved = |at: usize| format!("{} = {address}", validators[at].split_once(" = ").unwrap().0);
    let after = |line: &str, more: &str| text.replace(line, &format!("{line}\n{more}"));
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken_at = taken.local_addr().unwrap();
    let own = format!("listen = \"{}\"", turn.apart.listens(ODD));
    let cases: Vec<(String, Vec<String>)> = vec![
        (format!("speed = 3\n{text}"), vec!["node.toml".into(), "line 1: unknown field `speed`".into()]),
        (after("[rpc]", "limits = 3"), vec!["node.toml".into(), "unknown field `limits`".into()]),
        (after(validators[0], validators[0]), vec!["node.toml".into(), "duplicate key".into()]),
        (text.replace(validators[0], &moved(0)), vec!["node.toml".into(), "have the same address".into()]),
        (text.replace(validators[0], ""), vec!["node.toml".into(), "has no address".into()]),
        (text.replace(address, "\"nowhere\""), vec!["node.toml".into(), "`nowhere` is not host:port".into()]),
        (text.replace(&own, &format!("listen = \"{taken_at}\"")), vec![format!("could not listen on {taken_at}")]),
        (
            text.replace(&format!("127.0.0.1:{}", turn.apart.node(ODD).port()), &taken_at.to_string()),
            vec![format!("{taken_at}")],
        ),
        (format!("metrics = \"{taken_at}\"\n{text}"), vec![format!("{taken_at}")]),
    ];
    for (text, words) in cases {
        fs::write(&file, &text).unwrap();
        let Err(ended) = turn.apart.try_start(ODD) else { panic!("it started with\n{text}") };
        expect_refusal(&ended, exit::FAILED, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    go_on(&load);
    kept.put_back();
    turn.apart.start(ODD);
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

#[test]
fn folders_that_are_used_twice_or_of_others_are_refused() {
    let (mut turn, load) = three_at_work();
    // A folder that a node uses.
    let twice = turn.world.outside("node run --dir").arg(&turn.apart.node(0).dir).run();
    assert!(twice.stderr.contains("hint: ") && !twice.stderr.contains("panicked"), "{}", twice.stderr);
    twice.refuses(exit::BUSY, "another process");
    assert!(turn.apart.runs(0));

    // Files of another node, and of another network.
    let other = another_network();
    let strange = turn.world.path("strange");
    other.write_node(ODD, &strange);
    let kept = Kept::of(&turn.apart.node(ODD).dir);
    let sibling = turn.apart.node(0).dir.clone();
    let refuse = |apart: &mut Apart, from: &Path, name: &str, words: &[&str]| {
        fs::copy(from.join(name), kept.folder.join(name)).unwrap();
        let Err(ended) = apart.try_start(ODD) else { panic!("it started with the file {name} of {}", from.display()) };
        expect_refusal(&ended, exit::FAILED, words);
        kept.put_back();
    };
    refuse(&mut turn.apart, &sibling, "node.key", &["engine/epoch-0", "belongs to another node or network"]);
    refuse(&mut turn.apart, &strange, "node.key", &["engine/epoch-0", "belongs to another node or network"]);
    refuse(&mut turn.apart, &strange, "network", &["begins otherwise"]);
    refuse(&mut turn.apart, &strange, "ledger.redb", &["begins otherwise"]);
    refuse(&mut turn.apart, &strange, "engine/epoch-0/node", &["engine/epoch-0", "belongs to another node or network"]);
    go_on(&load);
    turn.apart.start(ODD);
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

/// Whether a node that was started with a damaged file is level with the others, or why it ended.
fn fate(apart: &mut Apart, load: &Load) -> Option<Ended> {
    if let Err(ended) = apart.try_start(ODD) {
        return Some(ended);
    }
    // It has to catch up with blocks that were not there when it was damaged.
    go_on(load);
    let height = apart.node(0).height();
    let is_level = |apart: &Apart| {
        let height_of = apart.node(ODD).try_ask("eth_blockNumber", &json!([])).ok();
        height_of.is_some_and(|answer| blockhouse_tests::network::number(&answer["result"]) >= height)
    };
    wait_until(|| !apart.runs(ODD) || is_level(apart), "a node with a damaged file catches up or ends");
    if apart.runs(ODD) {
        apart.kill(ODD);
        return None;
    }
    Some(apart.wait_for_end(ODD, "it ended"))
}

/// What a fault of a disk makes of a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { at: usize },
    Cut { to: usize },
    Zeros { from: usize },
}

impl Damage {
    /// A flip somewhere, the second half lost, or zeros for it.
    fn any(random: &mut StdRng, length: usize) -> Self {
        match random.random_range(0..4) {
            0 => Self::Cut { to: length / 2 },
            1 => Self::Zeros { from: length / 2 },
            _ => Self::Flip { at: random.random_range(0..length) },
        }
    }

    fn to(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Flip { at } => bytes[at] ^= 1 << (at % 8),
            Self::Cut { to } => bytes.truncate(to),
            Self::Zeros { from } => bytes[from..].fill(0),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// The files with something in them, in a fixed order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata if metadata.len() > 0 => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// A node whose files a disk damaged goes on with what can be had from its peers, or ends with the name of what is damaged; never a panic.
#[test]
fn damaged_files_end_their_node_alone_or_heal() {
    let (mut turn, load) = three_at_work();
    let mut random = tree::random(turn.seed);
    let kept = Kept::of(&turn.apart.node(ODD).dir);
    let mut cases: Vec<(PathBuf, Damage)> = files_below(&kept.folder.join("engine/epoch-0/journal"))
        .into_iter()
        .map(|path| (path.clone(), Damage::any(&mut random, fs::metadata(&path).unwrap().len().try_into().unwrap())))
        .collect();
    cases.shuffle(&mut random);
    // Each file of the engine in a long run, some of them in CI; those that have but one place always.
    cases.truncate(usize::try_from(turn.effort * 2).unwrap());
    let (store, node) = (kept.folder.join("ledger.redb"), kept.folder.join("engine/epoch-0/node"));
    let length = usize::try_from(fs::metadata(&store).unwrap().len()).unwrap();
    cases.extend([
        (store.clone(), Damage::Flip { at: random.random_range(0..320) }),
        (store, Damage::Cut { to: length / 2 }),
        (node, Damage::Flip { at: 10 }),
    ]);
    for (path, damage) in cases {
        kept.put_back();
        damage.to(&path);
        let name = path.strip_prefix(&kept.folder).unwrap();
        match fate(&mut turn.apart, &load) {
            None => println!("{} {damage:?}: it went on", name.display()),
            Some(ended) => {
                println!("{} {damage:?}: {}", name.display(), ended.talk.trim().replace('\n', " | "));
                let part = name.components().next().unwrap().as_os_str().to_str().unwrap();
                // The same code as of a vault whose ledger is damaged.
                let code = if part == "ledger.redb" { exit::UNREACHABLE } else { exit::FAILED };
                expect_refusal(&ended, code, &[part]);
            }
        }
    }
    go_on(&load);
    kept.put_back();
    turn.apart.start(ODD);
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

/// What the error advises: without its votes a node follows, and the ledger of another node does as well as its own.
#[test]
fn a_node_without_its_votes_follows_and_one_without_its_ledger_takes_anothers() {
    let (mut turn, load) = three_at_work();
    let role = |apart: &Apart| apart.node(ODD).ask("blockhouse_nodeStatus", &json!([]))["role"].clone();
    let folder = turn.apart.node(ODD).dir.clone();
    fs::write(folder.join("ledger.redb"), "no ledger").unwrap();
    assert!(turn.apart.try_start(ODD).is_err());
    turn.apart.end(0);
    fs::copy(turn.apart.node(0).dir.join("ledger.redb"), folder.join("ledger.redb")).unwrap();
    turn.apart.start(0);
    turn.apart.start(ODD);
    go_on(&load);
    turn.apart.wait_until_level(&[0, 1, 2, ODD]);
    assert_eq!(role(&turn.apart), "validator", "its votes are there");
    turn.apart.end(ODD);

    let journal = folder.join("engine/epoch-0/journal");
    fs::rename(&journal, journal.with_extension("aside")).unwrap();
    for _ in 0..2 {
        turn.apart.start(ODD);
        go_on(&load);
        turn.apart.wait_until_level(&[0, 1, 2, ODD]);
        assert_eq!(role(&turn.apart), "silent", "its votes are lost");
        turn.apart.end(ODD);
    }
    turn.apart.start(ODD);
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}

/// What waits is in the journal of the pool: damage costs what it hit, is told, and keeps a copy.
#[test]
fn a_damaged_journal_of_the_pool_is_told_and_costs_what_it_hit() {
    let mut turn = Turn::begin();
    turn.start_all();
    // Without a quorum what is handed in waits.
    for at in [0, 1, 2] {
        turn.apart.kill(at);
    }
    let openings: Vec<_> = turn.writers.iter_mut().map(faults::writers::Writer::open).collect();
    for opening in &openings {
        faults::writers::send(turn.apart.node(ODD), opening);
    }
    turn.apart.kill(ODD);
    let pool = turn.apart.node(ODD).dir.join("pool");
    let whole = fs::read(&pool).unwrap();
    // Inside the second of three.
    Damage::Flip { at: whole.len() / 2 }.to(&pool);
    turn.apart.start(ODD);
    let talk = turn.apart.talk(ODD);
    assert!(talk.contains("pool.damaged") && talk.contains("warning"), "{talk}");
    assert_ne!(fs::read(pool.with_extension("damaged")).unwrap(), whole);
    for at in [0, 1, 2] {
        turn.apart.start(at);
    }
    let mut random = tree::random(turn.seed);
    let nodes = turn.apart.nodes();
    let done = [0, 2].map(|at| {
        // They come from the journal alone: nobody hands them in again.
        let mut found = None;
        wait_until(
            || {
                found = faults::load::receipt(&nodes[0], &openings[at]);
                found.is_some()
            },
            "what is whole in the journal becomes final",
        );
        found.unwrap()
    });
    let lost = faults::load::make_final(&nodes, &openings[1], &mut random);
    turn.expect_all_well(&[&done[..], &[lost]].concat());

    // A file of a version to come is left as it is.
    turn.apart.end(ODD);
    let mut newer = fs::read(&pool).unwrap();
    newer[4] += 1;
    fs::write(&pool, &newer).unwrap();
    let Err(ended) = turn.apart.try_start(ODD) else { panic!("it started") };
    expect_refusal(&ended, exit::FAILED, &["pool", "cannot be read by this version"]);
    assert_eq!(fs::read(&pool).unwrap(), newer);
}

/// Peers that nobody named: of another network at the address of one that was, and with a key that nobody knows.
#[test]
fn strangers_are_not_let_in() {
    let (mut turn, load) = three_at_work();
    let peers = |apart: &Apart, at: usize| apart.node(at).ask("blockhouse_nodeStatus", &json!([]))["peers"].clone();
    let expect_alone = |apart: &Apart| {
        for _ in 0..5 {
            go_on(&load);
            assert!((0..3).all(|at| peers(apart, at) == 2), "a stranger was let in");
            assert_eq!(peers(apart, ODD), 0, "a stranger was let in");
        }
        assert!(apart.runs(ODD), "it ended: {}", apart.talk(ODD));
        apart.expect_no_panic();
    };
    let kept = Kept::of(&turn.apart.node(ODD).dir);
    wait_until(|| (0..3).all(|at| peers(&turn.apart, at) == 2), "the others see that it is gone");
    let other = another_network();
    turn.apart.replace(ODD, other);
    turn.apart.start(ODD);
    expect_alone(&turn.apart);
    turn.apart.kill(ODD);

    kept.put_back();
    let strange = turn.world.path("strange");
    other.write_node(ODD, &strange);
    fs::copy(strange.join("node.key"), kept.folder.join("node.key")).unwrap();
    fs::remove_dir_all(kept.folder.join("engine")).unwrap();
    turn.apart.start(ODD);
    expect_alone(&turn.apart);
    turn.apart.kill(ODD);

    kept.put_back();
    turn.apart.start(ODD);
    let done = turn.stop(load);
    turn.expect_all_well(&done);
}
