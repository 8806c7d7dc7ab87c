//! The search for the events of one page.
//!
//! Places come from the index as far as it reaches. Blocks above it, which an earlier version wrote, and all blocks where nothing
//! is said about what is wanted, are looked at one by one, by their headers first. The answers are the same.

use alloy_eips::BlockNumHash;
use alloy_primitives::{Bloom, BloomInput};
use alloy_rlp::Encodable as _;
use alloy_rpc_types_eth::{Filter, Log};

use super::super::{Fault, Terms};
use crate::store::{EventKey, EventPlace, Order, Sought, Store, Wanted};

/// How much work a call does, in look-ups of the index: these take some 2 µs each.
const WORK: u64 = 8192;
/// What reading a header costs, and a block beside its bytes.
const HEADER_WORK: u64 = 2;
const BLOCK_WORK: u64 = 8;
/// How many bytes of a block are checked in the time of a look-up.
const BLOCK_BYTES: u64 = 256;

/// A search that goes on from log to log.
pub(super) struct Search<'a> {
    store: &'a Store,
    terms: &'a Terms,
    keys: Vec<EventKey>,
    wanted: Wanted,
    order: Order,
    /// The next place to look at; none once there is no more.
    place: Option<EventPlace>,
    work: u64,
    /// The block that was read last: the next hit is often in it too.
    last: Option<Logs>,
}

/// All logs of a block.
struct Logs {
    height: u64,
    logs: Vec<Log>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        store: &'a Store,
        terms: &'a Terms,
        keys: Vec<EventKey>,
        (start, order): (Option<EventPlace>, Order),
    ) -> Self {
        let wanted = Wanted::new(keys.iter().map(|key| [*key]));
        // A cursor may be of a node that has more blocks.
        let place = match order {
            Order::Newest => {
                let last = EventPlace::last_of(store.height());
                Some(start.map_or(last, |start| start.min(last)))
            }
            Order::Oldest => {
                Some(start.unwrap_or(EventPlace::first_of(0))).filter(|place| place.height() <= store.height())
            }
        };
        Self { store, terms, keys, wanted, order, place, work: WORK, last: None }
    }

    /// Where the search would go on; none if there is no more.
    pub(super) const fn place(&self) -> Option<EventPlace> {
        self.place
    }

    /// The first place that has no block yet.
    pub(super) fn end(&self) -> EventPlace {
        EventPlace::first_of(self.store.height().saturating_add(1))
    }

    /// The next event; none if there is no more, or if the work is done.
    pub(super) fn next(&mut self) -> Result<Option<Log>, Fault> {
        while let Some(place) = self.place.filter(|_| self.work > 0) {
            self.terms.check_time()?;
            let is_indexed = !self.wanted.is_empty() && place.height() < self.store.indexed_events();
            let found = if is_indexed { self.next_of_index(place)? } else { self.next_of_block(place)? };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn next_of_index(&mut self, place: EventPlace) -> Result<Option<Log>, Fault> {
        match self.store.seek_event(&self.wanted, (place, self.order), &mut self.work)? {
            Sought::At(found) => {
                self.move_to(found.next(self.order));
                let logs = self.logs_of(found.height())?;
                let log = usize::try_from(found.index()).ok().and_then(|index| logs.get(index)).cloned();
                // Another key can have the same hash in the index.
                Ok(log.filter(|log| self.is_wanted(log)))
            }
            Sought::Spent(next) => {
                self.place = Some(next);
                Ok(None)
            }
            Sought::Nowhere => {
                let above = EventPlace::first_of(self.store.indexed_events());
                self.move_to((self.order == Order::Oldest).then_some(above));
                Ok(None)
            }
        }
    }

    /// The next event in the block of that place; the block after it is looked at next if there is none.
    fn next_of_block(&mut self, place: EventPlace) -> Result<Option<Log>, Fault> {
        let height = place.height();
        self.spend(HEADER_WORK);
        let has_any = |bloom: &Bloom| !bloom.is_zero() && self.keys.iter().all(|key| may_be_in(*key, bloom));
        if !has_any(&self.store.header(height)?.logs_bloom) {
            self.move_to(place.next_block(self.order));
            return Ok(None);
        }
        let order = self.order;
        let places = (0..).map(|index| EventPlace::new(height, index));
        let keys = self.keys.clone();
        let of_block = places.zip(self.logs_of(height)?);
        let mut left = of_block.filter(|(at, log)| match order {
            Order::Newest => *at <= place && is_wanted(&keys, log),
            Order::Oldest => *at >= place && is_wanted(&keys, log),
        });
        let found = if order == Order::Newest { left.last() } else { left.next() };
        let found = found.map(|(at, log)| (at, log.clone()));
        self.move_to(match &found {
            Some((at, _)) => at.next(order),
            None => place.next_block(order),
        });
        Ok(found.map(|(_, log)| log))
    }

    fn move_to(&mut self, place: Option<EventPlace>) {
        self.place = place.filter(|place| place.height() <= self.store.height());
    }

    fn spend(&mut self, work: u64) {
        self.work = self.work.saturating_sub(work);
    }

    fn is_wanted(&self, log: &Log) -> bool {
        is_wanted(&self.keys, log)
    }

    fn logs_of(&mut self, height: u64) -> Result<&[Log], Fault> {
        if self.last.as_ref().is_none_or(|last| last.height != height) {
            self.last = Some(self.read(height)?);
        }
        Ok(self.last.as_ref().map_or(&[], |last| &last.logs))
    }

    fn read(&mut self, height: u64) -> Result<Logs, Fault> {
        let stored = self.store.block(height)?;
        self.spend(BLOCK_WORK + stored.block.length() as u64 / BLOCK_BYTES);
        let receipts = self.store.receipts_of(&stored)?;
        let place = BlockNumHash::new(height, stored.hash);
        let hashes = stored.block.body.transactions.iter().map(|transaction| *transaction.tx_hash());
        let (mut logs, time) = (Vec::new(), stored.block.header.timestamp);
        Filter::default().append_matching_block_logs(&mut logs, place, time, hashes.zip(receipts.iter()), false);
        Ok(Logs { height, logs })
    }
}

fn is_wanted(keys: &[EventKey], log: &Log) -> bool {
    keys.iter().all(|key| key.is_of(&log.inner))
}

fn may_be_in(key: EventKey, bloom: &Bloom) -> bool {
    match key {
        EventKey::Emitter(address) => bloom.contains_input(BloomInput::Raw(address.as_slice())),
        EventKey::Signature(topic) | EventKey::Argument(topic) => {
            bloom.contains_input(BloomInput::Raw(topic.as_slice()))
        }
    }
}
