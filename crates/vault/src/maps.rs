//! Reader's maps: where the chunks of one snapshot lie, for readers that have no index key.
//!
//! - **Owns** which chunks are in the map: those of the snapshot's own tree, no neighbour of theirs.
//! - **Does not** need to be right for safety: a wrong map makes a read fail, never give wrong bytes.
//!
//! Format: `docs/design/manifests.md`, section *Reader's map*.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_crypto::Secret;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::manifest::Manifest;
use blockhouse_pipeline::readers_map::{MappedChunk, MappedStripe, ReadersMap, SealMapError};
use blockhouse_pipeline::tree::Body;
use blockhouse_sites::{ObjectKey, Prefix};
use blockhouse_types::{SnapshotId, StripeId};
use bytes::Bytes;

use crate::index::{Index, IndexError, Location, Slot};
use crate::reader::{self, ChunkReader, ReadTreeError};
use crate::stripes::StripeStore;
use crate::vault::Vault;

/// Why a map could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The tree.
    #[error("the tree of the new snapshot could not be read back")]
    Tree(#[from] ReadTreeError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealMapError),
    /// A task ended early.
    #[error("a task was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// The first map of a snapshot, sealed.
pub(crate) async fn make(
    chunks: ChunkReader,
    manifest: &Manifest,
    snapshot: SnapshotId,
    manifest_key: &Secret,
) -> Result<Bytes, MapError> {
    let root = manifest.root.clone();
    let collect = move || locations(chunks, &root);
    let located = tokio::task::spawn_blocking(collect).await.map_err(MapError::Stopped)??;
    let mut stripes: BTreeMap<StripeId, BTreeMap<u32, MappedChunk>> = BTreeMap::new();
    for (id, Location { stripe, slot }) in located {
        let Some(codec) = Codec::from_tag(slot.codec) else { continue };
        let chunk = MappedChunk { id, codec, offset: slot.offset, sealed_len: slot.sealed_len };
        stripes.entry(stripe).or_default().insert(slot.offset, chunk);
    }
    let stripes = stripes.into_iter();
    let map = ReadersMap {
        stripes: stripes
            .map(|(stripe, chunks)| MappedStripe { stripe, chunks: chunks.into_values().collect() })
            .collect(),
    };
    Ok(Bytes::from(map.seal(snapshot, 0, manifest_key, rand::random())?))
}

/// Every chunk of a tree, those of lists too, and where it lies.
fn locations(
    mut chunks: ChunkReader,
    root: &Content,
) -> Result<BTreeMap<blockhouse_types::ChunkId, Location>, ReadTreeError> {
    let mut ids = BTreeSet::new();
    note(&mut chunks, root, &mut ids)?;
    reader::walk(&mut chunks, root, &mut |chunks, _, entry| {
        if let Body::Directory(content) | Body::File { content, .. } = &entry.body {
            note(chunks, content, &mut ids)?;
        }
        Ok::<bool, ReadTreeError>(true)
    })?;
    Ok(ids.into_iter().filter_map(|id| Some((id, chunks.locate(&id)?))).collect())
}

fn note(
    chunks: &mut ChunkReader,
    content: &Content,
    ids: &mut BTreeSet<blockhouse_types::ChunkId>,
) -> Result<(), ReadTreeError> {
    let mut lists = Vec::new();
    let fetch = |reference: &ChunkRef| {
        lists.push(reference.id);
        chunks.read(reference)
    };
    for extent in content.extents(fetch) {
        let extent = extent.map_err(Box::new)?;
        ids.extend(extent.chunk().map(|chunk| chunk.id));
    }
    ids.extend(lists);
    ids.extend(content.inline_extents().iter().filter_map(|extent| extent.chunk()).map(|chunk| chunk.id));
    Ok(())
}

/// Indexes what the newest map of a snapshot says; false if no site has one that opens.
pub(crate) async fn admit(
    vault: &Vault,
    stripes: &StripeStore,
    index: &mut Index,
    snapshot: SnapshotId,
    manifest_key: &Secret,
) -> Result<bool, IndexError> {
    let Some(map) = newest(vault, snapshot, manifest_key).await else { return Ok(false) };
    for mapped in map.stripes {
        let Ok(head) = stripes.read_head(&mapped.stripe).await else { continue };
        // The plain length is in the reference; the index keeps it only to be whole.
        let slot = |chunk: &MappedChunk| Slot {
            codec: chunk.codec.tag(),
            offset: chunk.offset,
            sealed_len: chunk.sealed_len,
            plain_len: 0,
        };
        index.add(head.entry, mapped.chunks.iter().map(|chunk| (chunk.id, slot(chunk))).collect())?;
    }
    Ok(true)
}

async fn newest(vault: &Vault, snapshot: SnapshotId, manifest_key: &Secret) -> Option<ReadersMap> {
    let mut versions = BTreeSet::new();
    for (_, site) in vault.sites().up() {
        for listed in site.list_all(Prefix::MapsOf(snapshot)).await.unwrap_or_default() {
            if let ObjectKey::Map { version, .. } = listed.key {
                versions.insert(version);
            }
        }
    }
    for version in versions.into_iter().rev() {
        let key = ObjectKey::Map { snapshot, version };
        let opens = |bytes: &[u8]| ReadersMap::open(snapshot, version, manifest_key, bytes).is_ok();
        if let Ok(fetched) = vault.sites().get_any(&key, opens).await {
            return ReadersMap::open(snapshot, version, manifest_key, &fetched.bytes).ok();
        }
    }
    None
}
