//! Who keeps the ledger from which height on, read from the contract `Validators` of a governed ledger.
//!
//! - **Owns** which key of a network follows which, and at which height: the rule of succession.
//! - **Does not** change a set: the contract's governors do.
//!
//! A tenure is the time of one set of validators. It ends with a *closing block*: the last block of an epoch, if others vote from the
//! next block on. The mix hash of a closing block is their key, and zero in every other block. So who checks headers alone follows
//! the keys from one closing block to the next. Where the validators share one key, that key follows itself, and another set takes over only
//! once it has its shares: [`resharing`].
//!
//! # Invariants
//! - **T1** The key of a tenure follows from the state after the block before it, and stands in that block's header.
//! - **T2** A set that could not agree on anything, for its keys are none, is passed over: the one before it goes on.
//! - **T3** After a handover there is no succession any more: the key that the handover names is in force.
//!
//! Format: `docs/design/ledger.md`, section *Succession*.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use alloy_trie::{KECCAK_EMPTY, Nibbles};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::ed25519::PublicKey;

use crate::call::{Call, CallError, CallOutcome, call};
use crate::certificate::Committee;
use crate::contracts::{Access, Validators};
use crate::genesis::Genesis;
use crate::governance::{Governance, VOTES, validators_address};
use crate::resharing;
use crate::state::{State, StateChanges, StateNodes, StateTrie};

/// A node of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub key: [u8; 32],
    /// Where it says that it is reached, as it stands on the ledger: maybe no address at all.
    pub address: String,
    /// The account that speaks for it.
    pub operator: Address,
    /// Whether it votes; else it follows.
    pub votes: bool,
}

impl From<Validators::Validator> for Member {
    fn from(node: Validators::Validator) -> Self {
        Self {
            key: node.p2pKey.0,
            address: String::from_utf8_lossy(&node.hint).into_owned(),
            operator: node.operator,
            votes: node.role == VOTES,
        }
    }
}

/// A set of validators with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// The epoch with which it begins.
    pub epoch: u64,
    /// The first block that it certifies.
    pub first: u64,
    /// Its key.
    pub key: [u8; 32],
    /// Who votes, ascending.
    pub voters: Vec<[u8; 32]>,
    /// The epoch from which on the contract names its set: where a resharing took long, an earlier one.
    pub set: u64,
    /// The public polynomial of their shares, if they share one key.
    pub polynomial: Option<Vec<u8>>,
}

/// Whether more may be settled of the end of a tenure above a block of that height than was below it.
pub const fn settles(governance: &Governance, height: u64) -> bool {
    let next = height.saturating_add(1);
    let is_outcome =
        governance.group.is_some() && next.saturating_add(resharing::SETTLED).is_multiple_of(governance.epoch_length);
    next.is_multiple_of(governance.epoch_length) || is_outcome
}

/// The key of the validators that follow this block, if it is a closing block.
pub fn succession(header: &Header) -> Option<[u8; 32]> {
    (header.mix_hash != B256::ZERO).then_some(header.mix_hash.0)
}

/// The tenures after that of the genesis whose first block is no higher than `until`, as the state after `head` has them. Of blocks more
/// than an epoch above the head nothing is settled.
pub fn tenures<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    until: u64,
) -> Result<Vec<Tenure>, CallError<N::Error>> {
    let Some(governance) = &genesis.governance else { return Ok(Vec::new()) };
    let sight = Sight { genesis, head, nodes };
    if !sight.stands(validators_address())? {
        return Ok(Vec::new());
    }
    let until = until.min(sight.handed_over()?.unwrap_or(u64::MAX));
    if let Some(polynomial) = &governance.group {
        return resharing::tenures(&sight, governance, polynomial, until);
    }
    let count = sight.ask(validators_address(), &Validators::setCountCall {})?.unwrap_or_default();
    let (mut tenures, mut key) = (Vec::new(), genesis.ledger_key);
    for index in 0..u64::try_from(count).unwrap_or(u64::MAX) {
        let record = sight.ask(validators_address(), &Validators::setAtCall { index: U256::from(index) })?;
        let Some(epoch) = record.map(|record| record.from) else { break };
        let first = epoch.saturating_mul(governance.epoch_length);
        if first > until {
            break;
        }
        let mut voters: Vec<_> =
            sight.members(epoch)?.into_iter().filter(|member| member.votes).map(|member| member.key).collect();
        voters.sort_unstable();
        let next = Committee::key_of(&voters);
        if next != key && can_agree(&voters) {
            key = next;
            tenures.push(Tenure { epoch, first, key, voters, set: epoch, polynomial: None });
        }
    }
    Ok(tenures)
}

/// The members of the set of an epoch; none where there is none.
pub fn members<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    epoch: u64,
) -> Result<Vec<Member>, CallError<N::Error>> {
    let sight = Sight { genesis, head, nodes };
    if sight.stands(validators_address())? { sight.members(epoch) } else { Ok(Vec::new()) }
}

/// The height of the last block of the tenure in which the block above `head` is, if that is settled: it is for every block of the epoch of that
/// block, and where validators share one key for the last [`resharing::SETTLED`] of them.
pub fn last_block<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
) -> Result<Option<u64>, CallError<N::Error>> {
    let Some(governance) = &genesis.governance else { return Ok(None) };
    let epoch = head.number.saturating_add(1) / governance.epoch_length;
    let next = epoch.saturating_add(1).saturating_mul(governance.epoch_length);
    let last = tenures(genesis, head, nodes, next)?.pop();
    Ok(last.filter(|tenure| tenure.first == next).map(|tenure| tenure.first - 1))
}

/// What the mix hash of a block must be, whose header is `header` but for that, and whose changes above `nodes` are these.
pub(crate) fn mix_hash<N: StateNodes>(
    genesis: &Genesis,
    header: &Header,
    nodes: &N,
    changes: &StateChanges,
) -> Result<B256, CallError<N::Error>> {
    let next = header.number.saturating_add(1);
    let ends = genesis.governance.as_ref().is_some_and(|governance| next.is_multiple_of(governance.epoch_length));
    if !ends {
        return Ok(B256::ZERO);
    }
    let last = tenures(genesis, header, &Above { nodes, changes }, next)?.pop();
    Ok(last.filter(|tenure| tenure.first == next).map_or(B256::ZERO, |tenure| B256::new(tenure.key)))
}

/// T2.
pub(crate) fn can_agree(voters: &[[u8; 32]]) -> bool {
    !voters.is_empty() && voters.iter().all(|key| PublicKey::decode(Copying(key)).is_ok())
}

/// The contracts as of a head.
pub(crate) struct Sight<'a, N> {
    pub(crate) genesis: &'a Genesis,
    pub(crate) head: &'a Header,
    pub(crate) nodes: &'a N,
}

impl<N: StateNodes> Sight<'_, N> {
    pub(crate) fn stands(&self, contract: Address) -> Result<bool, CallError<N::Error>> {
        let record = State::at(self.head.state_root, self.nodes).account(&contract);
        let record = record.map_err(|source| CallError::View(source.into()))?;
        Ok(record.is_some_and(|record| record.code_hash != KECCAK_EMPTY))
    }

    /// The height of the first handover.
    pub(crate) fn handed_over(&self) -> Result<Option<u64>, CallError<N::Error>> {
        let access = self.genesis.access_address();
        if self.ask(access, &Access::handoversCall {})?.unwrap_or_default() == 0 {
            return Ok(None);
        }
        Ok(self.ask(access, &Access::handoverAtCall { n: 1 })?.map(|handover| handover.height))
    }

    pub(crate) fn members(&self, epoch: u64) -> Result<Vec<Member>, CallError<N::Error>> {
        let set = self.ask(validators_address(), &Validators::setOfCall { epoch_: epoch })?.unwrap_or_default();
        Ok(set.into_iter().map(Member::from).collect())
    }

    /// The answer of a contract; nothing where it refuses.
    pub(crate) fn ask<C: SolCall>(&self, to: Address, question: &C) -> Result<Option<C::Return>, CallError<N::Error>> {
        let read = Call::read(Address::ZERO, to, question.abi_encode());
        match call(self.genesis, self.head, self.nodes, &read)?.outcome {
            CallOutcome::Returned(output) => Ok(C::abi_decode_returns(&output).ok()),
            _ => Ok(None),
        }
    }
}

/// A state with what one block changes in it.
struct Above<'a, N> {
    nodes: &'a N,
    changes: &'a StateChanges,
}

impl<N: StateNodes> StateNodes for Above<'_, N> {
    type Error = N::Error;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, N::Error> {
        match self.changes.nodes.get(&(*trie, *path)) {
            Some(node) => Ok(node.clone()),
            None => self.nodes.node(trie, path),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, N::Error> {
        match self.changes.codes.get(hash) {
            Some(code) => Ok(Some(code.clone())),
            None => self.nodes.code(hash),
        }
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, N::Error> {
        self.nodes.block_hash(height)
    }
}
