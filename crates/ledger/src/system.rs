//! What the ledger itself does at the end of a block: it calls `Automation.tick`, so that no keeper is needed.
//!
//! The call is an ordinary transaction of an account whose secret everybody can compute, so every tool shows it, its receipt and its
//! logs. The rules of blocks let nothing else of that account in: it holds no right, and what it says is the same on every node.
//!
//! - **Owns** the account, the transactions it ever makes, and when one is due.
//! - **Does not** run it.
//!
//! # Invariants
//! - **S1** A transaction of the system account stands last in its block and is the one that is due there, byte for byte.
//! - **S2** Once it has made `Automation`, every block but a handover ends with a tick, after `Validators` is made on a governed ledger. What comes of a tick cannot stop a block.
//!
//! Format: `docs/design/ledger.md`, section *The ledger's own calls*.

use std::sync::LazyLock;

use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::{Address, Bytes, TxKind};
use alloy_sol_types::{SolCall, SolConstructor};
use alloy_trie::KECCAK_EMPTY;
use blockhouse_crypto::hash::hash;
use blockhouse_crypto::{AccountSecret, Secret};

use crate::contracts::Automation;
use crate::genesis::Genesis;
use crate::state::{State, StateError, StateNodes};
use crate::transaction::Request;

/// Everybody can compute this secret: the account is a name, not a power.
const CONTEXT: &str = "blockhouse v1 system account";
/// Gas of the transaction that makes `Automation`.
pub const MAKING_GAS: u64 = 4_000_000;
/// Gas of the transaction that makes `Validators`: the greatest set it may begin with fits.
pub const GOVERNING_GAS: u64 = 40_000_000;
/// Gas of a tick: several times what the contract bounds itself to.
pub const TICK_GAS: u64 = 1_000_000;

static ACCOUNT: LazyLock<AccountSecret> = LazyLock::new(|| {
    AccountSecret::try_new(&Secret::new(hash(CONTEXT, &[]))).expect("a test shows that it is a secret of the curve")
});

/// The system account.
pub static SYSTEM_ADDRESS: LazyLock<Address> = LazyLock::new(|| Address::new(ACCOUNT.account().to_bytes()));

/// Where `Automation` stands once it is made: the same on every ledger.
pub fn automation_address() -> Address {
    SYSTEM_ADDRESS.create(0)
}

/// Whether a block ends with a call of the ledger's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// It must not.
    Nothing,
    /// A network makes `Automation` with it; an embedded ledger does without until its owner needs it.
    Making(TxEnvelope),
    /// It must: with a tick, or with what makes `Validators` on a governed ledger.
    Must(TxEnvelope),
}

impl Due {
    pub(crate) const fn transaction(&self) -> Option<&TxEnvelope> {
        match self {
            Self::Nothing => None,
            Self::Making(tx) | Self::Must(tx) => Some(tx),
        }
    }
}

/// What is due in the block above `parent`.
pub(crate) fn due<N: StateNodes>(genesis: &Genesis, parent: &Header, nodes: &N) -> Result<Due, StateError<N::Error>> {
    let state = State::at(parent.state_root, nodes);
    let nonce = state.account(&SYSTEM_ADDRESS)?.map_or(0, |record| record.nonce);
    if nonce == 1
        && let Some(governance) = &genesis.governance
    {
        return Ok(Due::Must(sign(
            genesis,
            nonce,
            (TxKind::Create, governance.creation(genesis, genesis.ledger_key)),
            GOVERNING_GAS,
        )));
    }
    if nonce > 0 {
        let input = Automation::tickCall {}.abi_encode().into();
        return Ok(Due::Must(sign(genesis, nonce, (TxKind::Call(automation_address()), input), TICK_GAS)));
    }
    let vault = state.account(&genesis.vault_address())?;
    if vault.is_none_or(|record| record.code_hash == KECCAK_EMPTY) {
        return Ok(Due::Nothing);
    }
    let arguments = Automation::constructorCall { vault_: genesis.vault_address(), access_: genesis.access_address() };
    let code: Bytes = [&Automation::BYTECODE[..], &arguments.abi_encode()].concat().into();
    Ok(Due::Making(sign(genesis, nonce, (TxKind::Create, code), MAKING_GAS)))
}

fn sign(genesis: &Genesis, nonce: u64, (to, input): (TxKind, Bytes), gas: u64) -> TxEnvelope {
    Request { chain_id: genesis.chain_id, nonce, to, input, gas }.sign(&ACCOUNT)
}
