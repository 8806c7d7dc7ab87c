//! Which source a backup is of: known by its name, or by host and paths.

use std::os::unix::ffi::OsStrExt;

use blockhouse_sources::files::{FilesSource, encode_root_name};
use blockhouse_sources::stream::StreamSource;
use blockhouse_types::SourceId;

use super::{BackupError, BackupRequest};
use crate::folder::{Config, SourceEntry};
use crate::vault::Vault;

/// What is to be backed up, found and not yet read.
#[derive(Debug)]
pub(super) enum Opened {
    /// Folders and files.
    Files(Box<FilesSource>),
    /// A stream.
    Stream(StreamSource),
}

impl Opened {
    /// The canonical paths of the roots; of a stream the name of its file, which is no absolute path.
    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Files(files) => files.roots().iter().map(|root| root.path.as_os_str().as_bytes().to_vec()).collect(),
            Self::Stream(stream) => vec![stream.name().to_vec()],
        }
    }
}

/// The source's id; a new source is entered in the host's configuration.
pub(super) fn enrol(vault: &Vault, request: &BackupRequest, opened: &Opened) -> Result<SourceId, BackupError> {
    let roots = roots(opened);
    let (_, id) = Config::update(vault.folder(), |config| find_or_enter(config, request, &roots))?;
    Ok(id)
}

/// The source's id, if this host knows it.
pub(super) fn find(config: &Config, request: &BackupRequest, opened: &Opened) -> Option<SourceId> {
    let roots = roots(opened);
    config.sources.iter().find(|(_, entry)| is_it(entry, request, &roots)).map(|(id, _)| *id)
}

fn roots(opened: &Opened) -> Vec<String> {
    opened.roots().iter().map(|root| readable(root)).collect()
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
    let entry = SourceEntry { name, host: request.host.clone(), roots: roots.to_vec(), ..SourceEntry::default() };
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
