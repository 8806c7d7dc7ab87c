//! What a network signs when a block is final, and how a block shares in the finality of a later one.
//!
//! The engine signs some blocks of a chain only: a final block makes its ancestors final. The headers between an
//! ancestor and the block that was signed are then part of the ancestor's certificate.

use alloy_consensus::Header;
use blockhouse_types::{DecodeError, Decoder, Encoder};

use super::{BlockPlace, CertificateError};
use crate::block::{block_hash, decode_header};

/// How many headers may stand between a block and the one that was signed. In a network whose messages arrive the list
/// is empty; it grows by one for each block that reached a quorum too late to be signed as final.
pub const DESCENDANTS_MAX: usize = 64;
/// The greatest length of such a header; those of the ledger have some 550 bytes, half of them the bloom filter.
pub const DESCENDANT_MAX: usize = 1024;

/// The engine's name for "final": it stands behind the namespace of the chain.
const FINALIZE: &[u8] = b"_FINALIZE";
/// What every signature of a network begins with; the chain id follows.
const LABEL: &[u8] = b"blockhouse v1 network";

/// What the engine of a ledger is told to sign under: nothing that is signed for one chain counts on another.
pub fn namespace(chain_id: u64) -> Vec<u8> {
    [LABEL, &chain_id.to_be_bytes()].concat()
}

/// Where in the engine's course a block became final, and by which descendant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finality {
    /// The validator set, counted from 0.
    pub epoch: u64,
    /// The view in which the signed block was proposed.
    pub view: u64,
    /// The view of its parent.
    pub parent: u64,
    /// The headers from the child of the certified block to the block that was signed; empty if it was itself.
    pub descendants: Vec<Header>,
}

impl Finality {
    pub(super) fn write_place(&self, encoder: &mut Encoder) {
        encoder.varint(self.epoch).varint(self.view).varint(self.parent);
    }

    pub(super) fn write_descendants(&self, encoder: &mut Encoder) {
        encoder.list(self.descendants.iter(), |encoder, header| {
            encoder.bytes(&alloy_rlp::encode(header));
        });
    }

    /// Reads epoch, view and parent's view; the descendants follow later.
    pub(super) fn read_place(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (epoch, view, parent) = (decoder.varint()?, decoder.varint()?, decoder.varint()?);
        Ok(Self { epoch, view, parent, descendants: Vec::new() })
    }

    pub(super) fn read_descendants(mut self, decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        self.descendants = decoder.list("descendants", DESCENDANTS_MAX, |decoder| {
            let bytes = decoder.bytes("descendant", DESCENDANT_MAX)?;
            decode_header(bytes).map_err(|_| decoder.not_canonical("a descendant is not the RLP of a header"))
        })?;
        Ok(self)
    }

    /// The bytes that were signed if this is how the block became final: those of the engine's finalize vote.
    pub(super) fn message(&self, place: &BlockPlace) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
        let signed = self.signed(place)?;
        let mut message = Encoder::new();
        self.write_place(&mut message);
        message.raw(signed.as_bytes());
        Ok(([namespace(place.chain_id).as_slice(), FINALIZE].concat(), message.finish()))
    }

    /// The hash of the block that was signed, if the descendants lead to it.
    fn signed(&self, place: &BlockPlace) -> Result<blockhouse_types::BlockHash, CertificateError> {
        let (mut height, mut hash) = (place.height, place.hash);
        for (index, header) in self.descendants.iter().enumerate() {
            let follows = height.checked_add(1) == Some(header.number) && header.parent_hash.0 == hash.to_bytes();
            if !follows {
                return Err(CertificateError::Descendant { height: place.height, index });
            }
            (height, hash) = (header.number, block_hash(header));
        }
        Ok(hash)
    }
}
