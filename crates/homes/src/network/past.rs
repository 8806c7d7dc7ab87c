//! The past of a ledger that a network took over: what a node must have before it takes part.
//!
//! - **Owns** which blocks may stand in the store of such a network's node at its base and directly above it.
//! - **Does not** fetch them: [`Sync`](super::sync::Sync) does, by runs of blocks or with the state of a later one.
//!
//! # Invariants
//! - **P1** No engine begins over a store that ends below its network's base, or has another block there. Of a store that began by a state above
//!   the base, the first block of the network was compared before, and every block below is when it comes.

use alloy_primitives::B256;
use blockhouse_consensus::{Base, Network};
use blockhouse_ledger::block::BlockObject;

use super::node::NodeError;
use crate::store::Store;

/// P1.
pub(super) fn expect_base(store: &Store, base: &Base) -> Result<(), NodeError> {
    if store.height() < base.height {
        return Err(NodeError::NoPast { height: store.height(), base: base.height });
    }
    if store.expect_here(base.height).is_err() {
        return Ok(());
    }
    let found = store.hash_at(base.height)?.unwrap_or_default();
    let expected = B256::new(base.hash.to_bytes());
    if found == expected { Ok(()) } else { Err(NodeError::OtherPast { height: base.height, found, expected }) }
}

/// False for a block directly above the base that others certified: what those before recorded there is beside this network's chain.
pub(super) fn may_follow(object: &BlockObject, network: &Network) -> bool {
    object.block.header.number != network.base().height + 1 || object.certificate.key() == network.key()
}

/// True for a block that stands where the base is, and is another one.
pub(super) fn is_other_base(object: &BlockObject, network: &Network) -> bool {
    object.block.header.number == network.base().height && object.hash() != network.base().hash
}
