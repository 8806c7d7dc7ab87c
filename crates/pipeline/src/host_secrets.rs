//! Host secrets: what the backup host needs to write and deduplicate, and to seal blocks.
//!
//! - **Owns** the bytes of the file `secrets` of a vault folder.
//! - **Does not** protect it: it is plain, mode 0600; nothing in it opens a manifest.
//!
//! # Invariants
//! - **H1** A file that was altered is refused: a domain or index key with a flipped bit would write packs that
//!   nobody finds again.
//!
//! Format: `docs/design/keys.md`, section *Host secrets*.

use blockhouse_crypto::{AccountSecret, Secret, hash};
use blockhouse_types::{DecodeError, Decoder, VaultId};
use zeroize::Zeroizing;

use crate::domain::WriteSecrets;

const MAGIC: [u8; 4] = *b"BHHS";
const WHAT: &str = "a file of host secrets";
const LEN: usize = 8 + 32 + 8 + 6 * 32 + 32;

/// The secrets of one host.
#[derive(Debug, Clone)]
pub struct HostSecrets {
    /// The vault.
    pub vault: VaultId,
    /// What cuts, names and seals chunks.
    pub write: WriteSecrets,
    /// The writer's account.
    pub writer: AccountSecret,
    /// The seed of the ledger key.
    pub ledger_seed: Secret,
}

impl HostSecrets {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it at once: a growing buffer would leave copies of the secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LEN));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[blockhouse_types::encoding::VERSION, 0, 0, 0]);
        bytes.extend_from_slice(self.vault.as_bytes());
        bytes.extend_from_slice(&self.write.cut_seed.to_le_bytes());
        let WriteSecrets { index_key, writer_domain, vault_domain, chain_domain, .. } = &self.write;
        for secret in [index_key, writer_domain, vault_domain, chain_domain, self.writer.secret(), &self.ledger_seed] {
            bytes.extend_from_slice(secret.expose());
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads a file, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let vault = VaultId::new(decoder.array()?);
        let cut_seed = decoder.u64()?;
        let mut secret = || decoder.array().map(Secret::new);
        let (index_key, writer_domain) = (secret()?, secret()?);
        let (vault_domain, chain_domain) = (secret()?, secret()?);
        let (writer, ledger_seed) = (secret()?, secret()?);
        let checked = bytes.len() - decoder.left().len();
        let found: [u8; 32] = decoder.array()?;
        if found != check(bytes.get(..checked).unwrap_or_default()) {
            return Err(decoder.not_canonical("it was altered: its check does not hold"));
        }
        let writer = AccountSecret::try_new(&writer)
            .map_err(|_| decoder.not_canonical("its writer's secret is no secp256k1 secret"))?;
        decoder.finish()?;
        let write = WriteSecrets { cut_seed, index_key, writer_domain, vault_domain, chain_domain };
        Ok(Self { vault, write, writer, ledger_seed })
    }
}

fn check(bytes: &[u8]) -> [u8; 32] {
    hash::hash("blockhouse v1 host secrets", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::VaultSecret;
    use blockhouse_types::Account;

    fn secrets() -> HostSecrets {
        HostSecrets {
            vault: VaultId::new([1; 32]),
            write: VaultSecret::new(Secret::new([2; 32])).write_secrets(Account::new([3; 20])),
            writer: AccountSecret::try_new(&Secret::new([4; 32])).unwrap(),
            ledger_seed: Secret::new([5; 32]),
        }
    }

    #[test]
    fn the_file_comes_back_and_its_debug_text_shows_no_secret() {
        let bytes = secrets().to_bytes();
        assert_eq!(bytes.len(), LEN);
        let back = HostSecrets::from_bytes(&bytes).unwrap();
        assert_eq!(back.write, secrets().write);
        assert_eq!(back.to_bytes(), bytes);
        assert!(!format!("{back:?}").contains("0505"));
    }

    /// H1.
    #[test]
    fn every_altered_byte_and_every_other_length_is_refused() {
        let bytes = secrets().to_bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            assert!(HostSecrets::from_bytes(&flipped).is_err(), "byte {at}");
            assert!(HostSecrets::from_bytes(&bytes[..at]).is_err(), "length {at}");
        }
        assert!(HostSecrets::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}
