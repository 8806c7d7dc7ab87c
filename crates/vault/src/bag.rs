//! The key bag in force and the way to another one: every change of recipients, sites and owner takes these steps.
//!
//! - **Owns** the order: key bag at the sites, then its hash on the ledger, then the ledger's default set, then the host's
//!   configuration and recovery sheet; and the way back to it when a change was interrupted.
//! - **Does not** decide what changes: `keys`, `site` and `rotate` do.
//!
//! # Invariants
//! - **K2** The key bag that the ledger names is in force. Every change begins by bringing the ledger's default set and the host's
//!   configuration to it, so one that was killed anywhere is finished, or was never begun.
//! - **K3** A bag and the block that names it are at `Vault::quorum` sites before the host follows them: whoever recovers by the
//!   site list before or after the change meets one of them.
//!
//! Page: `docs/design/keys.md`, section *Changing the key bag*.

use std::collections::BTreeSet;

use blockhouse_crypto::AccountSecret;
use blockhouse_homes::HomeError;
use blockhouse_pipeline::key_bag::{BagSite, KeyBag, SealBagError, SealedBag};
use blockhouse_sites::{Labels, ObjectKey, SiteLimits, SiteName, SiteSpec, SiteUrl};
use blockhouse_types::{BagHash, SiteId};
use bytes::Bytes;

use crate::folder::{Config, ConfigError, SiteEntry, SiteUse, UpdateError, WriteError};
use crate::ledger::LedgerError;
use crate::publish::{Publication, TooFewCopies};
use crate::recipients;
use crate::sheet;
use crate::unlock::{BagError, Unlocked, open_bag};
use crate::vault::Vault;

/// Why another key bag is not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BagChangeError {
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
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The configuration cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// The configuration cannot be changed.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The key bag in force, and what lags behind it.
pub(crate) struct Looked {
    pub(crate) bag: KeyBag,
    pub(crate) version: u32,
    /// The ledger approved another set of recipients by default.
    pub(crate) ledger_lagged: bool,
    /// The host's configuration names other recipients or sites.
    pub(crate) host_lagged: bool,
}

/// Opens the bag in force and compares ledger and host with it.
pub(crate) async fn look(vault: &Vault, unlocked: &Unlocked) -> Result<Looked, BagChangeError> {
    let named = vault.ledger().bag().await?;
    let bag = open_bag(vault.sites(), named, unlocked).await?;
    let config = Config::load(vault.folder())?;
    let mut brought = config.clone();
    follow(&mut brought, &bag);
    let ledger_lagged = vault.ledger().default_recipients().await? != bag.recipients.hash();
    Ok(Looked { bag, version: named.0, ledger_lagged, host_lagged: brought != config })
}

/// The bag in force, after ledger and host were brought to it.
pub(crate) async fn settle(vault: &Vault, unlocked: &Unlocked) -> Result<KeyBag, BagChangeError> {
    let found = look(vault, unlocked).await?;
    // Also where nothing lags: a kill may have come before the blocks were copied.
    bring(vault, &found).await?;
    Ok(found.bag)
}

/// Brings the ledger's default set and the host's configuration to the bag in force (K2).
pub(crate) async fn bring(vault: &Vault, found: &Looked) -> Result<(), BagChangeError> {
    if found.ledger_lagged {
        vault.ledger_as(&found.bag.owner).set_default_recipients(found.bag.recipients.hash()).await?;
    }
    conclude(vault, &found.bag, Publication::begin(vault.sites())).await
}

/// Puts another bag in force; `owner` is the ledger's owner as it is now.
pub(crate) async fn replace(vault: &Vault, owner: &AccountSecret, next: &KeyBag) -> Result<(), BagChangeError> {
    let owner = vault.ledger_as(owner);
    let (version, hash, published) = publish(vault, next).await?;
    owner.record_bag(version, hash).await?;
    if owner.default_recipients().await? != next.recipients.hash() {
        owner.set_default_recipients(next.recipients.hash()).await?;
    }
    conclude(vault, next, published).await
}

/// Makes the next version of the bag durable at the sites. Until the ledger names it, it is passed over.
pub(crate) async fn publish(vault: &Vault, next: &KeyBag) -> Result<(u32, BagHash, Publication), BagChangeError> {
    let (version, _) = vault.ledger().bag().await?;
    let version = version + 1;
    let sealed = next.seal(vault.id(), version)?.to_bytes();
    let hash = SealedBag::hash(&sealed);
    let mut published = Publication::begin(vault.sites());
    published.put(vault.sites(), &ObjectKey::Bag { version, hash }, Bytes::from(sealed)).await;
    published.require("the key bag", vault.quorum())?;
    Ok((version, hash, published))
}

/// Makes the ledger's word for a bag durable at the sites, then follows it on this host.
pub(crate) async fn conclude(vault: &Vault, bag: &KeyBag, mut published: Publication) -> Result<(), BagChangeError> {
    let standing = vault.standing().await?;
    published.copy_blocks(vault.sites(), vault.home(), standing.height).await;
    published.require("the ledger's block", vault.quorum())?;
    let (config, ()) = Config::update(vault.folder(), |config| follow(config, bag))?;
    vault.keep_summary().await;
    Ok(sheet::write(vault.folder(), &config, standing.fingerprint)?)
}

/// Brings a configuration to a bag. Where a site is, is this host's own to say: only which sites there are comes from the bag.
fn follow(config: &mut Config, bag: &KeyBag) {
    config.recipients = recipients::to_entries(&bag.recipients);
    let named: BTreeSet<SiteId> = bag.sites.iter().map(|site| site.id).collect();
    // A site that was declared lost stays noted until what it held was made again elsewhere.
    let is_kept =
        |entry: &SiteEntry| named.contains(&entry.id) || matches!(entry.state, Some(SiteUse::Joining | SiteUse::Lost));
    config.sites.retain(is_kept);
    for entry in &mut config.sites {
        if entry.state == Some(SiteUse::Joining) && named.contains(&entry.id) {
            entry.state = None;
        }
    }
    let known: BTreeSet<SiteId> = config.sites.iter().map(|entry| entry.id).collect();
    let unknown = bag.sites.iter().filter(|site| !known.contains(&site.id));
    config.sites.extend(unknown.filter_map(entry_of));
}

/// A site of a key bag as a configuration has it; none if its URL or name is none.
pub(crate) fn entry_of(site: &BagSite) -> Option<SiteEntry> {
    let label = |text: &String| (!text.is_empty()).then(|| text.clone());
    let labels = Labels { region: label(&site.region), provider: label(&site.provider) };
    let (url, name) = (SiteUrl::parse_absolute(&site.url).ok()?, SiteName::parse(&site.name).ok()?);
    let spec = SiteSpec { url, name, labels, limits: SiteLimits::default() };
    Some(SiteEntry { id: site.id, spec, device: None, state: None })
}

/// A site of a configuration as a key bag has it.
pub(crate) fn site_of(entry: &SiteEntry) -> BagSite {
    BagSite {
        id: entry.id,
        name: entry.spec.name.to_string(),
        url: entry.spec.url.to_string(),
        region: entry.spec.labels.region.clone().unwrap_or_default(),
        provider: entry.spec.labels.provider.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::UserTable;
    use blockhouse_crypto::{AgeIdentity, RecipientSet, Role, Secret};
    use blockhouse_pipeline::domain::VaultSecret;
    use blockhouse_types::{Account, BlockHash, Code, VaultId};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn entry(number: u8, state: Option<SiteUse>) -> SiteEntry {
        // As it is stored: a plain path would be looked up on this host.
        let spec = SiteSpec::parse(&format!("file:/sites/{number}"), Path::new("/")).unwrap();
        SiteEntry { id: SiteId::new([number; 32]), spec, device: Some(number.into()), state }
    }

    fn bag(sites: &[u8]) -> KeyBag {
        let owner = AgeIdentity::from_secret(&Secret::new([1; 32])).recipient(Role::Owner, "owner").unwrap();
        KeyBag {
            vault_secret: VaultSecret::new(Secret::new([2; 32])),
            owner: AccountSecret::try_new(&Secret::new([3; 32])).unwrap(),
            recipients: RecipientSet::try_new(vec![owner]).unwrap(),
            sites: sites.iter().map(|number| site_of(&entry(*number, None))).collect(),
            code: Code::try_new(2, 1).unwrap(),
            chain_id: 1 << 40,
            genesis: BlockHash::new([5; 32]),
            vault_contract: Account::new([6; 20]),
            access_contract: Account::new([7; 20]),
        }
    }

    fn config(sites: Vec<SiteEntry>) -> Config {
        let bag = bag(&[]);
        Config {
            version: 1,
            vault: VaultId::new([9; 32]),
            code: bag.code,
            ledger: crate::folder::LedgerEntry {
                home: crate::folder::HomeKind::Embedded,
                urls: Vec::new(),
                chain_id: bag.chain_id,
                genesis: bag.genesis,
                vault: bag.vault_contract,
                access: bag.access_contract,
                chain: None,
                growth: None,
            },
            recipients: recipients::to_entries(&bag.recipients),
            sites,
            finished_markings: None,
            sources: BTreeMap::new(),
            hosts: BTreeMap::new(),
            hooks: UserTable::default(),
            source_hooks: UserTable::default(),
            profiles: UserTable::default(),
        }
    }

    /// K2: whatever a kill left, the bag decides which sites count; what has not come to it yet stays noted.
    #[test]
    fn a_configuration_follows_the_bag_and_keeps_what_is_under_way() {
        use SiteUse::{Draining, Joining, Leaving, Lost};
        let states = [None, Some(Joining), Some(Draining), Some(Leaving), Some(Lost)];
        let follow_one = |state, is_named: bool| {
            let mut config = config(vec![entry(1, state)]);
            follow(&mut config, &bag(if is_named { &[1] } else { &[] }));
            config.sites.first().map(|entry| entry.state)
        };
        let named = states.map(|state| follow_one(state, true));
        assert_eq!(named, [None, None, Some(Draining), Some(Leaving), Some(Lost)].map(Some), "joining is joined");
        let gone = states.map(|state| follow_one(state, false));
        assert_eq!(gone, [None, Some(Some(Joining)), None, None, Some(Some(Lost))]);
    }

    #[test]
    fn a_site_that_the_host_does_not_know_comes_from_the_bag_and_one_that_moved_stays_where_it_is() {
        let mut moved = entry(1, None);
        moved.spec.url = SiteUrl::parse("/elsewhere", Path::new("/")).unwrap();
        let mut config = config(vec![moved.clone()]);
        follow(&mut config, &bag(&[1, 2]));
        assert_eq!(config.sites, [moved, SiteEntry { device: None, ..entry(2, None) }]);
    }
}
