//! Reading a snapshot: its manifest, its tree, its bytes.
//!
//! - **Owns** the way from an identity to plain bytes, checked at each step.
//! - **Does not** write anything anywhere but the host's index.
//!
//! # Invariants
//! - **R1** What is returned was checked against the snapshot id on the ledger: manifest, chunks, content hashes.

mod cache;
mod chunks;
mod open;
mod random;
mod shared;
mod tree;

pub(crate) use cache::ByteCache;
pub(crate) use chunks::READER_BYTES;
pub use chunks::{ChunkError, ChunkReader};
pub(crate) use open::{Beside, Described, beside, describe, index_key, together};
pub use open::{OpenSnapshotError, OpenedSnapshot, manifest, open};
pub(crate) use random::{ReadRangeError, Seeker, stored_length};
pub(crate) use shared::{Domain, SharedChunks, learn};
pub use tree::{Entries, ReadTreeError, list, walk};
pub(crate) use tree::{Piece, pieces};
