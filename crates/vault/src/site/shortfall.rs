//! What a vault would lack without some of its sites.

use std::collections::BTreeSet;

use blockhouse_types::{Durability, StripeId};

use super::SiteChangeError;
use crate::health::{self, Found};
use crate::ledger::SnapshotRecord;
use crate::lists;
use crate::plain::{self, Act};
use crate::progress::Progress;
use crate::vault::Vault;

/// What is less safe than planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Stripes with fewer than all shards, or that survive the loss of fewer sites than planned.
    pub stripes: u64,
    /// Snapshots whose description is at too few sites, or of which the stripes are not known.
    pub snapshots: u64,
    /// What the weakest snapshot survives; none without a snapshot.
    pub durability: Option<Durability>,
    /// What is planned.
    pub plan: Durability,
}

impl Shortfall {
    /// True if nothing is.
    pub const fn is_none(&self) -> bool {
        self.stripes == 0 && self.snapshots == 0
    }
}

/// Looks at what the sites of `vault` list, and at nothing else: it was opened without those that are to go.
pub(super) async fn shortfall(vault: &Vault, progress: &Progress) -> Result<Shortfall, SiteChangeError> {
    let stripes = vault.stripes().await?;
    let snapshots: Vec<SnapshotRecord> =
        vault.ledger().snapshots().await?.into_iter().filter(|record| !record.forgotten).collect();
    let presence = stripes.presence().await;
    let needed = lists::read_union(vault.sites(), &snapshots).await;
    let plan = stripes.plan_durability();
    let is_below = |stripe: &&StripeId| {
        let now = presence.durability(*stripe);
        now.is_none_or(|now| usize::from(now.d) < vault.config().code.shards() || now.w < plan.w)
    };
    let below = needed.stripes.iter().filter(is_below).count() as u64;
    let looking = plain::Request { data_basis_points: None, act: Act::Look };
    let found = plain::survey(vault, &snapshots, &needed.nodes, looking, progress).await?;
    let lost = BTreeSet::new();
    let found = Found { stripes: &stripes, presence: &presence, whereabouts: &found.whereabouts, lost: &lost };
    let assessed = health::assess(vault, &snapshots, found).await;
    let least = assessed.iter().map(|health| health.now).reduce(Durability::least);
    let is_weak = |health: &&health::Health| health.is_list_lost() || health.is_description_below(plan.w);
    let weak = assessed.iter().filter(is_weak).count() as u64;
    Ok(Shortfall { stripes: below, snapshots: weak, durability: least, plan })
}
