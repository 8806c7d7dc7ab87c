//! What the last backup of a source saw: so that unchanged files are recognised without reading them.
//!
//! - **Owns** one file per source, made anew by each run and put in the place of the old one after the commit.
//! - **Does not** outlive a file's presence: it holds chunk keys only of files that were there at the last run. That is the promise
//!   that a stolen backup host opens nothing that was gone before.
//!
//! Records stand in the order of the walk, one per folder, so that reading follows the walk and memory holds one folder.
//!
//! # Invariants
//! - **F1** A record that was altered or cut short is never believed; what follows it is ignored.
//! - **F3** A cache speaks for the domain that its chunks were named in: for any other it is as an empty one.
//!
//! Format: `docs/design/host-files.md`, section *File cache*.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use blockhouse_crypto::hash;
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::domain::DomainKey;
use blockhouse_sources::files::Identity;
use blockhouse_types::{ChunkId, DecodeError, Decoder, Encoder, SessionId, SourceId, Timestamp};

const MAGIC: [u8; 4] = *b"BHF3";
const CONTEXT: &str = "blockhouse v2 file cache record";
const DOMAIN_CONTEXT: &str = "blockhouse v3 file cache domain";
const HASH_LEN: usize = 32;
/// How the name of a cache ends whose backup is not yet committed.
const UNFINISHED: &str = ".new";
/// More than the record of any folder that fits the memory of this machine is a sign of damage.
const RECORD_MAX: usize = 1 << 30;

/// A file as the last backup saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedFile {
    /// Its name in the folder.
    pub name: Vec<u8>,
    /// What it was.
    pub identity: Identity,
    /// Its content, encoded as in a tree.
    pub content: Vec<u8>,
    /// If its list of extents is too long to stand in `content`: the chunks that it was cut into, in their order, unless there are too many
    /// to be kept; else empty. A file that grew or was written to is compared with them.
    pub cut: Vec<ChunkRef>,
    /// Every other chunk it needs, if its list of extents is too long to stand in `content`; else empty.
    pub deep_chunks: Vec<ChunkId>,
    /// The plain BLAKE3 of its bytes.
    pub content_hash: [u8; 32],
}

/// Where a folder stands in the walk: its root, then its path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderKey {
    /// Which root.
    pub root: u32,
    /// The path below the root, empty for the root itself.
    pub path: Vec<u8>,
}

impl FolderKey {
    /// The order of the walk: a folder before what is in it, names by their bytes.
    fn walk_order(&self, other: &Self) -> Ordering {
        let names = |key: &Self| -> Vec<Vec<u8>> {
            key.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        };
        self.root.cmp(&other.root).then_with(|| names(self).cmp(&names(other)))
    }
}

/// What a cache is of: a source, and the domain that its chunks are named in. Chunks of one domain are unreadable in a snapshot of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    source: SourceId,
    domain: [u8; HASH_LEN],
}

impl Scope {
    /// The scope of a source whose chunks are named by `domain`.
    pub fn new(source: SourceId, domain: &DomainKey) -> Self {
        Self { source, domain: hash::hash(DOMAIN_CONTEXT, domain.id_subkey().expose()) }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Encoder::with_header(MAGIC);
        head.raw(self.source.as_bytes()).raw(&self.domain);
        head.finish()
    }
}

/// The path of a source's cache.
pub fn path_of(folder: &Path, source: &SourceId) -> PathBuf {
    folder.join(source.to_string())
}

/// Removes the cache of a source, durably.
pub fn remove(folder: &Path, source: &SourceId) -> io::Result<()> {
    match fs::remove_file(path_of(folder, source)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::open(folder)?.sync_all()
}

/// Writes the cache of a running backup.
#[derive(Debug)]
pub struct CacheWriter {
    target: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
}

impl CacheWriter {
    /// Begins the cache of `scope`; it takes effect with [`CacheWriter::finish`].
    pub fn create(folder: &Path, scope: &Scope, session: &SessionId) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let target = path_of(folder, &scope.source);
        let temporary = folder.join(format!("{}.{session}{UNFINISHED}", scope.source));
        let file = begin(folder, &temporary)?;
        let mut writer = Self { target, temporary, out: BufWriter::new(file) };
        writer.out.write_all(&scope.head())?;
        Ok(writer)
    }

    /// Adds the files of one folder; folders come in the order of the walk.
    pub fn folder(&mut self, key: &FolderKey, files: &[CachedFile]) -> io::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let mut record = Encoder::new();
        record.u32(key.root).bytes(&key.path).list(files.iter(), write_file);
        let sum = hash::hash(CONTEXT, record.as_slice());
        let length = u32::try_from(record.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a folder's record is over 4 GiB"))?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(record.as_slice())?;
        self.out.write_all(&sum)
    }

    /// Puts the cache in the place of the old one, which is gone from then on.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        let folder = self.target.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name; after a failure it must not stay: it holds keys.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Creates a new cache file, locked while its backup runs, and removes those that no backup holds any more: a killed one cannot
/// take back its own, and it holds keys.
fn begin(folder: &Path, path: &Path) -> io::Result<File> {
    // One process at a time, so that none removes a file between its creation and its lock.
    let alone = File::open(folder)?;
    alone.lock()?;
    for entry in fs::read_dir(folder)? {
        let left = entry?.path();
        if left.as_os_str().as_bytes().ends_with(UNFINISHED.as_bytes()) && File::open(&left)?.try_lock().is_ok() {
            fs::remove_file(&left)?;
        }
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}

/// Reads the cache of the last backup along the walk.
#[derive(Debug, Default)]
pub struct CacheReader {
    input: Option<BufReader<File>>,
    ahead: Option<(FolderKey, Vec<CachedFile>)>,
}

impl CacheReader {
    /// Opens the cache of `scope`; one that is missing, of another version or of another domain is as an empty one (F3).
    pub fn open(folder: &Path, scope: &Scope) -> Self {
        let Ok(file) = File::open(path_of(folder, &scope.source)) else { return Self::default() };
        let mut input = BufReader::new(file);
        let wanted = scope.head();
        let mut head = vec![0; wanted.len()];
        let fits = input.read_exact(&mut head).is_ok() && head == wanted;
        Self { input: fits.then_some(input), ahead: None }
    }

    /// True if the source was backed up from this host before, and the cache of that can be read.
    pub const fn is_there(&self) -> bool {
        self.input.is_some()
    }

    /// The files of a folder; folders are asked for in the order of the walk.
    pub fn folder(&mut self, key: &FolderKey) -> Vec<CachedFile> {
        self.pass(key, &mut |_, _| ())
    }

    /// The same; what the walk has passed by, for it is not there any more, is handed out.
    pub fn pass(&mut self, key: &FolderKey, passed: &mut impl FnMut(FolderKey, Vec<CachedFile>)) -> Vec<CachedFile> {
        loop {
            if self.ahead.is_none() {
                self.ahead = self.next_record();
            }
            match (self.ahead.as_ref().map(|(ahead, _)| ahead.walk_order(key)), self.ahead.take()) {
                (Some(Ordering::Less), Some((ahead, files))) => passed(ahead, files),
                (Some(Ordering::Equal), Some((_, files))) => return files,
                (_, ahead) => {
                    self.ahead = ahead;
                    return Vec::new();
                }
            }
        }
    }

    /// Hands out what is left when the walk has ended.
    pub fn pass_rest(&mut self, passed: &mut impl FnMut(FolderKey, Vec<CachedFile>)) {
        while let Some((key, files)) = self.ahead.take().or_else(|| self.next_record()) {
            passed(key, files);
        }
    }

    fn next_record(&mut self) -> Option<(FolderKey, Vec<CachedFile>)> {
        let record = self.input.as_mut().and_then(read_record);
        if record.is_none() {
            self.input = None;
        }
        record
    }
}

fn read_record(input: &mut BufReader<File>) -> Option<(FolderKey, Vec<CachedFile>)> {
    let mut length = [0; 4];
    input.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= RECORD_MAX)?;
    let mut bytes = Vec::new();
    // Grown as it is read: a wrong length cannot allocate more than the file has.
    input.take((length + HASH_LEN) as u64).read_to_end(&mut bytes).ok()?;
    let (record, sum) = bytes.split_at_checked(length)?;
    if hash::hash(CONTEXT, record) != sum {
        return None;
    }
    decode_record(record).ok()
}

fn decode_record(record: &[u8]) -> Result<(FolderKey, Vec<CachedFile>), DecodeError> {
    let mut decoder = Decoder::new("a file cache record", record);
    let key = FolderKey { root: decoder.u32()?, path: decoder.bytes("path", RECORD_MAX)?.to_vec() };
    let files = decoder.list("files", RECORD_MAX, read_file)?;
    decoder.finish()?;
    Ok((key, files))
}

fn write_file(out: &mut Encoder, file: &CachedFile) {
    let Identity { device, inode, size, mtime, ctime } = file.identity;
    out.bytes(&file.name).u64(device).u64(inode).u64(size);
    for time in [mtime, ctime] {
        out.i64(time.seconds).u32(time.nanoseconds);
    }
    out.bytes(&file.content).list(file.cut.iter(), |out, chunk| chunk.encode(out));
    out.list(file.deep_chunks.iter(), |out, chunk| {
        out.raw(chunk.as_bytes());
    });
    out.raw(&file.content_hash);
}

fn read_file(from: &mut Decoder<'_>) -> Result<CachedFile, DecodeError> {
    let name = from.bytes("name", RECORD_MAX)?.to_vec();
    let (device, inode, size) = (from.u64()?, from.u64()?, from.u64()?);
    let mut time = || Ok(Timestamp { seconds: from.i64()?, nanoseconds: from.u32()? });
    let identity = Identity { device, inode, size, mtime: time()?, ctime: time()? };
    let content = from.bytes("content", RECORD_MAX)?.to_vec();
    let cut = from.list("chunks", RECORD_MAX, ChunkRef::decode)?;
    let deep_chunks = from.list("other chunks", RECORD_MAX, |from| Ok(ChunkId::new(from.array()?)))?;
    Ok(CachedFile { name, identity, content, cut, deep_chunks, content_hash: from.array()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::Secret;
    use blockhouse_pipeline::domain::DomainKind;

    const SOURCE: SourceId = SourceId::new([1; 32]);
    const SESSION: SessionId = SessionId::new([2; 32]);

    fn scope(source: SourceId) -> Scope {
        Scope::new(source, &DomainKey::new(DomainKind::Writer, &Secret::new([3; 32])))
    }

    fn key(path: &str) -> FolderKey {
        FolderKey { root: 0, path: path.into() }
    }

    fn file(name: &str) -> CachedFile {
        let time = Timestamp { seconds: -5, nanoseconds: 6 };
        let identity = Identity { device: 1, inode: 2, size: 3, mtime: time, ctime: time };
        CachedFile {
            name: name.into(),
            identity,
            content: vec![7; 9],
            cut: vec![ChunkRef { id: ChunkId::new([8; 32]), key: Secret::new([6; 32]), plain_len: 5 }],
            deep_chunks: vec![ChunkId::new([9; 32])],
            content_hash: [8; 32],
        }
    }

    fn write(folder: &Path, paths: &[&str]) {
        let mut writer = CacheWriter::create(folder, &scope(SOURCE), &SESSION).unwrap();
        for path in paths {
            writer.folder(&key(path), &[file(path)]).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn follows_the_walk_over_folders_that_came_and_went() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["", "a", "a/b", "a/d", "a.b", "c"]);
        let mut reader = CacheReader::open(folder.path(), &scope(SOURCE));
        let found: Vec<_> = ["", "a", "a/c", "a/d", "a.b", "b", "c", "z"]
            .into_iter()
            .filter(|path| reader.folder(&key(path)) == vec![file(path)])
            .collect();
        assert_eq!(found, ["", "a", "a/d", "a.b", "c"]);
    }

    /// F3: what was seen were snapshots that could not be restored, after `--dedup` had changed between two runs.
    #[test]
    fn a_cache_of_another_domain_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[""]);
        assert!(CacheReader::open(folder.path(), &scope(SOURCE)).is_there());
        let others = [
            DomainKey::new(DomainKind::Writer, &Secret::new([4; 32])),
            DomainKey::new(DomainKind::Source, &Secret::new([5; 32])),
        ];
        for other in others {
            let mut reader = CacheReader::open(folder.path(), &Scope::new(SOURCE, &other));
            assert!(!reader.is_there() && reader.folder(&key("")).is_empty());
        }
    }

    /// F1, and the old cache is gone once the new one took its place.
    #[test]
    fn no_altered_record_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["old"]);
        write(folder.path(), &["", "a"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let path = path_of(folder.path(), &SOURCE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let mut reader = CacheReader::open(folder.path(), &scope(SOURCE));
            for name in ["", "a"] {
                let found = reader.folder(&key(name));
                assert!(found.is_empty() || found == vec![file(name)], "byte {at}");
            }
        }
    }

    #[test]
    fn a_backup_that_failed_leaves_no_keys_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = CacheWriter::create(folder.path(), &scope(SOURCE), &SESSION).unwrap();
        writer.folder(&key(""), &[file("f")]).unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// A killed backup runs no `drop`: the next one, of whatever source, removes what it left, and spares what a running one writes.
    #[test]
    fn what_a_killed_backup_left_goes_and_what_a_running_one_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(format!("{SOURCE}.{SESSION}.new"));
        fs::write(&left, b"keys").unwrap();
        let other = SourceId::new([4; 32]);
        let mut running = CacheWriter::create(folder.path(), &scope(other), &SessionId::new([5; 32])).unwrap();
        assert!(!left.exists());
        running.folder(&key(""), &[file("f")]).unwrap();
        write(folder.path(), &[""]);
        running.finish().unwrap();
        assert_eq!(CacheReader::open(folder.path(), &scope(other)).folder(&key("")), vec![file("f")]);
    }
}
