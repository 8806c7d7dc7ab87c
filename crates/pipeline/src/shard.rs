//! Shard files: self-describing, verified and audited with no other file and no key.
//!
//! - **Owns** the bytes of a shard file, its name, its Merkle tree and the writer's signature.
//! - **Does not** read files, code parity or decide whether an account was a writer.
//!
//! # Invariants
//! - **T1** A shard is good iff header hash, stripe id, root, every leaf and the length hold.
//! - **T3** The prefix up to the leaf hashes is enough to verify any read of whole leaves.
//! - **T4** Whose stripe it is is decided by the signature alone.
//!
//! What came from a site is an [`UncheckedShard`] until [`UncheckedShard::verify`] makes it a [`VerifiedShard`].
//!
//! Format: `docs/design/stripes.md`.

mod prefix;
mod shape;
mod verify;
mod writer;

use std::fmt;
use std::str::FromStr;

use blockhouse_crypto::merkle::Tree;
use blockhouse_types::limits::SHARD_LEAF;
use blockhouse_types::{Code, CodeError, DecodeError, ShardIndex, StripeId, VaultId};

pub(crate) use prefix::stripe_id;
pub use prefix::{ShardHeader, ShardPrefix, prefix_len};
pub use shape::{ShapeError, ShardRange, StripeShape};
pub use verify::{UncheckedShard, VerifiedRange, VerifiedShard};
pub use writer::{ClaimedWriter, StripeWriter, WriterError};

/// The length of what stands before the roots; it tells the length of the rest.
pub const SHARD_FIXED_LEN: usize = 8 + 32 + 32 + 32 + 20 + 65 + 4 + 16;

/// Which shard of which stripe; as text, its path at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardName {
    /// The stripe.
    pub stripe: StripeId,
    /// The shard of it.
    pub index: ShardIndex,
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, ..] = self.stripe.as_bytes();
        write!(f, "shards/{first:02x}/{}-{:02x}", self.stripe, self.index.0)
    }
}

/// A path that is no shard's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not the path of a shard")]
pub struct ShardNameError {
    /// The path.
    pub path: String,
}

impl FromStr for ShardName {
    type Err = ShardNameError;

    fn from_str(path: &str) -> Result<Self, ShardNameError> {
        let parse = || {
            let (stripe, index) = path.rsplit('/').next()?.split_once('-')?;
            let index = ShardIndex(u8::from_str_radix(index, 16).ok()?);
            Some(Self { stripe: stripe.parse().ok()?, index })
        };
        // One name has one path: upper case, signs and other folders fall here.
        parse().filter(|name| name.to_string() == path).ok_or_else(|| ShardNameError { path: path.to_owned() })
    }
}

/// A shard that is not good, and why.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} is not good")]
pub struct ShardError {
    /// The shard asked for.
    pub shard: ShardName,
    /// What is wrong with it.
    #[source]
    pub fault: ShardFault,
}

/// What is wrong with a shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    #[error("could not decode the shard's header")]
    Decode {
        #[from]
        source: DecodeError,
    },
    #[error("the shard's header names no code")]
    Code {
        #[from]
        source: CodeError,
    },
    #[error("the shard's header names a stripe that cannot be")]
    Shape {
        #[from]
        source: ShapeError,
    },
    #[error("the shard's header names index {index}, a {code} code has none such")]
    Index { index: ShardIndex, code: Code },
    #[error("the shard's header says that the payload has {found} bytes, its code and pack give {expected}")]
    PayloadLength { found: u64, expected: u64 },
    #[error("the shard's header was altered: its hash does not hold")]
    HeaderHash,
    #[error("the shard's stripe id is not that of its roots")]
    StripeId,
    #[error("the shard's leaf hashes do not give its root")]
    Leaves,
    #[error("leaf {leaf} of the shard's payload was altered")]
    Leaf { leaf: usize },
    #[error("the shard's file has {found} bytes instead of {expected}")]
    Length { found: usize, expected: usize },
    #[error("the shard belongs to vault {found}")]
    OtherVault { found: VaultId },
    #[error("the file holds {found}")]
    OtherShard { found: ShardName },
    #[error("{length} bytes from {start} are not whole leaves of the shard's payload")]
    Range { start: usize, length: usize },
}

/// The tree over a shard's payload.
fn tree() -> Tree {
    Tree::new("blockhouse v1 shard leaf", "blockhouse v1 shard node")
}

/// The leaf hashes of a payload, or of a part of it that begins at a leaf.
fn leaf_hashes(tree: &Tree, payload: &[u8]) -> Vec<[u8; 32]> {
    payload.chunks(SHARD_LEAF).map(|leaf| tree.leaf([leaf])).collect()
}

/// The leaf hashes of a payload and their root.
pub(crate) fn leaves_and_root(payload: &[u8]) -> (Vec<[u8; 32]>, blockhouse_types::ShardRoot) {
    let tree = tree();
    let leaves = leaf_hashes(&tree, payload);
    let root = blockhouse_types::ShardRoot::new(tree.root(&leaves));
    (leaves, root)
}

#[cfg(test)]
mod tests;
