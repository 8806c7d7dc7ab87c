//! The ledger's events, as `history` and JSON-RPC read them.
//!
//! - **Owns** which contracts have events that this version knows, and what their logs say; in words: [`tell`].
//! - **Does not** find logs, and does not know where modules stand: the vault's owner registers them there by name.

mod text;

use alloy_primitives::{Address, B256, Log};
use alloy_sol_types::SolEventInterface;

use crate::contracts::Access::AccessEvents;
use crate::contracts::Alarms::AlarmsEvents;
use crate::contracts::AnchorPoint::AnchorPointEvents;
use crate::contracts::Anchors::AnchorsEvents;
use crate::contracts::Automation::AutomationEvents;
use crate::contracts::Freeze::FreezeEvents;
use crate::contracts::Tags::TagsEvents;
use crate::contracts::Timeline::TimelineEvents;
use crate::contracts::Validators::ValidatorsEvents;
use crate::contracts::Vault::VaultEvents;
use crate::genesis::Genesis;

pub use text::{Told, padded_text, tell};

/// A contract whose events are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// Owner, writers, recovery accounts, handovers.
    Access,
    /// Sessions, snapshots, removal, rules.
    Vault,
    /// The module that keeps who froze what.
    Freeze,
    /// The module of tags.
    Tags,
    /// The module of the snapshots that rules of retention walk.
    Timeline,
    /// The module of what the ledger does by itself.
    Automation,
    /// The module of the nodes of a network.
    Validators,
    /// The module of what is recorded elsewhere.
    Anchors,
    /// The module of what nodes tell of themselves.
    Alarms,
    /// What records another ledger's blocks: it stands on the chain outside, under no name.
    AnchorPoint,
}

impl Contract {
    /// Those that the owner registers in `Vault`, under their names.
    pub const MODULES: [Self; 7] =
        [Self::Freeze, Self::Tags, Self::Timeline, Self::Automation, Self::Validators, Self::Anchors, Self::Alarms];

    /// Its name; of a module, the one that it is registered under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Vault => "vault",
            Self::Freeze => "freeze",
            Self::Tags => "tags",
            Self::Timeline => "timeline",
            Self::Automation => "automation",
            Self::Validators => "validators",
            Self::Anchors => "anchors",
            Self::Alarms => "alarms",
            Self::AnchorPoint => "anchorpoint",
        }
    }

    /// The name as `Vault` has it.
    pub fn name_word(self) -> B256 {
        B256::right_padding_from(self.name().as_bytes())
    }
}

/// An event of the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "events are read one after another, never kept in bulk")]
pub enum Event {
    /// Of `Access`.
    Access(AccessEvents),
    /// Of `Vault`.
    Vault(VaultEvents),
    /// Of the module `freeze`.
    Freeze(FreezeEvents),
    /// Of the module `tags`.
    Tags(TagsEvents),
    /// Of the module `timeline`.
    Timeline(TimelineEvents),
    /// Of the module `alarms`.
    Alarms(AlarmsEvents),
    /// Of the module `automation`.
    Automation(AutomationEvents),
    /// Of the module `validators`.
    Validators(ValidatorsEvents),
    /// Of the module `anchors`.
    Anchors(AnchorsEvents),
    /// Of `AnchorPoint`.
    AnchorPoint(AnchorPointEvents),
}

/// A log of one of the vault's contracts that is none of their events.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a log of contract {contract} is none of its events")]
pub struct UnknownEvent {
    contract: Address,
    #[source]
    source: alloy_sol_types::Error,
}

impl Event {
    /// The event in a log; none if the log is of a contract that is not the vault's.
    pub fn decode(genesis: &Genesis, log: &Log) -> Result<Option<Self>, UnknownEvent> {
        let contract = match log.address {
            address if address == genesis.vault_address() => Contract::Vault,
            address if address == genesis.access_address() => Contract::Access,
            _ => return Ok(None),
        };
        Self::of(contract, log).map(Some)
    }

    /// The event in a log of that contract. What is registered as a module may be a later kind of it, with events of its own: these
    /// are unknown.
    pub fn of(contract: Contract, log: &Log) -> Result<Self, UnknownEvent> {
        match contract {
            Contract::Access => read(log, Self::Access),
            Contract::Vault => read(log, Self::Vault),
            Contract::Freeze => read(log, Self::Freeze),
            Contract::Tags => read(log, Self::Tags),
            Contract::Timeline => read(log, Self::Timeline),
            Contract::Automation => read(log, Self::Automation),
            Contract::Validators => read(log, Self::Validators),
            Contract::Anchors => read(log, Self::Anchors),
            Contract::Alarms => read(log, Self::Alarms),
            Contract::AnchorPoint => read(log, Self::AnchorPoint),
        }
    }
}

fn read<E: SolEventInterface>(log: &Log, event: impl FnOnce(E) -> Event) -> Result<Event, UnknownEvent> {
    let decoded = E::decode_log(log).map_err(|source| UnknownEvent { contract: log.address, source })?;
    Ok(event(decoded.data))
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolEvent;

    use super::*;
    use crate::contracts::{AnchorPoint, Anchors, Automation, Validators};

    fn told<E: SolEvent>(contract: Contract, event: &E) -> Told {
        let log = Log { address: Address::repeat_byte(7), data: event.encode_log_data() };
        tell(&Event::of(contract, &log).unwrap())
    }

    fn text(told: &Told) -> String {
        let fields: Vec<String> = told.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", told.name, fields.join(" "))
    }

    #[test]
    fn modules_of_a_network_are_told_in_words() {
        let (word, who) = (B256::repeat_byte(0xab), Address::repeat_byte(0xcd));
        let (ab, cd) = ("ab".repeat(32), "cd".repeat(20));
        let overdue = Automation::BackupOverdue { source: word, since: 7, interval: 60 };
        assert_eq!(
            text(&told(Contract::Automation, &overdue)),
            format!("BackupOverdue source={ab} since=7 interval=60")
        );
        let voted = Validators::KeyVoted { epoch: 3, keyHash: word, operator: who };
        assert_eq!(text(&told(Contract::Validators, &voted)), format!("KeyVoted epoch=3 key_hash={ab} operator={cd}"));
        let fork = Validators::ForkReported {
            by: who,
            evidenceA: vec![1; 9].into(),
            evidenceB: vec![2; 9].into(),
            signers: vec![word, B256::repeat_byte(0x11)],
        };
        assert_eq!(
            text(&told(Contract::Validators, &fork)),
            format!("ForkReported by={cd} signers={ab},{}", "11".repeat(32))
        );
        let cosigned = Anchors::Cosigned { height: 5, blockHash: word, by: who, signature: vec![3, 4].into() };
        assert_eq!(
            text(&told(Contract::Anchors, &cosigned)),
            format!("Cosigned height=5 block_hash={ab} by={cd} signature=0304")
        );
        let anchored = AnchorPoint::Anchored { ledger: word, sender: who, height: 9, blockHash: word };
        assert_eq!(
            text(&told(Contract::AnchorPoint, &anchored)),
            format!("Anchored ledger={ab} sender={cd} height=9 block_hash={ab}")
        );
    }

    #[test]
    fn a_kind_of_anchor_is_a_word() {
        let kind = B256::right_padding_from(b"evm");
        let anchored = Anchors::Anchored {
            kind,
            height: 9,
            blockHash: B256::ZERO,
            chainId: 1,
            target: Address::ZERO,
            txHash: B256::ZERO,
            by: Address::ZERO,
            data: Vec::new().into(),
        };
        let told = told(Contract::Anchors, &anchored);
        assert_eq!(told.fields[0], ("kind", "evm".to_owned()));
    }

    #[test]
    fn a_log_of_another_contract_is_unknown() {
        let event = Anchors::Cosigned { height: 5, blockHash: B256::ZERO, by: Address::ZERO, signature: vec![].into() };
        let log = Log { address: Address::repeat_byte(7), data: event.encode_log_data() };
        for contract in [Contract::Vault, Contract::Automation, Contract::Validators, Contract::AnchorPoint] {
            assert!(Event::of(contract, &log).is_err(), "{contract:?}");
        }
    }
}
