//! Finds the extents of content from any place on, without reading the list before that place again and again.
//!
//! A list of extents has records of different lengths, so the record of a place is found by reading those before it. What was read
//! once leaves marks: the next search begins at the last mark before its place. Inline lists need none.
//!
//! - **Owns** the marks and the search.
//! - **Does not** fetch chunks, nor read the data that the extents stand for.
//!
//! # Invariants
//! - **K1** The extents found are those that [`Content::extents`] gives from that place on, or an error.
//! - **K2** A search reads only chunks of lists: of those between the last mark before the place and the place, once each depth.

use super::{Content, EXTENT_MAX, Extent, ListRules, ResolveError};
use crate::chunk::ChunkRef;
use blockhouse_types::Decoder;

/// How many extents lie between two marks: one mark of 24 bytes for 32 MiB of content, and no more than some microseconds of reading.
const STEP: u32 = 256;

/// A place in a stored list where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// How many bytes of what the list describes lie before it.
    covered: u64,
    /// Where in the list it is.
    at: u64,
    /// Whether the record before it is a hole.
    after_hole: bool,
}

/// What is known of the stored lists of one content.
#[derive(Debug, Clone)]
pub struct SeekMarks {
    /// By the depth of the list, ascending by place. The first mark is the beginning.
    lists: Vec<Vec<Mark>>,
}

impl SeekMarks {
    /// Nothing but the beginnings.
    pub fn of(content: &Content) -> Self {
        let beginning = Mark { covered: 0, at: 0, after_hole: false };
        Self { lists: (0..content.depth).map(|_| vec![beginning]).collect() }
    }

    /// How many marks there are: a bound on memory.
    pub fn count(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// The last mark of the list at `depth` that is not behind `place`.
    fn before(&self, depth: usize, place: u64) -> Mark {
        let marks = self.lists.get(depth).map(Vec::as_slice).unwrap_or_default();
        let after = marks.partition_point(|mark| mark.covered <= place);
        let beginning = Mark { covered: 0, at: 0, after_hole: false };
        after.checked_sub(1).and_then(|at| marks.get(at)).copied().unwrap_or(beginning)
    }

    fn note(&mut self, depth: usize, mark: Mark) -> bool {
        let Some(marks) = self.lists.get_mut(depth) else { return false };
        let is_new = marks.last().is_none_or(|last| last.covered < mark.covered);
        if is_new {
            marks.push(mark);
        }
        is_new
    }
}

/// One stored list, read from a mark on.
#[derive(Debug)]
struct Stored {
    rules: ListRules,
    bytes: Vec<u8>,
    /// What of `bytes` was read.
    at: usize,
    /// Where in the list `bytes` end.
    filled: u64,
    ended: bool,
    since_mark: u32,
}

impl Stored {
    fn from(depth: u8, mark: Mark) -> Self {
        let rules = ListRules { after_hole: mark.after_hole, sum: mark.covered, ..ListRules::new(depth) };
        Self { rules, bytes: Vec::new(), at: 0, filled: mark.at, ended: false, since_mark: 0 }
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn mark(&self) -> Mark {
        let at = self.filled - self.left().len() as u64;
        Mark { covered: self.rules.sum, at, after_hole: self.rules.after_hole }
    }
}

/// The extents of content at depth 0 from a place on, each with where it begins. Ends after an error.
#[derive(Debug)]
pub struct ExtentsFrom<'a, F> {
    content: &'a Content,
    marks: &'a mut SeekMarks,
    fetch: F,
    place: u64,
    lists: Vec<Stored>,
    /// The next inline extent, and what lies before it.
    inline: (usize, u64),
    ended: bool,
}

impl<'a, F> ExtentsFrom<'a, F> {
    /// The extents from the one that covers `place` on. `marks` are those of this content.
    pub fn new(content: &'a Content, marks: &'a mut SeekMarks, place: u64, fetch: F) -> Self {
        let (mut lists, mut wanted) = (Vec::new(), place);
        for depth in 0..content.depth {
            let mark = marks.before(depth.into(), wanted);
            wanted = mark.at;
            lists.push(Stored::from(depth, mark));
        }
        Self { content, marks, fetch, place, lists, inline: (0, 0), ended: place >= content.length }
    }

    fn next_inline(&mut self) -> Option<(u64, Extent)> {
        let (at, start) = self.inline;
        let extent = self.content.extents.get(at)?.clone();
        self.inline = (at + 1, start.saturating_add(extent.length()));
        Some((start, extent))
    }

    /// The next extent of the list at `depth`.
    fn next_at<P, E>(&mut self, depth: usize) -> Result<Option<(u64, Extent)>, ResolveError<E>>
    where
        F: FnMut(&ChunkRef) -> Result<P, E>,
        P: AsRef<[u8]>,
        E: std::error::Error + 'static,
    {
        while self.lists.get(depth).is_some_and(|list| !list.ended && list.left().len() < EXTENT_MAX) {
            self.refill(depth)?;
        }
        let Some(list) = self.lists.get_mut(depth) else { return Ok(self.next_inline()) };
        let failed = |depth| move |source| ResolveError::List { depth, source };
        if list.since_mark >= STEP && self.marks.note(depth, list.mark()) {
            list.since_mark = 0;
        }
        let mut decoder = Decoder::new("a list of extents", list.bytes.get(list.at..).unwrap_or_default());
        if decoder.is_empty() {
            list.rules.finish(&decoder, self.content.length).map_err(failed(list.rules.depth))?;
            return Ok(None);
        }
        let start = list.rules.sum;
        let extent = list.rules.read(&mut decoder).map_err(failed(list.rules.depth))?;
        list.at = list.bytes.len() - decoder.left().len();
        list.since_mark = list.since_mark.saturating_add(1);
        Ok(Some((start, extent)))
    }

    /// Appends the next bytes of the list at `depth`, out of the extents of the list above it.
    fn refill<P, E>(&mut self, depth: usize) -> Result<(), ResolveError<E>>
    where
        F: FnMut(&ChunkRef) -> Result<P, E>,
        P: AsRef<[u8]>,
        E: std::error::Error + 'static,
    {
        let above = self.next_at(depth + 1)?;
        let filled = self.lists.get(depth).map_or(0, |list| list.filled);
        let Some((start, extent)) = above else {
            if let Some(list) = self.lists.get_mut(depth) {
                list.ended = true;
            }
            return Ok(());
        };
        let end = start.saturating_add(extent.length());
        // Before the mark: what it holds is known, and not fetched.
        let Some(chunk) = extent.chunk().filter(|_| end > filled) else { return Ok(()) };
        let plain = (self.fetch)(chunk).map_err(|source| ResolveError::Fetch { id: chunk.id, source })?;
        let plain = plain.as_ref();
        let wrong = ResolveError::Length { id: chunk.id, found: plain.len(), expected: chunk.plain_len };
        let piece = extent.slice(plain).ok_or(wrong)?;
        let skip = usize::try_from(filled.saturating_sub(start)).unwrap_or(usize::MAX);
        if let Some(list) = self.lists.get_mut(depth) {
            list.bytes.drain(..list.at);
            list.at = 0;
            list.bytes.extend_from_slice(piece.get(skip..).unwrap_or_default());
            list.filled = end;
        }
        Ok(())
    }
}

impl<F, P, E> Iterator for ExtentsFrom<'_, F>
where
    F: FnMut(&ChunkRef) -> Result<P, E>,
    P: AsRef<[u8]>,
    E: std::error::Error + 'static,
{
    type Item = Result<(u64, Extent), ResolveError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let next = self.next_at(0).transpose();
            self.ended = matches!(next, None | Some(Err(_)));
            match next {
                Some(Ok((start, extent))) if start.saturating_add(extent.length()) <= self.place => {}
                next => return next,
            }
        }
        None
    }
}
