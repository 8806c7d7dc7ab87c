//! Which snapshot is meant: an id, a unique prefix of one, `latest`, `latest:SOURCE`; and which path in one: `SNAP:PATH`.
//!
//! # Invariants
//! - **S1** `latest:SOURCE` means a source as long as there is one of that name: only what no source is called is read as a path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::sync::Arc;

use blockhouse_crypto::hash;
use blockhouse_types::{SnapshotId, SourceId};

use crate::folder::{Config, SourceEntry};
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::vault::Vault;

/// How a snapshot was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The newest, of the only source or of the one named.
    Latest(Option<String>),
    /// The digits that its id begins with.
    Prefix(String),
}

/// A text that asks for no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no snapshot: give an id, the first digits of one, `latest` or `latest:SOURCE`")]
pub struct SnapshotRefError {
    text: String,
}

impl FromStr for SnapshotRef {
    type Err = SnapshotRefError;

    fn from_str(text: &str) -> Result<Self, SnapshotRefError> {
        if text == "latest" {
            return Ok(Self::Latest(None));
        }
        if let Some(source) = text.strip_prefix("latest:").filter(|source| !source.is_empty()) {
            return Ok(Self::Latest(Some(source.to_owned())));
        }
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_prefix = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return Err(SnapshotRefError { text: text.to_owned() });
        }
        Ok(Self::Prefix(digits.to_ascii_lowercase()))
    }
}

/// A snapshot, or a path in one, as it was asked for: `SNAP` or `SNAP:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceRef {
    /// What stands before the first colon is a snapshot, what follows a path in it.
    In(SnapshotRef, Option<Vec<u8>>),
    /// `latest:` and this: a source, a source with a path, or the absolute path of something that was backed up. Names of sources
    /// hold colons and slashes, so only the vault's sources tell which.
    Latest(Vec<u8>),
}

/// A text that asks for nothing in a vault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no snapshot and no path in one: give SNAP or SNAP:PATH, where SNAP is an id, the first digits of one, `latest` or `latest:SOURCE`"
)]
pub struct PlaceRefError {
    text: String,
}

impl TryFrom<OsString> for PlaceRef {
    type Error = PlaceRefError;

    fn try_from(text: OsString) -> Result<Self, PlaceRefError> {
        let refused = || PlaceRefError { text: text.to_string_lossy().into_owned() };
        let bytes = text.as_bytes();
        let (snapshot, path) = match bytes.iter().position(|byte| *byte == b':') {
            None => (bytes, None),
            Some(colon) => {
                let (snapshot, path) = bytes.split_at(colon);
                (snapshot, path.strip_prefix(b":").filter(|path| !path.is_empty()))
            }
        };
        let is_cut_short = path.is_none() && snapshot.len() < bytes.len();
        let snapshot = match std::str::from_utf8(snapshot) {
            Ok(snapshot) if !is_cut_short => snapshot.parse::<SnapshotRef>().map_err(|_| refused())?,
            _ => return Err(refused()),
        };
        match (snapshot, path) {
            (SnapshotRef::Latest(_), Some(path)) => match path.strip_prefix(b":") {
                None => Ok(Self::Latest(path.to_vec())),
                Some([]) => Err(refused()),
                Some(path) => Ok(Self::In(SnapshotRef::Latest(None), Some(path.to_vec()))),
            },
            (snapshot, path) => Ok(Self::In(snapshot, path.map(<[u8]>::to_vec))),
        }
    }
}

/// A snapshot and what of it is meant.
#[derive(Debug, Clone)]
pub struct Place {
    /// The snapshot.
    pub known: Known,
    /// The path in it, as it was given; none means all of it.
    pub path: Option<Vec<u8>>,
}

/// What narrows the choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrow {
    /// Only of this host.
    pub host: Option<String>,
    /// Only of this source, by name, root or id.
    pub source: Option<String>,
    /// Only with all these tags.
    pub tags: Vec<String>,
    /// Only committed at or before this time, seconds since 1970.
    pub at: Option<u64>,
}

/// A snapshot and what this host knows of its source.
#[derive(Debug, Clone)]
pub struct Known {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// Its source's name here, if it has one.
    pub source: Option<Arc<SourceEntry>>,
}

/// Why no snapshot was chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// There is none.
    #[error("{}", none(wanted, *is_narrowed))]
    None { wanted: SnapshotRef, is_narrowed: bool },
    /// What follows `latest:` is no source.
    #[error("there is no snapshot of a source `{text}`; a path in the newest one is asked for as `latest::{text}`")]
    NoSource { text: String },
    /// The prefix fits several.
    #[error("`{prefix}` is the beginning of {} snapshots: {}", found.len(), ids(found))]
    Ambiguous { prefix: String, found: Vec<SnapshotId> },
    /// Several sources have a latest one.
    #[error("the vault has several sources, say which: {}", candidates.iter().map(|name| format!("latest:{name}")).collect::<Vec<_>>().join(", "))]
    SeveralSources { candidates: Vec<String> },
}

fn none(wanted: &SnapshotRef, is_narrowed: bool) -> String {
    let narrowed = if is_narrowed { " among those that --host, --source, --tag and --at leave" } else { "" };
    match wanted {
        SnapshotRef::Latest(None) => format!("there is no snapshot{narrowed}"),
        SnapshotRef::Latest(Some(source)) => format!("there is no snapshot of a source `{source}`{narrowed}"),
        SnapshotRef::Prefix(prefix) => format!("there is no snapshot `{prefix}`{narrowed}"),
    }
}

fn ids(found: &[SnapshotId]) -> String {
    let shown: Vec<String> = found.iter().take(8).map(|id| id.to_string().chars().take(12).collect()).collect();
    shown.join(", ")
}

impl Known {
    /// The source's name, or its id.
    pub fn source_name(&self) -> String {
        Listed { record: &self.record, source: self.source.as_ref() }.source_name()
    }
}

/// A snapshot in the list that some are chosen from: there may be ten thousand, and what is not chosen is not copied.
#[derive(Debug, Clone, Copy)]
struct Listed<'a> {
    record: &'a SnapshotRecord,
    source: Option<&'a Arc<SourceEntry>>,
}

impl Listed<'_> {
    fn to_known(self) -> Known {
        Known { record: self.record.clone(), source: self.source.cloned() }
    }

    fn source_name(self) -> String {
        self.source.map_or_else(|| self.record.source.to_string(), |entry| entry.name.clone())
    }

    /// Its name or id is exactly this.
    fn is_called(self, source: &str) -> bool {
        self.source.is_some_and(|entry| entry.name == source) || self.record.source.to_string() == source
    }

    /// Something at this absolute path belongs to it.
    fn holds(self, path: &[u8]) -> bool {
        self.source.is_some_and(|entry| entry.roots.iter().any(|root| is_in(path, root)))
    }

    /// It holds this path, or its id begins like this.
    fn is_of(self, source: &str) -> bool {
        let holds = self.source.is_some_and(|entry| entry.roots.iter().any(|root| root == source));
        holds || (source.len() >= 8 && self.record.source.to_string().starts_with(source))
    }
}

/// Every snapshot of a vault, and what this host knows of its sources.
#[derive(Debug)]
struct List {
    records: Arc<Vec<SnapshotRecord>>,
    entries: BTreeMap<SourceId, Arc<SourceEntry>>,
}

impl List {
    async fn read(vault: &Vault, config: &Config) -> Result<Self, LedgerError> {
        Ok(Self { records: vault.ledger().shared_snapshots().await?, entries: entries(config) })
    }

    /// Those that are not forgotten and fit, in the order of the ledger.
    fn fitting(&self, vault: &Vault, narrow: &Narrow) -> Vec<Listed<'_>> {
        let tags = tag_commitments(vault, &narrow.tags);
        let living = self.records.iter().filter(|record| !record.forgotten);
        let listed = living.map(|record| Listed { record, source: self.entries.get(&record.source) });
        let mut fitting: Vec<Listed<'_>> = listed.collect();
        if let Some(source) = &narrow.source {
            // A source that is called so is meant, before others that hold the path.
            let is_called = fitting.iter().any(|listed| listed.is_called(source));
            fitting.retain(|listed| if is_called { listed.is_called(source) } else { listed.is_of(source) });
        }
        fitting.retain(|listed| fits(*listed, narrow, &tags));
        fitting
    }
}

/// True if an absolute path is this root or lies in it; the folder of the whole system ends in the slash that others have behind them.
fn is_in(path: &[u8], root: &str) -> bool {
    let rest = path.strip_prefix(root.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || root.ends_with('/'))
}

/// What this host knows of each source: one entry for all its snapshots, for there may be ten thousand, each with its tags in it.
pub(crate) fn entries(config: &Config) -> BTreeMap<SourceId, Arc<SourceEntry>> {
    config.sources.iter().map(|(source, entry)| (*source, Arc::new(entry.clone()))).collect()
}

/// Every snapshot that is not forgotten and fits, in the order of the ledger.
pub async fn all(vault: &Vault, narrow: &Narrow) -> Result<Vec<Known>, LedgerError> {
    all_by(vault, vault.config(), narrow).await
}

/// The same with what `config` knows: it may be newer than the vault was when it was opened.
pub(crate) async fn all_by(vault: &Vault, config: &Config, narrow: &Narrow) -> Result<Vec<Known>, LedgerError> {
    let list = List::read(vault, config).await?;
    Ok(list.fitting(vault, narrow).into_iter().map(Listed::to_known).collect())
}

/// The newest of each source among those that fit, in the order of the ledger.
pub async fn latest(vault: &Vault, narrow: &Narrow) -> Result<Vec<Known>, LedgerError> {
    let list = List::read(vault, vault.config()).await?;
    let fitting = list.fitting(vault, narrow);
    let newest: BTreeMap<SourceId, usize> =
        fitting.iter().enumerate().map(|(place, listed)| (listed.record.source, place)).collect();
    let places: BTreeSet<usize> = newest.into_values().collect();
    Ok(places.into_iter().filter_map(|place| fitting.get(place).copied()).map(Listed::to_known).collect())
}

fn fits(listed: Listed<'_>, narrow: &Narrow, tags: &[[u8; 32]]) -> bool {
    let on_host = |host: &String| listed.source.is_some_and(|entry| entry.host == *host);
    narrow.host.as_ref().is_none_or(on_host)
        && narrow.at.is_none_or(|at| listed.record.time <= at)
        && tags.iter().all(|tag| listed.record.tags.iter().any(|other| other.0 == *tag))
}

/// The commitments of tags, as commits carry them; without the index key nothing matches.
fn tag_commitments(vault: &Vault, tags: &[String]) -> Vec<[u8; 32]> {
    let key = vault.secrets().map(|secrets| tag_key(&secrets.write.index_key));
    let commit = |tag: &String| key.as_ref().map_or([0; 32], |key| hash::keyed(key, tag.as_bytes()));
    tags.iter().map(commit).collect()
}

/// What tags are committed to with.
pub(crate) fn tag_key(index_key: &blockhouse_crypto::Secret) -> blockhouse_crypto::Secret {
    hash::derive("blockhouse v1 tag", index_key, [])
}

/// The one snapshot that is meant.
pub async fn one(vault: &Vault, wanted: &SnapshotRef, narrow: &Narrow) -> Result<Known, SelectError> {
    let is_narrowed = *narrow != Narrow::default();
    let mut narrow = narrow.clone();
    if let SnapshotRef::Latest(Some(source)) = wanted {
        narrow.source = Some(source.clone());
    }
    let list = List::read(vault, vault.config()).await?;
    let mut fitting = list.fitting(vault, &narrow);
    if let SnapshotRef::Prefix(prefix) = wanted {
        fitting.retain(|listed| listed.record.id.to_string().starts_with(prefix));
        if fitting.len() > 1 {
            let found = fitting.iter().map(|listed| listed.record.id).collect();
            return Err(SelectError::Ambiguous { prefix: prefix.clone(), found });
        }
    }
    only(&fitting, wanted, is_narrowed)
}

/// The newest of snapshots that are all of one source.
fn only(fitting: &[Listed<'_>], wanted: &SnapshotRef, is_narrowed: bool) -> Result<Known, SelectError> {
    let sources: BTreeMap<SourceId, Listed<'_>> =
        fitting.iter().map(|listed| (listed.record.source, *listed)).collect();
    if sources.len() > 1 {
        let mut candidates: Vec<String> = sources.into_values().map(Listed::source_name).collect();
        candidates.sort();
        return Err(SelectError::SeveralSources { candidates });
    }
    let newest = fitting.last().copied().map(Listed::to_known);
    newest.ok_or_else(|| SelectError::None { wanted: wanted.clone(), is_narrowed })
}

/// The one snapshot, or the path in one, that is meant.
pub async fn place(vault: &Vault, wanted: &PlaceRef, narrow: &Narrow) -> Result<Place, SelectError> {
    let text = match wanted {
        PlaceRef::In(SnapshotRef::Latest(None), Some(path)) => return latest_with(vault, path, narrow).await,
        PlaceRef::In(wanted, path) => {
            return Ok(Place { known: one(vault, wanted, narrow).await?, path: path.clone() });
        }
        PlaceRef::Latest(text) => text,
    };
    let list = List::read(vault, vault.config()).await?;
    let all = list.fitting(vault, &Narrow { source: None, ..narrow.clone() });
    let is_source = |name: &str| all.iter().any(|listed| listed.is_called(name) || listed.is_of(name));
    if let Some((source, path)) = readings(text).find(|(source, _)| is_source(source)) {
        let known = one(vault, &SnapshotRef::Latest(Some(source.to_owned())), narrow).await?;
        return Ok(Place { known, path: path.map(<[u8]>::to_vec) });
    }
    if text.starts_with(b"/") {
        return latest_with(vault, text, narrow).await;
    }
    Err(SelectError::NoSource { text: String::from_utf8_lossy(text).into_owned() })
}

/// What follows `latest:` as a source with or without a path, the longest name of a source first (S1).
fn readings(text: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    let colons = (0..text.len()).rev().filter(move |at| text.get(*at) == Some(&b':'));
    let cut = colons.filter_map(move |at| {
        let (source, path) = text.split_at_checked(at)?;
        Some((source, path.get(1..)?))
    });
    let cut = cut.filter(|(_, path)| !path.is_empty()).map(|(source, path)| (source, Some(path)));
    let readings = std::iter::once((text, None)).chain(cut);
    readings.filter_map(|(source, path)| Some((std::str::from_utf8(source).ok()?, path)))
}

/// The newest snapshot, of the source that holds an absolute path where this host knows of one, and the path in it.
async fn latest_with(vault: &Vault, path: &[u8], narrow: &Narrow) -> Result<Place, SelectError> {
    let list = List::read(vault, vault.config()).await?;
    let mut fitting = list.fitting(vault, narrow);
    if fitting.iter().any(|listed| listed.holds(path)) {
        fitting.retain(|listed| listed.holds(path));
    }
    let known = only(&fitting, &SnapshotRef::Latest(None), *narrow != Narrow::default())?;
    Ok(Place { known, path: Some(path.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn read(text: &[u8]) -> Option<PlaceRef> {
        PlaceRef::try_from(OsStr::from_bytes(text).to_owned()).ok()
    }

    #[test]
    fn a_path_follows_the_first_colon_of_an_id_and_the_second_of_latest() {
        let prefix = || SnapshotRef::Prefix("7f3a".to_owned());
        assert_eq!(read(b"0x7F3A"), Some(PlaceRef::In(prefix(), None)));
        assert_eq!(read(b"7f3a:/a:b/\xff"), Some(PlaceRef::In(prefix(), Some(b"/a:b/\xff".to_vec()))));
        assert_eq!(read(b"latest"), Some(PlaceRef::In(SnapshotRef::Latest(None), None)));
        assert_eq!(read(b"latest::docs"), Some(PlaceRef::In(SnapshotRef::Latest(None), Some(b"docs".to_vec()))));
        assert_eq!(read(b"latest:home:docs"), Some(PlaceRef::Latest(b"home:docs".to_vec())));
        for text in [&b""[..], b":docs", b"7f3a:", b"latest:", b"latest::", b"newest:docs", b"\xff", b"../x"] {
            assert_eq!(read(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_longest_name_of_a_source_is_tried_first() {
        let all: Vec<_> = readings(b"/a:b:docs").collect();
        let expected = [("/a:b:docs", None), ("/a:b", Some(&b"docs"[..])), ("/a", Some(&b"b:docs"[..]))];
        assert_eq!(all, expected);
        assert_eq!(readings(b"a:\xff").collect::<Vec<_>>(), [("a", Some(&b"\xff"[..]))]);
        assert_eq!(readings(b"a:").collect::<Vec<_>>(), [("a:", None)]);
    }

    #[test]
    fn a_root_holds_itself_and_what_lies_in_it() {
        assert!(is_in(b"/home/ann", "/home/ann") && is_in(b"/home/ann/docs", "/home/ann") && is_in(b"/etc", "/"));
        assert!(!is_in(b"/home/anna", "/home/ann") && !is_in(b"/home", "/home/ann"));
    }
}
