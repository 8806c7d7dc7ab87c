//! AES-256-GCM with the nonce in front: `nonce 12 │ ciphertext │ tag 16`.
//!
//! - **Owns** the layout of sealed bytes.
//! - **Does not** choose nonces: they come in as arguments, fresh and random.
//!
//! # Invariants
//! - **S1** Opening bytes that were altered in any bit, or sealed under other additional data, fails.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::secret::Secret;

/// A nonce's length.
pub const NONCE_LEN: usize = 12;
/// A tag's length.
pub const TAG_LEN: usize = 16;
/// How much longer sealed bytes are than plain ones.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Why sealed bytes did not open. Says no more, on purpose: key, data and tag cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than a nonce and a tag.
    #[error("sealed bytes are cut short: {length} bytes cannot hold a nonce and a tag")]
    Short { length: usize },
    /// Wrong key, wrong additional data, or altered bytes.
    #[error("sealed bytes were altered, or belong to another key")]
    Altered,
}

fn cipher(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("32 bytes are the length of an AES-256 key"))
}

/// Appends `nonce │ ciphertext │ tag` of `plain` to `out`.
pub fn seal_into(out: &mut Vec<u8>, key: &Secret, nonce: [u8; NONCE_LEN], aad: &[u8], plain: &[u8]) {
    out.reserve(plain.len() + SEAL_OVERHEAD);
    let start = out.len();
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    seal_behind(out, start, key, aad);
}

/// Seals in place what stands in `out` from `start` on: a nonce, and the plain bytes behind it.
///
/// # Panics
/// If no nonce is there.
pub fn seal_behind(out: &mut Vec<u8>, start: usize, key: &Secret, aad: &[u8]) {
    let rest = out.get_mut(start..).unwrap_or_default();
    let (nonce, body) = rest.split_first_chunk_mut::<NONCE_LEN>().expect("a nonce stands before what is sealed");
    let nonce = *nonce;
    let tag = cipher(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
        .expect("GCM refuses only more than 64 GiB, limits are far below");
    out.extend_from_slice(tag.as_ref());
}

/// `nonce │ ciphertext │ tag` of `plain`.
pub fn seal(key: &Secret, nonce: [u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal_into(&mut out, key, nonce, aad, plain);
    out
}

/// The plain bytes of `nonce │ ciphertext │ tag`.
pub fn open(key: &Secret, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut plain = vec![0; sealed.len().saturating_sub(SEAL_OVERHEAD)];
    open_into(key, aad, sealed, &mut plain)?;
    Ok(plain)
}

/// Writes the plain bytes of `nonce │ ciphertext │ tag` into `out`, which is exactly as long as they are. After an error `out`
/// holds nothing that may be used.
pub fn open_into(key: &Secret, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
    let short = OpenError::Short { length: sealed.len() };
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(short)?;
    let (body, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(short)?;
    if body.len() != out.len() {
        return Err(OpenError::Altered);
    }
    cipher(key)
        .open_separate_gather(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), body, tag, out)
        .map_err(|_| OpenError::Altered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_was_sealed_and_nothing_else() {
        let key = Secret::new([1; 32]);
        let sealed = seal(&key, [2; 12], b"aad", b"plain");
        assert_eq!(open(&key, b"aad", &sealed).unwrap(), b"plain");
        assert_eq!(open(&key, b"bad", &sealed), Err(OpenError::Altered));
        assert_eq!(open(&Secret::new([3; 32]), b"aad", &sealed), Err(OpenError::Altered));
        for length in [0, 4, 6] {
            assert_eq!(
                open_into(&key, b"aad", &sealed, &mut vec![0; length]),
                Err(OpenError::Altered),
                "room for {length}"
            );
        }
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(open(&key, b"aad", &flipped), Err(OpenError::Altered), "byte {at}");
        }
        for length in 0..SEAL_OVERHEAD {
            assert_eq!(open(&key, b"aad", &sealed[..length]), Err(OpenError::Short { length }));
        }
    }

    /// Test case 16 of McGrew and Viega, *The Galois/Counter Mode of Operation*, appendix B.
    #[test]
    fn agrees_with_the_published_vector() {
        let key = hex::decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308").unwrap();
        let nonce = hex::decode("cafebabefacedbaddecaf888").unwrap();
        let aad = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
        let plain = hex::decode(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        )
        .unwrap();
        let sealed = seal(&Secret::new(key.try_into().unwrap()), nonce.try_into().unwrap(), &aad, &plain);
        assert_eq!(hex::encode(&sealed[sealed.len() - 16..]), "76fc6ece0f4e1768cddf8853bb2d551b");
    }
}
