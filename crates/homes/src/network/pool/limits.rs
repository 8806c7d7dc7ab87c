//! How much the pool holds, and for how long.

use std::time::Duration;

use blockhouse_types::limits::{KIB, MIB};

/// The greatest length of a transaction, as it stands in a block. A contract is created from at most 48 KiB and the
/// largest call of a vault is far below; 30 of the longest still fit into one block.
pub const TRANSACTION_MAX: usize = 128 * KIB;

/// What a transaction is charged beside its length: about what the pool's own records of it take in memory. So one
/// measure, the *weight*, bounds bytes and count together, and many small transactions weigh as much as they cost.
pub const OVERHEAD: usize = KIB;

/// How far a nonce may lie above the first one that is missing: what overtakes others on its way waits for them.
pub const GAP_MAX: u64 = 64;

/// How often the transaction of one nonce may be replaced. There are no fees, so nothing else slows it down.
pub const REPLACEMENTS_MAX: usize = 8;

/// The greatest weight of one account: some 14,000 small transactions.
pub const ACCOUNT_WEIGHT_MAX: usize = 16 * MIB;

/// The greatest weight of the pool: more than 100,000 small transactions.
pub const POOL_WEIGHT_MAX: usize = 128 * MIB;

/// How long a transaction waits before it is dropped: a network that lost its quorum overnight loses none.
pub const EXPIRY: Duration = Duration::from_hours(24);

/// How many transactions one call drops for their age: the caller comes again.
pub const EXPIRED_AT_ONCE: usize = 1024;

/// How many reasons are kept of transactions that were dropped, the latest ones.
pub const DROPPED_MAX: usize = 10_000;

/// Of how many senders the answer about their standing is kept until the next head.
pub const STANDINGS_MAX: usize = 16_384;

/// Of how many accounts it is kept when a block last held one of theirs. Forgotten are those longest ago, and who is
/// forgotten comes first: that is where they stand anyway.
pub const SERVED_MAX: usize = 65_536;

/// Of how many peers it is counted what they send: more than a network has nodes.
pub const PEERS_MAX: usize = 1024;

/// How many transactions one call gives to be sent to peers, and how many bytes, the first one aside.
pub const GOSSIP_COUNT_MAX: usize = 256;
/// See [`GOSSIP_COUNT_MAX`].
pub const GOSSIP_BYTES_MAX: usize = 128 * KIB;
/// When a transaction that still waits is sent again for the first time; each pause is twice the last one.
pub const GOSSIP_PAUSE_MIN: Duration = Duration::from_secs(4);
/// The longest pause: a node that was away learns within it what waits.
pub const GOSSIP_PAUSE_MAX: Duration = Duration::from_mins(5);

/// The bounds that a pool keeps. The usual ones are the constants of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`GAP_MAX`].
    pub gap: u64,
    /// See [`REPLACEMENTS_MAX`].
    pub replacements: usize,
    /// See [`ACCOUNT_WEIGHT_MAX`].
    pub account: usize,
    /// See [`POOL_WEIGHT_MAX`].
    pub pool: usize,
    /// See [`EXPIRY`].
    pub expiry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gap: GAP_MAX,
            replacements: REPLACEMENTS_MAX,
            account: ACCOUNT_WEIGHT_MAX,
            pool: POOL_WEIGHT_MAX,
            expiry: EXPIRY,
        }
    }
}
