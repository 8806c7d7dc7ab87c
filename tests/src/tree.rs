//! Folders to back up, and the comparison of two folders down to the last nanosecond.
//!
//! - **Owns** what a tree with everything is, and what makes two trees equal.
//! - **Does not** compare inode numbers and ctimes: nobody can restore those.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::need;

/// One MiB.
pub const MIB: usize = 1 << 20;

/// Numbers that are the same in every run.
pub fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Bytes that do not shrink.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random(seed).fill_bytes(&mut bytes);
    bytes
}

/// Text that shrinks.
pub fn prose(length: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&str; 12] =
        ["block", "house", "stripe", "of", "the", "ledger", "and", "seven", "shards", "were", "lost", "\n"];
    let mut random = random(seed);
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        text.extend_from_slice(WORDS[random.random_range(0..WORDS.len())].as_bytes());
        text.push(b' ');
    }
    text.truncate(length);
    text
}

/// Writes a file with the folders above it.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A plain tree of some files: `mib` MiB of noise in one, text and small ones beside it.
pub fn plain(root: &Path, mib: usize, seed: u64) {
    write(&root.join("noise.bin"), &noise(mib * MIB, seed));
    write(&root.join("prose.txt"), &prose(300_000, seed + 1));
    for number in 0..20 {
        write(
            &root.join(format!("small/{number}.txt")),
            &prose(500 + 37 * usize::try_from(number).unwrap(), seed + 2 + number),
        );
    }
}

/// True if the tests may make devices and give files away.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Sets the time of change, of a link itself where it is one.
pub fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with everything that a file system can hold and this user can make.
pub fn everything(root: &Path) {
    contents(root);
    names(root);
    links(root);
    specials(root);
    // Times of folders at last: what is made in them changes them.
    set_time(&root.join("contents"), 981_173_106, 1);
    set_time(&root.join("empty folder"), 4_102_444_800, 999_999_999);
    set_time(root, 1_234_567_890, 123_456_789);
}

fn contents(root: &Path) {
    let folder = root.join("contents");
    write(&folder.join("empty"), b"");
    write(&folder.join("one byte"), b"x");
    write(&folder.join("noise"), &noise(3 * MIB + 17, 1));
    write(&folder.join("prose"), &prose(2 * MIB + 5, 2));
    write(&folder.join("zeros"), &vec![0; 300_000]);
    for number in 0..150_u64 {
        let bytes = prose(usize::try_from(number * number % 4_000).unwrap(), 100 + number);
        write(&folder.join(format!("small/{number:03}")), &bytes);
    }
    for number in 0..20_u64 {
        let length = 10_000 + 12_345 * usize::try_from(number).unwrap();
        write(&folder.join(format!("middle/{number}")), &noise(length, 300 + number));
    }
    sparse(&folder.join("sparse"));
    File::create(folder.join("all hole")).unwrap().set_len(5 * MIB as u64).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    write(&root.join("deep").join("d/".repeat(40)).join("end"), b"the end");
}

/// 64 MiB long, with little in it.
fn sparse(path: &Path) {
    let file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    file.set_len(64 * MIB as u64).unwrap();
    file.write_all_at(&noise(10_000, 5), 7 * MIB as u64).unwrap();
    file.write_all_at(&noise(200_000, 6), 33 * MIB as u64 + 4_097).unwrap();
    file.write_all_at(b"last", 64 * MIB as u64 - 4).unwrap();
}

fn names(root: &Path) {
    let folder = root.join("names");
    let odd: [&[u8]; 12] = [
        b"new\nline",
        b"\xff\xfe not UTF-8 \x80",
        b"-n",
        b"--json",
        b" ",
        b"*",
        b"%2F",
        b"a\\b",
        b"\"quotes\" 'and' $HOME",
        b"tab\tand\x1b[31mescape",
        "Größe 大きさ".as_bytes(),
        &[b'n'; 255],
    ];
    for (number, name) in odd.into_iter().enumerate() {
        write(&folder.join(OsStr::from_bytes(name)), format!("odd name {number}").as_bytes());
    }
    write(&folder.join(OsStr::from_bytes(b"folder\n\xff")).join("inside"), b"inside");
}

fn links(root: &Path) {
    let folder = root.join("links");
    write(&folder.join("first"), &noise(200_000, 7));
    write(&folder.join("small first"), b"small and linked");
    fs::create_dir(folder.join("other")).unwrap();
    fs::hard_link(folder.join("first"), folder.join("other/second")).unwrap();
    fs::hard_link(folder.join("first"), folder.join("third")).unwrap();
    fs::hard_link(folder.join("small first"), folder.join("other/small second")).unwrap();
    symlink("first", folder.join("to a file")).unwrap();
    symlink("other", folder.join("to a folder")).unwrap();
    symlink("/nowhere/at/all", folder.join("to nothing")).unwrap();
    symlink(OsStr::from_bytes(b"\xffodd\ntarget"), folder.join("to an odd name")).unwrap();
    set_time(&folder.join("to nothing"), 1_000_000_000, 5);
}

fn specials(root: &Path) {
    let folder = root.join("specials");
    // Root reads what nobody may read; others would meet an unreadable file.
    let least = if is_root() { 0o000 } else { 0o400 };
    for (name, mode) in [("read only", 0o400), ("least", least), ("run", 0o755), ("set user", 0o4711), ("all", 0o777)] {
        write(&folder.join(name), name.as_bytes());
        set_mode(&folder.join(name), mode);
    }
    for (name, mode) in [("sticky", 0o1777), ("private", 0o700), ("set group", 0o2755)] {
        write(&folder.join(name).join("inside"), name.as_bytes());
        set_mode(&folder.join(name), mode);
    }
    write(&folder.join("before 1970"), b"old");
    set_time(&folder.join("before 1970"), -86_400, 1);
    write(&folder.join("in 2100"), b"new");
    set_time(&folder.join("in 2100"), 4_102_444_800, 999_999_999);
    write(&folder.join("attributes"), b"with attributes");
    let attributes: [(&str, &[u8]); 3] =
        [("user.colour", b"green"), ("user.empty", b""), ("user.bytes", &[0, 255, 10])];
    for (name, value) in attributes {
        rustix::fs::setxattr(folder.join("attributes"), name, value, XattrFlags::empty()).unwrap();
    }
    rustix::fs::setxattr(folder.join("private"), "user.folder", b"too", XattrFlags::empty()).unwrap();
    rustix::fs::mknodat(CWD, folder.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    if need::right(is_root(), "files of other owners and devices need root") {
        write(&folder.join("given away"), b"theirs");
        chown(folder.join("given away"), Some(1234), Some(4321)).unwrap();
        lchown(root.join("links/to a file"), Some(1234), None).unwrap();
        let (null, bits) = (rustix::fs::makedev(1, 3), Mode::from_raw_mode(0o600));
        let made = rustix::fs::mknodat(CWD, folder.join("null"), FileType::CharacterDevice, bits, null);
        need::right(made.is_ok(), "this container forbids devices to its root");
    }
}

/// What of an entry a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    size: u64,
    content: Option<[u8; 32]>,
    target: Option<Vec<u8>>,
    device: u64,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file.
    link: Option<Vec<u8>>,
    has_holes: bool,
}

/// Everything below a folder, the folder itself under the empty name.
pub fn read(root: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let (mut entries, mut links) = (BTreeMap::new(), HashMap::new());
    let mut waiting = vec![Vec::new()];
    while let Some(name) = waiting.pop() {
        let path = if name.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(&name)) };
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if metadata.is_dir() {
            for inside in fs::read_dir(&path).unwrap() {
                let inside = inside.unwrap().file_name().into_vec();
                waiting.push(if name.is_empty() { inside } else { [&name, &b"/"[..], &inside].concat() });
            }
        } else if metadata.nlink() > 1 {
            let first: &mut Vec<u8> = links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone());
            if name < *first {
                first.clone_from(&name);
            }
        }
        entries.insert(name, (entry(&path, &metadata), (metadata.dev(), metadata.ino())));
    }
    let with_link = |(name, (mut entry, inode)): (Vec<u8>, (Entry, (u64, u64)))| {
        entry.link = links.get(&inode).filter(|_| entry.kind != "folder").cloned();
        (name, entry)
    };
    entries.into_iter().map(with_link).collect()
}

fn entry(path: &Path, metadata: &Metadata) -> Entry {
    let kind = metadata.file_type();
    let name = match () {
        () if kind.is_dir() => "folder",
        () if kind.is_file() => "file",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () => "socket",
    };
    let is_file = kind.is_file();
    Entry {
        kind: name.to_owned(),
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        size: if is_file { metadata.len() } else { 0 },
        content: is_file.then(|| content(path)),
        target: kind.is_symlink().then(|| fs::read_link(path).unwrap().into_os_string().into_vec()),
        device: if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 },
        attributes: attributes(path),
        link: None,
        has_holes: is_file && metadata.blocks() * 512 + (1 << 16) < metadata.len(),
    }
}

fn content(path: &Path) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hasher.update_reader(file).unwrap();
    *hasher.finalize().as_bytes()
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0_u8; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap_or(0);
        value.truncate(length);
        (name.to_vec(), value)
    };
    names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(value).collect()
}

/// Demands that two trees are equal.
#[track_caller]
pub fn assert_equal(expected: &Path, found: &Path) {
    let differences = differences(&read(expected), &read(found));
    assert!(differences.is_empty(), "{} is not {}:\n{}", found.display(), expected.display(), differences.join("\n"));
}

/// What is not equal, in words.
pub fn differences(expected: &BTreeMap<Vec<u8>, Entry>, found: &BTreeMap<Vec<u8>, Entry>) -> Vec<String> {
    let mut all = Vec::new();
    for (name, entry) in expected {
        match found.get(name) {
            None => all.push(format!("missing: {}", name.escape_ascii())),
            Some(other) if other != entry => {
                all.push(format!("{}:\n  expected {entry:?}\n  found    {other:?}", name.escape_ascii()));
            }
            Some(_) => {}
        }
    }
    let extra = found.keys().filter(|name| !expected.contains_key(*name));
    all.extend(extra.map(|name| format!("too much: {}", name.escape_ascii())));
    all
}

/// Waits until a tree that was just written counts as settled: what changed within the last seconds before a backup is read
/// again by the next one, and nobody can make a time of change older.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_secs(4));
}

/// Removes a tree that was restored, whatever its modes.
pub fn remove(root: &Path) {
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        set_mode(&folder, 0o700);
        let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        waiting.extend(inside.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
    }
    fs::remove_dir_all(root).unwrap();
}

/// All regular files below a folder.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The bytes of all files below a folder.
pub fn size(root: &Path) -> u64 {
    files(root).iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}
