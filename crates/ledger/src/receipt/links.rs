//! Links: from the key that a reader knows to the one that certified a later block. A receipt holds some; a node that comes late follows all.
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
pub struct KeyAt {
    /// It certifies the blocks above `after`, up to the next closing block.
    pub key: [u8; 32],
    /// The height of the closing block by which it came.
    pub after: u64,
}

impl Link {
    /// Reads what came from outside; nothing of it is checked yet.
    pub fn decode(header: &[u8], certificate: &[u8]) -> Result<Self, LinkError> {
        let header = decode_header(header).map_err(LinkError::Header)?;
        let certificate = Certificate::decode(certificate).map_err(LinkError::Form)?;
        Ok(Self { header, certificate })
    }

    /// The height of the closing block.
    pub const fn height(&self) -> u64 {
        self.header.number
    }

    /// Where it leads from that key, whose validators sign one by one.
    pub fn follow(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        match &self.certificate {
            Certificate::Committee(_) => self.lead(chain_id, from),
            _ => Err(LinkError::NotSigned { height: self.height() }),
        }
    }

    /// The same where validators share one key, which should follow itself: the caller compares.
    pub fn hand_on(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        self.lead(chain_id, from)
    }

    fn lead(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        let height = self.height();
        if height <= from.after {
            return Err(LinkError::Order { height, after: from.after });
        }
        if !self.certificate.finality().is_some_and(|finality| finality.descendants.is_empty()) {
            return Err(LinkError::NotSigned { height });
        }
        let place = BlockPlace { chain_id, height, hash: BlockHash::new(self.header.hash_slow().0) };
        self.certificate.verify(&from.key, &place).map_err(|source| LinkError::Certificate { height, source })?;
        let key = succession(&self.header).ok_or(LinkError::NotClosing { height })?;
        Ok(KeyAt { key, after: height })
    }
}

impl From<&Link> for WrittenLink {
    fn from(link: &Link) -> Self {
        Self { header: alloy_rlp::encode(&link.header).into(), certificate: link.certificate.encode().into() }
    }
}

impl WrittenLink {
    /// Where it leads from that key.
    pub(super) fn follow(&self, chain_id: u64, from: KeyAt) -> Result<KeyAt, LinkError> {
        Link::decode(&self.header, &self.certificate)?.follow(chain_id, from)
    }
}
