//! The cursor of a page: where the next one begins, for the same question to the same ledger.
//!
//! ```text
//! version: u8 = 1 │ place: u64, the greatest byte first │ check: 8
//! ```
//!
//! The check is of the place, the question and the ledger. It tells a wrong cursor from a right one, and is no secret: who makes one
//! up reads what he could read anyway.

use alloy_primitives::{B256, Keccak256};
use blockhouse_ledger::genesis::Genesis;

use crate::store::{EventKey, EventPlace, Order};

const VERSION: u8 = 1;
const CHECK: usize = 8;
const LENGTH: usize = 1 + 8 + CHECK;

/// Why a cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    #[error("it has {length} bytes and not {LENGTH}")]
    Length { length: usize },
    #[error("it has the unknown version {version}")]
    Version { version: u8 },
    #[error("it is not of this question: a page goes on with the conditions and the order that it began with")]
    Question,
}

/// A cursor as it came from a client, not compared with a question yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    place: EventPlace,
    check: [u8; CHECK],
}

impl Cursor {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&[VERSION][..], &self.place.number().to_be_bytes(), &self.check].concat()
    }

    /// Reads its bytes. What it says is for the question to judge.
    pub fn decode(bytes: &[u8]) -> Result<Self, CursorError> {
        let wrong = || CursorError::Length { length: bytes.len() };
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| wrong())?;
        let (version, rest) = bytes.split_first().ok_or_else(wrong)?;
        if *version != VERSION {
            return Err(CursorError::Version { version: *version });
        }
        let (place, check) = rest.split_first_chunk().ok_or_else(wrong)?;
        let check = check.try_into().map_err(|_| wrong())?;
        Ok(Self { place: EventPlace::from_number(u64::from_be_bytes(*place)), check })
    }

    /// The cursors of a question.
    pub(super) fn of(genesis: &Genesis, keys: &[EventKey], order: Order) -> Cursors {
        let mut question = Keccak256::new();
        question.update(genesis.hash().to_bytes());
        question.update([u8::from(order == Order::Oldest)]);
        for key in keys {
            let (kind, word) = match key {
                EventKey::Emitter(address) => (0, address.into_word()),
                EventKey::Signature(topic) => (1, *topic),
                EventKey::Argument(topic) => (2, *topic),
            };
            question.update([kind]);
            question.update(word);
        }
        Cursors { question: question.finalize() }
    }
}

/// All cursors of one question to one ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursors {
    question: B256,
}

impl Cursors {
    /// The cursor at that place.
    pub(super) fn at(&self, place: EventPlace) -> Cursor {
        let mut check = Keccak256::new();
        check.update(self.question);
        check.update(place.number().to_be_bytes());
        let check = check.finalize().first_chunk().copied().unwrap_or_default();
        Cursor { place, check }
    }

    /// The place that a cursor of this question names.
    pub(super) fn place_in(&self, bytes: &[u8]) -> Result<EventPlace, CursorError> {
        let cursor = Cursor::decode(bytes)?;
        if self.at(cursor.place) == cursor { Ok(cursor.place) } else { Err(CursorError::Question) }
    }
}
