//! Which source a backup is of: known by its name, or by host and paths.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use blockhouse_sources::files::{FilesSource, encode_root_name};
use blockhouse_types::SourceId;

use super::{BackupError, BackupRequest};
use crate::folder::{Config, SourceEntry};
use crate::vault::Vault;

/// The source's id; a new source is entered in the host's configuration.
pub(super) fn enrol(vault: &Vault, request: &BackupRequest, files: &FilesSource) -> Result<SourceId, BackupError> {
    let roots = roots(files);
    let (_, id) = Config::update(vault.folder(), |config| find_or_enter(config, request, &roots))?;
    Ok(id)
}

/// The source's id, if this host knows it.
pub(super) fn find(config: &Config, request: &BackupRequest, files: &FilesSource) -> Option<SourceId> {
    let roots = roots(files);
    config.sources.iter().find(|(_, entry)| is_it(entry, request, &roots)).map(|(id, _)| *id)
}

fn roots(files: &FilesSource) -> Vec<String> {
    files.roots().iter().map(|root| readable(root.path.as_os_str().as_bytes())).collect()
}

/// Copies are of sources of their own.
fn is_it(entry: &SourceEntry, request: &BackupRequest, roots: &[String]) -> bool {
    if entry.copied_from.is_some() {
        return false;
    }
    match &request.source {
        Some(name) => entry.name == *name,
        None => entry.host == request.host && entry.roots == roots,
    }
}

fn find_or_enter(config: &mut Config, request: &BackupRequest, roots: &[String]) -> SourceId {
    if let Some((id, entry)) = config.sources.iter_mut().find(|(_, entry)| is_it(entry, request, roots)) {
        entry.roots = roots.to_vec();
        return *id;
    }
    let id = SourceId::new(rand::random());
    let name = request.source.clone().unwrap_or_else(|| roots.join(" "));
    let (host, tags) = (request.host.clone(), BTreeMap::new());
    let entry = SourceEntry { name, host, roots: roots.to_vec(), tags, copied_from: None };
    config.sources.insert(id, entry);
    id
}

/// A path as text: itself where it is UTF-8, else percent-encoded.
pub(crate) fn readable(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) => text.to_owned(),
        Err(_) => encode_root_name(path).escape_ascii().to_string(),
    }
}
