//! Compresses chunks where it pays, and opens them again within known bounds.
//!
//! - **Owns** the probe, the choice of a level and the shape of a compressed chunk.
//! - **Does not** seal: a chunk is compressed first, encrypted after.
//!
//! # Policy
//! zstd is most of the work of a backup, so each chunk is probed first: the entropy of 4 KiB of samples costs some
//! microseconds.
//!
//! | entropy in bits a byte | content | how |
//! |---|---|---|
//! | below 7.0 | text, code, tables | the base level |
//! | 7.0 to 7.9 | blocks of chains, dense binaries | repeats alone at the default level; two levels lower at a higher one |
//! | above 7.9 | compressed or encrypted | a fast level that gives up early and still finds long repeats |
//!
//! What blocks of chains save, they save by repeats of keys and scripts among bytes that are random: to code these bytes costs much of the time
//! of zstd's level 1 and gains nothing. A table of positions twice as large as that level's finds more of the repeats instead. What it saves is told in
//! `docs/performance.md`. Bytes that are merely unevenly spread, as sound or pictures without compression,
//! are where it would lose: a chunk that its repeats shrink by less than its entropy promises is compressed again with level 1.
//!
//! What does not shrink by 3 % is stored as it is, so that reading it back costs no decompression.
//!
//! # Invariants
//! - **Z1** What a [`Compressor`] wrote, a [`Decompressor`] gives back, and never more than the plain length asked for.
//! - **Z2** A compressed chunk is exactly one frame with neither content size, checksum nor dictionary: it says
//!   nothing that the sealed chunk does not say, and nothing can hide behind it.
//!
//! Format: `docs/design/chunks-and-packs.md`, section *Sealed chunk*.

use std::fmt;
use std::io;

use blockhouse_types::limits::CHUNK_MAX;
use zstd::zstd_safe::{CParameter, WriteBuf, compress_bound, find_frame_compressed_size};

/// The level that a backup compresses with unless told otherwise.
pub const DEFAULT_LEVEL: i32 = 3;
/// The levels that make sense for chunks.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// How much lower the level of dense chunks is.
const DENSE_STEP: i32 = 2;
/// The parameters of zstd's fastest strategy with which repeats alone are coded: positions are found by a hash of 14 bits over 6 bytes, and a
/// step of 2 leaves literals as they are.
const REPEATS: [CParameter; 4] = [
    CParameter::CompressionLevel(*LEVELS.start()),
    CParameter::HashLog(14),
    CParameter::MinMatch(6),
    CParameter::TargetLength(2),
];
/// Gives those of the level back to it.
const BY_LEVEL: [CParameter; 3] = [CParameter::HashLog(0), CParameter::MinMatch(0), CParameter::TargetLength(0)];
/// The level of chunks that will hardly shrink.
const RANDOM_LEVEL: i32 = -5;
/// Dense chunks have more entropy than this, in bits a byte; text and code have less.
const DENSE_ABOVE: f32 = 7.0;
/// Random bytes have more entropy than this in a sample of [`SAMPLE`] bytes; 7.95 is what they show on average.
const RANDOM_ABOVE: f32 = 7.9;
/// How many bytes the probe looks at, in [`PIECES`] pieces.
const SAMPLE: usize = 4096;
const PIECES: usize = 8;
/// Magic number, then a descriptor of zero: no content size, no single segment, no checksum, no dictionary.
const FRAME_START: [u8; 5] = [0x28, 0xb5, 0x2f, 0xfd, 0];

/// How the plain bytes of a chunk are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Stored,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// The tag in the formats.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }

    /// The codec of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Stored),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A level outside what chunks can be compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no level {level}: levels go from {} to {}", LEVELS.start(), LEVELS.end())]
pub struct LevelError {
    /// The level asked for.
    pub level: i32,
}

/// zstd refused to compress; it does so only when memory runs out.
#[derive(Debug, thiserror::Error)]
#[error("could not compress a chunk of {plain_len} bytes")]
pub struct CompressError {
    /// The length of the chunk.
    pub plain_len: usize,
    /// What zstd said.
    #[source]
    pub source: io::Error,
}

/// Why compressed bytes are not those of a chunk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    #[error("a chunk of {plain_len} bytes is longer than any chunk may be")]
    TooLong { plain_len: usize },
    #[error("a chunk was decoded to {found} bytes, {expected} were expected")]
    Length { found: usize, expected: usize },
    #[error("a compressed chunk is not one plain zstd frame")]
    Frame,
    #[error("could not decompress a chunk of {plain_len} bytes")]
    Zstd {
        plain_len: usize,
        #[source]
        source: io::Error,
    },
}

/// How a chunk is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As zstd does at this level.
    Level(i32),
    /// Repeats alone.
    Repeats,
}

/// Compresses one chunk after another with one reused context.
pub struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    /// What the context is set to.
    effort: Effort,
    base_level: i32,
}

impl Compressor {
    /// A compressor whose base level is one of [`LEVELS`].
    pub fn try_new(base_level: i32) -> Result<Self, LevelError> {
        if !LEVELS.contains(&base_level) {
            return Err(LevelError { level: base_level });
        }
        let mut context = zstd::bulk::Compressor::default();
        let flags = [
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
            CParameter::CompressionLevel(base_level),
        ];
        for flag in flags {
            context.set_parameter(flag).map_err(|_| LevelError { level: base_level })?;
        }
        Ok(Self { context, effort: Effort::Level(base_level), base_level })
    }

    /// Appends the chunk as it is worth writing.
    pub fn compress_into(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Codec, CompressError> {
        let failed = |source| CompressError { plain_len: plain.len(), source };
        let (start, entropy) = (out.len(), entropy(plain));
        let effort = effort_for(self.base_level, entropy);
        let mut length = self.append_frame(effort, plain, out).map_err(failed)?;
        if effort == Effort::Repeats && length > promised(plain.len(), entropy) {
            out.truncate(start);
            length = self.append_frame(Effort::Level(*LEVELS.start()), plain, out).map_err(failed)?;
        }
        if length * 100 <= plain.len() * 97 {
            return Ok(Codec::Zstd);
        }
        out.truncate(start);
        out.extend_from_slice(plain);
        Ok(Codec::Stored)
    }

    /// Appends a frame; gives its length.
    fn append_frame(&mut self, effort: Effort, plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        if effort != self.effort {
            match effort {
                Effort::Repeats => REPEATS.into_iter().try_for_each(|it| self.context.set_parameter(it))?,
                Effort::Level(level) => {
                    BY_LEVEL.into_iter().try_for_each(|it| self.context.set_parameter(it))?;
                    self.context.set_parameter(CParameter::CompressionLevel(level))?;
                }
            }
            self.effort = effort;
        }
        out.reserve(compress_bound(plain.len()));
        let mut behind = io::Cursor::new(&mut *out);
        behind.set_position(behind.get_ref().len() as u64);
        self.context.compress_to_buffer(plain, &mut behind)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("base_level", &self.base_level).finish_non_exhaustive()
    }
}

/// Opens one chunk after another with one reused context.
#[derive(Default)]
pub struct Decompressor {
    context: zstd::bulk::Decompressor<'static>,
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Self {
        Self::default()
    }

    /// The plain bytes of one frame, which must hold exactly `plain_len`, in new memory. Never writes more than that.
    pub fn decompress_new(&mut self, frame: &[u8], plain_len: usize) -> Result<Vec<u8>, DecompressError> {
        let mut plain = Vec::with_capacity(plain_len.min(CHUNK_MAX));
        self.decode(frame, plain_len, &mut plain)?;
        Ok(plain)
    }

    /// Fills `plain` from one frame, which must hold exactly as many bytes. After an error `plain` holds nothing that may be used.
    pub fn decompress_frame(&mut self, frame: &[u8], plain: &mut [u8]) -> Result<(), DecompressError> {
        self.decode(frame, plain.len(), plain)
    }

    fn decode<B: WriteBuf + ?Sized>(
        &mut self,
        frame: &[u8],
        plain_len: usize,
        plain: &mut B,
    ) -> Result<(), DecompressError> {
        if plain_len > CHUNK_MAX {
            return Err(DecompressError::TooLong { plain_len });
        }
        let alone = find_frame_compressed_size(frame).is_ok_and(|length| length == frame.len());
        if !frame.starts_with(&FRAME_START) || !alone {
            return Err(DecompressError::Frame);
        }
        let found = self
            .context
            .decompress_to_buffer(frame, plain)
            .map_err(|source| DecompressError::Zstd { plain_len, source })?;
        if found == plain_len { Ok(()) } else { Err(DecompressError::Length { found, expected: plain_len }) }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

fn effort_for(base_level: i32, entropy: f32) -> Effort {
    if entropy > RANDOM_ABOVE {
        Effort::Level(RANDOM_LEVEL)
    } else if entropy <= DENSE_ABOVE {
        Effort::Level(base_level)
    } else if base_level > DEFAULT_LEVEL {
        Effort::Level(base_level - DENSE_STEP)
    } else {
        Effort::Repeats
    }
}

/// What coding each byte by itself would make of a chunk whose bytes are spread like that.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a chunk's length is exact in 24 bits and its entropy from 0 to 8"
)]
fn promised(length: usize, entropy: f32) -> usize {
    (length as f32 * entropy / 8.0) as usize
}

/// The entropy of single bytes over samples of the chunk, in bits a byte.
fn entropy(plain: &[u8]) -> f32 {
    let mut counts = [0_u16; 256];
    let mut total = 0_u16;
    let stride = (plain.len() / PIECES).max(SAMPLE / PIECES);
    for piece in plain.chunks(stride).take(PIECES) {
        for byte in piece.iter().take(SAMPLE / PIECES) {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count += 1;
            }
            total += 1;
        }
    }
    let total = f32::from(total.max(1));
    let bits = |count: &u16| {
        let share = f32::from(*count) / total;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn random(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        bytes
    }

    fn text(length: usize) -> Vec<u8> {
        (0_u32..).flat_map(|i| format!("line {i} of {}\n", i * 7919 % 1009).into_bytes()).take(length).collect()
    }

    fn compress(compressor: &mut Compressor, plain: &[u8]) -> (Codec, Vec<u8>) {
        let mut out = b"before".to_vec();
        let codec = compressor.compress_into(plain, &mut out).unwrap();
        assert!(out.starts_with(b"before"), "what stood there stays");
        (codec, out.split_off(6))
    }

    fn round(plain: &[u8]) -> (Codec, usize) {
        let (codec, bytes) = compress(&mut Compressor::try_new(DEFAULT_LEVEL).unwrap(), plain);
        match codec {
            Codec::Stored => assert_eq!(bytes, plain),
            Codec::Zstd => assert_eq!(Decompressor::new().decompress_new(&bytes, plain.len()).unwrap(), plain),
        }
        (codec, bytes.len())
    }

    #[test]
    fn text_shrinks_and_random_bytes_are_stored() {
        assert_eq!(round(&random(100_000)), (Codec::Stored, 100_000));
        let (codec, length) = round(&text(100_000));
        assert_eq!(codec, Codec::Zstd);
        assert!(length < 40_000, "{length}");
        assert_eq!(round(b"x").0, Codec::Stored);
    }

    #[test]
    fn long_repeats_of_dense_bytes_are_found() {
        let (codec, length) = round(&[random(64 * 1024), random(64 * 1024)].concat());
        assert_eq!(codec, Codec::Zstd);
        assert!(length < 70 * 1024, "{length}");
    }

    #[test]
    fn the_probe_tells_text_from_dense_bytes() {
        assert!(entropy(&random(200_000)) > RANDOM_ABOVE);
        assert!(entropy(&text(200_000)) < DENSE_ABOVE);
        assert!(entropy(&[]).abs() < f32::EPSILON);
        assert_eq!(effort_for(3, 7.95), Effort::Level(RANDOM_LEVEL));
        assert_eq!([1, 3].map(|level| effort_for(level, 7.5)), [Effort::Repeats; 2]);
        assert_eq!([4, 9].map(|level| effort_for(level, 7.5)), [2, 7].map(Effort::Level));
        assert_eq!([3, 19].map(|level| effort_for(level, 6.0)), [3, 19].map(Effort::Level));
    }

    /// Random bytes between repeats, as blocks of chains are, and bytes that are spread unevenly: neither may be larger than at level 1 by much.
    #[test]
    fn dense_bytes_lose_nothing_for_the_speed() {
        let random = random(200_000);
        let chain: Vec<u8> =
            random.chunks(40).flat_map(|piece| [piece, &b"a script that repeats"[..]].concat()).collect();
        let uneven: Vec<u8> = random.iter().map(|byte| byte.wrapping_mul(*byte) ^ (byte >> 1)).collect();
        for plain in [&chain[..100_000], &uneven[..100_000]] {
            let entropy = entropy(plain);
            assert!(entropy > DENSE_ABOVE && entropy < RANDOM_ABOVE, "{entropy}");
            let mut one = zstd::bulk::Compressor::new(1).unwrap();
            let (level_1, (codec, length)) = (one.compress(plain).unwrap().len(), round(plain));
            assert_eq!(codec, Codec::Zstd);
            assert!(length <= level_1 + level_1 / 20, "{length} {level_1}");
        }
    }

    /// One context goes through all efforts by turns, and each chunk is as if it were the first.
    #[test]
    fn what_was_compressed_before_makes_no_difference() {
        let random = random(100_000);
        let chain: Vec<u8> =
            random.chunks(40).flat_map(|piece| [piece, &b"a script that repeats"[..]].concat()).collect();
        let chunks = [text(90_000), chain, random];
        let mut reused = Compressor::try_new(DEFAULT_LEVEL).unwrap();
        for chunk in chunks.iter().chain(chunks.iter().rev()).chain(&chunks) {
            let mut fresh = Compressor::try_new(DEFAULT_LEVEL).unwrap();
            assert_eq!(compress(&mut reused, chunk), compress(&mut fresh, chunk));
        }
    }

    #[test]
    fn frames_are_of_one_form() {
        let plain = text(50_000);
        let (_, frame) = compress(&mut Compressor::try_new(DEFAULT_LEVEL).unwrap(), &plain);
        assert!(frame.starts_with(&FRAME_START));
        let mut decompressor = Decompressor::new();
        let mut open = |bytes: Vec<u8>, length| decompressor.decompress_new(&bytes, length);
        assert_eq!(open(frame.clone(), plain.len()).unwrap(), plain);
        assert!(matches!(open([frame.clone(), frame.clone()].concat(), plain.len() * 2), Err(DecompressError::Frame)));
        assert!(matches!(open([&frame[..], &[0]].concat(), plain.len()), Err(DecompressError::Frame)));
        assert!(matches!(open(frame[..frame.len() - 1].to_vec(), plain.len()), Err(DecompressError::Frame)));
        assert!(matches!(open(frame.clone(), plain.len() + 1), Err(DecompressError::Length { .. })));
        assert!(matches!(open(frame.clone(), plain.len() - 1), Err(DecompressError::Zstd { .. })));
        assert!(matches!(open(frame, CHUNK_MAX + 1), Err(DecompressError::TooLong { .. })));
        let sized = zstd::bulk::compress(&plain, 3).unwrap();
        assert!(matches!(open(sized, plain.len()), Err(DecompressError::Frame)));
    }

    #[test]
    fn levels_have_bounds() {
        for level in [-1, 0, 20] {
            assert_eq!(Compressor::try_new(level).unwrap_err(), LevelError { level });
        }
    }
}
