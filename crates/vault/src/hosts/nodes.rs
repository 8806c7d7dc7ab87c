//! Nodes of the network as accounts of its ledger: so they can tell there what they find altered in their own stores.
//!
//! A node's account is a writer like a host's, for the ledger takes transactions of nobody else: it can do what a writer can, and is revoked as
//! one. What it may say in `Alarms`, and for which node, the owner sets.

use alloy_primitives::B256;
use blockhouse_types::Account;

use super::{HostsError, secure_blocks};
use crate::bag;
use crate::folder::Config;
use crate::ledger::{Ledger, WriterRecord, account};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// How many digits of its key a node is called by.
const NAME_DIGITS: usize = 12;

/// Enrols the account of a node, and lets it raise alarms; false if it could already. Done again after a kill, it goes on.
pub async fn enrol_node(
    vault: &Vault,
    unlocked: &Unlocked,
    (node, account): ([u8; 32], Account),
) -> Result<bool, HostsError> {
    if vault.nodes().is_none() {
        return Err(HostsError::OneHost);
    }
    let bag = bag::settle(vault, unlocked).await?;
    let (owner, node) = (vault.ledger_as(&bag.owner), B256::new(node));
    let is_new = enrol(&owner, account).await?;
    let speaks = owner.node_of(account).await? == Some(node);
    if !speaks {
        owner.set_node(&bag.owner, account, node).await?;
    }
    // Where a node anchors or is a witness, it records that there.
    owner.establish_anchors(&bag.owner).await?;
    secure_blocks(vault).await?;
    let name: String = hex::encode(node).chars().take(NAME_DIGITS).collect();
    Config::update(vault.folder(), |config| config.hosts.insert(account, format!("node-{name}")))?;
    Ok(is_new || !speaks)
}

/// Whom the ledger names as governors and operators, of the set in force and of those to come: as this host's own copy has it, for nobody checks what a node
/// says of that.
pub async fn operators(vault: &Vault) -> Result<Vec<Account>, HostsError> {
    if vault.nodes().is_none() {
        return Err(HostsError::OneHost);
    }
    let named = vault.home().own_copy()?.operators().await?;
    if named.is_empty() { Err(HostsError::NotGoverned) } else { Ok(named.into_iter().map(account).collect()) }
}

/// Enrols the account of an operator who keeps it apart from his node: to govern the network, and to say there what nodes say by their own. False if it
/// was enrolled already.
pub async fn enrol_operator(vault: &Vault, unlocked: &Unlocked, account: Account) -> Result<bool, HostsError> {
    if vault.nodes().is_none() {
        return Err(HostsError::OneHost);
    }
    let bag = bag::settle(vault, unlocked).await?;
    let is_new = enrol(&vault.ledger_as(&bag.owner), account).await?;
    secure_blocks(vault).await?;
    let digits: String = account.to_string().chars().take(NAME_DIGITS).collect();
    Config::update(vault.folder(), |config| {
        config.hosts.entry(account).or_insert(format!("operator-{digits}"));
    })?;
    Ok(is_new)
}

/// Makes an account a writer; false if it is one.
async fn enrol(owner: &Ledger, account: Account) -> Result<bool, HostsError> {
    match owner.writers().await?.iter().find(|writer| writer.account == account) {
        Some(writer) if writer.active => Ok(false),
        Some(_) => Err(HostsError::Revoked { account }),
        None => {
            owner.enrol_writer(WriterRecord::first(account)).await?;
            Ok(true)
        }
    }
}
