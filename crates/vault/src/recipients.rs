//! The recipients of manifest keys, as the host's configuration and the key bag name them.

use blockhouse_crypto::recipient::RecipientError;
use blockhouse_crypto::{Recipient, RecipientSet, Role};

use crate::folder::{Config, RecipientEntry};

/// Why the recipients in a configuration are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientsError {
    /// A role that does not exist.
    #[error("the configuration names the role `{role}`: it must be owner, paper or reader")]
    Role { role: String },
    /// A public key that is none.
    #[error("the configuration names a recipient that is none")]
    Recipient(#[from] RecipientError),
}

/// The recipients of this host's configuration.
pub fn of_config(config: &Config) -> Result<RecipientSet, RecipientsError> {
    let members = config.recipients.iter().map(of_entry).collect::<Result<_, _>>()?;
    Ok(RecipientSet::try_new(members)?)
}

fn of_entry(entry: &RecipientEntry) -> Result<Recipient, RecipientsError> {
    let role = [Role::Owner, Role::Paper, Role::Reader].into_iter().find(|role| role.to_string() == entry.role);
    let role = role.ok_or_else(|| RecipientsError::Role { role: entry.role.clone() })?;
    Ok(Recipient::parse(&entry.public, role, &entry.label)?)
}

/// The same, for a configuration.
pub fn to_entries(set: &RecipientSet) -> Vec<RecipientEntry> {
    let entry = |member: &Recipient| RecipientEntry {
        public: member.public().to_owned(),
        role: member.role().to_string(),
        label: member.label().to_owned(),
    };
    set.members().iter().map(entry).collect()
}
