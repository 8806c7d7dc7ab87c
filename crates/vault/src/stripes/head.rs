//! Whose a stripe is and how long, from the headers of its shards: what an index is made anew from.

use std::sync::{Mutex, PoisonError};

use blockhouse_pipeline::shard::{ShardHeader, ShardName, StripeWriter};
use blockhouse_sites::SiteName;
use blockhouse_types::{SessionId, StripeId};

use super::damage::Remedy;
use super::fetch::{Miss, gather};
use super::{ClaimFault, StripeStore};
use crate::index::StripeEntry;

/// What a stripe's headers prove of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its lengths, and the account whose signature holds.
    pub entry: StripeEntry,
    /// The session that account signed for.
    pub session: SessionId,
}

/// Why it is not known whose a stripe is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadHeadError {
    #[error("no site gave a good header of stripe {stripe}")]
    NoHeader { stripe: StripeId, silent: Vec<SiteName>, faulty: Vec<SiteName> },
    #[error("no header of stripe {stripe} carries the claim of a writer")]
    NoWriter {
        stripe: StripeId,
        #[source]
        source: ClaimFault,
    },
}

impl ReadHeadError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoHeader { silent, faulty, .. } => Remedy::for_lack(silent, faulty),
            Self::NoWriter { .. } => Remedy::None,
        }
    }
}

impl StripeStore {
    /// Reads headers until one is good and signed by an account that is or was a writer (T4).
    ///
    /// The signature stands outside the stripe id: a site that puts another one in hides the right one no longer than
    /// until a second shard is asked for.
    pub async fn read_head(&self, stripe: &StripeId) -> Result<Head, ReadHeadError> {
        let (header, writer) = self.signed_header(stripe).await?;
        let (code, pack_len) = (header.shape.code(), header.shape.pack_len() as u64);
        let entry = StripeEntry { id: *stripe, code, pack_len, writer: writer.account() };
        Ok(Head { entry, session: writer.session() })
    }

    pub(super) async fn signed_header(&self, stripe: &StripeId) -> Result<(ShardHeader, StripeWriter), ReadHeadError> {
        match self.header_within_reach(stripe).await {
            Err(ReadHeadError::NoHeader { .. }) if self.sites.ask_spared_again().await => {
                self.known.forget_all(*stripe, self.code);
                self.header_within_reach(stripe).await
            }
            done => done,
        }
    }

    async fn header_within_reach(&self, stripe: &StripeId) -> Result<(ShardHeader, StripeWriter), ReadHeadError> {
        let refused = Mutex::new(None);
        let names = self.likeliest(*stripe, self.code).map(|index| ShardName { stripe: *stripe, index });
        let asked: Vec<_> = names.map(|name| self.signed_header_of(name, &refused)).collect();
        if let Some(found) = gather(1, asked).await.pop() {
            return Ok(found);
        }
        let stripe = *stripe;
        if let Some(source) = refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(ReadHeadError::NoWriter { stripe, source });
        }
        let (silent, faulty) = (self.silent(), self.damage.faulty(&stripe));
        Err(ReadHeadError::NoHeader { stripe, silent, faulty })
    }

    /// The same from one shard, wherever it lies; a claim that does not hold is left in `refused`.
    async fn signed_header_of(
        &self,
        name: ShardName,
        refused: &Mutex<Option<ClaimFault>>,
    ) -> Result<(ShardHeader, StripeWriter), Miss> {
        let mut worst = Miss::Absent;
        for member in self.candidates(name) {
            match self.prefix_of_unknown(member, name).await {
                Ok(prefix) => match self.writer_of(prefix.header()) {
                    Ok(writer) => return Ok((prefix.header().clone(), writer)),
                    Err(fault) => *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault),
                },
                Err(miss) => worst = worst.max(miss),
            }
        }
        Err(worst)
    }
}
