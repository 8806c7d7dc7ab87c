//! Files that grow: cut only from where they grew, and never believed without a look at every byte.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use blockhouse_tests::tree::{self, MIB};
use blockhouse_tests::world::World;

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Every step is restored byte for byte, holes too; what is stored is what changed and little more. The file is long enough for its list
/// of chunks to be content of its own.
#[test]
fn a_growing_file_stores_what_grew_and_what_changed() {
    let world = World::with_sites(6);
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    let file = source.join("blk00000.dat");
    tree::write(&file, &tree::noise(24 * MIB, 1));
    world.back_up(&source);
    let small = 2 * MIB as u64;
    append(&file, &tree::noise(MIB, 2));
    let grown = world.back_up(&source);
    assert!(grown.number("new_bytes") < small, "{}", grown.number("new_bytes"));
    world.expect_restores(&grown.snapshot(), &source);

    // One byte of the old part changes while the file grows: sampling would miss it.
    let flipped = fs::read(&file).unwrap().get(7_654_321).unwrap() ^ 1;
    overwrite(&file, 7_654_321, &[flipped]);
    append(&file, &tree::noise(MIB / 2, 3));
    let changed = world.back_up(&source);
    assert!(changed.number("new_bytes") < small, "{}", changed.number("new_bytes"));
    world.expect_restores(&changed.snapshot(), &source);

    // Its beginning moves, and later the file is replaced by a shorter one with a hole.
    let moved = [&b"a new beginning"[..], &fs::read(&file).unwrap()].concat();
    tree::write(&file, &moved);
    world.expect_restores(&world.back_up(&source).snapshot(), &source);
    fs::remove_file(&file).unwrap();
    let sparse = File::create(&file).unwrap();
    sparse.set_len(20 * MIB as u64).unwrap();
    overwrite(&file, 9 * MIB as u64, moved.get(9 * MIB..12 * MIB).unwrap());
    world.expect_restores(&world.back_up(&source).snapshot(), &source);
    append(&file, &tree::noise(MIB, 4));
    world.expect_restores(&world.back_up(&source).snapshot(), &source);
}
