//! The key bag: everything a vault needs to live on, sealed to owner and paper recipients.
//!
//! - **Owns** its bytes, plain and sealed, and its hash.
//! - **Does not** hold writer or ledger keys, nor any site's credentials.
//!
//! # Invariants
//! - **B1** The bag is sealed to every recipient in it that may open it, and to no reader.
//! - **B2** The plain bytes are overwritten when dropped, on both ways.
//!
//! Format: `docs/design/keys.md`, section *Key bag*.

use blockhouse_crypto::recipient::{AgeIdentity, RecipientSet, UnwrapError, decrypt, encrypt_to_many};
use blockhouse_crypto::{AccountSecret, Recipient, Secret, hash};
use blockhouse_types::limits::{BAG_MAX, RECIPIENTS_MAX, SITES_MAX};
use blockhouse_types::{Account, BagHash, BlockHash, Code, DecodeError, Decoder, Encoder, SiteId, VaultId};
use zeroize::Zeroizing;

use crate::domain::VaultSecret;

const MAGIC: [u8; 4] = *b"BHKB";
const WHAT: &str = "a key bag";
const SITE_TEXT_MAX: usize = 4096;

/// Why a key bag could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealBagError {
    #[error("the key bag of vault {vault} has no owner or paper recipient: nobody could open it")]
    NoOpener { vault: VaultId },
    #[error("the key bag of vault {vault} takes {length} bytes, the limit is {BAG_MAX}")]
    TooLong { vault: VaultId, length: usize },
    #[error("the key bag of vault {vault} holds what no reader would take")]
    Content {
        vault: VaultId,
        #[source]
        source: DecodeError,
    },
}

/// Why a key bag did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenBagError {
    #[error("could not decrypt version {version} of the key bag of vault {vault}")]
    Decrypt {
        vault: VaultId,
        version: u32,
        #[source]
        source: UnwrapError,
    },
    #[error("could not decode version {version} of the key bag of vault {vault}")]
    Decode {
        vault: VaultId,
        version: u32,
        #[source]
        source: DecodeError,
    },
}

/// A site, as the bag names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BagSite {
    /// Its id.
    pub id: SiteId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its region; empty: not stated.
    pub region: String,
    /// Its provider; empty: not stated.
    pub provider: String,
}

/// Everything a vault needs to live on.
#[derive(Debug, Clone)]
pub struct KeyBag {
    /// What all write secrets derive from.
    pub vault_secret: VaultSecret,
    /// The owner's account.
    pub owner: AccountSecret,
    /// Who can open snapshots.
    pub recipients: RecipientSet,
    /// The sites, in the owner's order.
    pub sites: Vec<BagSite>,
    /// The erasure code.
    pub code: Code,
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The hash of the ledger's block 0.
    pub genesis: BlockHash,
    /// The contract `Vault`.
    pub vault_contract: Account,
    /// The contract `Access`.
    pub access_contract: Account,
}

impl KeyBag {
    /// The plain bytes.
    fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let mut rest = Encoder::new();
        rest.list(self.recipients.members().iter(), |encoder, recipient| recipient.encode(encoder));
        rest.list(self.sites.iter(), encode_site);
        rest.raw(&self.code.to_bytes()).u64(self.chain_id).raw(self.genesis.as_bytes());
        rest.raw(self.vault_contract.as_bytes()).raw(self.access_contract.as_bytes());
        // Room for all of it at once: a growing buffer would leave copies of the secrets behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(64 + rest.len()));
        plain.extend_from_slice(self.vault_secret.secret().expose());
        plain.extend_from_slice(self.owner.secret().expose());
        plain.extend_from_slice(rest.as_slice());
        plain
    }

    fn from_plain(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        let vault_secret = VaultSecret::new(Secret::new(decoder.array()?));
        let owner = AccountSecret::try_new(&Secret::new(decoder.array()?))
            .map_err(|_| decoder.not_canonical("its owner's secret is no secp256k1 secret"))?;
        let recipients = decode_recipients(&mut decoder)?;
        let (sites, code) = decode_sites_and_code(&mut decoder)?;
        let bag = Self {
            vault_secret,
            owner,
            recipients,
            sites,
            code,
            chain_id: decoder.u64()?,
            genesis: BlockHash::new(decoder.array()?),
            vault_contract: Account::new(decoder.array()?),
            access_contract: Account::new(decoder.array()?),
        };
        decoder.finish()?;
        Ok(bag)
    }

    /// The sealed object. Two seals of one bag differ: `age` draws fresh keys for each.
    pub fn seal(&self, vault: VaultId, version: u32) -> Result<SealedBag, SealBagError> {
        let plain = self.to_plain();
        Self::from_plain(&plain).map_err(|source| SealBagError::Content { vault, source })?;
        let openers = self.recipients.members().iter().filter(|recipient| recipient.role().opens_bag());
        let sealed = encrypt_to_many(openers, &plain).ok_or(SealBagError::NoOpener { vault })?;
        let bag = SealedBag { vault, version, sealed };
        match bag.to_bytes().len() {
            length if length > BAG_MAX => Err(SealBagError::TooLong { vault, length }),
            _ => Ok(bag),
        }
    }
}

/// A key bag as sites hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBag {
    vault: VaultId,
    version: u32,
    sealed: Vec<u8>,
}

impl SealedBag {
    /// The vault.
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// Which version of the vault's bag.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Opens the bag with an owner's identity or that of the paper key.
    pub fn open(&self, identity: &AgeIdentity) -> Result<KeyBag, OpenBagError> {
        let (vault, version) = (self.vault, self.version);
        let plain =
            decrypt(identity, &self.sealed).map_err(|source| OpenBagError::Decrypt { vault, version, source })?;
        KeyBag::from_plain(&plain).map_err(|source| OpenBagError::Decode { vault, version, source })
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.vault.as_bytes()).u32(self.version).bytes(&self.sealed);
        encoder.finish()
    }

    /// Reads an object, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        decoder.limit("length", bytes.len() as u64, BAG_MAX as u64)?;
        let vault = VaultId::new(decoder.array()?);
        let version = decoder.u32()?;
        let sealed = decoder.bytes("sealed bag", BAG_MAX)?.to_vec();
        decoder.finish()?;
        Ok(Self { vault, version, sealed })
    }

    /// The hash of an object's bytes, as it stands on the ledger and in the object's name.
    pub fn hash(bytes: &[u8]) -> BagHash {
        BagHash::new(hash::hash("blockhouse v1 key bag", bytes))
    }
}

pub(crate) fn decode_recipients(decoder: &mut Decoder<'_>) -> Result<RecipientSet, DecodeError> {
    let members = decoder.list("recipients", RECIPIENTS_MAX, Recipient::decode)?;
    let set = RecipientSet::try_new(members.clone())
        .map_err(|_| decoder.not_canonical("its recipients are none, or one stands in it twice"))?;
    if set.members() != members {
        return Err(decoder.not_canonical("its recipients are not in the order of their ids"));
    }
    Ok(set)
}

pub(crate) fn encode_site(encoder: &mut Encoder, site: &BagSite) {
    encoder.raw(site.id.as_bytes()).bytes(site.name.as_bytes()).bytes(site.url.as_bytes());
    encoder.bytes(site.region.as_bytes()).bytes(site.provider.as_bytes());
}

/// The sites, none of them twice, and the erasure code.
pub(crate) fn decode_sites_and_code(decoder: &mut Decoder<'_>) -> Result<(Vec<BagSite>, Code), DecodeError> {
    let sites = decoder.list("sites", SITES_MAX, decode_site)?;
    let mut ids: Vec<_> = sites.iter().map(|site| site.id).collect();
    ids.sort_unstable();
    if !ids.is_sorted_by(|a, b| a < b) {
        return Err(decoder.not_canonical("a site stands in it twice"));
    }
    let [data, parity] = decoder.array()?;
    let code =
        Code::try_new(data.into(), parity.into()).map_err(|_| decoder.not_canonical("its erasure code is none"))?;
    Ok((sites, code))
}

fn decode_site(decoder: &mut Decoder<'_>) -> Result<BagSite, DecodeError> {
    let id = SiteId::new(decoder.array()?);
    let mut text = |field| decoder.text(field, SITE_TEXT_MAX).map(str::to_owned);
    Ok(BagSite { id, name: text("name")?, url: text("url")?, region: text("region")?, provider: text("provider")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::{PaperKey, Role};

    const VAULT: VaultId = VaultId::new([1; 32]);

    fn identity(seed: u8) -> AgeIdentity {
        AgeIdentity::from_secret(&Secret::new([seed; 32]))
    }

    fn paper() -> PaperKey {
        PaperKey::from_entropy(Secret::new([9; 32]))
    }

    fn bag() -> KeyBag {
        let members = vec![
            identity(1).recipient(Role::Owner, "owner").unwrap(),
            paper().age_identity().recipient(Role::Paper, "paper").unwrap(),
            identity(2).recipient(Role::Reader, "reader").unwrap(),
        ];
        let site = |seed: u8| BagSite {
            id: SiteId::new([seed; 32]),
            name: format!("site {seed}"),
            url: "file:///x".into(),
            region: String::new(),
            provider: "own".into(),
        };
        KeyBag {
            vault_secret: VaultSecret::new(Secret::new([3; 32])),
            owner: AccountSecret::try_new(&Secret::new([4; 32])).unwrap(),
            recipients: RecipientSet::try_new(members).unwrap(),
            sites: vec![site(2), site(1)],
            code: Code::try_new(4, 2).unwrap(),
            chain_id: 1 << 40,
            genesis: BlockHash::new([5; 32]),
            vault_contract: Account::new([6; 20]),
            access_contract: Account::new([7; 20]),
        }
    }

    /// B1.
    #[test]
    fn owner_and_paper_open_the_bag_and_a_reader_does_not() {
        let sealed = bag().seal(VAULT, 7).unwrap();
        let back = SealedBag::from_bytes(&sealed.to_bytes()).unwrap();
        assert_eq!((back.vault(), back.version()), (VAULT, 7));
        for identity in [identity(1), paper().age_identity()] {
            assert_eq!(*back.open(&identity).unwrap().to_plain(), *bag().to_plain());
        }
        let refused = back.open(&identity(2));
        assert!(matches!(refused, Err(OpenBagError::Decrypt { source: UnwrapError::NotForThis { .. }, .. })));
    }

    #[test]
    fn every_altered_byte_is_under_the_hash_and_none_opens_to_another_bag() {
        let bytes = bag().seal(VAULT, 7).unwrap().to_bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_ne!(SealedBag::hash(&flipped), SealedBag::hash(&bytes));
            if let Ok(Ok(opened)) = SealedBag::from_bytes(&flipped).map(|bag| bag.open(&identity(1))) {
                assert_eq!(*opened.to_plain(), *bag().to_plain(), "byte {at}");
            }
            assert!(SealedBag::from_bytes(&bytes[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn a_bag_that_nobody_could_open_or_read_is_not_sealed() {
        let mut readers = bag();
        readers.recipients = RecipientSet::try_new(vec![identity(2).recipient(Role::Reader, "").unwrap()]).unwrap();
        assert_eq!(readers.seal(VAULT, 0), Err(SealBagError::NoOpener { vault: VAULT }));
        let mut twice = bag();
        twice.sites.push(twice.sites[0].clone());
        assert!(matches!(twice.seal(VAULT, 0), Err(SealBagError::Content { .. })));
        let mut long = bag();
        long.sites[0].url = "x".repeat(SITE_TEXT_MAX + 1);
        assert!(matches!(long.seal(VAULT, 0), Err(SealBagError::Content { .. })));
    }

    #[test]
    fn a_plain_bag_has_one_form() {
        let plain = bag().to_plain();
        for at in 0..plain.len() {
            assert!(KeyBag::from_plain(&plain[..at]).is_err(), "length {at}");
            let mut flipped = plain.to_vec();
            flipped[at] ^= 1;
            if let Ok(other) = KeyBag::from_plain(&flipped) {
                assert_eq!(*other.to_plain(), flipped, "byte {at}");
            }
        }
        assert!(!format!("{:?}", bag()).contains("0303"));
    }
}
