//! Captures and restores of real folders. Parts that need root say so when they are not run; programs are demanded.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod copy;
mod left_out;
mod live;
mod read;
mod restore;
mod scratch;
mod walk;
