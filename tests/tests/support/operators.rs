//! Operators on one machine, each with a node: they found a network whose validators change, and agree on who comes.

use std::path::{Path, PathBuf};

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, TxKind};
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::{NodeConfig, NodeFolder};
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::network::{Node, RunningNode, free_ports, number, wait_until};
use blockhouse_tests::world::{Call, Running, World, exit};
use serde_json::{Value, json};

const NAMES: [&str; 6] = ["ann", "ben", "cat", "dan", "eve", "fay"];
pub(crate) const ANN: usize = 0;
pub(crate) const BEN: usize = 1;
pub(crate) const CAT: usize = 2;
pub(crate) const DAN: usize = 3;
pub(crate) const EVE: usize = 4;
/// Comes when it is made.
pub(crate) const FAY: usize = 5;
/// Those that found a network.
const FOUNDERS: [usize; 4] = [ANN, BEN, CAT, DAN];
/// Blocks in an epoch: the fewest that there may be.
pub(crate) const LENGTH: u64 = 16;

pub(crate) struct Operators {
    pub(crate) world: World,
    /// What the names of their folders begin with.
    prefix: &'static str,
    ports: u16,
    running: [Option<RunningNode>; 6],
    /// Whether each keeps the account that speaks for his node in a folder of its own.
    apart: bool,
}

impl Operators {
    fn new(apart: bool) -> Self {
        Self::of(World::empty(), "", apart)
    }

    fn of(world: World, prefix: &'static str, apart: bool) -> Self {
        let ours = Self { world, prefix, ports: free_ports(12), running: [const { None }; 6], apart };
        (ANN..=EVE).for_each(|index| ours.make(index));
        ours
    }

    /// The first four take over the ledger of the vault of that world, which one host sealed; the fifth follows. Gives the vault's fingerprint from
    /// then on, and the last block before.
    pub(crate) fn grow(world: World) -> (Self, (String, u64)) {
        let ours = Self::of(world, "", false);
        let begun = ours.take_on("node init --from-vault");
        (ours, begun)
    }

    /// Others of the same names found the network anew, from what the one whose node still runs has.
    pub(crate) fn refound(mut self, survivor: usize) -> (Self, (String, u64)) {
        (ANN..=FAY).filter(|index| *index != survivor).for_each(|index| self.kill(index));
        wait_until(|| self.peers(survivor) == 0, "the survivor sees that the others are gone");
        let left = self.running[survivor].take();
        let Self { world, .. } = self;
        let ours = Self::of(world, "new-", false);
        let begun = ours.take_on("node refound");
        drop(left);
        (ours, begun)
    }

    /// By that command, on the host of the vault and of the first node.
    fn take_on(&self, words: &str) -> (String, u64) {
        let call = self.world.unlocked(words).args(&format!("--json --epoch-length {LENGTH}"));
        let call = call.arg("--dir").arg(self.dir(ANN)).arg("--found");
        let call = [BEN, CAT, DAN].iter().fold(call, |call, index| call.arg(self.enrolment(*index)));
        let call = (ANN..=EVE).fold(call, |call, index| call.arg("--ledger").arg(self.node(index).url()));
        let done = call.run().expect(exit::DONE);
        let (fingerprint, base) = (done.text("fingerprint"), done.number("height"));
        for index in [BEN, CAT, DAN] {
            self.join(index, &self.network()).args(&format!("--expect {fingerprint}")).run().expect(exit::DONE);
        }
        self.join(EVE, &self.network()).args("--follower").run().expect(exit::DONE);
        (fingerprint, base)
    }

    /// The first four found a network whose nodes sign one by one; the fifth follows it.
    pub(crate) fn found() -> Self {
        let ours = Self::new(false);
        ours.begin("");
        let network = ours.world.path("founded/network");
        for index in FOUNDERS {
            ours.join(index, &network).run().expect(exit::DONE);
        }
        ours.join(EVE, &network).args("--follower").run().expect(exit::DONE);
        ours
    }

    /// The first four make one key together; the fifth follows.
    pub(crate) fn found_with_one_key() -> Self {
        Self::share_a_key(false)
    }

    /// The same, and none of the nodes has the account that speaks for it.
    pub(crate) fn found_with_one_key_apart() -> Self {
        Self::share_a_key(true)
    }

    fn share_a_key(apart: bool) -> Self {
        let ours = Self::new(apart);
        ours.begin("--signing threshold");
        let founding = ours.world.path("founded/founding");
        let gathering: Vec<Running> = FOUNDERS.map(|index| ours.join(index, &founding).spawn()).into();
        for joins in gathering {
            joins.finish().expect(exit::DONE);
        }
        let complete = ours.world.outside("node init --complete").arg(ours.network()).arg("--dir");
        complete.arg(ours.world.path("founded")).run().expect(exit::DONE);
        ours.join(EVE, &ours.network()).args("--follower").run().expect(exit::DONE);
        ours
    }

    fn begin(&self, words: &str) {
        let call = self.world.outside("node init").args(&format!("--epoch-length {LENGTH} {words}"));
        let call = call.arg("--dir").arg(self.world.path("founded")).arg("--found");
        FOUNDERS.iter().fold(call, |call, index| call.arg(self.enrolment(*index))).run().expect(exit::DONE);
    }

    /// Makes the node of that operator.
    pub(crate) fn make(&self, index: usize) {
        let (name, port, rpc) = (NAMES[index], self.port(index), self.node(index).port());
        let init = |dir: &Path, words: &str| {
            let call = self.world.outside("node init --dir").arg(dir).args(&format!("--name {name} {words}"));
            call.run().expect(exit::DONE);
        };
        let mut words = format!("--listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc}");
        if self.apart {
            init(&self.office(index), "--listen 127.0.0.1:1");
            let account = NodeFolder::new(self.office(index)).read_keys().unwrap().account().account();
            words = format!("{words} --operator {account}");
        }
        init(&self.dir(index), &words);
    }

    /// Joins a network, and may ask the first five.
    pub(crate) fn join(&self, index: usize, network: &Path) -> Call {
        let call = self.world.outside("node join --dir").arg(self.dir(index)).arg("--network").arg(network);
        let others = (ANN..=EVE).filter(|other| *other != index);
        others.fold(call, |call, other| call.arg("--rpc-peer").arg(self.node(other).url()))
    }

    /// A vault takes the ledger over, with so many sites.
    pub(crate) fn take_over(&self, sites: usize) {
        let init = self.world.init(sites).args("--enrol-key").arg(self.world.path("founded/enrol.key"));
        init.arg("--ledger").arg(self.node(BEN).url()).run().expect(exit::DONE);
    }

    /// Its owner lets the first five nodes speak.
    pub(crate) fn enrol_nodes(&self) {
        let enrol = self.world.unlocked("node enrol --yes");
        (ANN..=EVE).fold(enrol, |call, index| call.arg(self.node(index).url())).run().expect(exit::DONE);
    }

    pub(crate) fn dir(&self, index: usize) -> PathBuf {
        self.world.path(&format!("{}{}", self.prefix, NAMES[index]))
    }

    /// Where the account is that speaks for a node, if it is kept apart.
    pub(crate) fn office(&self, index: usize) -> PathBuf {
        self.world.path(&format!("office-{}", NAMES[index]))
    }

    /// What all of them were given, as the first one has it.
    pub(crate) fn network(&self) -> PathBuf {
        self.dir(ANN).join("network")
    }

    pub(crate) fn enrolment(&self, index: usize) -> PathBuf {
        self.dir(index).join("enrolment")
    }

    pub(crate) fn port(&self, index: usize) -> u16 {
        self.ports + u16::try_from(index).unwrap()
    }

    pub(crate) fn node(&self, index: usize) -> Node {
        Node::apart(self.dir(index), self.port(index) + 6)
    }

    pub(crate) fn run(&mut self, index: usize) {
        self.running[index] = Some(self.node(index).run_again());
    }

    /// As kill -9 does.
    pub(crate) fn kill(&mut self, index: usize) {
        self.running[index] = None;
    }

    pub(crate) fn account(&self, index: usize) -> AccountSecret {
        NodeFolder::new(self.dir(index)).read_keys().unwrap().account()
    }

    pub(crate) fn key(&self, index: usize) -> String {
        hex::encode(NodeFolder::new(self.dir(index)).read_keys().unwrap().public())
    }

    /// Writes the `node.toml` of an operator anew, whether his node runs or not.
    pub(crate) fn edit(&self, index: usize, change: impl FnOnce(&mut NodeConfig)) {
        let path = self.dir(index).join("node.toml");
        let mut config = NodeConfig::load(&path).unwrap();
        change(&mut config);
        std::fs::write(&path, config.text()).unwrap();
    }

    /// What `node validators` says, asked by the node of that operator, once that has what the others have.
    pub(crate) fn govern(&self, words: &str, index: usize) -> Call {
        let running = (ANN..=FAY).filter(|other| self.running[*other].is_some());
        let height = running.map(|other| self.node(other).height()).max().unwrap();
        wait_until(|| self.node(index).height() >= height, "an operator's node has what the others have");
        let dir = if self.apart { self.office(index) } else { self.dir(index) };
        let call = self.world.outside("node validators").args(words).args("--json --dir").arg(dir);
        call.arg("--ledger").arg(self.node(index).url())
    }

    /// One is to come in the place of another; gives the proposal.
    pub(crate) fn propose_to_replace(&self, old: usize, new: usize) -> String {
        let propose = self.govern("propose", ANN).arg("--replace").arg(self.key(old));
        propose.arg("--by").arg(self.enrolment(new)).run().expect(exit::DONE).text("proposal")
    }

    /// Three governors of four agree to a proposal of the first one, and it is carried out; gives the epoch from which on it counts.
    pub(crate) fn agree(&self, proposal: &str) -> u64 {
        for index in [BEN, CAT] {
            self.govern(&format!("approve {proposal}"), index).run().expect(exit::DONE);
        }
        self.govern(&format!("enact {proposal}"), CAT).run().expect(exit::DONE);
        let listed = self.govern("list", CAT).run().expect(exit::DONE);
        listed.lines().iter().filter_map(|line| line["from"].as_u64()).max().unwrap()
    }

    pub(crate) fn status(&self, index: usize) -> Value {
        let called = self.world.outside("node status --json --dir").arg(self.dir(index)).run();
        called.expect(exit::DONE).lines().pop().unwrap()
    }

    /// To how many others the node of that operator is connected.
    pub(crate) fn peers(&self, index: usize) -> u64 {
        self.node(index).ask("blockhouse_nodeStatus", &json!([]))["peers"].as_u64().unwrap()
    }

    /// Records something small by the account of the fifth node, block after block, up to that height.
    pub(crate) fn reach(&self, height: u64) {
        let (node, eve) = (self.node(BEN), self.account(EVE));
        let genesis = node.ask("blockhouse_genesis", &json!([]));
        let genesis = hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap();
        let genesis = Genesis::decode(&genesis).unwrap();
        let account = Address::new(eve.account().to_bytes());
        while node.height() < height {
            // Her node may speak on its own meanwhile, by the same account.
            let nonce = number(&node.ask("eth_getTransactionCount", &json!([account, "pending"])));
            let to = TxKind::Call(genesis.vault_address());
            let request = Request { chain_id: genesis.chain_id, nonce, to, input: Vec::new().into(), gas: 100_000 };
            let raw = format!("0x{}", hex::encode(request.sign(&eve).encoded_2718()));
            let before = node.height();
            let _ = node.try_ask("eth_sendRawTransaction", &json!([raw]));
            wait_until(|| node.height() > before, "a block follows");
        }
    }

    /// Whether the header of that block names who follows.
    pub(crate) fn names_followers(&self, height: u64) -> bool {
        let header = self.node(BEN).ask("eth_getBlockByNumber", &json!([format!("{height:#x}"), false]));
        header["mixHash"] != json!(format!("0x{}", "00".repeat(32)))
    }

    pub(crate) fn expect_one_history(&self, among: &[usize]) {
        let least = among.iter().map(|index| self.node(*index).height()).min().unwrap();
        for height in 0..=least {
            let hashes: Vec<Value> = among.iter().map(|index| self.node(*index).hash_at(height)).collect();
            assert!(hashes.array_windows().all(|[a, b]| a == b), "block {height}: {hashes:?}");
        }
    }
}
