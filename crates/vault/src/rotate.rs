//! Other keys for what there is: manifest keys wrapped anew, another key bag, another owner's account, and the old ones removed.
//!
//! - **Owns** the order of a rotation, and the account of what old keys open still.
//! - **Does not** change the vault secret: chunk ids and keys follow from it, so only a new vault has another one.
//!
//! # Invariants
//! - **R1** New keys are in force when the ledger names the bag that is sealed to them, in the block in which their account becomes the
//!   owner: before it the old ones do everything, after it the new ones do.
//! - **R2** Old wraps and bags are removed at a site only when the new ones are there, at `Vault::quorum` sites, and at more than half
//!   of all: then `repair` spreads the new ones (`plain`).
//! - **R3** Nobody is let in: of the readers only those get a snapshot's key who could open it before.
//!
//! Page: `docs/design/keys.md`, section *Rotation*.

mod old;
mod wraps;

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};
use alloy_sol_types::SolCall;
use blockhouse_crypto::recipient::{RecipientError, UnwrapError};
use blockhouse_crypto::{AgeIdentity, Identity, PaperKey, Recipient, RecipientSet, Role};
use blockhouse_ledger::contracts::{Access, Vault as Contract};
use blockhouse_pipeline::key_bag::{KeyBag, OpenBagError};
use blockhouse_sites::SiteName;
use blockhouse_types::{Account, SnapshotId, VaultId};

use crate::bag::{self, BagChangeError, Looked};
use crate::ledger::{LedgerError, address};
use crate::progress::Progress;
use crate::publish::TooFewCopies;
use crate::reader::OpenSnapshotError;
use crate::unlock::{BagError, Unlocked};
use crate::vault::Vault;

pub use old::Left;

/// The keys that take the place of the old ones; none of them: only wraps and bag are made anew.
#[derive(Debug, Default)]
pub struct NewKeys {
    /// The owner's identity, with an account of its own.
    pub identity: Option<Identity>,
    /// The paper key.
    pub paper: Option<PaperKey>,
}

/// What a rotation did.
#[derive(Debug, Default)]
pub struct RotateReport {
    /// Snapshots whose keys were wrapped anew.
    pub rewrapped: u64,
    /// Snapshots whose wraps were for these recipients already.
    pub current: u64,
    /// Snapshots that were forgotten: their wraps are left as they are.
    pub forgotten: u64,
    /// Snapshots that no key given opens: their wraps are left as they are.
    pub unopened: Vec<(SnapshotId, OpenSnapshotError)>,
    /// The version of the key bag that is in force.
    pub bag_version: u32,
    /// Accounts that could hand the ledger over and cannot any more.
    pub accounts_removed: Vec<Account>,
    /// Accounts that can hand it over, beside the owner's.
    pub accounts_left: Vec<Account>,
    /// Writers beside this host's that are enrolled.
    pub other_writers: Vec<Account>,
    /// Old wraps that were removed at sites.
    pub wraps_removed: u64,
    /// Old key bags that were removed at sites.
    pub bags_removed: u64,
    /// What is left of the old at which site, and why.
    pub left: BTreeMap<SiteName, Left>,
}

/// Why keys were not rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// This folder only reads the vault.
    #[error("this host holds no writer's secrets of the vault: it cannot rotate its keys")]
    NoWriter,
    /// Somebody else is the owner.
    #[error("the ledger's owner is {owner}, of which neither the key bag nor the new identity holds the account")]
    OtherOwner { owner: Account },
    /// Who may hand the ledger over is not the owner's alone to change.
    #[error("the recovery accounts of this ledger change by the word of {threshold} of them")]
    NeedsOthers { threshold: u64 },
    /// Snapshots stay closed.
    #[error("{count} snapshots could not be opened to wrap their keys anew, {first} among them")]
    Unopened {
        count: usize,
        first: SnapshotId,
        #[source]
        source: Box<OpenSnapshotError>,
    },
    /// Too few sites took new wraps.
    #[error("the new wraps of snapshot {snapshot} are durable at too few sites")]
    Wraps {
        snapshot: SnapshotId,
        #[source]
        source: TooFewCopies,
    },
    /// The new keys.
    #[error("the new keys are no recipients")]
    Recipient(#[from] RecipientError),
    /// The key bag.
    #[error(transparent)]
    Bag(#[from] BagChangeError),
    /// The ledger.
    #[error("the ledger did not take the new keys")]
    Ledger(#[from] LedgerError),
    /// The user stopped it.
    #[error("the rotation was interrupted")]
    Interrupted,
}

impl NewKeys {
    /// A fresh identity for a vault, with an account of its own.
    pub fn make_identity(vault: VaultId) -> Identity {
        Identity::generate(vault, &mut rand::rng())
    }

    /// A fresh paper key.
    pub fn make_paper() -> PaperKey {
        PaperKey::generate(&mut rand::rng())
    }

    fn unlocked(&self) -> Vec<Unlocked> {
        let identity = self.identity.iter().map(|identity| Unlocked::Owner(Box::new(identity.clone())));
        let paper = self.paper.iter().map(|paper| Unlocked::Paper(Box::new(paper.clone())));
        identity.chain(paper).collect()
    }

    const fn is_none(&self) -> bool {
        self.identity.is_none() && self.paper.is_none()
    }
}

/// Rotates keys. Run again after a kill, with the same old and new keys, it goes on; nothing of the old is lost before the new is in
/// force.
pub async fn rotate(
    vault: &Vault,
    unlocked: &Unlocked,
    keys: &NewKeys,
    progress: &Progress,
) -> Result<RotateReport, RotateError> {
    if vault.secrets().is_none() {
        return Err(RotateError::NoWriter);
    }
    match vault.ledger().recovery().await?.threshold {
        threshold if threshold > 1 && !keys.is_none() => return Err(RotateError::NeedsOthers { threshold }),
        _ => {}
    }
    let looked = look(vault, unlocked, keys).await?;
    bag::bring(vault, &looked).await?;
    let wanted = wanted(&looked.bag.recipients, keys)?;
    let ages: Vec<AgeIdentity> =
        std::iter::once(unlocked.age()).chain(keys.unlocked().iter().map(Unlocked::age)).collect();
    let terms = wraps::Terms { wanted: &wanted, ages: &ages };
    let mut report = RotateReport::default();
    let mut versions = BTreeMap::new();
    wraps::rewrap(vault, terms, &mut versions, &mut report, progress).await?;
    refuse_unopened(vault, &mut report)?;
    let owner = keys.identity.as_ref().map_or_else(|| looked.bag.owner.clone(), |identity| identity.owner().clone());
    let next = KeyBag { recipients: wanted.clone(), owner, ..looked.bag.clone() };
    let is_in_force = !keys.is_none()
        && looked.bag.recipients == next.recipients
        && looked.bag.owner.account() == next.owner.account();
    if !is_in_force {
        put_in_force(vault, &looked.bag, &next, keys, &mut report).await?;
    }
    // What was committed meanwhile was wrapped for the old set.
    wraps::rewrap(vault, terms, &mut versions, &mut report, progress).await?;
    report.bag_version = vault.ledger().bag().await.map_err(BagChangeError::from)?.0;
    old::remove(vault, &versions, &mut report).await?;
    accounts(vault, &next, &mut report).await?;
    Ok(report)
}

/// The bag in force, opened with the key given, or, if a run before came so far, with a new one.
async fn look(vault: &Vault, unlocked: &Unlocked, keys: &NewKeys) -> Result<Looked, RotateError> {
    let mut refused = match bag::look(vault, unlocked).await {
        Err(error) if is_for_others(&error) => error,
        looked => return Ok(looked?),
    };
    for new in keys.unlocked() {
        match bag::look(vault, &new).await {
            Err(error) if is_for_others(&error) => refused = error,
            looked => return Ok(looked?),
        }
    }
    Err(refused.into())
}

const fn is_for_others(error: &BagChangeError) -> bool {
    matches!(
        error,
        BagChangeError::Bag(BagError::Open(OpenBagError::Decrypt { source: UnwrapError::NotForThis { .. }, .. }))
    )
}

/// The recipients of now, with new keys in the place of old ones.
fn wanted(current: &RecipientSet, keys: &NewKeys) -> Result<RecipientSet, RecipientError> {
    let replaced = |member: &Recipient| match (member.role(), &keys.identity, &keys.paper) {
        (Role::Owner, Some(identity), _) => identity.age().recipient(Role::Owner, member.label()),
        (Role::Paper, _, Some(paper)) => paper.age_identity().recipient(Role::Paper, member.label()),
        _ => Ok(member.clone()),
    };
    RecipientSet::try_new(current.members().iter().map(replaced).collect::<Result<_, _>>()?)
}

fn refuse_unopened(vault: &Vault, report: &mut RotateReport) -> Result<(), RotateError> {
    if report.unopened.is_empty() || vault.settings().accept_risk {
        return Ok(());
    }
    let count = report.unopened.len();
    let (first, source) = report.unopened.swap_remove(0);
    Err(RotateError::Unopened { count, first, source: Box::new(source) })
}

/// R1: the bag durable, then one block that makes the new account the owner, names the bag and its set, and puts recovery accounts
/// right. Ownership is offered in a block before, which changes nothing yet.
async fn put_in_force(
    vault: &Vault,
    old: &KeyBag,
    next: &KeyBag,
    keys: &NewKeys,
    report: &mut RotateReport,
) -> Result<(), RotateError> {
    let (version, hash, published) = bag::publish(vault, next).await?;
    let (owner, new) = (vault.ledger().owner().await?, next.owner.account());
    let mut calls = Vec::new();
    if owner != new {
        if owner != old.owner.account() {
            return Err(RotateError::OtherOwner { owner });
        }
        vault.ledger_as(&old.owner).transfer_ownership(new).await?;
        calls.push(vault.ledger().to_access(&Access::acceptOwnershipCall {}));
    }
    let record = Contract::recordBagCall { version, hash: B256::new(hash.to_bytes()) };
    calls.push(vault.ledger().to_vault(&record));
    if vault.ledger().default_recipients().await? != next.recipients.hash() {
        let set = B256::new(next.recipients.hash().to_bytes());
        calls.push(vault.ledger().to_vault(&Contract::setDefaultRecipientsCall { set }));
    }
    let (add, remove) = recovery_changes(vault, old, next, keys).await?;
    for who in add {
        calls.push(vault.ledger().to_access(&Access::addRecoveryCall { who: address(who) }));
    }
    for who in &remove {
        calls.push(vault.ledger().to_access(&Access::removeRecoveryCall { who: address(*who) }));
    }
    vault.ledger_as(&next.owner).send_all(&next.owner, calls).await?;
    report.accounts_removed = remove;
    Ok(bag::conclude(vault, next, published).await?)
}

/// Which accounts become ones that may hand the ledger over, and which cease to be. Whose an account is its key alone tells: with a
/// new paper key every other one is of an old key, or of nobody who should have it.
async fn recovery_changes(
    vault: &Vault,
    old: &KeyBag,
    next: &KeyBag,
    keys: &NewKeys,
) -> Result<(Vec<Account>, Vec<Account>), LedgerError> {
    let current = vault.ledger().recovery_accounts().await?;
    let (new, paper) = (next.owner.account(), keys.paper.as_ref().map(|paper| paper.recovery_account().account()));
    let add = paper.iter().copied().filter(|paper| !current.contains(paper)).collect();
    let is_old = |who: &Account| match paper {
        Some(paper) => *who != new && *who != paper,
        None => *who == old.owner.account() && *who != new,
    };
    Ok((add, current.into_iter().filter(is_old).collect()))
}

/// What an intruder with the old keys may have left on the ledger.
async fn accounts(vault: &Vault, next: &KeyBag, report: &mut RotateReport) -> Result<(), LedgerError> {
    let own = vault.secrets().map(|secrets| secrets.writer.account());
    let writers = vault.ledger().writers().await?;
    let others = writers.iter().filter(|writer| writer.active && Some(writer.account) != own);
    report.other_writers = others.map(|writer| writer.account).collect();
    let left = vault.ledger().recovery_accounts().await?.into_iter().filter(|who| *who != next.owner.account());
    report.accounts_left = left.collect();
    Ok(())
}

impl crate::ledger::Ledger {
    fn to_access(&self, call: &impl SolCall) -> (Account, Bytes) {
        (self.access_account(), Bytes::from(call.abi_encode()))
    }

    fn to_vault(&self, call: &impl SolCall) -> (Account, Bytes) {
        (self.vault_account(), Bytes::from(call.abi_encode()))
    }
}
