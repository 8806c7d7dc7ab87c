//! The sizes that the formats allow. A decoder checks them before it allocates.

/// Bytes of one kibibyte.
pub const KIB: usize = 1024;
/// Bytes of one mebibyte.
pub const MIB: usize = 1024 * KIB;

/// The least length of a chunk that content cuts, but for the last of a stream.
pub const CUT_MIN: usize = 32 * KIB;
/// The length that cuts aim at. Smaller files of one folder are joined.
pub const CUT_TARGET: usize = 128 * KIB;
/// The greatest length of a chunk that content cuts.
pub const CUT_MAX: usize = 512 * KIB;
/// The same three of a file that is written to in pages, a quarter of each: what a page changes costs a chunk.
pub const FINE_CUT_MIN: usize = 8 * KIB;
/// See [`FINE_CUT_MIN`].
pub const FINE_CUT_TARGET: usize = 32 * KIB;
/// See [`FINE_CUT_MIN`].
pub const FINE_CUT_MAX: usize = 128 * KIB;
/// The greatest length of any chunk.
pub const CHUNK_MAX: usize = MIB;

/// The least length of a pack: smaller ones are padded, so that sites cannot tell them apart.
pub const PACK_MIN: usize = 256 * KIB;
/// The greatest length of a pack.
pub const PACK_MAX: usize = 64 * MIB;
/// How many chunks a pack may hold.
pub const PACK_CHUNKS_MAX: usize = 65_536;

/// The bytes under one leaf of a shard's Merkle tree.
pub const SHARD_LEAF: usize = 16 * KIB;
/// The greatest number of shards of one stripe.
pub const SHARDS_MAX: usize = 255;

/// The greatest length of an inline list of extents.
pub const EXTENTS_INLINE_MAX: usize = 4096;
/// How often a list of extents may itself be stored as content.
pub const EXTENTS_DEPTH_MAX: u8 = 4;
/// The greatest mode of an entry: permission bits with set-id and sticky.
pub const MODE_MAX: u32 = 0o7777;
/// The greatest number of nanoseconds after a whole second.
pub const NANOSECONDS_MAX: u32 = 999_999_999;
/// The greatest length of a name in a tree.
pub const NAME_MAX: usize = 4095;
/// The greatest length of one entry of a listing.
pub const RECORD_MAX: usize = MIB;

/// The greatest number of stripe ids in a leaf of a stripe list.
pub const LIST_LEAF_MAX: usize = 256;
/// The greatest length of a node of a stripe list.
pub const LIST_NODE_MAX: usize = 64 * KIB;
/// The greatest length of a sealed manifest.
pub const MANIFEST_MAX: usize = MIB;
/// The greatest length of a snapshot object.
pub const SNAPSHOT_OBJECT_MAX: usize = MANIFEST_MAX + 4 * KIB;
/// The greatest length of an object of wraps.
pub const WRAPS_MAX: usize = MIB;
/// The greatest number of recipients of one manifest key.
pub const RECIPIENTS_MAX: usize = 256;
/// The greatest length of a key bag.
pub const BAG_MAX: usize = MIB;
/// The greatest number of sites of a vault.
pub const SITES_MAX: usize = 1024;
/// The greatest length of a reader's map.
pub const MAP_MAX: usize = 1024 * MIB;
/// The greatest length of a block of the ledger.
pub const BLOCK_MAX: usize = 4 * MIB;
/// The greatest length of a certificate.
pub const CERTIFICATE_MAX: usize = 64 * KIB;
