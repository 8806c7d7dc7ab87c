//! Collects the extents of one content and stores its list as content again where it grows long.

use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::content::{Closing, Content, ContentBuilder, ContentError, Extent, Spill};
use blockhouse_pipeline::cut::Cutter;
use blockhouse_types::ChunkId;

use super::store::{ChunkStore, StoreError};
use super::stream::Stream;

/// Why extents did not become content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The extents are no content.
    #[error("the extents of a file are no content")]
    Content(#[from] ContentError),
    /// A list could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many chunks of one content are remembered with their keys: those of 32 GiB, in 20 MiB of memory. Of a longer one ids alone.
const CUT_KEPT: usize = 1 << 18;

/// The chunks that a content needs.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The first [`CUT_KEPT`] of those that its stream was cut into, in order.
    pub(super) cut: Vec<ChunkRef>,
    /// Every other one.
    pub(super) others: Vec<ChunkId>,
}

impl Needed {
    fn data(&mut self, extent: &Extent) {
        let Some(chunk) = extent.chunk() else { return };
        // A hole in the middle of a chunk divides it: what follows belongs to the chunk that was noted last.
        let goes_on = matches!(extent, Extent::Part { offset, .. } if *offset > 0);
        if !goes_on && self.cut.len() < CUT_KEPT {
            self.cut.push(chunk.clone());
        } else if self.cut.last().is_none_or(|last| last.id != chunk.id) {
            self.others.push(chunk.id);
        }
    }
}

/// One content while it grows.
#[derive(Debug, Default)]
pub(super) struct ContentSink {
    builder: ContentBuilder,
    /// The streams that carry lists, by the depth of the list.
    lists: Vec<Stream<()>>,
    /// Every chunk of it, for a content that becomes deep: they no longer stand in its inline extents.
    needed: Needed,
}

impl ContentSink {
    /// The next extent.
    pub(super) fn push(&mut self, extent: Extent, cutter: &Cutter, store: &mut ChunkStore) -> Result<(), SinkError> {
        self.needed.data(&extent);
        self.builder.push(extent)?;
        while let Some(spill) = self.builder.spill() {
            self.list(&spill, cutter, store, false)?;
        }
        Ok(())
    }

    /// The content, and every chunk it needs.
    pub(super) fn finish(mut self, cutter: &Cutter, store: &mut ChunkStore) -> Result<(Content, Needed), SinkError> {
        loop {
            match self.builder.close()? {
                Closing::Done(content) => return Ok((content, self.needed)),
                Closing::Cut(spill) => self.list(&spill, cutter, store, true)?,
            }
        }
    }

    fn list(&mut self, spill: &Spill, cutter: &Cutter, store: &mut ChunkStore, ends: bool) -> Result<(), SinkError> {
        let at = usize::from(spill.depth);
        while self.lists.len() <= at {
            self.lists.push(Stream::new());
        }
        let Some(stream) = self.lists.get_mut(at) else { return Ok(()) };
        let length = spill.bytes.len();
        let copied: Result<(), StoreError> = stream.append((), length, |room| {
            room.copy_from_slice(&spill.bytes);
            Ok(())
        });
        copied?;
        if !ends && !stream.is_full() {
            return Ok(());
        }
        stream.cut(cutter, store, ends)?;
        for ((), extent) in stream.take_pieces() {
            self.needed.others.extend(extent.chunk().map(|chunk| chunk.id));
            self.builder.push_list(spill.depth + 1, extent)?;
        }
        Ok(())
    }
}
