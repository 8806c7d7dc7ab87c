//! The contracts beside `Vault` that the owner registered there by name.

use alloy_primitives::Address;
use alloy_provider::Provider as _;
use blockhouse_ledger::Contract;
use blockhouse_ledger::charter::contract_address;
use blockhouse_ledger::contracts::Vault;
use blockhouse_ledger::governance::validators_address;

use super::{Ledger, LedgerError};

/// Where the modules stand that this version knows; none of those that were never registered, or are retired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modules {
    /// Tags that contracts can read.
    pub tags: Option<Address>,
    /// Who froze what.
    pub freeze: Option<Address>,
    /// The snapshots that rules of retention walk.
    pub timeline: Option<Address>,
    /// What the ledger does by itself: the registered one, or else the one that a network has made.
    pub automation: Option<Address>,
    /// The nodes of a network: the registered one, or else the newest that a governed ledger has made.
    pub validators: Option<Address>,
    /// Whether the contract that a governed genesis makes is there.
    pub of_genesis: bool,
    /// How many networks took the ledger over with a charter: each made such a contract, and what the ones before say stays part of the history.
    pub charters: u64,
    /// What is recorded elsewhere.
    pub anchors: Option<Address>,
    /// What nodes tell of themselves.
    pub alarms: Option<Address>,
}

impl Modules {
    /// Each that is there, with its address.
    pub fn all(&self) -> impl Iterator<Item = (Contract, Address)> + use<> {
        let places = [
            (Contract::Tags, self.tags),
            (Contract::Freeze, self.freeze),
            (Contract::Timeline, self.timeline),
            (Contract::Automation, self.automation),
            (Contract::Validators, self.validators),
            (Contract::Anchors, self.anchors),
            (Contract::Alarms, self.alarms),
        ];
        places.into_iter().filter_map(|(contract, place)| Some((contract, place?)))
    }

    /// What the ledger itself made to name the validators, but for the contract that stands for the module: one that is registered takes the place of none.
    fn others(self) -> impl Iterator<Item = (Contract, Address)> {
        let first = self.of_genesis.then(validators_address);
        let made = first.into_iter().chain((0..self.charters).map(contract_address));
        made.filter(move |place| self.validators != Some(*place)).map(|place| (Contract::Validators, place))
    }
}

/// The contracts whose events are the vault's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contracts {
    pub(crate) vault: Address,
    pub(crate) access: Address,
    pub(crate) modules: Modules,
}

impl Contracts {
    pub(super) fn addresses(&self) -> Vec<Address> {
        let own = [self.vault, self.access].into_iter();
        own.chain(self.modules.all().chain(self.modules.others()).map(|(_, place)| place)).collect()
    }

    /// Which of them stands there.
    pub(super) fn at(&self, address: Address) -> Option<Contract> {
        let own = [(Contract::Vault, self.vault), (Contract::Access, self.access)];
        let mut all = own.into_iter().chain(self.modules.all()).chain(self.modules.others());
        all.find(|(_, place)| *place == address).map(|(contract, _)| contract)
    }
}

impl Ledger {
    /// The modules as they are now.
    pub async fn modules(&self) -> Result<Modules, LedgerError> {
        let charters = self.charters().await?;
        let made = charters.checked_sub(1).map_or_else(validators_address, contract_address);
        Ok(Modules {
            tags: self.module(Contract::Tags).await?,
            freeze: self.module(Contract::Freeze).await?,
            timeline: self.module(Contract::Timeline).await?,
            automation: self.automation().await?,
            validators: self.module_or(Contract::Validators, made).await?,
            of_genesis: self.has_made(validators_address()).await?,
            charters,
            anchors: self.module(Contract::Anchors).await?,
            alarms: self.module(Contract::Alarms).await?,
        })
    }

    /// How many contracts of charters there are: they stand one after the other.
    async fn charters(&self) -> Result<u64, LedgerError> {
        let mut count = 0;
        while self.has_made(contract_address(count)).await? {
            count += 1;
        }
        Ok(count)
    }

    /// Whether the ledger itself made a contract there. On an outside chain it makes none, and anybody speaks as the accounts that do elsewhere.
    async fn has_made(&self, place: Address) -> Result<bool, LedgerError> {
        Ok(!self.home_signs && !self.provider.get_code_at(place).await?.is_empty())
    }

    pub(super) async fn module(&self, contract: Contract) -> Result<Option<Address>, LedgerError> {
        let found = self.call(self.vault, &Vault::moduleCall { name: contract.name_word() }).await?;
        Ok((!found.is_zero()).then_some(found))
    }

    /// The registered one, or else what the ledger itself has made at that address.
    pub(super) async fn module_or(&self, contract: Contract, made: Address) -> Result<Option<Address>, LedgerError> {
        if let Some(registered) = self.module(contract).await? {
            return Ok(Some(registered));
        }
        Ok(self.has_made(made).await?.then_some(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen: a registered contract stood for the module, and the newest charter's events were in no history.
    #[test]
    fn a_registered_module_hides_no_contract_of_the_ledgers_own() {
        let registered = Address::repeat_byte(7);
        let made = [validators_address(), contract_address(0), contract_address(1)];
        for validators in [registered, made[2]] {
            let modules = Modules { validators: Some(validators), of_genesis: true, charters: 2, ..Modules::default() };
            let contracts = Contracts { vault: Address::repeat_byte(1), access: Address::repeat_byte(2), modules };
            for place in made.into_iter().chain([validators]) {
                assert_eq!(contracts.at(place), Some(Contract::Validators));
                let listed = contracts.addresses().into_iter().filter(|listed| *listed == place);
                assert_eq!(listed.count(), 1, "{place}");
            }
        }
        let none = Contracts { vault: Address::ZERO, access: Address::ZERO, modules: Modules::default() };
        assert_eq!(none.at(validators_address()), None);
    }
}
