//! The validators of a running network change: a fifth node comes in the place of the fourth, one is killed meanwhile, and the network stands one
//! more death afterwards. Receipts lead from the fingerprint of before to the blocks of after.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::PathBuf;

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, TxKind};
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::{NodeConfig, NodeFolder};
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::network::{Node, RunningNode, free_ports, number, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, World, exit};
use serde_json::{Value, json};

const NAMES: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];
const ANN: usize = 0;
const BEN: usize = 1;
const CAT: usize = 2;
const DAN: usize = 3;
const EVE: usize = 4;
/// Blocks in an epoch: the fewest that there may be.
const LENGTH: u64 = 16;

/// Operators on one machine, each with a node.
struct Operators {
    world: World,
    ports: u16,
    running: [Option<RunningNode>; 5],
}

impl Operators {
    /// The first four found a network; the fifth follows it.
    fn found() -> Self {
        let ours = Self { world: World::empty(), ports: free_ports(10), running: [const { None }; 5] };
        for (index, name) in NAMES.iter().enumerate() {
            let (port, rpc) = (ours.ports + u16::try_from(index).unwrap(), ours.node(index).port());
            let call = ours.world.outside("node init --dir").arg(ours.dir(index));
            call.args(&format!("--name {name} --listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc}"))
                .run()
                .expect(exit::DONE);
        }
        let call = ours
            .world
            .outside("node init --epoch-length")
            .args(&LENGTH.to_string())
            .arg("--dir")
            .arg(ours.world.path("founded"));
        let enrolments = [ANN, BEN, CAT, DAN].map(|index| ours.enrolment(index));
        enrolments.iter().fold(call.arg("--found"), Call::arg).run().expect(exit::DONE);
        for index in ANN..=EVE {
            let call = ours.world.outside("node join --dir").arg(ours.dir(index));
            let call = call.arg("--network").arg(ours.world.path("founded/network"));
            let call = if index == EVE { call.arg("--follower") } else { call };
            let others = (ANN..=EVE).filter(|other| *other != index);
            others
                .fold(call, |call, other| call.arg("--rpc-peer").arg(ours.node(other).url()))
                .run()
                .expect(exit::DONE);
        }
        ours
    }

    fn dir(&self, index: usize) -> PathBuf {
        self.world.path(NAMES[index])
    }

    fn enrolment(&self, index: usize) -> PathBuf {
        self.dir(index).join("enrolment")
    }

    fn node(&self, index: usize) -> Node {
        Node::apart(self.dir(index), self.ports + 5 + u16::try_from(index).unwrap())
    }

    fn run(&mut self, index: usize) {
        self.running[index] = Some(self.node(index).run_again());
    }

    /// As kill -9 does.
    fn kill(&mut self, index: usize) {
        self.running[index] = None;
    }

    fn account(&self, index: usize) -> AccountSecret {
        NodeFolder::new(self.dir(index)).read_keys().unwrap().account()
    }

    fn key(&self, index: usize) -> String {
        let key = NodeFolder::new(self.dir(index)).read_keys().unwrap().public();
        hex::encode(key)
    }

    /// What `node validators` says, asked by the node of that operator, once that has what the others have.
    fn govern(&self, words: &str, index: usize) -> Call {
        let running = (ANN..=EVE).filter(|other| self.running[*other].is_some());
        let height = running.map(|other| self.node(other).height()).max().unwrap();
        wait_until(|| self.node(index).height() >= height, "an operator's node has what the others have");
        self.world.outside("node validators").args(words).args("--json --dir").arg(self.dir(index))
    }

    /// Writes the `node.toml` of an operator anew, whether his node runs or not.
    fn edit(&self, index: usize, change: impl FnOnce(&mut NodeConfig)) {
        let path = self.dir(index).join("node.toml");
        let mut config = NodeConfig::load(&path).unwrap();
        change(&mut config);
        std::fs::write(&path, config.text()).unwrap();
    }

    /// To how many others the node of that operator is connected.
    fn peers(&self, index: usize) -> u64 {
        self.node(index).ask("blockhouse_nodeStatus", &json!([]))["peers"].as_u64().unwrap()
    }

    /// A node goes on at another port, and dials nobody: whoever is connected to it has found it.
    fn move_to(&mut self, index: usize, address: &str) {
        self.kill(index);
        let own = self.key(index);
        self.edit(index, |config| {
            config.listen = address.parse().unwrap();
            for (port, (key, other)) in (1..).zip(&mut config.validators) {
                *other = if *key == own { address.to_owned() } else { format!("127.0.0.1:{port}") };
            }
        });
        self.run(index);
    }

    fn status(&self, index: usize) -> Value {
        let called = self.world.outside("node status --json --dir").arg(self.dir(index)).run();
        called.expect(exit::DONE).lines().pop().unwrap()
    }

    /// Records something small, block after block, up to that height.
    fn reach(&self, height: u64) {
        let (node, eve) = (self.node(BEN), self.account(EVE));
        let genesis = node.ask("blockhouse_genesis", &json!([]));
        let genesis = hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap();
        let genesis = Genesis::decode(&genesis).unwrap();
        let account = Address::new(eve.account().to_bytes());
        let mut nonce = number(&node.ask("eth_getTransactionCount", &json!([account, "pending"])));
        while node.height() < height {
            let to = TxKind::Call(genesis.vault_address());
            let request = Request { chain_id: genesis.chain_id, nonce, to, input: Vec::new().into(), gas: 100_000 };
            let raw = format!("0x{}", hex::encode(request.sign(&eve).encoded_2718()));
            let hash = node.ask("eth_sendRawTransaction", &json!([raw]));
            node.receipt(&hash);
            nonce += 1;
        }
    }

    fn expect_one_history(&self, among: &[usize]) {
        let heights = among.iter().map(|index| self.node(*index).height());
        let least = heights.min().unwrap();
        for height in 0..=least {
            let hashes: Vec<Value> = among.iter().map(|index| self.node(*index).hash_at(height)).collect();
            assert!(hashes.array_windows().all(|[a, b]| a == b), "block {height}: {hashes:?}");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one history, told in its order")]
fn a_fifth_node_takes_the_place_of_the_fourth() {
    let mut ours = Operators::found();
    (ANN..=EVE).for_each(|index| ours.run(index));
    let refused = ours.govern("list", ANN).run().expect(exit::NOT_ALLOWED);
    assert!(refused.says("not made yet") && refused.says("--enrol-key"), "{}", refused.stderr);

    // A vault takes the ledger over, and its owner lets the nodes speak.
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    let init = ours.world.init(3).args("--enrol-key").arg(ours.world.path("founded/enrol.key"));
    init.arg("--ledger").arg(ours.node(BEN).url()).run().expect(exit::DONE);
    let before = ours.world.fingerprint();
    let old_snapshot = ours.world.back_up(&source).snapshot();
    let old_receipt = ours.world.path("old-receipt");
    ours.world.call("receipt latest -o").arg(&old_receipt).run().expect(exit::DONE);
    let enrol = ours.world.unlocked("node enrol --yes");
    (ANN..=EVE).fold(enrol, |call, index| call.arg(ours.node(index).url())).run().expect(exit::DONE);

    // The governors are the four that founded it, and three of them must agree.
    ours.govern("propose", EVE).arg("--remove").arg(ours.key(DAN)).run().refuses(exit::NOT_ALLOWED, "is no governor");
    let two = ours.govern("propose", ANN).arg("--remove").arg(ours.key(DAN)).run().expect(exit::DONE).text("proposal");
    let early = ours.govern(&format!("enact {two}"), ANN).run().expect(exit::NOT_ALLOWED);
    assert!(early.says("1 governors approve it, 3 are needed"), "{}", early.stderr);
    ours.govern(&format!("withdraw {two}"), ANN).run().expect(exit::DONE);
    let propose = ours.govern("propose", ANN).arg("--replace").arg(ours.key(DAN)).arg("--by").arg(ours.enrolment(EVE));
    let proposal = propose.run().expect(exit::DONE).text("proposal");
    for index in [BEN, CAT] {
        ours.govern(&format!("approve {proposal}"), index).run().expect(exit::DONE);
    }
    ours.govern(&format!("enact {proposal}"), CAT).run().expect(exit::DONE);
    let listed = ours.govern("list", DAN).run().expect(exit::DONE);
    let members: Vec<Value> = listed.lines().into_iter().filter(|line| line["type"] == "set-member").collect();
    let from = members.last().unwrap()["from"].as_u64().unwrap();
    let epoch = listed.number("epoch");
    assert!(members[0]["from"] == 0 && (epoch + 1..=epoch + 2).contains(&from), "{members:?}");
    let closing = from * LENGTH - 1;

    // One is killed before the change. The three others close the tenure; the next begins with a dead one among its four.
    ours.reach(closing - 3);
    ours.kill(CAT);
    ours.reach(closing + 3);
    for (index, role) in [(EVE, "validator"), (DAN, "follower")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    let header = ours.node(ANN).ask("eth_getBlockByNumber", &json!([format!("{closing:#x}"), false]));
    assert_ne!(header["mixHash"], json!(format!("0x{}", "00".repeat(32))), "a closing block names who follows");

    // Who was away finds its way across, and votes again: its folder was there without a gap.
    ours.run(CAT);
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(CAT).height() >= height, "who was away comes across the change");
    wait_until(|| ours.status(CAT)["role"] == "validator" && ours.status(CAT)["validators"] == 4, "it votes again");

    // The one that left is not needed any more, and one more may die.
    wait_until(|| ours.node(DAN).height() >= height, "who left follows");
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
    ours.kill(DAN);
    ours.reach(height + 2);
    ours.kill(ANN);
    ours.reach(height + 5);

    // The vault goes on, under another fingerprint; who has only the old one checks a new receipt all the same, offline.
    let new_snapshot = ours.world.back_up(&source).snapshot();
    let after = ours.world.fingerprint();
    assert_ne!(before, after);
    let new_receipt = ours.world.path("new-receipt");
    ours.world.call("receipt latest -o").arg(&new_receipt).run().expect(exit::DONE);
    let check = |receipt: &PathBuf, fingerprint: &str| {
        let call = ours.world.outside("check-receipt").arg(receipt);
        call.arg("--fingerprint").arg(fingerprint).run()
    };
    check(&new_receipt, &before).expect(exit::DONE);
    check(&new_receipt, &after).expect(exit::DONE);
    check(&old_receipt, &before).expect(exit::DONE);
    // What was recorded before is no word of those who came later; the vault itself knows what it had then.
    check(&old_receipt, &after).refuses(exit::CHECK, "of the vault with fingerprint");
    for receipt in [&old_receipt, &new_receipt] {
        ours.world.call("check-receipt").arg(receipt).run().expect(exit::DONE);
    }
    for snapshot in [&old_snapshot, &new_snapshot] {
        ours.world.expect_restores(snapshot, &source);
    }

    // The same folders go on after all of it was stopped, with the one that was dead meanwhile.
    let height = ours.node(BEN).height();
    (ANN..=EVE).for_each(|index| ours.kill(index));
    for index in [ANN, BEN, EVE] {
        ours.run(index);
    }
    ours.reach(height + 2);
    ours.expect_one_history(&[ANN, BEN, EVE]);
}

/// None of those that run is started again.
#[test]
fn nodes_come_and_move_while_the_others_run() {
    let mut ours = Operators::found();
    ours.edit(EVE, |config| config.rpc_peers.clear());
    (ANN..=EVE).for_each(|index| ours.run(index));
    let init = ours.world.init(1).args("--enrol-key").arg(ours.world.path("founded/enrol.key"));
    init.arg("--ledger").arg(ours.node(BEN).url()).run().expect(exit::DONE);
    let enrol = ours.world.unlocked("node enrol --yes");
    (ANN..=EVE).fold(enrol, |call, index| call.arg(ours.node(index).url())).run().expect(exit::DONE);

    // Nobody serves the follower, and it was told of nobody to ask: now it is.
    assert_eq!((ours.node(EVE).height(), ours.peers(EVE)), (0, 0));
    ours.edit(EVE, |config| config.rpc_peers.push(ours.node(ANN).url().parse().unwrap()));
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(EVE).height() >= height, "it asks the node that its operator names");
    ours.edit(EVE, |config| config.rpc_peers.clear());
    // A validator names it: from then on it is served as the others are.
    ours.edit(CAT, |config| config.followers.push(ours.key(EVE)));
    wait_until(|| ours.peers(EVE) == 1, "a validator lets in whom its operator names");
    ours.reach(height + 2);
    wait_until(|| ours.node(EVE).height() >= height + 2, "it is served");

    // The ledger says where a validator is from some epoch on, and the others look for it there.
    let ports = free_ports(2);
    let [first, second] = [ports, ports + 1].map(|port| format!("127.0.0.1:{port}"));
    let moved = format!("{}={first}", ours.key(DAN));
    let propose = ours.govern("propose", ANN).arg("--move").arg(moved);
    let proposal = propose.run().expect(exit::DONE).text("proposal");
    for index in [BEN, CAT] {
        ours.govern(&format!("approve {proposal}"), index).run().expect(exit::DONE);
    }
    let listed = ours.govern("list", BEN).run().expect(exit::DONE);
    let open: Vec<Value> = listed.lines().into_iter().filter(|line| line["type"] == "proposal").collect();
    assert_eq!(open[0]["changes"], json!([format!("moves validator {} at {first}", ours.key(DAN))]));
    ours.govern(&format!("enact {proposal}"), CAT).run().expect(exit::DONE);
    let listed = ours.govern("list", BEN).run().expect(exit::DONE);
    let from = listed.lines().iter().filter_map(|line| line["from"].as_u64()).max().unwrap();
    ours.reach(from * LENGTH - 2);
    ours.move_to(DAN, &first);
    ours.reach(from * LENGTH);
    wait_until(|| ours.peers(DAN) == 3, "the others find it where the ledger says");
    wait_until(|| ours.status(DAN)["role"] == "validator", "it votes");

    // What an operator writes himself goes before.
    ours.move_to(DAN, &second);
    for index in [ANN, BEN, CAT] {
        ours.edit(index, |config| drop(config.validators.insert(ours.key(DAN), second.clone())));
    }
    wait_until(|| ours.peers(DAN) == 3, "the others find it where their operators say");
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(DAN).height() >= height, "it has what the others have");
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
}
