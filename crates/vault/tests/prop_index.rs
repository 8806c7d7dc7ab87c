//! The index against a map: whatever is added, joined and opened again, it says where chunks are, and never where they are not.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use blockhouse_types::{Account, ChunkId, Code, StripeId};
use blockhouse_vault::index::{Index, Location, Slot, StripeEntry};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Adds a stripe with chunks of these numbers.
    Add(BTreeSet<u32>),
    Join,
    OpenAgain,
    /// Another process adds, and this one does not see it before it opens again.
    AddElsewhere(BTreeSet<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    let chunks = || prop::collection::btree_set(0..400_u32, 1..150);
    prop_oneof![
        8 => chunks().prop_map(Step::Add),
        2 => Just(Step::Join),
        1 => Just(Step::OpenAgain),
        2 => chunks().prop_map(Step::AddElsewhere),
    ]
}

fn chunk(number: u32) -> ChunkId {
    ChunkId::new(blockhouse_crypto::hash::content(&number.to_le_bytes()))
}

fn slot(number: u32) -> Slot {
    Slot { codec: 1, offset: number * 1000, sealed_len: 0x00ff_ffff - number, plain_len: number }
}

fn stripe(number: u8) -> StripeEntry {
    let code = Code::try_new(4, 2).unwrap();
    StripeEntry { id: StripeId::new([number; 32]), code, pack_len: 1 << 20, writer: Account::new([3; 20]) }
}

/// By chunk, its stripes.
type Model = BTreeMap<u32, BTreeSet<StripeId>>;

fn add(index: &mut Index, model: &mut Model, number: u8, chunks: &BTreeSet<u32>) {
    index.add(stripe(number), chunks.iter().map(|number| (chunk(*number), slot(*number))).collect()).unwrap();
    note(model, number, chunks);
}

fn note(model: &mut Model, number: u8, chunks: &BTreeSet<u32>) {
    for at in chunks {
        model.entry(*at).or_default().insert(stripe(number).id);
    }
}

fn check(index: &Index, model: &Model) {
    for number in 0..500 {
        let mut found = index.locate(&chunk(number));
        found.sort_by_key(|location| location.stripe);
        let at = |stripe: &StripeId| Location { stripe: *stripe, slot: slot(number) };
        let expected: Vec<Location> = model.get(&number).into_iter().flatten().map(at).collect();
        assert_eq!(found, expected, "chunk {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn says_what_was_added_and_nothing_else(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        // What this process sees, and what is there for one that opens the index now.
        let (mut seen, mut there) = (Model::new(), Model::new());
        for (step, number) in steps.iter().zip(0..) {
            match step {
                Step::Add(chunks) => {
                    add(&mut index, &mut seen, number, chunks);
                    note(&mut there, number, chunks);
                }
                Step::AddElsewhere(chunks) => {
                    add(&mut Index::open(folder.path()).unwrap(), &mut there, number, chunks);
                }
                Step::Join => index.compact().unwrap(),
                Step::OpenAgain => {
                    index = Index::open(folder.path()).unwrap();
                    seen.clone_from(&there);
                }
            }
        }
        check(&index, &seen);
        check(&Index::open(folder.path()).unwrap(), &there);
    }
}

/// A segment of the first layout is taken for what it is: a cache that can be made anew.
#[test]
fn what_an_earlier_layout_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join(format!("{}.segment", stripe(1).id));
    fs::write(&old, b"BHIX\x01\0\0\0").unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert_eq!((old.exists(), index.stripes().count()), (false, 0));
}

/// A vault that grows by small backups does not write its whole index again at each of them.
#[test]
fn a_large_segment_is_left_alone_while_small_ones_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    let mut model = Model::new();
    add(&mut index, &mut model, 200, &(0..400).collect());
    let large = fs::metadata(folder.path().join(format!("{}.chunks", stripe(200).id))).unwrap();
    for number in 0..60 {
        add(&mut index, &mut model, number, &[u32::from(number)].into());
        index.compact().unwrap();
        assert!(fs::read_dir(folder.path()).unwrap().count() <= 13);
    }
    let same = fs::metadata(folder.path().join(format!("{}.chunks", stripe(200).id))).unwrap();
    assert_eq!(large.modified().unwrap(), same.modified().unwrap());
    check(&index, &model);
}
