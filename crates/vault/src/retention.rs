//! Retention: which snapshots a rule keeps and why, and how the owner lays a rule down.
//!
//! - **Owns** the account of every snapshot that is not forgotten: why it is kept, or that it goes.
//! - **Does not** decide: the contract does, at every removal. What is told here is the same rule, worked out another way, and a test
//!   compares the two.
//!
//! # Invariants
//! - **R1** What is told to go is asked of the contract before it is removed, so a difference removes nothing.
//!
//! Page: `docs/design/retention.md`.

mod caution;
mod judge;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_crypto::{AccountSecret, hash};
use blockhouse_types::{Account, SnapshotId, SourceId};

pub use caution::{Caution, cautions};
pub use judge::{Reason, Span};
pub use rule::{ALL, Keep, Rule, RuleError, duration};

use crate::folder::Config;
use crate::ledger::{Frozen, Ledger, LedgerError, Policy, SnapshotRecord};
use crate::publish::TooFewCopies;
use crate::select::{self, Known, tag_key};
use crate::unlock::{BagError, Unlocked, open_bag};
use crate::vault::Vault;
use judge::Moment;

/// What is to become of one snapshot by the rule of its source.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The snapshot.
    pub known: Known,
    /// Its index among the snapshots of its source, plus one.
    pub place: u32,
    /// Why it is kept; empty if it goes.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// True if the rule lets a writer remove it now.
    pub fn goes(&self) -> bool {
        self.reasons.is_empty()
    }

    /// True if what keeps it keeps it from the owner too.
    pub fn is_locked(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Young { .. } | Reason::Frozen(_)))
    }
}

/// Every snapshot that is not forgotten, and what is to become of it.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// In the order of the ledger.
    pub verdicts: Vec<Verdict>,
    /// What decides about each source.
    pub policies: BTreeMap<SourceId, Policy>,
    /// What is frozen.
    pub frozen: Vec<Frozen>,
}

/// Why a rule could not be read or laid down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// The ledger.
    #[error("the ledger did not take the change")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] blockhouse_homes::HomeError),
    /// The bag that holds the owner's account.
    #[error("could not open the key bag")]
    Bag(#[from] BagError),
    /// The rule is none.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// No source is called so.
    #[error("this host knows of no source `{wanted}`")]
    NoSource { wanted: String },
    /// No source is of that host.
    #[error("this host knows of no source of host `{wanted}`")]
    NoHost { wanted: String },
    /// Tags are committed to with a key that only hosts with the writer's secrets have.
    #[error("this folder has no writer's secrets: it cannot make the commitments of tags")]
    NoTagKey,
    /// Too few copies of the ledger's block.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
}

/// Surveys the vault by the rules in force, or by `instead` for the sources that it names.
pub async fn survey(vault: &Vault, instead: Option<(&Rule, &BTreeSet<SourceId>)>) -> Result<Survey, RetentionError> {
    let (ledger, now) = (vault.ledger(), vault.standing().await?.time.max(now_of(vault)));
    let records = ledger.snapshots().await?;
    let sources: BTreeSet<SourceId> = records.iter().map(|record| record.source).collect();
    let mut policies = BTreeMap::new();
    for source in &sources {
        policies.insert(*source, ledger.policy(Some(*source)).await?);
    }
    let frozen = ledger.frozen().await?;
    let placed = placed(records);
    let mut reasons = judged(&placed, &policies, instead, now);
    let entries = select::entries(vault.config());
    let mut verdicts = Vec::new();
    for (place, record) in placed {
        let mut reasons = reasons.remove(&record.id).unwrap_or_else(|| vec![Reason::Unknown]);
        let is_of = |frozen: &&Frozen| frozen.source.is_none_or(|source| source == record.source);
        reasons.extend(frozen.iter().find(is_of).map(|frozen| Reason::Frozen(*frozen)));
        let source = entries.get(&record.source).cloned();
        verdicts.push(Verdict { known: Known { record, source }, place, reasons });
    }
    Ok(Survey { verdicts, policies, frozen })
}

/// Why each of these is kept, by the rule of its source, each signer by itself.
fn judged(
    placed: &[(u32, SnapshotRecord)],
    policies: &BTreeMap<SourceId, Policy>,
    instead: Option<(&Rule, &BTreeSet<SourceId>)>,
    now: u64,
) -> BTreeMap<SnapshotId, Vec<Reason>> {
    let moments: Vec<Moment> = placed.iter().map(|(_, record)| moment(record)).collect();
    let mut chains: BTreeMap<(SourceId, Account), Vec<&Moment>> = BTreeMap::new();
    for moment in moments.iter().rev() {
        chains.entry((moment.source, moment.signer)).or_default().push(moment);
    }
    let mut reasons = BTreeMap::new();
    for ((source, _), chain) in chains {
        let rule = instead.filter(|(_, sources)| sources.contains(&source)).map(|(rule, _)| rule);
        let policy = policies.get(&source);
        let of_chain = match (rule.or_else(|| policy.and_then(Policy::rule)), policy) {
            (Some(rule), _) => judge::judge_chain(rule, &chain, now),
            (None, Some(Policy::OwnerAfterFloor { floor_seconds })) => chain
                .iter()
                .map(|own| {
                    let until = own.time.saturating_add(*floor_seconds);
                    let young = (now < until).then_some(Reason::Young { until });
                    young.into_iter().chain([Reason::NoRule]).collect()
                })
                .collect(),
            (None, _) => vec![vec![Reason::Unknown]; chain.len()],
        };
        reasons.extend(chain.iter().map(|own| own.id).zip(of_chain));
    }
    reasons
}

/// The host's clock: what the next block's time would be.
fn now_of(vault: &Vault) -> u64 {
    (vault.settings().clock)()
}

/// The snapshots that are not forgotten, each with its index among all of its source, plus one.
fn placed(records: Vec<SnapshotRecord>) -> Vec<(u32, SnapshotRecord)> {
    let mut counts: BTreeMap<SourceId, u32> = BTreeMap::new();
    let mut placed = Vec::new();
    for record in records {
        let count = counts.entry(record.source).or_default();
        *count += 1;
        if !record.forgotten {
            placed.push((*count, record));
        }
    }
    placed
}

fn moment(record: &SnapshotRecord) -> Moment {
    Moment {
        id: record.id,
        source: record.source,
        signer: record.writer,
        time: record.time,
        tags: record.tags.iter().map(|tag| tag.0).collect(),
    }
}

/// Brings what contracts read of these sources up to the ledger, as far as the vault has such contracts: their timelines, without what is
/// forgotten, and the tags that their rules name.
pub(crate) async fn bring_up(
    ledger: &Ledger,
    sender: &AccountSecret,
    sources: &BTreeSet<SourceId>,
) -> Result<(), LedgerError> {
    let modules = ledger.modules().await?;
    if modules.timeline.is_none() {
        return Ok(());
    }
    let records = ledger.snapshots().await?;
    for source in sources {
        let count = records.iter().filter(|record| record.source == *source).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Another process may have brought it further since the records were read.
        let behind = count.saturating_sub(ledger.imported(*source).await?);
        if behind > 0 {
            ledger.sync_timeline(sender, *source, behind).await?;
        }
        // A backup under way when the first rule was laid down had no contract to tell its tags to.
        let policy = ledger.policy(Some(*source)).await?;
        if let Some(rule) = policy.rule().filter(|_| modules.tags.is_some()) {
            tell_tags(ledger, rule, &BTreeSet::from([*source]), &records).await?;
        }
    }
    ledger.drop_forgotten(sender, sources, &records).await
}

/// Records the tags that a rule names where contracts can read them, for the snapshots of these sources that have them and are not
/// forgotten.
async fn tell_tags(
    ledger: &Ledger,
    rule: &Rule,
    sources: &BTreeSet<SourceId>,
    records: &[SnapshotRecord],
) -> Result<(), LedgerError> {
    for record in records.iter().filter(|record| !record.forgotten && sources.contains(&record.source)) {
        let mut lacking = Vec::new();
        for tag in rule.tags.iter().map(|tag| (*tag).into()).filter(|tag| record.tags.contains(tag)) {
            if !ledger.has_tag(record.id, tag).await? {
                lacking.push(tag);
            }
        }
        if !lacking.is_empty() {
            ledger.add_tags(record.id, lacking).await?;
        }
    }
    Ok(())
}

/// The sources that are called so, by name, root, or the beginning of their ids.
pub fn sources_called(config: &Config, wanted: &str) -> Result<BTreeSet<SourceId>, RetentionError> {
    let is_called = |(id, entry): &(&SourceId, &crate::folder::SourceEntry)| {
        let begins = wanted.len() >= 8 && id.to_string().starts_with(wanted);
        entry.name == wanted || entry.roots.iter().any(|root| root == wanted) || begins
    };
    let found: BTreeSet<SourceId> = config.sources.iter().filter(is_called).map(|(id, _)| *id).collect();
    let whole_id = || wanted.parse::<SourceId>().ok().map(|id| BTreeSet::from([id]));
    let found = if found.is_empty() { whole_id().unwrap_or_default() } else { found };
    if found.is_empty() { Err(RetentionError::NoSource { wanted: wanted.to_owned() }) } else { Ok(found) }
}

/// The sources of a host.
pub fn sources_on(config: &Config, host: &str) -> Result<BTreeSet<SourceId>, RetentionError> {
    let on_host = config.sources.iter().filter(|(_, entry)| entry.host == host);
    let found: BTreeSet<SourceId> = on_host.map(|(id, _)| *id).collect();
    if found.is_empty() { Err(RetentionError::NoHost { wanted: host.to_owned() }) } else { Ok(found) }
}

/// The sources that a rule laid down for these (or, for none, for all that have no policy of their own) would bind.
pub async fn bound_by(vault: &Vault, sources: &BTreeSet<SourceId>) -> Result<BTreeSet<SourceId>, LedgerError> {
    if !sources.is_empty() {
        return Ok(sources.clone());
    }
    let (ledger, mut bound) = (vault.ledger(), BTreeSet::new());
    let default = ledger.policy_address(None).await?;
    for record in ledger.snapshots().await? {
        if !bound.contains(&record.source) && ledger.policy_address(Some(record.source)).await? == default {
            bound.insert(record.source);
        }
    }
    Ok(bound)
}

/// The commitment of a tag, as commits and contracts carry it.
pub fn commitment(vault: &Vault, tag: &str) -> Result<[u8; 32], RetentionError> {
    let secrets = vault.secrets().ok_or(RetentionError::NoTagKey)?;
    Ok(hash::keyed(&tag_key(&secrets.write.index_key), tag.as_bytes()))
}

/// The owner's account, out of the key bag.
pub(crate) async fn owner(vault: &Vault, unlocked: &Unlocked) -> Result<AccountSecret, RetentionError> {
    if let Unlocked::Owner(identity) = unlocked {
        return Ok(identity.owner().clone());
    }
    let bag = open_bag(vault.sites(), vault.ledger().bag().await?, unlocked).await?;
    Ok(bag.owner)
}

/// Lays a rule down for these sources, or, for none, for all that have none of their own.
///
/// In this order, so that a kill anywhere leaves a vault that keeps no less: modules, the tags that the rule names where contracts can
/// read them, timelines, and then the rule. Once it is in force all of that is looked at again: what was committed meanwhile may not have
/// known of the contracts.
pub async fn lay_down(
    vault: &Vault,
    unlocked: &Unlocked,
    rule: &Rule,
    sources: &BTreeSet<SourceId>,
) -> Result<(), RetentionError> {
    rule.check()?;
    let owner = owner(vault, unlocked).await?;
    let ledger = vault.ledger_as(&owner);
    ledger.establish(&owner).await?;
    let bound = bound_by(vault, sources).await?;
    let records = ledger.snapshots().await?;
    tell_tags(&ledger, rule, &bound, &records).await?;
    bring_up(&ledger, &owner, &bound).await?;
    ledger.lay_down(&owner, rule, sources).await?;
    bring_up(&ledger, &owner, &bound_by(vault, sources).await?).await?;
    conclude(vault).await
}

/// Takes the own rule of these sources away: the default decides about them again. Owner.
pub async fn take_back(vault: &Vault, unlocked: &Unlocked, sources: &BTreeSet<SourceId>) -> Result<(), RetentionError> {
    let owner = owner(vault, unlocked).await?;
    let ledger = vault.ledger_as(&owner);
    if let Some(rule) = ledger.policy(None).await?.rule() {
        let records = ledger.snapshots().await?;
        tell_tags(&ledger, rule, sources, &records).await?;
    }
    ledger.take_back(&owner, sources).await?;
    bring_up(&ledger, &owner, sources).await?;
    conclude(vault).await
}

/// Copies the ledger's blocks to w+1 sites: what was changed must not be undone by the loss of this host.
pub(crate) async fn conclude(vault: &Vault) -> Result<(), RetentionError> {
    let mut published = crate::publish::Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), vault.standing().await?.height).await;
    Ok(published.require("the ledger's block", usize::from(vault.plan().w) + 1)?)
}

/// Freezes a source, or the whole vault. The writer may, or the owner; where there is no rule yet only the owner, for the contract that
/// can freeze must be made first.
pub async fn freeze(
    vault: &Vault,
    unlocked: Option<&Unlocked>,
    source: Option<SourceId>,
) -> Result<(), RetentionError> {
    let sender = match (unlocked, vault.secrets()) {
        (Some(unlocked), _) => {
            let owner = owner(vault, unlocked).await?;
            vault.ledger_as(&owner).establish(&owner).await?;
            owner
        }
        (None, Some(secrets)) => secrets.writer.clone(),
        (None, None) => return Err(LedgerError::NoModule { name: "freeze" }.into()),
    };
    vault.ledger_as(&sender).freeze(source).await?;
    conclude(vault).await
}

/// Lifts the freeze of a source, or every freeze there is. Owner.
pub async fn unfreeze(vault: &Vault, unlocked: &Unlocked, source: Option<SourceId>) -> Result<(), RetentionError> {
    let owner = owner(vault, unlocked).await?;
    vault.ledger_as(&owner).unfreeze(source).await?;
    conclude(vault).await
}

/// Adds tags to a snapshot with the writer's account, or the owner's, and takes others away with the owner's.
pub async fn tag(
    vault: &Vault,
    unlocked: Option<&Unlocked>,
    snapshot: SnapshotId,
    (add, remove): (&[String], &[String]),
) -> Result<(), RetentionError> {
    let commit = |tags: &[String]| -> Result<Vec<_>, RetentionError> {
        tags.iter().map(|tag| Ok(commitment(vault, tag)?.into())).collect()
    };
    let (added, removed) = (commit(add)?, commit(remove)?);
    let owner = match unlocked {
        Some(unlocked) => Some(owner(vault, unlocked).await?),
        None => None,
    };
    if let Some(owner) = &owner {
        vault.ledger_as(owner).establish(owner).await?;
    }
    let writer = vault.secrets().map(|secrets| secrets.writer.clone());
    if !added.is_empty()
        && let Some(sender) = owner.as_ref().or(writer.as_ref())
    {
        vault.ledger_as(sender).add_tags(snapshot, added).await?;
    }
    if !removed.is_empty()
        && let Some(owner) = &owner
    {
        vault.ledger_as(owner).remove_tags(snapshot, removed).await?;
    }
    conclude(vault).await
}

/// The account that this host writes with.
pub fn writer(vault: &Vault) -> Option<Account> {
    vault.secrets().map(|secrets| secrets.writer.account())
}
