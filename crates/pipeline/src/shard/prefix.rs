//! What stands before a shard's payload: header and leaf hashes.

use std::ops::Range;

use blockhouse_crypto::hash::{hash, hash_parts};
use blockhouse_types::limits::SHARD_LEAF;
use blockhouse_types::{Account, Code, Decoder, Encoder, Magic, SessionId, ShardIndex, ShardRoot, StripeId, VaultId};
use bytes::Bytes;

use super::verify::VerifiedRange;
use super::{ClaimedWriter, SHARD_FIXED_LEN, ShardError, ShardFault, ShardName, StripeShape, leaf_hashes, tree};

const SHARD_MAGIC: Magic = *b"BHSH";
const WHAT: &str = "a shard's header";

/// What a shard says of itself and of its stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHeader {
    /// The vault.
    pub vault: VaultId,
    /// The stripe.
    pub stripe: StripeId,
    /// Whose stripe it claims to be.
    pub writer: ClaimedWriter,
    /// Code and lengths.
    pub shape: StripeShape,
    /// Which shard of its stripe.
    pub index: ShardIndex,
    /// The roots of all shards of the stripe.
    pub roots: Vec<ShardRoot>,
}

impl ShardHeader {
    /// The name of the shard.
    pub const fn name(&self) -> ShardName {
        ShardName { stripe: self.stripe, index: self.index }
    }

    /// The root of a shard of the stripe.
    pub fn root(&self, index: ShardIndex) -> Option<&ShardRoot> {
        self.roots.get(usize::from(index.0))
    }

    /// Header, header hash and leaf hashes: all that stands before the payload.
    pub(crate) fn encode_prefix(&self, leaves: &[[u8; 32]]) -> Vec<u8> {
        let mut encoder = Encoder::with_header(SHARD_MAGIC);
        encoder.raw(self.vault.as_bytes()).raw(self.stripe.as_bytes());
        encoder.raw(self.writer.session.as_bytes()).raw(self.writer.account.as_bytes()).raw(&self.writer.signature);
        encoder.raw(&self.shape.code().to_bytes()).u8(self.index.0).u8(0);
        encoder.u64(self.shape.pack_len() as u64).u64(self.shape.payload_len() as u64);
        for root in &self.roots {
            encoder.raw(root.as_bytes());
        }
        let header_hash = header_hash(encoder.as_slice());
        encoder.raw(&header_hash);
        for leaf in leaves {
            encoder.raw(leaf);
        }
        encoder.finish()
    }
}

/// The id of the stripe with these roots.
pub(crate) fn stripe_id(vault: &VaultId, shape: StripeShape, roots: &[ShardRoot]) -> StripeId {
    let code = shape.code().to_bytes();
    let (pack_len, payload_len) = ((shape.pack_len() as u64).to_le_bytes(), (shape.payload_len() as u64).to_le_bytes());
    let fixed = [&vault.as_bytes()[..], &code, &pack_len, &payload_len];
    let parts = fixed.into_iter().chain(roots.iter().map(|root| &root.as_bytes()[..]));
    StripeId::new(hash_parts("blockhouse v1 stripe", parts))
}

fn header_hash(header: &[u8]) -> [u8; 32] {
    hash("blockhouse v1 shard header", header)
}

/// How many bytes of a shard file stand before its payload, told by its first [`SHARD_FIXED_LEN`] bytes.
///
/// Nothing is verified yet but that the number is one that a shard may have.
pub fn prefix_len(first: &[u8]) -> Result<usize, ShardFault> {
    Ok(decode_fixed(&mut Decoder::with_header(WHAT, SHARD_MAGIC, first)?)?.shape.prefix_len())
}

/// The header but its roots.
fn decode_fixed(decoder: &mut Decoder<'_>) -> Result<ShardHeader, ShardFault> {
    let vault = VaultId::new(decoder.array()?);
    let stripe = StripeId::new(decoder.array()?);
    let writer = ClaimedWriter {
        session: SessionId::new(decoder.array()?),
        account: Account::new(decoder.array()?),
        signature: decoder.array()?,
    };
    let code = Code::try_new(decoder.u8()?.into(), decoder.u8()?.into())?;
    let index = ShardIndex(decoder.u8()?);
    if usize::from(index.0) >= code.shards() {
        return Err(ShardFault::Index { index, code });
    }
    if decoder.u8()? != 0 {
        return Err(decoder.not_canonical("the byte after the index is not zero").into());
    }
    let shape = StripeShape::try_new(code, decoder.u64()?)?;
    let (found, expected) = (decoder.u64()?, shape.payload_len() as u64);
    if found != expected {
        return Err(ShardFault::PayloadLength { found, expected });
    }
    Ok(ShardHeader { vault, stripe, writer, shape, index, roots: Vec::new() })
}

/// A verified prefix: enough to verify any whole leaves of the payload (T3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPrefix {
    header: ShardHeader,
    leaves: Vec<[u8; 32]>,
}

impl ShardPrefix {
    /// Verifies the beginning of a shard file, at least [`prefix_len`] bytes; what follows is not looked at.
    pub fn verify(bytes: &[u8], vault: &VaultId, shard: ShardName) -> Result<Self, ShardError> {
        let prefix = Self::decode(bytes).map_err(|fault| ShardError { shard, fault })?;
        let header = &prefix.header;
        let fault = if header.vault != *vault {
            ShardFault::OtherVault { found: header.vault }
        } else if header.name() != shard {
            ShardFault::OtherShard { found: header.name() }
        } else {
            return Ok(prefix);
        };
        Err(ShardError { shard, fault })
    }

    /// T1 but for the payload.
    fn decode(bytes: &[u8]) -> Result<Self, ShardFault> {
        let mut decoder = Decoder::with_header(WHAT, SHARD_MAGIC, bytes)?;
        let mut header = decode_fixed(&mut decoder)?;
        let shape = header.shape;
        header.roots = hashes(&mut decoder, shape.code().shards())?.into_iter().map(ShardRoot::new).collect();
        let hashed = bytes.get(..SHARD_FIXED_LEN + 32 * header.roots.len()).unwrap_or_default();
        if decoder.array()? != header_hash(hashed) {
            return Err(ShardFault::HeaderHash);
        }
        if stripe_id(&header.vault, shape, &header.roots) != header.stripe {
            return Err(ShardFault::StripeId);
        }
        let leaves = hashes(&mut decoder, shape.leaves())?;
        let root = ShardRoot::new(tree().root(&leaves));
        if header.root(header.index) != Some(&root) {
            return Err(ShardFault::Leaves);
        }
        Ok(Self { header, leaves })
    }

    /// What the shard says of itself.
    pub const fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// The hashes of the payload's leaves.
    pub fn leaves(&self) -> &[[u8; 32]] {
        &self.leaves
    }

    /// The whole leaves of the payload that hold `range`; `None` if it has no such range.
    pub fn covering(&self, range: &Range<usize>) -> Option<Range<usize>> {
        self.header.shape.covering(range)
    }

    /// Where bytes of the payload lie in the file.
    pub const fn file_range(&self, payload_range: &Range<usize>) -> Range<usize> {
        self.header.shape.file_range(payload_range)
    }

    /// Verifies whole leaves, read from `start` of the payload.
    pub fn verify_range(&self, start: usize, bytes: Bytes) -> Result<VerifiedRange, ShardError> {
        self.check_leaves(start, &bytes).map_err(|fault| ShardError { shard: self.header.name(), fault })?;
        Ok(VerifiedRange::new(self.header.index, start, bytes))
    }

    pub(super) fn check_leaves(&self, start: usize, bytes: &[u8]) -> Result<(), ShardFault> {
        let asked = start..start.saturating_add(bytes.len());
        if self.covering(&asked) != Some(asked) {
            return Err(ShardFault::Range { start, length: bytes.len() });
        }
        let first = start / SHARD_LEAF;
        let found = leaf_hashes(&tree(), bytes);
        let expected = self.leaves.get(first..).unwrap_or_default();
        match found.iter().zip(expected).position(|(found, expected)| found != expected) {
            Some(at) => Err(ShardFault::Leaf { leaf: first + at }),
            None => Ok(()),
        }
    }
}

/// That many hashes; the bytes are checked to be there before room is made.
fn hashes(decoder: &mut Decoder<'_>, count: usize) -> Result<Vec<[u8; 32]>, ShardFault> {
    let (hashes, _) = decoder.raw(32 * count)?.as_chunks::<32>();
    Ok(hashes.to_vec())
}
