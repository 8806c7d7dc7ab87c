//! What of a ledger is to be attested outside, and the headers that lead to it.
//!
//! - **Owns** whether a ledger says anything that an earlier anchor does not cover.
//! - **Does not** anchor: `external` does.
//!
//! Format: `docs/design/anchors.md`.

use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::{Anchors, Automation};
use blockhouse_ledger::system::automation_address;
use blockhouse_types::BlockHash;

use crate::store::{Store, StoreError};

/// True if a block above that height holds more than the ledger's own calls, and what was said in `Anchors`: an anchor of those alone
/// would be recorded, and that record anchored again, without end.
pub fn has_news(store: &Store, anchors: Address, above: u64) -> Result<bool, StoreError> {
    // Of a node that began by a state the blocks below are not here yet: one of them may say something.
    if above.saturating_add(1) < store.bottom() {
        return Ok(true);
    }
    let said = [Anchors::recordCall::SELECTOR, Anchors::cosignCall::SELECTOR];
    let ticks = [Automation::tickCall::SELECTOR];
    let calls = |transaction: &alloy_consensus::TxEnvelope, any: &[[u8; 4]]| {
        any.iter().any(|selector| transaction.input().starts_with(selector))
    };
    for height in above.saturating_add(1)..=store.height() {
        let is_news = |transaction: &alloy_consensus::TxEnvelope| match transaction.to() {
            Some(to) if to == anchors => !calls(transaction, &said),
            // Its owner sends it more: an alarm that is ended is news.
            Some(to) if to == automation_address() => !calls(transaction, &ticks),
            _ => true,
        };
        if store.block(height)?.block.body.transactions.iter().any(is_news) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The headers behind one block up to another.
pub fn headers(store: &Store, from: u64, to: u64) -> Result<Vec<Header>, StoreError> {
    (from.saturating_add(1)..=to).map(|height| store.header(height)).collect()
}

/// The block of that height, as certificates and anchors name it; none above the head.
pub fn place_at(store: &Store, height: u64) -> Result<Option<BlockPlace>, StoreError> {
    let place = |hash: B256| BlockPlace { chain_id: store.genesis().chain_id, height, hash: BlockHash::new(hash.0) };
    Ok(store.hash_at(height)?.map(place))
}
