//! Handovers as transactions say them: to which key, above which block, and with whose word.
//!
//! - **Owns** the two forms of the call, and what recovery accounts sign where it takes several of them.
//! - **Does not** make a block a handover: its execution does (`execute`, B5).
//!
//! # Invariants
//! - **D1** What is signed here is what `Access` computes: a test compares the two.
//! - **D2** [`may_hand_over`] says of a call what `Access` would, but for its parent, on a chain on which the call does not stand.
//!
//! Format: `docs/design/contracts.md`, section *Access*; `docs/design/ledger.md`, section *Handover*.

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolCall as _, SolStruct, eip712_domain};
use blockhouse_crypto::{AccountSecret, account};
use blockhouse_types::Account;

use crate::call::{Call, CallError, CallOutcome, call};
use crate::contracts::Access::{self, handoverCall, handoverWithCall};
use crate::genesis::Genesis;
use crate::state::StateNodes;

/// The most recovery accounts that it can take: what the contract takes.
pub const THRESHOLD_MAX: usize = 16;
/// The length of a signature: `r 32 │ s 32 │ v 1`, v being 27 or 28.
pub const APPROVAL_LEN: usize = 65;
/// What the contract's precompile adds to the parity.
const V: u8 = 27;

mod typed {
    alloy_sol_types::sol! {
        #[derive(Debug)]
        struct Handover {
            bytes32 nextKey;
            bytes32 parentHash;
        }

        #[derive(Debug)]
        struct RecoveryChange {
            uint64 number;
            address[] added;
            address[] removed;
            uint256 threshold;
        }
    }
}

/// The word of a recovery account, as the contract takes it.
pub type Approval = [u8; APPROVAL_LEN];

/// A call that hands a ledger over, if it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The key that it names.
    pub next_key: [u8; 32],
    /// The hash of the block above which it counts.
    pub parent: B256,
    /// The word of other recovery accounts than its sender, ascending by account; none where one is enough.
    pub approvals: Vec<Bytes>,
}

impl Handover {
    /// Reads the input of a transaction, if it is that of a handover.
    pub fn read(input: &[u8]) -> Option<Self> {
        if let Ok(handoverCall { nextKey, parentHash }) = handoverCall::abi_decode(input) {
            return Some(Self { next_key: nextKey.0, parent: parentHash, approvals: Vec::new() });
        }
        let handoverWithCall { nextKey, parentHash, approvals } = handoverWithCall::abi_decode(input).ok()?;
        Some(Self { next_key: nextKey.0, parent: parentHash, approvals })
    }

    /// The input of a transaction: in the form that every `Access` knows, where nobody else has to agree.
    pub fn input(&self) -> Bytes {
        let (next, parent) = (B256::new(self.next_key), self.parent);
        if self.approvals.is_empty() {
            return handoverCall { nextKey: next, parentHash: parent }.abi_encode().into();
        }
        handoverWithCall { nextKey: next, parentHash: parent, approvals: self.approvals.clone() }.abi_encode().into()
    }

    /// What other recovery accounts sign.
    pub fn digest(&self, chain_id: u64, access: Address) -> [u8; 32] {
        let handover = typed::Handover { nextKey: B256::new(self.next_key), parentHash: self.parent };
        digest(&handover, chain_id, access)
    }

    /// How many recovery accounts agree to it, its sender among them: each counts once, what is no signature of one counts nothing. As the
    /// contract counts.
    pub fn count(
        &self,
        (chain_id, access): (u64, Address),
        sender: Address,
        is_recovery: impl Fn(&Address) -> bool,
    ) -> u64 {
        let digest = self.digest(chain_id, access);
        let (mut count, mut last) = (u64::from(is_recovery(&sender)), Address::ZERO);
        for signature in &self.approvals {
            let Some(signer) = signer(&digest, signature) else { continue };
            if signer > last && signer != sender && is_recovery(&signer) {
                last = signer;
                count += 1;
            }
        }
        count
    }
}

/// A change of who may hand the ledger over, and of how many it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryChange {
    /// How many such changes were made before.
    pub number: u64,
    /// Who comes.
    pub added: Vec<Account>,
    /// Who goes.
    pub removed: Vec<Account>,
    /// How many it takes from then on.
    pub threshold: u8,
}

impl RecoveryChange {
    /// The call that makes it, with the word of others than its sender.
    pub fn call(&self, approvals: Vec<Bytes>) -> Access::changeRecoveryCall {
        Access::changeRecoveryCall {
            added: addresses(&self.added),
            removed: addresses(&self.removed),
            threshold: U256::from(self.threshold),
            approvals,
        }
    }

    /// What recovery accounts sign, where it takes several.
    pub fn digest(&self, chain_id: u64, access: Address) -> [u8; 32] {
        let change = typed::RecoveryChange {
            number: self.number,
            added: addresses(&self.added),
            removed: addresses(&self.removed),
            threshold: U256::from(self.threshold),
        };
        digest(&change, chain_id, access)
    }
}

/// Signs what a recovery account agrees to.
pub fn approve(digest: &[u8; 32], secret: &AccountSecret) -> Approval {
    let mut signature = secret.sign(digest);
    if let Some(v) = signature.last_mut() {
        *v += V;
    }
    signature
}

/// Who signed that; nobody, if it is no signature in the one form that is taken.
pub fn signer(digest: &[u8; 32], signature: &[u8]) -> Option<Address> {
    let mut signature = Approval::try_from(signature).ok()?;
    let v = signature.last_mut()?;
    *v = v.checked_sub(V)?;
    let account = account::recover(digest, &signature).ok()?;
    Some(Address::new(account.to_bytes()))
}

/// The transaction that makes a block a handover, if one does: it stands alone, but for the charter behind it. Whether it is one is not asked.
pub fn leading(transactions: &[TxEnvelope]) -> Option<&TxEnvelope> {
    match transactions {
        [handover] => Some(handover),
        [handover, charter] if charter.kind().is_create() => Some(handover),
        _ => None,
    }
}

/// True for a call in either form, whatever comes of it.
pub fn is_call(input: &[u8]) -> bool {
    input.starts_with(&handoverCall::SELECTOR) || needs_word(input)
}

/// True for a call in the form that carries the word of others, which a contract of the first version does not know.
pub fn needs_word(input: &[u8]) -> bool {
    input.starts_with(&handoverWithCall::SELECTOR)
}

/// Whether the sender of that transaction may hand the ledger over so, by the state after `head`: with as many recovery accounts as it takes.
/// Whether it stands on its parent is not asked.
pub fn may_hand_over<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    tx: &TxEnvelope,
) -> Result<bool, CallError<N::Error>> {
    let (Some(handover), Ok(by)) = (Handover::read(tx.input()), tx.recover_signer()) else { return Ok(false) };
    let ask = |input: Vec<u8>| -> Result<Option<bool>, CallError<N::Error>> {
        let asked = Call::read(Address::ZERO, genesis.access_address(), input);
        Ok(match call(genesis, head, nodes, &asked)?.outcome {
            CallOutcome::Returned(output) => Access::mayHandOverCall::abi_decode_returns(&output).ok(),
            _ => None,
        })
    };
    let is_plain = handover.approvals.is_empty();
    let (next, parent) = (B256::new(handover.next_key), handover.parent);
    let question =
        Access::mayHandOverCall { by, nextKey: next, parentHash: parent, approvals: handover.approvals }.abi_encode();
    match ask(question)? {
        Some(answer) => Ok(answer),
        // A contract of the first version: one is enough, and it knows the plain form alone.
        None if is_plain => Ok(ask(Access::isRecoveryCall(by).abi_encode())?.unwrap_or(false)),
        None => Ok(false),
    }
}

fn digest(message: &impl SolStruct, chain_id: u64, access: Address) -> [u8; 32] {
    let domain: Eip712Domain = eip712_domain! {
        name: "Blockhouse Access",
        version: "1",
        chain_id: chain_id,
        verifying_contract: access,
    };
    message.eip712_signing_hash(&domain).0
}

fn addresses(accounts: &[Account]) -> Vec<Address> {
    accounts.iter().map(|account| Address::new(account.to_bytes())).collect()
}
