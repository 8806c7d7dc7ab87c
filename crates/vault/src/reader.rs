//! Reading a snapshot: its manifest, its tree, its bytes.
//!
//! - **Owns** the way from an identity to plain bytes, checked at each step.
//! - **Does not** write anything anywhere but the host's index.
//!
//! # Invariants
//! - **R1** What is returned was checked against the snapshot id on the ledger: manifest, chunks, content hashes.

mod chunks;
mod open;
mod tree;

pub(crate) use chunks::HELD_BYTES;
pub use chunks::{ChunkError, ChunkReader};
pub use open::{OpenSnapshotError, OpenedSnapshot, open};
pub use tree::{Entries, ReadTreeError, list, walk};
pub(crate) use tree::{Piece, pieces};
