//! Who can open the vault's snapshots: recipients added and removed, the identity's passphrase changed.
//!
//! - **Owns** which changes of recipients are allowed.
//! - **Does not** wrap old manifest keys anew: a change of recipients is for the snapshots that follow (`rotate` does). The steps of
//!   a change, and how an interrupted one is finished, are those of `bag`.
//!
//! Page: `docs/design/keys.md`, section *Changing the key bag*.

use std::path::{Path, PathBuf};

use blockhouse_crypto::identity::ChangePassphraseError;
use blockhouse_crypto::recipient::RecipientError;
use blockhouse_crypto::{Identity, Recipient, RecipientSet, Role};
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_types::RecipientId;

use crate::bag::{self, BagChangeError};
use crate::folder::{WriteError, write_durably};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// Why the keys were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The key bag.
    #[error(transparent)]
    Change(#[from] BagChangeError),
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
    /// The host's configuration named other recipients or sites.
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
    let bag = bag::settle(vault, unlocked).await?;
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
    let bag = bag::settle(vault, unlocked).await?;
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
    let looked = bag::look(vault, unlocked).await?;
    let found = InForce {
        recipients: looked.bag.recipients.clone(),
        version: looked.version,
        ledger_lagged: looked.ledger_lagged,
        host_lagged: looked.host_lagged,
    };
    if found.lagged() && vault.secrets().is_some() {
        bag::bring(vault, &looked).await?;
    }
    Ok(found)
}

/// Puts a bag with other recipients in force.
async fn replace(vault: &Vault, mut bag: KeyBag, set: RecipientSet) -> Result<(), KeysError> {
    bag.recipients = set;
    Ok(bag::replace(vault, &bag.owner, &bag).await?)
}
