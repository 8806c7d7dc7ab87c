//! End-to-end tests: the real binary, real folders, real kills.
//!
//! What the tests in `tests/` share. Nothing here knows a format or links a crate of the product: all that is seen is
//! what a user sees, the files included. (One test forges receipts, and links what a forger would have.)
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this library serves tests only: what goes wrong here is a failed test"
)]

pub mod anvil;
pub mod calendar;
pub mod damage;
pub mod guide;
pub mod need;
pub mod network;
pub mod provider;
pub mod schema;
pub mod servers;
pub mod trace;
pub mod tree;
pub mod world;

pub use world::{Output, World};
