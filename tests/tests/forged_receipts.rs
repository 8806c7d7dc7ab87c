//! Receipts made by somebody who holds the host and its keys: whatever he seals on the real ledger, what is not the
//! commit of the vault's own contract is refused by the real binary, with exit code 4 and the reason.
//!
//! This file links crates of the product, for a forger has them; the vault it works on is one that the binary made.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;

use alloy_consensus::{Eip658Value, ReceiptEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, keccak256};
use alloy_sol_types::{SolCall, SolConstructor};
use blockhouse_crypto::LedgerKey;
use blockhouse_homes::Evidence;
use blockhouse_ledger::contracts::Vault as Contract;
use blockhouse_ledger::genesis::Genesis;
use blockhouse_ledger::proof::prove_receipt;
use blockhouse_ledger::{BlockPlace, Certificate, Receipt, Request};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Output, World, exit};
use blockhouse_types::BlockHash;
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::vault::{Settings, Vault};

/// A vault that the binary made, open in the forger's hands, and its one honest receipt.
struct Forger {
    world: World,
    vault: Vault,
    genesis: Genesis,
    honest: Vec<u8>,
}

/// The fields of a receipt, in the order of the page.
#[derive(Clone)]
struct Fields {
    chain_id: u64,
    genesis: B256,
    vault: Address,
    ledger_key: [u8; 32],
    header: Vec<u8>,
    certificate: Vec<u8>,
    index: u64,
    receipt: Vec<u8>,
    proof: Vec<Bytes>,
    log: u64,
    snapshot: [u8; 32],
}

impl Fields {
    fn text(&self) -> String {
        let proof: Vec<_> = self.proof.iter().map(|node| format!("\"0x{}\"", hex::encode(node))).collect();
        let head = format!(
            r#""type":"blockhouse-receipt","version":1,"chain_id":{},"genesis":"0x{}","vault":"0x{}","ledger_key":"0x{}""#,
            self.chain_id,
            hex::encode(self.genesis),
            hex::encode(self.vault),
            hex::encode(self.ledger_key),
        );
        let block = format!(
            r#""header":"0x{}","descendants":[],"certificate":"0x{}","transaction_index":{}"#,
            hex::encode(&self.header),
            hex::encode(&self.certificate),
            self.index,
        );
        let log = format!(
            r#""transaction_receipt":"0x{}","proof":[{}],"log_index":{},"snapshot":"0x{}""#,
            hex::encode(&self.receipt),
            proof.join(","),
            self.log,
            hex::encode(self.snapshot),
        );
        format!("{{{head},{block},{log}}}\n")
    }
}

impl Forger {
    async fn new() -> Self {
        let world = World::with_sites(3);
        let source = world.path("source");
        tree::plain(&source, 1, 1);
        world.back_up(&source);
        world.call("receipt latest -o").arg(world.path("honest.json")).run().expect(exit::DONE);
        let honest = fs::read(world.path("honest.json")).unwrap();
        let vault = Vault::open(VaultFolder::new(world.vault()), Settings::default()).await.unwrap();
        let genesis = vault.home().own_copy().unwrap().read(|store| store.genesis().clone()).await.unwrap();
        Self { world, vault, genesis, honest }
    }

    /// What the honest receipt says of the commit.
    fn commit(&self) -> Contract::Commit {
        Receipt::parse(&self.honest).unwrap().check(None).unwrap().commit
    }

    /// Seals a transaction of the writer on the real ledger.
    async fn seal(&self, to: TxKind, input: Vec<u8>) -> (Evidence, Address) {
        let writer = &self.vault.secrets().unwrap().writer;
        let who = blockhouse_vault::ledger::address(writer.account());
        let record = self
            .vault
            .home()
            .own_copy()
            .unwrap()
            .read(move |store| store.state().account(&who).unwrap().unwrap())
            .await
            .unwrap();
        let (chain_id, nonce) = (self.genesis.chain_id, record.nonce);
        let signed = Request { chain_id, nonce, to, input: input.into(), gas: 8_000_000 }.sign(writer);
        let sealed = self.vault.home().own_copy().unwrap().seal(vec![signed.encoded_2718().into()]).await.unwrap();
        (self.vault.home().evidence(sealed.transactions[0]).await.unwrap(), who.create(nonce))
    }

    /// The receipt of a transaction, said to commit that snapshot in the vault's own contract.
    fn fields(&self, evidence: &Evidence, snapshot: B256) -> Fields {
        let receipt = &evidence.receipts[usize::try_from(evidence.transaction_index).unwrap()];
        let commits = |log: &alloy_primitives::Log| log.topics().contains(&snapshot);
        Fields {
            chain_id: self.genesis.chain_id,
            genesis: B256::new(self.genesis.hash().to_bytes()),
            vault: self.genesis.vault_address(),
            ledger_key: evidence.root.ledger_key,
            header: alloy_rlp::encode(&evidence.header),
            certificate: evidence.certificate.encode(),
            index: evidence.transaction_index,
            receipt: receipt.encoded_2718(),
            proof: prove_receipt(&evidence.receipts, evidence.transaction_index),
            log: receipt.logs().iter().position(commits).unwrap_or(0) as u64,
            snapshot: snapshot.0,
        }
    }

    /// Certifies these header bytes with the ledger key, as the thief of the host can.
    fn certify(&self, fields: &mut Fields, height: u64) {
        let key = LedgerKey::from_seed(&self.vault.secrets().unwrap().ledger_seed);
        let place = BlockPlace { chain_id: fields.chain_id, height, hash: BlockHash::new(keccak256(&fields.header).0) };
        fields.certificate = Certificate::solo(&key, &place).encode();
    }

    fn check(&self, text: &str) -> Output {
        let path = self.world.path("forged.json");
        fs::write(&path, text).unwrap();
        let call = self.world.outside("check-receipt").arg(path);
        call.arg("--fingerprint").arg(self.world.fingerprint()).run()
    }

    /// The evidence of the honest commit.
    async fn honest_evidence(&self) -> Evidence {
        let newest = self.vault.ledger().snapshots().await.unwrap().pop().unwrap();
        self.vault.home().evidence(newest.transaction).await.unwrap()
    }
}

/// The forger's pen writes as the product does: what follows is refused for what it says, not for how it is written.
#[tokio::test(flavor = "multi_thread")]
async fn the_honest_receipt_is_written_alike_and_is_good() {
    let forger = Forger::new().await;
    let text = forger.fields(&forger.honest_evidence().await, forger.commit().snapshot).text();
    assert_eq!(text.as_bytes(), forger.honest);
    forger.check(&text).expect(exit::DONE);
}

/// Anyone enrolled may deploy contracts: a copy of the vault's contract that commits the same snapshot is another contract.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_in_a_copy_of_the_contract_is_refused() {
    let forger = Forger::new().await;
    let c = forger.commit();
    let arguments = Contract::constructorCall {
        access_: forger.genesis.access_address(),
        vaultId_: B256::new(forger.vault.id().to_bytes()),
        defaultRecipients_: c.recipients,
        defaultPolicy_: forger.genesis.policy_address(),
    };
    let code = [&Contract::BYTECODE[..], &arguments.abi_encode()].concat();
    let (_, copy) = forger.seal(TxKind::Create, code).await;
    let open = Contract::openSessionCall { leaseSeconds: 3600 }.abi_encode();
    let (opened, _) = forger.seal(TxKind::Call(copy), open).await;
    let session = opened.receipts[0].logs()[0].topics()[1];
    let snapshot = c.snapshot;
    let commit = Contract::commitCall { c: Contract::Commit { session, parent: B256::ZERO, ..c } };
    let (evidence, _) = forger.seal(TxKind::Call(copy), commit.abi_encode()).await;
    assert!(evidence.receipts[0].status(), "the copy takes the commit");
    let fields = forger.fields(&evidence, snapshot);
    forger.check(&fields.text()).refuses(exit::CHECK, "the log is of contract");
    // Under the copy's own address it is a consistent receipt, of another vault.
    forger.check(&Fields { vault: copy, ..fields }.text()).refuses(exit::CHECK, "fingerprint");
}

/// A commit that the contract refused is in a certified block too, with status 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_is_refused() {
    let forger = Forger::new().await;
    let c = Contract::Commit { snapshot: B256::repeat_byte(7), ..forger.commit() };
    let contract = TxKind::Call(forger.genesis.vault_address());
    let (evidence, _) = forger.seal(contract, Contract::commitCall { c }.abi_encode()).await;
    assert!(!evidence.receipts[0].status(), "its session ended with the honest commit");
    let text = forger.fields(&evidence, B256::repeat_byte(7)).text();
    forger.check(&text).refuses(exit::CHECK, "the transaction failed");
}

/// A failed transaction leaves no log; whoever holds the ledger key can certify a block that says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_with_its_log_put_back_is_refused() {
    let forger = Forger::new().await;
    let mut evidence = forger.honest_evidence().await;
    let index = usize::try_from(evidence.transaction_index).unwrap();
    let ReceiptEnvelope::Eip1559(receipt) = &mut evidence.receipts[index] else { panic!("commits are EIP-1559") };
    receipt.receipt.status = Eip658Value::Eip658(false);
    evidence.header.receipts_root = alloy_consensus::proofs::calculate_receipt_root(&evidence.receipts);
    let mut fields = forger.fields(&evidence, forger.commit().snapshot);
    forger.certify(&mut fields, evidence.header.number);
    forger.check(&fields.text()).refuses(exit::CHECK, "the transaction failed");
}

/// The receipt of another chain, as it is and under the names of this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_chain_is_refused() {
    let (forger, other) = (Forger::new().await, Forger::new().await);
    let foreign = String::from_utf8(other.honest.clone()).unwrap();
    forger.check(&foreign).refuses(exit::CHECK, "fingerprint");
    let (own, theirs) = (forger.honest_evidence().await, other.honest_evidence().await);
    let dressed = Fields { ledger_key: own.root.ledger_key, ..forger.fields(&theirs, other.commit().snapshot) };
    forger.check(&dressed.text()).refuses(exit::CHECK, "not certified");
}

/// One receipt has one spelling, down to the header that is hashed, also where the ledger key vouches for the other one.
#[tokio::test(flavor = "multi_thread")]
async fn any_other_encoding_is_refused() {
    let forger = Forger::new().await;
    let evidence = forger.honest_evidence().await;
    let good = forger.fields(&evidence, forger.commit().snapshot);
    assert_eq!(good.header[0], 0xf9, "a list with two bytes of length");
    let longer_length = [&[0xfa, 0], &good.header[1..]].concat();
    let longer = [&good.header[..], &[0]].concat();
    for header in [longer_length, longer] {
        let mut fields = Fields { header, ..good.clone() };
        forger.certify(&mut fields, evidence.header.number);
        forger.check(&fields.text()).refuses(exit::CHECK, "header 0 of the receipt cannot be read");
    }
    let text = good.text();
    let header = hex::encode(&good.header);
    let spellings = [
        text.replace(&header, &header.to_uppercase()),
        text.replace("\"version\":1", "\"version\":1.0"),
        text.replace("\"descendants\":[],", ""),
        text.replace("\"descendants\":[]", "\"descendants\":[ ]"),
        text.replace("}\n", ",\"file\":null}\n"),
        text.replace("blockhouse-receipt", "blockhouse\\u002dreceipt"),
    ];
    for other in spellings {
        assert_ne!(other, text);
        forger.check(&other).refuses(exit::CHECK, "receipt");
    }
}
