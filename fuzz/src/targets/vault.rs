//! Targets for the files of a vault folder: what a fault of the host's disk may have made of them.
//!
//! Hashes keep most damage from the decoders behind them. What must hold all the same is tried twice: with the bytes as they
//! are, and with every hash made to fit.

use std::fs;
use std::path::Path;

use blockhouse_crypto::hash::hash;
use blockhouse_crypto::{RecipientSet, Role, Secret};
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::domain::{DomainKey, DomainKind};
use blockhouse_sites::SiteSpec;
use blockhouse_sources::files::Identity;
use blockhouse_types::{
    Account, BlockHash, ChunkId, Code, Fingerprint, SessionId, SiteId, SnapshotId, SourceId, StripeId, Timestamp,
    VaultId,
};
use blockhouse_vault::cache::{self, CacheReader, CacheWriter, CachedFile, FolderKey, Scope};
use blockhouse_vault::folder::{
    Config, GrowthEntry, HomeKind, LastEntry, LedgerEntry, Profiles, SiteEntry, SourceEntry, UserTable, VaultFolder,
};
use blockhouse_vault::index::{Index, Slot, StripeEntry};
use blockhouse_vault::recipients;
use blockhouse_vault::select::SnapshotRef;
use blockhouse_vault::summary::is_whole;
use blockhouse_vault::unlock::Unlocked;

use super::crypto::age_identity;
use crate::seeds::golden;
use crate::{Target, Verdict};

/// Work in a folder that is gone afterwards.
pub(super) fn in_folder<T>(work: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    work(folder.path())
}

/// Accepted if one of two was.
fn either(one: Verdict, other: Verdict) -> Verdict {
    if one == Verdict::Accepted { one } else { other }
}

/// The summary of a ledger, kept on the host.
pub(super) const SUMMARY: Target = Target {
    name: "ledger-summary",
    decoders: &["vault/summary/format.rs::decode"],
    run: |bytes| either(summary(bytes), summary(&with_summary_hash(bytes))),
    seeds: || vec![include_bytes!("../../seeds/ledger.summary").to_vec()],
};

/// Of whatever ledger it says it is.
fn summary(bytes: &[u8]) -> Verdict {
    let genesis = bytes.get(8..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    if is_whole(bytes, BlockHash::new(genesis)) { Verdict::Accepted } else { Verdict::Refused }
}

fn with_summary_hash(bytes: &[u8]) -> Vec<u8> {
    let body = bytes.get(..bytes.len().saturating_sub(32)).unwrap_or_default();
    [body, &hash("blockhouse v3 ledger summary", body)].concat()
}

/// A segment of the index: opened, asked, joined with others.
pub(super) const INDEX: Target = Target {
    name: "index",
    decoders: &["vault/index/segment.rs::open", "vault/index.rs::open", "vault/index/filter.rs::from_bytes"],
    run: |bytes| either(index(bytes), index(&with_segment_hashes(bytes))),
    seeds: || {
        let chunks = |count: u64| (0..count).map(|number| (chunk(number), slot(number))).collect::<Vec<_>>();
        let segment = |count| {
            in_folder(|folder| {
                Index::open(folder).unwrap().add(stripe(1), chunks(count)).unwrap();
                fs::read(folder.join(format!("{}.chunks", stripe(1).id))).unwrap()
            })
        };
        vec![segment(3), segment(64), segment(200)]
    },
};

fn chunk(number: u64) -> ChunkId {
    ChunkId::new(hash("blockhouse fuzz chunk", &number.to_le_bytes()))
}

fn slot(number: u64) -> Slot {
    let offset = u32::try_from(number).unwrap() * 1000;
    Slot { codec: 1, offset, sealed_len: 900, plain_len: 2000 }
}

fn stripe(number: u8) -> StripeEntry {
    let code = Code::try_new(4, 2).unwrap();
    StripeEntry { id: StripeId::new([number; 32]), code, pack_len: 1 << 20, writer: Account::new([3; 20]) }
}

fn index(segment: &[u8]) -> Verdict {
    in_folder(|folder| {
        fs::write(folder.join("fed.chunks"), segment).unwrap();
        let mut index = Index::open(folder).unwrap();
        if index.stripes().next().is_none() {
            assert!(!folder.join("fed.chunks").exists() || segment_is_empty(segment), "a damaged segment is removed");
            return Verdict::Refused;
        }
        ask(&index);
        // Joining costs a hundred times what asking does: one input of sixteen pays for it.
        if !segment.last().is_some_and(|byte| byte.is_multiple_of(16)) {
            return Verdict::Accepted;
        }
        for number in 100..112 {
            index.add(stripe(number), vec![(chunk(number.into()), slot(number.into()))]).unwrap();
        }
        // Joining meets every block. What it cannot join it refuses; it never makes up a place.
        Verdict::of(index.compact());
        ask(&index);
        Verdict::Accepted
    })
}

/// Every place that is named lies in a stripe that is known.
fn ask(index: &Index) {
    for number in (0..200).step_by(7) {
        for place in index.locate(&chunk(number)) {
            assert!(index.stripe(&place.stripe).is_some(), "a chunk lies in a stripe that nobody knows");
        }
    }
}

/// A whole segment may have no stripe in it, if its hash holds.
fn segment_is_empty(segment: &[u8]) -> bool {
    segment.len().checked_sub(TAIL).and_then(|at| segment.get(at..at + 4)) == Some(&[0; 4])
}

/// Counts and hash, the last bytes of a segment.
const TAIL: usize = 20 + 32;

/// The bytes as the page of host files lays them out, the foot moved to where its counts say, with hashes that fit.
fn with_segment_hashes(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 35 * 64;
    let Some((rest, tail)) = bytes.split_last_chunk::<TAIL>() else { return bytes.to_vec() };
    let count = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().unwrap()) as usize;
    // No more than the fuzzer's inputs are long.
    let (stripes, blocks, lines) = (count(0).min(4000), count(4).min(200), count(8).min(2000));
    let foot = 8 + blocks * (BLOCK + 32);
    let counts = foot + 62 * stripes + 8 * blocks + 64 * lines;
    let mut mended = rest.to_vec();
    mended.resize(counts, 0);
    mended.extend_from_slice(tail);
    let mut mend = |from: usize, to: usize, context: &'static str| {
        let sum = hash(context, &mended[from..to]);
        mended[to..to + 32].copy_from_slice(&sum);
    };
    mend(foot, counts + 20, "blockhouse v2 index foot");
    for block in 0..blocks {
        let from = 8 + block * (BLOCK + 32);
        mend(from, from + BLOCK, "blockhouse v2 index block");
    }
    mended
}

const SOURCE: SourceId = SourceId::new([1; 32]);

fn scope() -> Scope {
    Scope::new(SOURCE, &DomainKey::new(DomainKind::Writer, &Secret::new([3; 32])))
}

/// The cache of a source, read along a walk.
pub(super) const FILE_CACHE: Target = Target {
    name: "file-cache",
    decoders: &["vault/cache.rs::open", "vault/cache.rs::decode_record"],
    run: |bytes| either(file_cache(bytes), file_cache(&with_record_hashes(bytes))),
    seeds: || {
        let cache = |folders: &[&str]| {
            in_folder(|folder| {
                let mut writer = CacheWriter::create(folder, &scope(), &SessionId::new([2; 32])).unwrap();
                for path in folders {
                    writer.folder(&key(path), &[cached("a", 0), cached("b", 3)]).unwrap();
                }
                writer.finish().unwrap();
                fs::read(cache::path_of(folder, &SOURCE)).unwrap()
            })
        };
        vec![cache(&[""]), cache(&WALK)]
    },
};

/// The folders that are asked for, in the order of a walk.
const WALK: [&str; 4] = ["", "a", "a/b", "c"];

fn key(path: &str) -> FolderKey {
    FolderKey { root: 0, path: path.into() }
}

fn cached(name: &str, chunks: u8) -> CachedFile {
    let time = Timestamp { seconds: -5, nanoseconds: 6 };
    let identity = Identity { device: 1, inode: 2, size: 3, mtime: time, ctime: time };
    let chunk_ids = || (0..chunks).map(|byte| ChunkId::new([byte; 32]));
    let cut = chunk_ids().map(|id| ChunkRef { id, key: Secret::new([5; 32]), plain_len: 9 }).collect();
    let deep_chunks = chunk_ids().collect();
    CachedFile { name: name.into(), identity, content: vec![7; 9], cut, deep_chunks, content_hash: [8; 32] }
}

fn file_cache(bytes: &[u8]) -> Verdict {
    in_folder(|folder| {
        fs::write(cache::path_of(folder, &SOURCE), bytes).unwrap();
        let mut reader = CacheReader::open(folder, &scope());
        let found = WALK.iter().filter(|path| !reader.folder(&key(path)).is_empty()).count();
        if found > 0 { Verdict::Accepted } else { Verdict::Refused }
    })
}

/// The same records, each with a hash that fits, as far as their lengths lead.
fn with_record_hashes(bytes: &[u8]) -> Vec<u8> {
    let mut mended = bytes.to_vec();
    let mut at = 8 + 32 + 32;
    while let Some(length) = mended.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let (from, to) = (at + 4, (at + 4).saturating_add(length));
        let Some(body) = mended.get(from..to) else { break };
        let sum = hash("blockhouse v2 file cache record", body);
        let Some(place) = mended.get_mut(to..to + 32) else { break };
        place.copy_from_slice(&sum);
        at = to + 32;
    }
    mended
}

/// `config.toml`: what is taken is written again as the same configuration.
pub(super) const CONFIG: Target = Target {
    name: "config",
    decoders: &["vault/folder/config.rs::load", "vault/folder/config.rs::from_str"],
    run: |bytes| {
        in_folder(|folder| {
            let folder = VaultFolder::new(folder);
            fs::write(folder.config(), bytes).unwrap();
            let loaded = Config::load(&folder);
            if let Ok(config) = &loaded {
                Verdict::of(recipients::of_config(config));
                config.save(&folder).unwrap();
                assert_eq!(Config::load(&folder).ok().as_ref(), Some(config), "another configuration comes back");
            }
            Verdict::of(loaded)
        })
    },
    seeds: || {
        in_folder(|folder| {
            let folder = VaultFolder::new(folder);
            config().save(&folder).unwrap();
            vec![fs::read(folder.config()).unwrap()]
        })
    },
};

/// Profiles and hooks in `config.toml`.
pub(super) const PROFILES: Target = Target {
    name: "profiles",
    decoders: &["vault/folder/profiles.rs::load"],
    run: |bytes| {
        in_folder(|folder| {
            let folder = VaultFolder::new(folder);
            fs::write(folder.config(), bytes).unwrap();
            Verdict::of(Profiles::load(&folder))
        })
    },
    seeds: || {
        let whole = "[hooks]\nfinally = ['x']\n[source_hooks.a]\nbefore = 'y'\n[profiles.home]\npaths = '/home'\nexclude = ['*.o']\n\
            exclude_larger_than = '2G'\n[profiles.home.hooks]\ntimeout_secs = 5\n";
        vec![whole.as_bytes().to_vec(), b"profiles = { a = { command = ['x'], level = 3 } }".to_vec()]
    },
};

fn config() -> Config {
    let spec = |text: &str| SiteSpec::parse(text, Path::new("/base")).unwrap();
    let site = |number: u8, text: &str| SiteEntry {
        id: SiteId::new([number; 32]),
        spec: spec(text),
        device: Some(2049),
        state: None,
    };
    let owner = RecipientSet::try_new(vec![age_identity().recipient(Role::Owner, "owner").unwrap()]).unwrap();
    let source = SourceEntry {
        name: "/home/ann/papers".to_owned(),
        host: "ann-laptop".to_owned(),
        roots: vec!["/home/ann/papers".to_owned(), "%FF".to_owned()],
        tags: [("0a".repeat(32), vec!["year=2026".to_owned()])].into(),
        last: [("ann-laptop".to_owned(), LastEntry { snapshot: SnapshotId::new([9; 32]), tree: "0b".repeat(32) })]
            .into(),
        copied_from: None,
    };
    let hooks = "before = 'sync'\n".parse().unwrap();
    let profiles = "[home]\npaths = ['/home'] # all\n".parse().unwrap();
    let (genesis, vault, access) = (BlockHash::new([4; 32]), Account::new([5; 20]), Account::new([6; 20]));
    Config {
        version: 1,
        vault: VaultId::new([1; 32]),
        code: Code::try_new(4, 2).unwrap(),
        ledger: LedgerEntry {
            home: HomeKind::Network,
            urls: vec!["https://node.example:8545/v3/KEY".parse().unwrap()],
            chain_id: 1_234_567_890_123,
            genesis,
            vault,
            access,
            chain: Some(blockhouse_homes::ChainTerms::usual(7, Some(12))),
            growth: Some(GrowthEntry { height: 9, hash: genesis, fingerprint: Fingerprint::new([8; 32]) }),
        },
        recipients: recipients::to_entries(&owner),
        sites: vec![site(7, "/srv/a%20b,name=oslo,region=no,provider=own"), site(8, "file:///srv/b")],
        finished_markings: Some(3),
        sources: [(SOURCE, source)].into(),
        hosts: [(Account::new([7; 20]), "web-1".to_owned())].into(),
        hooks,
        source_hooks: UserTable::default(),
        profiles,
    }
}

/// The files that open a vault: an owner's or a reader's identity, a paper key. Without a passphrase: scrypt is meant to be
/// slow.
pub(super) const KEY_FILES: Target = Target {
    name: "key-files",
    decoders: &["vault/unlock.rs::identity", "vault/unlock.rs::paper"],
    run: |bytes| {
        in_folder(|folder| {
            let path = folder.join("key");
            fs::write(&path, bytes).unwrap();
            let opened = [Unlocked::identity(path.clone(), None, None), Unlocked::paper(path)];
            let verdicts = opened.map(|opened| {
                if let Ok(unlocked) = &opened {
                    let _ = (unlocked.age(), unlocked.recovery_account());
                }
                Verdict::of(opened)
            });
            either(verdicts[0], verdicts[1])
        })
    },
    seeds: || {
        let reader = format!("# a reader\n{}\n", *age_identity().to_text());
        let golden = |file: &str| golden("pipeline", &format!("metadata/{file}"));
        vec![golden("identity.txt"), golden("paper-key.txt"), reader.into_bytes()]
    },
};

/// How a snapshot is asked for.
pub(super) const SNAPSHOT_REF: Target = Target {
    name: "snapshot-ref",
    decoders: &["vault/select.rs::from_str"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        Verdict::of(text.parse::<SnapshotRef>())
    },
    seeds: || ["latest", "latest:/home/ann", "0x0A", &"7f".repeat(32)].map(|text| text.as_bytes().to_vec()).into(),
};
