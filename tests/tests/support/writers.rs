//! Writers on a network's ledger: enrolled accounts that commit snapshots, with signed calls of the real contracts.

use std::fs;
use std::path::Path;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind, U256};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::{AccountSecret, EnrolKey, Secret};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::network::Node;
use serde_json::{Value, json};

/// Gas of a commit: twice what it uses.
const GAS: u64 = 700_000;
/// Longer than any test, and than the clocks of its nodes differ.
const LEASE_SECONDS: u64 = 86_400;

/// A transaction that is ready to be sent, and its hash.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// As `eth_sendRawTransaction` takes it.
    pub(crate) raw: String,
    /// Its hash.
    pub(crate) hash: B256,
}

/// One of them, with its open session.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    number: u8,
    session: B256,
    nonce: u64,
    count: u64,
    genesis: Genesis,
}

/// Makes the contracts, enrols so many writers and opens a session for each.
pub(crate) fn enrol(dir: &Path, node: &Node, count: u8) -> Vec<Writer> {
    let key = EnrolKey::parse(&fs::read(dir.join("enrol.key")).unwrap()).unwrap();
    let genesis = node.ask("blockhouse_genesis", &json!([]));
    let genesis = Genesis::decode(&hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap()).unwrap();
    let mut nonce = 0;
    let mut owner = |to, input: Vec<u8>, gas| {
        let request = Request { chain_id: genesis.chain_id, nonce, to, input: input.into(), gas };
        nonce += 1;
        send(node, &sign(request, &key.owner))
    };
    for input in genesis.deployments(0) {
        owner(TxKind::Create, input.to_vec(), DEPLOYMENT_GAS);
    }
    let mut last = Value::Null;
    for number in 1..=count {
        let who = Address::new(secret(number).account().to_bytes());
        let call =
            Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
        last = owner(TxKind::Call(genesis.access_address()), call.abi_encode(), GAS);
    }
    node.receipt(&last);
    let open = |number| {
        let (to, chain_id) = (TxKind::Call(genesis.vault_address()), genesis.chain_id);
        let input = Vault::openSessionCall { leaseSeconds: LEASE_SECONDS }.abi_encode().into();
        send(node, &sign(Request { chain_id, nonce: 0, to, input, gas: GAS }, &secret(number)))
    };
    let opened: Vec<(u8, Value)> = (1..=count).map(|number| (number, open(number))).collect();
    let writers = opened.into_iter().map(|(number, hash)| {
        let session = session_of(&node.receipt(&hash));
        Writer { number, session, nonce: 1, count: 0, genesis: genesis.clone() }
    });
    writers.collect()
}

/// The session that was opened.
fn session_of(receipt: &Value) -> B256 {
    let log = &receipt["logs"][0];
    let topics = log["topics"].as_array().unwrap_or_else(|| panic!("no session was opened: {receipt}")).iter();
    let topics = topics.map(|topic| topic.as_str().unwrap().parse().unwrap());
    let data = hex::decode(log["data"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    Vault::SessionOpened::decode_raw_log(topics.collect::<Vec<B256>>(), &data).unwrap().session
}

impl Writer {
    /// The next commit of a snapshot, which no other is like.
    pub(crate) fn commit(&mut self) -> Signed {
        self.count += 1;
        let snapshot = B256::from(U256::from(self.count) | (U256::from(self.number) << 128));
        let c = Vault::Commit {
            session: self.session,
            source: B256::repeat_byte(self.number),
            snapshot,
            objectHash: snapshot,
            listRoot: snapshot,
            storedBytes: 1 << 20,
            recipients: B256::new(self.genesis.recipients.to_bytes()),
            tags: Vec::new(),
            parent: B256::ZERO,
            d: 6,
            w: 2,
            wd: 2,
            headHeight: 0,
            headHash: B256::ZERO,
        };
        let to = TxKind::Call(self.genesis.vault_address());
        let (chain_id, input) = (self.genesis.chain_id, Vault::commitCall { c }.abi_encode().into());
        let request = Request { chain_id, nonce: self.nonce, to, input, gas: GAS };
        self.nonce += 1;
        sign(request, &secret(self.number))
    }
}

fn secret(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

fn sign(request: Request, by: &AccountSecret) -> Signed {
    let tx = request.sign(by);
    Signed { raw: format!("0x{}", hex::encode(tx.encoded_2718())), hash: *tx.tx_hash() }
}

/// Hands it in, and it must be taken.
pub(crate) fn send(node: &Node, signed: &Signed) -> Value {
    node.ask("eth_sendRawTransaction", &json!([signed.raw]))
}
