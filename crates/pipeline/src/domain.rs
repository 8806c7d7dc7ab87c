//! The secrets of a vault and the dedup domains that derive from them.
//!
//! - **Owns** every derivation from the vault secret down to the two subkeys of a domain.
//! - **Does not** store, wrap or draw secrets.
//!
//! # Invariants
//! - **D1** A host's [`WriteSecrets`] do not give back the vault secret, nor one domain's key another's.
//!
//! Format: `docs/design/chunks-and-packs.md`, section *Secrets*.

use blockhouse_crypto::Secret;
use blockhouse_crypto::hash::derive;
use blockhouse_types::{Account, DecodeError, Decoder, SourceId};
use zeroize::ZeroizeOnDrop;

/// The one secret that all write secrets of a vault derive from. It lies in the key bag only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret(Secret);

impl VaultSecret {
    /// Takes the secret, drawn at `init` or read from the key bag.
    pub const fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The secret, to be put in the key bag.
    pub const fn secret(&self) -> &Secret {
        &self.0
    }

    /// The secrets of a host whose line of writers begins with `first_account`.
    pub fn write_secrets(&self, first_account: Account) -> WriteSecrets {
        WriteSecrets {
            cut_seed: self.cut_seed(),
            index_key: self.index_key(),
            writer_domain: derive("blockhouse v1 writer domain", &self.0, [&first_account.as_bytes()[..]]),
            vault_domain: derive("blockhouse v1 vault domain", &self.0, []),
            chain_domain: derive("blockhouse v1 chain domain", &self.0, []),
        }
    }

    /// The key of tables of contents, trailers and padding.
    pub fn index_key(&self) -> Secret {
        derive("blockhouse v1 index key", &self.0, [])
    }

    /// What moves the boundaries of chunks.
    fn cut_seed(&self) -> u64 {
        let seed = derive("blockhouse v1 cut seed", &self.0, []);
        u64::from_le_bytes(*seed.expose().first_chunk().expect("a hash of 32 bytes has a first 8"))
    }
}

/// What a host needs to write and to deduplicate, and no more.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct WriteSecrets {
    /// What moves the boundaries of chunks.
    pub cut_seed: u64,
    /// The key of tables of contents, trailers and padding.
    pub index_key: Secret,
    /// The domain of this line of writers.
    pub writer_domain: Secret,
    /// The domain of all writers of the vault.
    pub vault_domain: Secret,
    /// The domain of blocks of public chains.
    pub chain_domain: Secret,
}

impl WriteSecrets {
    /// The keys of a domain; a source's own domain is that of `source`.
    pub fn domain(&self, kind: DomainKind, source: SourceId) -> DomainKey {
        match kind {
            DomainKind::Writer => DomainKey::new(kind, &self.writer_domain),
            DomainKind::Vault => DomainKey::new(kind, &self.vault_domain),
            DomainKind::Chain => DomainKey::new(kind, &self.chain_domain),
            DomainKind::Source => {
                let key = derive("blockhouse v1 source domain", &self.writer_domain, [&source.as_bytes()[..]]);
                DomainKey::new(kind, &key)
            }
        }
    }
}

impl std::fmt::Debug for WriteSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteSecrets(…)")
    }
}

/// Whose chunks share ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainKind {
    /// All sources of one line of writers: the default.
    Writer,
    /// One source alone.
    Source,
    /// All writers of the vault.
    Vault,
    /// Blocks of public chains, by all writers.
    Chain,
}

impl DomainKind {
    /// The tag in a manifest.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Writer => 0,
            Self::Source => 1,
            Self::Vault => 2,
            Self::Chain => 3,
        }
    }

    /// The kind of a tag.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            0 => Self::Writer,
            1 => Self::Source,
            2 => Self::Vault,
            3 => Self::Chain,
            _ => return None,
        })
    }

    /// Reads a tag.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let tag = decoder.u8()?;
        Self::from_tag(tag).ok_or_else(|| decoder.unknown("domain kind", u64::from(tag)))
    }
}

/// The two subkeys of a dedup domain. Independent of each other: a reader gets the first, never the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainKey {
    kind: DomainKind,
    id_subkey: Secret,
    key_subkey: Secret,
}

impl DomainKey {
    /// The subkeys of a domain key.
    pub fn new(kind: DomainKind, key: &Secret) -> Self {
        Self {
            kind,
            id_subkey: derive("blockhouse v1 chunk id", key, []),
            key_subkey: derive("blockhouse v1 chunk key", key, []),
        }
    }

    /// Whose chunks share ids.
    pub const fn kind(&self) -> DomainKind {
        self.kind
    }

    /// What ids are computed with; manifests carry it.
    pub const fn id_subkey(&self) -> &Secret {
        &self.id_subkey
    }

    /// What chunk keys are computed with; never leaves the host.
    pub const fn key_subkey(&self) -> &Secret {
        &self.key_subkey
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_and_subkey_differs() {
        let vault = VaultSecret::new(Secret::new([1; 32]));
        let secrets = vault.write_secrets(Account::new([2; 20]));
        let other = vault.write_secrets(Account::new([3; 20]));
        let mut keys = vec![vault.secret().clone(), secrets.index_key.clone(), other.writer_domain.clone()];
        for kind in [DomainKind::Writer, DomainKind::Vault, DomainKind::Chain] {
            let domain = secrets.domain(kind, SourceId::new([4; 32]));
            assert_eq!(domain, secrets.domain(kind, SourceId::new([5; 32])), "{kind:?} is shared by sources");
            keys.extend([domain.id_subkey, domain.key_subkey]);
        }
        for source in [4, 5] {
            let domain = secrets.domain(DomainKind::Source, SourceId::new([source; 32]));
            keys.extend([domain.id_subkey, domain.key_subkey]);
        }
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "key {at} repeats one before it");
        }
        assert_eq!(other.vault_domain, secrets.vault_domain);
    }

    #[test]
    fn tags_and_kinds_are_one_to_one() {
        for tag in 0..=u8::MAX {
            assert_eq!(DomainKind::from_tag(tag).map_or(tag, DomainKind::tag), tag);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secrets = VaultSecret::new(Secret::new([1; 32])).write_secrets(Account::new([2; 20]));
        assert_eq!(format!("{secrets:?}"), "WriteSecrets(…)");
    }
}
