//! What opens a vault's snapshots: the identity file, or the words of the paper key.

use std::path::PathBuf;

use blockhouse_crypto::identity::OpenIdentityError;
use blockhouse_crypto::paper::PaperKeyError;
use blockhouse_crypto::{AccountSecret, AgeIdentity, Identity, PaperKey};
use blockhouse_pipeline::key_bag::{KeyBag, OpenBagError, SealedBag};
use blockhouse_sites::{FetchError, ObjectKey, Sites};
use blockhouse_types::{BagHash, DecodeError, VaultId};

/// An opened identity or paper key.
#[derive(Debug)]
pub enum Unlocked {
    /// The owner's identity.
    Owner(Box<Identity>),
    /// The paper key.
    Paper(Box<PaperKey>),
    /// A reader's `age` identity: it opens the snapshots that were wrapped for it, and nothing else.
    Reader(Box<AgeIdentity>),
}

/// Why nothing was unlocked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is no identity, or the passphrase is wrong.
    #[error("could not open the identity file {}", path.display())]
    Identity {
        path: PathBuf,
        #[source]
        source: OpenIdentityError,
    },
    /// It belongs to another vault.
    #[error("the identity in {} is of vault {found}, this is vault {expected}", path.display())]
    OtherVault { path: PathBuf, found: VaultId, expected: VaultId },
    /// The words are wrong.
    #[error("could not read the paper key in {}", path.display())]
    Paper {
        path: PathBuf,
        #[source]
        source: PaperKeyError,
    },
}

impl Unlocked {
    /// Opens an identity file.
    pub fn identity(path: PathBuf, passphrase: Option<&str>, vault: Option<VaultId>) -> Result<Self, UnlockError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => zeroize::Zeroizing::new(bytes),
            Err(source) => return Err(UnlockError::Read { path, source }),
        };
        if let Some(reader) = reader(&bytes) {
            return Ok(Self::Reader(Box::new(reader)));
        }
        let identity = Identity::open(&bytes, passphrase)
            .map_err(|source| UnlockError::Identity { path: path.clone(), source })?;
        match vault.filter(|expected| *expected != identity.vault()) {
            Some(expected) => Err(UnlockError::OtherVault { path, found: identity.vault(), expected }),
            None => Ok(Self::Owner(Box::new(identity))),
        }
    }

    /// Reads the words of a paper key.
    pub fn paper(path: PathBuf) -> Result<Self, UnlockError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(source) => return Err(UnlockError::Read { path, source }),
        };
        let paper = PaperKey::parse(&text).map_err(|source| UnlockError::Paper { path, source })?;
        Ok(Self::Paper(Box::new(paper)))
    }

    /// What opens wraps and key bags.
    pub fn age(&self) -> AgeIdentity {
        match self {
            Self::Owner(identity) => identity.age().clone(),
            Self::Paper(paper) => paper.age_identity(),
            Self::Reader(reader) => (**reader).clone(),
        }
    }

    /// The account that may hand the ledger over.
    pub fn recovery_account(&self) -> Option<AccountSecret> {
        match self {
            Self::Owner(identity) => Some(identity.owner().clone()),
            Self::Paper(paper) => Some(paper.recovery_account()),
            Self::Reader(_) => None,
        }
    }
}

/// A plain `age` identity file that is not one of a vault's owner: comments and one secret key.
fn reader(file: &[u8]) -> Option<AgeIdentity> {
    let text = std::str::from_utf8(file).ok().filter(|text| !text.starts_with("# blockhouse identity"))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = lines.next().filter(|_| lines.next().is_none())?;
    AgeIdentity::parse(key)
}

/// Why the key bag could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BagError {
    /// No site gave it.
    #[error("could not fetch version {version} of the key bag from the sites")]
    Fetch {
        version: u32,
        #[source]
        source: FetchError,
    },
    /// It does not decode.
    #[error("version {version} of the key bag cannot be read")]
    Form {
        version: u32,
        #[source]
        source: DecodeError,
    },
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenBagError),
}

/// Fetches the key bag that the ledger names and opens it.
pub async fn open_bag(sites: &Sites, named: (u32, BagHash), unlocked: &Unlocked) -> Result<KeyBag, BagError> {
    let (version, hash) = named;
    let key = ObjectKey::Bag { version, hash };
    let fetched = sites.get_any(&key, |bytes| SealedBag::hash(bytes) == hash).await;
    let fetched = fetched.map_err(|source| BagError::Fetch { version, source })?;
    let sealed = SealedBag::from_bytes(&fetched.bytes).map_err(|source| BagError::Form { version, source })?;
    Ok(sealed.open(&unlocked.age())?)
}
