use super::*;

fn stripe(seed: u8) -> StripeEntry {
    StripeEntry {
        id: StripeId::new([seed; 32]),
        code: Code::try_new(4, 2).unwrap(),
        pack_len: 1 << 20,
        writer: Account::new([seed; 20]),
    }
}

fn chunk(seed: u32) -> ChunkId {
    ChunkId::new(blockhouse_crypto::hash::content(&seed.to_le_bytes()))
}

fn slot(offset: u32) -> Slot {
    Slot { codec: 1, offset, sealed_len: 10, plain_len: 20 }
}

fn add(index: &mut Index, seed: u8, chunks: std::ops::Range<u32>) {
    index.add(stripe(seed), chunks.map(|n| (chunk(n), slot(n))).collect()).unwrap();
}

#[test]
fn finds_what_was_added_also_after_reopening_and_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    for seed in 0..30_u8 {
        let start = u32::from(seed) * 100;
        add(&mut index, seed, start..start + 150);
    }
    index.compact().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for index in [&index, &Index::open(folder.path()).unwrap()] {
        assert_eq!(index.stripes().count(), 30);
        for n in 0..3050 {
            let mut found = index.locate(&chunk(n));
            found.sort_by_key(|location| location.stripe);
            let expected: Vec<_> = (0..30_u8)
                .filter(|seed| (u32::from(*seed) * 100..u32::from(*seed) * 100 + 150).contains(&n))
                .map(|seed| Location { stripe: stripe(seed).id, slot: slot(n) })
                .collect();
            assert_eq!(found, expected, "chunk {n}");
        }
        assert_eq!(index.locate(&chunk(9999)), vec![]);
    }
}

/// I4: a first backup of a large source adds thousands in one session, and a kill may leave as many.
#[test]
fn few_files_are_held_open_however_many_stripes_come() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut index = Index::open(folder.path()).unwrap();
    for seed in 0..=255_u8 {
        add(&mut index, seed, u32::from(seed)..u32::from(seed) + 1);
        assert!(index.segments.len() <= SEGMENTS_HELD);
        let mut one = Index::open(&other.path().join(seed.to_string())).unwrap();
        add(&mut one, seed, u32::from(seed)..u32::from(seed) + 1);
        let name = format!("{}.{EXTENSION}", stripe(seed).id);
        fs::rename(one.folder.join(&name), other.path().join(&name)).unwrap();
        fs::remove_dir_all(&one.folder).unwrap();
    }
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 256);
    let found = Index::open(other.path()).unwrap();
    assert!(found.segments.len() <= SEGMENTS_HELD);
    for index in [&index, &found] {
        assert!((0..256).all(|n| index.locate(&chunk(n)).len() == 1));
    }
}

/// I1: whatever byte is altered, an answer is the right one or none.
#[test]
fn a_damaged_segment_gives_no_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    add(&mut index, 1, 0..100);
    let path = folder.path().join(format!("{}.chunks", stripe(1).id));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&path, &bad).unwrap();
        let index = Index::open(folder.path()).unwrap();
        for n in [0, 50, 99] {
            let found = index.locate(&chunk(n));
            let right = vec![Location { stripe: stripe(1).id, slot: slot(n) }];
            assert!(found.is_empty() || found == right, "byte {at}");
        }
    }
    for length in [0, 7, 8, 100, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(Index::open(folder.path()).unwrap().locate(&chunk(0)), vec![], "cut to {length}");
        assert!(!path.exists(), "a damaged segment is removed");
    }
}

#[test]
fn two_indexes_may_add_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (Index::open(folder.path()).unwrap(), Index::open(folder.path()).unwrap());
    for seed in 0..20_u8 {
        let index = if seed % 2 == 0 { &mut one } else { &mut two };
        add(index, seed, u32::from(seed)..u32::from(seed) + 1);
    }
    one.compact().unwrap();
    two.compact().unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert!((0..20).all(|n| !index.locate(&chunk(n)).is_empty()));
}

/// All its hashes are right and an entry of it names a stripe that it does not list: it is dropped, and its stripe with it.
#[test]
fn a_segment_that_makes_no_sense_is_dropped_when_it_is_joined() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    for seed in 0..20_u8 {
        add(&mut index, seed, u32::from(seed)..u32::from(seed) + 1);
    }
    let bad = folder.path().join("bad.chunks");
    write(&bad, &[stripe(99)], 1, [Ok((ShortId::of(&chunk(500)), 7, slot(0)))].into_iter()).unwrap();
    index.open_segment(&bad).unwrap();
    assert!(index.stripe(&stripe(99).id).is_some());
    index.compact().unwrap();
    for index in [&index, &Index::open(folder.path()).unwrap()] {
        assert!(index.stripe(&stripe(99).id).is_none(), "its table is read anew");
        assert_eq!(index.stripes().count(), 20);
        assert!((0..20).all(|n| !index.locate(&chunk(n)).is_empty()));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
