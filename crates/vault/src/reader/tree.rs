//! The tree of a snapshot, listing by listing.

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Content, ResolveError};
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
    let mut last: Option<(blockhouse_types::ChunkId, Vec<u8>)> = None;
    for extent in extents {
        let extent = extent.map_err(|error| ReadTreeError::from(Box::new(error)))?;
        let Some(reference) = extent.chunk() else {
            take(Piece::Hole(extent.length()))?;
            continue;
        };
        if last.as_ref().is_none_or(|(id, _)| *id != reference.id) {
            let plain = chunks.borrow_mut().read(reference).map_err(ReadTreeError::from)?;
            last = Some((reference.id, plain));
        }
        let plain = last.as_ref().map(|(_, plain)| &plain[..]).unwrap_or_default();
        take(Piece::Bytes(extent.slice(plain).unwrap_or_default()))?;
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

/// The entries of one listing.
pub fn list(chunks: &mut ChunkReader, path: &[u8], listing: &Content) -> Result<Vec<Entry>, ReadTreeError> {
    let failed = |source| ReadTreeError::Listing { path: path.to_vec(), source };
    let mut reader = ListingReader::new();
    let mut entries = Vec::new();
    pieces(chunks, listing, |piece| -> Result<(), ReadTreeError> {
        if let Piece::Bytes(bytes) = piece {
            reader.push(bytes);
        }
        while let Some(entry) = reader.next_entry().map_err(failed)? {
            entries.push(entry);
        }
        Ok(())
    })?;
    reader.finish().map_err(failed)?;
    Ok(entries)
}

/// Visits every entry below a listing, depth first, each with its path; what `visit` returns says whether a folder is entered.
pub fn walk<E: From<ReadTreeError>>(
    chunks: &mut ChunkReader,
    root: &Content,
    visit: &mut impl FnMut(&mut ChunkReader, &[u8], &Entry) -> Result<bool, E>,
) -> Result<(), E> {
    // The folders still to be visited, the next one last; a stack on the heap, for trees may be deep.
    let mut stack = vec![(Vec::new(), list(chunks, b"", root)?.into_iter())];
    while let Some((folder, entries)) = stack.last_mut() {
        let Some(entry) = entries.next() else {
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
            let below = list(chunks, &path, listing)?;
            stack.push((path, below.into_iter()));
        }
    }
    Ok(())
}
