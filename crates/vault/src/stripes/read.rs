//! Reading from stripes: a chunk, columns of a pack, a table of contents.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_pipeline::code::Coder;
use blockhouse_pipeline::pack::{OpenPackError, PackKeys, TRAILER_LEN, Table, open_table, open_trailer};
use blockhouse_pipeline::shard::{ShapeError, ShardName, ShardPrefix, ShardRange, StripeShape, VerifiedRange};
use blockhouse_pipeline::stripe::{RebuildError, rebuild_ranges};
use blockhouse_sites::SiteName;
use blockhouse_types::limits::MIB;
use blockhouse_types::{Code, ShardIndex, StripeId};
use bytes::Bytes;
use futures::future::{Either, select, try_join_all};

use super::damage::Remedy;
use super::fetch::{HEDGE_DELAY, Miss, gather, gather_within};
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

/// The same range of the payload of every data shard: each a run of the pack, and all of them one column of it.
#[derive(Debug, Clone)]
pub struct Columns {
    /// How far the runs lie apart in the pack.
    run_len: usize,
    /// Where the range begins in each payload.
    start: usize,
    runs: Vec<Bytes>,
}

impl Columns {
    /// The part of these bytes of the pack that is here, from their first on: all of them, or up to the end of the column. None if the
    /// first is not here.
    pub fn first_of(&self, pack_range: &Range<usize>) -> Option<Bytes> {
        let run = self.runs.get(pack_range.start.checked_div(self.run_len)?)?;
        let from = (pack_range.start % self.run_len).checked_sub(self.start).filter(|from| *from < run.len())?;
        Some(run.slice(from..run.len().min(from + pack_range.len())))
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

    /// The same as it is at the sites, compared with no hash: for bytes that show by themselves whether they are right, as a chunk does when it is
    /// opened. None if a site does not give them soon; then [`Self::read_bytes`] finds a way round.
    pub async fn read_unchecked(&self, stripe: &StripeEntry, range: Range<usize>) -> Option<Bytes> {
        let shape = shape_of(stripe).ok()?;
        let parts = shape.locate(range)?;
        let read = try_join_all(parts.iter().map(|part| self.unchecked_part(stripe.id, shape, part)));
        let mut parts = read.await.ok()?;
        if parts.len() == 1 { parts.pop() } else { Some(parts.concat().into()) }
    }

    async fn unchecked_part(&self, stripe: StripeId, shape: StripeShape, part: &ShardRange) -> Result<Bytes, Miss> {
        let name = ShardName { stripe, index: part.index };
        let member = self.candidates(name).into_iter().next().filter(|_| !self.is_out_of_reach(name));
        let read = self.bytes(member.ok_or(Miss::Absent)?, name, shape.file_range(&part.range));
        tokio::time::timeout(patience(part.range.len()), read).await.unwrap_or(Err(Miss::Silent))
    }

    /// True if, as far as is known, a data shard of the stripe cannot be read: then columns of the pack cost less than many ranges, for
    /// each range takes the same part of k other shards.
    pub fn lacks_data_shards(&self, stripe: &StripeEntry) -> bool {
        let data = stripe.code.indices().take(stripe.code.data());
        data.map(|index| ShardName { stripe: stripe.id, index }).any(|name| self.is_out_of_reach(name))
    }

    /// Columns of the pack: the same range of the payload of every data shard, from any k shards, those within reach first. Of the rest
    /// of the pack nothing is read, so as many bytes come as are given.
    ///
    /// Holds up to n/k times what it gives; the caller bounds how many reads run at a time.
    pub async fn read_columns(&self, stripe: &StripeEntry, columns: Range<usize>) -> Result<Columns, ReadStripeError> {
        self.or_with_spared(stripe, || self.columns_within_reach(stripe, columns.clone())).await
    }

    async fn columns_within_reach(
        &self,
        stripe: &StripeEntry,
        columns: Range<usize>,
    ) -> Result<Columns, ReadStripeError> {
        let shape = shape_of(stripe)?;
        let (id, needed) = (stripe.id, shape.code().data());
        let (start, length) = (columns.start as u64, columns.len() as u64);
        let leaves = shape.covering(&columns).ok_or(ReadStripeError::Outside { stripe: id, start, length })?;
        let ask = |index| self.range(ShardName { stripe: id, index }, shape, &leaves);
        let asked_first: Vec<ShardIndex> = self.likeliest(id, shape.code()).take(needed).collect();
        // Ranges of several columns share the lines: one that is long is not late as soon as a small one is.
        let got =
            gather_within(patience(leaves.len() * needed), needed, self.likeliest(id, shape.code()).map(ask)).await;
        if got.len() < needed {
            return Err(self.too_few(id, got.len(), needed));
        }
        // Who was asked first and is not among those that came was overtaken, or failed.
        let is_late = |index: &ShardIndex| got.iter().all(|(range, _)| range.index() != *index);
        for index in asked_first.into_iter().filter(is_late) {
            self.note_overtaken(ShardName { stripe: id, index });
        }
        let data: Vec<ShardIndex> = shape.code().indices().take(needed).collect();
        let runs = self.runs_of((id, shape), got, &data).await?;
        Ok(Columns { run_len: shape.payload_len(), start: leaves.start, runs })
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
        self.or_with_spared(stripe, || self.parts_within_reach(stripe, range.clone())).await
    }

    /// What a read gives; where shards are wanting, once more with the sites that the run did without.
    async fn or_with_spared<T, F>(&self, stripe: &StripeEntry, read: impl Fn() -> F) -> Result<T, ReadStripeError>
    where
        F: Future<Output = Result<T, ReadStripeError>>,
    {
        match read().await {
            Err(ReadStripeError::TooFewShards { .. }) if self.sites.ask_spared_again().await => {
                self.known.forget_all(stripe.id, stripe.code);
                read().await
            }
            done => done,
        }
    }

    async fn parts_within_reach(
        &self,
        stripe: &StripeEntry,
        range: Range<usize>,
    ) -> Result<Vec<Bytes>, ReadStripeError> {
        let shape = shape_of(stripe)?;
        let (start, length) = (range.start as u64, range.len() as u64);
        let outside = ReadStripeError::Outside { stripe: stripe.id, start, length };
        let parts = shape.locate(range).ok_or(outside)?;
        try_join_all(parts.iter().map(|part| self.part(stripe.id, shape, part))).await
    }

    /// A range of one data shard's payload.
    async fn part(&self, stripe: StripeId, shape: StripeShape, part: &ShardRange) -> Result<Bytes, ReadStripeError> {
        let name = ShardName { stripe, index: part.index };
        if self.is_out_of_reach(name) {
            // Sites that have no reason to hold it are asked for it only when nothing else is left.
            let error = match Box::pin(self.rebuilt_part(stripe, shape, part)).await {
                Ok(rebuilt) => return Ok(rebuilt),
                Err(error) => error,
            };
            let direct = Box::pin(self.range(name, shape, &part.range)).await;
            return direct.map(|(range, _)| held(&range, part)).map_err(|_| error);
        }
        let mut direct = pin!(self.range(name, shape, &part.range));
        let read = match tokio::time::timeout(patience(part.range.len()), &mut direct).await {
            Ok(read) => read,
            // A site that is slow, or hangs, is not waited for if others have what it takes.
            Err(_) => match select(direct, pin!(self.rebuilt_part(stripe, shape, part))).await {
                Either::Left((Ok(read), _)) => Ok(read),
                Either::Left((Err(_), rebuilt)) => return rebuilt.await,
                Either::Right((Ok(rebuilt), _)) => {
                    self.note_overtaken(name);
                    return Ok(rebuilt);
                }
                Either::Right((Err(_), direct)) => direct.await,
            },
        };
        match read {
            Ok((range, _)) => Ok(held(&range, part)),
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
        let others = self.likeliest(stripe, code).filter(|index| *index != wanted);
        let ask = |index: ShardIndex| self.range(ShardName { stripe, index }, shape, &part.range);
        let got = gather(code.data(), others.map(ask)).await;
        if got.len() < code.data() {
            return Err(self.too_few(stripe, got.len(), code.data()));
        }
        let leaves = shape.covering(&part.range).unwrap_or_default();
        let runs = self.runs_of((stripe, shape), got, &[wanted]).await?;
        let run = runs.into_iter().next().unwrap_or_default();
        Ok(run.slice(part.range.start - leaves.start..part.range.end - leaves.start))
    }

    /// The indices in the order in which they are asked for: those within reach first, and data before parity.
    pub(super) fn likeliest(&self, stripe: StripeId, code: Code) -> impl Iterator<Item = ShardIndex> + use<> {
        let (near, far): (Vec<ShardIndex>, Vec<ShardIndex>) =
            code.indices().partition(|index| !self.is_out_of_reach(ShardName { stripe, index: *index }));
        near.into_iter().chain(far)
    }

    /// The same range of these shards, out of k verified ones: what is not among them is computed.
    async fn runs_of(
        &self,
        (stripe, shape): (StripeId, StripeShape),
        got: Vec<(VerifiedRange, Arc<ShardPrefix>)>,
        wanted: &[ShardIndex],
    ) -> Result<Vec<Bytes>, ReadStripeError> {
        let is_here = |index: &ShardIndex| got.iter().any(|(range, _)| range.index() == *index);
        let lost: Vec<ShardIndex> = wanted.iter().copied().filter(|index| !is_here(index)).collect();
        let mut runs: Vec<(ShardIndex, Bytes)> =
            got.iter().map(|(range, _)| (range.index(), range.bytes().clone())).collect();
        if !lost.is_empty() {
            // V1: if a lost shard's own hashes are known, they decide here; else the id of the chunk does, later.
            let own: Vec<_> = lost.iter().map(|index| self.known.prefix(ShardName { stripe, index: *index })).collect();
            let coder = self.coder(shape.code());
            let rebuilt = heavy(move || rebuilt_runs(&coder, &got, &lost, &own)).await;
            runs.extend(rebuilt.map_err(|source| ReadStripeError::Rebuild { stripe, source })?);
        }
        let run = |index: &ShardIndex| {
            let found = runs.iter().find(|(other, _)| other == index);
            found.map(|(_, bytes)| bytes.clone()).unwrap_or_default()
        };
        Ok(wanted.iter().map(run).collect())
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

/// A range out of the leaves that hold it.
fn held(leaves: &VerifiedRange, part: &ShardRange) -> Bytes {
    leaves.get(part.range.clone()).expect("the leaves that hold a range hold the range")
}

/// Runs of lost shards from the same ranges of k others; those whose own prefix is known are compared with its leaves.
fn rebuilt_runs(
    coder: &Coder,
    others: &[(VerifiedRange, Arc<ShardPrefix>)],
    lost: &[ShardIndex],
    own: &[Option<Arc<ShardPrefix>>],
) -> Result<Vec<(ShardIndex, Bytes)>, RebuildError> {
    let (first, prefix) = others.first().ok_or(RebuildError::NoShards)?;
    let (header, start) = (prefix.header(), first.range().start);
    let ranges: Vec<VerifiedRange> = others.iter().map(|(range, _)| range.clone()).collect();
    let rebuilt = rebuild_ranges(coder, header, &ranges, lost)?;
    let runs: Vec<(ShardIndex, Bytes)> = lost.iter().copied().zip(rebuilt.into_iter().map(Bytes::from)).collect();
    for ((index, bytes), own) in runs.iter().zip(own) {
        if let Some(own) = own {
            let wrong = |_| RebuildError::Inconsistent { stripe: header.stripe, index: *index };
            own.verify_range(start, bytes.clone()).map_err(wrong)?;
        }
    }
    Ok(runs)
}

fn shape_of(stripe: &StripeEntry) -> Result<StripeShape, ReadStripeError> {
    let failed = |source| ReadStripeError::Entry { stripe: stripe.id, source };
    StripeShape::try_new(stripe.code, stripe.pack_len).map_err(failed)
}
