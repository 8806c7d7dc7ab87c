//! Once a network has begun: the sites learn of its handover, so that whoever seals on a copy of the old host's folder finds it and stops.
//!
//! # Invariants
//! - **S1** The handover, with all blocks up to it, is durable at S−W sites before the host forgets that it has to be: as `recover` does it.
//! - **S2** What a copy of the old folder sealed beside the handover is told, not hidden: it is not on the ledger.

use blockhouse_homes::{Handover, HomeError, LedgerKeys};
use blockhouse_ledger::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_sites::{BLOCKS_PER_FOLDER, ObjectKey, Prefix, Site};
use blockhouse_types::BlockHash;
use bytes::Bytes;

use crate::folder::{Config, GrowthEntry, UpdateError, WriteError};
use crate::publish::{Publication, TooFewCopies};
use crate::sheet;
use crate::vault::{OpenWarning, Vault};

/// Why the sites do not know of the handover yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The ledger's copy on this host.
    #[error("the ledger of this host could not be read")]
    Home(#[from] HomeError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Vault {
    /// Does what is left of a growth, if the network has begun; what is strange is among the warnings.
    pub(crate) async fn settle_growth(&mut self) {
        let Some(growth) = self.config().ledger.growth.clone() else { return };
        match settle(self, &growth).await {
            Ok(warnings) => self.warn_all(warnings),
            Err(source) => self.warn_all(vec![OpenWarning::Unsettled { source: Box::new(source) }]),
        }
    }
}

async fn settle(vault: &mut Vault, growth: &GrowthEntry) -> Result<Vec<OpenWarning>, SettleError> {
    let standing = vault.standing().await?;
    let Some((number, handover)) = first_above(&standing.keys, growth.height) else {
        return Ok(vec![OpenWarning::NotBegun { height: growth.height }]);
    };
    let mut published = Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), standing.height).await;
    let made = vault.home().own_copy()?.block_objects(handover.height, 1).await?;
    for object in made {
        let key = ObjectKey::Handover { number, hash: object.hash() };
        published.put(vault.sites(), &key, Bytes::from(object.encode())).await;
    }
    published.require("the handover to the network", vault.handover_copies())?;
    let mut warnings = Vec::new();
    let old = standing.keys.at(growth.height);
    for (_, site) in vault.sites().up() {
        if let Some(height) = sealed_beside(vault, site, (growth.height, &old)).await? {
            warnings.push(OpenWarning::SealedBeside { site: site.name().clone(), height });
        }
    }
    sheet::write(vault.folder(), vault.config(), standing.fingerprint)?;
    Config::update(vault.folder(), |config| config.ledger.growth = None)?;
    vault.forget_growth();
    Ok(warnings)
}

/// The first handover above that height, and its number.
fn first_above(keys: &LedgerKeys, height: u64) -> Option<(u64, Handover)> {
    (1..).zip(keys.handovers()).find(|(_, handover)| handover.height > height).map(|(number, it)| (number, *it))
}

/// The lowest block at the site that the old key sealed above the base.
async fn sealed_beside(vault: &Vault, site: &Site, (base, old): (u64, &[u8; 32])) -> Result<Option<u64>, HomeError> {
    let mut listed = Vec::new();
    for near in [base + 1, base + 1 + BLOCKS_PER_FOLDER] {
        listed.extend(site.list_all(Prefix::BlocksNear(near)).await.unwrap_or_default());
    }
    let chain_id = vault.config().ledger.chain_id;
    let mut lowest = None;
    for one in listed {
        let ObjectKey::Block { height, hash } = one.key else { continue };
        let own = vault.home().own_copy()?.read(move |store| store.hash_at(height)).await??;
        let is_own = own.is_some_and(|own| BlockHash::new(own.0) == hash);
        if height <= base || is_own || one.length > one.key.max_len() {
            continue;
        }
        let Ok(bytes) = site.get(&one.key).await else { continue };
        let Ok(object) = BlockObject::decode(&bytes) else { continue };
        let place = BlockPlace { chain_id, height, hash };
        if object.hash() == hash && object.certificate.verify(old, &place).is_ok() {
            lowest = Some(lowest.map_or(height, |lowest: u64| lowest.min(height)));
        }
    }
    Ok(lowest)
}
