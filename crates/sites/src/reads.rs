//! Reading objects from services, which may send more than was asked for, or nothing at all.
//!
//! - **Owns** the two bounds of every read: how many bytes are held, and how long none may come.
//! - **Does not** retry, and does not know the deadline of the whole call: `site` does.
//!
//! # Invariants
//! - **R5** No more is held of an object than was asked for and one piece of the stream, whatever a service sends.
//! - **R6** A service that is silent for the stall has failed, however long the whole object might take.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use opendal::{BytesRange, ErrorKind, Operator};

use crate::error::Cause;
use crate::trouble::{ServiceFailure, Trouble, is_past_the_end};

/// Why pieces did not come to their end.
enum Failure {
    Storage(opendal::Error),
    Silent { allowed: Duration },
}

/// What came.
enum Gathered {
    All(Bytes),
    /// More than was wanted, at least so much.
    Longer(u64),
}

/// Reads all of an object of which the length is not known, and no more than its kind may have.
pub(crate) async fn read_whole(operator: &Operator, path: &str, limit: u64, stall: Duration) -> Result<Bytes, Cause> {
    match gather(operator, path, (..).into(), (limit, stall)).await? {
        Gathered::All(bytes) => Ok(bytes),
        Gathered::Longer(length) => Err(Cause::TooLong { length, limit }),
    }
}

/// Reads a part of an object, all of it or nothing.
pub(crate) async fn read_range(
    operator: &Operator,
    path: &str,
    range: Range<u64>,
    stall: Duration,
) -> Result<Bytes, Cause> {
    let (length, end) = (range.end.saturating_sub(range.start), range.end);
    if length == 0 {
        return Ok(Bytes::new());
    }
    match gather(operator, path, range.into(), (length, stall)).await {
        Ok(Gathered::All(bytes)) if bytes.len() as u64 == length => Ok(bytes),
        Ok(Gathered::All(_)) => Err(Cause::Short { end }),
        // The whole object, as from a server that knows no ranges, or more.
        Ok(Gathered::Longer(_)) => {
            Err(ServiceFailure::new(Trouble::Unclear, "it sent more bytes than it was asked for").into())
        }
        Err(Failure::Storage(error)) if error.kind() == ErrorKind::RangeNotSatisfied || is_past_the_end(&error) => {
            Err(Cause::Short { end })
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Takes pieces until they end, or are more than `most` bytes, or none comes for the stall.
async fn gather(
    operator: &Operator,
    path: &str,
    range: BytesRange,
    (most, stall): (u64, Duration),
) -> Result<Gathered, Failure> {
    // What the answer to a range will be long is known, and one that is longer is not taken.
    let room = if range.is_full() { 0 } else { usize::try_from(most).unwrap_or(0) };
    let mut pieces = operator.reader(path).await?.into_stream(range).await?;
    let mut whole = Whole::with_room(room);
    loop {
        let next = tokio::time::timeout(stall, pieces.try_next()).await;
        let Some(piece) = next.map_err(|_elapsed| Failure::Silent { allowed: stall })?? else { break };
        let length = whole.len() as u64 + piece.len() as u64;
        if length > most {
            return Ok(Gathered::Longer(length));
        }
        piece.for_each(|part| whole.push(part));
    }
    Ok(Gathered::All(whole.into_bytes()))
}

/// Bytes that come in parts. Each part is let go as soon as it is taken over: behind it may be a buffer of a connection, of which it is a
/// small share. One that is all there is, is not copied.
#[derive(Debug)]
struct Whole {
    room: usize,
    only: Option<Bytes>,
    joined: BytesMut,
}

impl Whole {
    fn with_room(room: usize) -> Self {
        Self { room, only: None, joined: BytesMut::new() }
    }

    fn len(&self) -> usize {
        self.only.as_ref().map_or(self.joined.len(), Bytes::len)
    }

    fn push(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        if self.len() == 0 {
            self.only = Some(part);
            return;
        }
        if let Some(first) = self.only.take() {
            self.joined.reserve(self.room.max(first.len() + part.len()));
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(&part);
    }

    fn into_bytes(self) -> Bytes {
        self.only.unwrap_or_else(|| self.joined.freeze())
    }
}

impl From<opendal::Error> for Failure {
    fn from(error: opendal::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Storage(error) => error.into(),
            Failure::Silent { allowed } => Self::Deadline { allowed },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_and_an_only_part_is_not_copied() {
        let bytes = Bytes::from((0..=250_u8).cycle().take(10_000).collect::<Vec<_>>());
        let mut whole = Whole::with_room(bytes.len());
        whole.push(Bytes::new());
        whole.push(bytes.clone());
        whole.push(Bytes::new());
        assert_eq!(whole.len(), bytes.len());
        assert_eq!(whole.into_bytes().as_ptr(), bytes.as_ptr());
        for (room, step) in [(0, 1), (0, 999), (bytes.len(), 1), (bytes.len(), 999), (bytes.len(), 5000)] {
            let mut whole = Whole::with_room(room);
            for from in (0..bytes.len()).step_by(step) {
                assert_eq!(whole.len(), from);
                whole.push(bytes.slice(from..bytes.len().min(from + step)));
            }
            assert_eq!(whole.into_bytes(), bytes, "{room} {step}");
        }
        assert!(Whole::with_room(7).into_bytes().is_empty());
    }
}
