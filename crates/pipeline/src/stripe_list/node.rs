//! One node of a stripe list.

use blockhouse_crypto::hash::keccak256;
use blockhouse_types::limits::LIST_LEAF_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder, ListHash, StripeId};

const MAGIC: [u8; 4] = *b"BHSL";
const LEAF: u8 = 0;
const INNER: u8 = 1;

/// The greatest depth of a node: the number of nibbles of an id.
pub const DEPTH_MAX: u8 = 64;

/// The nibble of an id at `depth`, high half of each byte first; 0 beyond the end.
pub fn nibble(id: &StripeId, depth: u8) -> u8 {
    let byte = id.as_bytes().get(usize::from(depth / 2)).copied().unwrap_or_default();
    if depth.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
}

/// What an inner node says of one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The nibble that its ids share.
    pub nibble: u8,
    /// How many ids are under it.
    pub count: u64,
    /// Its hash.
    pub hash: ListHash,
}

/// A node of a stripe list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListNode {
    /// At most 256 ids.
    Leaf {
        /// How many nibbles the ids share by their place.
        depth: u8,
        /// The ids, ascending.
        ids: Vec<StripeId>,
    },
    /// More than 256 ids.
    Inner {
        /// How many nibbles the ids share by their place.
        depth: u8,
        /// The nodes below, by ascending nibbles.
        children: Vec<Child>,
    },
}

impl ListNode {
    /// Its depth.
    pub const fn depth(&self) -> u8 {
        match self {
            Self::Leaf { depth, .. } | Self::Inner { depth, .. } => *depth,
        }
    }

    /// How many ids are under it, as it says.
    pub fn count(&self) -> u64 {
        match self {
            Self::Leaf { ids, .. } => ids.len() as u64,
            Self::Inner { children, .. } => children.iter().fold(0, |sum, child| child.count.saturating_add(sum)),
        }
    }

    /// The node's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        match self {
            Self::Leaf { depth, ids } => {
                encoder.u8(*depth).u8(LEAF).list(ids.iter(), |encoder, id| {
                    encoder.raw(id.as_bytes());
                });
            }
            Self::Inner { depth, children } => {
                let bitmap = children.iter().fold(0_u16, |bitmap, child| bitmap | 1 << (child.nibble & 0x0f));
                encoder.u8(*depth).u8(INNER).u16(bitmap);
                for child in children {
                    encoder.varint(child.count).raw(child.hash.as_bytes());
                }
            }
        }
        encoder.finish()
    }

    /// Reads a node, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header("a node of a stripe list", MAGIC, bytes)?;
        let depth = decoder.u8()?;
        decoder.limit("depth", depth.into(), DEPTH_MAX.into())?;
        let node = match decoder.u8()? {
            LEAF => Self::decode_leaf(&mut decoder, depth)?,
            INNER => Self::decode_inner(&mut decoder, depth)?,
            tag => return Err(decoder.unknown("kind of node", tag.into())),
        };
        decoder.finish()?;
        Ok(node)
    }

    /// The hash of a node's bytes.
    pub fn hash(bytes: &[u8]) -> ListHash {
        ListHash::new(keccak256(bytes))
    }

    fn decode_leaf(decoder: &mut Decoder<'_>, depth: u8) -> Result<Self, DecodeError> {
        let ids = decoder.list("ids", LIST_LEAF_MAX, |decoder| decoder.array().map(StripeId::new))?;
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(decoder.not_canonical("its ids are not in ascending order"));
        }
        if ids.is_empty() && depth > 0 {
            return Err(decoder.not_canonical("a leaf below the root has no ids"));
        }
        Ok(Self::Leaf { depth, ids })
    }

    fn decode_inner(decoder: &mut Decoder<'_>, depth: u8) -> Result<Self, DecodeError> {
        let bitmap = decoder.u16()?;
        let mut children = Vec::new();
        let mut sum = 0_u64;
        for nibble in (0..16).filter(|nibble| bitmap & 1 << nibble != 0) {
            let child = Child { nibble, count: decoder.varint()?, hash: ListHash::new(decoder.array()?) };
            if child.count == 0 {
                return Err(decoder.not_canonical("it names a node without ids"));
            }
            let total = sum.checked_add(child.count);
            sum = total.ok_or_else(|| decoder.not_canonical("its counts do not fit 64 bits"))?;
            children.push(child);
        }
        if sum <= LIST_LEAF_MAX as u64 {
            return Err(decoder.not_canonical("an inner node has so few ids that it is a leaf"));
        }
        if depth == DEPTH_MAX {
            return Err(decoder.not_canonical("an inner node is at the greatest depth"));
        }
        Ok(Self::Inner { depth, children })
    }
}
