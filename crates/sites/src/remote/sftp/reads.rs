//! The read side of an SFTP server as a service of `opendal`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_types::limits::{MIB, PACK_MAX};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use opendal::raw::{
    OpCopy, OpCreateDir, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign, RpRead,
    RpRename, RpStat, Service, ServiceInfo, oio,
};
use opendal::{
    Buffer, BytesRange, Capability, EntryMode, ErrorKind, Metadata, MetadataBuilder, OperationContext, Result,
};
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::metadata::MetaData;
use openssh_sftp_client::{Error, Sftp};
use tokio::io::AsyncSeekExt;

use super::connection::Connection;
use super::{IN_FLIGHT, PIECE};
use crate::error::{Cause, Silence};

/// No object is longer: a server that says so is not believed.
const WHOLE_MAX: u64 = (PACK_MAX + MIB) as u64;

/// A folder of an SFTP server, to read.
#[derive(Debug, Clone)]
pub(super) struct SftpReads {
    connection: Arc<Connection>,
    root: PathBuf,
}

impl SftpReads {
    pub(super) fn new(connection: Arc<Connection>, root: PathBuf) -> Self {
        Self { connection, root }
    }

    async fn read_bytes(&self, path: &str, range: BytesRange) -> Result<Bytes> {
        let path = self.root.join(path);
        let read = self.connection.run(async |sftp| {
            let mut file = sftp.open(&path).await?;
            let length = match range.size() {
                Some(size) => size,
                None => file.metadata().await?.len().unwrap_or(0).saturating_sub(range.offset()),
            };
            if length > WHOLE_MAX {
                return Ok(None);
            }
            let bytes = read_pieces(&self.connection, &file, range.offset(), length).await?;
            file.close().await?;
            Ok(Some(bytes))
        });
        let too_long = || opendal::Error::new(ErrorKind::Unexpected, "the file is longer than any object");
        read.await.map_err(to_storage)?.ok_or_else(too_long)
    }

    async fn list_folder(&self, folder: &str) -> Result<Vec<oio::Entry>> {
        let path = self.root.join(folder);
        let listed = self.connection.run(async |sftp| list(sftp, &path).await).await;
        let found = match listed {
            Err(Cause::NotFound) => return Ok(Vec::new()),
            found => found.map_err(to_storage)?,
        };
        let entry = |(name, metadata): (String, Metadata)| {
            let mark = if metadata.mode() == EntryMode::DIR { "/" } else { "" };
            oio::Entry::new(&format!("{folder}{name}{mark}"), metadata)
        };
        Ok(found.into_iter().map(entry).collect())
    }
}

/// Reads a part of a file with many requests under way; what is past its end is left out.
async fn read_pieces(
    connection: &Connection,
    file: &File,
    offset: u64,
    length: u64,
) -> std::result::Result<Bytes, Error> {
    let piece = PIECE as u64;
    let count = length.div_ceil(piece);
    let places = (0..count).map(|number| {
        let begin = number * piece;
        (file.clone(), offset + begin, piece.min(length - begin))
    });
    let reads = stream::iter(places.collect::<Vec<_>>())
        .map(async |(file, offset, length)| read_piece(connection, file, offset, length).await);
    let pieces: Vec<BytesMut> = reads.buffered(IN_FLIGHT).try_collect().await?;
    let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    for piece in pieces {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// A server may answer with less than it was asked for, and then it is asked for the rest.
async fn read_piece(
    connection: &Connection,
    mut file: File,
    offset: u64,
    length: u64,
) -> std::result::Result<BytesMut, Error> {
    let mut bytes = BytesMut::new();
    while (bytes.len() as u64) < length {
        let done = bytes.len() as u64;
        file.seek(std::io::SeekFrom::Start(offset + done)).await?;
        let left = u32::try_from(length - done).unwrap_or(u32::MAX);
        let read = file.read(left, BytesMut::new()).await;
        connection.note_answer();
        match read? {
            Some(more) if !more.is_empty() => bytes.extend_from_slice(&more),
            _ => break,
        }
    }
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(bytes)
}

async fn list(sftp: &Sftp, path: &Path) -> std::result::Result<Vec<(String, Metadata)>, Error> {
    let folder = match sftp.fs().open_dir(path).await {
        // A file where a folder should be: nothing can be below it.
        Err(error @ Error::SftpError(SftpErrorKind::Failure, _)) => {
            let found = sftp.fs().metadata(path).await;
            return if found.is_ok_and(|found| found.file_type().is_some_and(|kind| !kind.is_dir())) {
                Ok(Vec::new())
            } else {
                Err(error)
            };
        }
        folder => folder?,
    };
    let mut entries = Box::pin(folder.read_dir());
    let mut found = Vec::new();
    while let Some(entry) = entries.try_next().await? {
        // A name that is not UTF-8 is none of ours; replaced, it is a stranger's too.
        let name = entry.filename().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "." | "..") && !name.contains('/') {
            found.push((name, metadata_of(&entry.metadata())));
        }
    }
    Ok(found)
}

fn metadata_of(found: &MetaData) -> Metadata {
    let kind = found.file_type();
    let mut metadata = match (kind, found.len()) {
        (Some(kind), Some(length)) if kind.is_file() => MetadataBuilder::file(length),
        (Some(kind), _) if kind.is_dir() => MetadataBuilder::dir(),
        _ => MetadataBuilder::unknown(),
    };
    if let Some(time) = found.modified().and_then(|time| time.as_system_time().try_into().ok()) {
        metadata.last_modified(time);
    }
    metadata.build()
}

/// The failure as `opendal` has it; [`Cause::from`] finds it again.
fn to_storage(cause: Cause) -> opendal::Error {
    match cause {
        Cause::NotFound => opendal::Error::new(ErrorKind::NotFound, "no such file"),
        Cause::Service(failure) => {
            let error = opendal::Error::new(ErrorKind::Unexpected, failure.said.clone());
            let error = if failure.is_passing { error.set_temporary() } else { error };
            error.set_source(failure)
        }
        Cause::Deadline { allowed } => {
            opendal::Error::new(ErrorKind::Unexpected, "the server is silent").set_source(Silence { allowed })
        }
        other => opendal::Error::new(ErrorKind::Unexpected, other.to_string()),
    }
}

fn unsupported() -> opendal::Error {
    opendal::Error::new(ErrorKind::Unsupported, "writes go through the layer of the site")
}

impl Service for SftpReads {
    type Reader = oio::StreamReader<SftpReader>;
    type Writer = ();
    type Lister = SftpLister;
    type Deleter = ();
    type Copier = ();
    type Composer = ();

    fn info(&self) -> ServiceInfo {
        ServiceInfo::new("sftp", self.root.to_string_lossy(), "")
    }

    fn capability(&self) -> Capability {
        Capability {
            stat: true,
            read: true,
            list: true,
            list_with_recursive: true,
            shared: true,
            ..Capability::default()
        }
    }

    async fn create_dir(&self, _: &OperationContext, _: &str, _: OpCreateDir) -> Result<RpCreateDir> {
        Err(unsupported())
    }

    async fn stat(&self, _: &OperationContext, path: &str, _: OpStat) -> Result<RpStat> {
        let path = self.root.join(path);
        let found = self.connection.run(async |sftp| sftp.fs().symlink_metadata(&path).await).await;
        found.map(|found| RpStat::new(metadata_of(&found))).map_err(to_storage)
    }

    fn read(&self, _: &OperationContext, path: &str, _: OpRead) -> Result<Self::Reader> {
        Ok(oio::StreamReader::new(SftpReader { reads: self.clone(), path: path.to_owned() }))
    }

    fn write(&self, _: &OperationContext, _: &str, _: OpWrite) -> Result<Self::Writer> {
        Err(unsupported())
    }

    fn delete(&self, _: &OperationContext) -> Result<Self::Deleter> {
        Err(unsupported())
    }

    fn list(&self, _: &OperationContext, path: &str, args: OpList) -> Result<Self::Lister> {
        let first = if path == "/" { String::new() } else { path.to_owned() };
        Ok(SftpLister { reads: self.clone(), folders: vec![first], found: Vec::new(), deep: args.recursive() })
    }

    fn copy(&self, _: &OperationContext, _: &str, _: &str, _: OpCopy) -> Result<Self::Copier> {
        Err(unsupported())
    }

    async fn rename(&self, _: &OperationContext, _: &str, _: &str, _: OpRename) -> Result<RpRename> {
        Err(unsupported())
    }

    async fn presign(&self, _: &OperationContext, _: &str, _: OpPresign) -> Result<RpPresign> {
        Err(unsupported())
    }
}

pub(super) struct SftpReader {
    reads: SftpReads,
    path: String,
}

impl oio::StreamRead for SftpReader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let bytes = self.reads.read_bytes(&self.path, range).await?;
        let stream: Box<dyn oio::ReadStreamDyn> = Box::new(Once(Some(bytes)));
        Ok((RpRead::default(), stream))
    }
}

/// Bytes that are there already, given once.
struct Once(Option<Bytes>);

impl oio::ReadStream for Once {
    async fn read(&mut self) -> Result<Buffer> {
        Ok(self.0.take().map_or_else(Buffer::new, Buffer::from))
    }
}

/// The files below a folder, folder by folder.
pub(super) struct SftpLister {
    reads: SftpReads,
    folders: Vec<String>,
    found: Vec<oio::Entry>,
    deep: bool,
}

impl oio::List for SftpLister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        loop {
            if let Some(entry) = self.found.pop() {
                if self.deep && entry.mode() == EntryMode::DIR {
                    self.folders.push(entry.path().to_owned());
                }
                return Ok(Some(entry));
            }
            let Some(folder) = self.folders.pop() else { return Ok(None) };
            self.found = self.reads.list_folder(&folder).await?;
        }
    }
}
