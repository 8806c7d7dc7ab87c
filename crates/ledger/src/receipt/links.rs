//! The links of a receipt: from the key that a reader knows to the one that certified its block.
//!
//! - **Owns** what a link is, and its check.
//! - **Does not** know when validators changed: a closing block says it, under the certificate of those who left.
//!
//! # Invariants
//! - **L1** A link leads from the key that certified it to the one that its header names, and to no other; heights rise along the links.
//! - **L2** A closing block was signed itself: who left vouches for nothing above it.
//!
//! Format: `docs/design/receipts.md`, section *Links*.

use alloy_consensus::Header;
use alloy_primitives::Bytes;
use blockhouse_types::{BlockHash, DecodeError};
use serde::{Deserialize, Serialize};

use crate::block::{BlockError, decode_header};
use crate::certificate::{BlockPlace, Certificate, CertificateError};
use crate::validators::succession;

/// The most links of a receipt: each is a change of the validators. Who needs more has a newer fingerprint, or a receipt made anew.
pub const LINKS_MAX: usize = 64;

/// A closing block with what vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its header.
    pub header: Header,
    /// Its certificate, by the validators who left.
    pub certificate: Certificate,
}

/// A link as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLink {
    header: Bytes,
    certificate: Bytes,
}

/// Why a link leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    #[error("its header cannot be read")]
    Header(#[source] BlockError),
    #[error("its certificate cannot be read")]
    Form(#[source] DecodeError),
    #[error("block {height} is not certified")]
    Certificate {
        height: u64,
        #[source]
        source: CertificateError,
    },
    #[error("block {height} was not signed itself by validators, one by one")]
    NotSigned { height: u64 },
    #[error("block {height} is no closing block: it names no key that follows")]
    NotClosing { height: u64 },
    #[error("block {height} does not stand above block {after}, by which its validators came")]
    Order { height: u64, after: u64 },
}

/// The key at one place along the links, and the height of the last block before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyAt {
    pub(crate) key: [u8; 32],
    pub(crate) after: u64,
}

impl From<&Link> for WrittenLink {
    fn from(link: &Link) -> Self {
        Self { header: alloy_rlp::encode(&link.header).into(), certificate: link.certificate.encode().into() }
    }
}

impl WrittenLink {
    /// Where it leads from that key.
    pub(super) fn follow(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        let header = decode_header(&self.header).map_err(LinkError::Header)?;
        let certificate = Certificate::decode(&self.certificate).map_err(LinkError::Form)?;
        Link { header, certificate }.follow(chain_id, from)
    }
}

impl Link {
    /// Where it leads from that key.
    pub(crate) fn follow(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        let Self { header, certificate } = self;
        let height = header.number;
        if height <= from.after {
            return Err(LinkError::Order { height, after: from.after });
        }
        let Certificate::Committee(committee) = certificate else { return Err(LinkError::NotSigned { height }) };
        if !committee.finality.descendants.is_empty() {
            return Err(LinkError::NotSigned { height });
        }
        let place = BlockPlace { chain_id, height, hash: BlockHash::new(header.hash_slow().0) };
        certificate.verify(&from.key, &place).map_err(|source| LinkError::Certificate { height, source })?;
        let key = succession(header).ok_or(LinkError::NotClosing { height })?;
        Ok(KeyAt { key, after: height })
    }
}
