//! What a session must treat as absent, because a removal may be under way.
//!
//! - **Owns** the reading of markings that are not finished, what follows for a session that was opened after them, and that their
//!   lists stay at the sites.
//! - **Does not** remove anything.
//!
//! # Invariants
//! - **M1** A session uses no stripe of an unfinished marking that it knows of, unless a snapshot that was not forgotten when the session
//!   looked lists it: whoever removes by that marking keeps what such snapshots list, also if they were forgotten since.
//! - **M2** Where the list of such a marking cannot be read, every stripe may be in it.
//!
//! Page: `docs/design/retention.md`, section *Removal*.

use std::collections::BTreeSet;

use blockhouse_pipeline::stripe_list::ListNode;
use blockhouse_sites::{Member, ObjectKey, Sites};
use blockhouse_types::{ListHash, StripeId};

use crate::folder::Config;
use crate::ledger::{Ledger, LedgerError, Marking, SnapshotRecord};
use crate::lists::{self, Step};
use crate::vault::Vault;

/// The stripes that a session must not count on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    /// What the markings name; none if a list of them could not be read, and then any stripe may be named.
    named: Option<BTreeSet<StripeId>>,
    /// What snapshots list that are not forgotten.
    listed: BTreeSet<StripeId>,
}

impl Marked {
    /// Nothing is marked.
    pub(crate) fn nothing() -> Self {
        Self { named: Some(BTreeSet::new()), listed: BTreeSet::new() }
    }

    /// True if the stripe may go at any moment.
    pub(crate) fn is_absent(&self, stripe: &StripeId) -> bool {
        let is_named = self.named.as_ref().is_none_or(|named| named.contains(stripe));
        is_named && !self.listed.contains(stripe)
    }
}

/// What a session that was opened at `epoch` must treat as absent. The ledger is read here, after the session was opened.
pub(crate) async fn marked(vault: &Vault, ledger: &Ledger, epoch: u64) -> Result<Marked, LedgerError> {
    let finished = finished(vault);
    if epoch <= finished {
        return Ok(Marked::nothing());
    }
    let mut named = Some(BTreeSet::new());
    for marking in ledger.markings().await?.iter().filter(|marking| (finished + 1..=epoch).contains(&marking.epoch)) {
        match read(vault, marking).await {
            Set::Read(stripes) => named.as_mut().into_iter().for_each(|named| named.extend(&stripes)),
            Set::Gone => {}
            Set::Unreadable => named = None,
        }
    }
    if named.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Marked::nothing());
    }
    let snapshots: Vec<SnapshotRecord> =
        ledger.snapshots().await?.into_iter().filter(|record| !record.forgotten).collect();
    // A list that cannot be read lists nothing here: what it names counts as absent.
    Ok(Marked { named, listed: lists::read_union(vault.sites(), &snapshots).await.stripes })
}

/// The set of a marking.
#[derive(Debug)]
pub(super) enum Set {
    Read(BTreeSet<StripeId>),
    /// Every site is up and says that it has no such list: it went last, after everything that it names.
    Gone,
    Unreadable,
}

pub(super) async fn read(vault: &Vault, marking: &Marking) -> Set {
    match lists::read(vault.sites(), marking.root).await {
        Ok(stripes) => Set::Read(stripes.into_iter().collect()),
        Err(_) if is_gone(vault.sites(), marking.root).await => Set::Gone,
        Err(_) => Set::Unreadable,
    }
}

/// Gives the lists of unfinished markings to the sites that lack them. One is written to every site that is up, at least to w+1; if
/// these are lost one after another, each mended before the next, every site left would say that it has no such list, and a session
/// would count on what a waiting prune is about to remove. What fails here the next repair does.
pub(crate) async fn spread(vault: &Vault) -> Result<(), LedgerError> {
    let finished = finished(vault);
    let markings = vault.ledger().markings().await?;
    let roots = markings.iter().filter(|marking| marking.epoch > finished).map(|marking| marking.root).collect();
    let mut steps = lists::visit(vault.sites(), roots);
    while let Some(step) = steps.recv().await {
        let (Step::Leaf(node, _) | Step::Inner(node, _)) = step else { continue };
        let key = ObjectKey::List(node.hash);
        let is_node = |bytes: &[u8]| ListNode::hash(bytes) == node.hash;
        if let Ok(fetched) = vault.sites().get_any(&key, is_node).await {
            vault.sites().put_everywhere(&key, &fetched.bytes).await;
        }
    }
    Ok(())
}

async fn is_gone(sites: &Sites, root: ListHash) -> bool {
    let key = ObjectKey::List(root);
    let lacks = async |member: &Member| match member.readable() {
        Some(site) => matches!(site.stat(&key).await, Ok(None)),
        None => false,
    };
    futures::future::join_all(sites.members().iter().map(lacks)).await.into_iter().all(|lacks| lacks)
}

/// The last marking that this host knows to be finished.
pub(super) fn finished(vault: &Vault) -> u64 {
    let now = Config::load(vault.folder()).ok().and_then(|config| config.finished_markings);
    now.or(vault.config().finished_markings).unwrap_or(0)
}
