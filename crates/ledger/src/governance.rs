//! Governance: what a genesis, or a charter, says of who keeps the ledger, and of who may change that.
//!
//! - **Owns** its bytes, and those that create `Validators` from it.
//! - **Does not** read the contract: `validators` does.
//!
//! # Invariants
//! - **V1** The contract begins with the set whose key the genesis, or the handover of the charter, names. That of a genesis stands at one address on
//!   every ledger.
//!
//! Format: `docs/design/ledger.md`, section *Genesis*.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolConstructor;
use blockhouse_types::{Account, DecodeError, Decoder, Encoder};
use revm::primitives::eip3860::MAX_INITCODE_SIZE;

use crate::certificate::{Committee, quorum};
use crate::contracts::{GroupValidators, Validators};
use crate::genesis::Genesis;
use crate::resharing::{Group, POLYNOMIAL_MAX, read_polynomial};
use crate::system::{GOVERNING_GAS, SYSTEM_ADDRESS};

/// From the epoch in which a change is made to the one in which it is in force. With two, who votes in the next epoch is settled before this
/// one begins: so an engine knows its last block in time.
pub const LEAD: u64 = 2;
/// The fewest blocks of an epoch: more than an honest network ever has above its last final block.
pub const EPOCH_LENGTH_MIN: u64 = 16;
/// The most blocks of an epoch.
pub const EPOCH_LENGTH_MAX: u64 = 1 << 32;
/// Blocks of an epoch unless told otherwise: a day of a ledger that is idle but for its heartbeat.
pub const EPOCH_LENGTH: u64 = 1440;
/// The fewest validators of a governed network: fewer do without each other in no change.
pub const VALIDATORS_MIN: usize = 4;
/// The most: what the contract takes.
pub const VALIDATORS_MAX: usize = 64;
/// The most governors: what the contract takes.
pub const GOVERNORS_MAX: usize = 16;
/// The longest address of a node.
const HINT_MAX: usize = 259;
/// The contract's word for nodes that vote.
pub(crate) const VOTES: u8 = 0;
/// The contract's word for keys of the members, each its own.
const ONE_BY_ONE: u8 = 1;
/// The same for one key that every set hands on to the next.
const ONE_FOR_ALL: u8 = 0;

/// Where `Validators` stands once it is made from a genesis: the same on every such ledger.
pub fn validators_address() -> Address {
    SYSTEM_ADDRESS.create(1)
}

/// A validator that the ledger begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// Its identity.
    pub key: [u8; 32],
    /// `host:port` where other nodes reach it.
    pub address: String,
    /// The account that speaks for it.
    pub operator: Account,
}

/// Who keeps a ledger, and who may change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governance {
    /// Blocks in an epoch: epoch e begins at height e × this.
    pub epoch_length: u64,
    /// Who may change the validators.
    pub governors: Vec<Account>,
    /// How many of them it takes.
    pub threshold: u8,
    /// The first validators, ascending by key.
    pub validators: Vec<Founder>,
    /// The public polynomial of the one key that they share, as the engine encodes it; none if they sign one by one.
    pub group: Option<Vec<u8>>,
}

impl Governance {
    /// The key that its first validators have in common.
    pub fn key(&self) -> [u8; 32] {
        let voters = self.validators.iter().map(|founder| founder.key).collect::<Vec<_>>();
        match &self.group {
            None => Committee::key_of(&voters),
            // Of what is no polynomial no ledger begins: `fault`.
            Some(polynomial) => Group { voters, polynomial: polynomial.clone() }.key().unwrap_or_default(),
        }
    }

    /// True if it is a polynomial of these validators, or they have none.
    fn fits(&self) -> bool {
        let Some(polynomial) = &self.group else { return true };
        let (count, needed) = (self.validators.len(), quorum(self.validators.len()));
        read_polynomial(polynomial)
            .is_some_and(|read| (read.required() as usize, read.total().get() as usize) == (needed, count))
    }

    pub(crate) fn write(&self, encoder: &mut Encoder) {
        encoder.u64(self.epoch_length).u8(self.threshold);
        encoder.list(self.governors.iter(), |encoder, account| {
            encoder.raw(account.as_bytes());
        });
        encoder.list(self.validators.iter(), |encoder, founder| {
            encoder.raw(&founder.key).bytes(founder.address.as_bytes()).raw(founder.operator.as_bytes());
        });
        if let Some(polynomial) = &self.group {
            encoder.bytes(polynomial);
        }
    }

    /// Reads it; `shares` says whether the validators share one key.
    pub(crate) fn read(decoder: &mut Decoder<'_>, shares: bool) -> Result<Self, DecodeError> {
        let (epoch_length, threshold) = (decoder.u64()?, decoder.u8()?);
        let governors = decoder.list("governors", GOVERNORS_MAX, |d| d.array().map(Account::new))?;
        let validators = decoder.list("validators", VALIDATORS_MAX, |decoder| {
            let key = decoder.array()?;
            let address = decoder.text("address", HINT_MAX)?.to_owned();
            Ok(Founder { key, address, operator: Account::new(decoder.array()?) })
        })?;
        let group = if shares { Some(decoder.bytes("polynomial", POLYNOMIAL_MAX)?.to_vec()) } else { None };
        Ok(Self { epoch_length, governors, threshold, validators, group })
    }

    /// What is wrong with it, if anything: the contract could not be made of that.
    pub(crate) fn fault(&self, genesis: &Genesis) -> Option<&'static str> {
        let faults = [
            (!self.fits(), "the polynomial is none of these validators"),
            (self.key() != genesis.ledger_key, "the validators are not those that the ledger key names"),
            (genesis.gas_limit < 2 * GOVERNING_GAS, "a block has too little gas to make the contract that governs it"),
        ];
        let own = || faults.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why);
        self.fault_of_terms().or_else(own).or_else(|| self.fault_of_code(genesis, genesis.ledger_key))
    }

    /// The same of what it says by itself.
    pub(crate) fn fault_of_terms(&self) -> Option<&'static str> {
        let range = EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX;
        let mut governors = self.governors.clone();
        governors.sort_unstable();
        governors.dedup();
        let faults = [
            (!range.contains(&self.epoch_length), "the length of an epoch is out of range"),
            (governors.len() != self.governors.len(), "a governor is named twice"),
            (self.governors.len() > GOVERNORS_MAX, "there are too many governors"),
            (self.governors.iter().any(Account::is_zero), "a governor is the zero account"),
            (self.threshold == 0, "changes need nobody's word"),
            (usize::from(self.threshold) > self.governors.len(), "changes need more governors than there are"),
            (self.validators.len() < VALIDATORS_MIN, "there are too few validators to be governed"),
            (self.validators.len() > VALIDATORS_MAX, "there are too many validators to be governed"),
            (!self.validators.is_sorted_by(|a, b| a.key < b.key), "the validators do not ascend"),
            (self.validators.iter().any(|it| it.key == [0; 32] || it.operator.is_zero()), "a validator is zero"),
            (self.validators.iter().any(|it| !is_hint(&it.address)), "a validator's address is none"),
        ];
        faults.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why)
    }

    /// The same of the contract that is made of it.
    pub(crate) fn fault_of_code(&self, genesis: &Genesis, key: [u8; 32]) -> Option<&'static str> {
        let is_long = self.creation(genesis, key).len() > MAX_INITCODE_SIZE;
        is_long.then_some("the addresses of the validators are too long for one contract")
    }

    /// The init code of `Validators`, which the ledger itself creates, with the ledger key that is in force then.
    pub(crate) fn creation(&self, genesis: &Genesis, key: [u8; 32]) -> Bytes {
        let constructor = Validators::constructorCall {
            access_: genesis.access_address(),
            setup: Validators::Setup {
                epochLength: self.epoch_length,
                lead: LEAD,
                scheme: if self.group.is_some() { ONE_FOR_ALL } else { ONE_BY_ONE },
                keyHash: B256::new(key),
                governors: self.governors.iter().map(|account| Address::new(account.to_bytes())).collect(),
                threshold: U256::from(self.threshold),
            },
            first: self.validators.iter().map(Founder::member).collect(),
        };
        // The two are made of the same.
        let code = if self.group.is_some() { &GroupValidators::BYTECODE } else { &Validators::BYTECODE };
        [&code[..], &constructor.abi_encode()].concat().into()
    }
}

impl Founder {
    fn member(&self) -> Validators::Validator {
        Validators::Validator {
            p2pKey: B256::new(self.key),
            consensusKey: self.key.to_vec().into(),
            hint: self.address.clone().into_bytes().into(),
            operator: Address::new(self.operator.to_bytes()),
            role: VOTES,
        }
    }
}

fn is_hint(text: &str) -> bool {
    (1..=HINT_MAX).contains(&text.len())
}
