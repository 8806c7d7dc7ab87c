//! Receipts: proof, offline, that a snapshot or one file of it is on the ledger.
//!
//! - **Owns** the canonical JSON, how a receipt is made from a block, and its check.
//! - **Does not** read a clock, a network or a vault: the fingerprint is all the checker brings.
//!
//! # Invariants
//! - **R1** There is one byte string for one receipt; any other is refused.
//! - **R2** [`Receipt::check`] succeeds only if every step of the page holds; what failed is said.
//!
//! Format: `docs/design/receipts.md`.

mod check;
mod file;
mod links;
#[cfg(test)]
mod tests;

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolEvent;
use blockhouse_crypto::FileProof;
use blockhouse_types::{BlockHash, Fingerprint, SnapshotId};
use serde::{Deserialize, Serialize};

pub use check::{CheckError, Checked, Vouched};
use file::WrittenProof;
pub use file::{FileError, FileFacts};
use links::WrittenLink;
pub use links::{KeyAt, LINKS_MAX, Link, LinkError};

use crate::block::decode_header;
use crate::certificate::Certificate;
use crate::contracts::Vault;
use crate::fingerprint::TrustRoot;
use crate::proof::prove_receipt;

/// The greatest length of a receipt: room for thousands of descendants, little enough to be read whole.
pub const RECEIPT_MAX: usize = 16 * 1024 * 1024;

const TYPE: &str = "blockhouse-receipt";
/// Of a receipt without links, with the transaction receipt beside its proof: as one under the key of a single host is made.
const VERSION: u64 = 1;
/// Of a receipt with links, as it was made once.
const LINKED: u64 = 2;
/// Of a receipt in which nothing stands twice, with links or without: as all others are made.
const LEAN: u64 = 3;

/// What a receipt says. Nothing in it is true before [`Receipt::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are the keys of the page")]
pub struct Receipt {
    // The order of the fields is the order of the keys.
    #[serde(rename = "type")]
    kind: String,
    version: u64,
    chain_id: u64,
    genesis: B256,
    vault: Address,
    ledger_key: B256,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<WrittenLink>,
    header: Bytes,
    descendants: Vec<Bytes>,
    certificate: Bytes,
    transaction_index: u64,
    /// The end of the proof has it: in version 3 it stands there alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transaction_receipt: Option<Bytes>,
    proof: Vec<Bytes>,
    log_index: u64,
    snapshot: B256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<WrittenProof>,
}

/// What a receipt is made from.
#[derive(Debug, Clone)]
pub struct ReceiptParts<'a> {
    /// The ledger, and the key in force now: it certifies the last header, or the links lead from it to the one that does.
    pub root: TrustRoot,
    /// The closing blocks from that key on; none but on a governed ledger.
    pub links: &'a [Link],
    /// The header of the block that holds the commit.
    pub header: &'a Header,
    /// The transaction receipts of that block.
    pub receipts: &'a [ReceiptEnvelope],
    /// The headers from the next block to the certified one.
    pub descendants: &'a [Header],
    /// The certificate of the last header.
    pub certificate: &'a Certificate,
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// Which file of it.
    pub file: Option<FileProof>,
}

/// Why a receipt cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {height} holds no commit of snapshot {snapshot}")]
pub struct NoCommit {
    height: u64,
    snapshot: SnapshotId,
}

/// Why bytes are no receipt (step 1 of the check).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    #[error("the receipt has {length} bytes, the limit is {RECEIPT_MAX}")]
    TooLong { length: usize },
    #[error("the file is no receipt")]
    Json(#[source] serde_json::Error),
    #[error(
        "the receipt has type `{kind}` and version {version}; this release reads `{TYPE}` versions {VERSION} to {LEAN}"
    )]
    Version { kind: String, version: u64 },
    #[error("the receipt is not in its canonical encoding")]
    NotCanonical,
    #[error("the receipt has {found} links, the limit is {LINKS_MAX}")]
    Links { found: usize },
}

impl Receipt {
    /// Makes the receipt of a snapshot, or of one file in it, from the block that holds its commit.
    pub fn from_parts(parts: &ReceiptParts<'_>) -> Result<Self, NoCommit> {
        let missing = NoCommit { height: parts.header.number, snapshot: parts.snapshot };
        let root = parts.root;
        let vault = root.vault;
        let (transaction, log) = find_commit(parts.receipts, vault, parts.snapshot).ok_or(missing.clone())?;
        let receipt = parts.receipts.get(transaction).ok_or(missing)?;
        // Under the key of a single host it is written as ever: every release reads it, and it is short enough.
        let is_lean = !parts.links.is_empty() || !matches!(parts.certificate, Certificate::Solo { .. });
        Ok(Self {
            kind: TYPE.to_owned(),
            version: if is_lean { LEAN } else { VERSION },
            chain_id: root.chain_id,
            genesis: B256::new(root.genesis.to_bytes()),
            vault,
            ledger_key: B256::new(root.ledger_key),
            links: parts.links.iter().map(WrittenLink::from).collect(),
            header: alloy_rlp::encode(parts.header).into(),
            descendants: parts.descendants.iter().map(|header| alloy_rlp::encode(header).into()).collect(),
            certificate: parts.certificate.encode().into(),
            transaction_index: transaction as u64,
            transaction_receipt: (!is_lean).then(|| receipt.encoded_2718().into()),
            proof: prove_receipt(parts.receipts, transaction as u64),
            log_index: log as u64,
            snapshot: B256::new(parts.snapshot.to_bytes()),
            file: parts.file.clone().map(WrittenProof::from),
        })
    }

    /// Reads a receipt; only its one encoding is taken.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > RECEIPT_MAX {
            return Err(ParseError::TooLong { length: bytes.len() });
        }
        let receipt: Self = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
        let version = match (receipt.links.is_empty(), receipt.transaction_receipt.is_some()) {
            (true, true) => VERSION,
            (false, true) => LINKED,
            (_, false) => LEAN,
        };
        if receipt.kind != TYPE || !matches!(receipt.version, VERSION | LINKED | LEAN) {
            return Err(ParseError::Version { kind: receipt.kind, version: receipt.version });
        }
        if receipt.version != version || receipt.to_bytes() != bytes {
            return Err(ParseError::NotCanonical);
        }
        if receipt.links.len() > LINKS_MAX {
            return Err(ParseError::Links { found: receipt.links.len() });
        }
        Ok(receipt)
    }

    /// The one encoding.
    #[expect(clippy::missing_panics_doc, reason = "text, numbers and lists of them always serialise")]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("text, numbers and lists of them are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The fingerprint of the vault that it says it is of: the oldest, if it has links.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_under(self.ledger_key.0)
    }

    /// What the fingerprint of its vault is while that key is in force.
    fn fingerprint_under(&self, ledger_key: [u8; 32]) -> Fingerprint {
        let (genesis, vault) = (BlockHash::new(self.genesis.0), self.vault);
        TrustRoot { chain_id: self.chain_id, genesis, vault, ledger_key }.fingerprint()
    }

    /// The snapshot that it says it is of.
    pub const fn snapshot(&self) -> SnapshotId {
        SnapshotId::new(self.snapshot.0)
    }

    /// The block 0 that it says its ledger begins with.
    pub const fn genesis(&self) -> BlockHash {
        BlockHash::new(self.genesis.0)
    }

    /// The height of the block that it says holds the commit; 0 if that cannot be read.
    pub fn height(&self) -> u64 {
        decode_header(&self.header).map_or(0, |header| header.number)
    }

    /// The chain id that it says it is of.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }
}

/// Which transaction and which of its logs commits the snapshot.
fn find_commit(receipts: &[ReceiptEnvelope], vault: Address, snapshot: SnapshotId) -> Option<(usize, usize)> {
    receipts.iter().enumerate().find_map(|(transaction, receipt)| {
        let log = receipt.logs().iter().position(|log| {
            log.address == vault
                && Vault::SnapshotCommitted::decode_log(log).is_ok_and(|event| event.snapshot.0 == snapshot.to_bytes())
        })?;
        Some((transaction, log))
    })
}
