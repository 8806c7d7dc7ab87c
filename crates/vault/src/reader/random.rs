//! Any bytes of a content, without reading the rest of it.
//!
//! - **Owns** what is remembered of long contents between reads.
//! - **Does not** fetch or keep chunks: `shared` does.
//!
//! # Invariants
//! - **B1** What is returned is what reading the content from its beginning gives at that place, or an error.

use std::sync::Mutex;

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent, ExtentsFrom, ResolveError, SeekMarks};
use bytes::Bytes;

use super::ChunkError;

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReadRangeError {
    /// The list of the content.
    #[error("the list of a content could not be read")]
    Extents(#[from] Box<ResolveError<ChunkError>>),
    /// A chunk.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The list ends before the content does.
    #[error("a content of {length} bytes ends at {end}")]
    Short { length: u64, end: u64 },
}

/// Reads one content here and there, from several threads at a time.
#[derive(Debug)]
pub(crate) struct Seeker {
    content: Content,
    marks: Mutex<SeekMarks>,
}

impl Seeker {
    /// Nothing is known of the content's lists yet.
    pub(crate) fn new(content: Content) -> Self {
        let marks = Mutex::new(SeekMarks::of(&content));
        Self { content, marks }
    }

    /// At most `length` bytes from `offset` on; fewer only at the end of the content.
    pub(crate) fn read(
        &self,
        (offset, length): (u64, usize),
        fetch: impl Fn(&ChunkRef) -> Result<Bytes, ChunkError>,
    ) -> Result<Vec<u8>, ReadRangeError> {
        let end = offset.saturating_add(length as u64).min(self.content.length());
        let mut bytes = Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        for (start, extent) in self.extents((offset, end), &fetch)? {
            let from = offset.max(start) - start;
            let to = end.min(start.saturating_add(extent.length())) - start;
            let (from, to) = (usize::try_from(from).unwrap_or(usize::MAX), usize::try_from(to).unwrap_or(usize::MAX));
            let Some(chunk) = extent.chunk() else {
                bytes.resize(bytes.len() + (to - from), 0);
                continue;
            };
            let plain = fetch(chunk)?;
            bytes.extend_from_slice(extent.slice(&plain).and_then(|piece| piece.get(from..to)).unwrap_or_default());
        }
        match offset + bytes.len() as u64 {
            found if found == end || offset >= end => Ok(bytes),
            found => Err(ReadRangeError::Short { length: self.content.length(), end: found }),
        }
    }

    /// The extents that overlap a range. The marks are held only while lists are read, not while data is.
    fn extents(
        &self,
        (offset, end): (u64, u64),
        fetch: impl Fn(&ChunkRef) -> Result<Bytes, ChunkError>,
    ) -> Result<Vec<(u64, Extent)>, ReadRangeError> {
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut marks = self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found = Vec::new();
        for extent in ExtentsFrom::new(&self.content, &mut marks, offset, fetch) {
            let (start, extent) = extent.map_err(Box::new)?;
            let after = start.saturating_add(extent.length());
            found.push((start, extent));
            if after >= end {
                break;
            }
        }
        Ok(found)
    }

    /// Where data begins at or after a place; `None` if only holes follow. Content with a stored list counts as data all over.
    pub(crate) fn data_at(&self, place: u64) -> Option<u64> {
        if place >= self.content.length() {
            return None;
        }
        if self.content.depth() > 0 {
            return Some(place);
        }
        self.inline_from(place).find(|(_, extent)| extent.chunk().is_some()).map(|(start, _)| start.max(place))
    }

    /// Where a hole begins at or after a place; the end counts as one.
    pub(crate) fn hole_at(&self, place: u64) -> Option<u64> {
        let length = self.content.length();
        if place >= length {
            return None;
        }
        if self.content.depth() > 0 {
            return Some(length);
        }
        let hole = self.inline_from(place).find(|(_, extent)| extent.chunk().is_none());
        Some(hole.map_or(length, |(start, _)| start.max(place)))
    }

    fn inline_from(&self, place: u64) -> impl Iterator<Item = (u64, &Extent)> {
        let mut end = 0_u64;
        let placed = self.content.inline_extents().iter().map(move |extent| {
            let start = end;
            end = end.saturating_add(extent.length());
            (start, extent)
        });
        placed.filter(move |(start, extent)| start.saturating_add(extent.length()) > place)
    }
}

/// The bytes that are stored for a content, holes left out, as far as its record alone tells; a stored list counts as data all over.
pub(crate) fn stored_length(content: &Content) -> u64 {
    if content.depth() > 0 {
        return content.length();
    }
    content.inline_extents().iter().filter(|extent| extent.chunk().is_some()).map(Extent::length).sum()
}
