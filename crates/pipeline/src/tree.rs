//! The tree of a snapshot: entries of listings, and one committed leaf per entry.
//!
//! - **Owns** the bytes of an entry ([`Entry`]) and of a listing ([`ListingWriter`], [`ListingReader`]), the facts
//!   that a leaf commits to ([`EntryFacts`]) and the Merkle tree over them ([`EntryLeaves`]).
//! - **Does not** read file systems, nor store the content that entries point at.
//!
//! # Invariants
//! - **E1** A listing has its names in ascending byte order, none twice; a reader refuses any other.
//! - **E2** A name can never leave its folder: no `/`, no NUL, not `.` or `..`, not empty.
//! - **E3** An entry has one record.
//!
//! Format: `docs/design/manifests.md`, sections *Tree* and *Leaves*.

mod entry;
mod facts;
mod leaves;
mod listing;
#[cfg(test)]
mod tests;

pub use entry::{Body, Device, Entry, EntryError, is_name};
pub use facts::EntryFacts;
pub(crate) use leaves::leaf_hash;
pub use leaves::{EntriesCommitment, EntryLeaves, WatchedLeaf, entry_tree};
pub use listing::{ListingReader, ListingWriter};
