//! The Ed25519 key that certifies the blocks of a one-operator ledger.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::secret::Secret;

/// A ledger key with its secret seed.
#[derive(Debug)]
pub struct LedgerKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl LedgerKey {
    /// The key of a seed (RFC 8032).
    pub fn from_seed(seed: &Secret) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("32 bytes are the length of an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public }
    }

    /// The public key.
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Signs a digest.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(digest).as_ref());
        signature
    }
}

/// True if `signature` is one of `digest` by `public`.
pub fn verify(public: &[u8; 32], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(digest, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_only_its_own_signature() {
        let key = LedgerKey::from_seed(&Secret::new([9; 32]));
        let signature = key.sign(&[1; 32]);
        assert!(verify(&key.public(), &[1; 32], &signature));
        assert!(!verify(&key.public(), &[2; 32], &signature));
        assert!(!verify(&LedgerKey::from_seed(&Secret::new([8; 32])).public(), &[1; 32], &signature));
        for at in 0..64 {
            let mut flipped = signature;
            flipped[at] ^= 1;
            assert!(!verify(&key.public(), &[1; 32], &flipped), "byte {at}");
        }
    }
}
