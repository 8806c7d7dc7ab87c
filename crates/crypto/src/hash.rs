//! The hash functions of the formats, each use under its own context.
//!
//! - **Owns** the two ways the formats use BLAKE3: with a context (`H`, `KDF`) and keyed; and keccak256.
//! - **Does not** know what is hashed: callers encode their fields.
//!
//! Format: `docs/design/encoding.md`, section *Words*.

use crate::secret::Secret;

/// A context: one purpose, named in the page of its format.
#[derive(Clone)]
pub struct Context(blake3::Hasher);

impl Context {
    /// The context of that name. Costs one hash of the name: keep it where many hashes follow.
    pub fn new(name: &'static str) -> Self {
        Self(blake3::Hasher::new_derive_key(name))
    }

    /// `H(context; bytes)`.
    pub fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        self.hash_parts([bytes])
    }

    /// `H(context; parts, one after another)`.
    pub fn hash_parts<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut hasher = self.0.clone();
        for part in parts {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

/// `H(context; bytes)`, for a single hash.
pub fn hash(context: &'static str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, bytes)
}

/// `H(context; parts)`, for a single hash.
pub fn hash_parts<'a>(context: &'static str, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    Context::new(context).hash_parts(parts)
}

/// `KDF(context; key, parts)`: a secret from a secret.
pub fn derive<'a>(context: &'static str, key: &Secret, parts: impl IntoIterator<Item = &'a [u8]>) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(key.expose());
    for part in parts {
        hasher.update(part);
    }
    Secret::new(*hasher.finalize().as_bytes())
}

/// `BLAKE3 keyed(key, bytes)`.
pub fn keyed(key: &Secret, bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key.expose(), bytes).as_bytes()
}

/// Fills `out` with `BLAKE3 keyed(key, bytes)`, extended output.
pub fn keyed_stream(key: &Secret, bytes: &[u8], out: &mut [u8]) {
    blake3::Hasher::new_keyed(key.expose()).update(bytes).finalize_xof().fill(out);
}

/// Plain BLAKE3 of content as it comes, as `b3sum` prints it.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Takes `length` zeros, as a hole reads.
    pub fn update_zeros(&mut self, mut length: u64) {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while length > 0 {
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
            self.0.update(ZEROS.get(..step).unwrap_or(&ZEROS));
            length -= step as u64;
        }
    }

    /// The hash of all that was taken.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Plain BLAKE3 of content, as `b3sum` prints it.
pub fn content(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// SHA-256, as Bitcoin and OpenTimestamps have it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// Ethereum's keccak256.
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    alloy_primitives::keccak256(bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_context_is_one_function() {
        let context = Context::new("blockhouse v1 test a");
        assert_eq!(context.hash(b"ab"), hash("blockhouse v1 test a", b"ab"));
        assert_eq!(context.hash_parts([&b"a"[..], b"b"]), context.hash(b"ab"));
        assert_ne!(context.hash(b"ab"), hash("blockhouse v1 test b", b"ab"));
    }

    #[test]
    fn a_hole_hashes_as_its_zeros() {
        let mut hasher = ContentHasher::new();
        hasher.update(b"x");
        hasher.update_zeros(200_000);
        let mut plain = vec![0; 200_001];
        plain[0] = b'x';
        assert_eq!(hasher.finish(), content(&plain));
    }
}
