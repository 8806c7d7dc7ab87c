//! Home 2: the ledger as several nodes keep it.
//!
//! - **Owns** what a node of the network ledger does between its consensus and its block store.
//! - **Does not** run consensus, and does not say what a valid block is: `ledger` does.

pub mod pool;
