//! One fuzz target for every decoder of outside bytes, and a seeded driver that needs no special toolchain.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a target fails by panicking, and seeds are made from constants"
)]

mod drive;
mod mutate;
mod seeds;
mod target;
pub mod targets;

pub use drive::{Budget, Count, Failure, drive, input};
pub use mutate::mutate;
pub use seeds::package;
pub use target::{Target, Verdict};
