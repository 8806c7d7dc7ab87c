//! Anchor files: proof that a block of a ledger was there before others outside saw one that follows it.
//!
//! - **Owns** the canonical JSON, the way from a receipt's block to the blocks that were attested, and the check of both.
//! - **Does not** know whether a block of an outside chain is on it, or whom to believe as a witness: who checks says so.
//!
//! # Invariants
//! - **A1** There is one byte string for one anchor file; any other is refused.
//! - **A2** What [`AnchorFile::check`] gives was attested of a block that has the receipt's block among its ancestors, or is it.
//!
//! Format: `docs/design/anchors.md`.

mod bitcoin;
mod cosignature;
mod evm;
mod ots;
#[cfg(test)]
mod tests;

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};
use blockhouse_crypto::hash::{hash, sha256};
use blockhouse_types::{BlockHash, DecodeError, Encoder};
use serde::{Deserialize, Serialize};

pub use bitcoin::{BITCOIN_HEADER_LEN, BitcoinHeader, BitcoinHeaderError};
pub use cosignature::{COSIGNATURE_LEN, Cosignature, CosignatureError};
pub use evm::{EVM_ANCHOR_MAX, EvmAnchor, EvmAnchorError, OnChain};
pub use ots::{Claim, OTS_MAX, Ots, OtsAttestation, OtsError, Timestamp};

use crate::block::{BlockError, decode_header};
use crate::certificate::BlockPlace;

/// The greatest length of an anchor file: as much as a receipt may have.
pub const ANCHOR_FILE_MAX: usize = 16 * 1024 * 1024;
/// The most attestations in one file: a witness for each of the most validators that a network can have.
pub const ATTESTATIONS_MAX: usize = 128;

const TYPE: &str = "blockhouse-anchor";
const VERSION: u64 = 1;
const NAME_CONTEXT: &str = "blockhouse v1 anchored ledger";

/// What a ledger is called in `AnchorPoint`: its chain id and block 0, for a handover changes its key.
pub fn ledger_name(chain_id: u64, genesis: BlockHash) -> B256 {
    let mut encoder = Encoder::new();
    encoder.u64(chain_id).raw(genesis.as_bytes());
    B256::new(hash(NAME_CONTEXT, encoder.as_slice()))
}

/// A checkpoint in 80 bytes: what witnesses sign, and what is stamped.
pub fn checkpoint(genesis: BlockHash, place: &BlockPlace) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.u64(place.chain_id).raw(genesis.as_bytes()).u64(place.height).raw(place.hash.as_bytes());
    encoder.finish()
}

/// The digest of a checkpoint that OpenTimestamps proofs are of.
pub fn checkpoint_digest(genesis: BlockHash, place: &BlockPlace) -> [u8; 32] {
    sha256(&checkpoint(genesis, place))
}

/// How a block was attested, as `Anchors` and anchor files name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttestationKind {
    /// In `AnchorPoint` on an outside chain.
    Evm,
    /// By OpenTimestamps, in Bitcoin.
    Ots,
    /// By a witness.
    Witness,
}

impl AttestationKind {
    /// The kind as `Anchors` has it.
    pub fn word(self) -> B256 {
        B256::right_padding_from(self.name().as_bytes())
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Ots => "ots",
            Self::Witness => "witness",
        }
    }
}

/// That a block was seen outside, in the bytes that the ledger has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// The height of the block.
    pub height: u64,
    /// How it was seen.
    pub kind: AttestationKind,
    /// What proves it.
    pub data: Bytes,
}

/// What an anchor file says. Nothing in it is true before [`AnchorFile::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorFile {
    // The order of the fields is the order of the keys.
    #[serde(rename = "type")]
    kind: String,
    version: u64,
    chain_id: u64,
    genesis: B256,
    height: u64,
    block: B256,
    headers: Vec<Bytes>,
    attestations: Vec<Attestation>,
}

/// What was attested, and is proved but for what its kind leaves to who checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The block of the ledger.
    pub block: BlockPlace,
    /// By whom.
    pub by: AttestedBy,
}

/// By whom a block was attested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttestedBy {
    /// A block of an outside chain holds its hash: whether that block is on the chain is not said here.
    Chain(OnChain),
    /// OpenTimestamps: hashes lead from it to these. Whether a Bitcoin block has such a root is not said here.
    Ots(Vec<Claim>),
    /// A witness signed it: whose key that is, is not said here.
    Witness {
        /// The witness's key.
        key: [u8; 32],
        /// When, in seconds, by the witness's clock.
        time: u64,
    },
}

/// Why bytes are no anchor file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAnchorError {
    #[error("the anchor file has {length} bytes, the limit is {ANCHOR_FILE_MAX}")]
    TooLong { length: usize },
    #[error("the file is no anchor file")]
    Json(#[source] serde_json::Error),
    #[error("the anchor file has type `{kind}` and version {version}; this release reads `{TYPE}` version {VERSION}")]
    Version { kind: String, version: u64 },
    #[error("the anchor file has {count} attestations; it has one at least and {ATTESTATIONS_MAX} at most")]
    Count { count: usize },
    #[error("the anchor file is not in its canonical encoding")]
    NotCanonical,
}

/// Why an anchor file proves nothing about a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckAnchorError {
    #[error("the anchor file is of ledger {found}, the receipt of ledger {expected}")]
    OtherLedger { found: u64, expected: u64 },
    #[error(
        "the anchor file begins at block {found} ({found_hash}), the receipt is of block {expected} ({expected_hash}): what was anchored does not have that block among its ancestors"
    )]
    OtherBlock { found: u64, found_hash: BlockHash, expected: u64, expected_hash: BlockHash },
    #[error("header {index} of the anchor file cannot be read")]
    HeaderForm {
        index: usize,
        #[source]
        source: BlockError,
    },
    #[error("header {index} of the anchor file does not follow the one before it")]
    Descendant { index: usize },
    #[error("attestation {index} is of block {height}, which the headers do not lead to")]
    NoHeader { index: usize, height: u64 },
    #[error("attestation {index} cannot be read")]
    Form {
        index: usize,
        #[source]
        source: DecodeError,
    },
    #[error("attestation {index} does not prove that block {height} was anchored on an outside chain")]
    Evm {
        index: usize,
        height: u64,
        #[source]
        source: EvmAnchorError,
    },
    #[error("attestation {index} is no OpenTimestamps proof of block {height}")]
    Ots {
        index: usize,
        height: u64,
        #[source]
        source: OtsError,
    },
    #[error("attestation {index} is an OpenTimestamps proof of something else than block {height}")]
    OtherDigest { index: usize, height: u64 },
    #[error("attestation {index} is no cosignature of block {height}")]
    Cosignature {
        index: usize,
        height: u64,
        #[source]
        source: CosignatureError,
    },
}

impl AnchorFile {
    /// The file of attestations of a block, or of blocks that these headers lead to: from the next block on.
    pub fn new(genesis: BlockHash, block: &BlockPlace, headers: &[Header], attestations: Vec<Attestation>) -> Self {
        Self {
            kind: TYPE.to_owned(),
            version: VERSION,
            chain_id: block.chain_id,
            genesis: B256::new(genesis.to_bytes()),
            height: block.height,
            block: B256::new(block.hash.to_bytes()),
            headers: headers.iter().map(|header| alloy_rlp::encode(header).into()).collect(),
            attestations,
        }
    }

    /// Reads a file; only its one encoding is taken.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseAnchorError> {
        if bytes.len() > ANCHOR_FILE_MAX {
            return Err(ParseAnchorError::TooLong { length: bytes.len() });
        }
        let file: Self = serde_json::from_slice(bytes).map_err(ParseAnchorError::Json)?;
        if file.kind != TYPE || file.version != VERSION {
            return Err(ParseAnchorError::Version { kind: file.kind, version: file.version });
        }
        let count = file.attestations.len();
        if count == 0 || count > ATTESTATIONS_MAX {
            return Err(ParseAnchorError::Count { count });
        }
        if file.to_bytes() != bytes {
            return Err(ParseAnchorError::NotCanonical);
        }
        Ok(file)
    }

    /// The one encoding.
    #[expect(clippy::missing_panics_doc, reason = "text, numbers and lists of them always serialise")]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("text, numbers and lists of them are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Checks all that can be checked offline, for the receipt of that block of the ledger with that block 0.
    pub fn check(&self, genesis: BlockHash, block: &BlockPlace) -> Result<Vec<Attested>, CheckAnchorError> {
        if (self.chain_id, self.genesis.0) != (block.chain_id, genesis.to_bytes()) {
            return Err(CheckAnchorError::OtherLedger { found: self.chain_id, expected: block.chain_id });
        }
        if (self.height, self.block.0) != (block.height, block.hash.to_bytes()) {
            return Err(CheckAnchorError::OtherBlock {
                found: self.height,
                found_hash: BlockHash::new(self.block.0),
                expected: block.height,
                expected_hash: block.hash,
            });
        }
        let blocks = self.blocks(*block)?;
        let name = ledger_name(self.chain_id, genesis);
        let attested = self.attestations.iter().enumerate().map(|(index, attestation)| {
            let height = attestation.height;
            let place = height.checked_sub(block.height).and_then(|at| usize::try_from(at).ok());
            let place = place.and_then(|at| blocks.get(at)).ok_or(CheckAnchorError::NoHeader { index, height })?;
            Ok(Attested { block: *place, by: attestation.check(index, (genesis, name), place)? })
        });
        attested.collect()
    }

    /// The block that the headers follow, and those that they are of.
    fn blocks(&self, first: BlockPlace) -> Result<Vec<BlockPlace>, CheckAnchorError> {
        let mut blocks = vec![first];
        let mut last = first;
        for (index, bytes) in self.headers.iter().enumerate() {
            let header = decode_header(bytes).map_err(|source| CheckAnchorError::HeaderForm { index, source })?;
            let follows = last.height.checked_add(1) == Some(header.number);
            if !follows || header.parent_hash.0 != last.hash.to_bytes() {
                return Err(CheckAnchorError::Descendant { index });
            }
            last = BlockPlace { height: header.number, hash: BlockHash::new(keccak256(bytes).0), ..last };
            blocks.push(last);
        }
        Ok(blocks)
    }
}

impl Attestation {
    fn check(
        &self,
        index: usize,
        (genesis, name): (BlockHash, B256),
        place: &BlockPlace,
    ) -> Result<AttestedBy, CheckAnchorError> {
        let height = place.height;
        let form = |source| CheckAnchorError::Form { index, source };
        match self.kind {
            AttestationKind::Evm => {
                let anchor = EvmAnchor::decode(&self.data).map_err(form)?;
                let on_chain =
                    anchor.check(name, place).map_err(|source| CheckAnchorError::Evm { index, height, source })?;
                Ok(AttestedBy::Chain(on_chain))
            }
            AttestationKind::Ots => {
                let ots = Ots::decode(&self.data).map_err(|source| CheckAnchorError::Ots { index, height, source })?;
                if ots.digest != checkpoint_digest(genesis, place) {
                    return Err(CheckAnchorError::OtherDigest { index, height });
                }
                Ok(AttestedBy::Ots(ots.claims()))
            }
            AttestationKind::Witness => {
                let cosignature = Cosignature::decode(&self.data).map_err(form)?;
                let failed = |source| CheckAnchorError::Cosignature { index, height, source };
                cosignature.check(genesis, place).map_err(failed)?;
                Ok(AttestedBy::Witness { key: cosignature.key, time: cosignature.time })
            }
        }
    }
}
