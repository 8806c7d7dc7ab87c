//! Targets for blocks, certificates and receipts: what a site may serve as the ledger, and what anyone may hand over
//! as a receipt.

use std::sync::LazyLock;

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, Log, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS};
use blockhouse_ledger::proof::check_receipt;
use blockhouse_ledger::{
    Block, BlockObject, BlockPlace, Certificate, Event, Executed, Fork, Genesis, Receipt, ReceiptParts, Replay,
    Request, block_hash, build, decode_block, decode_header, encode_block,
};
use blockhouse_types::{RecipientSetHash, SnapshotId, VaultId};

use crate::{Target, Verdict};

const CHAIN_ID: u64 = 0x1_2345_6789;
const SNAPSHOT: B256 = B256::repeat_byte(0x51);

/// A small ledger: contracts deployed, a writer enrolled, a snapshot committed.
struct World {
    genesis: Genesis,
    /// Where the contracts stand.
    deployed: Replay,
    /// The objects of all blocks.
    objects: Vec<BlockObject>,
    /// The block that holds the commit.
    commit: Executed,
    /// How many transactions the owner made until the contracts stood.
    owner_nonce: u64,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([9; 32]))
}

fn genesis() -> Genesis {
    Genesis {
        vault_id: VaultId::new([0xaa; 32]),
        chain_id: CHAIN_ID,
        owner: account(1).account(),
        recovery: vec![account(2).account()],
        ledger_key: ledger_key().public(),
        time: 1_700_000_000,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([0xbb; 32]),
    }
}

/// The blocks of the small ledger.
pub(super) fn objects() -> &'static [BlockObject] {
    &WORLD.objects
}

/// The block, certified by the ledger key.
fn certified(block: Block, genesis: Option<Genesis>) -> BlockObject {
    let place = BlockPlace { chain_id: CHAIN_ID, height: block.header.number, hash: block_hash(&block.header) };
    BlockObject { chain_id: CHAIN_ID, certificate: Certificate::solo(&ledger_key(), &place), block, genesis }
}

fn request(nonce: u64, to: TxKind, input: impl Into<Bytes>, gas: u64) -> Request {
    Request { chain_id: CHAIN_ID, nonce, to, input: input.into(), gas }
}

/// Makes the next block and takes it.
fn seal(replay: &mut Replay, objects: &mut Vec<BlockObject>, txs: Vec<TxEnvelope>) -> Executed {
    let time = replay.head().timestamp + 60;
    let built = build(replay.genesis(), replay.head(), replay.state(), txs, time).unwrap();
    let object = certified(built.block.clone(), None);
    replay.extend(&object).unwrap();
    objects.push(object);
    assert!(built.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status), "a transaction failed");
    built
}

impl World {
    fn new() -> Self {
        let (genesis, owner, writer) = (genesis(), account(1), account(3));
        let mut objects = vec![certified(genesis.block(), Some(genesis.clone()))];
        let mut replay = Replay::begin(&objects[0]).unwrap();
        let create = |(nonce, code)| request(nonce, TxKind::Create, code, DEPLOYMENT_GAS).sign(&owner);
        let txs: Vec<_> = (0..).zip(genesis.deployments(86_400)).map(create).collect();
        let owner_nonce = txs.len() as u64;
        seal(&mut replay, &mut objects, txs);
        let deployed = replay.clone();

        let who = writer.account().to_bytes().into();
        let enrol =
            Access::enrolWriterCall { who, predecessor: [0; 20].into(), predecessorLastBlock: 0, hostStolen: false };
        let access = TxKind::Call(genesis.access_address());
        let txs = vec![request(owner_nonce, access, enrol.abi_encode(), 2_000_000).sign(&owner)];
        seal(&mut replay, &mut objects, txs);

        let vault = TxKind::Call(genesis.vault_address());
        let open = Vault::openSessionCall { leaseSeconds: 3600 }.abi_encode();
        let opened = seal(&mut replay, &mut objects, vec![request(0, vault, open, 2_000_000).sign(&writer)]);
        let session = opened.receipts[0].logs()[0].topics()[1];
        let commit = Vault::commitCall { c: commit(session) }.abi_encode();
        let commit = seal(&mut replay, &mut objects, vec![request(1, vault, commit, 2_000_000).sign(&writer)]);
        Self { genesis, deployed, objects, commit, owner_nonce }
    }

    fn receipt(&self) -> Receipt {
        let certificate = &self.objects.last().unwrap().certificate;
        let parts = ReceiptParts {
            genesis: &self.genesis,
            ledger_key: ledger_key().public(),
            header: &self.commit.block.header,
            receipts: &self.commit.receipts,
            descendants: &[],
            certificate,
            snapshot: SnapshotId::new(SNAPSHOT.0),
            file: None,
        };
        Receipt::from_parts(&parts).unwrap()
    }
}

fn commit(session: B256) -> Vault::Commit {
    Vault::Commit {
        session,
        source: B256::repeat_byte(0x52),
        snapshot: SNAPSHOT,
        objectHash: B256::repeat_byte(0x11),
        listRoot: B256::repeat_byte(0x12),
        storedBytes: 1 << 20,
        recipients: B256::repeat_byte(0xbb),
        tags: vec![B256::repeat_byte(0x13)],
        parent: B256::ZERO,
        d: 6,
        w: 2,
        wd: 2,
        headHeight: 0,
        headHash: B256::ZERO,
    }
}

fn blocks() -> Vec<Vec<u8>> {
    WORLD.objects.iter().map(|object| encode_block(&object.block)).collect()
}

/// What block 0 commits to.
pub(super) const GENESIS: Target = Target {
    name: "genesis",
    decoders: &["ledger/genesis.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, Genesis::decode(bytes), Genesis::encode),
    seeds: || vec![genesis().encode()],
};

/// Who vouches for a block.
pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    decoders: &["ledger/certificate.rs::decode", "ledger/certificate.rs::verify"],
    run: |bytes| {
        let result = Certificate::decode(bytes);
        if let Ok(certificate) = &result {
            let head = WORLD.objects.last().unwrap();
            let place = BlockPlace { chain_id: CHAIN_ID, height: head.block.header.number, hash: head.hash() };
            let valid = certificate.verify(&ledger_key().public(), &place).is_ok();
            assert!(!valid || *certificate == head.certificate, "another certificate vouches for the block");
        }
        Verdict::canonical(bytes, result, Certificate::encode)
    },
    seeds: || WORLD.objects.iter().map(|object| object.certificate.encode()).collect(),
};

/// A header alone.
pub(super) const HEADER: Target = Target {
    name: "header",
    decoders: &["ledger/block.rs::decode_header"],
    run: |bytes| {
        let result = decode_header(bytes);
        if let Ok(header) = &result {
            block_hash(header);
        }
        Verdict::of(result)
    },
    seeds: || WORLD.objects.iter().map(|object| alloy_rlp::encode(&object.block.header)).collect(),
};

/// A block alone.
pub(super) const BLOCK: Target = Target {
    name: "block",
    decoders: &["ledger/block.rs::decode_block"],
    run: |bytes| Verdict::canonical(bytes, decode_block(bytes), encode_block),
    seeds: blocks,
};

/// A block as it lies at a site; block 0 begins a ledger.
pub(super) const BLOCK_OBJECT: Target = Target {
    name: "block-object",
    decoders: &["ledger/block.rs::decode"],
    run: |bytes| {
        let result = BlockObject::decode(bytes);
        if let Ok(object) = &result {
            Verdict::of(Replay::begin(object));
        }
        Verdict::canonical(bytes, result, BlockObject::encode)
    },
    seeds: || WORLD.objects.iter().map(BlockObject::encode).collect(),
};

/// Any block, certified as a thief of the ledger key could do it: taken only if its execution gives what it says.
pub(super) const REPLAY: Target = Target {
    name: "replay",
    decoders: &["ledger/replay.rs::extend"],
    run: |bytes| {
        let Ok(block) = decode_block(bytes) else { return Verdict::Refused };
        Verdict::of(WORLD.deployed.clone().extend(&certified(block, None)))
    },
    // The first block after the deployments is the one that fits.
    seeds: || blocks().drain(2..3).collect(),
};

/// Any program, sent by an enrolled account: it ends, and what was built imports as the same.
pub(super) const PROGRAM: Target = Target {
    name: "program",
    decoders: &["ledger/execute.rs::build"],
    run: |bytes| {
        let tx = request(WORLD.owner_nonce, TxKind::Create, bytes.to_vec(), 2_000_000).sign(&account(1));
        let mut replay = WORLD.deployed.clone();
        let time = replay.head().timestamp + 1;
        let built = build(&WORLD.genesis, replay.head(), replay.state(), vec![tx], time);
        if let Ok(built) = &built {
            let imported = replay.extend(&certified(built.block.clone(), None));
            assert!(imported.is_ok_and(|imported| imported == *built), "a block was built that does not import");
        }
        Verdict::of(built)
    },
    seeds: || WORLD.genesis.deployments(86_400).iter().map(|code| code[..400].to_vec()).collect(),
};

/// A receipt: only the one that was made holds under its fingerprint.
pub(super) const RECEIPT: Target = Target {
    name: "receipt",
    decoders: &["ledger/receipt.rs::parse", "ledger/receipt/check.rs::check"],
    run: |bytes| {
        let result = Receipt::parse(bytes);
        if let Ok(receipt) = &result {
            Verdict::of(receipt.check(None));
            if let Ok(checked) = receipt.check(Some(WORLD.receipt().fingerprint())) {
                assert_eq!(checked.snapshot, SnapshotId::new(SNAPSHOT.0), "another snapshot was proved");
            }
        }
        Verdict::canonical(bytes, result, Receipt::to_bytes)
    },
    seeds: || vec![WORLD.receipt().to_bytes()],
};

/// A proof under a receipts root: one node, which is the whole trie of a block with one transaction.
pub(super) const RECEIPT_PROOF: Target = Target {
    name: "receipt-proof",
    decoders: &["ledger/proof.rs::check_receipt", "ledger/trie.rs::check_inclusion"],
    run: |bytes| {
        let (receipt, node) = bytes.split_at(bytes.len() / 2);
        let own_root = alloy_primitives::keccak256(node);
        Verdict::of(check_receipt(own_root, 0, receipt, &[Bytes::copy_from_slice(node)]));
        let proof = proof();
        let value = value();
        let result = check_receipt(WORLD.commit.block.header.receipts_root, 0, bytes, &proof);
        assert_eq!(result.is_ok(), bytes == value, "another receipt is under the root");
        Verdict::of(result)
    },
    seeds: || vec![value()],
};

fn proof() -> Vec<Bytes> {
    blockhouse_ledger::proof::prove_receipt(&WORLD.commit.receipts, 0)
}

fn value() -> Vec<u8> {
    WORLD.commit.receipts[0].encoded_2718()
}

/// A log of the vault's contracts: one byte of topics, the topics, the data.
pub(super) const EVENT: Target = Target {
    name: "event",
    decoders: &["ledger/events.rs::decode"],
    run: |bytes| {
        let Some((count, rest)) = bytes.split_first() else { return Verdict::Refused };
        let Some((topics, data)) = rest.split_at_checked(usize::from(*count % 5) * 32) else { return Verdict::Refused };
        let topics = topics.chunks_exact(32).map(B256::from_slice).collect();
        let data = Bytes::copy_from_slice(data);
        for address in [WORLD.genesis.access_address(), [1; 20].into()] {
            let log = Log::new_unchecked(address, Clone::clone(&topics), data.clone());
            Verdict::of(Event::decode(&WORLD.genesis, &log));
        }
        Verdict::of(Event::decode(&WORLD.genesis, &Log::new_unchecked(WORLD.genesis.vault_address(), topics, data)))
    },
    seeds: || {
        let logs = WORLD.commit.receipts[0].logs();
        let bytes = |log: &Log| {
            let topics = log.topics().iter().flat_map(|topic| topic.0);
            [u8::try_from(log.topics().len()).unwrap()]
                .into_iter()
                .chain(topics)
                .chain(log.data.data.iter().copied())
                .collect()
        };
        logs.iter().map(bytes).collect()
    },
};
