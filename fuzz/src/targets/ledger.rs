//! Targets for blocks, certificates and receipts: what a site may serve as the ledger, and what anyone may hand over
//! as a receipt.

use std::sync::LazyLock;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bytes, Log, TxKind};
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::proof::check_receipt;
use blockhouse_ledger::receipt::{KeyAt, Link};
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{
    Block, BlockObject, BlockPlace, Certificate, Event, Executed, ForkEvidence, ForkSide, Genesis, Receipt, Replay,
    Request, block_hash, build, decode_block, decode_header, encode_block,
};
use blockhouse_types::SnapshotId;

use crate::seeds::golden;
use crate::{Target, Verdict};

/// How many blocks the golden ledger has.
const BLOCKS: u64 = 5;
/// The snapshot that its last block commits.
const SNAPSHOT: B256 = B256::repeat_byte(0x51);

/// The golden ledger of version 1: contracts deployed, a writer enrolled, a session opened, a snapshot committed.
struct World {
    genesis: Genesis,
    /// Where the contracts stand.
    deployed: Replay,
    /// The objects of all blocks.
    objects: Vec<BlockObject>,
    /// The block that holds the commit.
    commit: Executed,
    /// The receipt of that snapshot.
    receipt: Receipt,
}

static WORLD: LazyLock<World> = LazyLock::new(World::golden);

/// The owner, who has sent what block 1 holds.
fn owner() -> AccountSecret {
    AccountSecret::try_new(&Secret::new([1; 32])).unwrap()
}

fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([9; 32]))
}

/// The blocks of the small ledger.
pub(super) fn objects() -> &'static [BlockObject] {
    &WORLD.objects
}

/// The block, certified by the ledger key.
fn certified(block: Block) -> BlockObject {
    let chain_id = WORLD.genesis.chain_id;
    let place = BlockPlace { chain_id, height: block.header.number, hash: block_hash(&block.header) };
    BlockObject { chain_id, certificate: Certificate::solo(&ledger_key(), &place), block, genesis: None }
}

impl World {
    fn golden() -> Self {
        let object = |height| BlockObject::decode(&golden("ledger", &format!("block-{height}.bin"))).unwrap();
        let objects: Vec<BlockObject> = (0..BLOCKS).map(object).collect();
        let (first, rest) = objects.split_first().unwrap();
        let mut replay = Replay::begin(first).unwrap();
        let mut extended = rest.iter().map(|object| (replay.extend(object).unwrap(), replay.clone()));
        let (_, deployed) = extended.next().unwrap();
        let (commit, _) = extended.last().unwrap();
        let receipt = Receipt::parse(&golden("ledger", "receipt.json")).unwrap();
        let genesis = first.genesis.clone().unwrap();
        Self { genesis, deployed, objects, commit, receipt }
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
    seeds: || vec![WORLD.genesis.encode()],
};

/// Who vouches for a block.
pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    decoders: &["ledger/certificate.rs::decode", "ledger/certificate.rs::verify"],
    run: |bytes| {
        let result = Certificate::decode(bytes);
        if let Ok(certificate) = &result {
            let head = WORLD.objects.last().unwrap();
            let place =
                BlockPlace { chain_id: WORLD.genesis.chain_id, height: head.block.header.number, hash: head.hash() };
            // Its own name lets the signatures be looked at, and none is over this block.
            let own = certificate.verify(&certificate.key(), &place).is_ok();
            assert!(!own || certificate.finality().is_none(), "a network's certificate vouches for the block");
            let valid = certificate.verify(&ledger_key().public(), &place).is_ok();
            assert!(!valid || *certificate == head.certificate, "another certificate vouches for the block");
        }
        Verdict::canonical(bytes, result, Certificate::encode)
    },
    seeds: || {
        let solo = WORLD.objects.iter().map(|object| object.certificate.encode());
        let network = ["certificate-threshold.bin", "certificate-threshold-2.bin", "certificate-committee.bin"];
        solo.chain(network.map(|name| golden("ledger", name))).collect()
    },
};

/// Two blocks that are said to be a fork.
pub(super) const FORK: Target = Target {
    name: "fork-evidence",
    decoders: &["ledger/fork.rs::decode"],
    run: |bytes| {
        let result = ForkEvidence::decode(bytes);
        if let Ok(evidence) = &result {
            // Whoever it accuses, it is of two blocks.
            let proved = evidence.check(None);
            assert!(!proved.as_ref().is_ok_and(|proved| proved.blocks[0] == proved.blocks[1]), "one block is a fork");
            Verdict::of(proved);
        }
        Verdict::of(ForkSide::decode(bytes));
        Verdict::canonical(bytes, result, ForkEvidence::encode)
    },
    seeds: || ["fork-solo.bin", "fork-committee.bin", "fork-threshold.bin"].map(|name| golden("ledger", name)).into(),
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

/// A closing block with its certificate, as another node shows it: two bytes say how long the header is. None here ends the time of these validators.
pub(super) const LINK: Target = Target {
    name: "link",
    decoders: &["ledger/receipt/links.rs::decode"],
    run: |bytes| {
        let Some((length, rest)) = bytes.split_first_chunk() else { return Verdict::Refused };
        let split = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)));
        let Some((header, certificate)) = split else { return Verdict::Refused };
        let result = Link::decode(header, certificate);
        if let Ok(link) = &result {
            let from = KeyAt { key: ledger_key().public(), after: 0 };
            assert!(link.follow(WORLD.genesis.chain_id, from).is_err(), "a link leads away from one key that seals");
            let again = [alloy_rlp::encode(&link.header), link.certificate.encode()];
            assert!(again == [header, certificate], "a second encoding was accepted");
        }
        Verdict::of(result)
    },
    seeds: || {
        let certificate = golden("ledger", "certificate-committee.bin");
        let seed = |object: &BlockObject| {
            let header = alloy_rlp::encode(&object.block.header);
            [&u16::try_from(header.len()).unwrap().to_le_bytes(), header.as_slice(), &certificate].concat()
        };
        WORLD.objects.iter().map(seed).collect()
    },
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
        Verdict::of(WORLD.deployed.clone().extend(&certified(block)))
    },
    // The first block after the deployments is the one that fits.
    seeds: || blocks().drain(2..3).collect(),
};

/// Any program, sent by an enrolled account: it ends, and what was built imports as the same.
pub(super) const PROGRAM: Target = Target {
    name: "program",
    decoders: &["ledger/execute.rs::build"],
    run: |bytes| {
        let nonce = WORLD.objects[1].block.body.transactions.len() as u64;
        let chain_id = WORLD.genesis.chain_id;
        let input = Bytes::copy_from_slice(bytes);
        let tx = Request { chain_id, nonce, to: TxKind::Create, input, gas: 2_000_000 }.sign(&owner());
        let mut replay = WORLD.deployed.clone();
        let time = BlockTime::of_seconds(replay.head().timestamp + 1);
        let built = build(&WORLD.genesis, replay.head(), replay.nodes(), vec![tx], time);
        if let Ok(built) = &built {
            let imported = replay.extend(&certified(built.block.clone()));
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
            if let Ok(checked) = receipt.check(Some(WORLD.receipt.fingerprint())) {
                assert_eq!(checked.snapshot, SnapshotId::new(SNAPSHOT.0), "another snapshot was proved");
            }
        }
        Verdict::canonical(bytes, result, Receipt::to_bytes)
    },
    seeds: || vec![WORLD.receipt.to_bytes()],
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
