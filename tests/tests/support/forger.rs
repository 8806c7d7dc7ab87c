//! An operator with all keys of his own ledger, who makes another past.

use std::fs;
use std::path::{Path, PathBuf};

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, keccak256};
use blockhouse_crypto::LedgerKey;
use blockhouse_ledger::receipt::{Receipt, ReceiptParts};
use blockhouse_ledger::{BlockPlace, Certificate};
use blockhouse_tests::world::World;
use blockhouse_types::{BlockHash, SnapshotId};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::vault::{Settings, Vault};

/// The receipt of a snapshot that never was, in a block that says it is a year older, certified by the ledger's own key.
pub(crate) async fn another_past(world: &World) -> PathBuf {
    let vault = Vault::open(VaultFolder::new(world.vault()), Settings::default()).await.unwrap();
    let newest = vault.ledger().snapshots().await.unwrap().pop().unwrap();
    let mut evidence = vault.home().evidence(newest.transaction).await.unwrap();
    let index = usize::try_from(evidence.transaction_index).unwrap();
    let ReceiptEnvelope::Eip1559(receipt) = &mut evidence.receipts[index] else { panic!("commits are EIP-1559") };
    let (snapshot, forged) = (B256::new(newest.id.to_bytes()), B256::repeat_byte(0x66));
    for log in &mut receipt.receipt.logs {
        for topic in log.data.topics_mut_unchecked().iter_mut().filter(|topic| **topic == snapshot) {
            *topic = forged;
        }
    }
    evidence.header.timestamp -= 365 * 86_400;
    evidence.header.receipts_root = alloy_consensus::proofs::calculate_receipt_root(&evidence.receipts);
    let hash = BlockHash::new(evidence.header.hash_slow().0);
    let place = BlockPlace { chain_id: evidence.root.chain_id, height: evidence.header.number, hash };
    let key = LedgerKey::from_seed(&vault.secrets().unwrap().ledger_seed);
    let parts = ReceiptParts {
        certificate: &Certificate::solo(&key, &place),
        ..evidence.receipt_parts(SnapshotId::new(forged.0), None)
    };
    let path = world.path("forged.json");
    fs::write(&path, Receipt::from_parts(&parts).unwrap().to_bytes()).unwrap();
    path
}

/// The anchor file, said to begin with the block of that receipt; `bent`: with a next header that says so too.
pub(crate) fn anchor_of(file: &Path, receipt: &Path, bent: bool) -> PathBuf {
    let receipt = fs::read_to_string(receipt).unwrap();
    let header = receipt.split("\"header\":\"0x").nth(1).unwrap().split('"').next().unwrap();
    let hash = hex::encode(keccak256(hex::decode(header).unwrap()));
    let text = fs::read_to_string(file).unwrap();
    let was = text.split("\"block\":\"0x").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let path = file.with_extension("forged");
    fs::write(&path, text.replacen(&was, &hash, if bent { 2 } else { 1 })).unwrap();
    path
}
