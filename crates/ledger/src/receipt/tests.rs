//! Receipts of a real chain, and every way to bend one.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::{SolCall, SolConstructor};
use blockhouse_crypto::hash::{content, hash, hash_parts};
use blockhouse_crypto::merkle::Tree;
use blockhouse_crypto::{Commitment, FileProof, PlainRoot};
use blockhouse_types::{Encoder, EntriesRoot, EntryKind, SnapshotId, SourceId, VaultId};

use super::{CheckError, FileError, Receipt, ReceiptParts, Vouched};
use crate::certificate::{BlockPlace, Certificate, external_key};
use crate::contracts::Vault;
use crate::execute::Executed;
use crate::fingerprint::TrustRoot;
use crate::proof::prove_receipt;
use crate::tests::world::{STEP, World, address, ledger_key};
use crate::transaction::Request;

const SOURCE: B256 = B256::repeat_byte(6);

fn certify(world: &World, header: &Header) -> Certificate {
    let hash = crate::block::block_hash(header);
    let place = BlockPlace { chain_id: world.genesis().chain_id, height: header.number, hash };
    Certificate::solo(&world.ledger_key, &place)
}

fn receipt(world: &World, made: &Executed, snapshot: B256, file: Option<FileProof>) -> Receipt {
    let header = &made.block.header;
    let parts = ReceiptParts {
        root: TrustRoot::new(world.genesis(), world.ledger_key.public()),
        links: &[],
        header,
        receipts: &made.receipts,
        descendants: &[],
        certificate: &certify(world, header),
        snapshot: SnapshotId::new(snapshot.0),
        file,
    };
    Receipt::from_parts(&parts).unwrap()
}

/// A world with one snapshot, committed in the middle of a block of three transactions, and its receipt.
fn world_with_receipt() -> (World, Executed, Receipt) {
    let mut world = World::new();
    let snapshot = B256::repeat_byte(5);
    let c = world.commit_data(snapshot, SOURCE);
    let (chain_id, to, first) =
        (world.genesis().chain_id, TxKind::Call(world.genesis().vault_address()), world.nonce(&world.writer));
    let open = Vault::openSessionCall { leaseSeconds: 3600 }.abi_encode();
    let inputs = [open.clone(), Vault::commitCall { c }.abi_encode(), open];
    let txs = (first..)
        .zip(inputs)
        .map(|(nonce, input)| Request { chain_id, nonce, to, input: input.into(), gas: 2_000_000 }.sign(&world.writer));
    let txs = txs.collect();
    let made = world.seal_all(txs);
    assert!(made.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
    let receipt = receipt(&world, &made, snapshot, None);
    (world, made, receipt)
}

#[test]
fn a_receipt_proves_its_snapshot() {
    let (world, made, receipt) = world_with_receipt();
    let bytes = receipt.to_bytes();
    assert!(bytes.len() <= 8 * 1024, "{} bytes", bytes.len());
    assert!(
        bytes.starts_with(b"{\"type\":\"blockhouse-receipt\",\"version\":1,\"chain_id\":4886718345,\"genesis\":\"0x")
    );
    let parsed = Receipt::parse(&bytes).unwrap();
    assert_eq!(parsed, receipt);
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    let checked = parsed.check(Some(fingerprint)).unwrap();
    assert_eq!(checked.snapshot.to_bytes(), [5; 32]);
    assert_eq!(checked.source.to_bytes(), SOURCE.0);
    assert_eq!(checked.writer, address(world.writer.account()));
    assert_eq!((checked.height, checked.block), (made.block.header.number, made.hash));
    assert_eq!(checked.time, world.now());
    assert_eq!(parsed.check(None).unwrap().fingerprint, fingerprint);
}

#[test]
fn every_flipped_byte_is_refused() {
    let (world, _, receipt) = world_with_receipt();
    let bytes = receipt.to_bytes();
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    for at in 0..bytes.len() {
        for bit in [0x01, 0x02, 0x20] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let good = Receipt::parse(&flipped).is_ok_and(|receipt| receipt.check(Some(fingerprint)).is_ok());
            assert!(!good, "byte {at}, bit {bit:#x}");
        }
    }
}

#[test]
fn only_the_canonical_encoding_is_taken() {
    let (_, _, receipt) = world_with_receipt();
    let text = String::from_utf8(receipt.to_bytes()).unwrap();
    assert!(Receipt::parse(text.as_bytes()).is_ok());
    let others = [
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!(" {text}"),
        text.replacen("\":", "\": ", 1),
        text.replacen("\"version\":1", "\"version\":1.0", 1),
        text.replacen("\"version\":1", "\"version\":2", 1),
        text.replacen("\"version\":1", "\"version\":3", 1),
        text.replacen("0xaa", "0xAA", 1).replacen("0xbb", "0xBB", 1).replacen("\"0x", "\"0X", 1),
        text.replacen("\"snapshot\":\"0x", "\"snapshot\":\"", 1),
        text.replacen("\"descendants\":[],", "", 1),
        text.replacen("}\n", ",\"file\":null}\n", 1),
        text.replacen("}\n", ",\"note\":1}\n", 1),
        text.replacen("\"version\":1,", "\"version\":1,\"version\":1,", 1),
        text.replacen(
            "\"type\":\"blockhouse-receipt\",\"version\":1",
            "\"version\":1,\"type\":\"blockhouse-receipt\"",
            1,
        ),
        text.replacen("blockhouse-receipt", "blockhouse\\u002dreceipt", 1),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, text, "variant {index} changes nothing");
        assert!(Receipt::parse(other.as_bytes()).is_err(), "variant {index}");
    }
}

#[test]
fn each_step_names_itself() {
    let (_, _, good) = world_with_receipt();
    let step = |change: fn(&mut Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        receipt.check(None).unwrap_err().step()
    };
    let other = blockhouse_types::Fingerprint::new([1; 32]);
    assert_eq!(good.check(Some(other)).unwrap_err().step(), 2);
    assert_eq!(step(|r| r.ledger_key = B256::new(ledger_key(66).public())), 3);
    assert_eq!(step(|r| r.chain_id += 1), 3);
    assert_eq!(step(|r| r.certificate = Bytes::from_static(&[2])), 3);
    assert_eq!(step(|r| r.descendants.push(r.header.clone())), 4);
    assert_eq!(step(|r| r.header = Bytes::from_static(b"x")), 4);
    assert_eq!(step(|r| r.transaction_index = 0), 5);
    assert_eq!(step(|r| r.proof.clear()), 5);
    assert_eq!(step(|r| r.proof.push(Bytes::new())), 5);
    assert_eq!(step(|r| r.log_index = 99), 6);
    assert_eq!(step(|r| r.log_index = u64::MAX), 6);
    assert_eq!(step(|r| r.vault = Address::repeat_byte(1)), 6);
    assert_eq!(step(|r| r.snapshot = B256::repeat_byte(7)), 6);
}

#[test]
fn a_log_of_another_event_is_refused() {
    let (_, made, good) = world_with_receipt();
    let ended = made.receipts[1].logs().len();
    let refusals: Vec<_> = (0..ended as u64)
        .filter(|index| *index != good.log_index)
        .map(|log_index| Receipt { log_index, ..good.clone() }.check(None).unwrap_err())
        .collect();
    assert!(!refusals.is_empty());
    assert!(refusals.iter().all(|refusal| *refusal == CheckError::OtherEvent), "{refusals:?}");
}

#[test]
fn a_receipt_of_another_chain_is_refused() {
    let (world, ..) = world_with_receipt();
    let mut other = World::begin(1 << 40);
    other.deploy();
    let who = address(other.writer.account());
    let enrol = crate::contracts::Access::enrolWriterCall {
        who,
        predecessor: Address::ZERO,
        predecessorLastBlock: 0,
        hostStolen: false,
    };
    other.seal(other.to_access(&other.owner, enrol));
    let made = other.commit(B256::repeat_byte(5), SOURCE);
    let foreign = receipt(&other, &made, B256::repeat_byte(5), None);
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    assert_eq!(foreign.check(Some(fingerprint)).unwrap_err().step(), 2);
    // Dressed up with the names of the real vault, it lacks the certificate.
    let dressed = Receipt {
        chain_id: world.genesis().chain_id,
        genesis: B256::new(world.genesis().hash().to_bytes()),
        vault: world.genesis().vault_address(),
        ..foreign
    };
    assert_eq!(dressed.check(Some(fingerprint)).unwrap_err().step(), 3);
}

#[test]
fn a_commit_in_another_contract_on_the_same_ledger_is_refused() {
    let mut world = World::new();
    // The writer deploys a vault of its own, with the same code, and commits to it.
    let arguments = Vault::constructorCall {
        access_: world.genesis().access_address(),
        vaultId_: B256::repeat_byte(1),
        defaultRecipients_: B256::repeat_byte(0xbb),
        defaultPolicy_: world.genesis().policy_address(),
    };
    let init = [&Vault::BYTECODE[..], &arguments.abi_encode()].concat();
    let false_vault = address(world.writer.account()).create(world.nonce(&world.writer));
    let (chain_id, nonce) = (world.genesis().chain_id, world.nonce(&world.writer));
    let deploy = Request { chain_id, nonce, to: TxKind::Create, input: init.into(), gas: 8_000_000 };
    world.seal(deploy.sign(&world.writer));
    let open = Vault::openSessionCall { leaseSeconds: 3600 }.abi_encode();
    let opened = world.seal(world.tx(&world.writer, TxKind::Call(false_vault), open));
    let session = opened.receipts[0].logs()[0].topics()[1];
    let c = Vault::Commit { session, ..world.commit_data(B256::repeat_byte(5), SOURCE) };
    let made = world.seal(world.tx(&world.writer, TxKind::Call(false_vault), Vault::commitCall { c }.abi_encode()));

    // No receipt can be made by the rules; forge one in all that a forger controls.
    let log = made.receipts[0].logs().iter().position(|log| log.topics().len() == 4).unwrap();
    let (_, _, model) = world_with_receipt();
    let forged = Receipt {
        chain_id,
        header: alloy_rlp::encode(&made.block.header).into(),
        certificate: certify(&world, &made.block.header).encode().into(),
        transaction_index: 0,
        transaction_receipt: Some(alloy_eips::eip2718::Encodable2718::encoded_2718(&made.receipts[0]).into()),
        proof: prove_receipt(&made.receipts, 0),
        log_index: log as u64,
        ..model
    };
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    let vault = world.genesis().vault_address();
    let refused = forged.check(Some(fingerprint)).unwrap_err();
    assert_eq!(refused, CheckError::OtherContract { found: false_vault, vault });
    // Under its own address the receipt is consistent, of a vault with another fingerprint.
    let own = Receipt { vault: false_vault, ..forged };
    assert!(own.check(None).is_ok());
    assert_eq!(own.check(Some(fingerprint)).unwrap_err().step(), 2);
}

/// A failed transaction leaves no logs, so a forger who seals blocks himself puts them back.
#[test]
fn a_failed_transaction_is_refused() {
    let (world, made, good) = world_with_receipt();
    let mut receipts = made.receipts.clone();
    if let alloy_consensus::ReceiptEnvelope::Eip1559(receipt) = &mut receipts[1] {
        receipt.receipt.status = alloy_consensus::Eip658Value::Eip658(false);
    }
    let mut header = made.block.header.clone();
    header.receipts_root = alloy_consensus::proofs::calculate_receipt_root(&receipts);
    let forged = Receipt {
        header: alloy_rlp::encode(&header).into(),
        certificate: certify(&world, &header).encode().into(),
        transaction_receipt: Some(alloy_eips::eip2718::Encodable2718::encoded_2718(&receipts[1]).into()),
        proof: prove_receipt(&receipts, 1),
        ..good
    };
    assert_eq!(forged.check(None).unwrap_err(), CheckError::Failed);
}

#[test]
fn a_receipt_can_be_issued_again_under_a_later_key() {
    let (mut world, made, old) = world_with_receipt();
    let next = ledger_key(10);
    let call = crate::contracts::Access::handoverCall {
        nextKey: B256::new(next.public()),
        parentHash: world.replay.head().hash_slow(),
    };
    let handed = world.build(vec![world.to_access(&world.recovery, call)]);
    world.ledger_key = next;
    world.take(&handed);
    let later = world.seal_all(vec![]);
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    assert_eq!(old.check(Some(fingerprint)).unwrap_err().step(), 2);

    let descendants = [handed.block.header.clone(), later.block.header.clone()];
    let parts = ReceiptParts {
        root: TrustRoot::new(world.genesis(), world.ledger_key.public()),
        links: &[],
        header: &made.block.header,
        receipts: &made.receipts,
        descendants: &descendants,
        certificate: &certify(&world, &later.block.header),
        snapshot: SnapshotId::new([5; 32]),
        file: None,
    };
    let again = Receipt::from_parts(&parts).unwrap();
    assert!(Receipt::parse(&again.to_bytes()).unwrap().check(Some(fingerprint)).is_ok());
    // A header left out breaks the chain.
    let mut gap = again.clone();
    gap.descendants.remove(0);
    assert_eq!(gap.check(Some(fingerprint)).unwrap_err(), CheckError::Descendant { index: 1 });
    // A descendant cut off leaves a certificate over another block.
    let mut short = again;
    short.descendants.pop();
    assert_eq!(short.check(Some(fingerprint)).unwrap_err().step(), 3);
    assert_eq!(later.block.header.timestamp, made.block.header.timestamp + 2 * STEP);
}

/// A snapshot of five entries, hashed here from the page alone.
fn file_proof(leaf: usize) -> (B256, FileProof) {
    let facts = |content_of: &[u8]| {
        let mut facts = Encoder::new();
        facts.u8(EntryKind::File.tag()).varint(0o644).varint(1000).varint(1000).i64(-5).u32(7);
        facts.varint(content_of.len() as u64).raw(&content(content_of));
        facts.finish()
    };
    let names = [&b"root"[..], b"root/a", b"root/b\xff", b"root/c", b"root/d"];
    let tree = Tree::new("blockhouse v1 entry leaf", "blockhouse v1 entry node");
    let salt = |index: usize| [u8::try_from(index).unwrap() + 1; 32];
    let leaves: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let mut leaf = Encoder::new();
            leaf.raw(&salt(index)).bytes(name).bytes(&facts(name));
            tree.leaf([leaf.as_slice()])
        })
        .collect();
    let root = tree.root(&leaves);
    let (vault_id, salt_of_snapshot, facts_root) = ([0xaa; 32], [0x21; 32], [0x22; 32]);
    let tree_root = hash("blockhouse v1 tree root", b"a root");
    let key_hash = hash("blockhouse v1 manifest key", &[0x23; 32]);
    let plain = hash_parts(
        "blockhouse v1 plain root",
        [&tree_root[..], &5_u64.to_le_bytes(), &root, &2_u64.to_le_bytes(), &facts_root],
    );
    let snapshot =
        hash_parts("blockhouse v1 snapshot", [&vault_id[..], SOURCE.as_slice(), &salt_of_snapshot, &plain, &key_hash]);
    let proof = FileProof {
        path: names[leaf].to_vec(),
        facts: facts(names[leaf]),
        salt: salt(leaf),
        leaf: leaf as u64,
        siblings: tree.path(&leaves, leaf).unwrap(),
        commitment: Commitment {
            vault: VaultId::new(vault_id),
            source: SourceId::new(SOURCE.0),
            snapshot_salt: salt_of_snapshot,
            plain: PlainRoot { tree_root, entries: 5, entries_root: EntriesRoot::new(root), fact_count: 2, facts_root },
            manifest_key_hash: key_hash,
        },
    };
    (B256::new(snapshot), proof)
}

/// Who could make this certificate count in a kept ledger would have one that anyone may rewrite.
#[test]
fn an_outside_chain_is_named_as_the_one_to_trust_and_vouches_for_no_kept_ledger() {
    let (world, made, _) = world_with_receipt();
    let (genesis, header) = (world.genesis(), &made.block.header);
    let root = TrustRoot::external(genesis.chain_id, genesis.hash(), genesis.vault_address());
    let parts = ReceiptParts {
        root,
        links: &[],
        header,
        receipts: &made.receipts,
        descendants: &[],
        certificate: &Certificate::External,
        snapshot: SnapshotId::new([5; 32]),
        file: None,
    };
    let bytes = Receipt::from_parts(&parts).unwrap().to_bytes();
    let checked = Receipt::parse(&bytes).unwrap().check(Some(root.fingerprint())).unwrap();
    assert_eq!((checked.vouched, checked.block), (Vouched::ByChain, made.hash));
    let under_a_key = ReceiptParts { root: TrustRoot::new(genesis, world.ledger_key.public()), ..parts.clone() };
    let refused = Receipt::from_parts(&under_a_key).unwrap().check(None);
    assert!(matches!(refused, Err(CheckError::Certificate(_))), "{refused:?}");
    let followed = ReceiptParts { descendants: std::slice::from_ref(header), ..parts };
    assert!(Receipt::from_parts(&followed).unwrap().check(None).is_err());
    let place = BlockPlace { chain_id: genesis.chain_id, height: header.number, hash: made.hash };
    assert!(Certificate::External.verify(&external_key(), &place).is_err());
    assert_eq!(Certificate::decode(&Certificate::External.encode()).unwrap(), Certificate::External);
}

/// Its key is known to everybody who has a receipt, and it signs nothing.
#[test]
fn a_certificate_of_block_0_vouches_for_no_snapshot() {
    let (world, made, _) = world_with_receipt();
    let (genesis, snapshot) = (world.genesis(), SnapshotId::new([5; 32]));
    let header = Header { number: 0, ..made.block.header.clone() };
    let kept = TrustRoot::new(genesis, world.ledger_key.public());
    for root in [kept, TrustRoot::external(genesis.chain_id, genesis.hash(), genesis.vault_address())] {
        let key = if root == kept { world.ledger_key.public() } else { external_key() };
        for header in [&header, &made.block.header] {
            let parts = ReceiptParts {
                root,
                links: &[],
                header,
                receipts: &made.receipts,
                descendants: &[],
                certificate: &Certificate::Genesis { key },
                snapshot,
                file: None,
            };
            let refused = Receipt::from_parts(&parts).unwrap().check(Some(root.fingerprint()));
            assert!(matches!(refused, Err(CheckError::Unsigned { .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_file_is_proved_by_its_content_alone() {
    let mut world = World::new();
    let (snapshot, _) = file_proof(0);
    let made = world.commit(snapshot, SOURCE);
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    for (leaf, name) in [(1, &b"root/a"[..]), (2, b"root/b\xff"), (4, b"root/d")] {
        let (_, proof) = file_proof(leaf);
        let bytes = receipt(&world, &made, snapshot, Some(proof)).to_bytes();
        let checked = Receipt::parse(&bytes).unwrap().check(Some(fingerprint)).unwrap();
        let file = checked.file.unwrap();
        assert_eq!((file.path.as_slice(), file.entry.kind, file.entry.mode), (name, EntryKind::File, 0o644));
        file.check_file(name.len() as u64, &content(name)).unwrap();
        assert_eq!(file.check_file(name.len() as u64, &content(b"other")), Err(FileError::Content));
        assert!(matches!(file.check_file(1, &content(name)), Err(FileError::Length { .. })));
    }
}

#[test]
fn every_flipped_byte_of_a_file_receipt_is_refused() {
    let mut world = World::new();
    let (snapshot, proof) = file_proof(2);
    let made = world.commit(snapshot, SOURCE);
    let bytes = receipt(&world, &made, snapshot, Some(proof)).to_bytes();
    let fingerprint = world.replay.authority().fingerprint(world.genesis());
    let from = bytes.windows(7).position(|window| window == b"\"file\":").unwrap();
    for at in from..bytes.len() {
        for bit in [0x01, 0x02] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let good = Receipt::parse(&flipped).is_ok_and(|receipt| receipt.check(Some(fingerprint)).is_ok());
            assert!(!good, "byte {at}, bit {bit:#x}");
        }
    }
}

#[test]
fn a_file_of_another_snapshot_or_source_is_refused() {
    let mut world = World::new();
    let (snapshot, proof) = file_proof(1);
    let other = world.commit(B256::repeat_byte(5), SOURCE);
    let refused = receipt(&world, &other, B256::repeat_byte(5), Some(proof.clone())).check(None).unwrap_err();
    assert!(matches!(refused, CheckError::File(FileError::Snapshot { .. })));
    assert_eq!(refused.step(), 7);
    // A writer that commits a snapshot under a source that it does not name.
    let elsewhere = world.commit(snapshot, B256::repeat_byte(8));
    let refused = receipt(&world, &elsewhere, snapshot, Some(proof)).check(None).unwrap_err();
    assert!(matches!(refused, CheckError::File(FileError::Source { .. })));
}
