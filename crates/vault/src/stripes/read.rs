//! Reading from stripes: a chunk, a whole pack, a table of contents.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use blockhouse_pipeline::pack::{OpenPackError, PackKeys, TRAILER_LEN, Table, open_table, open_trailer};
use blockhouse_pipeline::shard::{ShapeError, ShardName, ShardRange, StripeShape};
use blockhouse_pipeline::stripe::{RebuildError, rebuild_pack, rebuild_range};
use blockhouse_sites::SiteName;
use blockhouse_types::limits::MIB;
use blockhouse_types::{ShardIndex, StripeId};
use bytes::Bytes;
use futures::future::{Either, select, try_join_all};

use super::damage::Remedy;
use super::fetch::{HEDGE_DELAY, gather};
use super::{StripeStore, heavy};
use crate::index::{Slot, StripeEntry};

/// Why bytes of a stripe could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadStripeError {
    #[error("stripe {stripe} is known with lengths that no stripe has")]
    Entry {
        stripe: StripeId,
        #[source]
        source: ShapeError,
    },
    #[error("the pack of stripe {stripe} has no {length} bytes from {start}")]
    Outside { stripe: StripeId, start: u64, length: u64 },
    #[error("stripe {stripe} has {found} of the {needed} good shards it needs")]
    TooFewShards { stripe: StripeId, found: usize, needed: usize, silent: Vec<SiteName>, faulty: Vec<SiteName> },
    #[error("stripe {stripe} could not be put together from its shards")]
    Rebuild {
        stripe: StripeId,
        #[source]
        source: RebuildError,
    },
}

impl ReadStripeError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::TooFewShards { silent, faulty, .. } => Remedy::for_lack(silent, faulty),
            Self::Entry { .. } | Self::Outside { .. } | Self::Rebuild { .. } => Remedy::None,
        }
    }
}

/// Why the table of a stripe's pack could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadTableError {
    #[error("could not read the table of stripe {stripe}")]
    Read {
        stripe: StripeId,
        #[source]
        source: ReadStripeError,
    },
    #[error("could not open the table of stripe {stripe}")]
    Open {
        stripe: StripeId,
        #[source]
        source: OpenPackError,
    },
}

impl ReadTableError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Read { source, .. } => source.remedy(),
            Self::Open { .. } => Remedy::None,
        }
    }
}

impl StripeStore {
    /// The sealed bytes of a chunk: only the leaves that hold them, from the data shards; where one of these fails,
    /// the same leaves of k others.
    ///
    /// Holds k + 1 times the bytes and their leaves at most; the caller bounds how many reads run at a time.
    pub async fn read_slot(&self, stripe: &StripeEntry, slot: &Slot) -> Result<Vec<u8>, ReadStripeError> {
        let start = slot.offset as usize;
        self.read_range(stripe, start..start + slot.sealed_len as usize).await
    }

    /// A range of the pack, checked as that of a slot is. Without a copy where it lies in one shard.
    ///
    /// Holds k + 1 times the bytes and their leaves at most; the caller bounds how many reads run at a time.
    pub async fn read_bytes(&self, stripe: &StripeEntry, range: Range<usize>) -> Result<Bytes, ReadStripeError> {
        let parts = self.read_parts(stripe, range).await?;
        match <[Bytes; 1]>::try_from(parts) {
            Ok([only]) => Ok(only),
            Err(parts) => Ok(Bytes::from(parts.concat())),
        }
    }

    /// True if, as far as is known, a data shard of the stripe cannot be read: then all of it costs less than many parts, for each
    /// part takes the same part of k other shards.
    pub fn lacks_data_shards(&self, stripe: &StripeEntry) -> bool {
        let data = stripe.code.indices().take(stripe.code.data());
        data.map(|index| ShardName { stripe: stripe.id, index }).any(|name| self.is_out_of_reach(name))
    }

    /// The whole pack, from any k good shards, the data shards first.
    ///
    /// Holds two packs' bytes and takes one of the [`super::PACKS_IN_FLIGHT`] places until it returns.
    pub async fn read_pack(&self, stripe: &StripeEntry) -> Result<Bytes, ReadStripeError> {
        let shape = shape_of(stripe)?;
        let _room = self.room_for_pack().await;
        let (id, needed) = (stripe.id, shape.code().data());
        let ask = |index| self.shard(ShardName { stripe: id, index }, shape);
        let shards = gather(needed, shape.code().indices().map(ask)).await;
        if shards.len() < needed {
            return Err(self.too_few(id, shards.len(), needed));
        }
        let coder = self.coder(shape.code());
        let pack = heavy(move || rebuild_pack(&coder, &shards)).await;
        pack.map(Bytes::from).map_err(|source| ReadStripeError::Rebuild { stripe: id, source })
    }

    /// The pack's table of contents, by reads of its end alone.
    pub async fn read_table(&self, stripe: &StripeEntry, keys: &PackKeys) -> Result<Table, ReadTableError> {
        let (id, length) = (stripe.id, usize::try_from(stripe.pack_len).unwrap_or(usize::MAX));
        let read = |source| ReadTableError::Read { stripe: id, source };
        let open = |source| ReadTableError::Open { stripe: id, source };
        let sealed = self.read_range(stripe, length.saturating_sub(TRAILER_LEN)..length).await.map_err(read)?;
        let sealed = sealed.first_chunk().ok_or(OpenPackError::Length { length }).map_err(open)?;
        let trailer = open_trailer(keys, length, sealed).map_err(open)?;
        let sealed = self.read_range(stripe, trailer.table_range()).await.map_err(read)?;
        open_table(keys, &trailer, &sealed).map_err(open)
    }

    async fn read_range(&self, stripe: &StripeEntry, range: Range<usize>) -> Result<Vec<u8>, ReadStripeError> {
        Ok(self.read_parts(stripe, range).await?.concat())
    }

    async fn read_parts(&self, stripe: &StripeEntry, range: Range<usize>) -> Result<Vec<Bytes>, ReadStripeError> {
        let shape = shape_of(stripe)?;
        let (start, length) = (range.start as u64, range.len() as u64);
        let outside = ReadStripeError::Outside { stripe: stripe.id, start, length };
        let parts = shape.locate(range).ok_or(outside)?;
        try_join_all(parts.iter().map(|part| self.part(stripe.id, shape, part))).await
    }

    /// A range of one data shard's payload.
    async fn part(&self, stripe: StripeId, shape: StripeShape, part: &ShardRange) -> Result<Bytes, ReadStripeError> {
        let name = ShardName { stripe, index: part.index };
        let mut direct = pin!(self.range(name, shape, &part.range));
        let read = match tokio::time::timeout(patience(part.range.len()), &mut direct).await {
            Ok(read) => read,
            // A site that is slow, or hangs, is not waited for if others have what it takes.
            Err(_) => match select(direct, pin!(self.rebuilt_part(stripe, shape, part))).await {
                Either::Left((Ok(read), _)) => Ok(read),
                Either::Left((Err(_), rebuilt)) => return rebuilt.await,
                Either::Right((Ok(rebuilt), _)) => return Ok(rebuilt),
                Either::Right((Err(_), direct)) => direct.await,
            },
        };
        match read {
            Ok((range, _)) => Ok(range.get(part.range.clone()).expect("the leaves that hold a range hold the range")),
            Err(_) => self.rebuilt_part(stripe, shape, part).await,
        }
    }

    /// The same from the same leaves of k other shards.
    async fn rebuilt_part(
        &self,
        stripe: StripeId,
        shape: StripeShape,
        part: &ShardRange,
    ) -> Result<Bytes, ReadStripeError> {
        let (code, wanted) = (shape.code(), part.index);
        let others = code.indices().filter(|index| *index != wanted);
        let ask = |index: ShardIndex| self.range(ShardName { stripe, index }, shape, &part.range);
        let (ranges, prefixes): (Vec<_>, Vec<_>) = gather(code.data(), others.map(ask)).await.into_iter().unzip();
        let (Some(first), Some(prefix)) = (ranges.first().filter(|_| ranges.len() >= code.data()), prefixes.first())
        else {
            return Err(self.too_few(stripe, ranges.len(), code.data()));
        };
        let failed = |source| ReadStripeError::Rebuild { stripe, source };
        let leaves = first.range();
        let bytes = rebuild_range(&self.coder(code), prefix.header(), &ranges, wanted).map_err(failed)?;
        let bytes = Bytes::from(bytes);
        // V1: if the lost shard's own hashes are known, they decide here; else the id of the chunk does, later.
        if let Some(own) = self.known.prefix(ShardName { stripe, index: wanted }) {
            let wrong = |_| failed(RebuildError::Inconsistent { stripe, index: wanted });
            own.verify_range(leaves.start, bytes.clone()).map_err(wrong)?;
        }
        let (from, to) = (part.range.start - leaves.start, part.range.end - leaves.start);
        Ok(bytes.slice(from..to))
    }

    pub(super) fn too_few(&self, stripe: StripeId, found: usize, needed: usize) -> ReadStripeError {
        let (silent, faulty) = (self.silent(), self.damage.faulty(&stripe));
        ReadStripeError::TooFewShards { stripe, found, needed, silent, faulty }
    }
}

/// How long a range may stay out before others are asked for what it takes to compute it: that costs k times its bytes, so a bad
/// line of 1 MiB/s is given its time.
fn patience(length: usize) -> Duration {
    let mebibytes = u32::try_from(length.div_ceil(MIB)).unwrap_or(u32::MAX);
    HEDGE_DELAY.saturating_add(Duration::from_secs(1).saturating_mul(mebibytes))
}

fn shape_of(stripe: &StripeEntry) -> Result<StripeShape, ReadStripeError> {
    let failed = |source| ReadStripeError::Entry { stripe: stripe.id, source };
    StripeShape::try_new(stripe.code, stripe.pack_len).map_err(failed)
}
