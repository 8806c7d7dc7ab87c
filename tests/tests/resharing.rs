//! A network that signs with one key changes its validators and keeps the key: a fifth node comes in the place of the fourth. While the fifth is absent
//! the old set goes on and names it; one is killed in the midst of the resharing; then one more dies, and blocks go on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, TxKind};
use blockhouse_homes::network::NodeFolder;
use blockhouse_ledger::{Certificate, Genesis, Request};
use blockhouse_tests::network::{Node, RunningNode, free_ports, number, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, Running, World, exit};
use serde_json::{Value, json};

const NAMES: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];
const ANN: usize = 0;
const BEN: usize = 1;
const CAT: usize = 2;
const DAN: usize = 3;
const EVE: usize = 4;
/// Blocks in an epoch: the fewest that there may be.
const LENGTH: u64 = 16;
/// The length of a key file with a share; without, it is shorter.
const WITH_SHARE: u64 = 77;

/// Operators on one machine, each with a node.
struct Operators {
    world: World,
    ports: u16,
    running: [Option<RunningNode>; 5],
}

impl Operators {
    /// The first four make a key together; the fifth follows their network.
    fn found() -> Self {
        let ours = Self { world: World::empty(), ports: free_ports(10), running: [const { None }; 5] };
        for (index, name) in NAMES.iter().enumerate() {
            let (port, rpc) = (ours.port(index), ours.node(index).port());
            let call = ours.world.outside("node init --dir").arg(ours.dir(index));
            let call = call.args(&format!("--name {name} --listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc}"));
            call.run().expect(exit::DONE);
        }
        let founded = ours.world.path("founded");
        let call = ours.world.outside("node init --signing threshold --epoch-length").args(&LENGTH.to_string());
        let call = call.arg("--dir").arg(&founded).arg("--found");
        let enrolments = [ANN, BEN, CAT, DAN].map(|index| ours.dir(index).join("enrolment"));
        enrolments.iter().fold(call, Call::arg).run().expect(exit::DONE);
        let gathering: Vec<Running> =
            [ANN, BEN, CAT, DAN].map(|index| ours.join(index, &founded.join("founding")).spawn()).into();
        for joins in gathering {
            joins.finish().expect(exit::DONE);
        }
        let network = ours.dir(ANN).join("network");
        let complete = ours.world.outside("node init --complete").arg(&network).arg("--dir").arg(&founded);
        complete.run().expect(exit::DONE);
        ours.join(EVE, &network).args("--follower").run().expect(exit::DONE);
        ours
    }

    fn join(&self, index: usize, network: &Path) -> Call {
        let call = self.world.outside("node join --dir").arg(self.dir(index)).arg("--network").arg(network);
        let others = (ANN..=EVE).filter(|other| *other != index);
        others.fold(call, |call, other| call.arg("--rpc-peer").arg(self.node(other).url()))
    }

    fn dir(&self, index: usize) -> PathBuf {
        self.world.path(NAMES[index])
    }

    fn port(&self, index: usize) -> u16 {
        self.ports + u16::try_from(index).unwrap()
    }

    fn node(&self, index: usize) -> Node {
        Node::apart(self.dir(index), self.port(index) + 5)
    }

    fn run(&mut self, index: usize) {
        self.running[index] = Some(self.node(index).run_again());
    }

    /// As kill -9 does.
    fn kill(&mut self, index: usize) {
        self.running[index] = None;
    }

    fn key(&self, index: usize) -> String {
        hex::encode(NodeFolder::new(self.dir(index)).read_keys().unwrap().public())
    }

    fn govern(&self, words: &str, index: usize) -> Call {
        let running = (ANN..=EVE).filter(|other| self.running[*other].is_some());
        let height = running.map(|other| self.node(other).height()).max().unwrap();
        wait_until(|| self.node(index).height() >= height, "an operator's node has what the others have");
        self.world.outside("node validators").args(words).args("--json --dir").arg(self.dir(index))
    }

    /// One comes in the place of another; gives the epoch from which on the ledger says so.
    fn replace(&self, old: usize, new: usize) -> u64 {
        let propose = self.govern("propose", ANN).arg("--replace").arg(self.key(old));
        let propose = propose.arg("--by").arg(self.dir(new).join("enrolment"));
        let proposal = propose.run().expect(exit::DONE).text("proposal");
        for index in [BEN, CAT] {
            self.govern(&format!("approve {proposal}"), index).run().expect(exit::DONE);
        }
        self.govern(&format!("enact {proposal}"), CAT).run().expect(exit::DONE);
        let listed = self.govern("list", CAT).run().expect(exit::DONE);
        let members: Vec<Value> = listed.lines().into_iter().filter(|line| line["type"] == "set-member").collect();
        members.last().unwrap()["from"].as_u64().unwrap()
    }

    fn status(&self, index: usize) -> Value {
        let called = self.world.outside("node status --json --dir").arg(self.dir(index)).run();
        called.expect(exit::DONE).lines().pop().unwrap()
    }

    /// Records something small, block after block, up to that height.
    fn reach(&self, height: u64) {
        let (node, eve) = (self.node(BEN), NodeFolder::new(self.dir(EVE)).read_keys().unwrap().account());
        let genesis = node.ask("blockhouse_genesis", &json!([]));
        let genesis = hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap();
        let genesis = Genesis::decode(&genesis).unwrap();
        let account = Address::new(eve.account().to_bytes());
        while node.height() < height {
            // Her node may post on its own meanwhile, by the same account.
            let nonce = number(&node.ask("eth_getTransactionCount", &json!([account, "pending"])));
            let to = TxKind::Call(genesis.vault_address());
            let request = Request { chain_id: genesis.chain_id, nonce, to, input: Vec::new().into(), gas: 100_000 };
            let raw = format!("0x{}", hex::encode(request.sign(&eve).encoded_2718()));
            let before = node.height();
            let _ = node.try_ask("eth_sendRawTransaction", &json!([raw]));
            wait_until(|| node.height() > before, "a block follows");
        }
    }

    fn mix_hash(&self, height: u64) -> Value {
        let header = self.node(BEN).ask("eth_getBlockByNumber", &json!([format!("{height:#x}"), false]));
        header["mixHash"].clone()
    }

    fn expect_one_history(&self, among: &[usize]) {
        let least = among.iter().map(|index| self.node(*index).height()).min().unwrap();
        for height in 0..=least {
            let hashes: Vec<Value> = among.iter().map(|index| self.node(*index).hash_at(height)).collect();
            assert!(hashes.array_windows().all(|[a, b]| a == b), "block {height}: {hashes:?}");
        }
    }

    fn key_file(&self, index: usize) -> Vec<u8> {
        fs::read(self.dir(index).join("node.key")).unwrap()
    }

    /// How many shares a node has beside the one in its key file.
    fn shares(&self, index: usize) -> usize {
        fs::read_dir(self.dir(index).join("shares")).map_or(0, |entries| entries.flatten().count())
    }
}

#[test]
fn a_fifth_node_gets_its_share_of_the_key_in_the_place_of_the_fourth() {
    let mut ours = Operators::found();
    (ANN..=EVE).for_each(|index| ours.run(index));
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    let init = ours.world.init(3).args("--enrol-key").arg(ours.world.path("founded/enrol.key"));
    init.arg("--ledger").arg(ours.node(BEN).url()).run().expect(exit::DONE);
    let before = ours.world.fingerprint();
    let old_receipt = backed_up(&ours, &source, "old-receipt");
    let enrol = ours.world.unlocked("node enrol --yes");
    (ANN..=EVE).fold(enrol, |call, index| call.arg(ours.node(index).url())).run().expect(exit::DONE);
    let old_keys: Vec<Vec<u8>> = (ANN..=EVE).map(|index| ours.key_file(index)).collect();

    without_the_newcomer(&mut ours);
    let epoch = with_it_and_a_kill(&mut ours);
    taken_over(&ours, epoch, &old_keys);

    // The one that left is not needed any more, and one more may die.
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
    let height = ours.node(BEN).height();
    ours.kill(DAN);
    ours.reach(height + 2);
    ours.kill(ANN);
    ours.reach(height + 5);

    // The key is the same, and so is all that hangs on it: offline, without a link.
    let new_receipt = backed_up(&ours, &source, "new-receipt");
    assert_eq!(ours.world.fingerprint(), before);
    for receipt in [&old_receipt, &new_receipt] {
        let check = ours.world.outside("check-receipt").arg(receipt);
        check.args(&format!("--fingerprint {before}")).run().expect(exit::DONE);
        assert!(!fs::read_to_string(receipt).unwrap().contains("\"links\""));
    }
    ours.world.expect_restores(&ours.world.back_up(&source).snapshot(), &source);

    // The same folders go on after all of it was stopped.
    let height = ours.node(BEN).height();
    (ANN..=EVE).for_each(|index| ours.kill(index));
    for index in [BEN, CAT, EVE] {
        ours.run(index);
    }
    ours.reach(height + 2);
    ours.expect_one_history(&[BEN, CAT, EVE]);
}

fn backed_up(ours: &Operators, source: &Path, name: &str) -> PathBuf {
    let receipt = ours.world.path(name);
    ours.world.back_up(source);
    ours.world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    receipt
}

/// Who is absent delays the change, is named, and stops nothing.
fn without_the_newcomer(ours: &mut Operators) {
    ours.kill(EVE);
    let from = ours.replace(DAN, EVE);
    // At its beginning a ceremony has not heard the others yet either.
    let key = ours.key(EVE);
    let missed = json!([format!("{key} (127.0.0.1:{})", ours.port(EVE))]);
    wait_until(|| ours.status(ANN)["reshares_without"] == missed, "who is missed is named, and nobody else");
    let told = ours.world.outside("node status --dir").arg(ours.dir(ANN)).run().expect(exit::DONE);
    assert!(told.says("waits for its shares of the key") && told.says(&key), "{}", told.stderr);
    ours.reach(from * LENGTH + 1);
    assert_eq!(ours.mix_hash(from * LENGTH - 1), json!(format!("0x{}", "00".repeat(32))), "nobody follows");
    for index in [ANN, BEN, CAT, DAN] {
        assert_eq!(ours.status(index)["role"], "validator");
    }
    assert_eq!(ours.status(ANN)["takes_over"], Value::Null);
}

/// It comes, and one of the others dies as soon as it has a new share; gives the epoch that follows.
fn with_it_and_a_kill(ours: &mut Operators) -> u64 {
    ours.run(EVE);
    wait_until(|| ours.shares(CAT) > 0, "a new share is durable beside the old one");
    ours.kill(CAT);
    ours.run(CAT);
    let settled = |index| ours.status(index)["takes_over"].as_u64();
    wait_until(|| settled(ANN).is_some(), "the outcome stands on the ledger");
    let epoch = settled(ANN).unwrap();
    wait_until(|| settled(EVE) == Some(epoch), "all know when it counts");
    epoch
}

fn taken_over(ours: &Operators, epoch: u64, old_keys: &[Vec<u8>]) {
    ours.reach(epoch * LENGTH + 3);
    for (index, role) in [(EVE, "validator"), (DAN, "follower"), (CAT, "validator"), (ANN, "validator")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    assert_ne!(ours.mix_hash(epoch * LENGTH - 1), json!(format!("0x{}", "00".repeat(32))), "others follow");
    for index in ANN..=EVE {
        let is_settled = || ours.key_file(index) != old_keys[index] && ours.shares(index) == 0;
        wait_until(is_settled, "old shares are erased, and new ones in their place");
        let has_share = ours.key_file(index).len() as u64 == WITH_SHARE;
        assert_eq!(has_share, index != DAN, "{}", NAMES[index]);
    }
    let height = ours.node(EVE).height();
    let text = ours.node(EVE).ask("blockhouse_certificate", &json!([format!("{height:#x}")]));
    let certificate = hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap();
    assert!(matches!(Certificate::decode(&certificate).unwrap(), Certificate::Threshold(_)));
}
