//! A vault whose ledger others keep: taken over, written to by two hosts, read without it, and attacked.
//!
//! Two hosts write to a network of real nodes. In all other tests the ledger is served by a node that the test holds in its hand, so that it can
//! fail and lie on request.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "../../crates/homes/tests/support/node.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blockhouse_crypto::{AccountSecret, EnrolKey, LedgerKey, Secret};
use blockhouse_homes::{Embedded, Options};
use blockhouse_ledger::genesis::DEFAULT_GAS_LIMIT;
use blockhouse_ledger::{Fork, Genesis};
use blockhouse_tests::world::{Call, Output, World, exit};
use blockhouse_tests::{network, tree};
use blockhouse_types::{RecipientSetHash, VaultId};
use node::{Fault, Node};

fn secret(number: u8) -> Secret {
    Secret::new([number; 32])
}

/// A ledger that nobody owns yet, served at a port.
struct Network {
    node: Option<Node>,
    home: Embedded,
    enrol_key: PathBuf,
}

impl Network {
    fn start(folder: &Path, number: u8) -> Self {
        let key = Arc::new(LedgerKey::from_seed(&secret(number)));
        let owner = AccountSecret::try_new(&secret(number + 1)).unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let genesis = Genesis {
            vault_id: VaultId::new([number; 32]),
            chain_id: (1 << 32) + u64::from(number),
            owner: owner.account(),
            recovery: Vec::new(),
            ledger_key: key.public(),
            time: now() - 60,
            gas_limit: DEFAULT_GAS_LIMIT,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new([1; 32]),
            governance: None,
        };
        let path = folder.join(format!("network-{number}.redb"));
        Embedded::create(&path, &genesis, &key).unwrap();
        let clock = Arc::new(now);
        let home = Embedded::new(Options { wait: Duration::from_secs(30), ..Options::sealer(path, clock, key) });
        let enrol_key = folder.join(format!("enrol-{number}.key"));
        let key = EnrolKey { chain_id: genesis.chain_id, genesis: genesis.hash(), owner };
        fs::write(&enrol_key, key.to_text().as_bytes()).unwrap();
        Self { node: Some(Node::start(home.clone())), home, enrol_key }
    }

    fn url(&self) -> String {
        self.node.as_ref().unwrap().url()
    }

    fn set(&self, fault: Fault) {
        self.node.as_ref().unwrap().set(fault);
    }

    /// Takes the node down and up again at the same place.
    fn without<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let address = self.node.take().unwrap().address();
        let done = work();
        self.node = Some(Node::start_at(self.home.clone(), address));
        done
    }
}

/// Hosts and a network. The first one's folder is the world's own.
struct Hosts<N = Network> {
    world: World,
    network: N,
}

impl Hosts {
    fn begin() -> Self {
        let world = World::empty();
        let network = Network::start(&world.path("."), 10);
        Self { world, network }
    }

    /// The first host has taken the ledger over.
    fn claimed() -> Self {
        let hosts = Self::begin();
        hosts.init().run().expect(exit::DONE);
        hosts
    }

    fn init(&self) -> Call {
        let call = self.world.init(3).args("--json --ledger").arg(self.network.url());
        call.arg("--enrol-key").arg(&self.network.enrol_key)
    }
}

impl Hosts<network::Network> {
    /// The first host has taken over the ledger of four nodes, and a second one has joined.
    fn two_on_a_network() -> Self {
        let world = World::empty();
        let dir = world.path("ledger");
        let network = network::Network::start(&dir, 4, "");
        let init = world.init(3).args("--json --enrol-key").arg(dir.join("enrol.key"));
        let init = network.nodes().iter().fold(init, |call, node| call.arg("--ledger").arg(node.url()));
        init.run().expect(exit::DONE);
        let hosts = Self { world, network };
        hosts.join("second").expect(exit::DONE);
        hosts
    }
}

impl<N> Hosts<N> {
    /// A call on the vault folder of another host.
    fn on(&self, host: &str, words: &str) -> Call {
        self.world.outside(words).env("BLOCKHOUSE_VAULT", self.world.path(host))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn ask(&self, host: &str) -> Output {
        let call = self.on(host, "host request --json --name").arg(host);
        call.arg("-o").arg(self.file(&format!("{host}.request"))).run()
    }

    fn approve(&self, host: &str) -> Output {
        let call = self.world.unlocked("host approve --json").arg(self.file(&format!("{host}.request")));
        call.arg("-o").arg(self.file(&format!("{host}.answer"))).run()
    }

    fn join(&self, host: &str) -> Output {
        self.ask(host).expect(exit::DONE);
        self.approve(host).expect(exit::DONE);
        self.on(host, "host join --json").arg(self.file(&format!("{host}.answer"))).run()
    }

    fn source(&self, name: &str, seed: u64) -> PathBuf {
        let source = self.file(name);
        tree::plain(&source, 1, seed);
        source
    }
}

#[test]
fn a_ledger_is_taken_over_and_backed_up_to_and_restored_from() {
    let hosts = Hosts::claimed();
    let world = &hosts.world;
    let source = hosts.source("source", 1);
    let snapshot = world.back_up(&source).snapshot();
    world.expect_restores(&snapshot, &source);
    assert_eq!(world.snapshots(), std::slice::from_ref(&snapshot));
    world.call("verify --read-data --json").run().expect(exit::DONE);
    world.unlocked("key list --json").run().expect(exit::DONE);
    let config = fs::read_to_string(world.vault().join("config.toml")).unwrap();
    assert!(config.contains("home = \"network\"") && config.contains(&hosts.network.url()), "{config}");
    // The blocks are at the sites as ever: from there alone a reader recovers.
    let recovered = world.outside("recover --read-only --json --site").arg(world.site(1)).arg("--vault");
    let recovered = recovered.arg(world.path("reader")).arg("--identity").arg(world.identity());
    recovered.run().expect(exit::DONE);
}

#[test]
fn a_ledger_is_taken_over_once_and_with_the_right_key_alone() {
    let hosts = Hosts::begin();
    let other = Network::start(&hosts.world.path("."), 40);
    let world = &hosts.world;
    let wrong = world.init(3).args("--ledger").arg(hosts.network.url()).arg("--enrol-key").arg(&other.enrol_key);
    wrong.run().expect(exit::CHECK);
    let text = fs::read_to_string(&hosts.network.enrol_key).unwrap();
    let stranger = other.enrol_key.with_extension("stranger");
    let secret = text.lines().last().unwrap();
    fs::write(&stranger, text.replace(secret, &format!("secret: 0x{}", "2a".repeat(32)))).unwrap();
    let call = world.init(3).args("--ledger").arg(hosts.network.url()).arg("--enrol-key").arg(&stranger);
    call.run().expect(exit::NOT_ALLOWED);
    fs::write(&stranger, text.replace("secret: ", "secret ")).unwrap();
    let call = world.init(3).args("--ledger").arg(hosts.network.url()).arg("--enrol-key").arg(&stranger);
    call.run().expect(exit::USAGE);
    assert!(!world.vault().exists() && !world.identity().exists(), "what fails takes its files back");
    hosts.init().run().expect(exit::DONE);
    let second = world.call("init --no-passphrase --identity-out").arg(world.path("thief")).arg("--paper-key-out");
    let second = second.arg("-").arg("--site").arg(world.site(9)).arg("--vault").arg(world.path("thiefs"));
    let second = second.arg("--ledger").arg(hosts.network.url()).arg("--enrol-key").arg(&hosts.network.enrol_key);
    let refused = second.run().expect(exit::NOT_ALLOWED);
    assert!(refused.stderr.contains("has an owner already"), "{}", refused.stderr);
}

/// C2: what is there of an earlier try is taken up, wherever that ended.
#[test]
fn a_claim_that_was_interrupted_goes_on_with_the_same_files() {
    let hosts = Hosts::claimed();
    let world = &hosts.world;
    // As a kill before the last step leaves it: no configuration, all else there.
    for lost in [vec!["config.toml"], vec!["config.toml", "secrets"], vec!["config.toml", "secrets", "ledger.redb"]] {
        for name in lost {
            fs::remove_file(world.vault().join(name)).unwrap();
        }
        hosts.init().run().expect(exit::DONE);
    }
    let listed = world.call("host list --json").run().expect(exit::DONE);
    let active = listed.lines().iter().filter(|line| line["state"] == "active").count();
    assert_eq!(active, 1, "earlier tries left no writer");
    let source = hosts.source("source", 2);
    let snapshot = world.back_up(&source).snapshot();
    world.expect_restores(&snapshot, &source);
    // From here on it is in use.
    fs::remove_file(world.vault().join("config.toml")).unwrap();
    let refused = hosts.init().run().expect(exit::NOT_ALLOWED);
    assert!(refused.stderr.contains("1 snapshots are recorded"), "{}", refused.stderr);
}

#[test]
fn claims_that_are_killed_anywhere_are_completed_by_the_next() {
    for kill in 1..=4_u32 {
        let hosts = Hosts::begin();
        let mut running = hosts.init().spawn();
        // At so many requests to the node: a step of the claim is several.
        let node = hosts.network.node.as_ref().unwrap();
        while node.asked() < kill as usize * 9 && !hosts.world.vault().join("config.toml").exists() {
            std::thread::yield_now();
        }
        running.kill();
        running.finish();
        if !hosts.world.vault().join("config.toml").exists() {
            hosts.init().run().expect(exit::DONE);
        }
        let source = hosts.source("source", 3);
        let snapshot = hosts.world.back_up(&source).snapshot();
        hosts.world.expect_restores(&snapshot, &source);
    }
}

#[test]
fn hosts_back_up_into_one_vault_on_a_network_until_one_is_revoked() {
    let hosts = Hosts::two_on_a_network();
    each_stores_its_own_once(&hosts);
    who_is_revoked_or_never_approved_writes_nothing(&hosts);
}

fn each_stores_its_own_once(hosts: &Hosts<network::Network>) {
    let world = &hosts.world;
    let (one, two) = (hosts.source("one", 4), hosts.source("two", 5));
    let first = world.back_up(&one).snapshot();
    let second = hosts.on("second", "backup --json").arg(&two).run().expect(exit::DONE).snapshot();
    assert_eq!(world.snapshots(), [first.clone(), second.clone()]);
    world.expect_restores(&first, &one);
    world.expect_restores(&second, &two);
    let again = hosts.on("second", "backup --json --force").arg(&two).run().expect(exit::DONE);
    assert_eq!(again.summary()["new_bytes"], 0, "it deduplicates against what it stored");
    // At the same time: neither loses a transaction, nor the other's.
    let (left, right) =
        (world.call("backup --json").arg(&one).spawn(), hosts.on("second", "backup --json").arg(&two).spawn());
    for host in [left, right] {
        host.finish().expect(exit::DONE);
    }
    assert_eq!(world.snapshots().len(), 5);
    world.call("verify --read-data --json").run().expect(exit::DONE);
    let second_reads = hosts.on("second", "ls").arg(&second).run();
    second_reads.expect(exit::NOT_ALLOWED);
    // With the identity any host restores what any host backed up.
    let to = world.path("restored-there");
    let restore = hosts.on("second", "restore --json").arg(&first).arg("--to").arg(&to).arg("--identity");
    restore.arg(world.identity()).run().expect(exit::DONE);
    tree::assert_equal(&one, &to);
}

fn who_is_revoked_or_never_approved_writes_nothing(hosts: &Hosts<network::Network>) {
    let source = hosts.source("source", 6);
    hosts.on("second", "backup").arg(&source).run().expect(exit::DONE);
    let answer = fs::read(hosts.file("second.answer")).unwrap();
    hosts.world.unlocked("host revoke --json second").run().expect(exit::DONE);
    let refused = hosts.on("second", "backup").arg(&source).run().expect(exit::NOT_ALLOWED);
    assert!(refused.stderr.contains("host request"), "{}", refused.stderr);
    hosts.world.unlocked("host revoke second").run().expect(exit::NOT_ALLOWED);
    hosts.world.unlocked("host revoke nobody").run().expect(exit::FAILED);
    fs::remove_file(hosts.file("second.answer")).unwrap();
    let refused = hosts.approve("second").expect(exit::NOT_ALLOWED);
    assert!(refused.stderr.contains("was revoked"), "{}", refused.stderr);
    // The answer to another host.
    hosts.ask("third").expect(exit::DONE);
    fs::write(hosts.file("third.answer"), answer).unwrap();
    hosts.on("third", "host join").arg(hosts.file("third.answer")).run().expect(exit::CHECK);
}

#[test]
fn files_that_were_changed_on_the_way_are_refused() {
    let hosts = Hosts::claimed();
    hosts.ask("second").expect(exit::DONE);
    let request = hosts.file("second.request");
    let text = fs::read_to_string(&request).unwrap();
    let code = hosts.ask("second").expect(exit::DONE).summary()["code"].clone();
    // Another name: another code, which is what the two people compare.
    fs::write(&request, text.replace("name: second", "name: other")).unwrap();
    let approved = hosts.approve("second").expect(exit::DONE);
    assert_ne!(approved.summary()["code"], code);
    let answer = hosts.file("second.answer");
    hosts.on("second", "host join").arg(&answer).run().expect(exit::CHECK);
    fs::remove_file(&answer).unwrap();
    for broken in [text.replace("age1", "age2"), text.replace("version 1", "version 9"), "x".repeat(5000)] {
        fs::write(&request, broken).unwrap();
        assert_ne!(hosts.approve("second").code(), exit::DONE);
        assert!(!answer.exists());
    }
    fs::write(&request, &text).unwrap();
    let approved = hosts.approve("second").expect(exit::DONE);
    assert_eq!((&approved.summary()["already"], &approved.summary()["code"]), (&true.into(), &code));
    let good = fs::read(&answer).unwrap();
    for at in [0, 20, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&answer, bytes).unwrap();
        hosts.on("second", "host join").arg(&answer).run().expect(exit::CHECK);
    }
    fs::write(&answer, &good).unwrap();
    let wrong = "00".repeat(32);
    hosts.on("second", "host join --fingerprint").arg(&wrong).arg(&answer).run().expect(exit::CHECK);
    assert!(!hosts.file("second").join("config.toml").exists());
    let right = hosts.world.fingerprint();
    hosts.on("second", "host join --fingerprint").arg(&right).arg(&answer).run().expect(exit::DONE);
    hosts.on("second", "host join").arg(&answer).run().expect(exit::FAILED);
}

#[test]
fn a_ledger_of_one_host_has_no_others() {
    let world = World::with_sites(3);
    let asked = world.outside("host request -o").arg(world.path("r")).arg("--vault").arg(world.path("second"));
    asked.arg("--name").arg("second").run().expect(exit::DONE);
    let refused = world.unlocked("host approve").arg(world.path("r")).arg("-o").arg(world.path("a")).run();
    assert!(refused.expect(exit::NOT_ALLOWED).stderr.contains("sealed by one host"));
    world.call("host list --json").run().expect(exit::DONE);
}

#[test]
fn without_its_nodes_a_vault_is_read_with_its_age_and_not_written() {
    let mut hosts = Hosts::claimed();
    let source = hosts.source("source", 7);
    let snapshot = hosts.world.back_up(&source).snapshot();
    let Hosts { world, network } = &mut hosts;
    network.without(|| {
        let listed = world.call("snapshots").run().expect(exit::DONE);
        assert!(listed.stderr.contains("this is the ledger as of block"), "{}", listed.stderr);
        world.expect_restores(&snapshot, &source);
        let refused = world.call("backup").arg(&source).run().expect(exit::UNREACHABLE);
        assert!(refused.stderr.contains("none of the ledger's nodes"), "{}", refused.stderr);
        // A copy that is lost comes from the sites.
        fs::remove_file(world.vault().join("ledger.redb")).unwrap();
        world.expect_restores(&snapshot, &source);
    });
    world.back_up(&source);
    // And from the nodes, where they can be asked.
    fs::write(world.vault().join("ledger.redb"), b"rot").unwrap();
    let healed = world.call("verify").run().expect(exit::DONE);
    assert!(healed.stderr.contains("made anew from its nodes"), "{}", healed.stderr);
}

#[test]
fn a_node_that_lies_is_told_and_not_believed() {
    let hosts = Hosts::claimed();
    let world = &hosts.world;
    let source = hosts.source("source", 8);
    let snapshot = world.back_up(&source).snapshot();
    let other = Network::start(&world.path("."), 40);
    let config = world.vault().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&hosts.network.url(), &other.url())).unwrap();
    let told = world.call("snapshots").run().expect(exit::DONE);
    assert!(told.stderr.contains("it keeps another ledger"), "{}", told.stderr);
    world.call("backup").arg(&source).run().expect(exit::CHECK);
    assert_eq!(world.snapshots(), [snapshot]);
    // A second URL that is good is enough, and the first one is told.
    let both = format!("{}\", \"{}", other.url(), hosts.network.url());
    fs::write(&config, text.replace(&hosts.network.url(), &both)).unwrap();
    let done = world.call("backup").arg(&source).run().expect(exit::DONE);
    assert!(done.stderr.contains("a node of the ledger cannot be used"), "{}", done.stderr);
    fs::write(&config, &text).unwrap();
    // What another host recorded meanwhile comes with certificates that do not hold.
    hosts.join("second").expect(exit::DONE);
    hosts.on("second", "backup").arg(&source).run().expect(exit::DONE);
    fs::remove_dir_all(world.vault().join("index")).unwrap();
    fs::write(world.vault().join("ledger.redb"), b"rot").unwrap();
    hosts.network.set(Fault::Forges);
    // The sites have the true ones.
    let told = world.call("snapshots").run().expect(exit::DONE);
    assert!(told.stderr.contains("made anew from site"), "{}", told.stderr);
    let unsure = world.call("backup").arg(&source).run().expect(exit::UNREACHABLE);
    assert!(unsure.stderr.contains("is not by the ledger key"), "{}", unsure.stderr);
    hosts.network.set(Fault::None);
    world.back_up(&source);
}
