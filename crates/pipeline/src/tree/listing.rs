//! A listing: the bytes of a folder's content.

use blockhouse_types::limits::RECORD_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder};

use super::{Entry, EntryError};

/// Writes entries one after another.
#[derive(Debug, Default)]
pub struct ListingWriter {
    previous: Vec<u8>,
}

impl ListingWriter {
    /// No entry yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of the next entry, whose name comes after all before (E1).
    pub fn push(&mut self, entry: &Entry) -> Result<Vec<u8>, EntryError> {
        let record = entry.record()?;
        if entry.name <= self.previous {
            return Err(EntryError::Order { name: entry.name.clone(), previous: self.previous.clone() });
        }
        self.previous.clone_from(&entry.name);
        let mut encoder = Encoder::new();
        encoder.bytes(&record);
        Ok(encoder.finish())
    }
}

/// Reads entries out of bytes that come in pieces of any length.
///
/// Push bytes, take entries until there is none, push more; at the end [`ListingReader::finish`] tells whether the
/// listing was whole. Holds the bytes of at most one entry and one piece.
#[derive(Debug, Default)]
pub struct ListingReader {
    previous: Vec<u8>,
    bytes: Vec<u8>,
    /// What is read of `bytes`.
    at: usize,
}

impl ListingReader {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the listing.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next entry; `None` if more bytes are needed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, DecodeError> {
        let mut decoder = Decoder::new("a listing", self.bytes.get(self.at..).unwrap_or_default());
        let record = match decoder.bytes("length of an entry", RECORD_MAX) {
            Err(DecodeError::Short { .. }) => return Ok(None),
            other => other?,
        };
        let entry = Entry::from_record(record)?;
        if entry.name <= self.previous {
            return Err(decoder.not_canonical("its names are not in ascending order"));
        }
        self.previous.clone_from(&entry.name);
        self.at = self.bytes.len() - decoder.left().len();
        Ok(Some(entry))
    }

    /// Ends the listing: no bytes may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(DecodeError::Short { what: "a listing", needed: 1, left }),
        }
    }
}
