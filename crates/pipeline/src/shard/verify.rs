//! Shards before and after their check: trust is a type.

use std::ops::Range;

use blockhouse_types::{ShardIndex, VaultId};
use bytes::Bytes;

use super::{ShardError, ShardFault, ShardHeader, ShardName, ShardPrefix};

/// The bytes of a shard file as a site gave them.
#[derive(Debug, Clone)]
pub struct UncheckedShard {
    file: Bytes,
}

impl UncheckedShard {
    /// Takes the bytes of the whole file.
    pub fn new(file: impl Into<Bytes>) -> Self {
        Self { file: file.into() }
    }

    /// T1: checks every byte, and that it is the shard asked for.
    pub fn verify(self, vault: &VaultId, shard: ShardName) -> Result<VerifiedShard, ShardError> {
        let prefix = ShardPrefix::verify(&self.file, vault, shard)?;
        let shape = prefix.header().shape;
        let (found, expected) = (self.file.len(), shape.file_len());
        if found != expected {
            return Err(ShardError { shard, fault: ShardFault::Length { found, expected } });
        }
        let payload = self.file.slice(shape.prefix_len()..);
        prefix.check_leaves(0, &payload).map_err(|fault| ShardError { shard, fault })?;
        Ok(VerifiedShard { prefix, file: self.file, payload })
    }
}

/// A good shard: every byte was checked.
#[derive(Debug, Clone)]
pub struct VerifiedShard {
    prefix: ShardPrefix,
    file: Bytes,
    payload: Bytes,
}

impl VerifiedShard {
    /// What it says of itself.
    pub const fn header(&self) -> &ShardHeader {
        self.prefix.header()
    }

    /// Which shard of its stripe.
    pub const fn index(&self) -> ShardIndex {
        self.prefix.header().index
    }

    /// Its bytes of pack or parity.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The whole file, to be put at another site.
    pub const fn file(&self) -> &Bytes {
        &self.file
    }
}

/// Whole leaves of a payload that were checked.
#[derive(Debug, Clone)]
pub struct VerifiedRange {
    index: ShardIndex,
    start: usize,
    bytes: Bytes,
}

impl VerifiedRange {
    pub(super) const fn new(index: ShardIndex, start: usize, bytes: Bytes) -> Self {
        Self { index, start, bytes }
    }

    /// Which shard of its stripe.
    pub const fn index(&self) -> ShardIndex {
        self.index
    }

    /// Which bytes of the payload these are.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes.len()
    }

    /// All of them.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Some bytes of the payload; `None` if they are not all here.
    pub fn get(&self, payload_range: Range<usize>) -> Option<Bytes> {
        let from = payload_range.start.checked_sub(self.start)?;
        let to = payload_range.end.checked_sub(self.start)?;
        (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}
