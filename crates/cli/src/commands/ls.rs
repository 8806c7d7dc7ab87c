//! `blockhouse ls`

use std::ffi::OsString;

use anyhow::Context;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::decode_root_name;
use blockhouse_vault::reader::{self, OpenedSnapshot, ReadTreeError};
use blockhouse_vault::receipt::full_path;
use blockhouse_vault::restore::root_paths;
use blockhouse_vault::select::{self, PlaceRef};
use clap::Args;
use serde_json::json;

use crate::arguments::{Global, Selectors, joined, place_parser};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::{opening, text};

/// List what is in a snapshot, with the paths as `restore` writes them
///
/// Each line shows kind and mode, user, group, length, time of the last change and path. Kinds: d folder, - file, l link, p pipe,
/// c and b devices, s socket, ? could not be read.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse ls latest letters --identity ~/owner.identity"))]
pub(crate) struct LsArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`; with `:PATH` after it only what stands there, with paths from there
    /// on (`latest::PATH`)
    #[arg(value_name = "SNAP", value_parser = place_parser())]
    snapshot: PlaceRef,
    /// Only this entry and what is below it, from that path on if there is one
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: LsArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::reader(global, out).await?;
    let place = select::place(&vault, &args.snapshot, &args.selectors.into()).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "ls")?;
    let opened = reader::open(&vault, &unlocked, place.known.record).await?;
    let (out, start) = (out.clone(), place.path);
    let below = joined(start.clone(), args.path);
    let asked = below.clone().unwrap_or_default();
    let work = move || list(opened, start.as_deref(), below.as_deref(), &out);
    let found = tokio::task::spawn_blocking(work).await.context("the listing was stopped")??;
    if found { Ok(Exit::Success) } else { Err(Refusal::NoEntry { path: text::path(&asked) }.into()) }
}

/// Why a listing ended early.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error("the tree of the snapshot could not be read")]
    Read(#[from] ReadTreeError),
    #[error(transparent)]
    Output(#[from] crate::output::OutputError),
}

/// Prints the entries at and below a path, each with its path from `start` on; true if there was one.
fn list(opened: OpenedSnapshot, start: Option<&[u8]>, below: Option<&[u8]>, out: &Output) -> anyhow::Result<bool> {
    let mut chunks = opened.chunks;
    let roots = reader::list(&mut chunks, b"", &opened.manifest.root)?;
    let restored: Vec<(Vec<u8>, Vec<u8>)> = roots
        .iter()
        .zip(root_paths(&roots))
        .map(|(root, path)| (root.name.clone(), path.as_bytes().to_vec()))
        .collect();
    let wanted = below.map(|path| full_path(&roots, path));
    let start = start.map(|path| full_path(&roots, path));
    let mut any = false;
    reader::walk(&mut chunks, &opened.manifest.root, &mut |_, path, entry| -> Result<bool, ListError> {
        let is_in = wanted.as_ref().is_none_or(|wanted| is_at_or_below(path, wanted));
        let leads_there = wanted.as_ref().is_some_and(|wanted| is_at_or_below(wanted, path));
        if is_in {
            any = true;
            let shown = match &start {
                None => as_restored(&restored, path),
                Some(start) => from_start(start, path, matches!(entry.body, Body::Directory(_))),
            };
            print(&shown, entry, out)?;
        }
        Ok(is_in || leads_there)
    })
    .map_err(|error| match error {
        ListError::Output(error) => anyhow::Error::from(error),
        error @ ListError::Read(_) => error.into(),
    })?;
    Ok(any || wanted.is_none())
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The path in the target of a restore.
fn as_restored(roots: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Vec<u8> {
    let within = |(name, target): &(Vec<u8>, Vec<u8>)| {
        let rest = path.strip_prefix(&name[..]).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))?;
        Some(match (target.is_empty(), rest.strip_prefix(b"/")) {
            (true, None) => b".".to_vec(),
            (true, Some(rest)) => rest.to_vec(),
            (false, _) => [target, rest].concat(),
        })
    };
    roots.iter().find_map(within).unwrap_or_else(|| path.to_vec())
}

/// The path in the target of a restore of what stands at `start`.
fn from_start(start: &[u8], path: &[u8], is_folder: bool) -> Vec<u8> {
    let below = path.strip_prefix(start).unwrap_or(path);
    match below.strip_prefix(b"/") {
        Some(below) => below.to_vec(),
        None if is_folder => b".".to_vec(),
        None => {
            // The name of a root is a whole path.
            let path = decode_root_name(path).unwrap_or_else(|_| path.to_vec());
            path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
        }
    }
}

fn print(path: &[u8], entry: &Entry, out: &Output) -> Result<(), crate::output::OutputError> {
    let (size, target) = match &entry.body {
        Body::File { content, .. } => (content.length(), None),
        Body::Symlink { target } => (0, Some(text::path(target))),
        _ => (0, None),
    };
    let metadata = &entry.metadata;
    let (kind, name) = (entry.body.kind(), text::path(path));
    out.record(&json!({
        "type": "entry",
        "path": name,
        "kind": kind,
        "size": size,
        "mode": format!("{:04o}", metadata.mode),
        "uid": metadata.uid,
        "gid": metadata.gid,
        "mtime": metadata.mtime.seconds,
        "mtime_nanoseconds": metadata.mtime.nanoseconds,
        "target": target,
    }))?;
    let letter = match &entry.body {
        Body::Directory(_) => 'd',
        Body::File { .. } => '-',
        Body::Symlink { .. } => 'l',
        Body::Fifo => 'p',
        Body::CharDevice(_) => 'c',
        Body::BlockDevice(_) => 'b',
        Body::Socket => 's',
        Body::Unreadable { .. } => '?',
    };
    let arrow = target.map(|target| format!(" -> {target}")).unwrap_or_default();
    let time = text::moment(u64::try_from(metadata.mtime.seconds).unwrap_or(0));
    out.data(format_args!(
        "{letter}{:04o} {:>5} {:>5} {size:>12} {time} {name}{arrow}",
        metadata.mode, metadata.uid, metadata.gid
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_restore_writes_them() {
        let one = [(b"%2Fa".to_vec(), Vec::new())];
        assert_eq!(as_restored(&one, b"%2Fa"), b".");
        assert_eq!(as_restored(&one, b"%2Fa/b/c"), b"b/c");
        let two = [(b"%2Fa".to_vec(), b"a".to_vec()), (b"%2Fab".to_vec(), b"ab".to_vec())];
        assert_eq!(as_restored(&two, b"%2Fab/c"), b"ab/c");
        assert_eq!(as_restored(&two, b"%2Fa"), b"a");
    }

    #[test]
    fn below_means_whole_names() {
        assert!(is_at_or_below(b"a/b", b"a") && is_at_or_below(b"a", b"a"));
        assert!(!is_at_or_below(b"ab", b"a"));
    }

    #[test]
    fn paths_from_a_start_on_are_as_restore_writes_them() {
        assert_eq!(from_start(b"%2Fa/b", b"%2Fa/b", true), b".");
        assert_eq!(from_start(b"%2Fa/b", b"%2Fa/b/c/d", false), b"c/d");
        assert_eq!(from_start(b"%2Fa/b/c", b"%2Fa/b/c", false), b"c");
        assert_eq!(from_start(b"%2Fa%2Fb", b"%2Fa%2Fb", false), b"b");
    }
}
