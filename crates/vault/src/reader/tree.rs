//! The tree of a snapshot, listing by listing.

use std::collections::VecDeque;

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, Extent, ResolveError};
use blockhouse_pipeline::tree::{Body, Entry, ListingReader};
use blockhouse_types::DecodeError;

use super::{ChunkError, ChunkReader};

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadTreeError {
    /// The list of a content.
    #[error("the list of a content could not be read")]
    Extents(#[from] Box<ResolveError<ChunkError>>),
    /// A chunk.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A listing is none.
    #[error("the listing of `{}` cannot be read", path.escape_ascii())]
    Listing {
        path: Vec<u8>,
        #[source]
        source: DecodeError,
    },
}

/// The bytes of a content, piece by piece, holes as their length.
pub(crate) fn pieces<E>(
    chunks: &mut ChunkReader,
    content: &Content,
    mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<ReadTreeError>,
{
    // Lists are read through the same reader as data: both borrow it by turns.
    let chunks = std::cell::RefCell::new(chunks);
    let extents = content.extents(|reference: &ChunkRef| chunks.borrow_mut().read(reference));
    for extent in extents {
        let extent = extent.map_err(|error| ReadTreeError::from(Box::new(error)))?;
        let Some(reference) = extent.chunk() else {
            take(Piece::Hole(extent.length()))?;
            continue;
        };
        let plain = chunks.borrow_mut().read(reference).map_err(ReadTreeError::from)?;
        take(Piece::Bytes(extent.slice(&plain).unwrap_or_default()))?;
    }
    Ok(())
}

/// A piece of content.
pub(crate) enum Piece<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// So many zeros.
    Hole(u64),
}

/// How many entries are looked at beforehand.
const AHEAD: usize = 32;

/// The entries of one listing, read as they are asked for: a folder with millions of them takes no more memory than a small one.
#[derive(Debug)]
pub struct Entries {
    path: Vec<u8>,
    extents: std::vec::IntoIter<Extent>,
    reader: Option<ListingReader>,
    sends_for_lists: bool,
    /// Entries that were looked at beforehand.
    ahead: VecDeque<Entry>,
}

impl Entries {
    /// Begins to read the listing of the folder at `path`.
    pub fn of(chunks: &mut ChunkReader, path: &[u8], listing: &Content) -> Result<Self, ReadTreeError> {
        let extents = listing.extents(|reference: &ChunkRef| chunks.read(reference));
        let extents: Vec<Extent> = extents.collect::<Result<_, _>>().map_err(Box::new)?;
        let (extents, reader) = (extents.into_iter(), Some(ListingReader::new()));
        Ok(Self { path: path.to_vec(), extents, reader, sends_for_lists: false, ahead: VecDeque::new() })
    }

    /// For whoever reads the files too: the lists of large ones are sent for before it is their turn.
    #[must_use]
    pub(crate) fn sending_for_lists(self) -> Self {
        Self { sends_for_lists: true, ..self }
    }

    /// The next entry; none after the last, and after an error.
    pub fn next(&mut self, chunks: &mut ChunkReader) -> Result<Option<Entry>, ReadTreeError> {
        if let Some(entry) = self.ahead.pop_front() {
            return Ok(Some(entry));
        }
        let next = self.try_next(chunks);
        match &next {
            Ok(Some(_)) if self.sends_for_lists => self.look_ahead(chunks),
            Ok(_) => {}
            Err(_) => self.reader = None,
        }
        next
    }

    /// Takes out of what is read already what comes next, and sends for its lists. What is wrong there shows when it is its turn.
    fn look_ahead(&mut self, chunks: &mut ChunkReader) {
        let Some(reader) = &mut self.reader else { return };
        while self.ahead.len() < AHEAD {
            let Ok(Some(entry)) = reader.next_entry() else { break };
            if let Body::File { content, .. } = &entry.body
                && content.depth() > 0
            {
                let lists = content.inline_extents().iter().filter_map(Extent::chunk);
                lists.for_each(|list| chunks.send_for(&list.id));
            }
            self.ahead.push_back(entry);
        }
    }

    fn try_next(&mut self, chunks: &mut ChunkReader) -> Result<Option<Entry>, ReadTreeError> {
        let failed = |source| ReadTreeError::Listing { path: self.path.clone(), source };
        while let Some(reader) = &mut self.reader {
            if let Some(entry) = reader.next_entry().map_err(failed)? {
                return Ok(Some(entry));
            }
            match self.extents.next() {
                None => {
                    let ended = self.reader.take().map_or(Ok(()), ListingReader::finish);
                    ended.map_err(failed)?;
                }
                // A listing has no holes; what reads as zeros would be no entry.
                Some(extent) => {
                    let Some(reference) = extent.chunk() else { continue };
                    let plain = chunks.read(reference)?;
                    reader.push(extent.slice(&plain).unwrap_or_default());
                }
            }
        }
        Ok(None)
    }
}

/// The entries of one listing.
pub fn list(chunks: &mut ChunkReader, path: &[u8], listing: &Content) -> Result<Vec<Entry>, ReadTreeError> {
    let mut reading = Entries::of(chunks, path, listing)?;
    let mut entries = Vec::new();
    while let Some(entry) = reading.next(chunks)? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Visits every entry below a listing, depth first, each with its path; what `visit` returns says whether a folder is entered.
pub fn walk<E: From<ReadTreeError>>(
    chunks: &mut ChunkReader,
    root: &Content,
    visit: &mut impl FnMut(&mut ChunkReader, &[u8], &Entry) -> Result<bool, E>,
) -> Result<(), E> {
    // The folders still to be visited, the next one last; a stack on the heap, for trees may be deep.
    let mut stack = vec![(Vec::new(), Entries::of(chunks, b"", root)?)];
    while let Some((folder, entries)) = stack.last_mut() {
        let Some(entry) = entries.next(chunks)? else {
            stack.pop();
            continue;
        };
        let mut path = folder.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        let enter = visit(chunks, &path, &entry)?;
        if let Body::Directory(listing) = &entry.body
            && enter
        {
            let below = Entries::of(chunks, &path, listing)?;
            stack.push((path, below));
        }
    }
    Ok(())
}
