//! A block of what can stand in it: how a network's leader makes one from what waits.
//!
//! - **Owns** which of the candidates go in, and which can never.
//! - **Does not** order them: their order is the caller's.
//!
//! # Invariants
//! - **G1** What is gathered satisfies the rules as any block: it is sealed by the code that makes all blocks.
//! - **G2** A candidate is refused only if no block above this parent could hold it; what only lacks room, or the transaction before it, waits.

use alloy_consensus::{Header, Transaction, TxEnvelope};
use alloy_primitives::Address;
use alloy_rlp::Encodable;
use blockhouse_types::limits::BLOCK_MAX;

use super::run::{Run, calls_handover};
use super::{BuildError, Executed, Frame};
use crate::genesis::Genesis;
use crate::rules::{Enrolled, TransactionFault, sender};
use crate::state::StateNodes;
use crate::system::{SYSTEM_ADDRESS, TICK_GAS};
use crate::time::BlockTime;

/// What a block takes beside its transactions: its header, and the lists around them, with room to spare.
const FRAME_BYTES: usize = 2048;

/// A block of what could stand in it, and what never can.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The block.
    pub executed: Executed,
    /// The candidates, by their places, that no block above this parent can hold, and why.
    pub refused: Vec<(usize, TransactionFault)>,
}

/// When the block is made, and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its time.
    pub time: BlockTime,
    /// Its greatest length in RLP; no more than [`BLOCK_MAX`] in any case.
    pub length: usize,
}

/// Makes a block of as many of these candidates as it has room for, in their order, and ends it with the ledger's own call if one is
/// due. A handover stands alone: where it is not first, it waits.
pub fn gather<N: StateNodes>(
    genesis: &Genesis,
    parent: &Header,
    nodes: &N,
    candidates: &[TxEnvelope],
    room: Room,
) -> Result<Gathered, BuildError<N::Error>> {
    let frame = Frame::above(genesis, parent, nodes, room.time)?;
    let mut refused = Vec::new();
    loop {
        let mut filling = Filling::of(&frame, room.length.min(BLOCK_MAX));
        for (place, tx) in candidates.iter().enumerate() {
            if !refused.iter().any(|(other, _)| *other == place)
                && let Err(fault) = filling.take(place, tx)?
            {
                refused.push((place, fault));
            }
        }
        let places = std::mem::take(&mut filling.places);
        match filling.seal() {
            // That a contract hands the ledger over shows only when it runs: without it the block is made again.
            Err(BuildError::Handover { height, index }) => match places.get(index) {
                Some(place) => refused.push((*place, TransactionFault::Handover)),
                None => return Err(BuildError::Handover { height, index }),
            },
            sealed => return Ok(Gathered { executed: sealed?, refused }),
        }
    }
}

/// A block while it is filled.
struct Filling<'f, 'a, N: StateNodes> {
    frame: &'f Frame<'a, N>,
    enrolled: Enrolled<'a, N>,
    run: Run<'a, N>,
    txs: Vec<TxEnvelope>,
    senders: Vec<Address>,
    /// Of each transaction, its place among the candidates.
    places: Vec<usize>,
    length: usize,
    length_max: usize,
    is_handover: bool,
}

impl<'f, 'a, N: StateNodes> Filling<'f, 'a, N> {
    fn of(frame: &'f Frame<'a, N>, length_max: usize) -> Self {
        let own = frame.due.transaction();
        Self {
            frame,
            enrolled: Enrolled::at(frame.genesis, frame.parent, frame.nodes),
            run: frame.run(),
            txs: Vec::new(),
            senders: Vec::new(),
            places: Vec::new(),
            length: FRAME_BYTES + own.map_or(0, Encodable::length),
            length_max,
            is_handover: false,
        }
    }

    /// Takes a candidate if it can run now. The inner error says that it never will.
    fn take(&mut self, place: usize, tx: &TxEnvelope) -> Result<Result<(), TransactionFault>, BuildError<N::Error>> {
        let (genesis, index) = (self.frame.genesis, self.txs.len());
        let sender = match sender(genesis, tx, self.frame.nodes.recall()) {
            Ok(sender) => sender,
            Err(fault) => return Ok(Err(fault)),
        };
        let enrolled = self.enrolled.contains(&sender);
        if !enrolled.map_err(|source| BuildError::Enrolled { height: self.frame.height, index, source })? {
            return Ok(Err(TransactionFault::Sender { sender }));
        }
        let (own_gas, length) = (self.own_gas(), tx.length());
        let most = genesis.gas_limit.saturating_sub(own_gas);
        if tx.gas_limit() > most {
            return Ok(Err(TransactionFault::Gas { limit: tx.gas_limit(), left: most }));
        }
        if FRAME_BYTES.saturating_add(length) > self.length_max {
            return Ok(Err(TransactionFault::TooLong { length }));
        }
        let is_handover = calls_handover(genesis.access_address(), tx);
        let fits = tx.gas_limit() <= most.saturating_sub(self.run.gas_used)
            && self.length.saturating_add(length) <= self.length_max
            && !self.is_handover
            && (index == 0 || !is_handover);
        if !fits {
            return Ok(Ok(()));
        }
        match self.run.transaction(index, tx, sender) {
            Ok(()) => {
                self.txs.push(tx.clone());
                self.senders.push(sender);
                self.places.push(place);
                self.length += length;
                self.is_handover = is_handover;
                Ok(Ok(()))
            }
            Err(BuildError::Transaction { source: TransactionFault::Early { .. }, .. }) => Ok(Ok(())),
            Err(BuildError::Transaction { source, .. }) => Ok(Err(source)),
            Err(other) => Err(other),
        }
    }

    /// Ends the block with the ledger's own call, unless it is a handover.
    fn seal(mut self) -> Result<Executed, BuildError<N::Error>> {
        if let Some(own) = self.frame.due.transaction().filter(|_| !self.is_handover) {
            self.run.transaction(self.txs.len(), own, *SYSTEM_ADDRESS)?;
            self.txs.push(own.clone());
            self.senders.push(*SYSTEM_ADDRESS);
        }
        self.frame.seal(self.run, self.txs, self.senders)
    }

    /// Gas that no candidate may use.
    fn own_gas(&self) -> u64 {
        self.frame.due.transaction().map_or(TICK_GAS, |own| own.gas_limit().max(TICK_GAS))
    }
}
