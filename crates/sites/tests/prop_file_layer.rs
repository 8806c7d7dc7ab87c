//! F1 and F2: whatever the disk forgets, an acknowledged object survives, and a name never holds a part of one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use blockhouse_sites::FileLayer;
use blockhouse_sites::disk::DiskCall;
use blockhouse_sites::twin::{ForgetfulDisk, Luck};
use proptest::prelude::*;

/// EINVAL: the file system has no rename that refuses to replace.
const INVALID: i32 = 22;
const NAMES: [&str; 4] = ["lists/a", "shards/00/b", "shards/00/c", "shards/01/d"];

/// What the property knows: the bytes of each name, and which of them were acknowledged.
#[derive(Default)]
struct Expected {
    acknowledged: BTreeMap<&'static str, Vec<u8>>,
    tried: BTreeMap<&'static str, Vec<u8>>,
}

impl Expected {
    fn put(&mut self, layer: &FileLayer, name: &'static str, bytes: &[u8]) -> bool {
        self.tried.insert(name, bytes.to_vec());
        let done = layer.put(name, bytes).is_ok();
        if done {
            self.acknowledged.insert(name, bytes.to_vec());
        }
        done
    }

    fn check(&self, after: &Path) -> Result<(), TestCaseError> {
        for (name, bytes) in &self.acknowledged {
            let found = fs::read(after.join(name)).ok();
            prop_assert_eq!(found.as_ref(), Some(bytes), "{} was acknowledged", name);
        }
        for (name, bytes) in &self.tried {
            if let Ok(found) = fs::read(after.join(name)) {
                prop_assert_eq!(&found, bytes, "{} is there, but not whole", name);
            }
        }
        Ok(())
    }
}

fn bytes_of(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(1000).collect()
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![Just(Luck::None), Just(Luck::All), any::<u64>().prop_map(Luck::Seeded)]
}

fn has_links_only(disk: &ForgetfulDisk, links_only: bool) {
    if links_only {
        disk.fail(DiskCall::Rename, INVALID, usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Writers die after some call, others go on, then the power fails, then it fails again during the repetition.
    #[test]
    fn acknowledged_objects_survive_any_loss(
        kills in prop::collection::vec(0..40_usize, 0..3),
        last in 0..60_usize,
        lucks in [luck(), luck()],
        links_only: bool,
    ) {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let mut expected = Expected::default();

        let disk = Arc::new(ForgetfulDisk::open(folders[0].path()).unwrap());
        has_links_only(&disk, links_only);
        for calls in kills.into_iter().chain([last]) {
            // Each process is a new layer: it does not know what the one before it had synced.
            let layer = FileLayer::new(disk.clone());
            disk.cut_power_after(calls);
            for name in NAMES {
                if !expected.put(&layer, name, &bytes_of(name)) {
                    break;
                }
            }
            disk.restore_power();
        }
        disk.survivors(lucks[0], folders[1].path()).unwrap();
        expected.check(folders[1].path())?;

        // After the loss the same run simply works, and is durable.
        let disk = Arc::new(ForgetfulDisk::open(folders[1].path()).unwrap());
        has_links_only(&disk, links_only);
        let layer = FileLayer::new(disk.clone());
        for name in NAMES {
            prop_assert!(expected.put(&layer, name, &bytes_of(name)));
        }
        disk.survivors(lucks[1], folders[2].path()).unwrap();
        expected.check(folders[2].path())?;
    }
}

/// Every instant of a first put, without luck and with all kinds of it.
#[test]
fn no_instant_of_a_put_leaves_a_part() {
    for calls in 0..14 {
        for seed in 0..40 {
            let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let disk = Arc::new(ForgetfulDisk::open(folders[0].path()).unwrap());
            let mut expected = Expected::default();
            disk.cut_power_after(calls);
            let done = expected.put(&FileLayer::new(disk.clone()), "shards/00/b", &bytes_of("b"));
            assert_eq!(done, calls >= 11, "a first put takes eleven calls");
            disk.survivors(Luck::Seeded(seed), folders[1].path()).unwrap();
            expected.check(folders[1].path()).unwrap();
        }
    }
}
