//! Repair: what was lost is computed from k good shards and written again. No key is needed.
//!
//! - Bad files go first, then the good shard is written under the same or another site's name.
//! - Nothing good is moved. Shards that doubled up at a site while others were down get a *further copy* at a site that
//!   came back, where that raises w or wd or a site holds more than max(m, 1). The copy at the crowded site stays:
//!   it harms nothing, and only `prune` will remove what is superfluous.
//! - What lies at a site that is drained is placed as if it lay nowhere, and is read from there. It stays there too.
//! - A good shard that is wanted at a further site is read and written as it is; only what is nowhere costs k reads.

use std::collections::BTreeSet;

use blockhouse_pipeline::shard::{ShardName, StripeShape, StripeWriter, VerifiedShard};
use blockhouse_pipeline::stripe::{RebuildError, ShardFile, copy_shard, rebuild_shards};
use blockhouse_sites::SiteName;
use blockhouse_types::{Code, Durability, ShardIndex, StripeId};
use futures::future::join_all;

use super::check::{ShardState, StripeFindings};
use super::damage::Remedy;
use super::fetch::gather;
use super::layout::Layout;
use super::write::Refusal;
use super::{Holder, ReadHeadError, StripeStore, heavy, key_of};

/// What a repair would do to a stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// The stripe.
    pub stripe: StripeId,
    /// Its code.
    pub code: Code,
    /// The shards to repair from; they stay.
    pub good: Vec<Holder>,
    /// Files to be removed because they are not good.
    pub remove: Vec<Holder>,
    /// Shards that are at no site that keeps its shards, and where they would go.
    pub write: Vec<Holder>,
    /// Further copies of good shards that even out what doubled up.
    pub copy: Vec<Holder>,
    /// What it survives now.
    pub before: Durability,
    /// What it will survive if every site does its part.
    pub after: Durability,
}

impl RepairPlan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.write.is_empty() && self.copy.is_empty()
    }

    /// How many shards are written.
    pub fn writes(&self) -> usize {
        self.write.len() + self.copy.len()
    }

    /// How many shards are read to make them: each itself where all of them are somewhere, else k of the stripe.
    pub fn reads(&self) -> usize {
        let wanted = self.wanted();
        if wanted.iter().all(|index| self.is_somewhere(*index)) { wanted.len() } else { self.code.data() }
    }

    fn wanted(&self) -> BTreeSet<ShardIndex> {
        self.write.iter().chain(&self.copy).map(|holder| holder.index).collect()
    }

    fn is_somewhere(&self, index: ShardIndex) -> bool {
        self.good.iter().any(|holder| holder.index == index)
    }
}

/// What a repair did to a stripe.
#[derive(Debug)]
pub struct Repaired {
    /// The stripe.
    pub stripe: StripeId,
    /// Its code and lengths.
    pub shape: StripeShape,
    /// The shards that were written.
    pub written: Vec<Holder>,
    /// The bad files that were removed.
    pub removed: Vec<Holder>,
    /// What sites refused.
    pub refused: Vec<Refusal>,
    /// How many shards were read for that.
    pub read: usize,
    /// What it survives now.
    pub durability: Durability,
}

/// Why a stripe cannot be repaired with the sites that are up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanRepairError {
    #[error("stripe {stripe} has {found} of the {needed} good shards it needs to be repaired")]
    TooFewShards { stripe: StripeId, found: usize, needed: usize, silent: Vec<SiteName>, faulty: Vec<SiteName> },
}

impl PlanRepairError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::TooFewShards { silent, faulty, .. } => Remedy::for_lack(silent, faulty),
        }
    }
}

/// Why a stripe was not repaired. Nothing was removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    #[error("stripe {stripe} has {found} of the {needed} good shards it needs to be repaired")]
    TooFewShards { stripe: StripeId, found: usize, needed: usize, silent: Vec<SiteName>, faulty: Vec<SiteName> },
    #[error("no claim of a writer was found that new shards of stripe {stripe} could carry")]
    NoWriter {
        stripe: StripeId,
        #[source]
        source: ReadHeadError,
    },
    #[error("the shards of stripe {stripe} could not be made anew")]
    Rebuild {
        stripe: StripeId,
        #[source]
        source: RebuildError,
    },
}

impl RepairError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::TooFewShards { silent, faulty, .. } => Remedy::for_lack(silent, faulty),
            Self::NoWriter { source, .. } => source.remedy(),
            Self::Rebuild { .. } => Remedy::None,
        }
    }
}

/// The files that a repair writes, and how many shards were read for them.
struct Rebuilt {
    shape: StripeShape,
    files: Vec<ShardFile>,
    read: usize,
}

impl StripeStore {
    /// What would repair a stripe, by what a check found. Changes nothing.
    pub fn plan_repair(&self, findings: &StripeFindings) -> Result<RepairPlan, PlanRepairError> {
        let (stripe, code, good) = (findings.stripe, findings.code, findings.good());
        let mut all = Layout::of(stripe, code, &self.places, good.iter().copied());
        let mut layout = Layout::of(stripe, code, &self.places, self.staying_of(&good));
        let (found, needed) = (all.distinct(), code.data());
        let in_the_way = || findings.shards.iter().filter(|shard| shard.state.is_in_the_way());
        if found < needed {
            let faulty: BTreeSet<SiteName> = in_the_way().map(|shard| shard.site.clone()).collect();
            let (silent, faulty) = (self.silent(), faulty.into_iter().collect());
            return Err(PlanRepairError::TooFewShards { stripe, found, needed, silent, faulty });
        }
        let remove = in_the_way().map(|shard| shard.holder).filter(|holder| self.is_writable(holder.member)).collect();
        let write = layout.place(&layout.missing(), |holder| self.takes_shards(holder.member));
        for holder in &write {
            layout.add(*holder);
        }
        let copy = layout.spread(|holder| self.takes_shards(holder.member));
        for holder in write.iter().chain(&copy) {
            all.add(*holder);
        }
        let (before, after) = (findings.durability, all.durability());
        Ok(RepairPlan { stripe, code, good, remove, write, copy, before, after })
    }

    /// Carries a plan out. Shards whose site refuses go to another one, as when a stripe is written.
    ///
    /// A file that the plan calls bad is read again right before it is removed, and kept if it is good by now.
    ///
    /// Holds k shards and those that are written, each of these twice: 3·n/k packs at most. Takes one of the
    /// [`super::PACKS_IN_FLIGHT`] places.
    pub async fn repair(&self, plan: &RepairPlan) -> Result<Repaired, RepairError> {
        let (stripe, code) = (plan.stripe, plan.code);
        let _room = self.room_for_pack().await;
        self.forget(stripe, code);
        let Rebuilt { shape, files, read } = self.rebuilt(plan).await?;
        let mut layout = Layout::of(stripe, code, &self.places, self.staying_of(&plan.good));
        let (removed, mut refused) = self.remove_bad(plan, &mut layout).await;
        let before = layout.clone();
        let mut wanted = layout.missing();
        wanted.retain(|index| files.iter().any(|file| file.name.index == *index));
        refused = self.put_shards(&mut layout, &files, wanted, refused).await;
        let copies: Vec<Holder> = plan.copy.iter().copied().filter(|copy| !layout.holds(*copy)).collect();
        for (copy, put) in copies.iter().zip(join_all(copies.iter().map(|copy| self.put(*copy, &files))).await) {
            match put {
                Ok(()) => layout.add(*copy),
                Err(refusal) => refused.push(refusal),
            }
        }
        self.forget(stripe, code);
        let written = layout.holders().into_iter().filter(|holder| !before.holds(*holder)).collect();
        // What lies at a site that is drained counts as long as that is there.
        plan.good.iter().for_each(|holder| layout.add(*holder));
        Ok(Repaired { stripe, shape, written, removed, refused, read, durability: layout.durability() })
    }

    /// The files that the plan may need, made from k good shards before anything is removed.
    async fn rebuilt(&self, plan: &RepairPlan) -> Result<Rebuilt, RepairError> {
        let (stripe, code) = (plan.stripe, plan.code);
        let (header, writer) =
            self.signed_header(&stripe).await.map_err(|source| RepairError::NoWriter { stripe, source })?;
        let shape = header.shape;
        if let Some(files) = self.copied(plan, shape, &writer).await {
            return Ok(Rebuilt { shape, read: files.len(), files });
        }
        let ask = |index| self.shard(ShardName { stripe, index }, shape);
        let shards: Vec<VerifiedShard> = gather(code.data(), code.indices().map(ask)).await;
        if shards.len() < code.data() {
            let (silent, faulty) = (self.silent(), self.damage.faulty(&stripe));
            let (found, needed) = (shards.len(), code.data());
            return Err(RepairError::TooFewShards { stripe, found, needed, silent, faulty });
        }
        let wanted: Vec<ShardIndex> = plan.wanted().into_iter().collect();
        let (coder, read) = (self.coder(code), shards.len());
        let files = heavy(move || rebuild_shards(&coder, &shards, &wanted, &writer)).await;
        files.map(|files| Rebuilt { shape, files, read }).map_err(|source| RepairError::Rebuild { stripe, source })
    }

    /// The same where every wanted shard is somewhere and none has to be computed; none if one is not, or is not good after all.
    async fn copied(&self, plan: &RepairPlan, shape: StripeShape, writer: &StripeWriter) -> Option<Vec<ShardFile>> {
        let wanted = plan.wanted();
        if wanted.is_empty() || !wanted.iter().all(|index| plan.is_somewhere(*index)) {
            return None;
        }
        let mut files = Vec::with_capacity(wanted.len());
        for index in wanted {
            let shard = self.shard(ShardName { stripe: plan.stripe, index }, shape).await.ok()?;
            let writer = *writer;
            files.push(heavy(move || copy_shard(&shard, &writer)).await.ok()?);
        }
        Some(files)
    }

    /// Those at sites that keep their shards.
    fn staying_of<'a>(&'a self, holders: &'a [Holder]) -> impl Iterator<Item = Holder> + 'a {
        holders.iter().copied().filter(|holder| !self.draining.contains(&holder.member))
    }

    /// V3: removes what is bad, looked at once more.
    async fn remove_bad(&self, plan: &RepairPlan, layout: &mut Layout<'_>) -> (Vec<Holder>, Vec<Refusal>) {
        let (mut removed, mut refused) = (Vec::new(), Vec::new());
        for holder in plan.remove.iter().copied() {
            let (_, state, _) = self.look(plan.stripe, holder, ShardState::Missing).await;
            match state {
                ShardState::Good => {
                    layout.add(holder);
                    continue;
                }
                // What cannot be read now may be good: it is not for us to remove.
                ShardState::Missing | ShardState::SiteDown | ShardState::Unreadable(_) => continue,
                _ => {}
            }
            let Some(site) = self.readable(holder.member) else { continue };
            match site.delete(&key_of(ShardName { stripe: plan.stripe, index: holder.index })).await {
                Ok(_was_there) => removed.push(holder),
                Err(error) => refused.push(Refusal { holder, site: site.name().clone(), error }),
            }
        }
        (removed, refused)
    }
}
