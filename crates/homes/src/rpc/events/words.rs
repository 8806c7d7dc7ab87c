//! What an event says, by the contracts that are known to stand where it comes from.
//!
//! A strange contract can have events of the same names; so a log is told in words only if its emitter is one of the vault's.

use alloy_primitives::{Address, Log};
use alloy_sol_types::SolCall;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::system::automation_address;
use blockhouse_ledger::{Contract, Event, tell};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::Fault;
use super::super::fault::of_call;
use crate::store::Store;

/// An event in words, as it is answered.
#[derive(Debug, Serialize)]
pub(super) struct Words {
    contract: &'static str,
    name: &'static str,
    fields: Map<String, Value>,
}

/// Where the contracts stand; modules are looked up when a log is of none of the two that every ledger has.
pub(super) struct Places<'a> {
    store: &'a Store,
    modules: Option<Vec<(Contract, Address)>>,
}

impl<'a> Places<'a> {
    pub(super) const fn of(store: &'a Store) -> Self {
        Self { store, modules: None }
    }

    /// What a log says; nothing if its emitter is not known, or it is none of its events.
    pub(super) fn tell(&mut self, log: &Log) -> Result<Option<Words>, Fault> {
        let Some(contract) = self.contract(log.address)? else { return Ok(None) };
        let Ok(event) = Event::of(contract, log) else { return Ok(None) };
        let told = tell(&event);
        let fields = told.fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Ok(Some(Words { contract: contract.name(), name: told.name, fields }))
    }

    fn contract(&mut self, address: Address) -> Result<Option<Contract>, Fault> {
        let genesis = self.store.genesis();
        if address == genesis.vault_address() {
            return Ok(Some(Contract::Vault));
        }
        if address == genesis.access_address() {
            return Ok(Some(Contract::Access));
        }
        let modules = match self.modules.take() {
            Some(modules) => modules,
            None => modules(self.store)?,
        };
        let found = modules.iter().find(|(_, place)| *place == address).map(|(contract, _)| *contract);
        self.modules = Some(modules);
        Ok(found)
    }
}

/// The modules that are registered now, and last the `Automation` that a network has made.
fn modules(store: &Store) -> Result<Vec<(Contract, Address)>, Fault> {
    let mut modules = Vec::new();
    for contract in Contract::MODULES {
        if let Some(place) = module(store, contract)? {
            modules.push((contract, place));
        }
    }
    modules.push((Contract::Automation, automation_address()));
    Ok(modules)
}

/// Where a module stands that is registered now. A ledger whose contracts are not there yet has none.
pub(super) fn module(store: &Store, contract: Contract) -> Result<Option<Address>, Fault> {
    let input = Vault::moduleCall { name: contract.name_word() }.abi_encode();
    let read = Call::read(Address::ZERO, store.genesis().vault_address(), input);
    let head = store.head_state();
    let result = call(store.genesis(), head.header(), &head, &read).map_err(|error| of_call(&head, error))?;
    let CallOutcome::Returned(output) = result.outcome else { return Ok(None) };
    Ok(Vault::moduleCall::abi_decode_returns(&output).ok().filter(|place| !place.is_zero()))
}
