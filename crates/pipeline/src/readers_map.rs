//! The reader's map: where the chunks of one snapshot lie, for recipients without the index key.
//!
//! - **Owns** the map's bytes and its seal under the manifest key.
//! - **Does not** decide which chunks belong in it.
//!
//! # Invariants
//! - **R1** A map opens only for its own snapshot and version.
//! - **R2** Chunks of one stripe never overlap, and none reaches beyond the greatest pack.
//!
//! A wrong map cannot show wrong bytes, only fail: every chunk is checked against its id.
//!
//! Format: `docs/design/manifests.md`, section *Reader's map*.

use blockhouse_crypto::hash::derive;
use blockhouse_crypto::seal::{self, NONCE_LEN, SEAL_OVERHEAD};
use blockhouse_crypto::{OpenError, Secret};
use blockhouse_types::limits::{CHUNK_MAX, MAP_MAX, PACK_CHUNKS_MAX, PACK_MAX};
use blockhouse_types::{ChunkId, DecodeError, Decoder, Encoder, SnapshotId, StripeId};

use crate::compress::Codec;

const MAGIC: [u8; 4] = *b"BHRM";
const WHAT: &str = "a reader's map";
/// The least length of one stripe in a map: the id and the count of its chunks.
const STRIPE_MIN: usize = StripeId::LEN + 1;

/// Why a map could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealMapError {
    #[error("the reader's map of snapshot {snapshot} takes {length} bytes, the limit is {MAP_MAX}")]
    TooLong { snapshot: SnapshotId, length: usize },
    #[error("the reader's map of snapshot {snapshot} is not in order")]
    Order {
        snapshot: SnapshotId,
        #[source]
        source: DecodeError,
    },
}

/// Why an object is not the map asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenMapError {
    #[error("could not decode the reader's map of snapshot {snapshot}")]
    Decode {
        snapshot: SnapshotId,
        #[source]
        source: DecodeError,
    },
    #[error("the reader's map asked for is of snapshot {snapshot}, the one given of {found}")]
    OtherSnapshot { snapshot: SnapshotId, found: SnapshotId },
    #[error("could not decrypt version {version} of the reader's map of snapshot {snapshot}")]
    Seal {
        snapshot: SnapshotId,
        version: u32,
        #[source]
        source: OpenError,
    },
}

/// Where one sealed chunk lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedChunk {
    /// Which chunk.
    pub id: ChunkId,
    /// How its plain bytes were written.
    pub codec: Codec,
    /// Where it begins in the pack.
    pub offset: u32,
    /// How long it is, sealed.
    pub sealed_len: u32,
}

/// The chunks of one stripe that a snapshot needs, by ascending offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedStripe {
    /// Which stripe.
    pub stripe: StripeId,
    /// Its chunks.
    pub chunks: Vec<MappedChunk>,
}

/// Where the chunks of a snapshot lie: stripes by ascending ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadersMap {
    /// The stripes.
    pub stripes: Vec<MappedStripe>,
}

impl ReadersMap {
    /// The sealed object. The nonce must be fresh and random.
    pub fn seal(
        &self,
        snapshot: SnapshotId,
        version: u32,
        manifest_key: &Secret,
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, SealMapError> {
        let plain = self.to_bytes();
        Self::from_bytes(&plain).map_err(|source| SealMapError::Order { snapshot, source })?;
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(snapshot.as_bytes());
        let mut object = encoder.finish();
        seal::seal_into(&mut object, &seal_key(manifest_key), nonce, &additional_data(snapshot, version), &plain);
        match object.len() {
            length if length > MAP_MAX => Err(SealMapError::TooLong { snapshot, length }),
            _ => Ok(object),
        }
    }

    /// Opens the object of that snapshot and version.
    pub fn open(
        snapshot: SnapshotId,
        version: u32,
        manifest_key: &Secret,
        object: &[u8],
    ) -> Result<Self, OpenMapError> {
        let decode = |source| OpenMapError::Decode { snapshot, source };
        let mut decoder = Decoder::with_header(WHAT, MAGIC, object).map_err(decode)?;
        decoder.limit("length", object.len() as u64, MAP_MAX as u64).map_err(decode)?;
        let found = SnapshotId::new(decoder.array().map_err(decode)?);
        if found != snapshot {
            return Err(OpenMapError::OtherSnapshot { snapshot, found });
        }
        let plain = seal::open(&seal_key(manifest_key), &additional_data(snapshot, version), decoder.left())
            .map_err(|source| OpenMapError::Seal { snapshot, version, source })?;
        Self::from_bytes(&plain).map_err(decode)
    }

    /// The plain map.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.list(self.stripes.iter(), |encoder, stripe| {
            encoder.raw(stripe.stripe.as_bytes()).list(stripe.chunks.iter(), |encoder, chunk| {
                encoder.raw(chunk.id.as_bytes()).u8(chunk.codec.tag());
                encoder.varint(chunk.offset.into()).varint(chunk.sealed_len.into());
            });
        });
        encoder.finish()
    }

    /// Reads a plain map, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        let stripes = decoder.list("stripes", MAP_MAX / STRIPE_MIN, decode_stripe)?;
        if !stripes.is_sorted_by(|a, b| a.stripe < b.stripe) {
            return Err(decoder.not_canonical("its stripes are not in ascending order"));
        }
        decoder.finish()?;
        Ok(Self { stripes })
    }
}

fn decode_stripe(decoder: &mut Decoder<'_>) -> Result<MappedStripe, DecodeError> {
    let stripe = StripeId::new(decoder.array()?);
    let mut end = 0;
    let chunks = decoder.list("chunks", PACK_CHUNKS_MAX, |decoder| {
        let chunk = decode_chunk(decoder)?;
        if chunk.offset < end {
            return Err(decoder.not_canonical("two chunks overlap or are not in the order of their offsets"));
        }
        end = chunk.offset + chunk.sealed_len; // both at most 64 MiB
        decoder.limit("end of a chunk", end.into(), PACK_MAX as u64)?;
        Ok(chunk)
    })?;
    if chunks.is_empty() {
        return Err(decoder.not_canonical("a stripe has no chunks"));
    }
    Ok(MappedStripe { stripe, chunks })
}

fn decode_chunk(decoder: &mut Decoder<'_>) -> Result<MappedChunk, DecodeError> {
    let id = ChunkId::new(decoder.array()?);
    let tag = decoder.u8()?;
    let codec = Codec::from_tag(tag).ok_or_else(|| decoder.unknown("codec", tag.into()))?;
    let offset = decoder.count("offset", PACK_MAX)?;
    let sealed_len = decoder.count("sealed length", CHUNK_MAX + SEAL_OVERHEAD)?;
    if sealed_len <= SEAL_OVERHEAD {
        return Err(decoder.not_canonical("a sealed chunk is too short to hold a byte"));
    }
    match (u32::try_from(offset), u32::try_from(sealed_len)) {
        (Ok(offset), Ok(sealed_len)) => Ok(MappedChunk { id, codec, offset, sealed_len }),
        _ => Err(decoder.not_canonical("an offset does not fit 32 bits")),
    }
}

fn seal_key(manifest_key: &Secret) -> Secret {
    derive("blockhouse v1 reader's map", manifest_key, [])
}

fn additional_data(snapshot: SnapshotId, version: u32) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.raw(snapshot.as_bytes()).u32(version);
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: SnapshotId = SnapshotId::new([1; 32]);

    fn key(byte: u8) -> Secret {
        Secret::new([byte; 32])
    }

    fn map() -> ReadersMap {
        let chunk =
            |id, offset, sealed_len| MappedChunk { id: ChunkId::new([id; 32]), codec: Codec::Zstd, offset, sealed_len };
        let stripe = |id, chunks| MappedStripe { stripe: StripeId::new([id; 32]), chunks };
        ReadersMap {
            stripes: vec![stripe(1, vec![chunk(9, 0, 100), chunk(8, 100, 29)]), stripe(2, vec![chunk(7, 5, 40)])],
        }
    }

    fn changed(change: impl FnOnce(&mut ReadersMap)) -> ReadersMap {
        let mut map = map();
        change(&mut map);
        map
    }

    #[test]
    fn a_map_opens_for_its_snapshot_version_and_key() {
        let object = map().seal(SNAPSHOT, 3, &key(1), [2; 12]).unwrap();
        assert_eq!(ReadersMap::open(SNAPSHOT, 3, &key(1), &object).unwrap(), map());
        assert!(matches!(ReadersMap::open(SNAPSHOT, 2, &key(1), &object), Err(OpenMapError::Seal { .. })));
        assert!(matches!(ReadersMap::open(SNAPSHOT, 3, &key(2), &object), Err(OpenMapError::Seal { .. })));
        let other = SnapshotId::new([2; 32]);
        assert!(matches!(ReadersMap::open(other, 3, &key(1), &object), Err(OpenMapError::OtherSnapshot { .. })));
        for at in (0..object.len()).filter(|at| *at != 6) {
            let mut flipped = object.clone();
            flipped[at] ^= 1;
            assert!(ReadersMap::open(SNAPSHOT, 3, &key(1), &flipped).is_err(), "byte {at}");
        }
        for length in 0..object.len() {
            assert!(ReadersMap::open(SNAPSHOT, 3, &key(1), &object[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn a_map_out_of_order_is_neither_sealed_nor_read() {
        for bad in [
            changed(|map| map.stripes.swap(0, 1)),
            changed(|map| map.stripes[1].stripe = map.stripes[0].stripe),
            changed(|map| map.stripes[0].chunks.swap(0, 1)),
            changed(|map| map.stripes[0].chunks[1].offset = 99),
            changed(|map| map.stripes[0].chunks.clear()),
            changed(|map| map.stripes[0].chunks[1].sealed_len = 28),
            changed(|map| map.stripes[0].chunks[1].offset = u32::try_from(PACK_MAX).unwrap()),
            changed(|map| map.stripes[0].chunks[1].offset = u32::MAX),
            changed(|map| map.stripes[0].chunks[1].sealed_len = u32::MAX),
        ] {
            assert!(ReadersMap::from_bytes(&bad.to_bytes()).is_err());
            assert!(matches!(bad.seal(SNAPSHOT, 0, &key(1), [0; 12]), Err(SealMapError::Order { .. })));
        }
        assert!(ReadersMap::from_bytes(&[&map().to_bytes()[..], &[0]].concat()).is_err());
        assert_eq!(ReadersMap::from_bytes(&[0]), Ok(ReadersMap::default()));
    }
}
