//! The bytes of the journal: a header, then records that can each be told from damage.

use blockhouse_crypto::hash::Context;
use blockhouse_types::encoding::{HEADER_LEN, VERSION};
use blockhouse_types::{DecodeError, Encoder, Magic};

use crate::network::pool::limits::TRANSACTION_MAX;

const MAGIC: Magic = *b"BHPL";
const WHAT: &str = "a pool journal";
const CONTEXT: &str = "blockhouse v1 pool record";

/// Length and its complement, before the checksum.
const HEAD: usize = 8;
/// The part of the hash that is kept: against faults of a disk, not against people.
const CHECKSUM: usize = 16;

/// What is wrong with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends in a record that is not whole: its write was interrupted.
    Torn {
        /// How many bytes of it there are.
        bytes: usize,
    },
    /// Bytes in it are not what was written.
    Damaged,
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The transactions that are whole.
    pub transactions: Vec<&'a [u8]>,
    /// What else there is.
    pub fault: Option<Fault>,
}

/// The bytes before the first record.
pub(super) fn header() -> Vec<u8> {
    Encoder::with_header(MAGIC).finish()
}

/// The record of a transaction.
pub(super) fn encode(tx: &[u8]) -> Vec<u8> {
    // Longer ones are not examined, so never appended.
    let length = u32::try_from(tx.len()).unwrap_or(u32::MAX);
    let mut encoder = Encoder::new();
    encoder.u32(length).u32(!length).raw(&checksum(&Context::new(CONTEXT), tx)).raw(tx);
    encoder.finish()
}

/// Reads a journal. What is not a record is passed over, byte by byte, up to the next one: no fault hides what lies
/// behind it. Only a header of another version is an error, for its file must be left as it is.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let mut decoded = Decoded { transactions: Vec::new(), fault: None };
    let Some((header, mut left)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        // A file has its name only after it has its header.
        decoded.fault = Some(Fault::Damaged);
        return Ok(decoded);
    };
    decoded.fault = header_fault(*header)?;
    let context = Context::new(CONTEXT);
    let mut passed = 0_usize;
    while !left.is_empty() {
        if let Some((tx, rest)) = first_record(&context, left) {
            if passed > 0 {
                decoded.fault = Some(Fault::Damaged);
                passed = 0;
            }
            decoded.transactions.push(tx);
            left = rest;
            continue;
        }
        if passed == 0 && decoded.fault.is_none() && is_torn(left) {
            decoded.fault = Some(Fault::Torn { bytes: left.len() });
            return Ok(decoded);
        }
        passed = passed.saturating_add(1);
        left = left.get(1..).unwrap_or_default();
    }
    if passed > 0 {
        decoded.fault = Some(Fault::Damaged);
    }
    Ok(decoded)
}

/// A header that differs in the version or the flags alone is a later release's; any other difference is damage.
fn header_fault(found: [u8; HEADER_LEN]) -> Result<Option<Fault>, DecodeError> {
    let [a, b, c, d, version, must, ..] = found;
    if found[..] == header() {
        return Ok(None);
    }
    if [a, b, c, d] == MAGIC && (version > VERSION || must != 0) {
        return Err(DecodeError::Newer { what: WHAT, found: version, must });
    }
    Ok(Some(Fault::Damaged))
}

/// The record at the beginning of these bytes.
fn first_record<'a>(context: &Context, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (length, rest) = length(bytes)?;
    let (found, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let (tx, rest) = rest.split_at_checked(length)?;
    (*found == checksum(context, tx)).then_some((tx, rest))
}

/// True for a beginning of a record and nothing else, and for zeros: a file system may have made the file longer before
/// it wrote.
fn is_torn(bytes: &[u8]) -> bool {
    if bytes.iter().all(|byte| *byte == 0) || bytes.len() < HEAD {
        return true;
    }
    length(bytes).is_some_and(|(length, rest)| rest.len() < CHECKSUM + length)
}

/// The length at the beginning of these bytes, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (low, rest) = bytes.split_first_chunk::<4>()?;
    let (complement, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*low);
    let whole = length == !u32::from_le_bytes(*complement);
    let length = usize::try_from(length).ok()?;
    (whole && (1..=TRANSACTION_MAX).contains(&length)).then_some((length, rest))
}

fn checksum(context: &Context, tx: &[u8]) -> [u8; CHECKSUM] {
    let hash = context.hash(tx);
    let mut checksum = [0; CHECKSUM];
    checksum.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    checksum
}
