//! What is left of a stripe: by names, or by every byte.

use std::sync::Arc;

use blockhouse_pipeline::shard::{
    ShardError, ShardFault, ShardHeader, ShardName, ShardPrefix, StripeShape, UncheckedShard,
};
use blockhouse_sites::{Site, SiteError, SiteName};
use blockhouse_types::limits::{MIB, SHARD_LEAF};
use blockhouse_types::{Code, Durability, StripeId, VaultId};
use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::layout::Layout;
use super::presence::{Presence, Sought};
use super::{ClaimFault, Holder, StripeStore, heavy, key_of};

/// How much of a shard is read at once: whole leaves, long enough that a request is worth its latency.
const STEP: usize = 4 * MIB;

/// How closely a stripe is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The listing alone: no site is asked.
    Names,
    /// Every byte of every shard is read and verified, and the claim in its header.
    Data,
}

/// The state of one shard at one site.
#[derive(Debug, Clone)]
pub enum ShardState {
    /// As it should be, as far as was looked.
    Good,
    /// No site that was listed has it. The site named is the one that the plan gives it to.
    Missing,
    /// The same, but the site that should have it was not listed.
    SiteDown,
    /// Its bytes are not right.
    Damaged(ShardFault),
    /// A good file of another vault or of another shard has its name.
    Foreign(ShardFault),
    /// It has another length than it should.
    WrongSize {
        /// The length found.
        found: u64,
    },
    /// Its bytes are right, and the claim in its header is not that of a writer.
    Unclaimed(ClaimFault),
    /// The site is up and cannot give it.
    Unreadable(Arc<SiteError>),
}

/// What was found of one shard.
#[derive(Debug, Clone)]
pub struct ShardFinding {
    /// The shard and the site's number.
    pub holder: Holder,
    /// The site's name.
    pub site: SiteName,
    /// Its state there.
    pub state: ShardState,
}

/// What was found of a stripe.
#[derive(Debug, Clone)]
pub struct StripeFindings {
    /// The stripe.
    pub stripe: StripeId,
    /// How closely it was looked at.
    pub depth: Depth,
    /// Its code.
    pub code: Code,
    /// Its shape, if it was given or a good header says so.
    pub shape: Option<StripeShape>,
    /// Every file under the name of one of its shards, and every shard that is nowhere; by index.
    pub shards: Vec<ShardFinding>,
    /// What the good shards survive.
    pub durability: Durability,
}

impl ShardState {
    /// Neither good nor unknown: there is something to repair.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Good | Self::SiteDown)
    }

    /// There is a file that should not be there.
    pub fn is_in_the_way(&self) -> bool {
        self.is_damage() && !matches!(self, Self::Missing)
    }
}

impl StripeFindings {
    /// The good shards.
    pub fn good(&self) -> Vec<Holder> {
        self.shards.iter().filter(|shard| matches!(shard.state, ShardState::Good)).map(|shard| shard.holder).collect()
    }

    /// True if every shard is somewhere and good, and no bad file has the name of one.
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| matches!(shard.state, ShardState::Good))
    }

    /// True if there are enough good shards to read it.
    pub fn is_readable(&self) -> bool {
        usize::from(self.durability.d) >= self.code.data()
    }
}

impl StripeStore {
    /// Looks at all shards of a stripe that a listing found. With [`Depth::Data`] it reads them, k at the same time: it
    /// holds k steps of [`STEP`] and takes one of the [`super::PACKS_IN_FLIGHT`] places.
    pub async fn check(&self, presence: &Presence, stripe: impl Into<Sought>, depth: Depth) -> StripeFindings {
        let sought: Sought = stripe.into();
        let (stripe, mut code, mut shape) = (sought.id, presence.code_of(sought), sought.shape);
        let right = presence.holders(sought).into_iter().map(|holder| (holder, ShardState::Good));
        let wrong = presence.wrong_sizes(sought);
        let wrong = wrong.into_iter().map(|(holder, found)| (holder, ShardState::WrongSize { found }));
        let mut states: Vec<(Holder, ShardState)> = right.chain(wrong).collect();
        if depth == Depth::Data {
            let _room = self.room_for_pack().await;
            let looks: Vec<_> = states.into_iter().map(|(holder, listed)| self.look(stripe, holder, listed)).collect();
            // As many as make up a pack, whatever the code: the other shards wait.
            let looked: Vec<_> = stream::iter(looks).buffered(code.data()).collect().await;
            let header = looked.iter().find_map(|(_, _, header)| header.as_ref());
            shape = header.map(|header| header.shape).or(shape);
            code = shape.map_or(code, StripeShape::code);
            states = looked.into_iter().map(|(holder, state, _)| (holder, state)).collect();
        }
        self.findings(
            presence,
            StripeFindings {
                stripe,
                depth,
                code,
                shape,
                shards: states.into_iter().map(|(holder, state)| self.finding(holder, state)).collect(),
                durability: Durability { d: 0, w: 0, wd: 0 },
            },
        )
    }

    /// Adds what is nowhere, and what the good ones survive.
    fn findings(&self, presence: &Presence, mut findings: StripeFindings) -> StripeFindings {
        let seen: Vec<Holder> = findings.shards.iter().map(|shard| shard.holder).collect();
        for index in findings.code.indices().filter(|index| seen.iter().all(|holder| holder.index != *index)) {
            let name = ShardName { stripe: findings.stripe, index };
            let Some(member) = self.planned_member(name) else { continue };
            let is_listed = presence.listed().contains(&member);
            let state = if is_listed { ShardState::Missing } else { ShardState::SiteDown };
            findings.shards.push(self.finding(Holder { index, member }, state));
        }
        findings.shards.sort_by_key(|shard| shard.holder);
        findings.durability = Layout::of(findings.stripe, findings.code, &self.places, findings.good()).durability();
        findings
    }

    fn finding(&self, holder: Holder, state: ShardState) -> ShardFinding {
        ShardFinding { holder, site: self.site_name(holder.member), state }
    }

    /// Reads and verifies one shard at one site.
    pub(super) async fn look(
        &self,
        stripe: StripeId,
        holder: Holder,
        listed: ShardState,
    ) -> (Holder, ShardState, Option<ShardHeader>) {
        let name = ShardName { stripe, index: holder.index };
        let Some(site) = self.readable(holder.member) else { return (holder, ShardState::SiteDown, None) };
        let read = match self.read_through(site, name).await {
            Ok(read) => read,
            Err(error) if error.is_not_found() => return (holder, ShardState::Missing, None),
            Err(_) if self.readable(holder.member).is_none() => return (holder, ShardState::SiteDown, None),
            Err(error) => return (holder, ShardState::Unreadable(Arc::new(error)), None),
        };
        match read {
            Ok(header) => match self.writer_of(&header) {
                Ok(_) => (holder, ShardState::Good, Some(header)),
                Err(fault) => (holder, ShardState::Unclaimed(fault), Some(header)),
            },
            Err(error) => {
                let state = match (error.fault, listed) {
                    (fault @ (ShardFault::OtherVault { .. } | ShardFault::OtherShard { .. }), _) => {
                        ShardState::Foreign(fault)
                    }
                    (_, listed @ ShardState::WrongSize { .. }) => listed,
                    (fault, _) => ShardState::Damaged(fault),
                };
                (holder, state, None)
            }
        }
    }

    /// Reads every byte of a shard and verifies it, a step at a time: shards are long, and many are read.
    async fn read_through(&self, site: &Site, name: ShardName) -> Result<Result<ShardHeader, ShardError>, SiteError> {
        let (key, vault) = (key_of(name), self.vault);
        let length = site.stat(&key).await?.unwrap_or_default();
        if length <= STEP as u64 {
            // A file that is not there says so here.
            let file = site.get(&key).await?;
            return Ok(heavy(move || {
                UncheckedShard::new(file).verify(&vault, name).map(|shard| shard.header().clone())
            })
            .await);
        }
        let first = site.get_range(&key, 0..STEP as u64).await?;
        let begun = heavy(move || begin(&first, &vault, name, length)).await;
        let (prefix, mut at) = match begun {
            Ok((prefix, done)) => (Arc::new(prefix), done),
            Err(error) => return Ok(Err(error)),
        };
        let payload = prefix.header().shape.payload_len();
        while at < payload {
            let range = at..payload.min(at + STEP);
            let file = prefix.file_range(&range);
            let bytes = site.get_range(&key, file.start as u64..file.end as u64).await?;
            let (prefix, start) = (Arc::clone(&prefix), range.start);
            if let Err(error) = heavy(move || prefix.verify_range(start, bytes)).await {
                return Ok(Err(error));
            }
            at = range.end;
        }
        Ok(Ok(prefix.header().clone()))
    }
}

/// Verifies the beginning of a shard: its prefix, and the whole leaves that came with it; gives how long these are.
fn begin(first: &Bytes, vault: &VaultId, shard: ShardName, length: u64) -> Result<(ShardPrefix, usize), ShardError> {
    let prefix = ShardPrefix::verify(first, vault, shard)?;
    let shape = prefix.header().shape;
    if shape.file_len() as u64 != length {
        let (found, expected) = (usize::try_from(length).unwrap_or(usize::MAX), shape.file_len());
        return Err(ShardError { shard, fault: ShardFault::Length { found, expected } });
    }
    let came = first.len().saturating_sub(shape.prefix_len()).min(shape.payload_len());
    let whole = if came == shape.payload_len() { came } else { came / SHARD_LEAF * SHARD_LEAF };
    prefix.verify_range(0, first.slice(shape.prefix_len()..shape.prefix_len() + whole))?;
    Ok((prefix, whole))
}
