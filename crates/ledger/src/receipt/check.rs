//! The check of a receipt, step by step as the page numbers them.
//!
//! Format: `docs/design/receipts.md`, section *Check*.

use alloy_consensus::{Eip658Value, Header, ReceiptEnvelope, TxReceipt};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolEvent;
use blockhouse_types::{BlockHash, DecodeError, Fingerprint, SnapshotId, SourceId};

use super::Receipt;
use super::file::{FileError, FileFacts};
use super::links::{KeyAt, LinkError};
use crate::block::{BlockError, decode_header};
use crate::certificate::{BlockPlace, Certificate, CertificateError, external_key};
use crate::contracts::Vault;
use crate::proof::shown_receipt;
use crate::trie::InclusionError;

/// What a receipt proves, if its fingerprint is the one of the vault that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The vault's fingerprint: the one asked for; if none was, that of the key which certified the last header.
    pub fingerprint: Fingerprint,
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its source.
    pub source: SourceId,
    /// The account that committed it.
    pub writer: Address,
    /// What the writer said.
    pub commit: Vault::Commit,
    /// The height of the block that holds the commit.
    pub height: u64,
    /// The hash of that block.
    pub block: BlockHash,
    /// The time of that block, in seconds.
    pub time: u64,
    /// Who says that this block is of the ledger.
    pub vouched: Vouched,
    /// The file, if the receipt is of one.
    pub file: Option<FileFacts>,
}

/// Who says that the block of a receipt is of its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// The key in the fingerprint: checked.
    ByKey,
    /// The nodes of an outside chain, which nobody has asked yet: everything hangs on the block's hash.
    ByChain,
}

/// Why a receipt proves nothing; [`CheckError::step`] is the step of the page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    #[error("the receipt is of the vault with fingerprint {found}, not {asked}")]
    OtherVault { found: Fingerprint, asked: Fingerprint },
    #[error("link {index} of the receipt leads nowhere")]
    Link {
        index: usize,
        #[source]
        source: LinkError,
    },
    #[error("the receipt's certificate cannot be read")]
    CertificateForm(#[source] DecodeError),
    #[error("the receipt's last block is not certified")]
    Certificate(#[source] CertificateError),
    #[error(
        "the receipt's last block, {height}, is signed by nobody: a certificate of block 0 proves nothing of a snapshot"
    )]
    Unsigned { height: u64 },
    #[error("header {index} of the receipt cannot be read")]
    HeaderForm {
        index: usize,
        #[source]
        source: BlockError,
    },
    #[error("header {index} of the receipt does not follow the one before it")]
    Descendant { index: usize },
    #[error("the transaction receipt is not under the receipts root of block {height}")]
    Inclusion {
        height: u64,
        #[source]
        source: InclusionError,
    },
    #[error("the transaction receipt cannot be read")]
    TransactionReceipt,
    #[error("the transaction failed, so it committed nothing")]
    Failed,
    #[error("the transaction receipt has {count} logs, the receipt names number {index}")]
    NoLog { index: u64, count: usize },
    #[error("the log is of contract {found}, not of the vault's contract {vault}")]
    OtherContract { found: Address, vault: Address },
    #[error("the log commits no snapshot")]
    OtherEvent,
    #[error("the log commits snapshot {found}, not {snapshot}")]
    OtherSnapshot { found: SnapshotId, snapshot: SnapshotId },
    #[error("the file is not proved to be in the snapshot")]
    File(#[source] FileError),
}

impl CheckError {
    /// The step of the check that failed, as `docs/design/receipts.md` numbers them.
    pub const fn step(&self) -> u8 {
        match self {
            Self::OtherVault { .. } => 2,
            Self::Link { .. } | Self::CertificateForm(_) | Self::Certificate(_) | Self::Unsigned { .. } => 3,
            Self::HeaderForm { .. } | Self::Descendant { .. } => 4,
            Self::Inclusion { .. } | Self::TransactionReceipt | Self::Failed => 5,
            Self::NoLog { .. } | Self::OtherContract { .. } | Self::OtherEvent | Self::OtherSnapshot { .. } => 6,
            Self::File(_) => 7,
        }
    }
}

impl Receipt {
    /// Checks everything that can be checked offline. Without a fingerprint this shows only that the receipt is
    /// consistent, and anyone can make a consistent one: show the fingerprint found and say so.
    pub fn check(&self, fingerprint: Option<Fingerprint>) -> Result<Checked, CheckError> {
        let (found, in_force) = self.check_links(fingerprint)?;
        let header = read_header(0, &self.header)?;
        let last = self.check_descendants(&header)?;
        let vouched = self.check_certificate(in_force, &last)?;
        let event = self.check_log(&self.check_transaction(&header)?)?;
        let source = SourceId::new(event.source.0);
        let file = match &self.file {
            Some(file) => Some(file.check(self.snapshot(), source).map_err(CheckError::File)?),
            None => None,
        };
        Ok(Checked {
            fingerprint: found,
            chain_id: self.chain_id,
            snapshot: self.snapshot(),
            source,
            writer: event.writer,
            commit: event.data,
            height: header.number,
            block: hash_of(&self.header),
            time: header.timestamp,
            vouched,
            file,
        })
    }

    /// Step 2: the fingerprint that the vault had under one of the keys along the links is the one asked for. Returns it, and the last of these keys.
    fn check_links(&self, asked: Option<Fingerprint>) -> Result<(Fingerprint, KeyAt), CheckError> {
        let mut in_force = KeyAt { key: self.ledger_key.0, after: 0 };
        let mut found = self.fingerprint();
        let mut meant = asked.filter(|asked| *asked == found);
        for (index, link) in self.links.iter().enumerate() {
            in_force = link.follow(self.chain_id, in_force).map_err(|source| CheckError::Link { index, source })?;
            found = self.fingerprint_under(in_force.key);
            meant = meant.or(asked.filter(|asked| *asked == found));
        }
        match (asked, meant) {
            (Some(asked), None) => Err(CheckError::OtherVault { found, asked }),
            (_, meant) => Ok((meant.unwrap_or(found), in_force)),
        }
    }

    /// Step 4; returns the place of the last header.
    fn check_descendants(&self, header: &Header) -> Result<BlockPlace, CheckError> {
        let mut last = BlockPlace { chain_id: self.chain_id, height: header.number, hash: hash_of(&self.header) };
        for (index, bytes) in (1..).zip(&self.descendants) {
            let next = read_header(index, bytes)?;
            let follows = last.height.checked_add(1) == Some(next.number);
            if !follows || next.parent_hash != B256::new(last.hash.to_bytes()) {
                return Err(CheckError::Descendant { index });
            }
            last = BlockPlace { chain_id: self.chain_id, height: next.number, hash: hash_of(bytes) };
        }
        Ok(last)
    }

    /// Step 3. Of an outside chain the block itself is what its nodes are asked for: nothing follows it.
    fn check_certificate(&self, in_force: KeyAt, last: &BlockPlace) -> Result<Vouched, CheckError> {
        let certificate = Certificate::decode(&self.certificate).map_err(CheckError::CertificateForm)?;
        // It signs nothing: whoever knows the ledger's key can write it, and block 0 holds no transaction that a receipt could prove.
        if matches!(certificate, Certificate::Genesis { .. }) {
            return Err(CheckError::Unsigned { height: last.height });
        }
        if certificate == Certificate::External && self.ledger_key.0 == external_key() && self.links.is_empty() {
            let is_alone = self.descendants.is_empty();
            return is_alone.then_some(Vouched::ByChain).ok_or(CheckError::Descendant { index: 1 });
        }
        if !self.links.is_empty() && last.height <= in_force.after {
            let source = LinkError::Order { height: last.height, after: in_force.after };
            return Err(CheckError::Link { index: self.links.len(), source });
        }
        certificate.verify(&in_force.key, last).map_err(CheckError::Certificate)?;
        Ok(Vouched::ByKey)
    }

    /// Step 5.
    fn check_transaction(&self, header: &Header) -> Result<ReceiptEnvelope, CheckError> {
        let shown = shown_receipt(header.receipts_root, self.transaction_index, &self.proof)
            .and_then(|shown| match &self.transaction_receipt {
                Some(written) if written[..] != shown[..] => Err(InclusionError::Value),
                _ => Ok(shown),
            })
            .map_err(|source| CheckError::Inclusion { height: header.number, source })?;
        let receipt = ReceiptEnvelope::decode_2718_exact(&shown);
        let receipt = receipt.map_err(|_| CheckError::TransactionReceipt)?;
        // Compared as it stands: a state root in the place of the status, as before Byzantium, is no success.
        if receipt.status_or_post_state() != Eip658Value::Eip658(true) {
            return Err(CheckError::Failed);
        }
        Ok(receipt)
    }

    /// Step 6.
    fn check_log(&self, receipt: &ReceiptEnvelope) -> Result<Vault::SnapshotCommitted, CheckError> {
        let logs = receipt.logs();
        let log = usize::try_from(self.log_index).ok().and_then(|index| logs.get(index));
        let log = log.ok_or(CheckError::NoLog { index: self.log_index, count: logs.len() })?;
        if log.address != self.vault {
            return Err(CheckError::OtherContract { found: log.address, vault: self.vault });
        }
        let event = Vault::SnapshotCommitted::decode_log(log).map_err(|_| CheckError::OtherEvent)?.data;
        if event.snapshot != self.snapshot {
            return Err(CheckError::OtherSnapshot {
                found: SnapshotId::new(event.snapshot.0),
                snapshot: self.snapshot(),
            });
        }
        Ok(event)
    }
}

fn read_header(index: usize, bytes: &[u8]) -> Result<Header, CheckError> {
    decode_header(bytes).map_err(|source| CheckError::HeaderForm { index, source })
}

/// The hash of a header in its bytes, which are canonical by now.
fn hash_of(header: &[u8]) -> BlockHash {
    BlockHash::new(keccak256(header).0)
}
