//! Governing a network from outside: what its validators are and will be, and the transactions by which governors change them.
//!
//! - **Owns** the questions to the contract `Validators` over JSON-RPC, and the sending of one call until it is final.
//! - **Does not** decide anything, nor check what a node says: who is shown wrong sets signs nothing but what he named himself.
//!
//! Contract: `docs/design/contracts.md`, section *Validators*.

mod posting;

use std::time::{Duration, Instant};

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_json_rpc::ResponsePayload;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall, SolEvent, SolInterface as _};
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::charter::{CHARTER_ADDRESS, contract_address};
use blockhouse_ledger::contracts::Access;
use blockhouse_ledger::contracts::GroupValidators::GroupValidatorsErrors;
use blockhouse_ledger::contracts::Validators::{self as Contract, ValidatorsErrors};
use blockhouse_ledger::governance::{LEAD, validators_address};
use blockhouse_ledger::{Genesis, Member, Request};
use serde_json::{Value, json};

pub use posting::Posting;

use super::enrolment::{Address as EnrolledAddress, Enrolment};
use super::speaker::address;
use crate::remote::{NodeError, Remote, RemoteError, SendError};

/// Gas of a call: the greatest set is enacted under it.
const GAS: u64 = 20_000_000;
/// The most blocks of one question for logs: nodes answer no more.
const LOG_RANGE: u64 = 100_000;
/// Between two looks for a transaction that was sent.
const LOOK: Duration = Duration::from_millis(200);

/// The contract's word for one node in the place of another.
const REPLACE: u8 = 2;

/// Why a network was not governed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoverningError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the node could not be asked")]
    Node(#[source] NodeError),
    #[error("the validators of this ledger never change: neither its genesis nor the last handover names governors")]
    NotGoverned,
    #[error(
        "the contract that names the validators is not made yet: the ledger makes it when a vault has taken it over"
    )]
    NotMade,
    #[error("the contract refuses: {why}")]
    Refused { why: String },
    #[error("the node refused the transaction of account {account}: {why}")]
    NotTaken { account: Address, why: String },
    #[error("transaction {hash} is not final after {} s; it may still become so", waited.as_secs())]
    NotFinal { hash: B256, waited: Duration },
    #[error(
        "there is no open proposal {proposal}: it was enacted, or another change was enacted since, or nobody made it"
    )]
    NoProposal { proposal: ProposalId },
    #[error("the node has no outcome of a resharing that is still to be posted")]
    NothingToPost,
    #[error("what the node gives as the outcome of a resharing is none: {why}")]
    NoOutcome { why: String },
}

/// What names a proposal: the hash of its changes and of all that was enacted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposalId(B256);

impl std::str::FromStr for ProposalId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "a proposal is named by 64 hex digits, as `node validators list` shows them")
    }
}

impl std::fmt::Display for ProposalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A set of nodes.
#[derive(Debug, Clone)]
pub struct NodeSet {
    /// The epoch from which on it is in force.
    pub from: u64,
    /// Its nodes.
    pub members: Vec<Member>,
}

/// A change that was proposed and is not void.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its id.
    pub proposal: ProposalId,
    /// Who proposed it.
    pub by: Address,
    /// What it changes.
    pub changes: Vec<Contract::Change>,
    /// How many governors approve it.
    pub approvals: u64,
}

/// Who keeps a ledger, and how that changes.
#[derive(Debug, Clone)]
pub struct Sets {
    /// The height of the head.
    pub height: u64,
    /// The epoch of the head.
    pub epoch: u64,
    /// Blocks in an epoch.
    pub epoch_length: u64,
    /// The set in force, then those that will be.
    pub sets: Vec<NodeSet>,
    /// Who may change them.
    pub governors: Vec<Address>,
    /// How many of those it takes.
    pub threshold: u64,
    /// What is proposed.
    pub open: Vec<Open>,
}

/// The governance of one ledger, as a node tells it.
#[derive(Debug)]
pub struct Governing {
    remote: Remote,
    genesis: Genesis,
    contract: Address,
}

/// What to do about one node.
#[derive(Debug, Clone)]
pub enum Step {
    /// It comes, with a vote or without.
    Add(Enrolment, bool),
    /// It goes.
    Remove([u8; 32]),
    /// Another comes in its place.
    Replace([u8; 32], Enrolment),
}

impl Step {
    /// As the contract takes it; none if the enrolment names no operator.
    pub fn change(&self) -> Option<Contract::Change> {
        let nobody = || Contract::Validator {
            p2pKey: B256::ZERO,
            consensusKey: Bytes::new(),
            hint: Bytes::new(),
            operator: Address::ZERO,
            role: 0,
        };
        let (kind, member, validator) = match self {
            Self::Add(enrolment, votes) => (0, B256::ZERO, node_of(enrolment, *votes)?),
            Self::Remove(key) => (1, B256::new(*key), nobody()),
            Self::Replace(key, enrolment) => (REPLACE, B256::new(*key), node_of(enrolment, true)?),
        };
        Some(Contract::Change { kind, member, validator })
    }
}

fn node_of(enrolment: &Enrolment, votes: bool) -> Option<Contract::Validator> {
    Some(Contract::Validator {
        p2pKey: B256::new(*enrolment.key()),
        consensusKey: enrolment.key().to_vec().into(),
        hint: enrolment.address().to_string().into_bytes().into(),
        operator: Address::new(enrolment.operator()?.to_bytes()),
        role: u8::from(!votes),
    })
}

impl Open {
    /// What it changes, in words.
    pub fn told(&self) -> Vec<String> {
        let node = |change: &Contract::Change| {
            let what = if change.validator.role == 0 { "validator" } else { "follower" };
            let at = String::from_utf8_lossy(&change.validator.hint).into_owned();
            format!("{what} {:x} at {at}", change.validator.p2pKey)
        };
        let told = |change: &Contract::Change| match change.kind {
            0 => format!("adds {}", node(change)),
            1 => format!("removes {:x}", change.member),
            _ if change.member == change.validator.p2pKey => format!("moves {}", node(change)),
            _ => format!("replaces {:x} by {}", change.member, node(change)),
        };
        self.changes.iter().map(told).collect()
    }
}

impl Governing {
    /// Of the ledger that these nodes keep.
    pub async fn of(remote: Remote) -> Result<Self, GoverningError> {
        let genesis = remote.genesis().await?;
        let contract = contract_in_force(&remote, &genesis).await?;
        Ok(Self { remote, genesis, contract })
    }

    /// What is in force, what will be, and what is proposed.
    pub async fn sets(&self) -> Result<Sets, GoverningError> {
        let height: alloy_primitives::U64 = self.remote.any("eth_blockNumber", (), Ok).await?;
        let epoch = self.ask(&Contract::epochCall {}).await?;
        let count = self.ask(&Contract::setCountCall {}).await?.saturating_to::<u64>();
        let mut sets = Vec::new();
        for index in (0..count).rev() {
            let from = self.ask(&Contract::setAtCall { index: U256::from(index) }).await?.from;
            let members = self.ask(&Contract::setOfCall { epoch_: from }).await?;
            sets.insert(0, NodeSet { from, members: members.into_iter().map(Member::from).collect() });
            if from <= epoch {
                break;
            }
        }
        Ok(Sets {
            height: height.to(),
            epoch,
            epoch_length: self.ask(&Contract::epochLengthCall {}).await?,
            sets,
            governors: self.ask(&Contract::governorsCall {}).await?,
            threshold: self.ask(&Contract::thresholdCall {}).await?.saturating_to(),
            open: self.open().await?,
        })
    }

    /// The proposals that are not void: those to the newest set.
    async fn open(&self) -> Result<Vec<Open>, GoverningError> {
        let version = self.ask(&Contract::versionCall {}).await?;
        let newest = self.ask(&Contract::setCountCall {}).await?.saturating_sub(U256::from(1));
        let newest = self.ask(&Contract::setAtCall { index: newest }).await?.from;
        let length = self.ask(&Contract::epochLengthCall {}).await?;
        let height: alloy_primitives::U64 = self.remote.any("eth_blockNumber", (), Ok).await?;
        let (height, mut logs) = (height.to::<u64>(), Vec::new());
        // What is open was proposed after the newest set was enacted, so in the epoch of that or later.
        let mut first = newest.saturating_sub(LEAD).saturating_mul(length);
        while first <= height {
            let last = first.saturating_add(LOG_RANGE - 1).min(height);
            logs.extend(self.proposed(first, last).await?);
            first = last.saturating_add(1);
        }
        let mut open: Vec<Open> = Vec::new();
        for event in logs.iter().filter_map(|log| Contract::Proposed::decode_log(log).ok()) {
            let id = ProposalId(event.proposal);
            let is_known = open.iter().any(|other| other.proposal == id);
            if event.version == version && !is_known {
                let approvals = self.ask(&Contract::approvalsCall { proposal: event.proposal }).await?.saturating_to();
                open.push(Open { proposal: id, by: event.by, changes: event.data.changes, approvals });
            }
        }
        Ok(open)
    }

    /// The events of proposals in these blocks.
    async fn proposed(&self, first: u64, last: u64) -> Result<Vec<alloy_primitives::Log>, GoverningError> {
        let filter = json!({
            "address": self.contract, "topics": [Contract::Proposed::SIGNATURE_HASH],
            "fromBlock": format!("{first:#x}"), "toBlock": format!("{last:#x}"),
        });
        let logs = self
            .remote
            .any("eth_getLogs", (filter,), |logs: Vec<Value>| {
                let log = |log: Value| {
                    let part = |name: &str| log.get(name).cloned().unwrap_or_default();
                    let topics = serde_json::from_value(part("topics"));
                    let data = serde_json::from_value(part("data"));
                    match (serde_json::from_value(part("address")), topics, data) {
                        (Ok(emitter), Ok(topics), Ok(data)) => {
                            Ok(alloy_primitives::Log::new_unchecked(emitter, topics, data))
                        }
                        _ => Err(NodeError::form("eth_getLogs", "it is no log")),
                    }
                };
                logs.into_iter().map(log).collect()
            })
            .await?;
        Ok(logs)
    }

    /// That a node of the newest set is reached elsewhere: nothing else of it changes, and nobody's vote.
    pub async fn moved(&self, key: [u8; 32], address: &EnrolledAddress) -> Result<Contract::Change, GoverningError> {
        let newest = self.ask(&Contract::setCountCall {}).await?.saturating_sub(U256::from(1));
        let from = self.ask(&Contract::setAtCall { index: newest }).await?.from;
        let members = self.ask(&Contract::setOfCall { epoch_: from }).await?;
        let member = B256::new(key);
        let found = members.into_iter().find(|node| node.p2pKey == member);
        let node =
            found.ok_or_else(|| GoverningError::Refused { why: format!("{member:x} is no node of the newest set") })?;
        let hint = address.as_str().as_bytes().to_vec().into();
        Ok(Contract::Change { kind: REPLACE, member, validator: Contract::Validator { hint, ..node } })
    }

    /// Shows changes to the other governors, and approves them; gives the id.
    pub async fn propose(
        &self,
        who: &AccountSecret,
        changes: Vec<Contract::Change>,
    ) -> Result<ProposalId, GoverningError> {
        let proposal = self.ask(&Contract::proposalIdCall { changes: changes.clone() }).await?;
        self.send(who, &Contract::proposeCall { changes }).await?;
        Ok(ProposalId(proposal))
    }

    /// Approves a proposal.
    pub async fn approve(&self, who: &AccountSecret, proposal: ProposalId) -> Result<(), GoverningError> {
        self.send(who, &Contract::approveCall { proposal: proposal.0 }).await
    }

    /// Takes an approval back.
    pub async fn withdraw(&self, who: &AccountSecret, proposal: ProposalId) -> Result<(), GoverningError> {
        self.send(who, &Contract::withdrawApprovalCall { proposal: proposal.0 }).await
    }

    /// Carries out a proposal that enough governors approve.
    pub async fn enact(&self, who: &AccountSecret, proposal: ProposalId) -> Result<(), GoverningError> {
        let open = self.open().await?.into_iter().find(|open| open.proposal == proposal);
        let open = open.ok_or(GoverningError::NoProposal { proposal })?;
        self.send(who, &Contract::enactCall { changes: open.changes }).await
    }

    async fn ask<C: SolCall>(&self, question: &C) -> Result<C::Return, GoverningError> {
        ask(&self.remote, self.contract, question).await
    }

    /// Sends a call, which must succeed, and waits until it is final.
    async fn send(&self, who: &AccountSecret, call: &impl SolCall) -> Result<(), GoverningError> {
        let (account, input) = (address(who), Bytes::from(call.abi_encode()));
        self.rehearse(account, &input).await?;
        let nonce = self.remote.pending_nonce(account).await?;
        let (chain_id, to) = (self.genesis.chain_id, TxKind::Call(self.contract));
        let signed = Request { chain_id, nonce, to, input: input.clone(), gas: GAS }.sign(who);
        let hash = *signed.tx_hash();
        match self.remote.send(&signed.encoded_2718().into(), hash).await {
            Ok(()) => {}
            Err(SendError::Refused(why)) => return Err(GoverningError::NotTaken { account, why }),
            Err(SendError::NoNode(problems)) => return Err(RemoteError::NoNode { problems }.into()),
        }
        let (started, waited) = (Instant::now(), self.remote.deadlines().finality);
        while started.elapsed() < waited {
            let receipt: Value = self.remote.any("eth_getTransactionReceipt", (hash,), Ok).await?;
            match receipt.get("status").and_then(Value::as_str) {
                Some("0x1") => return Ok(()),
                // What changed meanwhile says why.
                Some(_) => {
                    self.rehearse(account, &input).await?;
                    return Err(GoverningError::Refused { why: format!("transaction {hash} failed") });
                }
                None => tokio::time::sleep(LOOK).await,
            }
        }
        Err(GoverningError::NotFinal { hash, waited })
    }

    /// Runs the call without recording it, so that what the contract refuses is told before anything is sent.
    async fn rehearse(&self, from: Address, input: &Bytes) -> Result<(), GoverningError> {
        let call = json!({ "from": from, "to": self.contract, "data": input });
        match self.remote.exchange("eth_call", (call, "latest")).await? {
            ResponsePayload::Success(_) => Ok(()),
            ResponsePayload::Failure(error) => {
                let data: Option<Bytes> = error.data.as_deref().and_then(|data| serde_json::from_str(data.get()).ok());
                let why = data.and_then(|data| reason(&data)).unwrap_or_else(|| error.message.to_string());
                Err(GoverningError::Refused { why })
            }
        }
    }
}

/// Why the contract refuses, of what it gave back, if it is a reason of its own.
fn reason(data: &[u8]) -> Option<String> {
    use GroupValidatorsErrors as E;
    ValidatorsErrors::abi_decode(data).map(|error| told(&error)).ok().or_else(|| {
        Some(match GroupValidatorsErrors::abi_decode(data).ok()? {
            E::AlreadyPosted(e) => {
                format!("account {} has posted an outcome for the set of epoch {} already", e.by, e.from)
            }
            other => format!("{other:?}"),
        })
    })
}

/// What a refusal of the contract means.
fn told(error: &ValidatorsErrors) -> String {
    use ValidatorsErrors as E;
    match error {
        E::NotGovernor(e) => format!("account {} is no governor", e.who),
        E::TooManyChanges(e) => {
            format!("epoch {} would have {} other votes, at most {} may change at once", e.epoch, e.changes, e.most)
        }
        E::TooFewValidators(e) => format!("{} validators would be left, {} are the least", e.count, e.least),
        E::TooFewApprovals(e) => format!("{} governors approve it, {} are needed", e.given, e.needed),
        E::UnknownMember(e) => format!("{:x} is no node of the newest set", e.p2pKey),
        E::KeyTaken(e) => format!("node {:x} has a key that another node of the set has", e.p2pKey),
        E::AlreadyApproved(e) => format!("account {} approves it already", e.governor),
        E::NotOperator(e) => {
            format!("account {} speaks for no validator of the set that is in force from epoch {} on", e.who, e.epoch)
        }
        E::NotApproved(e) => format!("account {} does not approve it", e.governor),
        other => format!("{other:?}"),
    }
}

/// The contract that names the validators now: that of the last handover's charter, or of the genesis where the ledger was never handed over.
async fn contract_in_force(remote: &Remote, genesis: &Genesis) -> Result<Address, GoverningError> {
    let made: alloy_primitives::U64 = remote.any("eth_getTransactionCount", (*CHARTER_ADDRESS, "latest"), Ok).await?;
    let access = genesis.access_address();
    let code: Bytes = remote.any("eth_getCode", (access, "latest"), Ok).await?;
    let handovers = if code.is_empty() { 0 } else { ask(remote, access, &Access::handoversCall {}).await? };
    if handovers == 0 {
        let contract = genesis.governance.as_ref().map(|_| validators_address()).ok_or(GoverningError::NotGoverned)?;
        let code: Bytes = remote.any("eth_getCode", (contract, "latest"), Ok).await?;
        return if code.is_empty() { Err(GoverningError::NotMade) } else { Ok(contract) };
    }
    let contract = made.to::<u64>().checked_sub(1).map(contract_address).ok_or(GoverningError::NotGoverned)?;
    let first = ask(remote, contract, &Contract::setAtCall { index: U256::ZERO }).await?.from;
    let begun = ask(remote, contract, &Contract::keyOfCall { epoch_: first }).await?;
    let named = ask(remote, access, &Access::handoverAtCall { n: handovers }).await?.key;
    if begun == named { Ok(contract) } else { Err(GoverningError::NotGoverned) }
}

async fn ask<C: SolCall>(remote: &Remote, to: Address, question: &C) -> Result<C::Return, GoverningError> {
    let call = json!({ "to": to, "data": Bytes::from(question.abi_encode()) });
    let output: Bytes = remote.any("eth_call", (call, "latest"), Ok).await?;
    let form = |_| GoverningError::Node(NodeError::form("eth_call", "it is no answer of the contract"));
    C::abi_decode_returns(&output).map_err(form)
}
