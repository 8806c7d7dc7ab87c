//! The index of events: from what a log has about it to where it stands.
//!
//! - **Owns** the keys and the rows. The search for places that have several keys at once is in `seek`.
//! - **Does not** read logs: what is found here is a hint, and whoever reads the log checks it.
//!
//! A log is found by its emitter, by its first topic (the event's signature), and by each of its other topics, be that an account or an id.
//! A row is 16 bytes: the first 8 of the key's hash, and the place. Two keys may share these 8 bytes, so a hit is a hint. Rows
//! of one key stand in the order of the ledger, so a page from any place on costs what it holds, whatever the history.
//!
//! # Invariants
//! - **I1** Rows of a block are in the transaction that writes the block, or in one that raises the mark `events` over it.
//! - **I2** Every log of the blocks below the mark has all its rows, as far as the file is undamaged.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

mod seek;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, B256, Log, keccak256};
use redb::{ReadOnlyTable, TableDefinition, WriteTransaction};

use super::error::Fault;

pub(super) use seek::seek;

/// Hash of the key, place; nothing beside it.
const EVENTS: TableDefinition<'_, &[u8; ROW], ()> = TableDefinition::new("events");
/// All rows, open to be read.
pub(super) type EventTable = ReadOnlyTable<&'static [u8; ROW], ()>;

const TAG: usize = 8;
const ROW: usize = TAG + 8;

/// How many bits of a place are the number of the log.
const INDEX_BITS: u32 = 24;
const INDEX_MAX: u64 = (1 << INDEX_BITS) - 1;
const HEIGHT_MAX: u64 = u64::MAX >> INDEX_BITS;

/// Where a log stands: the height of its block, and its number among all logs of that block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace(u64);

impl EventPlace {
    /// The place of a log. No block holds so many logs, and no chain so many blocks, that they do not fit.
    pub fn new(height: u64, index: u64) -> Self {
        Self((height.min(HEIGHT_MAX) << INDEX_BITS) | index.min(INDEX_MAX))
    }

    /// The first place of a block.
    pub fn first_of(height: u64) -> Self {
        Self::new(height, 0)
    }

    /// The last place of a block.
    pub fn last_of(height: u64) -> Self {
        Self::new(height, INDEX_MAX)
    }

    /// Any place, as a cursor has it.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// As a number, which rises with the ledger.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The height of its block.
    pub const fn height(self) -> u64 {
        self.0 >> INDEX_BITS
    }

    /// Its number in the block.
    pub const fn index(self) -> u64 {
        self.0 & INDEX_MAX
    }

    /// The place after it in that order; none at the end of all places.
    pub fn next(self, order: Order) -> Option<Self> {
        match order {
            Order::Newest => self.0.checked_sub(1).map(Self),
            Order::Oldest => self.0.checked_add(1).map(Self),
        }
    }

    /// The first place in that order that is not in its block.
    pub fn next_block(self, order: Order) -> Option<Self> {
        match order {
            Order::Newest => Self::first_of(self.height()).next(order),
            Order::Oldest => Self::last_of(self.height()).next(order),
        }
    }

    /// The one that comes later in that order.
    fn further(self, other: Self, order: Order) -> Self {
        match order {
            Order::Newest => self.min(other),
            Order::Oldest => self.max(other),
        }
    }
}

/// Which way events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// From the head down.
    Newest,
    /// From block 0 up.
    Oldest,
}

/// What a log can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKey {
    /// The contract that it is of.
    Emitter(Address),
    /// Its first topic.
    Signature(B256),
    /// One of its other topics, whichever.
    Argument(B256),
}

/// What rows of a key begin with.
pub(super) type Tag = [u8; TAG];

impl EventKey {
    /// All keys of a log.
    pub fn all_of(log: &Log) -> impl Iterator<Item = Self> {
        let topics = log.topics().iter().enumerate();
        let of_topic = |(number, topic): (usize, &B256)| match number {
            0 => Self::Signature(*topic),
            _ => Self::Argument(*topic),
        };
        std::iter::once(Self::Emitter(log.address)).chain(topics.map(of_topic))
    }

    /// True if it is one of the keys of that log.
    pub fn is_of(self, log: &Log) -> bool {
        Self::all_of(log).any(|key| key == self)
    }

    fn tag(self) -> Tag {
        let hash = match self {
            Self::Emitter(address) => keccak256([&[0], address.as_slice()].concat()),
            Self::Signature(topic) => keccak256([&[1], topic.as_slice()].concat()),
            Self::Argument(topic) => keccak256([&[2], topic.as_slice()].concat()),
        };
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// What is looked for: places that have, for each list, one of its keys.
#[derive(Debug, Clone)]
pub struct Wanted(Vec<Vec<Tag>>);

impl Wanted {
    /// Every list must have a key.
    pub fn new<L: IntoIterator<Item = EventKey>>(lists: impl IntoIterator<Item = L>) -> Self {
        Self(lists.into_iter().map(|keys| keys.into_iter().map(EventKey::tag).collect()).collect())
    }

    /// True if nothing is said about what is looked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// The next place.
    At(EventPlace),
    /// There is none any more.
    Nowhere,
    /// The work that was allowed is done: there is none before this place.
    Spent(EventPlace),
}

/// Writes the rows of a block's logs, and gives their number.
pub(super) fn write_rows(
    transaction: &WriteTransaction,
    height: u64,
    receipts: &[ReceiptEnvelope],
) -> Result<usize, Fault> {
    let mut table = transaction.open_table(EVENTS)?;
    let mut count = 0;
    for (index, log) in (0..).zip(receipts.iter().flat_map(ReceiptEnvelope::logs)) {
        let place = EventPlace::new(height, index);
        for key in EventKey::all_of(log) {
            table.insert(&row(key.tag(), place), ())?;
            count += 1;
        }
    }
    Ok(count)
}

/// True if all rows of a block's logs are there.
#[cfg(feature = "node")]
pub(super) fn has_rows(table: &EventTable, height: u64, receipts: &[ReceiptEnvelope]) -> Result<bool, Fault> {
    for (index, log) in (0..).zip(receipts.iter().flat_map(ReceiptEnvelope::logs)) {
        for key in EventKey::all_of(log) {
            if table.get(&row(key.tag(), EventPlace::new(height, index)))?.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The rows, if the file has any.
pub(super) fn open_rows(transaction: &redb::ReadTransaction) -> Result<Option<EventTable>, Fault> {
    match transaction.open_table(EVENTS) {
        Ok(table) => Ok(Some(table)),
        // An earlier version wrote the file.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn row(tag: Tag, place: EventPlace) -> [u8; ROW] {
    let mut row = [0; ROW];
    let (left, right) = row.split_at_mut(TAG);
    left.copy_from_slice(&tag);
    // The greatest byte first, so that rows stand in the order of their places.
    right.copy_from_slice(&place.0.to_be_bytes());
    row
}

fn place_of(row: &[u8; ROW]) -> EventPlace {
    EventPlace(row.last_chunk().map_or(0, |place| u64::from_be_bytes(*place)))
}
