//! Removals, whole and cut off anywhere: what is kept stays whole, and the next run finishes. And a freeze that comes while one runs.
//!
//! `BLOCKHOUSE_CUTS` says at how many instants each of `forget` and `prune` is cut (5 unless told), `BLOCKHOUSE_SEED` at which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use blockhouse_sites::ObjectKey;
use blockhouse_types::{SnapshotId, SourceId};
use blockhouse_vault::backup::back_up;
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::forget::{self, ForgetReport, Plan};
use blockhouse_vault::init::init;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::prune::{PruneError, PruneReport, PruneRequest, prune};
use blockhouse_vault::repair::{RepairRequest, repair};
use blockhouse_vault::restore::{RestoreRequest, restore};
use blockhouse_vault::retention::{self, Keep, Rule};
use blockhouse_vault::select::{Known, Narrow, all};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::{Settings, Vault};
use blockhouse_vault::verify::{VerifyReport, VerifyRequest, verify};

use crate::support::cut::{cut, instants};
use crate::support::requests::{to_back_up, to_init};

const SITES: [&str; 3] = ["s1", "s2", "s3"];
/// How many the rule keeps.
const KEPT: usize = 2;

struct World {
    base: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    /// What each snapshot must give back, in the order of their backups.
    made: Vec<(SnapshotId, String)>,
}

impl World {
    /// A vault with so many snapshots, each with something that no other has, under a rule that keeps the newest two.
    async fn with_snapshots(count: usize) -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        let mut world = Self { base, clock: Arc::new(AtomicU64::new(1_800_000_000)), made: Vec::new() };
        let sites = SITES.map(|name| world.path(name));
        init(to_init(world.base.path(), sites), world.settings()).await.unwrap();
        for _ in 0..count {
            world.back_up().await;
        }
        let keep = Keep { last: u32::try_from(KEPT).unwrap(), ..Keep::default() };
        let rule = Rule { keep, ..Rule::default() };
        retention::lay_down(&world.open().await, &world.unlocked(), &rule, &BTreeSet::new()).await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// A clock that never stands still: no block waits for it.
    fn settings(&self) -> Settings {
        let clock = Arc::clone(&self.clock);
        Settings { clock: Arc::new(move || clock.fetch_add(2, Ordering::SeqCst)), ..Settings::default() }
    }

    async fn open(&self) -> Vault {
        Vault::open(VaultFolder::new(self.path("vault")), self.settings()).await.unwrap()
    }

    fn unlocked(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    async fn back_up(&mut self) {
        let text = format!("{:032x}", rand::random::<u128>());
        fs::write(self.path("data/file"), &text).unwrap();
        let vault = self.open().await;
        let report = back_up(&vault, &to_back_up(self.path("data")), &Arc::new(Progress::new())).await.unwrap();
        self.made.push((report.snapshot, text));
    }

    /// What `forget --apply` does.
    async fn forget(&self) -> ForgetReport {
        let vault = self.open().await;
        let plan = Plan::of_survey(&retention::survey(&vault, None).await.unwrap(), |_| true);
        forget::execute(&vault, &plan, None, &Progress::new()).await.unwrap()
    }

    async fn prune(&self) -> Result<PruneReport, PruneError> {
        prune(&self.open().await, PruneRequest::default(), &Progress::new()).await
    }

    async fn verify(&self, vault: &Vault, snapshots: Vec<Known>) -> VerifyReport {
        let request = VerifyRequest { data_basis_points: Some(10_000) };
        verify(vault, snapshots, Some(&self.unlocked()), request, &Arc::new(Progress::new())).await.unwrap()
    }

    /// Everything that is not forgotten restores to what it was, and the newest two are among it; how many there are.
    async fn keeps_what_it_must(&self) -> usize {
        let vault = self.open().await;
        let mut left: BTreeMap<SnapshotId, Known> = BTreeMap::new();
        for known in all(&vault, &Narrow::default()).await.unwrap() {
            left.insert(known.record.id, known);
        }
        let mut newest = self.made.iter().rev().take(KEPT);
        assert!(newest.all(|(id, _)| left.contains_key(id)), "{:?} of {:?}", left.keys(), self.made);
        let report = self.verify(&vault, left.values().cloned().collect()).await;
        assert!(report.is_readable(), "{report:?}");
        for (id, text) in &self.made {
            let Some(known) = left.get(id) else { continue };
            let to = self.path(&format!("out-{:032x}", rand::random::<u128>()));
            let request = RestoreRequest::new(to.clone());
            let progress = Arc::new(Progress::new());
            let report = restore(&vault, &self.unlocked(), known.clone(), &request, &progress).await.unwrap();
            assert_eq!(report.flaws, vec![]);
            assert_eq!(&fs::read_to_string(to.join("file")).unwrap(), text);
        }
        left.len()
    }

    /// Goes on with what was cut, and leaves nothing to do.
    async fn finish(&mut self) {
        self.forget().await;
        let report = self.prune().await.unwrap();
        assert!(report.is_finished(), "{report:?}");
        assert_eq!(self.keeps_what_it_must().await, KEPT);
        let vault = self.open().await;
        let dry = PruneRequest { dry_run: true, wait: false };
        let rest = prune(&vault, dry, &Progress::new()).await.unwrap();
        assert_eq!((rest.removed, rest.waiting.len()), (0, 0), "{rest:?}");
        let report = self.verify(&vault, all(&vault, &Narrow::default()).await.unwrap()).await;
        assert!(report.is_readable() && report.flaws.is_empty(), "{report:?}");
        for site in SITES {
            assert_eq!(count(&self.path(site).join("snapshots")), KEPT, "{site}");
        }
        // What is left is used again, and nothing of it is counted on that went.
        self.back_up().await;
        assert_eq!(self.keeps_what_it_must().await, KEPT + 1);
    }

    fn shards(&self) -> usize {
        SITES.iter().map(|site| count(&self.path(site).join("shards"))).sum()
    }
}

/// How many files are in a folder and below it; those that go meanwhile may be counted or not.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Cut between any two steps: mark, blocks, sweep, unlink, index, note, plain objects; and between the blocks of a forget.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_killed_anywhere_loses_nothing_that_is_kept_and_goes_on() {
    let (cuts, seed) = (number("BLOCKHOUSE_CUTS", 5), number("BLOCKHOUSE_SEED", 1));
    let mut world = World::with_snapshots(4).await;
    let (forgotten, of_forget) = cut(world.forget(), usize::MAX).await;
    assert_eq!(forgotten.unwrap().forgotten.len(), 2);
    let (pruned, of_prune) = cut(world.prune(), usize::MAX).await;
    assert!(pruned.unwrap().unwrap().removed > 0);
    world.finish().await;
    println!("replay with BLOCKHOUSE_CUTS={cuts} BLOCKHOUSE_SEED={seed}");
    for instant in instants(of_forget, cuts, seed as u64) {
        println!("forget is cut after {instant} of {of_forget} polls");
        let mut world = World::with_snapshots(4).await;
        cut(world.forget(), instant).await;
        world.keeps_what_it_must().await;
        world.finish().await;
    }
    for instant in instants(of_prune, cuts, seed as u64) {
        println!("prune is cut after {instant} of {of_prune} polls");
        let mut world = World::with_snapshots(4).await;
        world.forget().await;
        cut(world.prune(), instant).await;
        assert_eq!(world.keeps_what_it_must().await, KEPT);
        world.finish().await;
    }
}

/// A freeze was looked for once, when a prune began, and only of sources that have snapshots: one that was made while shards were
/// unlinked stopped nothing. It is asked for again before every folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_of_anything_stops_a_removal_under_way() {
    let mut world = World::with_snapshots(8).await;
    world.forget().await;
    let (vault, other, held) = (world.open().await, world.open().await, world.shards());
    let progress = Progress::new();
    let mut pruning = Box::pin(prune(&vault, PruneRequest::default(), &progress));
    let ended =
        poll_fn(
            |context| {
                if world.shards() < held { Poll::Ready(None) } else { pruning.as_mut().poll(context).map(Some) }
            },
        );
    let ended = ended.await;
    assert!(ended.is_none(), "it ended before a shard was unlinked: {ended:?}");
    retention::freeze(&other, None, Some(SourceId::new([9; 32]))).await.unwrap();
    let stopped = pruning.await.unwrap_err();
    assert!(matches!(stopped, PruneError::Frozen { .. }), "{stopped:?}");
    let left = world.shards();
    let refused = world.prune().await.unwrap_err();
    assert!(matches!(refused, PruneError::Frozen { .. }), "{refused:?}");
    assert_eq!(world.shards(), left);
    retention::unfreeze(&other, &world.unlocked(), None).await.unwrap();
    world.finish().await;
    assert!(world.shards() < left, "all of it had been unlinked under the freeze");
}

/// The list of a removal that is not finished was mended by nobody. With the sites that had it lost one after another, each mended before
/// the next, the removal would have counted as finished while a prune still waits to act on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_brings_the_list_of_an_unfinished_removal_to_every_site() {
    let mut world = World::with_snapshots(4).await;
    world.forget().await;
    let (site, away) = (world.path(SITES[2]), world.path("away"));
    fs::rename(&site, &away).unwrap();
    let report = world.prune().await.unwrap();
    assert!(!report.is_finished(), "{report:?}");
    fs::rename(&away, &site).unwrap();
    let vault = world.open().await;
    let marking = vault.ledger().markings().await.unwrap().pop().unwrap();
    let list = site.join(ObjectKey::List(marking.root).path());
    assert!(!list.exists(), "it was away when the list was written");
    repair(&vault, &RepairRequest::default(), &Progress::new()).await.unwrap();
    assert!(list.exists());
    world.finish().await;
}
