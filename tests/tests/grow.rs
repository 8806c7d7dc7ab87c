//! A network takes a ledger over with its past: from an embedded vault, whose host never seals again, and from a network that lost too many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/late.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod late;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockhouse_tests::network::{Network, Node, RunningNode, free_ports, wait_until};
use blockhouse_tests::world::{Call, Output, World, exit};
use blockhouse_tests::{need, tree};
use late::{Late, Run};

const NAMES: [&str; 4] = ["ann", "ben", "cat", "dan"];
const COUNT: u16 = 4;

/// A vault on one host, and nodes that were made, numbered from 0; the first one is on that host too.
struct Grown {
    world: World,
    ports: u16,
    rpc_ports: Vec<u16>,
}

impl Grown {
    fn new(world: World) -> Self {
        let ports = free_ports(2 * COUNT);
        let rpc_ports = (0..COUNT).map(|number| ports + COUNT + number).collect();
        Self { world, ports, rpc_ports }
    }

    /// Makes all nodes.
    fn make(&self) {
        for number in 0..COUNT {
            let place = usize::from(number);
            let (name, port, rpc_port) = (NAMES[place], self.ports + number, self.rpc_ports[place]);
            let words = format!("--name {name} --listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc_port}");
            let call = self.world.outside("node init --json --dir").arg(self.dir(number));
            call.args(&words).run().expect(exit::DONE);
        }
    }

    fn dir(&self, number: u16) -> PathBuf {
        self.world.path(NAMES[usize::from(number)])
    }

    fn node(&self, number: u16) -> Node {
        Node::apart(self.dir(number), self.rpc_ports[usize::from(number)])
    }

    fn growing(&self) -> Call {
        self.taking_over("node init --json --from-vault")
    }

    fn taking_over(&self, words: &str) -> Call {
        let call = self.world.unlocked(words).arg("--dir").arg(self.dir(0)).arg("--found");
        let call = (1..COUNT).fold(call, |call, number| call.arg(self.dir(number).join("enrolment")));
        (0..COUNT).fold(call, |call, number| call.arg("--ledger").arg(self.node(number).url()))
    }

    fn network(&self) -> PathBuf {
        self.dir(0).join("network")
    }

    fn join(&self, number: u16, words: &str) -> Output {
        let call = self.world.outside("node join --json --dir").arg(self.dir(number)).args(words);
        call.arg("--network").arg(self.network()).run()
    }

    /// Joins all and runs them.
    fn run_all(&self, fingerprint: &str) -> Vec<RunningNode> {
        let first = self.node(0);
        let mut running = vec![first.run_again()];
        for number in 1..COUNT {
            let words = format!("--expect {fingerprint} --rpc-peer {}", first.url());
            self.join(number, &words).expect(exit::DONE);
            running.push(self.node(number).run_again());
        }
        running
    }

    /// The vault in another folder of this world.
    fn of_copy(&self, copy: &Path, words: &str) -> Call {
        self.world.outside(words).env("BLOCKHOUSE_VAULT", copy)
    }

    fn check(&self, receipt: &Path, fingerprint: &str) -> Output {
        self.world.outside("check-receipt").arg(receipt).arg("--fingerprint").arg(fingerprint).run()
    }

    fn receipt(&self, snapshot: &str, name: &str) -> PathBuf {
        let to = self.world.path(name);
        self.world.call("receipt").arg(snapshot).arg("-o").arg(&to).run().expect(exit::DONE);
        to
    }
}

/// A new node of the network takes the state of its head, and what is below it as far as the old key certified it. It takes blocks in runs where it
/// was told to.
fn expect_late_node(ours: &Grown, words: &str) {
    let (first, dir, ports) = (ours.node(0), ours.world.path(&format!("late{words}")), free_ports(2));
    let listen = format!("--name late --listen 127.0.0.1:{ports} --rpc-listen 127.0.0.1:{}", ports + 1);
    ours.world.outside("node init --dir").arg(&dir).args(&listen).run().expect(exit::DONE);
    let join = ours.world.outside("node join --follower --dir").arg(&dir).arg("--network").arg(ours.network());
    join.arg("--rpc-peer").arg(first.url()).run().expect(exit::DONE);
    let late = Node::apart(dir, ports + 1);
    Late::tell(&late, &[first.url()], 2);
    let height = first.height();
    let mut run = Run::start(&late, words);
    run.answers(&late);
    assert_eq!(run.talk().contains("has the state of block"), words.is_empty(), "{}", run.talk());
    assert!(late.height() >= height, "before it takes part");
    let bottom = || late.ask("blockhouse_nodeStatus", &serde_json::json!([]))["history"]["bottom"].clone();
    wait_until(|| bottom() == 0, "the history is filled");
    let standing = |node: &Node| node.ask("blockhouse_standing", &serde_json::json!([]))["handovers"].clone();
    assert_eq!(standing(&late), standing(&first));
    // A certificate of block 0 is everybody's own.
    let all = serde_json::json!(["0x1", format!("{height:#x}")]);
    let objects = |node: &Node| node.ask("blockhouse_getBlockObjects", &all);
    assert_eq!(objects(&late), objects(&first), "block by block, with the certificates of old and new keys");
}

fn copy_all(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

fn history(world: &World) -> Vec<serde_json::Value> {
    world.call("history --json").run().expect(exit::DONE).lines()
}

#[test]
fn a_vault_grows_into_a_network_with_its_history() {
    let ours = Grown::new(World::with_sites(3));
    ours.make();
    let world = &ours.world;
    let (source, before) = (world.path("source"), world.fingerprint());
    tree::plain(&source, 1, 3);
    let first = world.back_up(&source).snapshot();
    world.unlocked("alarm set --json --max-age 7d --source").arg(&source).run().expect(exit::DONE);
    let kept = world.path("kept");
    copy_all(&source, &kept);
    let old_receipt = ours.receipt(&first, "old.json");
    let recorded = history(world);
    let old_folder = world.path("old-folder");
    copy_all(&world.vault(), &old_folder);

    let grown = ours.growing().run().expect(exit::DONE);
    let (after, base) = (grown.summary()["fingerprint"].as_str().unwrap().to_owned(), grown.number("height"));
    assert_ne!(before, after);
    ours.growing().run().refuses(exit::FAILED, "is a folder of a node already");
    // Nobody can seal now but the network, which does not run; reading goes on.
    world.expect_restores(&first, &kept);
    ours.join(1, "").refuses(exit::USAGE, "was told of no other from which it could get them");

    let running = ours.run_all(&after);
    wait_until(|| (0..COUNT).all(|number| ours.node(number).height() > base), "the network takes the ledger over");
    tree::write(&source.join("more"), &tree::noise(100_000, 4));
    let second = world.back_up(&source).snapshot();
    assert_eq!(world.fingerprint(), after);
    world.expect_restores(&first, &kept);
    world.expect_restores(&second, &source);
    assert_eq!(history(world)[..recorded.len()], recorded[..], "what was recorded stays, and goes on");
    let alarms = world.call("alarm show --json").run().expect(exit::DONE).lines();
    let watched: Vec<_> = alarms.iter().map(|alarm| alarm["max_age"].as_u64()).collect();
    assert_eq!(watched, [Some(7 * 86_400)], "the network goes on watching");
    let (one, other) = (ours.node(0), ours.node(3));
    wait_until(|| other.height() >= one.height(), "the last one that joined catches up");
    for height in 0..=one.height() {
        assert_eq!(one.hash_at(height), other.hash_at(height));
    }

    // The old receipt holds under the old fingerprint for ever, and the snapshot has one under the new.
    ours.check(&old_receipt, &before).expect(exit::DONE);
    assert_eq!(ours.check(&old_receipt, &after).code(), exit::CHECK);
    for (snapshot, name) in [(&first, "first.json"), (&second, "second.json")] {
        let receipt = ours.receipt(snapshot, name);
        ours.check(&receipt, &after).expect(exit::DONE);
        assert_eq!(ours.check(&receipt, &before).code(), exit::CHECK);
    }

    // The sites know of the handover, and so does whoever goes on with a copy of the old folder.
    for number in 1..=3 {
        let markers = fs::read_dir(world.site(number).join("handovers")).unwrap();
        assert_eq!(
            markers.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("1-")).count(),
            1
        );
    }
    let sheet = fs::read_to_string(world.vault().join("recovery-sheet.txt")).unwrap();
    assert!(sheet.contains(&after) && !sheet.contains(&before), "{sheet}");
    assert!(!fs::read_to_string(world.vault().join("config.toml")).unwrap().contains("growth"));
    let refused = ours.of_copy(&old_folder, "backup --json").arg(&source).run();
    assert_eq!(refused.code(), exit::NOT_ALLOWED, "{}", refused.stderr);
    assert!(refused.says("handed over to the key"), "{}", refused.stderr);

    // Who comes late has all of it by either way.
    expect_late_node(&ours, "");
    expect_late_node(&ours, "--by-blocks");

    // A validator that is killed comes back with all of it.
    let mut running = running;
    drop(running.remove(1));
    running.insert(1, ours.node(1).run_again());
    let third = world.back_up(&source).snapshot();
    world.expect_restores(&third, &source);
}

/// Which system calls make something durable, or give it a name. Calls are counted for each thread, so each of these is counted by itself.
const STEPS: [&str; 5] = ["fsync", "fdatasync", "rename", "renameat2", "linkat"];

/// A kill at any of its durable steps leaves a host that seals, or a network that can begin, never both; and the same command goes on.
#[test]
fn a_growth_that_is_killed_leaves_one_that_can_seal_at_most_and_goes_on() {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !need::program("strace", "strace", works) {
        return;
    }
    let ours = Grown::new(World::with_sites(1));
    ours.make();
    let world = &ours.world;
    let source = world.path("source");
    tree::write(&source.join("file"), &tree::prose(2000, 1));
    world.back_up(&source);
    let (vault, own, sites) = (world.vault(), ours.dir(0), world.path("sites"));
    let set_up = |put_back: bool| {
        for (folder, name) in [(&vault, "vault-0"), (&own, "own-0"), (&sites, "sites-0")] {
            let kept = world.path(name);
            if put_back {
                fs::remove_dir_all(folder).unwrap();
                copy_all(&kept, folder);
            } else {
                copy_all(folder, &kept);
            }
        }
    };
    set_up(false);
    let (mut sealed, mut left, mut begun) = (0, 0, 0);
    let (mut calls, mut step) = (&STEPS[..], 1);
    loop {
        set_up(true);
        let Some(call) = calls.first() else { break };
        let inject = format!("inject={call}:signal=KILL:when={step}");
        let trace = format!("trace={call}");
        let flags: Vec<&OsStr> = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(OsStr::new).into();
        let ended = ours.growing().under("strace", &flags).spawn().finish();
        let is_network = ours.network().exists();
        if ended.code() == exit::DONE {
            (calls, step) = (&calls[1..], 1);
            continue;
        }
        // Whether this host still seals is tried on a copy, so that the growth goes on above the same block.
        let copy = world.path("tried");
        copy_all(&vault, &copy);
        let config = fs::read_to_string(vault.join("config.toml")).unwrap();
        if config.contains("home = \"embedded\"") {
            let tried = ours
                .of_copy(&copy, "tag latest --add word=1 --json")
                .env("BLOCKHOUSE_IDENTITY", world.identity())
                .run();
            assert!(!is_network, "a host that may seal beside a network that can begin: step {step}");
            if tried.code() == exit::DONE {
                sealed += 1;
            } else {
                left += 1;
            }
            if tried.code() != exit::DONE {
                assert!(tried.says("the ledger is left to"), "step {step}: {}", tried.stderr);
            }
        } else {
            begun += 1;
            let secrets = |folder: &Path| fs::read(folder.join("secrets")).unwrap();
            let has_old_key = secrets(&vault) == secrets(&world.path("vault-0"));
            assert!(!(is_network && has_old_key), "the old key is gone before the network can begin: step {step}");
        }
        fs::remove_dir_all(&copy).unwrap();
        begin_sites_again(&sites, &world.path("sites-0"));
        if !is_network {
            ours.growing().run().expect(exit::DONE);
        }
        assert!(ours.network().exists());
        step += 1 + step / 8;
    }
    println!("killed while this host sealed: {sealed}, after it had left the ledger: {left}, as a client: {begun}");
    assert!(sealed > 0 && left + begun > 0, "the kills came at too few instants");
}

/// What a try on a copy of the vault left at the sites is no part of the story.
fn begin_sites_again(sites: &Path, kept: &Path) {
    fs::remove_dir_all(sites).unwrap();
    copy_all(kept, sites);
}

/// A vault whose ledger a network keeps, and nodes that were made to found it anew.
struct Lost {
    ours: Grown,
    old: Network,
    before: String,
    source: PathBuf,
}

impl Lost {
    fn start(sites: usize) -> Self {
        let world = World::empty();
        // One that can change its validators, as `node init --found` makes them.
        let old = Network::start(&world.path("old"), 4, "--signing committee");
        let init = world.init(sites).args("--json --enrol-key").arg(world.path("old").join("enrol.key"));
        let init = old.nodes().iter().fold(init, |call, node| call.arg("--ledger").arg(node.url()));
        let before = init.run().expect(exit::DONE).summary()["fingerprint"].as_str().unwrap().to_owned();
        let source = world.path("source");
        tree::plain(&source, 1, 5);
        let mut ours = Grown::new(world);
        // A new node answers where one that is lost did: there the old ones that come back will ask.
        ours.rpc_ports[0] = old.node(2).port();
        ours.make();
        Self { ours, old, before, source }
    }

    /// Two of four are gone for good.
    fn lose_two(&self) {
        let old = &self.old;
        for number in [2, 3] {
            old.node(number).kill();
            fs::remove_dir_all(&old.node(number).dir).unwrap();
        }
        let height = old.node(0).height();
        wait_until(|| old.node(1).height() == height, "the survivors have the same");
        let peers =
            |number: usize| old.node(number).ask("blockhouse_nodeStatus", &serde_json::json!([]))["peers"].clone();
        wait_until(|| peers(0) == 1 && peers(1) == 1, "the survivors see that the others are gone");
    }
}

#[test]
fn a_network_that_lost_too_many_is_founded_anew_and_its_old_nodes_stop() {
    let lost = Lost::start(3);
    let Lost { ours, old, before, source } = &lost;
    let first = ours.world.back_up(source).snapshot();
    let kept = ours.world.path("kept");
    copy_all(source, &kept);
    let old_receipt = ours.receipt(&first, "old.json");
    ours.taking_over("node refound --json")
        .run()
        .refuses(exit::USAGE, "4 nodes of the network are there or connected, and 3 validators can record");

    lost.lose_two();
    // Reading needs no quorum.
    ours.world.expect_restores(&first, &kept);
    let height = old.node(0).height();
    let made = ours.taking_over("node refound --json").run().expect(exit::DONE);
    let after = made.summary()["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!((made.number("height"), *before == after), (height, false));
    old.node(0).kill();
    old.node(1).kill();

    let _running = ours.run_all(&after);
    wait_until(|| (0..COUNT).all(|number| ours.node(number).height() > height), "the new network goes on");
    tree::write(&source.join("more"), &tree::noise(50_000, 6));
    let second = ours.world.back_up(source).snapshot();
    assert_eq!(ours.world.fingerprint(), after);
    ours.world.expect_restores(&first, &kept);
    ours.world.expect_restores(&second, source);
    ours.check(&old_receipt, before).expect(exit::DONE);
    ours.check(&ours.receipt(&first, "again.json"), &after).expect(exit::DONE);

    let back = ours.world.outside("node run --dir").arg(&old.node(0).dir).run();
    back.refuses(exit::NOT_ALLOWED, "the ledger was handed over to others");
}

impl Lost {
    /// The account of an old node, as its status shows it.
    fn account(&self, number: usize) -> String {
        let status = self.old.node(number).ask("blockhouse_nodeStatus", &serde_json::json!([]));
        status["account"].as_str().unwrap().to_owned()
    }

    fn recovery(&self, words: &str) -> Call {
        self.ours.world.unlocked("node recovery set --json").args(words)
    }

    /// The word of an old node for a proposal.
    fn word_of(&self, number: usize, proposal: &Path, name: &str) -> PathBuf {
        let to = self.ours.world.path(name);
        let call = self.ours.world.outside("node recovery approve --json --yes").arg(proposal);
        call.arg("--dir").arg(&self.old.node(number).dir).arg("--out").arg(&to).run().expect(exit::DONE);
        to
    }

    /// Two of the owner's account and those of the old nodes 0 and 1 are needed from now on.
    fn ask_for_two(&self) {
        let add = format!("--add {} --add {}", self.account(0), self.account(1));
        self.recovery("--threshold 4").args(&add).run().expect(exit::DONE);
        let world = &self.ours.world;
        let set = || self.recovery("--threshold 2").arg("--remove").arg(self.paper());
        set()
            .run()
            .refuses(exit::NOT_ALLOWED, "1 recovery accounts agree, with the one that sends it, and 4 are needed");
        let proposal = world.path("change");
        set().arg("--propose").arg(&proposal).run().expect(exit::DONE);
        let words = [0, 1].map(|number| self.word_of(number, &proposal, &format!("change-{number}")));
        let paper = world.path("change-paper");
        let call = world.outside("node recovery approve --json --yes --paper-key").arg(world.paper_key());
        call.arg(&proposal).arg("--out").arg(&paper).run().expect(exit::DONE);
        let some = words.iter().fold(set(), |call, word| call.arg("--approval").arg(word));
        some.run().refuses(exit::NOT_ALLOWED, "3 recovery accounts agree");
        let all = words.iter().chain([&paper]).fold(set(), |call, word| call.arg("--approval").arg(word));
        let now = all.run().expect(exit::DONE).summary();
        assert_eq!(
            (now["recovery_threshold"].as_u64(), now["recovery_accounts"].as_array().unwrap().len()),
            (Some(2), 3)
        );
        // The same words say nothing of another change.
        let again = words.iter().fold(self.recovery("--threshold 1"), |call, word| call.arg("--approval").arg(word));
        again.run().refuses(exit::CHECK, "signed something else");
    }

    /// The paper key's account: neither the owner's nor a node's.
    fn paper(&self) -> String {
        let listed = self.ours.world.call("node recovery list --json").run().expect(exit::DONE).summary();
        let known = [self.owner(), self.account(0), self.account(1)];
        let accounts = listed["recovery_accounts"].as_array().unwrap().iter().map(|account| account.as_str().unwrap());
        let mut accounts = accounts;
        accounts.find(|account| !known.iter().any(|known| known == account)).unwrap().to_owned()
    }

    /// The owner's account, as the identity file has it.
    fn owner(&self) -> String {
        let text = fs::read_to_string(self.ours.world.identity()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("# owner account: "));
        line.unwrap().to_owned()
    }
}

/// Two of three accounts found the network anew; one alone does not, nor does what two agreed to for something else.
#[test]
fn a_network_is_founded_anew_by_as_many_accounts_as_it_takes() {
    let lost = Lost::start(1);
    let Lost { ours, old, source, .. } = &lost;
    let world = &ours.world;
    lost.ask_for_two();
    let first = world.back_up(source).snapshot();
    let kept = world.path("kept");
    copy_all(source, &kept);
    lost.lose_two();
    let refound = || ours.taking_over("node refound --json");
    refound()
        .run()
        .refuses(exit::NOT_ALLOWED, "1 recovery accounts agree, with the one that sends it, and 2 are needed");
    assert!(!ours.network().exists());
    let proposal = world.path("proposal");
    let proposed = refound().arg("--propose").arg(&proposal).run().expect(exit::DONE).summary();
    assert_eq!(proposed["recovery_threshold"], 2);
    // Done again it is the same file, and what is another is not overwritten.
    refound().arg("--propose").arg(&proposal).run().expect(exit::DONE);
    refound().arg("--propose").arg(world.path("change")).run().refuses(exit::FAILED, "could not write");
    refound().arg("--approval").arg(world.path("change-0")).run().refuses(exit::CHECK, "signed something else");
    let approval = lost.word_of(0, &proposal, "word");
    old.node(0).kill();
    old.node(1).kill();
    let sites = world.path("sites");
    let (vault, own) = (world.vault(), ours.dir(0));
    kill_at_each_step(&[(&vault, "vault-0"), (&own, "own-0"), (&sites, "sites-0")], ours, || {
        refound().arg("--approval").arg(&approval)
    });

    let made = refound().arg("--approval").arg(&approval).run().expect(exit::DONE);
    let after = made.summary()["fingerprint"].as_str().unwrap().to_owned();
    let height = made.number("height");
    let _running = ours.run_all(&after);
    wait_until(|| (0..COUNT).all(|number| ours.node(number).height() > height), "the new network goes on");
    tree::write(&source.join("more"), &tree::noise(50_000, 6));
    let second = world.back_up(source).snapshot();
    assert_eq!(world.fingerprint(), after);
    world.expect_restores(&first, &kept);
    world.expect_restores(&second, source);
    ours.check(&ours.receipt(&first, "again.json"), &after).expect(exit::DONE);
    let back = world.outside("node run --dir").arg(&old.node(0).dir).run();
    back.refuses(exit::NOT_ALLOWED, "the ledger was handed over to others");
    // One alone takes it from nobody.
    let recovered = world.outside("recover --json --yes").arg("--identity").arg(world.identity());
    let recovered = recovered.arg("--site").arg(world.site(1)).env("BLOCKHOUSE_VAULT", world.path("new")).run();
    recovered.refuses(exit::NOT_ALLOWED, "handed over by 2 of its recovery accounts together");
}

/// Kills the command at its durable steps: the network can begin, or it cannot and the same command goes on. What it changes is put back before
/// each, and at the end.
fn kill_at_each_step(folders: &[(&PathBuf, &str)], ours: &Grown, command: impl Fn() -> Call) {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !need::program("strace", "strace", works) {
        return;
    }
    for (folder, name) in folders {
        copy_all(folder, &ours.world.path(name));
    }
    let put_back = || {
        for (folder, name) in folders {
            fs::remove_dir_all(folder).unwrap();
            copy_all(&ours.world.path(name), folder);
        }
    };
    let (mut calls, mut step, mut killed) = (&STEPS[..], 1, 0);
    while let Some(call) = calls.first() {
        let (inject, trace) = (format!("inject={call}:signal=KILL:when={step}"), format!("trace={call}"));
        let flags: Vec<&OsStr> = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(OsStr::new).into();
        let ended = command().under("strace", &flags).spawn().finish();
        if ended.code() == exit::DONE {
            (calls, step) = (&calls[1..], 1);
        } else {
            killed += 1;
            if !ours.network().exists() {
                command().run().expect(exit::DONE);
            }
            assert!(ours.network().exists(), "{call} {step}");
            step *= 2;
        }
        put_back();
    }
    assert!(killed > 4, "the kills came at too few instants");
}
