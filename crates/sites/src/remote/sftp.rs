//! SFTP servers, over one connection of the user's own `ssh`.
//!
//! - **Owns** the write order: a temporary file, synced where the server can, linked to its name, unlinked.
//! - **Does not** use `opendal`'s service: that one renames over existing names, and opens a connection for every call.
//!
//! Keys, agents, jump hosts and known hosts are ssh's business and its configuration's.

mod connection;
mod reads;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blockhouse_types::limits::KIB;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use opendal::{OperationContext, Operator};
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::{Error, Sftp};
use tokio::io::AsyncSeekExt;

use super::{Made, Root, Word, is_marker, temporary_path};
use crate::disk::{Space, split};
use crate::error::Cause;
use crate::file_layer::TEMPORARY_FOLDER;
use crate::key::ObjectKey;
use crate::url::SftpPlace;
use connection::{Connection, is_failure, is_missing};

/// What one request carries: the most that OpenSSH takes. A server that takes less is sent it in parts.
const PIECE: usize = 255 * KIB;
/// Requests of one transfer that are under way: 16 MiB take four round trips.
const IN_FLIGHT: usize = 16;

/// The write side of a folder of an SFTP server.
#[derive(Debug)]
pub(super) struct SftpWriter {
    connection: Arc<Connection>,
    root: PathBuf,
    /// Folders that this process has seen or made.
    folders: Mutex<HashSet<String>>,
}

pub(super) fn open(place: &SftpPlace, stall: Duration) -> (Operator, SftpWriter) {
    let connection = Arc::new(Connection::new(place.clone(), stall));
    let root = PathBuf::from(&place.path);
    let operator = operator_at(&connection, &root);
    (operator, SftpWriter { connection, root, folders: Mutex::default() })
}

/// The files below a folder.
fn operator_at(connection: &Arc<Connection>, folder: &Path) -> Operator {
    let reads = reads::SftpReads::new(connection.clone(), folder.to_owned());
    Operator::from_parts(OperationContext::default(), Arc::new(reads))
}

impl SftpWriter {
    /// The folders that the site's own lies in.
    pub(super) fn above(&self) -> Vec<Operator> {
        self.root.ancestors().skip(1).map(|folder| operator_at(&self.connection, folder)).collect()
    }

    pub(super) async fn make_root(&self) -> Result<Root, Cause> {
        let root = self.root.clone();
        let made = self.connection.run(async |sftp| make_folder(sftp, &root).await).await?;
        Ok(if made { Root::Ready } else { Root::NoParent })
    }

    pub(super) async fn create(&self, path: &str, bytes: &Bytes) -> Result<Made, Cause> {
        let temporary = temporary_path();
        if !self.write_temporary(path, &temporary, bytes).await? {
            return Ok(Made::NoSite);
        }
        let mut linked = self.link(&temporary, path).await;
        if matches!(linked, Err(Cause::NotFound)) {
            self.folders().clear();
            linked = match self.make_folders(path, split(path).0).await {
                Ok(true) => self.link(&temporary, path).await,
                Ok(false) => Ok(Made::NoSite),
                Err(cause) => Err(cause),
            };
        }
        let (from, to) = (self.at(&temporary), self.at(path));
        // A later sweep takes what cannot be removed now: the outcome is the one to report.
        let _ = self.connection.run(async |sftp| sftp.fs().remove_file(&from).await).await;
        if matches!(linked, Ok(Made::New)) {
            // The link had its name before; now it is seen that it leads to what was written.
            self.connection.run(async |sftp| sftp.fs().symlink_metadata(&to).await.map(drop)).await?;
        }
        linked
    }

    /// Writes the temporary file; false if `.tmp` is missing because the site is.
    async fn write_temporary(&self, object: &str, temporary: &str, bytes: &Bytes) -> Result<bool, Cause> {
        let to = self.at(temporary);
        let write = || self.connection.run(async |sftp| write_new(sftp, &self.connection, &to, bytes).await);
        match write().await {
            Err(Cause::NotFound) if self.make_folders(object, TEMPORARY_FOLDER).await? => write().await.map(|()| true),
            Err(Cause::NotFound) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Gives a temporary file its name.
    async fn link(&self, temporary: &str, path: &str) -> Result<Made, Cause> {
        let (from, to) = (self.at(temporary), self.at(path));
        self.connection.run(async |sftp| link(sftp, &from, &to).await).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<bool, Cause> {
        let path = self.at(path);
        match self.connection.run(async |sftp| sftp.fs().remove_file(&path).await).await {
            Ok(()) => Ok(true),
            Err(Cause::NotFound) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    pub(super) async fn settle(&self, path: &str) -> Result<bool, Cause> {
        let path = self.at(path);
        let settled = self.connection.run(async |sftp| {
            // A server that lets only writers sync has taken the bytes before it answered.
            let mut file = sftp.open(&path).await?;
            let _ = sync(sftp, &mut file).await;
            file.close().await
        });
        match settled.await {
            Ok(()) => Ok(true),
            Err(Cause::NotFound) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    pub(super) async fn word(&self) -> Result<Word, Cause> {
        let word = |sftp: &Sftp| Word { atomic_create: sftp.support_hardlink(), synced: sftp.support_fsync() };
        self.connection.run(async |sftp| Ok(word(sftp))).await
    }

    pub(super) async fn space(&self) -> Option<Space> {
        let root = self.root.clone();
        let found = self.connection.run(async |sftp| sftp.fs().statvfs(&root).await).await.ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.frsize);
        Some(Space { free: bytes(found.bavail), total: bytes(found.blocks) })
    }

    /// Makes a folder and those above it for an object to come; false if they are missing because the site is.
    async fn make_folders(&self, object: &str, folder: &str) -> Result<bool, Cause> {
        if !is_marker(object) {
            let marker = self.at(&ObjectKey::Marker.path());
            match self.connection.run(async |sftp| sftp.fs().metadata(&marker).await.map(drop)).await {
                Err(Cause::NotFound) => return Ok(false),
                found => found?,
            }
        }
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        for part in ends.filter_map(|end| folder.get(..end)).filter(|part| !part.is_empty()) {
            if self.folders().contains(part) {
                continue;
            }
            let path = self.at(part);
            if !self.connection.run(async |sftp| make_folder(sftp, &path).await).await? {
                return Ok(false);
            }
            self.folders().insert(part.to_owned());
        }
        Ok(true)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A panic elsewhere cannot have left the set half-changed.
    fn folders(&self) -> MutexGuard<'_, HashSet<String>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder; true if it is there now, false if the one above is missing.
async fn make_folder(sftp: &Sftp, path: &Path) -> Result<bool, Error> {
    match sftp.fs().create_dir(path).await {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        // Version 3 of the protocol has no word for what exists.
        Err(error) => match sftp.fs().metadata(path).await {
            Ok(found) if found.file_type().is_some_and(|kind| kind.is_dir()) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Writes a file that must not exist, and syncs it where the server can.
async fn write_new(sftp: &Sftp, connection: &Connection, path: &Path, bytes: &Bytes) -> Result<(), Error> {
    let mut file = sftp.options().write(true).create_new(true).open(path).await?;
    let offsets = (0..bytes.len()).step_by(PIECE);
    let pieces = offsets.map(|offset| (file.clone(), offset, bytes.slice(offset..bytes.len().min(offset + PIECE))));
    let writes =
        stream::iter(pieces.collect::<Vec<_>>()).map(async |(mut file, offset, piece): (File, usize, Bytes)| {
            file.seek(std::io::SeekFrom::Start(offset as u64)).await?;
            let written = file.write_all(&piece).await;
            connection.note_answer();
            written
        });
    writes.buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
    sync(sftp, &mut file).await?;
    file.close().await
}

async fn sync(sftp: &Sftp, file: &mut File) -> Result<(), Error> {
    if sftp.support_fsync() { file.sync_all().await } else { Ok(()) }
}

/// Gives a file a second name, which must be free; by a rename where the server knows no links.
async fn link(sftp: &Sftp, from: &Path, to: &Path) -> Result<Made, Error> {
    let exists = async || sftp.fs().symlink_metadata(to).await.is_ok();
    if sftp.support_hardlink() {
        match sftp.fs().hard_link(from, to).await {
            Ok(()) => return Ok(Made::New),
            Err(error) if is_missing(&error) => return Err(error),
            Err(error) if exists().await => return if is_failure(&error) { Ok(Made::Taken) } else { Err(error) },
            // The file system below knows none either.
            Err(error) if is_failure(&error) || matches!(&error, Error::SftpError(SftpErrorKind::OpUnsupported, _)) => {
            }
            Err(error) => return Err(error),
        }
    }
    // A rename may replace, so it is looked first.
    if exists().await {
        return Ok(Made::Taken);
    }
    sftp.fs().rename(from, to).await.map(|()| Made::New)
}
