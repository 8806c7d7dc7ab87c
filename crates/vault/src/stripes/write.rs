//! Writing stripes: every shard durable at a live site, or said which is not.

use blockhouse_pipeline::shard::{ShardError, ShardPrefix};
use blockhouse_pipeline::stripe::{ShardFile, Stripe};
use blockhouse_sites::{Cause, SiteError, SiteName};
use blockhouse_types::{Durability, ShardIndex, StripeId};
use futures::future::join_all;

use super::damage::Remedy;
use super::layout::Layout;
use super::{ClaimFault, Holder, StripeStore, key_of};
use crate::index::StripeEntry;

/// A stripe that was written.
#[derive(Debug)]
pub struct Written {
    /// What the index keeps of it.
    pub entry: StripeEntry,
    /// Its durable shards.
    pub holders: Vec<Holder>,
    /// What it survives; less than planned if sites are down or refused.
    pub durability: Durability,
    /// The sites that did not take a shard; others hold it, as far as there are others.
    pub refused: Vec<Refusal>,
}

/// A site that did not take a shard, or did not give one up.
#[derive(Debug, thiserror::Error)]
#[error("site `{site}` refused shard {} of the stripe", holder.index)]
pub struct Refusal {
    /// The shard and the site's number.
    pub holder: Holder,
    /// The site's name.
    pub site: SiteName,
    /// Why. [`SiteError::is_exists`]: somebody else's bytes have the shard's name there; `repair` removes them.
    #[source]
    pub error: SiteError,
}

/// Why a stripe could not be written so that it can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteStripeError {
    #[error("stripe {stripe} has {durable} durable shards of the {needed} it needs to be read")]
    TooFewShards { stripe: StripeId, durable: usize, needed: usize, refused: Vec<Refusal>, silent: Vec<SiteName> },
    #[error("stripe {stripe} is not well made, nothing was written")]
    NotGood {
        stripe: StripeId,
        #[source]
        source: Box<ShardError>,
    },
    #[error("stripe {stripe} has no shards, nothing was written")]
    Empty { stripe: StripeId },
    #[error("stripe {stripe} carries no claim of a writer, nothing was written")]
    NoWriter {
        stripe: StripeId,
        #[source]
        source: ClaimFault,
    },
}

impl WriteStripeError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::TooFewShards { silent, .. } if !silent.is_empty() => Remedy::BringBack(silent.clone()),
            Self::TooFewShards { refused, .. } if !refused.is_empty() => {
                let mut sites: Vec<SiteName> = refused.iter().map(|refusal| refusal.site.clone()).collect();
                sites.sort_unstable();
                sites.dedup();
                Remedy::LetWrite(sites)
            }
            _ => Remedy::None,
        }
    }
}

impl StripeStore {
    /// Makes the shards of a stripe durable at the live sites, by the rules of placement. Where a site refuses, its
    /// shard goes to another one. What is returned with fewer shards or a smaller w than planned is degraded: whether
    /// that will do is the caller's to decide.
    ///
    /// After an error some shards may lie at sites; nothing refers to them, and writing the stripe again finds them.
    ///
    /// Holds the stripe, n/k packs, and for services one copy of its shards, and takes one of the [`super::PACKS_IN_FLIGHT`] places.
    pub async fn write(&self, stripe: Stripe) -> Result<Written, WriteStripeError> {
        let (id, code) = (stripe.id, stripe.shape.code());
        let entry = self.entry_of(&stripe)?;
        let _room = self.room_for_pack().await;
        let mut layout = Layout::none(id, code, &self.places);
        let wanted = code.indices().collect();
        let refused = self.put_shards(&mut layout, &stripe.shards, wanted, Vec::new()).await;
        let (durable, needed) = (layout.distinct(), code.data());
        self.forget(id, code);
        if durable < needed {
            return Err(WriteStripeError::TooFewShards { stripe: id, durable, needed, refused, silent: self.silent() });
        }
        Ok(Written { entry, holders: layout.holders(), durability: layout.durability(), refused })
    }

    /// What the index keeps, from the first header as any reader will see it.
    fn entry_of(&self, stripe: &Stripe) -> Result<StripeEntry, WriteStripeError> {
        let id = stripe.id;
        let first = stripe.shards.first().ok_or(WriteStripeError::Empty { stripe: id })?;
        let prefix = ShardPrefix::verify(&first.prefix, &self.vault, first.name)
            .map_err(|source| WriteStripeError::NotGood { stripe: id, source: Box::new(source) })?;
        let writer =
            self.writer_of(prefix.header()).map_err(|source| WriteStripeError::NoWriter { stripe: id, source })?;
        let (code, pack_len) = (stripe.shape.code(), stripe.shape.pack_len() as u64);
        Ok(StripeEntry { id, code, pack_len, writer: writer.account() })
    }

    /// Puts shards at sites until all lie somewhere or no site is left that may have one. Every round either ends
    /// well or finds a site that refuses, so it ends.
    pub(super) async fn put_shards(
        &self,
        layout: &mut Layout<'_>,
        files: &[ShardFile],
        mut wanted: Vec<ShardIndex>,
        mut refused: Vec<Refusal>,
    ) -> Vec<Refusal> {
        loop {
            let may = |holder: Holder| {
                self.takes_shards(holder.member) && refused.iter().all(|refusal| refusal.holder != holder)
            };
            let targets = layout.place(&wanted, may);
            if targets.is_empty() {
                return refused;
            }
            for (holder, put) in targets.iter().zip(join_all(targets.iter().map(|to| self.put(*to, files))).await) {
                match put {
                    Ok(()) => {
                        layout.add(*holder);
                        wanted.retain(|index| *index != holder.index);
                    }
                    Err(refusal) => refused.push(refusal),
                }
            }
        }
    }

    /// Makes one shard durable at one site. Equal bytes that are there already are as good.
    pub(super) async fn put(&self, holder: Holder, files: &[ShardFile]) -> Result<(), Refusal> {
        let site = self.site_name(holder.member);
        let refusal = |error| Refusal { holder, site: site.clone(), error };
        let members = self.sites.members();
        let open = members.get(holder.member).and_then(|member| member.writable());
        let file = files.iter().find(|file| file.name.index == holder.index);
        let (Some(open), Some(file)) = (open, file) else {
            return Err(refusal(self.gone(holder, &site)));
        };
        let pieces = vec![file.prefix.clone(), file.payload.clone()];
        open.put(&key_of(file.name), pieces).await.map(|_put| ()).map_err(refusal)
    }

    /// The error of a site that stopped to take writes between the plan and the write.
    fn gone(&self, holder: Holder, site: &SiteName) -> SiteError {
        let reason = match self.sites.members().get(holder.member).map(blockhouse_sites::Member::state) {
            Some(blockhouse_sites::SiteState::Down(reason)) => Cause::Down(reason),
            Some(blockhouse_sites::SiteState::Closed(reason)) => Cause::Closed(reason),
            _ => Cause::NotFound,
        };
        let operation = blockhouse_sites::Operation::Put;
        SiteError { site: site.clone(), operation, object: format!("shard {}", holder.index), cause: reason }
    }
}
