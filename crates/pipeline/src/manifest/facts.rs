//! What is known of a snapshot beside its tree.
//!
//! A value is the canonical encoding of its type. Facts under other names than the known ones are kept as they are:
//! sources write their own.

use std::collections::BTreeMap;

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::{derive, keyed};
use blockhouse_crypto::merkle::Tree;
use blockhouse_types::limits::MANIFEST_MAX;
use blockhouse_types::{DecodeError, Decoder, Encoder};

/// The greatest length of a fact's name.
const FACT_NAME_MAX: usize = 255;

/// Why a fact cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactError {
    #[error("`{name}` cannot be the name of a fact: it has 1 to {FACT_NAME_MAX} bytes")]
    Name { name: String },
    #[error("the value of fact `{name}` is not what every snapshot has under that name")]
    Value {
        name: String,
        #[source]
        source: DecodeError,
    },
}

/// Names and values, by ascending names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    values: BTreeMap<String, Vec<u8>>,
}

impl Facts {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The encoded value of a fact.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// All facts, by ascending names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Records a fact of a source under its own name.
    pub fn insert(&mut self, name: &str, value: Vec<u8>) -> Result<(), FactError> {
        if name.is_empty() || name.len() > FACT_NAME_MAX {
            return Err(FactError::Name { name: name.chars().take(40).collect() });
        }
        check_known(name, &value).map_err(|source| FactError::Value { name: name.to_owned(), source })?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// The Merkle root over the salted leaves of all facts.
    pub fn root(&self, manifest_key: &Secret) -> [u8; 32] {
        let tree = Tree::new("blockhouse v1 fact leaf", "blockhouse v1 fact node");
        let salt_key = derive("blockhouse v1 fact salt", manifest_key, []);
        let leaf = |(index, (name, value)): (u64, (&String, &Vec<u8>))| {
            let mut encoder = Encoder::new();
            encoder.raw(&keyed(&salt_key, &index.to_le_bytes())).bytes(name.as_bytes()).bytes(value);
            tree.leaf([encoder.as_slice()])
        };
        let leaves: Vec<_> = (0..).zip(&self.values).map(leaf).collect();
        tree.root(&leaves)
    }

    /// Writes the facts.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.list(self.values.iter(), |encoder, (name, value)| {
            encoder.bytes(name.as_bytes()).bytes(value);
        });
    }

    /// Reads facts.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let pairs = decoder.list("facts", MANIFEST_MAX, |decoder| {
            let name = decoder.text("name of a fact", FACT_NAME_MAX)?.to_owned();
            let value = decoder.bytes("value of a fact", MANIFEST_MAX)?.to_vec();
            if name.is_empty() {
                return Err(decoder.not_canonical("a fact has no name"));
            }
            check_known(&name, &value)?;
            Ok((name, value))
        })?;
        if !pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(decoder.not_canonical("facts are not in ascending order of distinct names"));
        }
        Ok(Self { values: pairs.into_iter().collect() })
    }

    /// Records a known fact, whose setter wrote its value.
    fn set(&mut self, name: &str, write: impl FnOnce(&mut Encoder)) {
        let mut encoder = Encoder::new();
        write(&mut encoder);
        self.values.insert(name.to_owned(), encoder.finish());
    }

    fn read<T>(&self, name: &str, read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>) -> Option<T> {
        read(&mut Decoder::new("a fact", self.get(name)?)).ok()
    }
}

/// One getter and one setter per known fact, and the check that a stored value is of its type.
macro_rules! known_facts {
    ($($(#[$doc:meta])* $name:ident, $set:ident: $value:ty, $given:ty => $read:ident, $write:ident;)*) => {
        impl Facts {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$value> {
                    self.read(stringify!($name), $read)
                }

                #[doc = concat!("Records `", stringify!($name), "`.")]
                pub fn $set(&mut self, value: $given) {
                    self.set(stringify!($name), |encoder| $write(encoder, value));
                }
            )*
        }

        /// Checks that the value of a known fact is the canonical encoding of its type.
        fn check_known(name: &str, value: &[u8]) -> Result<(), DecodeError> {
            let mut decoder = Decoder::new("a fact", value);
            match name {
                $(stringify!($name) => $read(&mut decoder).map(drop)?,)*
                _ => return Ok(()),
            }
            decoder.finish()
        }
    };
}

known_facts! {
    /// The name of the host.
    host, set_host: String, &str => read_text, write_text;
    /// The canonical paths that were backed up.
    roots, set_roots: Vec<Vec<u8>>, &[Vec<u8>] => read_byte_strings, write_byte_strings;
    /// When the backup began, in seconds since the Unix epoch.
    started, set_started: i64, i64 => read_time, write_time;
    /// When it ended, in seconds since the Unix epoch.
    finished, set_finished: i64, i64 => read_time, write_time;
    /// The source's name, if it was given one.
    source, set_source: String, &str => read_text, write_text;
    /// The program and its version.
    tool, set_tool: String, &str => read_text, write_text;
    /// Tags, each `key=value`.
    tags, set_tags: Vec<String>, &[String] => read_texts, write_texts;
    /// What was left out.
    excludes, set_excludes: Vec<String>, &[String] => read_texts, write_texts;
    /// How many regular files there are.
    files, set_files: u64, u64 => read_count, write_count;
    /// How many bytes they have.
    bytes, set_bytes: u64, u64 => read_count, write_count;
    /// How many entries could not be read.
    unreadable, set_unreadable: u64, u64 => read_count, write_count;
}

fn read_text(decoder: &mut Decoder<'_>) -> Result<String, DecodeError> {
    decoder.text("text", MANIFEST_MAX).map(str::to_owned)
}

fn write_text(encoder: &mut Encoder, value: &str) {
    encoder.bytes(value.as_bytes());
}

fn read_texts(decoder: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    decoder.list("texts", MANIFEST_MAX, read_text)
}

fn write_texts(encoder: &mut Encoder, values: &[String]) {
    encoder.list(values.iter(), |encoder, value| write_text(encoder, value));
}

fn read_byte_strings(decoder: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, DecodeError> {
    decoder.list("paths", MANIFEST_MAX, |decoder| decoder.bytes("path", MANIFEST_MAX).map(<[u8]>::to_vec))
}

fn write_byte_strings(encoder: &mut Encoder, values: &[Vec<u8>]) {
    encoder.list(values.iter(), |encoder, value| {
        encoder.bytes(value);
    });
}

fn read_time(decoder: &mut Decoder<'_>) -> Result<i64, DecodeError> {
    decoder.i64()
}

fn write_time(encoder: &mut Encoder, value: i64) {
    encoder.i64(value);
}

fn read_count(decoder: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    decoder.varint()
}

fn write_count(encoder: &mut Encoder, value: u64) {
    encoder.varint(value);
}
