//! The ledger as a whole: the real contracts, block after block.

mod blocks;
mod destroyed;
mod enrolled;
mod ethereum;
mod gather;
mod governed;
mod handover;
pub(crate) mod world;
