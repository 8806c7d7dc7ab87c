//! A stream as the only entry of a tree: cut, named and stored as it comes, in memory that does not grow with it.

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::cut::Cutter;
use blockhouse_pipeline::tree::{Body, Entry, EntryLeaves, ListingWriter};
use blockhouse_sources::files::{Accounts, encode_root_name};
use blockhouse_sources::stream::{StreamError, StreamSource};
use blockhouse_types::{Metadata, Timestamp};

use super::{Findings, Tree, WalkError};
use crate::backup::sink::ContentSink;
use crate::backup::store::{ChunkStore, StoreError};
use crate::backup::stream::Stream;
use crate::progress::Progress;

/// For the eyes of whoever ran the backup alone: nobody knows whom a dump may be shown to.
const MODE: u32 = 0o600;

/// Reads a stream to its good end. Anything else is an error, and what was stored is nobody's.
pub(in crate::backup) fn store_stream(
    source: &StreamSource,
    store: &mut ChunkStore,
    cutter: &Cutter,
    (manifest_key, progress, started): (&Secret, &Progress, Timestamp),
) -> Result<Tree, WalkError> {
    let is_stopped = || progress.is_interrupted();
    let mut incoming = source.open().map_err(stopped)?;
    let (mut stream, mut sink, mut hasher) = (Stream::new(), ContentSink::default(), ContentHasher::new());
    let mut bytes = 0;
    while let Some(piece) = incoming.next_piece(&is_stopped).map_err(stopped)? {
        hasher.update(&piece);
        bytes += piece.len() as u64;
        progress.add_bytes(piece.len() as u64);
        append(&mut stream, &piece)?;
        if stream.is_full() {
            stream.cut(cutter, store, false)?;
            pour(&mut stream, &mut sink, cutter, store)?;
        }
    }
    stream.cut(cutter, store, true)?;
    pour(&mut stream, &mut sink, cutter, store)?;
    let (content, _) = sink.finish(cutter, store)?;
    progress.add_file(0);
    let body = Body::File { content, hash: hasher.finish() };
    let entry = Entry { name: encode_root_name(source.name()), metadata: metadata(started), body };
    let mut leaves = EntryLeaves::new(manifest_key);
    leaves.push(&entry.name, &entry.facts());
    let root = listing(&entry, cutter, store)?;
    Ok(Tree { root, entries: leaves.finish(), findings: Findings { files: 1, bytes, ..Findings::default() } })
}

fn stopped(error: StreamError) -> WalkError {
    match error {
        StreamError::Interrupted => WalkError::Interrupted,
        error => WalkError::Stream(error),
    }
}

/// The listing of roots with this entry alone.
fn listing(
    entry: &Entry,
    cutter: &Cutter,
    store: &mut ChunkStore,
) -> Result<blockhouse_pipeline::content::Content, WalkError> {
    let (mut stream, mut sink) = (Stream::new(), ContentSink::default());
    append(&mut stream, &ListingWriter::new().push(entry)?)?;
    stream.cut(cutter, store, true)?;
    pour(&mut stream, &mut sink, cutter, store)?;
    Ok(sink.finish(cutter, store)?.0)
}

fn append(stream: &mut Stream<()>, bytes: &[u8]) -> Result<(), StoreError> {
    stream.append((), bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok(())
    })
}

fn pour(
    stream: &mut Stream<()>,
    sink: &mut ContentSink,
    cutter: &Cutter,
    store: &mut ChunkStore,
) -> Result<(), WalkError> {
    for ((), extent) in stream.take_pieces() {
        sink.push(extent, cutter, store)?;
    }
    Ok(())
}

fn metadata(started: Timestamp) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let accounts = Accounts::of_this_host();
    Metadata {
        mode: MODE,
        uid,
        gid,
        user: accounts.user(uid),
        group: accounts.group(gid),
        mtime: started,
        ..Metadata::default()
    }
}
