//! A tree that was captured and restored is captured as the same tree.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

#[allow(dead_code, reason = "shared with the other tests of this crate")]
#[path = "files/copy.rs"]
mod copy;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, symlink},
    },
    path::Path,
};

use blockhouse_sources::files::{FilesSource, Options};
use proptest::{collection::vec, prelude::*};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use crate::copy::Copy;

/// What may stand in a tree; the slow and obvious model.
#[derive(Debug, Clone)]
enum Node {
    Folder(BTreeMap<Vec<u8>, (Node, u32, i64, i64)>),
    File {
        length: u64,
        writes: Vec<(u64, Vec<u8>)>,
    },
    Symlink(Vec<u8>),
    Fifo,
    /// One more name of the first file that was made.
    LinkToFirst,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_map(|byte| if byte == 0 || byte == b'/' { b'\n' } else { byte }), 1..20)
        .prop_filter("not a way elsewhere", |name| name != b"." && name != b"..")
}

fn tree() -> impl Strategy<Value = Node> {
    let file = (0_u64..300_000, vec((0_u64..280_000, vec(any::<u8>(), 1..5000)), 0..4))
        .prop_map(|(length, writes)| Node::File { length, writes });
    let target = vec(1_u8.., 1..50);
    let leaf = prop_oneof![4 => file, 1 => target.prop_map(Node::Symlink), 1 => Just(Node::Fifo), 1 => Just(Node::LinkToFirst)];
    let inner = leaf.prop_recursive(4, 40, 8, |node| {
        let entry = (node, 0_u32..0o10000, -2_000_000_000_i64..4_000_000_000, 0_i64..1_000_000_000);
        prop::collection::btree_map(name(), entry, 0..8).prop_map(Node::Folder)
    });
    prop::collection::btree_map(name(), (inner, 0_u32..0o10000, Just(0), Just(1)), 0..8).prop_map(Node::Folder)
}

fn make(node: &Node, path: &Path, first: &mut Option<std::path::PathBuf>) {
    match node {
        Node::Folder(entries) => {
            fs::create_dir(path).unwrap();
            for (name, (node, mode, seconds, nanoseconds)) in entries {
                let path = path.join(OsStr::from_bytes(name));
                make(node, &path, first);
                dress(node, &path, *mode, (*seconds, *nanoseconds));
            }
        }
        Node::File { length, writes } => {
            let file = fs::File::create(path).unwrap();
            for (offset, bytes) in writes {
                file.write_all_at(bytes, *offset).unwrap();
            }
            file.set_len(*length).unwrap();
            first.get_or_insert_with(|| path.to_owned());
        }
        Node::Symlink(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        Node::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        Node::LinkToFirst => match first {
            Some(first) => fs::hard_link(first, path).unwrap(),
            None => fs::write(path, "no file yet").unwrap(),
        },
    }
}

/// Mode and times. The owner keeps the right to read, so that the test runs without root too.
fn dress(node: &Node, path: &Path, mode: u32, (seconds, nanoseconds): (i64, i64)) {
    let needed = if matches!(node, Node::Folder(_)) { 0o700 } else { 0o400 };
    if !matches!(node, Node::Symlink(_)) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | needed)).unwrap();
    }
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// F1 and F2 on the way in, B4 on the way out: nothing is lost, changed or added.
    #[test]
    fn a_restored_tree_is_captured_as_it_was(tree in tree()) {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        make(&tree, &from, &mut None);
        let capture = |path: &Path| {
            let options = Options { allow_live: true, ..Options::default() };
            Copy::of(&FilesSource::try_new(&[path.to_owned()], &options).unwrap())
        };
        let before = capture(&from);
        prop_assert!(before.unreadable.is_empty());
        prop_assert_eq!(before.restore(&to), vec![]);
        prop_assert_eq!(capture(&to).facts(), before.facts());
        prop_assert_eq!(capture(&from).facts(), before.facts());
    }
}
