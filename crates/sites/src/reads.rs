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
    let mut pieces = operator.reader(path).await?.into_stream(range).await?;
    let (mut parts, mut length) = (Vec::<Bytes>::new(), 0_u64);
    loop {
        let next = tokio::time::timeout(stall, pieces.try_next()).await;
        let Some(piece) = next.map_err(|_elapsed| Failure::Silent { allowed: stall })?? else { break };
        length += piece.len() as u64;
        if length > most {
            return Ok(Gathered::Longer(length));
        }
        parts.extend(piece);
    }
    if let [whole] = parts.as_slice() {
        return Ok(Gathered::All(Bytes::clone(whole)));
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    for part in &parts {
        whole.extend_from_slice(part);
    }
    Ok(Gathered::All(whole.freeze()))
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
