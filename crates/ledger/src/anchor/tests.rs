//! Anchors of a real chain on another one, and every way to bend them.

use alloy_consensus::Header;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_types::BlockHash;
use commonware_cryptography::Signer as _;
use commonware_cryptography::ed25519::PrivateKey;

use super::*;
use crate::block::block_hash;
use crate::contracts::AnchorPoint;
use crate::execute::Executed;
use crate::genesis::DEPLOYMENT_GAS;
use crate::proof::prove_receipt;
use crate::tests::world::World;
use crate::transaction::Request;

/// A ledger, another one on which it is anchored, and the file of its block before the last three.
struct Anchored {
    ledger: World,
    first: BlockPlace,
    headers: Vec<Header>,
    file: AnchorFile,
}

fn place(world: &World, header: &Header) -> BlockPlace {
    BlockPlace { chain_id: world.genesis().chain_id, height: header.number, hash: block_hash(header) }
}

/// A block of the world in which somebody sends that.
fn send(world: &mut World, to: TxKind, input: Vec<u8>) -> Executed {
    let (chain_id, nonce) = (world.genesis().chain_id, world.nonce(&world.writer));
    let request = Request { chain_id, nonce, to, input: input.into(), gas: DEPLOYMENT_GAS };
    let made = world.seal_all(vec![request.sign(&world.writer)]);
    assert!(made.receipts[0].status());
    made
}

fn evm_anchor(outside: &mut World, point: Address, call: &AnchorPoint::anchorCall) -> EvmAnchor {
    let made = send(outside, TxKind::Call(point), call.abi_encode());
    EvmAnchor {
        chain_id: outside.genesis().chain_id,
        genesis: outside.genesis().hash(),
        point,
        header: alloy_rlp::encode(&made.block.header).into(),
        transaction_index: 0,
        transaction_receipt: made.receipts[0].encoded_2718().into(),
        proof: prove_receipt(&made.receipts, 0),
        log_index: 0,
    }
}

fn anchored() -> Anchored {
    let (mut ledger, mut outside) = (World::new(), World::new());
    let made: Vec<Executed> = (0..4).map(|n| send(&mut ledger, TxKind::Create, vec![0x00; n])).collect();
    let headers: Vec<Header> = made.iter().map(|made| made.block.header.clone()).collect();
    let (first, last) = (place(&ledger, &headers[0]), place(&ledger, &headers[3]));
    let name = ledger_name(ledger.genesis().chain_id, ledger.genesis().hash());
    let nonce = outside.nonce(&outside.writer);
    send(&mut outside, TxKind::Create, AnchorPoint::BYTECODE.to_vec());
    let point = Address::new(outside.writer.account().to_bytes()).create(nonce);
    let call =
        AnchorPoint::anchorCall { ledger: name, height: last.height, blockHash: B256::new(last.hash.to_bytes()) };
    let evm = evm_anchor(&mut outside, point, &call);
    let genesis = ledger.genesis().hash();
    let attestations = vec![
        Attestation {
            height: headers[1].number,
            kind: AttestationKind::Witness,
            data: cosign(genesis, &place(&ledger, &headers[1])),
        },
        Attestation { height: last.height, kind: AttestationKind::Evm, data: evm.encode().into() },
    ];
    let headers = headers[1..].to_vec();
    let file = AnchorFile::new(genesis, &first, &headers, attestations);
    Anchored { ledger, first, headers, file }
}

fn cosign(genesis: BlockHash, place: &BlockPlace) -> Bytes {
    let key = PrivateKey::from_seed(5);
    let statement = Cosignature::statement(genesis, place, 77);
    let mut cosignature = Cosignature { key: [0; 32], time: 77, signature: [0; 64] };
    cosignature.key.copy_from_slice(key.public_key().as_ref());
    cosignature.signature.copy_from_slice(key.sign(Cosignature::context(), &statement).as_ref());
    assert_eq!(cosignature.encode().len(), COSIGNATURE_LEN);
    cosignature.encode().into()
}

impl Anchored {
    fn genesis(&self) -> BlockHash {
        self.ledger.genesis().hash()
    }

    fn check(&self, file: &AnchorFile) -> Result<Vec<Attested>, CheckAnchorError> {
        file.check(self.genesis(), &self.first)
    }
}

#[test]
fn what_was_anchored_is_proved_of_the_blocks_before_it() {
    let anchored = anchored();
    let bytes = anchored.file.to_bytes();
    let file = AnchorFile::parse(&bytes).unwrap();
    assert_eq!(file, anchored.file);
    let attested = anchored.check(&file).unwrap();
    assert!(matches!(attested[0].by, AttestedBy::Witness { time: 77, .. }));
    let AttestedBy::Chain(on_chain) = &attested[1].by else { panic!("an anchor on a chain") };
    assert_eq!(attested[1].block, place(&anchored.ledger, &anchored.headers[2]));
    assert_eq!(on_chain.chain_id, anchored.ledger.genesis().chain_id);
    assert!(on_chain.time > 0);
}

/// A block with other content, certified by whoever has all keys, has another hash: nothing leads from it to what was anchored.
#[test]
fn a_block_that_was_made_later_is_refused() {
    let anchored = anchored();
    let forged = BlockPlace { hash: BlockHash::new([7; 32]), ..anchored.first };
    let refused = anchored.file.check(anchored.genesis(), &forged).unwrap_err();
    assert!(matches!(refused, CheckAnchorError::OtherBlock { .. }));
    // Under its own name the file leads nowhere.
    let own = AnchorFile::new(anchored.genesis(), &forged, &anchored.headers, anchored.file.attestations.clone());
    assert!(matches!(own.check(anchored.genesis(), &forged), Err(CheckAnchorError::Descendant { index: 0 })));
    // What was anchored cannot be said of another block, nor of another ledger.
    let mut moved = anchored.file.clone();
    moved.attestations[1].height -= 1;
    assert!(matches!(
        anchored.check(&moved),
        Err(CheckAnchorError::Evm { source: EvmAnchorError::OtherBlock { .. }, .. })
    ));
    moved.attestations[1].height += 9;
    assert!(matches!(anchored.check(&moved), Err(CheckAnchorError::NoHeader { index: 1, .. })));
    let other = BlockHash::new([8; 32]);
    let named = AnchorFile::new(other, &anchored.first, &anchored.headers, anchored.file.attestations.clone());
    assert!(matches!(named.check(other, &anchored.first), Err(CheckAnchorError::Cosignature { .. })));
}

#[test]
fn every_flipped_byte_is_refused() {
    let anchored = anchored();
    let bytes = anchored.file.to_bytes();
    let good = anchored.check(&anchored.file).unwrap();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x10] {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            let Ok(file) = AnchorFile::parse(&flipped) else { continue };
            // Which chain it is said to be of, and its header, is what the chain itself is asked about: there the result differs.
            assert!(anchored.check(&file).map_or(true, |found| found != good), "byte {at}, bit {bit:#x}");
        }
    }
}

#[test]
fn only_the_canonical_encoding_is_taken() {
    let text = String::from_utf8(anchored().file.to_bytes()).unwrap();
    assert!(AnchorFile::parse(text.as_bytes()).is_ok());
    for other in [
        text.trim_end().to_owned(),
        format!("{text}\n"),
        text.replacen("\":", "\": ", 1),
        text.replacen("\"version\":1", "\"version\":2", 1),
        text.replacen("\"kind\":\"evm\"", "\"kind\":\"EVM\"", 1),
        text.replacen("}\n", ",\"note\":1}\n", 1),
        text.replacen("blockhouse-anchor", "blockhouse-receipt", 1),
    ] {
        assert_ne!(other, text);
        assert!(AnchorFile::parse(other.as_bytes()).is_err(), "{}", &other[..80]);
    }
    let none = AnchorFile::new(BlockHash::new([1; 32]), &anchored().first, &[], Vec::new());
    assert!(matches!(AnchorFile::parse(&none.to_bytes()), Err(ParseAnchorError::Count { count: 0 })));
}
