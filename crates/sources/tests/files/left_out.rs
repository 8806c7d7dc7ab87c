//! What is left out: against git for ignore files, against tar for tags, and by reason.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use blockhouse_sources::files::{FilesSource, IGNORE_FILE, LeftOutReason, LeftOutTally, Options, Roots};

use crate::{copy::Copy, scratch::Scratch};

type Paths = BTreeSet<String>;

/// Small numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's constants; the low bits of such a generator are poor.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn choose<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

const NAMES: [&str; 9] = ["a", "b", "c", "ab", "a b", "x.o", "y.o", "{a}", "#h"];

fn pattern(dice: &mut Dice) -> String {
    let (one, two) = (dice.choose(&NAMES), dice.choose(&NAMES));
    let escaped = |name: &str| if name.starts_with('#') { format!("\\{name}") } else { name.to_owned() };
    let text = match dice.roll(14) {
        0 => format!("/{one}"),
        1 => format!("{one}/"),
        2 => "*.o".to_owned(),
        3 => format!("**/{one}"),
        4 => format!("{one}/**"),
        5 => format!("{one}/*/{two}"),
        6 => format!("{one}/{two}"),
        7 => "[ab]".to_owned(),
        8 => "?b".to_owned(),
        9 => format!("{one}/**/{two}"),
        10 => "[!ab]".to_owned(),
        11 => format!("# {one}"),
        12 => format!("/{one}/*"),
        _ => escaped(one),
    };
    if !text.starts_with('#') && dice.roll(4) == 0 { format!("!{text}") } else { text }
}

fn grow(folder: &Path, depth: usize, dice: &mut Dice) {
    for name in NAMES {
        let path = folder.join(name);
        match dice.roll(3) {
            0 if depth > 0 => {
                fs::create_dir(&path).unwrap();
                grow(&path, depth - 1, dice);
            }
            1 => fs::write(path, name).unwrap(),
            _ => {}
        }
    }
    if dice.roll(3) == 0 {
        let lines: Vec<String> = (0..=dice.roll(5)).map(|_| pattern(dice)).collect();
        fs::write(folder.join(IGNORE_FILE), lines.join("\n") + "\n").unwrap();
    }
}

fn files_of(source: &FilesSource) -> Paths {
    let copy = Copy::of(source);
    let is_file = |path: &str| !path.is_empty() && !path.ends_with(IGNORE_FILE);
    let found = copy.entries.iter().filter(|copied| copied.found.kind == blockhouse_types::EntryKind::File);
    found.map(|copied| String::from_utf8(copied.found.path.clone()).unwrap()).filter(|path| is_file(path)).collect()
}

/// All that a program prints, split at `end`.
fn printed(command: &mut Command, end: char) -> Paths {
    let done = command.stderr(Stdio::inherit()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}");
    String::from_utf8(done.stdout).unwrap().split(end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The language of ignore files is git's: what git would not ignore is backed up, and nothing else.
#[test]
fn ignore_files_mean_what_they_mean_to_git() {
    let (mut left_out, mut kept) = (0, 0);
    for seed in 0..60 {
        let scratch = Scratch::new();
        let tree = scratch.folder("tree");
        grow(&tree, 3, &mut Dice(seed));
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command.args(words).current_dir(&tree).env("HOME", scratch.path()).env("GIT_CONFIG_NOSYSTEM", "1");
            command.env("GIT_DIR", scratch.path().join("git")).env("GIT_WORK_TREE", &tree);
            command
        };
        printed(&mut git(&["init", "--quiet"]), '\n');
        let per_folder = format!("--exclude-per-directory={IGNORE_FILE}");
        let mut expected = printed(&mut git(&["ls-files", "-z", "--others", &per_folder]), '\0');
        expected.retain(|path| !path.ends_with(IGNORE_FILE));
        let source = FilesSource::try_new(std::slice::from_ref(&tree), &Options::default()).unwrap();
        let found = files_of(&source);
        assert_eq!(found, expected, "seed {seed}: {:?}", Copy::of(&source).left_out);
        let all = Options { no_ignore_files: true, ..Options::default() };
        kept += found.len();
        left_out += files_of(&FilesSource::try_new(&[tree], &all).unwrap()).len() - found.len();
    }
    assert!(kept > 300 && left_out > 300, "{kept} kept, {left_out} left out: a poor sample");
}

/// A folder with a tag keeps the tag and loses the rest, as tar does it.
#[test]
fn tagged_folders_are_left_out_as_by_tar() {
    const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# a comment";
    let scratch = Scratch::new();
    let tree = scratch.folder("tree");
    let file = |path: &str, text: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    file("cache/CACHEDIR.TAG", SIGNATURE);
    file("cache/deep/x", "");
    file("cache/y", "");
    file("no cache/CACHEDIR.TAG", "Signature: of something else");
    file("no cache/x", "");
    file("short/CACHEDIR.TAG", "Signature");
    file("short/x", "");
    file("skip/.nobackup", "");
    file("skip/x", "");
    file("kept/nobackup", "");
    file("kept/x", "");
    fs::create_dir_all(tree.join("folder tag/.nobackup")).unwrap();
    file("folder tag/x", "");
    let mut tar = Command::new("tar");
    tar.args(["--exclude-caches", "--exclude-tag=.nobackup", "-cf", "archive", "tree"]).current_dir(scratch.path());
    printed(&mut tar, '\n');
    let listed = printed(Command::new("tar").args(["-tf", "archive"]).current_dir(scratch.path()), '\n');
    let expected: Paths =
        listed.iter().map(|path| path.trim_start_matches("tree").trim_matches('/').to_owned()).collect();
    let options =
        Options { exclude_caches: true, exclude_if_present: vec![".nobackup".to_owned()], ..Options::default() };
    let copy = Copy::of(&FilesSource::try_new(std::slice::from_ref(&tree), &options).unwrap());
    let found: Paths = copy.paths().iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(found, expected);
    let mut tally = LeftOutTally::default();
    tally.count(&copy.left_out);
    let counts: Vec<_> = tally.by_reason().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [(LeftOutReason::CacheTag, 2), (LeftOutReason::IfPresent, 2)]);

    let with_head = Options { exclude_if_present: vec!["nobackup:yes".to_owned()], ..Options::default() };
    let look = || Copy::of(&FilesSource::try_new(std::slice::from_ref(&tree), &with_head).unwrap()).left_out.len();
    assert_eq!(look(), 0, "the file does not begin so");
    file("kept/nobackup", "yes, please");
    assert_eq!(look(), 1);
}

#[test]
fn large_files_are_left_out_by_their_length() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("at the limit"), [0; 1000]).unwrap();
    fs::write(scratch.path().join("above"), [0; 1001]).unwrap();
    fs::File::create(scratch.path().join("all hole")).unwrap().set_len(1 << 40).unwrap();
    let options = Options { exclude_larger_than: Some(1000), ..Options::default() };
    let copy = Copy::of(&FilesSource::try_new(&[scratch.path().to_owned()], &options).unwrap());
    assert_eq!(copy.paths(), [&b""[..], b"at the limit"]);
    assert!(copy.left_out.iter().all(|left| left.reason == LeftOutReason::TooLarge) && copy.left_out.len() == 2);
}

/// `/dev/shm` and `/proc` are mounts on any Linux: a source of the root folder's own file system takes the mount points alone.
#[test]
fn other_file_systems_are_taken_as_empty_folders() {
    let proc = Path::new("/proc");
    let is_mount = std::os::unix::fs::MetadataExt::dev(&fs::metadata(proc).unwrap())
        != std::os::unix::fs::MetadataExt::dev(&fs::metadata("/").unwrap());
    assert!(is_mount, "this test needs /proc to be mounted");
    let excludes: Vec<String> = fs::read_dir("/")
        .unwrap()
        .map(|entry| format!("/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|path| path != "/proc")
        .collect();
    let options = Options { excludes, one_file_system: true, allow_live: true, ..Options::default() };
    let copy = Copy::of(&FilesSource::try_new(&["/".into()], &options).unwrap());
    assert_eq!(copy.paths(), [&b""[..], b"proc"]);
    let other: Vec<_> = copy.left_out.iter().filter(|left| left.reason == LeftOutReason::OtherFileSystem).collect();
    assert!(matches!(other[..], [left] if left.path == b"proc"), "{other:?}");
}

/// A line that cannot be used leaves nothing out and is told; so is a file that is no file.
#[test]
fn what_of_an_ignore_file_cannot_be_used_is_told() {
    let scratch = Scratch::new();
    fs::write(scratch.folder("a").join(IGNORE_FILE), b"x\n\xff\n").unwrap();
    fs::create_dir_all(scratch.path().join("b").join(IGNORE_FILE)).unwrap();
    for path in ["a/x", "a/y", "b/x"] {
        fs::write(scratch.path().join(path), "").unwrap();
    }
    let source = FilesSource::try_new(&[scratch.path().to_owned()], &Options::default()).unwrap();
    assert_eq!(files_of(&source), Paths::from(["a/y", "b/x"].map(str::to_owned)));
    let capture = source.capture().unwrap();
    let mut problems = Vec::new();
    for event in capture.walk() {
        if let blockhouse_sources::files::Event::Enter { listing, .. } = event {
            problems.extend(listing.ignore_problems.iter().map(|problem| (problem.path.clone(), problem.line)));
        }
    }
    let at = |folder: &str| format!("{folder}/{IGNORE_FILE}").into_bytes();
    assert_eq!(problems, [(at("a"), 2), (at("b"), 0)]);
}

/// A list may name what is gone, twice, or inside another: nothing of it is lost, and what is missing is told.
#[test]
fn roots_of_a_list_are_folded_and_missing_ones_are_recorded() {
    let scratch = Scratch::new();
    fs::write(scratch.folder("a/inner").join("x"), "").unwrap();
    fs::write(scratch.folder("b").join("y"), "").unwrap();
    let paths = ["a/inner/x", "a", "b/y", "b/y", "b/../gone/z"].map(|name| scratch.path().join(name));
    let options = Options { roots: Roots::Listed, ..Options::default() };
    let source = FilesSource::try_new(&paths, &options).unwrap();
    let roots: Vec<_> = source.roots().iter().map(|root| root.path.clone()).collect();
    let base = scratch.path().canonicalize().unwrap();
    assert_eq!(roots, ["a", "b/y", "gone/z"].map(|name| base.join(name)));
    let copy = Copy::of(&source);
    assert!(matches!(&copy.unreadable[..], [gone] if gone.reason.to_string().contains("no such file")));
    let none = FilesSource::try_new(&[scratch.path().join("gone")], &options).unwrap_err();
    assert!(none.to_string().contains("none of the 1 paths"), "{none}");
}

/// A list that `find` made names links: they are backed up as links, and what they lead to is not drawn in.
#[test]
fn a_listed_link_stays_a_link() {
    let scratch = Scratch::new();
    fs::write(scratch.folder("outside").join("x"), "").unwrap();
    fs::write(scratch.folder("a").join("y"), "").unwrap();
    let (link, dangling) = (scratch.path().join("a/link"), scratch.path().join("a/dangling"));
    std::os::unix::fs::symlink(scratch.path().join("outside"), &link).unwrap();
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let options = Options { roots: Roots::Listed, ..Options::default() };
    let source = FilesSource::try_new(&[link.clone(), dangling.clone()], &options).unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let roots: Vec<_> = source.roots().iter().map(|root| root.path.clone()).collect();
    assert_eq!(roots, ["a/dangling", "a/link"].map(|name| base.join(name)));
    let copy = Copy::of(&source);
    assert!(copy.unreadable.is_empty(), "{:?}", copy.unreadable);
    assert!(files_of(&source).is_empty(), "nothing behind the links");
    let source = FilesSource::try_new(&[scratch.path().join("a"), link], &options).unwrap();
    assert_eq!(files_of(&source), Paths::from(["y".to_owned()]));
}
