//! From a snapshot id to its manifest.

use std::collections::BTreeSet;

use blockhouse_crypto::Secret;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_pipeline::manifest::{Manifest, OpenManifestError};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::wraps::{OpenWrapsError, Wraps};
use blockhouse_sites::{FetchError, ObjectKey, Prefix};
use blockhouse_types::{DecodeError, ListHash, SnapshotId, StripeId};
use futures::future::{join, join_all, try_join};

use super::ChunkReader;
use crate::index::{Index, IndexError};
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::lists::{self, ListError};
use crate::maps;
use crate::unlock::{BagError, Unlocked, open_bag};
use crate::vault::Vault;

/// An opened snapshot.
#[derive(Debug)]
pub struct OpenedSnapshot {
    /// What the ledger says of it.
    pub record: SnapshotRecord,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its manifest key.
    pub manifest_key: Secret,
    /// Its stripes, by its public list.
    pub stripes: Vec<StripeId>,
    /// What reads its chunks.
    pub chunks: ChunkReader,
}

/// Why a snapshot could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenSnapshotError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// Its object is at no site.
    #[error("could not fetch the description of snapshot {id} from the sites")]
    Fetch {
        id: SnapshotId,
        #[source]
        source: FetchError,
    },
    /// Its object does not decode.
    #[error("the description of snapshot {id} cannot be read")]
    Form {
        id: SnapshotId,
        #[source]
        source: DecodeError,
    },
    /// No site gave a wrapped key.
    #[error("no site gave a good copy of the wrapped key of snapshot {id}")]
    NoWraps { id: SnapshotId },
    /// The key is not for this identity.
    #[error(transparent)]
    Wraps(#[from] OpenWrapsError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] OpenManifestError),
    /// The key bag.
    #[error("could not open the key bag, which holds the index key")]
    Bag(#[from] BagError),
    /// The stripe list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The index.
    #[error("the index could not be used")]
    Index(#[from] IndexError),
}

/// A snapshot's manifest, without the way to its chunks.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) manifest: Manifest,
    pub(crate) manifest_key: Secret,
}

/// Fetches and opens the manifest of a snapshot.
pub(crate) async fn describe(
    vault: &Vault,
    unlocked: &Unlocked,
    record: &SnapshotRecord,
) -> Result<Described, OpenSnapshotError> {
    let (manifest, manifest_key) = manifest(vault, unlocked, record).await?;
    Ok(Described { manifest, manifest_key })
}

/// A snapshot that is read beside others: what it says of itself, without the way to its chunks.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) record: SnapshotRecord,
    pub(crate) described: Described,
    /// Its stripes, by its public list.
    pub(crate) stripes: Vec<StripeId>,
}

/// Fetches all of a snapshot that its chunks are found and checked by.
pub(crate) async fn beside(
    vault: &Vault,
    unlocked: &Unlocked,
    record: SnapshotRecord,
) -> Result<Beside, OpenSnapshotError> {
    let root = ListHash::new(record.commit.listRoot.0);
    let stripes = async { Ok(lists::read(vault.sites(), root).await?) };
    let (described, stripes) = try_join(describe(vault, unlocked, &record), stripes).await?;
    Ok(Beside { record, described, stripes })
}

/// One reader for the chunks of these snapshots, all of one domain: that of the first.
pub(crate) async fn together(
    vault: &Vault,
    unlocked: &Unlocked,
    first: &Beside,
    others: &[Beside],
) -> Result<ChunkReader, OpenSnapshotError> {
    let mut index = Index::open(&vault.folder().index())?;
    let store = vault.stripes().await?;
    let index_key = match index_key(vault, unlocked).await {
        Err(OpenSnapshotError::Bag(error)) => {
            // A reader has no index key: what each snapshot says to its readers stands in for it, or nothing does.
            for snapshot in std::iter::once(first).chain(others) {
                let (id, key) = (snapshot.record.id, &snapshot.described.manifest_key);
                if !maps::admit(vault, &store, &mut index, id, key).await? {
                    return Err(error.into());
                }
            }
            None
        }
        key => Some(key?),
    };
    let stripes = std::iter::once(first).chain(others).flat_map(|snapshot| snapshot.stripes.iter().copied());
    let stripes: Vec<StripeId> = stripes.collect::<BTreeSet<_>>().into_iter().collect();
    let id_subkey = &first.described.manifest.id_subkey;
    Ok(ChunkReader::prepare(store, index, index_key.as_ref(), &stripes, id_subkey).await?)
}

/// Opens a snapshot.
pub async fn open(
    vault: &Vault,
    unlocked: &Unlocked,
    record: SnapshotRecord,
) -> Result<OpenedSnapshot, OpenSnapshotError> {
    let snapshot = beside(vault, unlocked, record).await?;
    let chunks = together(vault, unlocked, &snapshot, &[]).await?;
    let Beside { record, described: Described { manifest, manifest_key }, stripes } = snapshot;
    Ok(OpenedSnapshot { record, manifest, manifest_key, stripes, chunks })
}

/// The manifest of a snapshot and its key; no stripe is read.
pub async fn manifest(
    vault: &Vault,
    unlocked: &Unlocked,
    record: &SnapshotRecord,
) -> Result<(Manifest, Secret), OpenSnapshotError> {
    let id = record.id;
    let hash = record.commit.objectHash;
    let key = ObjectKey::Snapshot(id);
    let is_it = |bytes: &[u8]| SnapshotObject::hash(bytes).to_bytes() == hash.0;
    let (fetched, versions) = join(vault.sites().get_any(&key, is_it), wraps_of(vault, id)).await;
    let fetched = fetched.map_err(|source| OpenSnapshotError::Fetch { id, source })?;
    let object = SnapshotObject::from_bytes(&fetched.bytes).map_err(|source| OpenSnapshotError::Form { id, source })?;
    let manifest_key = manifest_key(vault, unlocked, (id, versions), &object.sealed_manifest).await?;
    let manifest = Manifest::open(vault.id(), id, &manifest_key, &object.sealed_manifest)?;
    Ok((manifest, manifest_key))
}

/// The versions of a snapshot's wraps that any site lists.
async fn wraps_of(vault: &Vault, id: SnapshotId) -> BTreeSet<u32> {
    let listings =
        vault.sites().up().map(async |(_, site)| site.list_all(Prefix::WrapsOf(id)).await.unwrap_or_default());
    let version = |key: &ObjectKey| match key {
        ObjectKey::Wraps { version, .. } => Some(*version),
        _ => None,
    };
    join_all(listings).await.into_iter().flatten().filter_map(|listed| version(&listed.key)).collect()
}

/// Unwraps the manifest key, from the newest wraps that open.
async fn manifest_key(
    vault: &Vault,
    unlocked: &Unlocked,
    (id, versions): (SnapshotId, BTreeSet<u32>),
    sealed: &[u8],
) -> Result<Secret, OpenSnapshotError> {
    let (age, vault_id) = (unlocked.age(), vault.id());
    // The key that opens the manifest is the one; a copy that gives another is a bad copy.
    let opens = |bytes: &[u8]| {
        let key = Wraps::from_bytes(bytes).ok().and_then(|wraps| wraps.open(&age).ok());
        key.filter(|key| Manifest::open(vault_id, id, key, sealed).is_ok())
    };
    let mut refused = OpenSnapshotError::NoWraps { id };
    for version in versions.into_iter().rev() {
        let key = ObjectKey::Wraps { snapshot: id, version };
        if let Ok(fetched) = vault.sites().get_any(&key, |bytes| opens(bytes).is_some()).await
            && let Some(key) = opens(&fetched.bytes)
        {
            return Ok(key);
        }
        let genuine = |bytes: &[u8]| crate::objects::is_genuine(&key, bytes);
        let Ok(fetched) = vault.sites().get_any(&key, genuine).await else { continue };
        let Ok(wraps) = Wraps::from_bytes(&fetched.bytes) else { continue };
        if let Err(error) = wraps.open(&age) {
            refused = error.into();
        }
    }
    Err(refused)
}

/// The index key: this host's, or that of the key bag.
pub(crate) async fn index_key(vault: &Vault, unlocked: &Unlocked) -> Result<Secret, OpenSnapshotError> {
    if let Some(secrets) = vault.secrets() {
        return Ok(secrets.write.index_key.clone());
    }
    let named = vault.ledger().bag().await?;
    let bag: KeyBag = open_bag(vault.sites(), named, unlocked).await?;
    Ok(bag.vault_secret.index_key())
}
