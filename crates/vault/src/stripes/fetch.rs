//! Getting one shard, or a range of it, from whichever site has it.
//!
//! - **Owns** the order in which sites are asked, and what an answer says about the site.
//! - **Does not** combine shards: [`super::read`] does.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_pipeline::placement::plan_degraded;
use blockhouse_pipeline::shard::{
    SHARD_FIXED_LEN, ShardFault, ShardName, ShardPrefix, StripeShape, UncheckedShard, VerifiedRange, VerifiedShard,
    prefix_len,
};
use blockhouse_sites::{Site, SiteError};
use blockhouse_types::StripeId;
use bytes::Bytes;
use futures::future::{FutureExt, try_join};
use futures::stream::{FuturesUnordered, StreamExt};

use super::damage::Fault;
use super::known::Fact;
use super::{StripeStore, heavy, key_of};

/// How long answers may stay out before one more shard is asked for. A disk that is awake answers in a tenth of it, so
/// the extra read is rare; one that spins up takes many times as long.
pub(super) const HEDGE_DELAY: Duration = Duration::from_millis(250);

/// Leaves of so many bytes are hashed on a thread that may take its time: others wait for the one that reads from the sites.
const HEAVY_LEAVES: usize = 128 << 10;

/// Why no site gave a shard. The order is that of what is worth remembering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    /// Every site that was asked says that it is not there.
    Absent,
    /// A site went down.
    Silent,
    /// A site gave something else, or an error.
    Faulty,
}

/// Runs tasks until `needed` of them succeed: that many at once, one more for each that fails, and one more whenever
/// [`HEDGE_DELAY`] passes without an answer. What is still under way then is given up; it only reads.
pub(super) async fn gather<T, F>(needed: usize, tasks: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = Result<T, Miss>>,
{
    gather_within(HEDGE_DELAY, needed, tasks).await
}

/// The same with another delay: that of answers that are long.
pub(super) async fn gather_within<T, F>(delay: Duration, needed: usize, tasks: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = Result<T, Miss>>,
{
    let mut waiting = tasks.into_iter().fuse();
    let mut asked: FuturesUnordered<F> = waiting.by_ref().take(needed).collect();
    let mut got = Vec::with_capacity(needed);
    let mut can_hedge = true;
    while got.len() < needed {
        // Without another task to begin there is nothing to hurry for.
        let answer = if can_hedge { tokio::time::timeout(delay, asked.next()).await } else { Ok(asked.next().await) };
        let next = match answer {
            Ok(Some(Ok(good))) => {
                got.push(good);
                continue;
            }
            Ok(Some(Err(_))) | Err(_) => waiting.next(),
            Ok(None) => match waiting.next() {
                Some(task) => Some(task),
                None => break,
            },
        };
        can_hedge = next.is_some();
        asked.extend(next);
    }
    got
}

impl StripeStore {
    /// The members to ask for a shard, the likeliest first: where it was seen, where the plan would put it, the rest.
    pub(super) fn candidates(&self, shard: ShardName) -> Vec<usize> {
        let seen = self.guided().map(|guide| guide.holders(shard.stripe)).unwrap_or_default();
        let seen = seen.into_iter().filter(|holder| holder.index == shard.index).map(|holder| holder.member);
        let mut members: Vec<usize> = seen.chain(self.planned_member(shard)).collect();
        members.extend(0..self.sites.members().len());
        let mut asked = vec![false; self.sites.members().len()];
        members.retain(|member| {
            let is_new = asked.get_mut(*member).is_some_and(|asked| !std::mem::replace(asked, true));
            is_new && self.readable(*member).is_some_and(|site| !self.damage.is_useless(shard, site.name()))
        });
        members
    }

    /// Others had what was asked of the site that should have this shard.
    pub(super) fn note_overtaken(&self, shard: ShardName) {
        if let Some(member) = self.candidates(shard).first() {
            self.overtaken.note(*member);
        }
    }

    /// Where the plan puts a shard when all sites are up.
    pub(super) fn planned_member(&self, shard: ShardName) -> Option<usize> {
        let plan = plan_degraded(self.code, &self.staying, &shard.stripe).ok()?;
        self.places.member_of(*plan.sites.get(usize::from(shard.index.0))?)
    }

    /// True if the site that should have a shard does not answer, or not in time, or no site has it. A guess: no site is asked.
    pub(super) fn is_out_of_reach(&self, shard: ShardName) -> bool {
        if matches!(self.known.get(shard), Some(Fact::Absent)) {
            return true;
        }
        let seen = self.guided().map(|guide| guide.holders(shard.stripe)).unwrap_or_default();
        let mut members = seen.into_iter().filter(|holder| holder.index == shard.index).map(|holder| holder.member);
        match members.next().or_else(|| self.planned_member(shard)) {
            Some(member) => {
                let is_useless = |site: &Site| self.damage.is_useless(shard, site.name());
                self.overtaken.is(member) || self.readable(member).is_none_or(is_useless)
            }
            None => true,
        }
    }

    /// A whole good shard. Holds one shard file.
    pub(super) async fn shard(&self, name: ShardName, shape: StripeShape) -> Result<VerifiedShard, Miss> {
        self.first_good(name, |member| self.shard_at(member, name, shape)).await
    }

    /// Whole leaves of a shard that hold a range of its payload, with its prefix.
    pub(super) async fn range(
        &self,
        name: ShardName,
        shape: StripeShape,
        wanted: &Range<usize>,
    ) -> Result<(VerifiedRange, Arc<ShardPrefix>), Miss> {
        self.first_good(name, |member| self.range_at(member, name, shape, wanted)).await
    }

    /// Asks one site after the other: a shard lies at one, as a rule.
    async fn first_good<T, F>(&self, name: ShardName, ask: impl Fn(usize) -> F) -> Result<T, Miss>
    where
        F: Future<Output = Result<T, Miss>>,
    {
        if matches!(self.known.get(name), Some(Fact::Absent)) {
            return Err(Miss::Absent);
        }
        let mut worst = Miss::Absent;
        for member in self.candidates(name) {
            match ask(member).await {
                Ok(good) => return Ok(good),
                Err(miss) => worst = worst.max(miss),
            }
        }
        if worst == Miss::Absent {
            self.note_absent(name);
        }
        Err(worst)
    }

    /// No site that answers has it. If the one that should is among them, it lost it.
    fn note_absent(&self, name: ShardName) {
        self.known.note(name, Fact::Absent);
        if let Some(site) = self.planned_member(name).and_then(|member| self.readable(member)) {
            self.damage.note(name, site.name().clone(), Fault::Missing);
        }
    }

    async fn shard_at(&self, member: usize, name: ShardName, shape: StripeShape) -> Result<VerifiedShard, Miss> {
        let site = self.readable(member).ok_or(Miss::Silent)?;
        let length = site.stat(&key_of(name)).await.map_err(|error| self.failed(member, name, error))?;
        let (found, expected) = (length.ok_or(Miss::Absent)?, shape.file_len());
        if found != expected as u64 {
            let found = usize::try_from(found).unwrap_or(usize::MAX);
            return Err(self.bad(member, name, ShardFault::Length { found, expected }));
        }
        let file = self.bytes(member, name, 0..expected).await?;
        let vault = self.vault;
        let verified = heavy(move || UncheckedShard::new(file).verify(&vault, name)).await;
        verified.map_err(|error| self.altered(member, name, error.fault))
    }

    async fn range_at(
        &self,
        member: usize,
        name: ShardName,
        shape: StripeShape,
        wanted: &Range<usize>,
    ) -> Result<(VerifiedRange, Arc<ShardPrefix>), Miss> {
        let leaves = shape.covering(wanted).ok_or(Miss::Faulty)?;
        // Where they lie follows from the shape: the line is crossed once, not twice.
        let (prefix, bytes) = try_join(
            self.known_prefix_at(member, name, shape.prefix_len()),
            self.bytes(member, name, shape.file_range(&leaves)),
        )
        .await?;
        if prefix.header().shape != shape {
            // The stripe id commits to the shape: it is not the site that is wrong.
            return Err(Miss::Faulty);
        }
        let length = leaves.len();
        let verify = move || prefix.verify_range(leaves.start, bytes).map(|range| (range, prefix));
        let verified = if length < HEAVY_LEAVES { verify() } else { heavy(verify).await };
        verified.map_err(|error| self.altered(member, name, error.fault))
    }

    /// A verified prefix, by the length that it should have. Many ask for the same one at the same time: it is read once.
    async fn known_prefix_at(&self, member: usize, name: ShardName, length: usize) -> Result<Arc<ShardPrefix>, Miss> {
        if let Some(prefix) = self.known.prefix(name) {
            return Ok(prefix);
        }
        let _turn = self.known.turn(name, member).await;
        match self.known.prefix(name) {
            Some(prefix) => Ok(prefix),
            None => self.prefix_at(member, name, length).await,
        }
    }

    /// The same, read.
    async fn prefix_at(&self, member: usize, name: ShardName, length: usize) -> Result<Arc<ShardPrefix>, Miss> {
        let bytes = self.bytes(member, name, 0..length).await?;
        match ShardPrefix::verify(&bytes, &self.vault, name) {
            Ok(prefix) => {
                let prefix = Arc::new(prefix);
                self.known.note(name, Fact::Prefix(prefix.clone()));
                Ok(prefix)
            }
            Err(error) => Err(self.bad(member, name, error.fault)),
        }
    }

    /// A verified prefix of a shard of which nothing is known.
    pub(super) async fn prefix_of_unknown(&self, member: usize, name: ShardName) -> Result<Arc<ShardPrefix>, Miss> {
        let first = self.bytes(member, name, 0..SHARD_FIXED_LEN).await?;
        let length = prefix_len(&first).map_err(|fault| self.bad(member, name, fault))?;
        self.prefix_at(member, name, length).await
    }

    /// What a site has there.
    pub(super) async fn bytes(&self, member: usize, name: ShardName, range: Range<usize>) -> Result<Bytes, Miss> {
        let site = self.readable(member).ok_or(Miss::Silent)?;
        let range = range.start as u64..range.end as u64;
        // On the heap: what is below is deep, and reads of reads hold it many times.
        let read = site.get_range(&key_of(name), range).boxed().await;
        if read.is_ok() {
            self.overtaken.answered(member);
        }
        read.map_err(|error| self.failed(member, name, error))
    }

    /// What a failed call says.
    fn failed(&self, member: usize, name: ShardName, error: SiteError) -> Miss {
        if error.is_not_found() {
            return Miss::Absent;
        }
        if error.is_down() || self.readable(member).is_none() {
            return Miss::Silent;
        }
        self.damage.note(name, self.site_name(member), Fault::Unreadable(Arc::new(error)));
        Miss::Faulty
    }

    /// Bytes that are wrong at one place; others of the same file may be right.
    fn altered(&self, member: usize, name: ShardName, fault: ShardFault) -> Miss {
        self.damage.note(name, self.site_name(member), Fault::Bytes(fault));
        Miss::Faulty
    }

    /// A file that is not the shard, whatever part of it is read.
    fn bad(&self, member: usize, name: ShardName, fault: ShardFault) -> Miss {
        self.damage.note_useless(name, self.site_name(member), Fault::Bytes(fault));
        Miss::Faulty
    }

    /// What was learned of a stripe's shards may no longer hold.
    pub(super) fn forget(&self, stripe: StripeId, code: blockhouse_types::Code) {
        for index in code.indices() {
            let name = ShardName { stripe, index };
            self.known.forget(name);
            self.damage.forget(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(number: u32) -> Result<u32, Miss> {
        match number {
            0 => std::future::pending().await,
            bad if bad % 2 == 1 => Err(Miss::Faulty),
            good => Ok(good),
        }
    }

    /// Tasks that fail are replaced at once, tasks that hang after a while, and no more are begun than that.
    #[tokio::test]
    async fn gather_goes_round_what_fails_and_what_hangs() {
        let begun = std::cell::Cell::new(0);
        let tasks = [1, 0, 4, 6, 8].into_iter().map(|number| {
            begun.set(begun.get() + 1);
            answer(number)
        });
        let got = gather(2, tasks).await;
        assert_eq!((got, begun.get()), (vec![4, 6], 4));
    }

    #[tokio::test]
    async fn gather_ends_when_too_few_can_be_had() {
        assert_eq!(gather(2, [1, 2, 3].map(answer)).await, [2]);
        assert!(gather(1, [0; 0].map(answer)).await.is_empty());
    }
}
