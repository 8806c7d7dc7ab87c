//! Receipts: what proves, offline, that a snapshot or one file of it is on the ledger.
//!
//! Format: `docs/design/receipts.md`.

use blockhouse_crypto::{FileProof, FileProofError};
use blockhouse_homes::HomeError;
use blockhouse_ledger::receipt::{NoCommit, Receipt};
use blockhouse_pipeline::tree::{Entry, EntryLeaves};
use blockhouse_sources::files::decode_root_name;

use crate::reader::{self, OpenSnapshotError, ReadTreeError};
use crate::restore::root_paths;
use crate::select::Known;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// Why no receipt was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeReceiptError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Home(#[from] HomeError),
    /// The transaction holds no commit of the snapshot.
    #[error(transparent)]
    NoCommit(#[from] NoCommit),
    /// The snapshot.
    #[error(transparent)]
    Open(#[from] OpenSnapshotError),
    /// The tree.
    #[error("the tree of the snapshot could not be read")]
    Tree(#[from] ReadTreeError),
    /// The path is not in the snapshot.
    #[error("the snapshot has no entry `{}`", path.escape_ascii())]
    NoEntry { path: Vec<u8> },
    /// The proof.
    #[error("the proof of the file could not be made")]
    Proof(#[from] FileProofError),
    /// A task ended early.
    #[error("a task was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// A receipt of a snapshot.
pub async fn of_snapshot(vault: &Vault, known: &Known) -> Result<Receipt, MakeReceiptError> {
    make(vault, known, None).await
}

/// A receipt of one entry of a snapshot; `path` as [`full_path`] takes it.
pub async fn of_file(
    vault: &Vault,
    unlocked: &Unlocked,
    known: &Known,
    path: &[u8],
) -> Result<Receipt, MakeReceiptError> {
    let opened = reader::open(vault, unlocked, known.record.clone()).await?;
    let (id, wanted) = (vault.id(), path.to_vec());
    let work = move || -> Result<FileProof, MakeReceiptError> {
        let mut chunks = opened.chunks;
        let roots = reader::list(&mut chunks, b"", &opened.manifest.root)?;
        let path = full_path(&roots, &wanted);
        let mut leaves = EntryLeaves::watching(&opened.manifest_key, path.clone());
        reader::walk(&mut chunks, &opened.manifest.root, &mut |_, path, entry| {
            leaves.push(path, &entry.facts());
            Ok::<bool, ReadTreeError>(true)
        })?;
        let watched = leaves.finish().watched.ok_or(MakeReceiptError::NoEntry { path: wanted })?;
        Ok(opened.manifest.prove(id, &opened.manifest_key, watched)?)
    };
    let proof = tokio::task::spawn_blocking(work).await.map_err(MakeReceiptError::Stopped)??;
    make(vault, known, Some(proof)).await
}

/// The path as in the tree, from what was given: that itself, the absolute path that was backed up, or the path as restored.
pub fn full_path(roots: &[Entry], wanted: &[u8]) -> Vec<u8> {
    let wanted = &tidied(wanted)[..];
    let below = |root: &Entry, start: &[u8]| match wanted.strip_prefix(start)? {
        [] => Some(root.name.clone()),
        rest @ [b'/', ..] => Some([&root.name[..], rest].concat()),
        // The folder of the whole system ends in the slash that others have behind them.
        rest => start.ends_with(b"/").then(|| [&root.name[..], b"/", rest].concat()),
    };
    let in_tree = roots.iter().find_map(|root| below(root, &root.name));
    let absolute = || roots.iter().find_map(|root| below(root, &decode_root_name(&root.name).ok()?));
    let restored = || {
        roots.iter().zip(root_paths(roots)).find_map(|(root, path)| match path.is_target() {
            true if wanted.is_empty() => Some(root.name.clone()),
            true => Some([&root.name[..], b"/", wanted].concat()),
            false => below(root, path.as_bytes()),
        })
    };
    in_tree.or_else(absolute).or_else(restored).unwrap_or_else(|| wanted.to_vec())
}

/// A path without what says nothing: slashes at its end, two in a row, and the names `.`.
fn tidied(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let names: Vec<&[u8]> = names.collect();
    let start: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    [start, &names.join(&b'/')].concat()
}

async fn make(vault: &Vault, known: &Known, file: Option<FileProof>) -> Result<Receipt, MakeReceiptError> {
    let evidence = vault.home().evidence(known.record.transaction).await?;
    Ok(Receipt::from_parts(&evidence.receipt_parts(known.record.id, file))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_pipeline::content::Content;
    use blockhouse_pipeline::tree::Body;
    use blockhouse_sources::files::encode_root_name;
    use blockhouse_types::Metadata;

    fn root(path: &str) -> Entry {
        let body = Body::Directory(Content::empty());
        Entry { name: encode_root_name(path.as_bytes()), metadata: Metadata::default(), body }
    }

    fn full(roots: &[&str], wanted: &str) -> String {
        let roots: Vec<Entry> = roots.iter().map(|path| root(path)).collect();
        String::from_utf8(full_path(&roots, wanted.as_bytes())).unwrap()
    }

    #[test]
    fn a_path_may_be_as_in_the_tree_absolute_or_as_restored() {
        for wanted in ["%2Fhome%2Fann/docs", "/home/ann/docs", "docs", "./docs/", "/home//ann/./docs/"] {
            assert_eq!(full(&["/home/ann"], wanted), "%2Fhome%2Fann/docs", "{wanted}");
        }
        for wanted in [".", "", "/home/ann/"] {
            assert_eq!(full(&["/home/ann"], wanted), "%2Fhome%2Fann", "{wanted}");
        }
        for wanted in ["/home/ann/docs", "ann/docs"] {
            assert_eq!(full(&["/etc", "/home/ann"], wanted), "%2Fhome%2Fann/docs", "{wanted}");
        }
        assert_eq!(full(&["/etc", "/home/ann"], "/home/anna"), "/home/anna");
    }

    /// The absolute path of nothing in a snapshot of `/` was found: its root ends in a slash already.
    #[test]
    fn absolute_paths_lead_into_a_snapshot_of_the_whole_system() {
        assert_eq!(full(&["/"], "/etc/hosts"), "%2F/etc/hosts");
        assert_eq!(full(&["/"], "/"), "%2F");
        assert_eq!(full(&["/"], "etc"), "%2F/etc");
    }
}
