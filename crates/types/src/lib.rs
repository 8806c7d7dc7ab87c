//! Ids, sizes, limits and the canonical encoding that every format is written in.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod code;
pub mod encoding;
mod entry;
mod ids;
pub mod limits;

pub use code::{Code, CodeError, Durability, ShardIndex};
pub use encoding::{DecodeError, Decoder, Encoder, Magic};
pub use entry::{Attribute, EntryFacts, EntryKind, Link, Metadata, Timestamp, decode_mode_and_owner};
pub use ids::{
    Account, BagHash, BlockHash, ChunkId, EntriesRoot, Fingerprint, IdError, ListHash, ObjectHash, RecipientId,
    RecipientSetHash, SessionId, ShardRoot, SiteId, SnapshotId, SourceId, StripeId, VaultId,
};
