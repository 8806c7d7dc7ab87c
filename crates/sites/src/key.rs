//! The names of all objects at a site.
//!
//! - **Owns** which objects there are, the path of each and the greatest length that its format allows.
//! - **Does not** know what is inside an object, nor whether it is there.
//!
//! # Invariants
//! - **K1** An object has exactly one path, and a path names at most one object: `parse` takes what `path` gives and
//!   nothing else.
//! - **K2** A path has no component that a file system understands otherwise (`.`, `..`, empty).
//!
//! Format: `docs/design/sites.md`.

use std::fmt;
use std::str::FromStr;

use blockhouse_types::limits::{
    BAG_MAX, BLOCK_MAX, CERTIFICATE_MAX, KIB, LIST_NODE_MAX, MAP_MAX, MIB, PACK_MAX, SNAPSHOT_OBJECT_MAX, WRAPS_MAX,
};
use blockhouse_types::{BagHash, BlockHash, ListHash, ShardIndex, SnapshotId, StripeId};

/// The number of blocks that share a folder.
pub const BLOCKS_PER_FOLDER: u64 = 1024;

/// One object at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// What says whose site it is.
    Marker,
    /// One shard of a stripe.
    Shard { stripe: StripeId, index: ShardIndex },
    /// A node of a stripe list.
    List(ListHash),
    /// A snapshot object.
    Snapshot(SnapshotId),
    /// A reader's map of a snapshot.
    Map { snapshot: SnapshotId, version: u32 },
    /// A manifest key, wrapped for the recipients of a version.
    Wraps { snapshot: SnapshotId, version: u32 },
    /// A version of the key bag.
    Bag { version: u32, hash: BagHash },
    /// A block of the ledger.
    Block { height: u64, hash: BlockHash },
    /// The block of a handover; numbers count from 1.
    Handover { number: u64, hash: BlockHash },
}

/// A text that is not the path of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not the name of an object")]
pub struct KeyError {
    pub path: String,
}

impl ObjectKey {
    /// The path inside the site, with `/` between folders.
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// Reads a path; only the one that [`ObjectKey::path`] gives is taken.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        // The parts are read loosely: any other spelling of a key differs from the key's own path.
        Self::parse_loosely(path)
            .filter(|key| key.path() == path)
            .ok_or_else(|| KeyError { path: path.escape_debug().to_string() })
    }

    fn parse_loosely(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.splitn(5, '/').collect();
        match *parts.as_slice() {
            ["site"] => Some(Self::Marker),
            ["shards", _, name] => {
                let (stripe, index) = name.split_once('-')?;
                let index = ShardIndex(u8::from_str_radix(index, 16).ok()?);
                Some(Self::Shard { stripe: stripe.parse().ok()?, index })
            }
            ["lists", hash] => Some(Self::List(hash.parse().ok()?)),
            ["snapshots", id] => Some(Self::Snapshot(id.parse().ok()?)),
            ["maps", id, version] => Some(Self::Map { snapshot: id.parse().ok()?, version: hex_version(version)? }),
            ["wraps", id, version] => Some(Self::Wraps { snapshot: id.parse().ok()?, version: hex_version(version)? }),
            ["bags", name] => {
                let (version, hash) = name.split_once('-')?;
                Some(Self::Bag { version: hex_version(version)?, hash: hash.parse().ok()? })
            }
            ["blocks", _, name] => {
                let (height, hash) = name.split_once('-')?;
                Some(Self::Block { height: height.parse().ok()?, hash: hash.parse().ok()? })
            }
            ["handovers", name] => {
                let (number, hash) = name.split_once('-')?;
                let number = number.parse().ok().filter(|number| *number > 0)?;
                Some(Self::Handover { number, hash: hash.parse().ok()? })
            }
            _ => None,
        }
    }

    /// True for objects that are the same at every site; false for the marker and for shards.
    pub fn is_plain(&self) -> bool {
        !matches!(self, Self::Marker | Self::Shard { .. })
    }

    /// The greatest length that the format allows; a longer object is refused before it is read.
    pub fn max_len(&self) -> u64 {
        let limit = match self {
            Self::Marker => 4 * KIB,
            // A payload of k = 1 is a whole pack; roots and leaf hashes stay far below a mebibyte.
            Self::Shard { .. } => PACK_MAX + MIB,
            Self::List(_) => LIST_NODE_MAX,
            Self::Snapshot(_) => SNAPSHOT_OBJECT_MAX,
            Self::Map { .. } => MAP_MAX,
            Self::Wraps { .. } => WRAPS_MAX,
            Self::Bag { .. } => BAG_MAX,
            // Block, certificate and, at height 0, the genesis object.
            Self::Block { .. } | Self::Handover { .. } => 2 * BLOCK_MAX + CERTIFICATE_MAX,
        };
        limit as u64
    }
}

fn hex_version(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marker => f.write_str("site"),
            Self::Shard { stripe, index } => {
                let [first, ..] = stripe.as_bytes();
                write!(f, "shards/{first:02x}/{stripe}-{:02x}", index.0)
            }
            Self::List(hash) => write!(f, "lists/{hash}"),
            Self::Snapshot(id) => write!(f, "snapshots/{id}"),
            Self::Map { snapshot, version } => write!(f, "maps/{snapshot}/{version:08x}"),
            Self::Wraps { snapshot, version } => write!(f, "wraps/{snapshot}/{version:08x}"),
            Self::Bag { version, hash } => write!(f, "bags/{version:08x}-{hash}"),
            Self::Block { height, hash } => write!(f, "blocks/{}/{height}-{hash}", height / BLOCKS_PER_FOLDER),
            Self::Handover { number, hash } => write!(f, "handovers/{number}-{hash}"),
        }
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(path: &str) -> Result<Self, KeyError> {
        Self::parse(path)
    }
}

/// A folder of objects, to list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// All shards.
    Shards,
    /// The shards of the stripes whose id begins with this byte.
    ShardsOf(u8),
    /// All nodes of stripe lists.
    Lists,
    /// All snapshot objects.
    Snapshots,
    /// All reader's maps.
    Maps,
    /// The reader's maps of one snapshot.
    MapsOf(SnapshotId),
    /// All wraps.
    Wraps,
    /// The wraps of one snapshot.
    WrapsOf(SnapshotId),
    /// All versions of the key bag.
    Bags,
    /// All blocks.
    Blocks,
    /// The blocks that share a folder with the block of this height.
    BlocksNear(u64),
    /// All handovers.
    Handovers,
}

impl Prefix {
    /// The folder's path, with a `/` at the end.
    pub fn path(&self) -> String {
        match self {
            Self::Shards => "shards/".to_owned(),
            Self::ShardsOf(first) => format!("shards/{first:02x}/"),
            Self::Lists => "lists/".to_owned(),
            Self::Snapshots => "snapshots/".to_owned(),
            Self::Maps => "maps/".to_owned(),
            Self::MapsOf(id) => format!("maps/{id}/"),
            Self::Wraps => "wraps/".to_owned(),
            Self::WrapsOf(id) => format!("wraps/{id}/"),
            Self::Bags => "bags/".to_owned(),
            Self::Blocks => "blocks/".to_owned(),
            Self::BlocksNear(height) => format!("blocks/{}/", height / BLOCKS_PER_FOLDER),
            Self::Handovers => "handovers/".to_owned(),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}
