//! Which snapshots there are, and under which names they are shown.
//!
//! ```text
//! snapshots/<time>_<id>/         what `restore` would write; `latest` leads to the newest
//! ids/<id>                       links into snapshots/
//! tags/<key=value>/<time>_<id>   the same, and `latest`
//! hosts/<host>/<source>/<time>_<id>
//! ```
//!
//! Only snapshots are folders, and each stands in one place: whoever walks the mount meets every file once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use blockhouse_types::{SnapshotId, SourceId};

use crate::folder::SourceEntry;
use crate::ledger::SnapshotRecord;

/// How many digits of an id name a snapshot, as everywhere.
const DIGITS: usize = 12;
/// The folder of ids.
const IDS: &[u8] = b"ids";
/// The link to the newest.
const LATEST: &[u8] = b"latest";
/// What an unknown host is called: this vault folder was recovered, or the source is another host's.
const UNKNOWN_HOST: &str = "unknown";

/// The names of snapshots, by the name of the folder that has links to them.
type ByName = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// What is shown above snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// A folder, with what is in it by name.
    Folder(BTreeMap<Vec<u8>, Shown>),
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A symbolic link.
    Link(Vec<u8>),
}

/// The snapshots of a vault as folders and links.
#[derive(Debug)]
pub(super) struct Catalog {
    root: Shown,
    records: BTreeMap<SnapshotId, SnapshotRecord>,
    newest: u64,
}

impl Catalog {
    /// The catalog of these snapshots, in the order of the ledger.
    pub(super) fn of(records: Vec<SnapshotRecord>, sources: &BTreeMap<SourceId, SourceEntry>) -> Self {
        let (mut snapshots, mut ids) = (BTreeMap::new(), BTreeMap::new());
        let mut newest_name = None;
        let mut tags = ByName::new();
        let mut hosts: BTreeMap<Vec<u8>, ByName> = BTreeMap::new();
        for record in &records {
            let name = name_of(record);
            let source = sources.get(&record.source);
            for tag in source.and_then(|source| source.tags.get(&record.id.to_string())).into_iter().flatten() {
                tags.entry(file_name(tag)).or_default().push(name.clone());
            }
            let host = file_name(source.map_or(UNKNOWN_HOST, |source| source.host.as_str()));
            let called = file_name(&source.map_or_else(|| short(&record.source.to_string()), |it| it.name.clone()));
            hosts.entry(host).or_default().entry(called).or_default().push(name.clone());
            ids.insert(short(&record.id.to_string()).into_bytes(), by_id(record));
            newest_name = Some(name.clone());
            snapshots.insert(name, Shown::Snapshot(record.id));
        }
        snapshots.extend(newest_name.map(|newest| (LATEST.to_vec(), Shown::Link(newest))));
        let below = |names: ByName, up: &[u8]| {
            Shown::Folder(names.into_iter().map(|(name, inside)| (name, links(&inside, up))).collect())
        };
        let hosts = hosts.into_iter().map(|(host, sources)| (host, below(sources, b"../../../snapshots/"))).collect();
        let root = Shown::Folder(BTreeMap::from([
            (b"hosts".to_vec(), Shown::Folder(hosts)),
            (IDS.to_vec(), Shown::Folder(ids)),
            (b"snapshots".to_vec(), Shown::Folder(snapshots)),
            (b"tags".to_vec(), below(tags, b"../../snapshots/")),
        ]));
        let newest = records.iter().map(|record| record.time).max().unwrap_or_default();
        Self { root, records: records.into_iter().map(|record| (record.id, record)).collect(), newest }
    }

    /// What stands at the end of these names. A whole id is found among the ids, though only its beginning is listed.
    pub(super) fn find(&self, names: &[Vec<u8>]) -> Option<Cow<'_, Shown>> {
        if let [folder, id] = names
            && folder == IDS
            && id.len() == 2 * SnapshotId::LEN
        {
            let id = std::str::from_utf8(id).ok()?.parse().ok()?;
            return self.records.get(&id).map(|record| Cow::Owned(by_id(record)));
        }
        let mut at = &self.root;
        for name in names {
            let Shown::Folder(inside) = at else { return None };
            at = inside.get(name)?;
        }
        Some(Cow::Borrowed(at))
    }

    /// A snapshot's record.
    pub(super) fn record(&self, id: &SnapshotId) -> Option<&SnapshotRecord> {
        self.records.get(id)
    }

    /// How many snapshots there are.
    pub(super) fn count(&self) -> usize {
        self.records.len()
    }

    /// The time of the newest snapshot, in the ledger's seconds.
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }
}

/// The link from the folder of ids to a snapshot.
fn by_id(record: &SnapshotRecord) -> Shown {
    Shown::Link([b"../snapshots/", &name_of(record)[..]].concat())
}

/// Links to snapshots, and one to the last of them.
fn links(names: &[Vec<u8>], up: &[u8]) -> Shown {
    let link = |name: &Vec<u8>| (name.clone(), Shown::Link([up, name].concat()));
    let latest = names.last().map(|name| (LATEST.to_vec(), Shown::Link(name.clone())));
    Shown::Folder(names.iter().map(link).chain(latest).collect())
}

/// What a snapshot's folder is called: by time, and by the beginning of its id, for two may have one time.
fn name_of(record: &SnapshotRecord) -> Vec<u8> {
    let stamp = i64::try_from(record.time).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = stamp.map_or_else(|| format!("@{}", record.time), |stamp| stamp.to_string());
    format!("{time}_{}", short(&record.id.to_string())).into_bytes()
}

fn short(id: &str) -> String {
    id.chars().take(DIGITS).collect()
}

/// A text as the name of a file: no text is shown under the name of another.
fn file_name(text: &str) -> Vec<u8> {
    let encoded = text.bytes().flat_map(|byte| match byte {
        b'/' => b"%2F".to_vec(),
        b'%' => b"%25".to_vec(),
        0 => b"%00".to_vec(),
        other => vec![other],
    });
    match encoded.collect::<Vec<u8>>() {
        name if name.is_empty() => b"%".to_vec(),
        name if name == b"." => b"%2E".to_vec(),
        name if name == b".." => b"%2E%2E".to_vec(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Commit;
    use blockhouse_types::{Account, Durability};

    fn record(number: u8, time: u64) -> SnapshotRecord {
        SnapshotRecord {
            id: SnapshotId::new([number; 32]),
            source: SourceId::new([9; 32]),
            writer: Account::new([0; 20]),
            commit: Commit::default(),
            block: 1,
            time,
            transaction: alloy_primitives::B256::ZERO,
            forgotten: false,
            forgotten_in: None,
            tags: std::collections::BTreeSet::new(),
            durability: Durability { d: 0, w: 0, wd: 0 },
            verified: None,
        }
    }

    fn names(parts: &[&str]) -> Vec<Vec<u8>> {
        parts.iter().map(|part| part.as_bytes().to_vec()).collect()
    }

    #[test]
    fn snapshots_stand_in_one_place_and_are_found_by_host_tag_and_id() {
        let mut source = SourceEntry { name: "/home/ann".to_owned(), host: "web".to_owned(), ..SourceEntry::default() };
        source.tags.insert(SnapshotId::new([1; 32]).to_string(), vec!["path=a/b".to_owned()]);
        let sources = BTreeMap::from([(SourceId::new([9; 32]), source)]);
        let catalog = Catalog::of(vec![record(1, 0), record(2, 0)], &sources);
        let one = "1970-01-01T00:00:00Z_010101010101";
        let found = catalog.find(&names(&["snapshots", one])).unwrap().into_owned();
        assert_eq!(found, Shown::Snapshot(SnapshotId::new([1; 32])));
        let link = |parts: &[&str]| match catalog.find(&names(parts)).map(Cow::into_owned) {
            Some(Shown::Link(target)) => String::from_utf8(target).unwrap(),
            other => panic!("{parts:?}: {other:?}"),
        };
        assert_eq!(link(&["snapshots", "latest"]), "1970-01-01T00:00:00Z_020202020202");
        assert_eq!(link(&["ids", "010101010101"]), format!("../snapshots/{one}"));
        assert_eq!(link(&["ids", &"01".repeat(32)]), format!("../snapshots/{one}"));
        assert_eq!(catalog.find(&names(&["ids", &"03".repeat(32)])), None);
        assert_eq!(link(&["tags", "path=a%2Fb", one]), format!("../../snapshots/{one}"));
        assert_eq!(link(&["tags", "path=a%2Fb", "latest"]), one);
        assert_eq!(link(&["hosts", "web", "%2Fhome%2Fann", one]), format!("../../../snapshots/{one}"));
        assert_eq!(catalog.find(&names(&["tags", "other"])), None);
    }

    #[test]
    fn any_text_is_a_name() {
        assert_eq!(file_name(""), b"%");
        assert_eq!(file_name(".."), b"%2E%2E");
        assert_eq!(file_name("a/%"), b"a%2F%25");
    }
}
