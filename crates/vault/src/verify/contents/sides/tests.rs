//! D1 and D2: each snapshot gets its own verdict, whatever those beside it are like.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sites::SiteSpec;
use blockhouse_sources::files::Options;
use blockhouse_types::limits::MIB;
use blockhouse_types::{Decoder, Encoder};

use super::*;
use crate::backup::{BackupRequest, Origin, back_up};
use crate::folder::VaultFolder;
use crate::init::{InitRequest, init};
use crate::reader;
use crate::unlock::Unlocked;
use crate::vault::{Settings, Vault};

/// All of the data.
const ALL: u16 = 10_000;
/// Longer than what is joined with its neighbours.
const FILE: usize = MIB / 4;
/// The third file: of several chunks, however they are cut.
const LONG: usize = 3 * MIB;

struct World {
    base: tempfile::TempDir,
}

impl World {
    /// A vault with four snapshots of one folder: of one file, of the same again, of two files, of three, each file stored when it was new.
    async fn with_snapshots() -> Self {
        let world = Self { base: tempfile::tempdir().unwrap() };
        let at = |name: &str| world.base.path().join(name);
        fs::create_dir(at("data")).unwrap();
        let site = |number| SiteSpec::parse(at(&format!("site-{number}")).to_str().unwrap(), Path::new("/")).unwrap();
        let request = InitRequest {
            folder: VaultFolder::new(at("vault")),
            identity_out: at("identity"),
            paper_out: None,
            passphrase: None,
            sites: (1..=3).map(site).collect(),
            code: None,
            floor_seconds: 0,
            ledger: None,
        };
        init(request, Settings::default()).await.unwrap();
        for files in [1_u8, 1, 2, 3] {
            let length = if files == 3 { LONG } else { FILE };
            let bytes: Vec<u8> = (0_u32..).flat_map(|place| noise(files, place)).take(length).collect();
            if !at(&format!("data/{files}")).exists() {
                fs::write(at(&format!("data/{files}")), bytes).unwrap();
            }
            let request = BackupRequest {
                origin: Origin::Paths(vec![at("data")]),
                source: None,
                host: "here".to_owned(),
                options: Options::default(),
                tags: Vec::new(),
                level: 3,
                dedup: DomainKind::Writer,
                force: false,
                skip_if_unchanged: false,
            };
            back_up(&world.open().await, &request, &Arc::new(Progress::new())).await.unwrap();
        }
        world
    }

    async fn open(&self) -> Vault {
        Vault::open(VaultFolder::new(self.base.path().join("vault")), Settings::default()).await.unwrap()
    }

    /// All snapshots, as `spoil` left them, and what reads their chunks.
    async fn spoiled(&self, spoil: impl FnOnce(&mut [Beside])) -> (Vec<Beside>, ChunkReader) {
        let vault = self.open().await;
        let unlocked = Unlocked::identity(self.base.path().join("identity"), None, None).unwrap();
        let mut snapshots = Vec::new();
        for record in vault.ledger().snapshots().await.unwrap() {
            snapshots.push(reader::beside(&vault, &unlocked, record).await.unwrap());
        }
        let chunks = reader::together(&vault, &unlocked, &snapshots[0], &snapshots[1..]).await.unwrap();
        spoil(&mut snapshots);
        (snapshots, chunks)
    }

    /// Reads all snapshots side by side, as `spoil` left them; gives the numbers of those that are broken, and how many files were opened.
    async fn broken(&self, spoil: impl FnOnce(&mut [Beside])) -> (Vec<usize>, u64) {
        let (snapshots, chunks) = self.spoiled(spoil).await;
        let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.record.id).collect();
        let progress = Progress::new();
        let read = move || Sides::new(snapshots, chunks, ALL, &progress).read();
        let found = tokio::task::spawn_blocking(read).await.unwrap().unwrap_or_else(|Interrupted| unreachable!());
        let number = |id: &SnapshotId| ids.iter().position(|other| other == id).unwrap();
        let mut broken: Vec<usize> = found.broken.iter().map(|(id, _)| number(id)).collect();
        broken.sort_unstable();
        (broken, found.files.opened)
    }
}

fn noise(seed: u8, place: u32) -> [u8; 32] {
    blockhouse_crypto::hash::content(&[&[seed][..], &place.to_le_bytes()].concat())
}

/// The stripes that a snapshot lists and the one before it does not.
fn new_stripes(snapshots: &[Beside], number: usize) -> Vec<StripeId> {
    let before = &snapshots[number - 1].stripes;
    snapshots[number].stripes.iter().copied().filter(|stripe| !before.contains(stripe)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_found_right_and_every_file_is_opened() {
    let world = World::with_snapshots().await;
    assert_eq!(world.broken(|_| ()).await, (vec![], 1 + 1 + 2 + 3));
}

/// Each lacks a stripe that the others list: what is read for one is no word for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_stripe_that_a_list_lacks_is_missed_by_its_snapshot_alone() {
    let world = World::with_snapshots().await;
    let lacking = |snapshots: &mut [Beside]| {
        let (first, third) = (snapshots[0].stripes.clone(), new_stripes(snapshots, 2));
        assert!(!first.is_empty() && !third.is_empty());
        snapshots[2].stripes.retain(|stripe| !first.contains(stripe));
        snapshots[3].stripes.retain(|stripe| !third.contains(stripe));
    };
    assert_eq!(world.broken(lacking).await.0, [2, 3]);
}

/// Each chunk of a file that a list lacks was an error of its own, and they were gathered until the end of the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_that_a_list_lacks_is_one_error() {
    let world = World::with_snapshots().await;
    let lacking = |snapshots: &mut [Beside]| {
        let stored = new_stripes(snapshots, 3);
        assert!(!stored.is_empty());
        snapshots[3].stripes.retain(|stripe| !stored.contains(stripe));
    };
    assert_eq!(world.broken(lacking).await.0, [3]);
    let (snapshots, chunks) = world.spoiled(lacking).await;
    let read = move || {
        let (root, progress) = (snapshots[3].described.manifest.root.clone(), Progress::new());
        let mut sides = Sides::new(snapshots, chunks, ALL, &progress);
        let covered = &mut sides.reader;
        let roots = reader::list(&mut covered.chunks, b"", &root).unwrap();
        let Body::Directory(listing) = &roots[0].body else { panic!("it is a folder") };
        let files = reader::list(&mut covered.chunks, b"", listing).unwrap();
        let Body::File { content, hash } = &files[2].body else { panic!("it holds files") };
        assert_eq!((files[2].name.as_slice(), content.length()), (&b"3"[..], LONG as u64));
        let contents = vec![(Who::one(3), content)];
        let found = hashes(covered, &contents, &progress).unwrap_or_else(|Interrupted| unreachable!());
        // Wherever they lie, the bytes are there.
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [*hash]);
        let who: Vec<Who> = covered.lacking.iter().map(|(who, _)| *who).collect();
        assert_eq!((who, covered.failed), (vec![Who::one(3)], Who::one(3)));
    };
    tokio::task::spawn_blocking(read).await.unwrap();
}

/// The same chunk by a right reference and by one with another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_opens_nothing_is_found_beside_one_that_does() {
    let world = World::with_snapshots().await;
    let spoil = |snapshots: &mut [Beside]| {
        let root = snapshots[1].described.manifest.root.clone();
        assert!(root == snapshots[0].described.manifest.root, "nothing had changed");
        let key = *root.inline_extents()[0].chunk().unwrap().key.expose();
        let mut encoder = Encoder::new();
        root.encode(&mut encoder);
        let mut bytes = encoder.finish();
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
        bytes[at] ^= 1;
        snapshots[1].described.manifest.root = Content::decode(&mut Decoder::new("a root", &bytes)).unwrap();
    };
    assert_eq!(world.broken(spoil).await.0, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tree_than_the_one_that_was_committed_to_is_told_of_its_snapshot() {
    let world = World::with_snapshots().await;
    let spoil = |snapshots: &mut [Beside]| {
        snapshots[0].described.manifest.entries_root = snapshots[3].described.manifest.entries_root;
        snapshots[2].described.manifest.entries += 1;
    };
    assert_eq!(world.broken(spoil).await.0, [0, 2]);
}
