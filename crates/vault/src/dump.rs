//! One file of a snapshot as a stream of its bytes, or a folder as a tar archive.
//!
//! - **Owns** the promise that a stream which ends well holds what the snapshot says.
//! - **Does not** know where the stream goes.
//!
//! # Invariants
//! - **U1** A file's last bytes are written only after its hash was compared: a file that is not what the snapshot says is cut
//!   short, never complete and wrong.
//! - **U2** An archive that could not be finished cannot be taken for a whole one: it announces bytes that do not follow.

mod archive;

use std::io::{self, Write};

use blockhouse_crypto::hash::ContentHasher;
use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_types::EntryKind;

use crate::find::entry_at;
use crate::reader::{self, ChunkReader, OpenedSnapshot, Piece, ReadTreeError};
use crate::receipt::full_path;
use crate::restore::root_paths;

use self::archive::Archive;

/// Zeros that are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Files, each of several names of one file once.
    pub files: u64,
    /// Their bytes, holes as zeros.
    pub bytes: u64,
    /// What an archive cannot hold, or the snapshot has by name only.
    pub left_out: Vec<LeftOut>,
}

/// Something that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where, as in the archive.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// A part of the snapshot cannot be read.
    #[error("the snapshot could not be read at `{}`", path.escape_ascii())]
    Read {
        path: Vec<u8>,
        #[source]
        source: ReadTreeError,
    },
    /// A file is not what the snapshot says.
    #[error("file `{}` does not have the bytes that the snapshot says; what was written of it is cut short", path.escape_ascii())]
    OtherContent { path: Vec<u8> },
    /// It is not there.
    #[error("the snapshot has no entry `{}`", path.escape_ascii())]
    NoEntry { path: Vec<u8> },
    /// It has no bytes.
    #[error("`{}` is neither a file nor a folder, it has no bytes to write", path.escape_ascii())]
    NoBytes { path: Vec<u8>, kind: EntryKind },
    /// The backup could not read it.
    #[error("`{}` could not be read when the snapshot was made: {reason}", path.escape_ascii())]
    NotInSnapshot { path: Vec<u8>, reason: String },
    /// The stream.
    #[error("the output could not be written")]
    Write(#[from] io::Error),
}

/// What is to be dumped.
#[derive(Debug)]
pub struct Dump {
    opened: OpenedSnapshot,
    path: Vec<u8>,
    what: What,
}

/// Files go out as they are, everything else as an archive.
#[derive(Debug)]
enum What {
    File {
        content: Content,
        hash: [u8; 32],
    },
    /// Entries with their paths in the archive.
    Archive(Vec<(Vec<u8>, Entry)>),
}

impl Dump {
    /// Looks the path up; the whole snapshot if there is none. With `as_archive` a file is an archive too. Blocks.
    pub fn find(mut opened: OpenedSnapshot, path: Option<&[u8]>, as_archive: bool) -> Result<Self, DumpError> {
        let failed = |source| DumpError::Read { path: path.unwrap_or_default().to_vec(), source };
        let root = opened.manifest.root.clone();
        let roots = reader::list(&mut opened.chunks, b"", &root).map_err(failed)?;
        let Some(path) = path else {
            let names = root_paths(&roots).into_iter().map(|path| path.as_bytes().to_vec());
            let what = What::Archive(names.zip(roots).collect());
            return Ok(Self { opened, path: Vec::new(), what });
        };
        let trimmed = trim(path);
        let entry = entry_at(&mut opened, &full_path(&roots, trimmed)).map_err(failed)?;
        let entry = entry.ok_or_else(|| DumpError::NoEntry { path: path.to_vec() })?;
        let what = match entry.body {
            Body::File { content, hash } if !as_archive => What::File { content, hash },
            Body::Directory(_) => What::Archive(vec![(Vec::new(), entry)]),
            Body::Unreadable { reason, .. } => return Err(DumpError::NotInSnapshot { path: path.to_vec(), reason }),
            _ if as_archive => {
                let name = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                What::Archive(vec![(name, entry)])
            }
            body => return Err(DumpError::NoBytes { path: path.to_vec(), kind: body.kind() }),
        };
        Ok(Self { opened, path: path.to_vec(), what })
    }

    /// True if it is an archive.
    pub const fn is_archive(&self) -> bool {
        matches!(self.what, What::Archive(_))
    }

    /// Writes all of it. Blocks.
    pub fn write(self, to: &mut dyn Write) -> Result<Dumped, DumpError> {
        let mut chunks = self.opened.chunks;
        match self.what {
            What::File { content, hash } => {
                file(&mut chunks, (&content, &hash), &self.path, to)?;
                to.flush()?;
                Ok(Dumped { files: 1, bytes: content.length(), left_out: Vec::new() })
            }
            What::Archive(entries) => {
                let mut archive = Archive::new(to);
                let done = entries.into_iter().try_for_each(|(path, entry)| archive.tree(&mut chunks, path, entry));
                archive.end(done)
            }
        }
    }
}

fn trim(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let [rest @ .., b'/'] = path
        && !rest.is_empty()
    {
        path = rest;
    }
    path
}

/// Writes the bytes of a file, the last of them only if all are right (U1).
fn file(
    chunks: &mut ChunkReader,
    (content, hash): (&Content, &[u8; 32]),
    path: &[u8],
    to: &mut dyn Write,
) -> Result<(), DumpError> {
    let (mut hasher, mut held) = (ContentHasher::new(), Held::default());
    let done = reader::pieces(chunks, content, |piece| -> Result<(), PieceError> {
        held.write(to)?;
        match piece {
            Piece::Bytes(bytes) => {
                hasher.update(bytes);
                held.bytes.extend_from_slice(bytes);
            }
            Piece::Hole(length) => {
                hasher.update_zeros(length);
                held.zeros = length;
            }
        }
        Ok(())
    });
    done.map_err(|error| error.at(path))?;
    if hasher.finish() != *hash {
        return Err(DumpError::OtherContent { path: path.to_vec() });
    }
    Ok(held.write(to)?)
}

/// The piece that waits until the next one is there, or the end was checked.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    zeros: u64,
}

impl Held {
    fn write(&mut self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&self.bytes)?;
        self.bytes.clear();
        while self.zeros > 0 {
            let step = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(ZEROS.len());
            to.write_all(ZEROS.get(..step).unwrap_or_default())?;
            self.zeros -= step as u64;
        }
        Ok(())
    }
}

/// Why a piece of a file did not come or did not go.
enum PieceError {
    Read(ReadTreeError),
    Write(io::Error),
}

impl PieceError {
    fn at(self, path: &[u8]) -> DumpError {
        match self {
            Self::Read(source) => DumpError::Read { path: path.to_vec(), source },
            Self::Write(error) => DumpError::Write(error),
        }
    }
}

impl From<ReadTreeError> for PieceError {
    fn from(error: ReadTreeError) -> Self {
        Self::Read(error)
    }
}

impl From<io::Error> for PieceError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
