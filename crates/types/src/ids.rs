//! Ids and hashes as types, so that two of them can never be mixed up.
//!
//! - **Owns** their bytes, their hexadecimal text and their order (that of the bytes).
//! - **Does not** compute them: the crate that knows the content does.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The number of digits is not the one of this id.
    #[error("{what} has {expected} hexadecimal digits, `{text}` has {found}")]
    Length { what: &'static str, text: String, expected: usize, found: usize },
    /// A character is not a hexadecimal digit.
    #[error("`{text}` is not {what}: it holds characters that are no hexadecimal digits")]
    Digit { what: &'static str, text: String },
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident($len:literal), $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LEN: usize = $len;

            /// Takes the bytes as they are.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The bytes, by value.
            pub const fn to_bytes(self) -> [u8; $len] {
                self.0
            }

            /// True if all bytes are zero, which stands for *none* where a contract cannot say so.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|byte| *byte == 0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Lists print many of them.
                let mut text = [0; $len * 2];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Reads hexadecimal text, with or without `0x`.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let (expected, found) = ($len * 2, digits.chars().count());
                if found != expected {
                    return Err(IdError::Length { what: $what, text: text.to_owned(), expected, found });
                }
                let mut bytes = [0; $len];
                hex::decode_to_slice(digits, &mut bytes)
                    .map_err(|_| IdError::Digit { what: $what, text: text.to_owned() })?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

id! {
    /// A vault: 32 random bytes, never changed.
    VaultId(32), "a vault id";
    /// A source of one vault: 32 random bytes.
    SourceId(32), "a source id";
    /// A snapshot: commits to its manifest and manifest key.
    SnapshotId(32), "a snapshot id";
    /// The hash of a snapshot object.
    ObjectHash(32), "an object hash";
    /// A stripe: commits to the roots of all its shards.
    StripeId(32), "a stripe id";
    /// The Merkle root of one shard's payload.
    ShardRoot(32), "a shard root";
    /// A chunk: keyed hash of its plain bytes.
    ChunkId(32), "a chunk id";
    /// A node of a stripe list.
    ListHash(32), "a list hash";
    /// The Merkle root of a snapshot's entries.
    EntriesRoot(32), "an entries root";
    /// A writer's session on the ledger.
    SessionId(32), "a session id";
    /// A site of one vault: 32 random bytes.
    SiteId(32), "a site id";
    /// A public key that manifest keys are wrapped for.
    RecipientId(32), "a recipient id";
    /// A set of recipients.
    RecipientSetHash(32), "a recipient set hash";
    /// A version of the key bag.
    BagHash(32), "a bag hash";
    /// A block of the ledger.
    BlockHash(32), "a block hash";
    /// The vault's trust root.
    Fingerprint(32), "a fingerprint";
    /// An account of the ledger: an Ethereum address.
    Account(20), "an account";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_one() {
        let id = StripeId::new([0xab; 32]);
        assert_eq!(id.to_string().parse::<StripeId>().unwrap(), id);
        assert_eq!(format!("0x{id}").parse::<StripeId>().unwrap(), id);
    }

    #[test]
    fn parse_names_what_is_wrong() {
        assert_eq!(
            "ab".parse::<Account>().unwrap_err().to_string(),
            "an account has 40 hexadecimal digits, `ab` has 2"
        );
        assert!(matches!("g".repeat(64).parse::<VaultId>(), Err(IdError::Digit { .. })));
        assert!(matches!("é".repeat(32).parse::<VaultId>(), Err(IdError::Length { .. })));
    }
}
