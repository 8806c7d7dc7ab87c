//! Writers on a network's ledger: enrolled accounts that commit snapshots, with signed calls of the real contracts.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind, U256};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::{AccountSecret, EnrolKey, Secret};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{Genesis, Request};
use blockhouse_tests::network::Node;
use serde_json::{Value, json};

/// Gas of a call: more than twice what a commit uses.
const GAS: u64 = 1_500_000;
/// Longer than any test, and than the clocks of its nodes differ.
const LEASE_SECONDS: u64 = 86_400;

/// More than any test has.
const WRITERS_MAX: u8 = 100;

/// The numbers of all writers that there can be, by their accounts.
static NUMBERS: LazyLock<HashMap<Address, u8>> = LazyLock::new(|| {
    (1..=WRITERS_MAX).map(|number| (Address::new(secret(number).account().to_bytes()), number)).collect()
});

/// Their secrets: what is made of each to sign with costs as much as a signature.
static SECRETS: LazyLock<Vec<AccountSecret>> =
    LazyLock::new(|| (0..=WRITERS_MAX).map(|number| secret(number.max(1))).collect());

/// A transaction that is ready to be sent, and its hash.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// As `eth_sendRawTransaction` takes it.
    pub(crate) raw: String,
    /// Its hash.
    pub(crate) hash: B256,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    number: u8,
    nonce: u64,
    count: u64,
    genesis: Genesis,
}

/// The ledger of a network.
pub(crate) fn genesis(node: &Node) -> Genesis {
    let genesis = node.ask("blockhouse_genesis", &json!([]));
    Genesis::decode(&hex::decode(genesis.as_str().unwrap().trim_start_matches("0x")).unwrap()).unwrap()
}

/// Makes the contracts of the ledger in that folder and enrols so many writers.
pub(crate) fn enrol(dir: &Path, node: &Node, count: u8) -> Vec<Writer> {
    enrol_at(dir, &genesis(node), node, count)
}

/// The same, whoever keeps the chain: accounts and calls are those of that ledger.
pub(crate) fn enrol_at(dir: &Path, genesis: &Genesis, node: &Node, count: u8) -> Vec<Writer> {
    let key = EnrolKey::parse(&fs::read(dir.join("enrol.key")).unwrap()).unwrap();
    let mut last = Value::Null;
    for call in founding(genesis, &key.owner, count) {
        last = send(node, &call);
    }
    node.receipt(&last);
    (1..=count).map(|number| Writer::new(number, genesis)).collect()
}

/// The owner's first transactions on a ledger: they make the contracts and enrol so many writers.
pub(crate) fn founding(genesis: &Genesis, owner: &AccountSecret, count: u8) -> Vec<Signed> {
    let deployments = genesis.deployments(0).map(|input| (TxKind::Create, input.to_vec(), DEPLOYMENT_GAS));
    let enrolments = (1..=count).map(|number| {
        let who = Address::new(secret(number).account().to_bytes());
        let call =
            Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
        (TxKind::Call(genesis.access_address()), call.abi_encode(), GAS)
    });
    let calls = deployments.into_iter().chain(enrolments);
    let sign = |(nonce, (to, input, gas)): (u64, (TxKind, Vec<u8>, u64))| {
        sign(Request { chain_id: genesis.chain_id, nonce, to, input: input.into(), gas }, owner)
    };
    (0..).zip(calls).map(sign).collect()
}

/// Lets these accounts send transactions too, by the owner's word, and waits until they may.
pub(crate) fn enrol_others(dir: &Path, node: &Node, accounts: &[AccountSecret]) {
    let owner = EnrolKey::parse(&fs::read(dir.join("enrol.key")).unwrap()).unwrap().owner;
    let genesis = genesis(node);
    let nonce = node.ask("eth_getTransactionCount", &json!([Address::new(owner.account().to_bytes()), "pending"]));
    let first = blockhouse_tests::network::number(&nonce);
    let sent = accounts.iter().zip(first..).map(|(account, nonce)| {
        let who = Address::new(account.account().to_bytes());
        let call =
            Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
        let (to, input) = (TxKind::Call(genesis.access_address()), call.abi_encode().into());
        let request = Request { chain_id: genesis.chain_id, nonce, to, input, gas: GAS };
        send(node, &sign(request, &owner))
    });
    for hash in sent.collect::<Vec<_>>() {
        assert_eq!(node.receipt(&hash)["status"], "0x1");
    }
}

/// The session that was opened, and the number of its writer.
pub(crate) fn opened(receipt: &Value) -> Option<(u8, B256)> {
    opened_by(&receipt["logs"][0])
}

/// The same by the log of its event.
pub(crate) fn opened_by(log: &Value) -> Option<(u8, B256)> {
    let topics = log["topics"].as_array()?.iter().map(|topic| topic.as_str().unwrap().parse().unwrap());
    let data = hex::decode(log["data"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    let event = Vault::SessionOpened::decode_raw_log(topics.collect::<Vec<B256>>(), &data).ok()?;
    Some((number(&event.writer)?, event.session))
}

/// The number of the writer of that account.
pub(crate) fn number(account: &Address) -> Option<u8> {
    NUMBERS.get(account).copied()
}

impl Writer {
    pub(crate) fn new(number: u8, genesis: &Genesis) -> Self {
        Self { number, nonce: 0, count: 0, genesis: genesis.clone() }
    }

    /// How many transactions it sent, and how many snapshots it committed: to go on elsewhere.
    pub(crate) const fn counts(&self) -> [u64; 2] {
        [self.nonce, self.count]
    }

    /// Goes on after so many.
    pub(crate) const fn go_on(&mut self, nonce: u64, count: u64) {
        (self.nonce, self.count) = (nonce, count);
    }

    /// What it signs with.
    pub(crate) fn secret(&self) -> &'static AccountSecret {
        &SECRETS[usize::from(self.number)]
    }

    /// Opens a session, which a commit ends.
    pub(crate) fn open(&mut self) -> Signed {
        let input = Vault::openSessionCall { leaseSeconds: LEASE_SECONDS }.abi_encode();
        self.next(input)
    }

    /// The next commit of a snapshot, which no other is like.
    pub(crate) fn commit(&mut self, session: B256) -> Signed {
        self.count += 1;
        let snapshot = B256::from(U256::from(self.count) | (U256::from(self.number) << 128));
        let c = Vault::Commit {
            session,
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
        self.next(Vault::commitCall { c }.abi_encode())
    }

    /// A transaction that does nothing.
    pub(crate) fn nothing(&mut self) -> Signed {
        self.carrying(&[])
    }

    /// One that does nothing but carry these bytes.
    pub(crate) fn carrying(&mut self, bytes: &[u8]) -> Signed {
        self.next(bytes.to_vec())
    }

    fn next(&mut self, input: Vec<u8>) -> Signed {
        let (chain_id, to) = (self.genesis.chain_id, TxKind::Call(self.genesis.vault_address()));
        let request = Request { chain_id, nonce: self.nonce, to, input: input.into(), gas: GAS };
        self.nonce += 1;
        sign(request, self.secret())
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
