//! What of a source is left out: decided folder by folder, on the way down.
//!
//! ```text
//! selection ── below(folder, rules of its parent) ──► Below ── by_name, by_entry ──► left out, and why
//!                                                       └─ rules: the ignore files from here on down
//! ```
//!
//! - **Owns** in which order the reasons are asked, and what of a folder stays when its content is left out.
//! - **Does not** walk: [`super::walk`] and [`super::live`] ask, and both leave out the same folders.
//!
//! # Invariants
//! - **X1** A root is never left out; its content follows the same rules as that of any folder.
//! - **X2** A folder whose tag excludes its content stays in the snapshot, with the tag, as `tar` does it.
//! - **X3** What cannot be looked at leaves nothing out.

mod ignore_file;

use std::os::fd::AsFd;

use blockhouse_types::EntryKind;
use rustix::{
    fs::{AtFlags, FileType, OFlags, StatxAttributes, StatxFlags, fstat, statx},
    io::{Errno, pread},
};

use super::{
    ExcludeError, Found, LeftOutReason, Options,
    excludes::Excludes,
    list::{Listed, Named},
    trail::{Open, open_quietly},
};

pub(crate) use ignore_file::Rules;
pub use ignore_file::{IGNORE_FILE, IgnoreProblem};

/// How a folder says that it is a cache: <https://bford.info/cachedir/>.
const CACHE_TAG: (&str, &str) = ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");

/// What a source leaves out.
#[derive(Debug)]
pub(crate) struct Selection {
    patterns: Excludes,
    tags: Vec<Tag>,
    larger_than: Option<u64>,
    is_nodump_honoured: bool,
    is_one_file_system: bool,
    /// The file systems of paths that a list names inside another of its paths: they were asked for as well.
    listed_devices: Vec<u64>,
    are_ignore_files_honoured: bool,
}

/// A file whose presence excludes its folder's content.
#[derive(Debug)]
struct Tag {
    name: Vec<u8>,
    /// How it must begin.
    head: Vec<u8>,
    reason: LeftOutReason,
}

impl Tag {
    /// `NAME` or `NAME:HEAD`.
    fn parse(text: &str) -> Result<Self, ExcludeError> {
        let (name, head) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(ExcludeError::NotAName { name: name.to_owned() });
        }
        Ok(Self { name: name.into(), head: head.into(), reason: LeftOutReason::IfPresent })
    }

    /// Whether the tag is in a folder with these names. One that cannot be read is none (X3).
    fn is_in(&self, folder: &Open, names: &[Named]) -> bool {
        let is_there = names.binary_search_by(|named| named.name.as_slice().cmp(&self.name)).is_ok();
        is_there && (self.head.is_empty() || self.has_head(folder).unwrap_or(false))
    }

    fn has_head(&self, folder: &Open) -> Result<bool, Errno> {
        let file = open_file(folder, &self.name)?;
        let mut head = vec![0; self.head.len()];
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match pread(&file, rest, filled as u64) {
                Ok(0) => return Ok(false),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(head == self.head)
    }
}

impl Selection {
    pub(crate) fn parse(options: &Options) -> Result<Self, ExcludeError> {
        let mut tags = options.exclude_if_present.iter().map(|text| Tag::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if options.exclude_caches {
            let (name, head) = CACHE_TAG;
            tags.insert(0, Tag { name: name.into(), head: head.into(), reason: LeftOutReason::CacheTag });
        }
        Ok(Self {
            patterns: Excludes::parse(&options.excludes, &options.iexcludes)?,
            tags,
            larger_than: options.exclude_larger_than,
            is_nodump_honoured: options.exclude_nodump,
            is_one_file_system: options.one_file_system,
            listed_devices: Vec::new(),
            are_ignore_files_honoured: !options.no_ignore_files,
        })
    }

    /// The same, which takes these file systems too wherever it meets them.
    pub(crate) fn with_devices(self, listed_devices: Vec<u64>) -> Self {
        Self { listed_devices, ..self }
    }

    /// What holds in a folder with these names. `above` are the rules of its parent.
    pub(crate) fn below(&self, above: &Rules, listed: Listed<'_>, names: &[Named]) -> Below<'_> {
        let tag = self.tags.iter().find(|tag| tag.is_in(listed.folder, names));
        let (rules, problems) = if self.are_ignore_files_honoured && tag.is_none() {
            above.with_file_of(listed, names)
        } else {
            (above.clone(), Vec::new())
        };
        Below { selection: self, rules, tag, problems }
    }

    /// Whether the content of a folder lies on another file system than its root and stays out.
    pub(crate) fn is_elsewhere(&self, folder: &Open, root_device: u64) -> bool {
        let device = folder.node().device;
        self.is_one_file_system && device != root_device && !self.listed_devices.contains(&device)
    }
}

/// The selection in one folder.
#[derive(Debug)]
pub(crate) struct Below<'s> {
    selection: &'s Selection,
    /// The ignore files in force here and below.
    pub(crate) rules: Rules,
    tag: Option<&'s Tag>,
    /// What of the folder's ignore file could not be used.
    pub(crate) problems: Vec<IgnoreProblem>,
}

impl Below<'_> {
    /// Why an entry of the folder is left out, as far as its name tells.
    pub(crate) fn by_name(&self, root: &[u8], path: &[u8], named: &Named) -> Option<LeftOutReason> {
        let (name, is_folder) = (&named.name[..], named.kind == EntryKind::Directory);
        if self.selection.patterns.matches(root, path, name, is_folder) {
            return Some(LeftOutReason::Pattern);
        }
        if let Some(tag) = self.tag.filter(|tag| tag.name != name) {
            return Some(tag.reason);
        }
        // The rules are kept with what they rule.
        let is_ignored = name != IGNORE_FILE.as_bytes() && self.rules.ignores(path, is_folder);
        is_ignored.then_some(LeftOutReason::IgnoreFile)
    }

    /// Why an entry is left out for a flag of its own.
    pub(crate) fn by_flag(&self, handle: impl AsFd) -> Option<LeftOutReason> {
        let is_asked = self.selection.is_nodump_honoured;
        (is_asked && is_nodump(handle.as_fd())).then_some(LeftOutReason::NoDump)
    }

    /// The same of a folder of which only the name is known.
    pub(crate) fn by_flag_of(&self, folder: &Open, name: &[u8]) -> Option<LeftOutReason> {
        if !self.selection.is_nodump_honoured {
            return None;
        }
        self.by_flag(folder.entry(name).ok()?)
    }

    /// Why an entry is left out for what it is.
    pub(crate) fn by_entry(&self, found: &Found) -> Option<LeftOutReason> {
        let is_too_large = self.selection.larger_than.is_some_and(|limit| found.size > limit);
        (found.kind == EntryKind::File && is_too_large).then_some(LeftOutReason::TooLarge)
    }
}

/// File systems that know the attribute tell it here, without the entry being opened to be read.
fn is_nodump(handle: rustix::fd::BorrowedFd<'_>) -> bool {
    statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .is_ok_and(|told| told.stx_attributes.contains(StatxAttributes::NODUMP))
}

/// Opens a regular file of a folder to be read, without following a link or waiting for a pipe.
fn open_file(folder: &Open, name: &[u8]) -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open_quietly(folder.as_fd(), name, flags)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}
