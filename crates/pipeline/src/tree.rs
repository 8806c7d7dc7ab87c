//! The tree of a snapshot: entries of listings, and one committed leaf per entry.
//!
//! - **Owns** the bytes of an entry ([`Entry`]) and of a listing ([`ListingWriter`], [`ListingReader`]), and the Merkle
//!   tree over their leaves ([`EntryLeaves`]).
//! - **Does not** read file systems, nor store the content that entries point at.
//!
//! # Invariants
//! - **E1** A listing has its names in ascending byte order, none twice; a reader refuses any other.
//! - **E2** A name can never leave its folder: no `/`, no NUL, not `.` or `..`, not empty.
//! - **E3** An entry has one record.
//!
//! Format: `docs/design/manifests.md`, sections *Tree* and *Leaves*.

mod entry;
mod leaves;
mod listing;
#[cfg(test)]
mod tests;

pub use entry::{Body, Device, Entry, EntryError, is_name};
pub use leaves::{EntriesCommitment, EntryLeaves, WatchedLeaf};
pub use listing::{ListingReader, ListingWriter};
