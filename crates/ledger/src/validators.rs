//! Who keeps the ledger from which height on, read from the contracts `Validators` of a governed ledger.
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
//! - **T3** With a handover the succession before it ends: the key that the handover names is in force, and those who follow by its charter, if it
//!   has one.
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
use crate::contracts::Validators;
use crate::genesis::Genesis;
use crate::governance::VOTES;
use crate::government::Government;
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

/// The key of the validators that follow this block, if it is a closing block.
pub fn succession(header: &Header) -> Option<[u8; 32]> {
    (header.mix_hash != B256::ZERO).then_some(header.mix_hash.0)
}

/// The tenures after those of the genesis and of each charter whose first block is no higher than `until`, as the state after `head` has them. Of
/// blocks more than an epoch above the head nothing is settled.
pub fn tenures<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    until: u64,
) -> Result<Vec<Tenure>, CallError<N::Error>> {
    let sight = Sight { genesis, head, nodes };
    let mut all = Vec::new();
    for government in sight.governments()? {
        // T3.
        let until = until.min(government.until.unwrap_or(u64::MAX));
        all.extend(match genesis.governance.as_ref().filter(|_| government.shares) {
            Some(governance) => resharing::tenures(&sight, governance, until)?,
            None => sight.tenures(&government, until)?,
        });
    }
    Ok(all)
}

/// The contract in force by the state after `head`; nothing on a ledger whose validators never change.
pub fn government<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
) -> Result<Option<Government>, CallError<N::Error>> {
    Sight { genesis, head, nodes }.government()
}

/// The members of the set of an epoch, in the contract in force; none where there is none.
pub fn members<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
    epoch: u64,
) -> Result<Vec<Member>, CallError<N::Error>> {
    let sight = Sight { genesis, head, nodes };
    let Some(government) = sight.government()? else { return Ok(Vec::new()) };
    sight.members(government.contract, epoch)
}

/// The accounts that govern the ledger, and those that speak for nodes of the set in force or of one to come, ascending; none where nobody governs it.
pub fn operators<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
) -> Result<Vec<Address>, CallError<N::Error>> {
    let sight = Sight { genesis, head, nodes };
    let Some(government) = sight.government()? else { return Ok(Vec::new()) };
    let (contract, epoch) = (government.contract, head.number / government.epoch_length);
    let mut all = sight.ask(contract, &Validators::governorsCall {})?.unwrap_or_default();
    let count = sight.ask(contract, &Validators::setCountCall {})?.unwrap_or_default();
    for index in (0..u64::try_from(count).unwrap_or(u64::MAX)).rev() {
        let record = sight.ask(contract, &Validators::setAtCall { index: U256::from(index) })?;
        let Some(from) = record.map(|record| record.from) else { break };
        all.extend(sight.members(contract, from)?.iter().map(|member| member.operator));
        if from <= epoch {
            break;
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The height of the last block of the tenure in which the block above `head` is, if that is settled: it is for every block of the epoch of that
/// block, and where validators share one key for the last [`resharing::SETTLED`] of them.
pub fn last_block<N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &N,
) -> Result<Option<u64>, CallError<N::Error>> {
    let Some(government) = government(genesis, head, nodes)? else { return Ok(None) };
    let epoch = head.number.saturating_add(1) / government.epoch_length;
    let next = epoch.saturating_add(1).saturating_mul(government.epoch_length);
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
    let (next, nodes) = (header.number.saturating_add(1), Above { nodes, changes });
    let sight = Sight { genesis, head: header, nodes: &nodes };
    let ends = sight.epoch_length()?.is_some_and(|length| next.is_multiple_of(length));
    if !ends || sight.government()?.is_none() {
        return Ok(B256::ZERO);
    }
    let last = tenures(genesis, header, &nodes, next)?.pop();
    Ok(last.filter(|tenure| tenure.first == next).map_or(B256::ZERO, |tenure| B256::new(tenure.key)))
}

/// Who votes of a set, ascending.
pub(crate) fn voters_of(members: &[Member]) -> Vec<[u8; 32]> {
    let mut voters: Vec<_> = members.iter().filter(|member| member.votes).map(|member| member.key).collect();
    voters.sort_unstable();
    voters
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

    /// The members of the set of an epoch, as that contract has them.
    pub(crate) fn members(&self, contract: Address, epoch: u64) -> Result<Vec<Member>, CallError<N::Error>> {
        let set = self.ask(contract, &Validators::setOfCall { epoch_: epoch })?.unwrap_or_default();
        Ok(set.into_iter().map(Member::from).collect())
    }

    /// Of validators that sign one by one, all sets with another key than the one before. The first set is that of the genesis or of the charter, which
    /// begins with its block.
    fn tenures(&self, government: &Government, until: u64) -> Result<Vec<Tenure>, CallError<N::Error>> {
        let contract = government.contract;
        let count = self.ask(contract, &Validators::setCountCall {})?.unwrap_or_default();
        let (mut tenures, mut key) = (Vec::new(), None);
        for index in 0..u64::try_from(count).unwrap_or(u64::MAX) {
            let record = self.ask(contract, &Validators::setAtCall { index: U256::from(index) })?;
            let Some(epoch) = record.map(|record| record.from) else { break };
            let first = epoch.saturating_mul(government.epoch_length);
            if first > until {
                break;
            }
            let voters = voters_of(&self.members(contract, epoch)?);
            let next = Committee::key_of(&voters);
            let before = *key.get_or_insert(next);
            if next != before && can_agree(&voters) {
                key = Some(next);
                tenures.push(Tenure { epoch, first, key: next, voters, set: epoch, polynomial: None });
            }
        }
        Ok(tenures)
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
