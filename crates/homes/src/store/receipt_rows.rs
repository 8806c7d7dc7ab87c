//! The bytes of a block's transaction receipts, as a row of the store.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

use alloy_consensus::ReceiptEnvelope;
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use blockhouse_types::{Decoder, Encoder, limits};

/// The most receipts that one block can hold: each transaction takes this many bytes at least.
const RECEIPTS_MAX: usize = limits::BLOCK_MAX / 64;

/// Count, then each receipt as length and EIP-2718 bytes.
pub(super) fn encode_receipts(receipts: &[ReceiptEnvelope]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.list(receipts.iter(), |encoder, receipt| {
        encoder.bytes(&receipt.encoded_2718());
    });
    encoder.finish()
}

pub(super) fn decode_receipts(bytes: &[u8]) -> Result<Vec<ReceiptEnvelope>, String> {
    let mut decoder = Decoder::new("the list of receipts", bytes);
    let raw = decoder
        .list("receipts", RECEIPTS_MAX, |decoder| decoder.bytes("receipt", usize::MAX))
        .map_err(|error| error.to_string())?;
    decoder.finish().map_err(|error| error.to_string())?;
    raw.into_iter().map(|bytes| ReceiptEnvelope::decode_2718_exact(bytes).map_err(|error| error.to_string())).collect()
}
