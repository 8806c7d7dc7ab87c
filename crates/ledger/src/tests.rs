//! The ledger as a whole: the real contracts, block after block.

mod blocks;
mod charter;
mod destroyed;
mod enrolled;
mod ethereum;
mod gather;
mod governed;
mod handover;
mod hostile;
mod lengths;
mod resharing;
pub(crate) mod world;
