//! What can be backed up: captures of folders and files with their full POSIX metadata, and writing them back.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod child;
pub mod files;
pub mod files_from;
pub mod stream;
