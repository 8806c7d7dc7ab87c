//! A chunk's id, key and reference; sealing and opening it.
//!
//! - **Owns** how ids and keys come from content, and the bytes of a sealed chunk.
//! - **Does not** cut, draw nonces or know where chunks lie.
//!
//! # Invariants
//! - **S1** Two seals of one chunk share no nonce: each call takes a fresh one from its caller.
//! - **S2** A sealed chunk opens only to bytes with the id asked for.
//!
//! Format: `docs/design/chunks-and-packs.md`.

use blockhouse_crypto::hash::{derive, keyed};
use blockhouse_crypto::seal::{self, NONCE_LEN, SEAL_OVERHEAD};
use blockhouse_crypto::{OpenError, Secret};
use blockhouse_types::limits::CHUNK_MAX;
use blockhouse_types::{ChunkId, DecodeError, Decoder, Encoder};

use crate::compress::{Codec, CompressError, Compressor, DecompressError, Decompressor};
use crate::domain::DomainKey;

/// The version that sealed chunks carry in their additional data.
const CHUNK_VERSION: u8 = 1;

/// Which chunk, how to open it, how long it is. Says nothing of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk's id.
    pub id: ChunkId,
    /// The chunk's key.
    pub key: Secret,
    /// The length of the plain chunk, 1 byte to 1 MiB.
    pub plain_len: u32,
}

impl ChunkRef {
    /// The reference of a chunk in a domain: equal chunks have equal references.
    pub fn of(domain: &DomainKey, plain: &[u8]) -> Result<Self, ChunkLengthError> {
        let plain_len = checked_length(plain)?;
        Ok(Self {
            id: ChunkId::new(keyed(domain.id_subkey(), plain)),
            key: Secret::new(keyed(domain.key_subkey(), plain)),
            plain_len,
        })
    }

    /// True if these bytes are the chunk of this reference: told by their whole id in the domain, which is what the chunk is.
    pub fn is_of(&self, domain: &DomainKey, plain: &[u8]) -> bool {
        plain.len() as u64 == u64::from(self.plain_len) && keyed(domain.id_subkey(), plain) == *self.id.as_bytes()
    }

    /// The reference of a chunk that must not deduplicate, under a key drawn for it alone.
    pub fn under_random_key(key: Secret, plain: &[u8]) -> Result<Self, ChunkLengthError> {
        let plain_len = checked_length(plain)?;
        Ok(Self { id: IdRule::RandomKey.id(&key, plain), key, plain_len })
    }

    /// Writes the reference.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(self.id.as_bytes()).raw(self.key.expose()).varint(u64::from(self.plain_len));
    }

    /// Reads a reference.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let id = ChunkId::new(decoder.array()?);
        let key = Secret::new(decoder.array()?);
        let length = decoder.count("plain length", CHUNK_MAX)?;
        match u32::try_from(length) {
            Ok(plain_len) if plain_len > 0 => Ok(Self { id, key, plain_len }),
            _ => Err(decoder.not_canonical("a chunk is empty")),
        }
    }
}

/// How a chunk's id is recomputed, so that every opened chunk can be checked against it.
#[derive(Debug, Clone, Copy)]
pub enum IdRule<'a> {
    /// With the id subkey of the chunk's domain; manifests carry it.
    Domain(&'a Secret),
    /// With a subkey of the chunk's own random key.
    RandomKey,
}

impl IdRule<'_> {
    fn id(self, key: &Secret, plain: &[u8]) -> ChunkId {
        ChunkId::new(match self {
            Self::Domain(subkey) => keyed(subkey, plain),
            Self::RandomKey => keyed(&derive("blockhouse v1 random chunk id", key, []), plain),
        })
    }
}

/// A chunk of a length that no chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of {length} bytes cannot be: chunks have 1 to {CHUNK_MAX}")]
pub struct ChunkLengthError {
    /// The length found.
    pub length: usize,
}

fn checked_length(plain: &[u8]) -> Result<u32, ChunkLengthError> {
    let refused = ChunkLengthError { length: plain.len() };
    match u32::try_from(plain.len()) {
        Ok(length) if length > 0 && plain.len() <= CHUNK_MAX => Ok(length),
        _ => Err(refused),
    }
}

/// A chunk as it lies in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// Its id.
    pub id: ChunkId,
    /// How the plain bytes were written before sealing.
    pub codec: Codec,
    /// Nonce, ciphertext, tag.
    pub bytes: Vec<u8>,
    /// The length of the plain chunk.
    pub plain_len: u32,
}

/// Why a chunk was not sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealChunkError {
    #[error("chunk {id} has {found} bytes, its reference says {expected}")]
    Length { id: ChunkId, found: usize, expected: u32 },
    #[error("could not seal chunk {id}")]
    Compress {
        id: ChunkId,
        #[source]
        source: CompressError,
    },
}

/// Why sealed bytes are not the chunk asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenChunkError {
    #[error("could not decrypt chunk {id}")]
    Seal {
        id: ChunkId,
        #[source]
        source: OpenError,
    },
    #[error("could not decode chunk {id}")]
    Decode {
        id: ChunkId,
        #[source]
        source: DecompressError,
    },
    #[error("sealed chunk {id} has {length} bytes, more than its plain length allows")]
    TooLong { id: ChunkId, length: usize },
    #[error("chunk {id} opened to the bytes of another chunk")]
    OtherChunk { id: ChunkId },
}

/// Compresses and seals a chunk. The nonce must be fresh and random.
pub fn seal_chunk(
    compressor: &mut Compressor,
    reference: &ChunkRef,
    nonce: [u8; NONCE_LEN],
    plain: &[u8],
) -> Result<SealedChunk, SealChunkError> {
    seal_chunk_into(Vec::new(), compressor, reference, nonce, plain)
}

/// The same in a buffer that was used before: what is in it goes, its room stays.
pub fn seal_chunk_into(
    mut bytes: Vec<u8>,
    compressor: &mut Compressor,
    reference: &ChunkRef,
    nonce: [u8; NONCE_LEN],
    plain: &[u8],
) -> Result<SealedChunk, SealChunkError> {
    let (id, plain_len) = (reference.id, reference.plain_len);
    if plain.len() as u64 != u64::from(plain_len) {
        return Err(SealChunkError::Length { id, found: plain.len(), expected: plain_len });
    }
    bytes.clear();
    bytes.extend_from_slice(&nonce);
    let compressed = compressor.compress_into(plain, &mut bytes);
    let codec = compressed.map_err(|source| SealChunkError::Compress { id, source })?;
    seal::seal_behind(&mut bytes, 0, &reference.key, &additional_data(codec, plain_len));
    Ok(SealedChunk { id, codec, bytes, plain_len })
}

/// What opens one chunk after another without asking for memory each time.
#[derive(Debug, Default)]
pub struct ChunkOpener {
    decompressor: Decompressor,
    /// A frame between decryption and decompression.
    frame: Vec<u8>,
}

impl ChunkOpener {
    /// An opener.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a sealed chunk into `plain`, which has the length that the reference says, and checks that it is the one of the
    /// reference (S2). After an error `plain` holds nothing that may be used.
    pub fn open_into(
        &mut self,
        reference: &ChunkRef,
        rule: IdRule<'_>,
        (codec, sealed): (Codec, &[u8]),
        plain: &mut [u8],
    ) -> Result<(), OpenChunkError> {
        let (id, length) = (reference.id, plain.len());
        if is_plain(reference, codec, sealed) && sealed.len() == length + SEAL_OVERHEAD {
            let opened = seal::open_into(&reference.key, &additional_data(codec, reference.plain_len), sealed, plain);
            opened.map_err(|source| OpenChunkError::Seal { id, source })?;
        } else {
            self.decrypt(reference, codec, sealed)?;
            let decoded = self.decompressor.decompress_frame(&self.frame, plain);
            decoded.map_err(|source| OpenChunkError::Decode { id, source })?;
        }
        check_id(reference, rule, plain)
    }

    /// The same into new memory.
    pub fn open(
        &mut self,
        reference: &ChunkRef,
        rule: IdRule<'_>,
        (codec, sealed): (Codec, &[u8]),
    ) -> Result<Vec<u8>, OpenChunkError> {
        let (id, length) = (reference.id, reference.plain_len as usize);
        let plain = if is_plain(reference, codec, sealed) {
            let opened = seal::open(&reference.key, &additional_data(codec, reference.plain_len), sealed);
            opened.map_err(|source| OpenChunkError::Seal { id, source })?
        } else {
            self.decrypt(reference, codec, sealed)?;
            let decoded = self.decompressor.decompress_new(&self.frame, length);
            decoded.map_err(|source| OpenChunkError::Decode { id, source })?
        };
        check_id(reference, rule, &plain)?;
        Ok(plain)
    }

    /// Decrypts a chunk that has to be decompressed after that.
    fn decrypt(&mut self, reference: &ChunkRef, codec: Codec, sealed: &[u8]) -> Result<(), OpenChunkError> {
        let ChunkRef { id, ref key, plain_len } = *reference;
        let (length, body_len) = (plain_len as usize, sealed.len().saturating_sub(SEAL_OVERHEAD));
        if body_len > length {
            return Err(OpenChunkError::TooLong { id, length: sealed.len() });
        }
        self.frame.resize(body_len, 0);
        let opened = seal::open_into(key, &additional_data(codec, plain_len), sealed, &mut self.frame);
        opened.map_err(|source| OpenChunkError::Seal { id, source })?;
        match codec {
            Codec::Stored => {
                let source = DecompressError::Length { found: body_len, expected: length };
                Err(OpenChunkError::Decode { id, source })
            }
            Codec::Zstd => Ok(()),
        }
    }
}

/// True for what is whole once it is decrypted.
fn is_plain(reference: &ChunkRef, codec: Codec, sealed: &[u8]) -> bool {
    codec == Codec::Stored && sealed.len() == reference.plain_len as usize + SEAL_OVERHEAD
}

fn check_id(reference: &ChunkRef, rule: IdRule<'_>, plain: &[u8]) -> Result<(), OpenChunkError> {
    let id = reference.id;
    if rule.id(&reference.key, plain) == id { Ok(()) } else { Err(OpenChunkError::OtherChunk { id }) }
}

/// True if these are the plain bytes of the chunk of that id, for chunks of a domain.
pub fn is_chunk(id: &ChunkId, id_subkey: &Secret, plain: &[u8]) -> bool {
    keyed(id_subkey, plain) == *id.as_bytes()
}

fn additional_data(codec: Codec, plain_len: u32) -> [u8; 6] {
    let [a, b, c, d] = plain_len.to_le_bytes();
    [CHUNK_VERSION, codec.tag(), a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::DEFAULT_LEVEL;
    use crate::domain::DomainKind;

    fn domain(byte: u8) -> DomainKey {
        DomainKey::new(DomainKind::Writer, &Secret::new([byte; 32]))
    }

    fn seal(reference: &ChunkRef, nonce: u8, plain: &[u8]) -> SealedChunk {
        seal_chunk(&mut Compressor::try_new(DEFAULT_LEVEL).unwrap(), reference, [nonce; 12], plain).unwrap()
    }

    fn open(reference: &ChunkRef, rule: IdRule<'_>, sealed: &SealedChunk) -> Result<Vec<u8>, OpenChunkError> {
        ChunkOpener::new().open(reference, rule, (sealed.codec, &sealed.bytes))
    }

    #[test]
    fn a_chunk_opens_to_itself_in_its_own_domain_only() {
        let plain = b"plain bytes ".repeat(1000);
        let reference = ChunkRef::of(&domain(1), &plain).unwrap();
        let sealed = seal(&reference, 1, &plain);
        assert_eq!(sealed.codec, Codec::Zstd);
        assert_eq!(open(&reference, IdRule::Domain(domain(1).id_subkey()), &sealed).unwrap(), plain);
        assert!(matches!(
            open(&reference, IdRule::Domain(domain(2).id_subkey()), &sealed),
            Err(OpenChunkError::OtherChunk { .. })
        ));
        assert!(matches!(open(&reference, IdRule::RandomKey, &sealed), Err(OpenChunkError::OtherChunk { .. })));
        let elsewhere = ChunkRef::of(&domain(2), &plain).unwrap();
        assert_ne!((elsewhere.id, &elsewhere.key), (reference.id, &reference.key));
        assert!(matches!(
            open(&elsewhere, IdRule::Domain(domain(2).id_subkey()), &sealed),
            Err(OpenChunkError::Seal { .. })
        ));
    }

    #[test]
    fn random_keys_do_not_deduplicate_and_are_checked_too() {
        let one = ChunkRef::under_random_key(Secret::new([1; 32]), b"same").unwrap();
        let two = ChunkRef::under_random_key(Secret::new([2; 32]), b"same").unwrap();
        assert_ne!(one.id, two.id);
        let sealed = seal(&one, 1, b"same");
        assert_eq!(open(&one, IdRule::RandomKey, &sealed).unwrap(), b"same");
        let lying = ChunkRef { id: two.id, ..one };
        assert!(matches!(open(&lying, IdRule::RandomKey, &sealed), Err(OpenChunkError::OtherChunk { .. })));
    }

    #[test]
    fn every_flip_of_a_sealed_chunk_is_refused() {
        for plain in [&b"short"[..], &b"long and dull ".repeat(20)] {
            let reference = ChunkRef::of(&domain(1), plain).unwrap();
            let rule = domain(1);
            let rule = IdRule::Domain(rule.id_subkey());
            let sealed = seal(&reference, 1, plain);
            for at in 0..sealed.bytes.len() {
                let mut bad = sealed.clone();
                bad.bytes[at] ^= 1;
                assert!(open(&reference, rule, &bad).is_err(), "byte {at}");
            }
            let codec = if sealed.codec == Codec::Zstd { Codec::Stored } else { Codec::Zstd };
            assert!(open(&reference, rule, &SealedChunk { codec, ..sealed.clone() }).is_err());
            let mut opened = vec![0; plain.len()];
            ChunkOpener::new().open_into(&reference, rule, (sealed.codec, &sealed.bytes), &mut opened).unwrap();
            assert!(opened == plain && is_chunk(&reference.id, domain(1).id_subkey(), &opened));
            let longer = ChunkRef { plain_len: reference.plain_len + 1, ..reference.clone() };
            assert!(open(&longer, rule, &sealed).is_err());
            let long = SealedChunk { bytes: vec![0; plain.len() + SEAL_OVERHEAD + 1], ..sealed };
            assert!(matches!(open(&reference, rule, &long), Err(OpenChunkError::TooLong { .. })));
        }
    }

    #[test]
    fn two_levels_share_no_key_and_nonce() {
        let plain: Vec<u8> = (0_u32..20_000).flat_map(|i| (i * i % 977).to_le_bytes()).collect();
        let reference = ChunkRef::of(&domain(1), &plain).unwrap();
        let sealed_at = |level, nonce| {
            seal_chunk(&mut Compressor::try_new(level).unwrap(), &reference, nonce, &plain).unwrap().bytes
        };
        let (one, two) = (sealed_at(1, [1; 12]), sealed_at(15, [2; 12]));
        assert_ne!(one[..NONCE_LEN], two[..NONCE_LEN]);
        assert_ne!(one[NONCE_LEN..], two[NONCE_LEN..]);
    }

    #[test]
    fn references_and_lengths_have_bounds() {
        assert_eq!(ChunkRef::of(&domain(1), &[]), Err(ChunkLengthError { length: 0 }));
        assert!(ChunkRef::of(&domain(1), &vec![0; CHUNK_MAX]).is_ok());
        assert!(ChunkRef::of(&domain(1), &vec![0; CHUNK_MAX + 1]).is_err());
        let reference = ChunkRef::of(&domain(1), b"x").unwrap();
        let mut encoder = Encoder::new();
        reference.encode(&mut encoder);
        let mut decoder = Decoder::new("a reference", encoder.as_slice());
        assert_eq!(ChunkRef::decode(&mut decoder).unwrap(), reference);
        let mut bytes = encoder.finish();
        *bytes.last_mut().unwrap() = 0;
        assert!(ChunkRef::decode(&mut Decoder::new("a reference", &bytes)).is_err());
        assert!(!format!("{reference:?}").contains(&hex::encode(reference.key.expose())[..8]));
        let wrong = seal_chunk(&mut Compressor::try_new(3).unwrap(), &reference, [0; 12], b"xy");
        assert!(matches!(wrong, Err(SealChunkError::Length { .. })));
    }
}
