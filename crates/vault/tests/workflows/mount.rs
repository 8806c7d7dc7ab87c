//! A vault as a file system, asked without a kernel.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blockhouse_types::EntryKind;
use blockhouse_vault::backup::back_up;
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::init;
use blockhouse_vault::mount::{Attributes, Fault, MountSettings, MountedVault, Trouble};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::select::Narrow;
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::support::requests::{to_back_up, to_init};

type Said = Arc<Mutex<Vec<Trouble>>>;

/// A vault over three sites with one snapshot of `data`.
async fn backed_up(base: &Path) {
    let sites = (1..=3).map(|number| base.join(format!("s{number}")));
    init(to_init(base, sites), Settings::default()).await.unwrap();
    back_up(&open(base).await, &to_back_up(base.join("data")), &Arc::new(Progress::new())).await.unwrap();
}

async fn open(base: &Path) -> Vault {
    Vault::open(VaultFolder::new(base.join("vault")), Settings::default()).await.unwrap()
}

async fn mounted(base: &Path, cache: usize) -> (Arc<MountedVault>, Said) {
    let vault = open(base).await;
    let unlocked = Unlocked::identity(base.join("identity"), None, Some(vault.id())).unwrap();
    let said = Said::default();
    let heard = Arc::clone(&said);
    let tell = Box::new(move |trouble: &Trouble| heard.lock().unwrap().push(trouble.clone()));
    let settings = MountSettings { cache, narrow: Narrow::default(), owner: (7, 8) };
    (Arc::new(MountedVault::open(vault, unlocked, settings, tell).await.unwrap()), said)
}

fn names(mounted: &MountedVault, folder: u64) -> Vec<(String, u64)> {
    let (handle, mut found) = (mounted.open_folder(folder).unwrap(), Vec::new());
    mounted
        .visit((folder, handle), (0, false), &mut |seen| {
            found.push((String::from_utf8(seen.name.to_vec()).unwrap(), seen.number));
            true
        })
        .unwrap();
    mounted.close_folder(handle);
    found
}

fn find(mounted: &MountedVault, path: &[&str]) -> Attributes {
    let root = mounted.attributes(mounted.root()).unwrap();
    path.iter().fold(root, |at, name| mounted.look_up(at.number, name.as_bytes()).unwrap())
}

/// The folder of the only snapshot.
fn snapshot(mounted: &MountedVault) -> Attributes {
    let snapshots = find(mounted, &["snapshots"]);
    let (name, _) = names(mounted, snapshots.number).remove(0);
    mounted.look_up(snapshots.number, name.as_bytes()).unwrap()
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// What is below a folder: for each path what it is and, of a file, its bytes.
fn walk(mounted: &MountedVault, folder: u64, at: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for (name, _) in names(mounted, folder) {
        let found = mounted.look_up(folder, name.as_bytes()).unwrap();
        let path = format!("{at}/{name}");
        match found.kind {
            EntryKind::Directory => walk(mounted, found.number, &path, into),
            EntryKind::Symlink => drop(into.insert(path, mounted.link_target(found.number).unwrap())),
            _ => drop(into.insert(path, mounted.read(found.number, (0, found.size as usize)).unwrap())),
        }
        mounted.forget(found.number, 1);
    }
}

/// With so little memory that nearly every listing is read again, and numbers that are given back at once.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_found_with_little_memory() {
    let base = tempfile::tempdir().unwrap();
    let data = base.path().join("data");
    let mut expected = BTreeMap::new();
    for number in 0..60_u64 {
        let path = format!("{}/{}/{number}", number % 7, number % 3);
        fs::create_dir_all(data.join(&path).parent().unwrap()).unwrap();
        let bytes = noise(number as usize * 997, number);
        fs::write(data.join(&path), &bytes).unwrap();
        expected.insert(format!("/{path}"), bytes);
    }
    symlink("0/0/0", data.join("link")).unwrap();
    expected.insert("/link".to_owned(), b"0/0/0".to_vec());
    fs::hard_link(data.join("1/1/1"), data.join("also")).unwrap();
    expected.insert("/also".to_owned(), expected["/1/1/1"].clone());
    backed_up(base.path()).await;
    let (mounted, said) = mounted(base.path(), 64 << 10).await;
    let work = move || {
        let top = snapshot(&mounted);
        let mut found = BTreeMap::new();
        walk(&mounted, top.number, "", &mut found);
        assert!(found == expected, "{:?} and {:?}", found.keys(), expected.keys());
        let one = mounted.look_up(top.number, b"also").unwrap();
        let folder = mounted.look_up(mounted.look_up(top.number, b"1").unwrap().number, b"1").unwrap();
        assert_eq!(mounted.look_up(folder.number, b"1").unwrap(), one, "one file, one number");
        assert_eq!(one.names, 2);
        assert_eq!(mounted.look_up(top.number, b"nothing"), Err(Fault::NoEntry));
        assert_eq!(mounted.look_up(one.number, b"x"), Err(Fault::NotAFolder));
        assert_eq!(mounted.read(folder.number, (0, 1)), Err(Fault::IsAFolder));
        assert_eq!(mounted.attribute(one.number, b"user.none"), Err(Fault::NoAttribute));
        mounted.forget(one.number, 2);
        assert_eq!(mounted.attributes(one.number), Err(Fault::Stale));
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    assert!(said.lock().unwrap().is_empty());
}

/// B1: any bytes are those of reading all, of a file with holes whose list of extents is long.
#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_of_a_long_file_with_holes_are_right() {
    let base = tempfile::tempdir().unwrap();
    let path: PathBuf = base.path().join("data/file");
    fs::create_dir(base.path().join("data")).unwrap();
    let file = fs::File::create(&path).unwrap();
    let length = 24 << 20;
    file.set_len(length).unwrap();
    for number in 0..40_u64 {
        file.write_all_at(&noise(150_000 + 5_000 * number as usize, number), number * (length / 40)).unwrap();
    }
    backed_up(base.path()).await;
    let (mounted, _) = mounted(base.path(), 4 << 20).await;
    let whole = fs::read(&path).unwrap();
    let work = move || {
        let found = mounted.look_up(snapshot(&mounted).number, b"file").unwrap();
        assert_eq!(found.size, length);
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..300 {
            let (at, wanted) = (random.random_range(0..=length + 10), random.random_range(0..400_000_usize));
            let from = whole.len().min(at as usize);
            let expected = &whole[from..whole.len().min(from + wanted)];
            assert!(mounted.read(found.number, (at, wanted)).unwrap() == expected, "{wanted} bytes at {at}");
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}
