//! Accounts of the ledger: secp256k1 keys and recoverable signatures over digests.
//!
//! # Invariants
//! - **A1** One digest and one account have one accepted signature form: low `s`, `v` 0 or 1.

use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

use crate::hash::keccak256;
use crate::secret::Secret;
use blockhouse_types::Account;

/// The length of a signature: `r 32 │ s 32 │ v 1`.
pub const SIGNATURE_LEN: usize = 65;

/// Why a signature or a secret is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not a scalar of the group.
    #[error("these 32 bytes are no secp256k1 secret")]
    Secret,
    /// Not a signature in the one accepted form.
    #[error("the signature is not in canonical form")]
    Form,
    /// No key recovers from it.
    #[error("the signature fits no account")]
    NoAccount,
}

/// The secret of an account.
#[derive(Clone)]
pub struct AccountSecret {
    key: SigningKey,
    secret: Secret,
}

impl AccountSecret {
    /// The account of that secret.
    pub fn try_new(secret: &Secret) -> Result<Self, SignatureError> {
        let key = SigningKey::from_slice(secret.expose()).map_err(|_| SignatureError::Secret)?;
        Ok(Self { key, secret: secret.clone() })
    }

    /// A fresh account.
    pub fn random(random: &mut impl rand::CryptoRng) -> Self {
        loop {
            // One draw in 2^128 is no valid scalar.
            if let Ok(account) = Self::try_new(&Secret::random(random)) {
                return account;
            }
        }
    }

    /// Its address.
    pub fn account(&self) -> Account {
        address(self.key.verifying_key())
    }

    /// The secret itself, to be stored.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Signs a digest (RFC 6979, low `s`).
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        let (signature, recovery) =
            self.key.sign_prehash_recoverable(digest).expect("a 32-byte digest signs under every valid key");
        let mut bytes = [0; SIGNATURE_LEN];
        let (rs, v) = bytes.split_at_mut(SIGNATURE_LEN - 1);
        rs.copy_from_slice(&signature.to_bytes());
        v.copy_from_slice(&[recovery.to_byte()]);
        bytes
    }
}

impl std::fmt::Debug for AccountSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountSecret({})", self.account())
    }
}

/// The account that signed `digest`.
pub fn recover(digest: &[u8; 32], signature: &[u8; SIGNATURE_LEN]) -> Result<Account, SignatureError> {
    let (v, rs) = signature.split_last().ok_or(SignatureError::Form)?;
    let parsed = Signature::from_slice(rs).map_err(|_| SignatureError::Form)?;
    if parsed.normalize_s().is_some() || *v > 1 {
        return Err(SignatureError::Form);
    }
    let recovery = RecoveryId::from_byte(*v).ok_or(SignatureError::Form)?;
    let key = VerifyingKey::recover_from_prehash(digest, &parsed, recovery).map_err(|_| SignatureError::NoAccount)?;
    Ok(address(&key))
}

fn address(key: &VerifyingKey) -> Account {
    let point = key.to_encoded_point(false);
    let hash = keccak256(point.as_bytes().get(1..).unwrap_or_default());
    let mut bytes = [0; Account::LEN];
    bytes.copy_from_slice(hash.last_chunk::<{ Account::LEN }>().expect("a hash of 32 bytes has a last 20"));
    Account::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first account of the well-known test mnemonic of Ethereum's development tools.
    #[test]
    fn address_agrees_with_ethereum() {
        let secret: [u8; 32] = hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
            .unwrap()
            .try_into()
            .unwrap();
        let account = AccountSecret::try_new(&Secret::new(secret)).unwrap();
        assert_eq!(account.account().to_string(), "f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    }

    #[test]
    fn recover_finds_the_signer_and_refuses_other_forms() {
        let account = AccountSecret::try_new(&Secret::new([7; 32])).unwrap();
        let signature = account.sign(&[1; 32]);
        assert_eq!(recover(&[1; 32], &signature), Ok(account.account()));
        assert_ne!(recover(&[2; 32], &signature), Ok(account.account()));
        for at in 0..SIGNATURE_LEN {
            let mut flipped = signature;
            flipped[at] ^= 1;
            assert_ne!(recover(&[1; 32], &flipped), Ok(account.account()), "byte {at}");
        }
    }

    #[test]
    fn zero_is_no_secret() {
        assert_eq!(AccountSecret::try_new(&Secret::new([0; 32])).unwrap_err(), SignatureError::Secret);
    }
}
