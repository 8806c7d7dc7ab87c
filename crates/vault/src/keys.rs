//! Who can open the vault's snapshots: recipients added and removed, the identity's passphrase changed.
//!
//! - **Owns** the order: key bag at the sites, then its hash and the new set on the ledger, then the host's configuration.
//! - **Does not** wrap old manifest keys anew: a change of recipients is for the snapshots that follow.

use std::path::{Path, PathBuf};

use blockhouse_crypto::identity::ChangePassphraseError;
use blockhouse_crypto::recipient::RecipientError;
use blockhouse_crypto::{Identity, Recipient, RecipientSet};
use blockhouse_homes::HomeError;
use blockhouse_pipeline::key_bag::{KeyBag, SealBagError, SealedBag};
use blockhouse_sites::ObjectKey;
use blockhouse_types::RecipientId;
use bytes::Bytes;

use crate::blocks;
use crate::folder::{Config, UpdateError, WriteError, write_durably};
use crate::ledger::LedgerError;
use crate::publish::{Publication, TooFewCopies};
use crate::recipients;
use crate::sheet;
use crate::unlock::{BagError, Unlocked, open_bag};
use crate::vault::Vault;

/// Why the keys were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The ledger.
    #[error("the ledger did not take the change")]
    Ledger(#[from] LedgerError),
    /// The embedded ledger.
    #[error("the embedded ledger failed")]
    Home(#[from] HomeError),
    /// The bag.
    #[error(transparent)]
    Bag(#[from] BagError),
    /// The new bag.
    #[error("the new key bag could not be sealed")]
    Seal(#[from] SealBagError),
    /// The recipients.
    #[error("the new recipients are no set")]
    Recipient(#[from] RecipientError),
    /// There is no such recipient.
    #[error("no recipient has the id, public key or label `{wanted}`")]
    NoRecipient { wanted: String },
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The identity file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The passphrase.
    #[error("could not change the passphrase of {}", path.display())]
    Passphrase {
        path: PathBuf,
        #[source]
        source: ChangePassphraseError,
    },
}

/// Adds a recipient for the snapshots that follow.
pub async fn add(vault: &Vault, unlocked: &Unlocked, recipient: Recipient) -> Result<(), KeysError> {
    let bag = bag(vault, unlocked).await?;
    let mut members = bag.recipients.members().to_vec();
    members.push(recipient);
    replace(vault, bag, RecipientSet::try_new(members)?).await
}

/// Removes a recipient for the snapshots that follow; what it could open it still can.
pub async fn remove(vault: &Vault, unlocked: &Unlocked, wanted: &str) -> Result<RecipientId, KeysError> {
    let bag = bag(vault, unlocked).await?;
    let is_it =
        |member: &Recipient| member.public() == wanted || member.label() == wanted || member.id().to_string() == wanted;
    let found = bag.recipients.members().iter().find(|member| is_it(member)).map(Recipient::id);
    let found = found.ok_or_else(|| KeysError::NoRecipient { wanted: wanted.to_owned() })?;
    let left = bag.recipients.members().iter().filter(|member| member.id() != found).cloned().collect();
    let set = RecipientSet::try_new(left)?;
    replace(vault, bag, set).await?;
    Ok(found)
}

/// Encrypts an identity file to another passphrase. The old file is gone from its place; copies of it elsewhere still open with
/// the old passphrase.
pub fn change_passphrase(path: &Path, old: Option<&str>, new: Option<&str>) -> Result<(), KeysError> {
    let file = std::fs::read(path).map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
    let changed = Identity::change_passphrase(&file, old, new)
        .map_err(|source| KeysError::Passphrase { path: path.to_owned(), source })?;
    Ok(write_durably(path, 0o600, &changed)?)
}

async fn bag(vault: &Vault, unlocked: &Unlocked) -> Result<KeyBag, KeysError> {
    let named = vault.ledger().bag().await?;
    Ok(open_bag(vault.sites(), named, unlocked).await?)
}

/// Puts a bag with other recipients in force.
async fn replace(vault: &Vault, mut bag: KeyBag, set: RecipientSet) -> Result<(), KeysError> {
    let owner = vault.ledger_as(&bag.owner);
    let (version, _) = owner.bag().await?;
    bag.recipients = set;
    let sealed = bag.seal(vault.id(), version + 1)?.to_bytes();
    let hash = SealedBag::hash(&sealed);
    let key = ObjectKey::Bag { version: version + 1, hash };
    let needed = usize::from(vault.plan().w) + 1;
    let mut published = Publication::begin(vault.sites());
    published.put(vault.sites(), &key, Bytes::from(sealed)).await;
    published.require("the key bag", needed)?;
    owner.record_bag(version + 1, hash).await?;
    owner.set_default_recipients(bag.recipients.hash()).await?;
    let standing = vault.standing().await?;
    for copied in blocks::copy_everywhere(vault.sites(), vault.home(), standing.height).await {
        if copied.result.is_err() {
            published.exclude(copied.member);
        }
    }
    published.require("the ledger's block", needed)?;
    let entries = recipients::to_entries(&bag.recipients);
    let (config, ()) = Config::update(vault.folder(), |config| config.recipients = entries)?;
    Ok(sheet::write(vault.folder(), &config, standing.fingerprint)?)
}
