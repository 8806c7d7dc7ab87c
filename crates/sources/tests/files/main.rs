//! Captures and restores of real folders. Parts that need root, or a program that is missing, say so and are skipped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
#![allow(clippy::print_stderr, reason = "a skipped part says why")]

mod copy;
mod live;
mod read;
mod restore;
mod scratch;
mod walk;
