//! What differs between two snapshots, or between a snapshot and the file system.
//!
//! - **Owns** what counts as a difference, and which of two trees is read where.
//! - **Does not** open snapshots or print: it tells each difference.
//!
//! # Invariants
//! - **D1** Two folders whose listings have the same references are equal: neither is read.
//! - **D2** What could not be compared is told as such, never as equal and never as removed.
//! - **D3** A folder's own time of change is no difference where something in it differs: that is what moved it.

mod live;

use blockhouse_pipeline::content::Content;
use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_sources::files::decode_root_name;
use blockhouse_types::{EntryFacts, EntryKind, Metadata};

use crate::chain::chain;
use crate::find::{entry_at, join};
use crate::reader::{self, OpenedSnapshot, ReadTreeError};
use crate::receipt::full_path;

pub use live::{LiveError, LiveRequest, compare_live};

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Modifier {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its bytes, or where it points, are others.
    Content,
    /// Only mode, owner, time or attributes are others.
    Metadata,
    /// It is something of another kind.
    Kind,
}

impl Modifier {
    /// The letter that stands for it, as in restic.
    pub const fn letter(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'U',
            Self::Kind => 'T',
        }
    }
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, from the root folder of the system.
    pub path: Vec<u8>,
    /// How.
    pub modifier: Modifier,
    /// As it was; nothing if it is new.
    pub before: Option<EntryFacts>,
    /// As it is; nothing if it is gone.
    pub after: Option<EntryFacts>,
}

/// Something that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCompared {
    /// Where.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
    /// Whether it is the snapshot that could not be read.
    pub is_in_vault: bool,
}

/// How many differ in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of the files: those that are there now, or were there, where they are gone.
    pub bytes: u64,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// By how they differ.
    pub tallies: std::collections::BTreeMap<Modifier, Tally>,
    /// What could not be compared.
    pub not_compared: Vec<NotCompared>,
}

impl Summary {
    /// How many differ in this way.
    pub fn tally(&self, modifier: Modifier) -> Tally {
        self.tallies.get(&modifier).copied().unwrap_or_default()
    }

    /// True if nothing differs and all was compared.
    pub fn is_equal(&self) -> bool {
        self.tallies.is_empty() && self.not_compared.is_empty()
    }

    fn count(&mut self, difference: &Difference) {
        let Some(facts) = difference.after.or(difference.before) else { return };
        let tally = self.tallies.entry(difference.modifier).or_default();
        match facts.kind {
            EntryKind::File => tally.files += 1,
            EntryKind::Directory => tally.folders += 1,
            _ => tally.others += 1,
        }
        tally.bytes += facts.length;
    }

    fn unread(&mut self, path: &[u8], error: &ReadTreeError) {
        let why = chain(error);
        self.not_compared.push(NotCompared { path: path.to_vec(), why, is_in_vault: true });
    }
}

/// What tells differences, and counts them.
struct Telling<'a, F> {
    summary: Summary,
    tell: &'a mut F,
}

impl<F> Telling<'_, F> {
    fn differs<E>(&mut self, difference: &Difference) -> Result<(), E>
    where
        F: FnMut(&Difference) -> Result<(), E>,
    {
        self.summary.count(difference);
        (self.tell)(difference)
    }
}

/// One name in two folders.
struct Pair {
    path: Vec<u8>,
    before: Option<Entry>,
    after: Option<Entry>,
}

/// A path that a snapshot has not got.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot has no entry `{}`", path.escape_ascii())]
pub struct NoEntry {
    /// As it was given.
    pub path: Vec<u8>,
}

/// Tells everything that differs between two snapshots, in the order of the tree; of two paths, as [`full_path`] takes them, what stands
/// there. Blocks.
pub fn compare<E>(
    before: &mut OpenedSnapshot,
    after: &mut OpenedSnapshot,
    paths: Option<[&[u8]; 2]>,
    tell: &mut impl FnMut(&Difference) -> Result<(), E>,
) -> Result<Summary, E>
where
    E: From<ReadTreeError> + From<NoEntry>,
{
    let mut telling = Telling { summary: Summary::default(), tell };
    let pairs = match paths {
        Some([one, other]) => vec![pair_at::<E>((&mut *before, one), (&mut *after, other))?],
        None => paired_roots(roots(before)?, roots(after)?),
    };
    let mut stack = vec![pairs.into_iter()];
    while let Some(pairs) = stack.last_mut() {
        let Some(pair) = pairs.next() else {
            stack.pop();
            continue;
        };
        let inner = match (&pair.before, &pair.after) {
            (Some(one), Some(other)) if listing(one).is_some() && listing(one) == listing(other) => None,
            _ => Some(inside(before, after, &pair, &mut telling.summary)),
        };
        let has_changed = inner.as_ref().is_some_and(|inner| inner.iter().any(differs));
        if let Some(difference) = difference(&pair, has_changed) {
            telling.differs(&difference)?;
        }
        stack.extend(inner.map(Vec::into_iter));
    }
    Ok(telling.summary)
}

fn roots(opened: &mut OpenedSnapshot) -> Result<Vec<Entry>, ReadTreeError> {
    let root = opened.manifest.root.clone();
    reader::list(&mut opened.chunks, b"", &root)
}

/// What stands at two paths, under the second of them.
fn pair_at<E>(
    (before, one): (&mut OpenedSnapshot, &[u8]),
    (after, other): (&mut OpenedSnapshot, &[u8]),
) -> Result<Pair, E>
where
    E: From<ReadTreeError> + From<NoEntry>,
{
    let (before, _) = stands_at::<E>(before, one)?;
    let (after, path) = stands_at::<E>(after, other)?;
    Ok(Pair { path, before: Some(before), after: Some(after) })
}

/// An entry and its absolute path.
fn stands_at<E>(opened: &mut OpenedSnapshot, path: &[u8]) -> Result<(Entry, Vec<u8>), E>
where
    E: From<ReadTreeError> + From<NoEntry>,
{
    let full = full_path(&roots(opened)?, path);
    let entry = entry_at(opened, &full)?.ok_or_else(|| NoEntry { path: path.to_vec() })?;
    let mut names = full.splitn(2, |byte| *byte == b'/');
    let root = names.next().unwrap_or_default();
    let root = decode_root_name(root).unwrap_or_else(|_| root.to_vec());
    let path = match names.next() {
        Some(rest) => join(&root, rest),
        None => root,
    };
    Ok((entry, path))
}

/// Roots by their names; an only root is compared with an only root, wherever they stood.
fn paired_roots(before: Vec<Entry>, after: Vec<Entry>) -> Vec<Pair> {
    let path = |entry: &Entry| decode_root_name(&entry.name).unwrap_or_else(|_| entry.name.clone());
    if let ([_], [one]) = (before.as_slice(), after.as_slice()) {
        let path = path(one);
        return vec![Pair { path, before: before.into_iter().next(), after: after.into_iter().next() }];
    }
    let mut pairs = paired(b"", before, after);
    for pair in &mut pairs {
        if let Some(entry) = pair.after.as_ref().or(pair.before.as_ref()) {
            pair.path = path(entry);
        }
    }
    pairs
}

/// Two listings, name by name.
fn paired(folder: &[u8], before: Vec<Entry>, after: Vec<Entry>) -> Vec<Pair> {
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let (one, other) = match (before.peek(), after.peek()) {
            (None, None) => return pairs,
            (Some(one), Some(other)) => (one.name <= other.name, other.name <= one.name),
            (one, other) => (one.is_some(), other.is_some()),
        };
        let (before, after) = (before.next_if(|_| one), after.next_if(|_| other));
        if let Some(entry) = before.as_ref().or(after.as_ref()) {
            pairs.push(Pair { path: join(folder, &entry.name), before, after });
        }
    }
}

/// What is in the folders of a pair, of which at least one is a folder.
fn inside(before: &mut OpenedSnapshot, after: &mut OpenedSnapshot, pair: &Pair, summary: &mut Summary) -> Vec<Pair> {
    let mut read = |opened: &mut OpenedSnapshot, entry: Option<&Entry>| match entry.and_then(listing) {
        None => Some(Vec::new()),
        Some(listing) => match reader::list(&mut opened.chunks, &pair.path, listing) {
            Ok(entries) => Some(entries),
            Err(error) => {
                summary.unread(&pair.path, &error);
                None
            }
        },
    };
    let (one, other) = (read(before, pair.before.as_ref()), read(after, pair.after.as_ref()));
    // Against a listing that cannot be read nothing is known to be new or gone (D2).
    match (one, other) {
        (Some(one), Some(other)) => paired(&pair.path, one, other),
        _ => Vec::new(),
    }
}

const fn listing(entry: &Entry) -> Option<&Content> {
    match &entry.body {
        Body::Directory(listing) => Some(listing),
        _ => None,
    }
}

/// True if the two are not the same in every respect that is compared, whatever is in them.
fn differs(pair: &Pair) -> bool {
    difference(pair, false).is_some()
}

/// How a pair differs; `has_changed`: something in the folder does.
fn difference(pair: &Pair, has_changed: bool) -> Option<Difference> {
    let modifier = match (&pair.before, &pair.after) {
        (None, None) => None,
        (None, Some(_)) => Some(Modifier::Added),
        (Some(_), None) => Some(Modifier::Removed),
        (Some(one), Some(other)) => modifier(one, other, has_changed),
    };
    modifier.map(|modifier| Difference {
        path: pair.path.clone(),
        modifier,
        before: pair.before.as_ref().map(Entry::facts),
        after: pair.after.as_ref().map(Entry::facts),
    })
}

fn modifier(one: &Entry, other: &Entry, has_changed: bool) -> Option<Modifier> {
    if one.body.kind() != other.body.kind() {
        return Some(Modifier::Kind);
    }
    let (before, after) = (one.facts(), other.facts());
    let is_other = match (&one.body, &other.body) {
        (Body::CharDevice(one), Body::CharDevice(other)) | (Body::BlockDevice(one), Body::BlockDevice(other)) => {
            one != other
        }
        _ => before.content_hash != after.content_hash || before.length != after.length,
    };
    if is_other {
        return Some(Modifier::Content);
    }
    let is_folder = before.kind == EntryKind::Directory;
    let has_other_time = one.metadata.mtime != other.metadata.mtime && !(is_folder && has_changed);
    (has_other_time || !is_alike(&one.metadata, &other.metadata)).then_some(Modifier::Metadata)
}

/// Whether all but the time is equal. Names of accounts follow from their numbers, and inode numbers say nothing to people.
fn is_alike(one: &Metadata, other: &Metadata) -> bool {
    let of = |it: &Metadata| (it.mode, it.uid, it.gid, it.link.is_some());
    of(one) == of(other) && one.attributes == other.attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_types::Timestamp;

    fn file(name: &[u8], hash: u8, seconds: i64) -> Entry {
        let mtime = Timestamp { seconds, nanoseconds: 0 };
        let body = Body::File { content: Content::empty(), hash: [hash; 32] };
        Entry { name: name.to_vec(), metadata: Metadata { mtime, ..Metadata::default() }, body }
    }

    fn told(before: Vec<Entry>, after: Vec<Entry>) -> Vec<(char, Vec<u8>)> {
        let pairs = paired(b"/f", before, after);
        let found = pairs.iter().filter_map(|pair| difference(pair, false));
        found.map(|it| (it.modifier.letter(), it.path)).collect()
    }

    #[test]
    fn names_are_paired_in_order() {
        let before = vec![file(b"a", 1, 1), file(b"b", 1, 1), file(b"d", 1, 1), file(b"e", 1, 1)];
        let after = vec![file(b"b", 2, 1), file(b"c", 1, 1), file(b"d", 1, 2), file(b"e", 1, 1)];
        let expected =
            [('-', &b"/f/a"[..]), ('M', b"/f/b"), ('+', b"/f/c"), ('U', b"/f/d")].map(|(it, path)| (it, path.to_vec()));
        assert_eq!(told(before, after), expected);
    }

    #[test]
    fn another_kind_is_told_as_such() {
        let pipe = Entry { body: Body::Fifo, ..file(b"a", 1, 1) };
        assert_eq!(told(vec![file(b"a", 1, 1)], vec![pipe]), [('T', b"/f/a".to_vec())]);
    }

    #[test]
    fn a_folders_time_is_no_difference_of_its_own_where_something_in_it_differs() {
        let folder = |seconds| Entry { body: Body::Directory(Content::empty()), ..file(b"a", 1, seconds) };
        assert_eq!(modifier(&folder(1), &folder(2), true), None);
        assert_eq!(modifier(&folder(1), &folder(2), false), Some(Modifier::Metadata));
        let mut other = folder(2);
        other.metadata.mode = 0o700;
        assert_eq!(modifier(&folder(1), &other, true), Some(Modifier::Metadata));
    }

    #[test]
    fn an_only_root_is_compared_with_an_only_root() {
        let pairs = paired_roots(vec![file(b"%2Fa", 1, 1)], vec![file(b"%2Fb", 1, 1)]);
        assert!(matches!(pairs.as_slice(), [Pair { before: Some(_), after: Some(_), .. }]));
        assert_eq!(pairs[0].path, b"/b");
    }
}
