//! Anchors and cosignatures of other blocks than those of this ledger are signs of a fork, and told; what is right, or only made up, is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod support;

use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall, SolConstructor};
use blockhouse_homes::network::{Keys, SIGNS_MAX, SIGNS_OF_ONE, SignOf, Signs};
use blockhouse_homes::rpc::answer_text;
use blockhouse_homes::{Store, store};
use blockhouse_ledger::anchor::{AttestationKind, Cosignature, checkpoint, checkpoint_digest};
use blockhouse_ledger::contracts::{Anchors, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{BlockPlace, Certificate};
use blockhouse_types::BlockHash;
use rand::SeedableRng as _;
use serde_json::{Value, json};
use support::{World, account, address, genesis, sign};

/// Of so many blocks the contract itself knows the hash.
const KNOWN: u64 = 256;

struct Recorder {
    world: World,
    nonce: u64,
}

impl Recorder {
    /// A ledger whose owner made the module, and which is longer than what that knows.
    async fn new() -> Self {
        let world = World::with_writer().await;
        let anchors = Anchors::constructorCall { access_: genesis().access_address() };
        let code: Bytes = [&Anchors::BYTECODE[..], &anchors.abi_encode()].concat().into();
        let owner = account(1);
        let made = address(&owner).create(4);
        let name = B256::right_padding_from(b"anchors");
        let module = Vault::setModuleCall { name, target: made }.abi_encode();
        world.tick(5);
        let vault = TxKind::Call(genesis().vault_address());
        let both = vec![
            sign(&owner, 4, TxKind::Create, code, DEPLOYMENT_GAS),
            sign(&owner, 5, vault, module.into(), 1_000_000),
        ];
        let sealed = world.home.seal(both).await.unwrap();
        assert!(sealed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
        for nonce in 0..=KNOWN {
            world.session(nonce).await;
        }
        Self { world, nonce: KNOWN + 1 }
    }

    async fn call(&mut self, call: impl SolCall) {
        self.world.tick(5);
        let to = TxKind::Call(address(&account(1)).create(4));
        let raw = sign(&account(3), self.nonce, to, call.abi_encode().into(), 1_000_000);
        let sealed = self.world.home.seal(vec![raw]).await.unwrap();
        assert!(sealed.receipts[0].status());
        self.nonce += 1;
    }

    /// What a node answers of the checkpoint of that height.
    fn checkpoint(&self, height: u64) -> Value {
        let answer = answer_text(&self.store(), "blockhouse_getCheckpoint", &format!("[\"{height:#x}\"]"));
        serde_json::from_str(&answer.unwrap().unwrap()).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.world.path(), store::Access::Read, std::time::Duration::ZERO, None).unwrap()
    }
}

fn place(height: u64, hash: B256) -> BlockPlace {
    BlockPlace { chain_id: genesis().chain_id, height, hash: BlockHash::new(hash.0) }
}

/// That witness's word for one block, recorded as its word for another.
fn cosign(keys: &Keys, signed: &BlockPlace, said: &BlockPlace) -> Anchors::cosignCall {
    let signature = keys.cosign(&Cosignature::statement(genesis().hash(), signed, 7));
    let signature = Cosignature { key: keys.public(), time: 7, signature }.encode();
    Anchors::cosignCall { height: said.height, blockHash: B256::new(said.hash.to_bytes()), signature: signature.into() }
}

fn anchor(height: u64, hash: B256) -> Anchors::recordCall {
    Anchors::recordCall {
        kind: AttestationKind::Evm.word(),
        chainId: 31_337,
        target: address(&account(7)),
        txHash: B256::repeat_byte(1),
        height,
        blockHash: hash,
        data: Bytes::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_blocks_are_told() {
    let mut ours = Recorder::new().await;
    let signs = Signs::default();
    assert!(signs.look(&ours.store()).unwrap().is_empty());
    let (own, other) = (ours.store().hash_at(3).unwrap().unwrap(), B256::repeat_byte(9));
    let witness = Keys::generate(&mut rand::rngs::StdRng::seed_from_u64(1));

    // What is so, and what its witness did not sign, is no sign.
    ours.call(anchor(3, own)).await;
    ours.call(cosign(&witness, &place(3, own), &place(3, own))).await;
    ours.call(cosign(&witness, &place(3, own), &place(3, other))).await;
    ours.call(cosign(&witness, &place(3, other), &place(3, own))).await;
    assert!(signs.look(&ours.store()).unwrap().is_empty());

    // A node gives all of it that is of its own block, in the bytes that witnesses sign, and what they did not sign not at all.
    let (found, of) = (ours.checkpoint(3), place(3, own));
    let block_0 = genesis().hash();
    assert_eq!(found["hash"], json!(own));
    assert_eq!(found["checkpoint"], json!(Bytes::from(checkpoint(block_0, &of))));
    assert_eq!(found["digest"], json!(B256::new(checkpoint_digest(block_0, &of))));
    let certificate: Bytes = serde_json::from_value(found["certificate"].clone()).unwrap();
    Certificate::decode(&certificate)
        .unwrap()
        .verify(&ours.world.home.standing().await.unwrap().keys.at(3), &of)
        .unwrap();
    let (cosignatures, anchors) = (found["cosignatures"].as_array().unwrap(), found["anchors"].as_array().unwrap());
    assert_eq!((cosignatures.len(), anchors.len(), &found["isWhole"]), (1, 1, &json!(true)));
    assert_eq!(
        (&cosignatures[0]["witness"], &cosignatures[0]["time"]),
        (&json!(B256::new(witness.public())), &json!("0x7"))
    );
    assert_eq!((&anchors[0]["kind"], &anchors[0]["chainId"]), (&json!("evm"), &json!("0x7a69")));
    assert_eq!(ours.checkpoint(4)["anchors"], json!([]));

    ours.call(cosign(&witness, &place(3, other), &place(3, other))).await;
    ours.call(anchor(3, other)).await;
    let found = signs.look(&ours.store()).unwrap();
    assert_eq!(
        found.iter().map(|sign| &sign.of).collect::<Vec<_>>(),
        [&SignOf::Witness(witness.public()), &SignOf::Anchor(31_337)]
    );
    for sign in &found {
        assert_eq!((sign.height, sign.said, sign.here, sign.by), (3, other, own, address(&account(3))));
        let words = sign.to_string();
        assert!(words.contains(&other.to_string()) && words.contains("nobody can be named"), "{words}");
    }
    assert!(signs.look(&ours.store()).unwrap().is_empty(), "each is told once");

    // However many an account records, a few are kept, so that there is room for those of others.
    for number in 0..SIGNS_MAX as u64 + 4 {
        ours.call(anchor(3, B256::from(U256::from(1000 + number)))).await;
    }
    assert_eq!(signs.look(&ours.store()).unwrap().len(), SIGNS_OF_ONE - 2);
    let (count, words) = signs.told();
    assert_eq!((count, words.len()), (SIGNS_MAX as u64 + 6, SIGNS_OF_ONE));
    // After a start they are found again.
    assert_eq!(Signs::default().look(&ours.store()).unwrap().len(), SIGNS_OF_ONE);
}
