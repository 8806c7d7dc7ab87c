//! Who can open the vault's snapshots: recipients added and removed, the identity's passphrase changed.
//!
//! - **Owns** the order: key bag at the sites, then its hash and the new set on the ledger, then the host's configuration; and the
//!   way back to it when a change was interrupted.
//! - **Does not** wrap old manifest keys anew: a change of recipients is for the snapshots that follow.
//!
//! # Invariants
//! - **K2** The key bag that the ledger names is in force. Every change begins by bringing the ledger's default set and the host's
//!   configuration to it, so one that was killed anywhere is finished, or was never begun.
//!
//! Page: `docs/design/keys.md`, section *Changing recipients*.

use std::path::{Path, PathBuf};

use blockhouse_crypto::identity::ChangePassphraseError;
use blockhouse_crypto::recipient::RecipientError;
use blockhouse_crypto::{Identity, Recipient, RecipientSet, Role};
use blockhouse_homes::HomeError;
use blockhouse_pipeline::key_bag::{KeyBag, SealBagError, SealedBag};
use blockhouse_sites::ObjectKey;
use blockhouse_types::RecipientId;
use bytes::Bytes;

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
    #[error("could not open the key bag")]
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
    /// The digits are the beginning of several ids.
    #[error("`{wanted}` is the beginning of the ids of {count} recipients")]
    SeveralRecipients { wanted: String, count: usize },
    /// Another recipient is called so.
    #[error("the recipient {id} is called `{label}` already")]
    LabelTaken { label: String, id: RecipientId },
    /// It cannot be locked out.
    #[error("`{label}` is the {role} key, which opens the key bag: only readers can be removed")]
    OpensBag { label: String, role: Role },
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

/// The key bag in force, and what was brought to it.
#[derive(Debug)]
pub struct InForce {
    /// Who can open the next snapshots.
    pub recipients: RecipientSet,
    /// The version of the bag.
    pub version: u32,
    /// The ledger approved another set of recipients by default.
    pub ledger_lagged: bool,
    /// The host's configuration named other recipients.
    pub host_lagged: bool,
}

impl InForce {
    /// True if a change had been interrupted, or the configuration edited.
    pub const fn lagged(&self) -> bool {
        self.ledger_lagged || self.host_lagged
    }
}

/// What adding a recipient came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It opens the snapshots that follow.
    New,
    /// It did so before, by this name.
    Already {
        /// What it is called.
        label: String,
    },
}

/// Adds a recipient for the snapshots that follow. One that is there already is no error: a change that was interrupted may be
/// asked for again.
pub async fn add(vault: &Vault, unlocked: &Unlocked, recipient: Recipient) -> Result<Added, KeysError> {
    let bag = settle(vault, unlocked).await?;
    if let Some(there) = bag.recipients.get(recipient.id()) {
        return Ok(Added::Already { label: there.label().to_owned() });
    }
    let mut members = bag.recipients.members().to_vec();
    if let Some(namesake) = members.iter().find(|member| member.label() == recipient.label()) {
        return Err(KeysError::LabelTaken { label: recipient.label().to_owned(), id: namesake.id() });
    }
    members.push(recipient);
    replace(vault, bag, RecipientSet::try_new(members)?).await?;
    Ok(Added::New)
}

/// Removes a reader for the snapshots that follow; what it could open it still can. Owner and paper key stay: old bags, and the
/// owner's account in them, would stay open to them whatever the newest one says.
pub async fn remove(vault: &Vault, unlocked: &Unlocked, wanted: &str) -> Result<RecipientId, KeysError> {
    let bag = settle(vault, unlocked).await?;
    let found = find(&bag.recipients, wanted)?;
    if found.role().opens_bag() {
        return Err(KeysError::OpensBag { label: found.label().to_owned(), role: found.role() });
    }
    let id = found.id();
    let left = bag.recipients.members().iter().filter(|member| member.id() != id).cloned().collect();
    let set = RecipientSet::try_new(left)?;
    replace(vault, bag, set).await?;
    Ok(id)
}

/// By public key, label, or id; of an id eight digits may do.
fn find<'a>(set: &'a RecipientSet, wanted: &str) -> Result<&'a Recipient, KeysError> {
    let is_called = |member: &&Recipient| member.public() == wanted || member.label() == wanted;
    if let Some(called) = set.members().iter().find(is_called) {
        return Ok(called);
    }
    let begins = |member: &&Recipient| wanted.len() >= 8 && member.id().to_string().starts_with(wanted);
    let found: Vec<&Recipient> = set.members().iter().filter(begins).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(KeysError::NoRecipient { wanted: wanted.to_owned() }),
        _ => Err(KeysError::SeveralRecipients { wanted: wanted.to_owned(), count: found.len() }),
    }
}

/// Encrypts an identity file to another passphrase. The old file is gone from its place; copies of it elsewhere still open with
/// the old passphrase. Of a symbolic link the file that it leads to is the one, for the link's own place never held a key.
pub fn change_passphrase(path: &Path, old: Option<&str>, new: Option<&str>) -> Result<(), KeysError> {
    let failed = |source| KeysError::Read { path: path.to_owned(), source };
    let place = std::fs::canonicalize(path).map_err(failed)?;
    let file = std::fs::read(&place).map_err(failed)?;
    let changed = Identity::change_passphrase(&file, old, new)
        .map_err(|source| KeysError::Passphrase { path: path.to_owned(), source })?;
    Ok(write_durably(&place, 0o600, &changed)?)
}

/// The bag in force. On the vault's own host an interrupted change is finished; a host that only reads changes nothing.
pub async fn in_force(vault: &Vault, unlocked: &Unlocked) -> Result<InForce, KeysError> {
    let (bag, found) = look(vault, unlocked).await?;
    if found.lagged() && vault.secrets().is_some() {
        bring(vault, &bag, &found).await?;
    }
    Ok(found)
}

/// The bag in force, after ledger and host were brought to it.
async fn settle(vault: &Vault, unlocked: &Unlocked) -> Result<KeyBag, KeysError> {
    let (bag, found) = look(vault, unlocked).await?;
    // Also where nothing lags: a kill may have come before the blocks were copied.
    bring(vault, &bag, &found).await?;
    Ok(bag)
}

async fn look(vault: &Vault, unlocked: &Unlocked) -> Result<(KeyBag, InForce), KeysError> {
    let named = vault.ledger().bag().await?;
    let bag = open_bag(vault.sites(), named, unlocked).await?;
    let found = InForce {
        recipients: bag.recipients.clone(),
        version: named.0,
        ledger_lagged: vault.ledger().default_recipients().await? != bag.recipients.hash(),
        host_lagged: vault.config().recipients != recipients::to_entries(&bag.recipients),
    };
    Ok((bag, found))
}

/// Brings the ledger's default set and the host's configuration to the bag in force (K2).
async fn bring(vault: &Vault, bag: &KeyBag, found: &InForce) -> Result<(), KeysError> {
    if found.ledger_lagged {
        vault.ledger_as(&bag.owner).set_default_recipients(bag.recipients.hash()).await?;
    }
    conclude(vault, bag, Publication::begin(vault.sites())).await
}

/// Puts a bag with other recipients in force.
async fn replace(vault: &Vault, mut bag: KeyBag, set: RecipientSet) -> Result<(), KeysError> {
    let owner = vault.ledger_as(&bag.owner);
    let (version, _) = owner.bag().await?;
    bag.recipients = set;
    let sealed = bag.seal(vault.id(), version + 1)?.to_bytes();
    let hash = SealedBag::hash(&sealed);
    let key = ObjectKey::Bag { version: version + 1, hash };
    let mut published = Publication::begin(vault.sites());
    published.put(vault.sites(), &key, Bytes::from(sealed)).await;
    published.require("the key bag", copies_needed(vault))?;
    owner.record_bag(version + 1, hash).await?;
    owner.set_default_recipients(bag.recipients.hash()).await?;
    conclude(vault, &bag, published).await
}

/// Makes the ledger's word for a bag durable at the sites, then follows it on this host.
async fn conclude(vault: &Vault, bag: &KeyBag, mut published: Publication) -> Result<(), KeysError> {
    let standing = vault.standing().await?;
    published.copy_blocks(vault.sites(), vault.home(), standing.height).await;
    published.require("the ledger's block", copies_needed(vault))?;
    let entries = recipients::to_entries(&bag.recipients);
    let (config, ()) = Config::update(vault.folder(), |config| config.recipients = entries)?;
    vault.keep_summary().await;
    Ok(sheet::write(vault.folder(), &config, standing.fingerprint)?)
}

fn copies_needed(vault: &Vault) -> usize {
    usize::from(vault.plan().w) + 1
}
