//! The policies of sources: which rule is in force, and how the owner puts another in its place.
//!
//! - **Owns** the deployments of rules and modules, each set of them one block.
//! - **Does not** choose rules: the caller does.
//!
//! Contracts: `docs/design/retention.md`.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_provider::Provider;
use alloy_sol_types::{SolCall, SolConstructor, SolEvent};
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::contracts::Freeze::FreezeEvents;
use blockhouse_ledger::contracts::Timeline::TimelineEvents;
use blockhouse_ledger::contracts::{Alarms, Anchors, Freeze, OwnerAfterFloor, Retention, Tags, Timeline, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{Contract, Event, Request};
use blockhouse_types::{Account, SnapshotId, SourceId};

use super::{Ledger, LedgerError, Modules, NONCE_TRIES, SnapshotRecord, account, address};
use crate::retention::Rule;

/// Gas for a call that sets one thing.
const CALL_GAS: u64 = 400_000;
/// Gas for looking at one snapshot and adding it to a timeline, and how many of them one transaction looks at.
const SYNC_GAS: u64 = 110_000;
const SYNC_MOST: u32 = 150;

/// A rule of retention that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Force {
    /// Its contract.
    pub contract: Account,
    /// What it says.
    pub rule: Rule,
}

/// What decides about removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// A rule of retention.
    Retention(Force),
    /// The owner alone, so many seconds after the commit.
    OwnerAfterFloor {
        /// Those seconds.
        floor_seconds: u64,
    },
    /// A contract that this version does not know.
    Other {
        /// Where it stands.
        contract: Account,
    },
}

/// A freeze that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Of which source; none: of the whole vault.
    pub source: Option<SourceId>,
    /// Who froze it.
    pub by: Account,
    /// When, in the ledger's seconds.
    pub since: u64,
}

impl Policy {
    /// How old a snapshot must be before anybody may remove it, where that is known.
    pub const fn minimum_age(&self) -> Option<u64> {
        match self {
            Self::Retention(force) => Some(force.rule.minimum_age),
            Self::OwnerAfterFloor { floor_seconds } => Some(*floor_seconds),
            Self::Other { .. } => None,
        }
    }

    /// The rule, if it is one.
    pub const fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Retention(force) => Some(&force.rule),
            _ => None,
        }
    }
}

/// Several transactions of one account, while the addresses of what they create are counted out.
struct Batch {
    owner: Address,
    chain_id: u64,
    first: u64,
    requests: Vec<Request>,
}

impl Batch {
    fn create(&mut self, code: &Bytes, arguments: &[u8]) -> Address {
        let nonce = self.first + self.requests.len() as u64;
        let input = [&code[..], arguments].concat().into();
        self.requests.push(Request { chain_id: self.chain_id, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS });
        self.owner.create(nonce)
    }

    fn call<C: SolCall>(&mut self, to: Address, call: &C) {
        let (nonce, input) = (self.first + self.requests.len() as u64, call.abi_encode().into());
        self.requests.push(Request { chain_id: self.chain_id, nonce, to: TxKind::Call(to), input, gas: CALL_GAS });
    }
}

impl Ledger {
    /// What decides about a source; none: about those that have no policy of their own.
    pub async fn policy(&self, source: Option<SourceId>) -> Result<Policy, LedgerError> {
        let contract = self.policy_address(source).await?;
        match self.call(contract, &Retention::ruleCall {}).await {
            Ok(rule) => {
                return Ok(Policy::Retention(Force { contract: account(contract), rule: Rule::of_contract(rule) }));
            }
            Err(LedgerError::Refused { .. } | LedgerError::Answer { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.call(contract, &OwnerAfterFloor::floorSecondsCall {}).await {
            Ok(floor_seconds) => Ok(Policy::OwnerAfterFloor { floor_seconds }),
            Err(LedgerError::Refused { .. } | LedgerError::Answer { .. }) => {
                Ok(Policy::Other { contract: account(contract) })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the owner's own rule of that many seconds the one of all sources that have none of their own.
    pub(crate) async fn set_floor(&self, owner: &AccountSecret, floor_seconds: u64) -> Result<(), LedgerError> {
        let arguments =
            OwnerAfterFloor::constructorCall { access_: self.access, floorSeconds_: floor_seconds }.abi_encode();
        self.as_one_block(owner, |batch, _| {
            let policy = batch.create(&OwnerAfterFloor::BYTECODE, &arguments);
            batch.call(self.vault, &Vault::setDefaultPolicyCall { policy });
        })
        .await
    }

    /// The contract that decides about a source; none: about those that have no policy of their own.
    pub(crate) async fn policy_address(&self, source: Option<SourceId>) -> Result<Address, LedgerError> {
        match source {
            Some(source) => self.call(self.vault, &Vault::policyOfCall { source: word(source) }).await,
            None => self.call(self.vault, &Vault::defaultPolicyCall {}).await,
        }
    }

    /// True if the source's policy would let this account remove the snapshot now.
    pub async fn may_remove(
        &self,
        who: Account,
        (source, snapshot): (SourceId, SnapshotId),
        committed_at: u64,
    ) -> Result<bool, LedgerError> {
        let contract = self.call(self.vault, &Vault::policyOfCall { source: word(source) }).await?;
        let ask = Retention::mayRemoveCall {
            who: address(who),
            source: word(source),
            object: B256::new(snapshot.to_bytes()),
            committedAt: committed_at,
        };
        match self.call(contract, &ask).await {
            Err(LedgerError::Refused { .. } | LedgerError::Answer { .. }) => Ok(false),
            answer => answer,
        }
    }

    /// The freezes that stand, also those of sources that have no snapshot.
    pub async fn frozen(&self) -> Result<Vec<Frozen>, LedgerError> {
        let Some(freeze) = self.modules().await?.freeze else { return Ok(Vec::new()) };
        if self.call(freeze, &Freeze::frozenCountCall {}).await?.is_zero() {
            return Ok(Vec::new());
        }
        let mut scopes = BTreeSet::new();
        self.scan(&[Freeze::Frozen::SIGNATURE_HASH], |page| {
            scopes.extend(page.entries.iter().filter_map(|entry| match &entry.event {
                Event::Freeze(FreezeEvents::Frozen(frozen)) => Some(frozen.source),
                _ => None,
            }));
        })
        .await?;
        let mut frozen = Vec::new();
        for scope in scopes {
            let state = self.call(freeze, &Freeze::stateCall { source: scope }).await?;
            if !state.by.is_zero() {
                let source = (!scope.is_zero()).then_some(SourceId::new(scope.0));
                frozen.push(Frozen { source, by: account(state.by), since: state.since });
            }
        }
        Ok(frozen)
    }

    /// Freezes a source, or the whole vault. A writer or the owner.
    pub async fn freeze(&self, source: Option<SourceId>) -> Result<(), LedgerError> {
        let to = module_or(Contract::Freeze.name(), self.modules().await?.freeze)?;
        self.send(to, &Freeze::freezeCall { source: scope(source) }).await.map(drop)
    }

    /// Lifts the freeze of a source, or every freeze. Owner.
    pub async fn unfreeze(&self, source: Option<SourceId>) -> Result<(), LedgerError> {
        let to = module_or(Contract::Freeze.name(), self.modules().await?.freeze)?;
        self.send(to, &Freeze::unfreezeCall { source: scope(source) }).await.map(drop)
    }

    /// Adds tags to a snapshot, which need not be there yet. A writer or the owner.
    pub async fn add_tags(&self, snapshot: SnapshotId, tags: Vec<B256>) -> Result<(), LedgerError> {
        let to = module_or(Contract::Tags.name(), self.modules().await?.tags)?;
        self.send(to, &Tags::addCall { snapshot: B256::new(snapshot.to_bytes()), tags }).await.map(drop)
    }

    /// Takes tags away from a snapshot. Owner.
    pub async fn remove_tags(&self, snapshot: SnapshotId, tags: Vec<B256>) -> Result<(), LedgerError> {
        let to = module_or(Contract::Tags.name(), self.modules().await?.tags)?;
        self.send(to, &Tags::removeCall { snapshot: B256::new(snapshot.to_bytes()), tags }).await.map(drop)
    }

    /// True if contracts can read that the snapshot has the tag.
    pub async fn has_tag(&self, snapshot: SnapshotId, tag: B256) -> Result<bool, LedgerError> {
        let to = module_or(Contract::Tags.name(), self.modules().await?.tags)?;
        self.call(to, &Tags::hasCall { snapshot: B256::new(snapshot.to_bytes()), tag }).await
    }

    /// How many snapshots of a source its timeline has looked at.
    pub async fn imported(&self, source: SourceId) -> Result<u32, LedgerError> {
        let to = module_or(Contract::Timeline.name(), self.modules().await?.timeline)?;
        self.call(to, &Timeline::importedCall { source: word(source) }).await
    }

    /// Brings a source's timeline up, `count` snapshots further; several transactions in one block, and several blocks if need be.
    pub async fn sync_timeline(
        &self,
        sender: &AccountSecret,
        source: SourceId,
        mut count: u32,
    ) -> Result<(), LedgerError> {
        let to = module_or(Contract::Timeline.name(), self.modules().await?.timeline)?;
        let (chain_id, most) = (self.provider.get_chain_id().await?, self.block_gas().await?);
        while count > 0 {
            let (mut requests, mut left) = (Vec::new(), most);
            while count > 0 {
                let limit = count.min(SYNC_MOST);
                let gas = CALL_GAS + SYNC_GAS * u64::from(limit);
                if gas > left && !requests.is_empty() {
                    break;
                }
                left = left.saturating_sub(gas);
                count -= limit;
                let input = Timeline::syncCall { source: word(source), limit }.abi_encode().into();
                requests.push(Request { chain_id, nonce: 0, to: TxKind::Call(to), input, gas });
            }
            for outcome in self.send_in_one_block(sender, requests).await? {
                if !outcome.is_done {
                    let transaction = outcome.transaction;
                    return Err(LedgerError::Failed { call: Timeline::syncCall::SIGNATURE, transaction });
                }
            }
        }
        Ok(())
    }

    /// True if a timeline holds the snapshot at this place: its index among those of its source, plus one.
    pub async fn is_in_timeline(&self, source: SourceId, place: u32) -> Result<bool, LedgerError> {
        let to = module_or(Contract::Timeline.name(), self.modules().await?.timeline)?;
        Ok(self.call(to, &Timeline::entryCall { source: word(source), place }).await?.committedAt != 0)
    }

    /// Takes what was forgotten and stayed there out of the timelines of these sources: where one removal fails when it is sealed, what
    /// was to drop all that were sent with it fails too. `records` are all snapshots, in order.
    pub(crate) async fn drop_forgotten(
        &self,
        sender: &AccountSecret,
        sources: &BTreeSet<SourceId>,
        records: &[SnapshotRecord],
    ) -> Result<(), LedgerError> {
        let mut dropped = BTreeSet::new();
        self.scan(&[Timeline::Dropped::SIGNATURE_HASH], |page| {
            dropped.extend(page.entries.iter().filter_map(|entry| match &entry.event {
                Event::Timeline(TimelineEvents::Dropped(gone)) => Some((SourceId::new(gone.source.0), gone.place)),
                _ => None,
            }));
        })
        .await?;
        let mut counts: BTreeMap<SourceId, u32> = BTreeMap::new();
        let mut left: BTreeMap<SourceId, Vec<u32>> = BTreeMap::new();
        for record in records.iter().filter(|record| sources.contains(&record.source)) {
            let place = counts.entry(record.source).or_default();
            *place += 1;
            // One that was forgotten before the timeline came to it is in no event and not in it either.
            let may_be_left = record.forgotten && !dropped.contains(&(record.source, *place));
            if may_be_left && self.is_in_timeline(record.source, *place).await? {
                left.entry(record.source).or_default().push(*place);
            }
        }
        for (source, places) in left {
            self.drop_places(sender, source, &places).await?;
        }
        Ok(())
    }

    /// Lets an account speak for a node in `Alarms`, which is made if it is not there. Owner.
    pub async fn set_node(&self, owner: &AccountSecret, who: Account, node: B256) -> Result<(), LedgerError> {
        let (vault, access) = (self.vault, self.access);
        self.as_one_block(owner, |batch, modules| {
            let alarms = modules.alarms.unwrap_or_else(|| {
                let made = batch.create(&Alarms::BYTECODE, &Alarms::constructorCall { access_: access }.abi_encode());
                batch.call(vault, &Vault::setModuleCall { name: Contract::Alarms.name_word(), target: made });
                made
            });
            batch.call(alarms, &Alarms::setNodeCall { account: address(who), node });
        })
        .await
    }

    /// Makes the module in which anchors are recorded, if it is not there. Owner.
    pub async fn establish_anchors(&self, owner: &AccountSecret) -> Result<(), LedgerError> {
        let (vault, access) = (self.vault, self.access);
        self.as_one_block(owner, |batch, modules| {
            if modules.anchors.is_none() {
                let arguments = Anchors::constructorCall { access_: access }.abi_encode();
                let made = batch.create(&Anchors::BYTECODE, &arguments);
                batch.call(vault, &Vault::setModuleCall { name: Contract::Anchors.name_word(), target: made });
            }
        })
        .await
    }

    /// The node for which an account speaks, if it does for one.
    pub async fn node_of(&self, who: Account) -> Result<Option<B256>, LedgerError> {
        let Some(alarms) = self.modules().await?.alarms else { return Ok(None) };
        let node = self.call(alarms, &Alarms::nodeOfCall { account: address(who) }).await?;
        Ok((!node.is_zero()).then_some(node))
    }

    /// Puts the default policy in force again for these sources. Owner.
    pub async fn take_back(&self, owner: &AccountSecret, sources: &BTreeSet<SourceId>) -> Result<(), LedgerError> {
        self.as_one_block(owner, |batch, _| {
            for source in sources {
                batch.call(self.vault, &Vault::setPolicyCall { source: word(*source), policy: Address::ZERO });
            }
        })
        .await
    }

    /// Makes the modules that are not there, and, where the default policy is still the one that every vault begins with, a rule that
    /// keeps everything in its place: it refuses writers the same, and lets them mark and sweep what nobody needs.
    pub async fn establish(&self, owner: &AccountSecret) -> Result<Modules, LedgerError> {
        let default = self.policy(None).await?;
        self.as_one_block(owner, |batch, modules| {
            let modules = add_modules(batch, self.vault, self.access, modules);
            if let Policy::OwnerAfterFloor { floor_seconds } = default {
                let rule = Rule { minimum_age: floor_seconds, ..Rule::all() };
                let policy = deploy(batch, self.vault, modules, &rule);
                batch.call(self.vault, &Vault::setDefaultPolicyCall { policy });
            }
        })
        .await?;
        self.modules().await
    }

    /// Puts a rule in force for these sources, or, for none, for all that have none of their own. Owner. The modules must be there.
    pub async fn lay_down(
        &self,
        owner: &AccountSecret,
        rule: &Rule,
        sources: &BTreeSet<SourceId>,
    ) -> Result<(), LedgerError> {
        self.as_one_block(owner, |batch, modules| {
            let modules = add_modules(batch, self.vault, self.access, modules);
            let policy = deploy(batch, self.vault, modules, rule);
            for source in sources {
                batch.call(self.vault, &Vault::setPolicyCall { source: word(*source), policy });
            }
            if sources.is_empty() {
                batch.call(self.vault, &Vault::setDefaultPolicyCall { policy });
            }
        })
        .await
    }

    /// Sends what `fill` asks for in one block, all of it or nothing. Addresses count on the nonce: if another process takes it, all is
    /// made anew.
    async fn as_one_block(&self, owner: &AccountSecret, fill: impl Fn(&mut Batch, Modules)) -> Result<(), LedgerError> {
        let (chain_id, modules) = (self.provider.get_chain_id().await?, self.modules().await?);
        let mut tries = 1;
        loop {
            let (first, requests) = (self.nonce(owner).await?, Vec::new());
            let mut batch = Batch { owner: address(owner.account()), chain_id, first, requests };
            fill(&mut batch, modules);
            if batch.requests.is_empty() {
                return Ok(());
            }
            match self.send_from(owner, first, batch.requests).await {
                Err(error) if error.is_nonce_taken() && tries < NONCE_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(outcomes) => {
                    let failed = outcomes.iter().find(|outcome| !outcome.is_done);
                    return failed.map_or(Ok(()), |outcome| {
                        let (call, transaction) = ("the deployment of a rule", outcome.transaction);
                        Err(LedgerError::Failed { call, transaction })
                    });
                }
            }
        }
    }
}

fn module_or(name: &'static str, found: Option<Address>) -> Result<Address, LedgerError> {
    found.ok_or(LedgerError::NoModule { name })
}

fn add_modules(batch: &mut Batch, vault: Address, access: Address, mut modules: Modules) -> Modules {
    if modules.timeline.is_none() {
        let made = batch.create(&Timeline::BYTECODE, &Timeline::constructorCall { vault_: vault }.abi_encode());
        batch.call(vault, &Vault::setModuleCall { name: Contract::Timeline.name_word(), target: made });
        modules.timeline = Some(made);
    }
    if modules.freeze.is_none() {
        let made = batch.create(&Freeze::BYTECODE, &Freeze::constructorCall { access_: access }.abi_encode());
        batch.call(vault, &Vault::setModuleCall { name: Contract::Freeze.name_word(), target: made });
        modules.freeze = Some(made);
    }
    if modules.tags.is_none() {
        let made = batch.create(&Tags::BYTECODE, &Tags::constructorCall { access_: access }.abi_encode());
        batch.call(vault, &Vault::setModuleCall { name: Contract::Tags.name_word(), target: made });
        modules.tags = Some(made);
    }
    modules
}

fn deploy(batch: &mut Batch, vault: Address, modules: Modules, rule: &Rule) -> Address {
    let arguments = Retention::constructorCall {
        vault_: vault,
        timeline_: modules.timeline.unwrap_or_default(),
        freeze_: modules.freeze.unwrap_or_default(),
        tags_: modules.tags.unwrap_or_default(),
        rule_: rule.to_contract(),
    };
    batch.create(&Retention::BYTECODE, &arguments.abi_encode())
}

fn word(source: SourceId) -> B256 {
    B256::new(source.to_bytes())
}

/// How `Freeze` names a source, or the whole vault.
fn scope(source: Option<SourceId>) -> B256 {
    source.map(word).unwrap_or_default()
}
