//! Reads the extents of content at depth 0, also where the list itself is stored as content.

use blockhouse_types::{DecodeError, Decoder};

use super::{Content, EXTENT_MAX, Extent, ListRules};
use crate::chunk::ChunkRef;

/// Why the extents of content could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError<E: std::error::Error + 'static> {
    #[error("could not fetch chunk {id} of a list of extents")]
    Fetch {
        id: blockhouse_types::ChunkId,
        #[source]
        source: E,
    },
    #[error("chunk {id} of a list of extents has {found} bytes, its reference says {expected}")]
    Length { id: blockhouse_types::ChunkId, found: usize, expected: u32 },
    #[error("could not read a list of extents at depth {depth}")]
    List {
        depth: u8,
        #[source]
        source: DecodeError,
    },
}

/// One stored list: its bytes as they come, and what is read of them.
#[derive(Debug)]
struct Stored {
    rules: ListRules,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Stored {
    const fn new(depth: u8) -> Self {
        Self { rules: ListRules::new(depth), bytes: Vec::new(), at: 0, ended: false }
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn append(&mut self, more: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(more);
    }

    fn next(&mut self, length: u64) -> Result<Option<Extent>, DecodeError> {
        let mut decoder = Decoder::new("a list of extents", self.bytes.get(self.at..).unwrap_or_default());
        if decoder.is_empty() {
            self.rules.finish(&decoder, length)?;
            return Ok(None);
        }
        let extent = self.rules.read(&mut decoder)?;
        self.at = self.bytes.len() - decoder.left().len();
        Ok(Some(extent))
    }
}

/// The extents of content at depth 0, in order. Holds one chunk of each depth at most; ends after an error.
#[derive(Debug)]
pub struct Extents<F> {
    fetch: F,
    length: u64,
    /// Lists at depths 0, 1, … below the inline one.
    stored: Vec<Stored>,
    inline: std::vec::IntoIter<Extent>,
    failed: bool,
}

impl<F> Extents<F> {
    pub(super) fn new(content: &Content, fetch: F) -> Self {
        let stored = (0..content.depth).map(Stored::new).collect();
        Self { fetch, length: content.length, stored, inline: content.extents.clone().into_iter(), failed: false }
    }

    /// The next extent of the list at `depth`.
    fn next_at<B, E>(&mut self, depth: usize) -> Result<Option<Extent>, ResolveError<E>>
    where
        F: FnMut(&ChunkRef) -> Result<B, E>,
        B: AsRef<[u8]>,
        E: std::error::Error + 'static,
    {
        while self.stored.get(depth).is_some_and(|list| !list.ended && list.left().len() < EXTENT_MAX) {
            let above = self.next_at(depth + 1)?;
            let plain = above.as_ref().and_then(Extent::chunk).map(|chunk| self.fetch(chunk)).transpose()?;
            let Some(list) = self.stored.get_mut(depth) else { break };
            match (&above, &plain) {
                (Some(extent), Some(plain)) => list.append(extent.slice(plain.as_ref()).unwrap_or_default()),
                _ => list.ended = true,
            }
        }
        let length = self.length;
        match self.stored.get_mut(depth) {
            None => Ok(self.inline.next()),
            Some(list) => list.next(length).map_err(|source| ResolveError::List { depth: list.rules.depth, source }),
        }
    }

    fn fetch<B, E>(&mut self, chunk: &ChunkRef) -> Result<B, ResolveError<E>>
    where
        F: FnMut(&ChunkRef) -> Result<B, E>,
        B: AsRef<[u8]>,
        E: std::error::Error + 'static,
    {
        let plain = (self.fetch)(chunk).map_err(|source| ResolveError::Fetch { id: chunk.id, source })?;
        let found = plain.as_ref().len();
        if found as u64 != u64::from(chunk.plain_len) {
            return Err(ResolveError::Length { id: chunk.id, found, expected: chunk.plain_len });
        }
        Ok(plain)
    }
}

impl<F, B, E> Iterator for Extents<F>
where
    F: FnMut(&ChunkRef) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<Extent, ResolveError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_at(0).transpose();
        self.failed = matches!(next, None | Some(Err(_)));
        next
    }
}
