//! Which contract names the validators, and in which time: that of a governed genesis until the first handover, that of a charter from its handover
//! until the next one.
//!
//! - **Owns** which contract is in force at a head, and which ones were before.
//! - **Does not** read their sets: `validators` does.
//!
//! # Invariants
//! - **T4** At most one contract is in force at any block. A handover ends the one before it, and all that was settled or pending there; only a
//!   handover with its charter begins another.
//!
//! Format: `docs/design/ledger.md`, section *Charter*.

use alloy_primitives::{Address, U256};

use crate::call::CallError;
use crate::charter::{CHARTER_ADDRESS, contract_address};
use crate::contracts::{Access, Validators};
use crate::governance::validators_address;
use crate::state::{State, StateNodes};
use crate::validators::Sight;

/// A contract that names the validators, with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Government {
    /// Where it stands.
    pub contract: Address,
    /// Blocks in an epoch: epoch e begins at height e × this.
    pub epoch_length: u64,
    /// The first block of its time: that of its handover, or block 0.
    pub since: u64,
    /// The handover with which its time ended.
    pub until: Option<u64>,
    /// The validators share one key: of a genesis alone.
    pub shares: bool,
}

impl Government {
    /// Whether more may be settled of the end of a tenure above a block of that height than was below it.
    pub const fn settles(&self, height: u64) -> bool {
        let next = height.saturating_add(1);
        let outcome = next.saturating_add(crate::resharing::SETTLED);
        next.is_multiple_of(self.epoch_length) || self.shares && outcome.is_multiple_of(self.epoch_length)
    }
}

impl<N: StateNodes> Sight<'_, N> {
    /// The contract in force; nothing on a ledger whose validators never change.
    pub(crate) fn government(&self) -> Result<Option<Government>, CallError<N::Error>> {
        Ok(self.governments()?.pop().filter(|last| last.until.is_none()))
    }

    /// Blocks in an epoch, if anything is governed here: what costs little tells that nothing ends with a block.
    pub(crate) fn epoch_length(&self) -> Result<Option<u64>, CallError<N::Error>> {
        match self.charters()? {
            0 => Ok(self.genesis.governance.as_ref().map(|governance| governance.epoch_length)),
            count => self.ask(contract_address(count - 1), &Validators::epochLengthCall {}),
        }
    }

    /// All contracts that ever were in force, the first one first.
    pub(crate) fn governments(&self) -> Result<Vec<Government>, CallError<N::Error>> {
        let charters = self.charters()?;
        if self.genesis.governance.is_none() && charters == 0 {
            return Ok(Vec::new());
        }
        let handovers = self.handovers()?;
        let mut all = Vec::new();
        if let Some(governance) = &self.genesis.governance
            && self.stands(validators_address())?
        {
            all.push(Government {
                contract: validators_address(),
                epoch_length: governance.epoch_length,
                since: 0,
                until: handovers.first().map(|first| first.height),
                shares: governance.group.is_some(),
            });
        }
        let mut later = handovers.iter().enumerate();
        for contract in (0..charters).map(contract_address) {
            let Some(key) = self.first_key(contract)? else { break };
            let Some(epoch_length) = self.ask(contract, &Validators::epochLengthCall {})? else { break };
            // Each charter is made with its handover, so they come in one order.
            let Some((place, begun)) = later.find(|(_, handover)| handover.key == key) else { break };
            let until = handovers.get(place + 1).map(|next| next.height);
            all.push(Government { contract, epoch_length, since: begun.height, until, shares: false });
        }
        Ok(all)
    }

    /// How many charters there were.
    fn charters(&self) -> Result<u64, CallError<N::Error>> {
        let record = State::at(self.head.state_root, self.nodes).account(&CHARTER_ADDRESS);
        let record = record.map_err(|source| CallError::View(source.into()))?;
        Ok(record.map_or(0, |record| record.nonce))
    }

    /// The ledger key with which a contract begins.
    fn first_key(&self, contract: Address) -> Result<Option<[u8; 32]>, CallError<N::Error>> {
        let Some(first) = self.ask(contract, &Validators::setAtCall { index: U256::ZERO })? else { return Ok(None) };
        Ok(self.ask(contract, &Validators::keyOfCall { epoch_: first.from })?.map(|key| key.0))
    }

    fn handovers(&self) -> Result<Vec<HandedOver>, CallError<N::Error>> {
        let access = self.genesis.access_address();
        let count = self.ask(access, &Access::handoversCall {})?.unwrap_or_default();
        let mut all = Vec::new();
        for n in 1..=count {
            let Some(handover) = self.ask(access, &Access::handoverAtCall { n })? else { break };
            all.push(HandedOver { height: handover.height, key: handover.key.0 });
        }
        Ok(all)
    }
}

/// A handover, as `Access` has it.
struct HandedOver {
    height: u64,
    /// The ledger key that it named.
    key: [u8; 32],
}
