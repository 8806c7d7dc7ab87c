//! Charters: how a network is governed that takes over a ledger which others began.
//!
//! A genesis cannot say it any more, and `Access` stores of a handover 32 bytes. So these 32 bytes commit to the charter: the ledger key that the
//! handover names is that of the charter's validators *under this charter*. Recovery accounts sign that key, certificates of the first validators
//! show the charter's hash, and the fingerprint commits to both. The block of the handover makes the contract `Validators` from the charter.
//!
//! - **Owns** the hash and the key of a charter, the account that makes its contract, and the transaction that does.
//! - **Does not** say which contract is in force: `government` does.
//!
//! # Invariants
//! - **C1** Behind a handover stands the one transaction that makes its charter, byte for byte, or nothing. It stands nowhere else.
//! - **C2** A handover to a chartered key with another charter behind it is no valid block.
//!
//! Format: `docs/design/ledger.md`, section *Charter*.

use std::sync::LazyLock;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, TxKind, U256};
use alloy_sol_types::{SolConstructor, SolType};
use blockhouse_crypto::hash::hash;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_types::{Account, Encoder};
use revm::primitives::eip3860::MAX_INITCODE_SIZE;

use crate::certificate::Committee;
use crate::contracts::Validators;
use crate::genesis::Genesis;
use crate::governance::{Founder, Governance, LEAD};
use crate::handover::Handover;
use crate::transaction::Request;

/// Everybody can compute this secret, as that of the system account: it is a name, not a power.
const ACCOUNT_CONTEXT: &str = "blockhouse v1 charter account";
const CONTEXT: &str = "blockhouse v1 charter";
/// Gas of the transaction that makes the contract. With the handover before it, it has room in a block of a ledger that one host began.
pub const CHARTER_GAS: u64 = 24_000_000;
/// The same, and the handover's.
const BLOCK_GAS: u64 = CHARTER_GAS + 2_000_000;

static ACCOUNT: LazyLock<AccountSecret> = LazyLock::new(|| {
    AccountSecret::try_new(&Secret::new(hash(ACCOUNT_CONTEXT, &[])))
        .expect("a test shows that it is a secret of the curve")
});

type Parameters = <Validators::constructorCall as SolConstructor>::Parameters<'static>;

/// The account that makes the contracts of charters, one after the other.
pub static CHARTER_ADDRESS: LazyLock<Address> = LazyLock::new(|| Address::new(ACCOUNT.account().to_bytes()));

/// Where the contract of a charter stands, counted from 0.
pub fn contract_address(number: u64) -> Address {
    CHARTER_ADDRESS.create(number)
}

impl Governance {
    /// The hash of the charter that says this.
    pub fn charter_hash(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        self.write(&mut encoder);
        hash(CONTEXT, encoder.as_slice())
    }

    /// The ledger key of its validators under it.
    pub fn charter_key(&self) -> [u8; 32] {
        let keys: Vec<_> = self.validators.iter().map(|founder| founder.key).collect();
        Committee::chartered_key_of(&self.charter_hash(), &keys)
    }

    /// What is wrong with it as a charter of that ledger, if anything.
    pub fn charter_fault(&self, genesis: &Genesis) -> Option<&'static str> {
        let faults = [
            (self.group.is_some(), "the validators of a charter sign one by one"),
            (genesis.gas_limit < BLOCK_GAS, "a block has too little gas to make the contract of a charter"),
        ];
        let own = faults.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why);
        own.or_else(|| self.fault_of_terms()).or_else(|| self.fault_of_code(genesis, self.charter_key()))
    }
}

/// The transaction that makes the contract of a charter, by the account that made so many before.
pub fn making(genesis: &Genesis, charter: &Governance, nonce: u64) -> TxEnvelope {
    let (to, input) = (TxKind::Create, charter.creation(genesis, charter.charter_key()));
    Request { chain_id: genesis.chain_id, nonce, to, input, gas: CHARTER_GAS }.sign(&ACCOUNT)
}

/// The charter of which the block of these two transactions consists behind its handover, if they are that (C1, C2).
pub(crate) fn behind_handover(
    genesis: &Genesis,
    handover: &TxEnvelope,
    made: &TxEnvelope,
    nonce: u64,
) -> Option<Governance> {
    let handover = Handover::read(handover.input())?;
    let charter = read(genesis, made)?;
    let is_it = charter.charter_key() == handover.next_key && *made == making(genesis, &charter, nonce);
    is_it.then_some(charter)
}

/// The charter from which a transaction makes a contract. That it is written so, and by whom, is the caller's to compare.
fn read(genesis: &Genesis, tx: &TxEnvelope) -> Option<Governance> {
    // Before its parts are read: they may name each other, and so be more than it is long.
    let code = Some(tx.input()).filter(|code| tx.kind().is_create() && code.len() <= MAX_INITCODE_SIZE)?;
    let arguments = code.strip_prefix(&Validators::BYTECODE[..])?;
    let (_, setup, first) = <Parameters as SolType>::abi_decode_params(arguments).ok()?;
    let validators = first.iter().map(founder).collect::<Option<Vec<_>>>()?;
    let charter = Governance {
        epoch_length: setup.epochLength,
        governors: setup.governors.into_iter().map(|governor| Account::new(governor.into_array())).collect(),
        threshold: u8::try_from(setup.threshold).ok()?,
        validators,
        group: None,
    };
    let is_one = setup.lead == LEAD
        && setup.keyHash == B256::new(charter.charter_key())
        && setup.threshold == U256::from(charter.threshold)
        && charter.charter_fault(genesis).is_none();
    is_one.then_some(charter)
}

fn founder(node: &Validators::Validator) -> Option<Founder> {
    let address = String::from_utf8(node.hint.to_vec()).ok()?;
    Some(Founder { key: node.p2pKey.0, address, operator: Account::new(node.operator.into_array()) })
}
