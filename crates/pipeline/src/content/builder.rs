//! Makes content out of extents, however many they are.

use blockhouse_types::Encoder;
use blockhouse_types::limits::{EXTENTS_DEPTH_MAX, EXTENTS_INLINE_MAX};

use super::{Content, Extent};

/// Why extents are no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    #[error("a part of {length} bytes at {offset} is empty or reaches beyond its chunk of {chunk} bytes")]
    Part { chunk: u32, offset: u32, length: u32 },
    #[error("the lengths of extents do not fit 64 bits")]
    TooLong,
    #[error("a list of extents is still too long at depth {EXTENTS_DEPTH_MAX}")]
    TooDeep,
    #[error("a list of extents at depth {depth} was given a hole, an extent too early, or one after its end")]
    Order { depth: u8 },
    #[error("the chunks of a list at depth {depth} hold {found} bytes, the list has {expected}")]
    ListLength { depth: u8, found: u64, expected: u64 },
}

/// Bytes of a list that is too long to stand inline: the next bytes of the stream that carries the list of `depth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// The depth of the list. The extents of the chunks cut from it go to [`ContentBuilder::push_list`] with this
    /// depth plus one.
    pub depth: u8,
    /// The next bytes of the list.
    pub bytes: Vec<u8>,
}

/// What is left to do at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: here is the content.
    Done(Content),
    /// The list of that depth ends with these bytes (there may be none): finish its stream, push the extents of its
    /// chunks, close again.
    Cut(Spill),
}

/// One list of extents while it grows.
#[derive(Debug, Default)]
struct List {
    encoded: Vec<u8>,
    /// Kept only while the list may still stand inline.
    inline: Vec<Extent>,
    hole: u64,
    length: u64,
    spilled: u64,
    is_long: bool,
}

impl List {
    fn push(&mut self, extent: Extent) -> Result<(), ContentError> {
        self.length = self.length.checked_add(extent.length()).ok_or(ContentError::TooLong)?;
        if let Extent::Hole { length } = extent {
            self.hole += length; // at most `length` of the list, which was checked
            return Ok(());
        }
        self.write_hole();
        self.write(extent);
        Ok(())
    }

    fn write_hole(&mut self) {
        match std::mem::take(&mut self.hole) {
            0 => {}
            length => self.write(Extent::Hole { length }),
        }
    }

    fn write(&mut self, extent: Extent) {
        let mut encoder = Encoder::new();
        extent.encode(&mut encoder);
        self.encoded.extend_from_slice(encoder.as_slice());
        if !self.is_long {
            self.inline.push(extent);
        }
        if self.encoded.len() > EXTENTS_INLINE_MAX {
            self.is_long = true;
            self.inline = Vec::new();
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.spilled += self.encoded.len() as u64;
        std::mem::take(&mut self.encoded)
    }
}

/// Collects the extents of content. Memory stays small: what a long list needs is handed out as it comes.
///
/// ```text
/// push extents; after each, while spill() gives bytes of a list: feed them to the cutter of that depth,
///   store the chunks it makes, push_list them at that depth + 1
/// close(): Done, or Cut: feed the last bytes, finish that cutter, push_list its chunks, close() again
/// ```
#[derive(Debug, Default)]
pub struct ContentBuilder {
    lists: Vec<List>,
    /// Lists below this depth have ended.
    closed: u8,
}

impl ContentBuilder {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of content there are so far.
    pub fn length(&self) -> u64 {
        self.lists.first().map_or(0, |list| list.length)
    }

    /// The next extent. Neighbouring holes are merged, empty holes dropped, parts that are whole become whole.
    pub fn push(&mut self, extent: Extent) -> Result<(), ContentError> {
        if self.closed > 0 {
            return Err(ContentError::Order { depth: 0 });
        }
        let extent = normal(extent)?;
        self.list(0)?.push(extent)
    }

    /// The next extent of the list at `depth`, which carries bytes of the list one below.
    pub fn push_list(&mut self, depth: u8, extent: Extent) -> Result<(), ContentError> {
        let below_is_long = depth > 0 && self.lists.get(usize::from(depth) - 1).is_some_and(|list| list.is_long);
        if !below_is_long || self.closed > depth || matches!(extent, Extent::Hole { .. }) {
            return Err(ContentError::Order { depth });
        }
        let extent = normal(extent)?;
        self.list(depth)?.push(extent)
    }

    /// Bytes of a long list that can be cut now.
    pub fn spill(&mut self) -> Option<Spill> {
        let (depth, list) = (0..).zip(&mut self.lists).find(|(_, list)| list.is_long && !list.encoded.is_empty())?;
        Some(Spill { depth, bytes: list.take() })
    }

    /// Ends the lowest list that has not ended.
    pub fn close(&mut self) -> Result<Closing, ContentError> {
        let depth = self.closed;
        if depth > 0 {
            self.check_list_length(depth)?;
        }
        let length = self.length();
        let list = self.list(depth)?;
        list.write_hole();
        if !list.is_long {
            let extents = std::mem::take(&mut list.inline);
            return Ok(Closing::Done(Content { length, depth, extents }));
        }
        let bytes = list.take();
        if depth == EXTENTS_DEPTH_MAX {
            return Err(ContentError::TooDeep);
        }
        self.closed = depth + 1;
        Ok(Closing::Cut(Spill { depth, bytes }))
    }

    /// The chunks of a list must hold the whole list, or nobody could read the content back.
    fn check_list_length(&self, depth: u8) -> Result<(), ContentError> {
        let at = usize::from(depth);
        let expected = self.lists.get(at - 1).map_or(0, |list| list.spilled);
        let found = self.lists.get(at).map_or(0, |list| list.length);
        if found == expected { Ok(()) } else { Err(ContentError::ListLength { depth, found, expected }) }
    }

    fn list(&mut self, depth: u8) -> Result<&mut List, ContentError> {
        if depth > EXTENTS_DEPTH_MAX {
            return Err(ContentError::TooDeep);
        }
        let at = usize::from(depth);
        if self.lists.len() <= at {
            self.lists.resize_with(at + 1, List::default);
        }
        self.lists.get_mut(at).ok_or(ContentError::TooDeep)
    }
}

fn normal(extent: Extent) -> Result<Extent, ContentError> {
    match extent {
        Extent::Part { chunk, offset, length } => {
            let inside = offset.checked_add(length).is_some_and(|end| end <= chunk.plain_len);
            if !inside || length == 0 {
                return Err(ContentError::Part { chunk: chunk.plain_len, offset, length });
            }
            let whole = length == chunk.plain_len;
            Ok(if whole { Extent::Chunk(chunk) } else { Extent::Part { chunk, offset, length } })
        }
        other => Ok(other),
    }
}
