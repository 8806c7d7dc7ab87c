//! The ledger's own call at the end of a block that one host seals: a network's leader adds it while it gathers.

use alloy_consensus::{Header, TxEnvelope};

use super::run::calls_handover;
use crate::genesis::Genesis;
use crate::state::{StateError, StateNodes};
use crate::system::{Due, due};

/// The ledger's own call that is still to stand behind these transactions in the block above `parent` (S2): none behind a handover, and
/// none on a ledger that has not begun with them.
pub fn own_call<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    txs: &[TxEnvelope],
) -> Result<Option<TxEnvelope>, StateError<N::Error>> {
    let is_handover = matches!(txs, [tx] if calls_handover(genesis.access_address(), tx));
    Ok(match due(genesis, parent, nodes)? {
        Due::Must(call) if !is_handover && txs.last() != Some(&call) => Some(call),
        _ => None,
    })
}

/// The transaction with which a ledger begins with its own calls: it makes `Automation`. None if it stands, or `Vault` does not yet.
pub fn first_own_call<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
) -> Result<Option<TxEnvelope>, StateError<N::Error>> {
    Ok(match due(genesis, parent, nodes)? {
        Due::Making(call) => Some(call),
        Due::Nothing | Due::Must(_) => None,
    })
}
