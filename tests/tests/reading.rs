//! Commands that read: `find`, `diff`, `dump`, `stats`, `completions`, `man`, held against the tools that everybody has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as ToolOutput, Stdio};

use blockhouse_tests::damage::{flip, objects};
use blockhouse_tests::world::{Output, World, exit};
use blockhouse_tests::{need, tree};

/// What a tool says; it must succeed, or end with a code that is no failure for it.
fn tool(name: &str, arguments: &[&std::ffi::OsStr], codes: &[i32]) -> ToolOutput {
    let done = Command::new(name).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap();
    let code = done.status.code().unwrap();
    assert!(codes.contains(&code), "{name} {arguments:?}: {code}: {}", String::from_utf8_lossy(&done.stderr));
    done
}

/// A path as the commands show it.
fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// What `find` of the system finds.
fn found_by_tool(root: &Path, test: &[&str]) -> BTreeSet<String> {
    let mut arguments = vec![root.as_os_str()];
    arguments.extend(test.iter().map(std::ffi::OsStr::new));
    arguments.push(std::ffi::OsStr::new("-print0"));
    let said = tool("find", &arguments, &[0]).stdout;
    said.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(shown).collect()
}

fn paths(output: &Output, kind: &str) -> BTreeSet<String> {
    let lines = output.lines();
    lines.iter().filter(|line| line["type"] == kind).map(|line| line["path"].as_str().unwrap().to_owned()).collect()
}

/// A tree with names of all sorts, without what no archive can hold.
fn source(world: &World) -> PathBuf {
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    tree::write(&source.join("deep/er/Letter.TXT"), b"to whom it may concern");
    tree::write(&source.join(std::ffi::OsStr::from_bytes(b"deep/not-utf8-\xff\xfe.txt")), b"bytes");
    tree::write(&source.join("deep/new\nline"), b"line");
    tree::write(&source.join("deep").join("n".repeat(200)).join("m".repeat(120)), b"a long way");
    tree::write(&source.join("empty"), b"");
    fs::hard_link(source.join("empty"), source.join("deep/other-name-of-empty")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), source.join("link")).unwrap();
    tree::set_time(&source.join("prose.txt"), 1_000_000_000, 123_456_789);
    tree::set_time(&source.join("empty"), -5, 750_000_000);
    source
}

#[test]
fn find_finds_what_find_finds() {
    let world = World::with_sites(3);
    let source = source(&world);
    world.back_up(&source);
    let find = |words: &str| world.unlocked(&format!("find --json {words}")).run().expect(exit::DONE);
    for (ours, theirs) in [
        ("*", &[][..]),
        ("*.txt", &["-name", "*.txt"]),
        ("-i *.TXT", &["-iname", "*.TXT"]),
        ("* --type d", &["-type", "d"]),
        ("* --type f --type l", &["(", "-type", "f", "-o", "-type", "l", ")"]),
        ("* --larger 1k --smaller 1m", &["-type", "f", "-size", "+1023c", "-size", "-1048577c"]),
        ("* --older @1500000000", &["-not", "-newermt", "@1500000000"]),
        ("*/er/*", &["-path", "*/er/*"]),
    ] {
        let output = find(ours);
        assert_eq!(paths(&output, "match"), found_by_tool(&source, theirs), "{ours}");
        assert_eq!(output.summary()["matches"], paths(&output, "match").len());
    }
    let whole = format!("{}/deep/**/*.TXT", source.display());
    let found = world.unlocked("find --json").arg(whole).run().expect(exit::DONE);
    assert_eq!(paths(&found, "match").len(), 1);
    assert!(paths(&find("not-utf8*"), "match").first().unwrap().contains("\\xff\\xfe"));
    let nothing = world.unlocked("find nothing-is-called-so").run().expect(exit::DONE);
    assert!(nothing.stdout.is_empty() && nothing.says("nothing was found in 1 snapshot"), "{}", nothing.stderr);
    world.unlocked("find a[").run().refuses(exit::USAGE, "`a[`");
    world.unlocked("find x --larger 1x").run().expect(exit::USAGE);
    world.call("find x").run().refuses(exit::NOT_ALLOWED, "identity");
}

/// Every version is told once, with the snapshots that it is in; listings that snapshots share are read once.
#[test]
fn find_reads_what_snapshots_share_once() {
    let world = World::with_sites(3);
    let source = source(&world);
    let first = world.back_up(&source).snapshot();
    world.back_up(&source);
    let all = world.unlocked("find * --json --snapshot latest").run().expect(exit::DONE).summary();
    tree::write(&source.join("small/7.txt"), b"another text");
    let third = world.back_up(&source).snapshot();
    let found = world.unlocked("find 7.txt --history --json").run().expect(exit::DONE);
    let versions: Vec<_> = found.lines().into_iter().filter(|line| line["type"] == "version").collect();
    assert_eq!(versions.len(), 2);
    assert_eq!((&versions[0]["first"], versions[0]["snapshots"].as_u64()), (&first.as_str().into(), Some(2)));
    assert_eq!((&versions[1]["first"], &versions[1]["last"]), (&third.as_str().into(), &third.as_str().into()));
    let summary = found.summary();
    assert_eq!(summary["snapshots"], 3);
    // The second adds nothing, the third the way to one file: the roots, the source and the folder.
    let (once, read) = (all["listings"].as_u64().unwrap(), summary["listings"].as_u64().unwrap());
    assert!(read <= once + 3, "{read} listings of three snapshots, {once} of one");
    let latest = world.unlocked("find 7.txt --latest --json").run().expect(exit::DONE);
    assert_eq!((latest.summary()["snapshots"].as_u64(), paths(&latest, "match").len()), (Some(1), 1));
}

/// What `diff -rq` says of two folders: names that one has, and files that differ.
fn differing(one: &Path, other: &Path) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
    let arguments = ["-rq", "--no-dereference"].map(std::ffi::OsStr::new);
    let all = [&arguments[..], &[one.as_os_str(), other.as_os_str()]].concat();
    let said = String::from_utf8(tool("diff", &all, &[0, 1]).stdout).unwrap();
    let below =
        |path: &str, root: &Path| path.strip_prefix(root.to_str().unwrap()).unwrap().trim_matches('/').to_owned();
    let (mut gone, mut new, mut changed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in said.lines() {
        if let Some((folder, name)) = line.strip_prefix("Only in ").and_then(|rest| rest.split_once(": ")) {
            let (root, set) =
                if folder.starts_with(one.to_str().unwrap()) { (one, &mut gone) } else { (other, &mut new) };
            set.insert(format!("{}/{name}", below(folder, root)).trim_start_matches('/').to_owned());
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            changed.insert(below(words.iter().find(|word| word.starts_with(one.to_str().unwrap())).unwrap(), one));
        }
    }
    (gone, new, changed)
}

#[test]
fn diff_says_what_diff_says() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::plain(&source, 1, 1);
    let first = world.back_up(&source).snapshot();
    tool("cp", &["-a".as_ref(), source.as_os_str(), world.path("before").as_os_str()], &[0]);
    tree::write(&source.join("small/7.txt"), b"another text");
    tree::write(&source.join("new/deep/file"), b"new");
    fs::remove_file(source.join("prose.txt")).unwrap();
    fs::remove_dir_all(source.join("small/folder")).ok();
    fs::set_permissions(source.join("small/8.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(source.join("small/9.txt")).unwrap();
    fs::create_dir(source.join("small/9.txt")).unwrap();
    let second = world.back_up(&source).snapshot();
    let (gone, new, changed) = differing(&world.path("before"), &source);

    let compare = |words: &str| world.unlocked(&format!("diff --json {words}")).run();
    let output = compare(&format!("{first} {second}")).expect(exit::DONE);
    let of = |letter: &str| {
        let lines = output.lines();
        let paths = lines.iter().filter(|line| line["type"] == "difference" && line["modifier"] == letter);
        let root = format!("{}/", source.display());
        paths
            .map(|line| line["path"].as_str().unwrap().strip_prefix(&root).unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    // The tool tells a new folder alone, ours what is in it too.
    let topmost = |all: BTreeSet<String>| {
        let inner = |path: &String| all.iter().any(|other| path.starts_with(&format!("{other}/")));
        all.iter().filter(|path| !inner(path)).cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!((topmost(of("-")), topmost(of("+"))), (gone, new));
    assert_eq!(of("M").union(&of("T")).cloned().collect::<BTreeSet<_>>(), changed);
    assert_eq!(of("U"), BTreeSet::from(["small/8.txt".to_owned()]));
    let summary = output.summary();
    assert_eq!((&summary["added"]["files"], &summary["added"]["bytes"]), (&1.into(), &3.into()));
    assert_eq!((&summary["changed"]["files"], &summary["kind"]["folders"]), (&1.into(), &1.into()));
    assert_eq!(compare(&format!("{first} {second} --exit-code")).code(), exit::CHECK);
    let same = world.unlocked(&format!("diff {second} latest --exit-code")).run().expect(exit::DONE);
    assert!(same.stdout.is_empty() && same.says("nothing differs"));
    world.unlocked("diff latest").run().expect(exit::USAGE);
}

#[test]
fn diff_with_what_is_there_now() {
    let world = World::with_sites(3);
    let source = source(&world);
    world.back_up(&source);
    let live = |words: &str| world.unlocked(&format!("diff latest --json --exit-code --live {words}")).run();
    assert!(live("").expect(exit::DONE).summary()["equal"].as_bool().unwrap());
    assert!(live("--content").expect(exit::DONE).summary()["equal"].as_bool().unwrap());
    let restored = world.restore("latest", "restored");
    world.unlocked("diff latest --exit-code --live").arg(&restored).arg("--content").run().expect(exit::DONE);

    // Other bytes under the old length and time are seen by who reads them.
    let prose = source.join("prose.txt");
    let mut bytes = fs::read(&prose).unwrap();
    bytes[1000] ^= 1;
    fs::write(&prose, &bytes).unwrap();
    tree::set_time(&prose, 1_000_000_000, 123_456_789);
    live("").expect(exit::DONE);
    let told = live("--content").expect(exit::CHECK);
    assert_eq!(paths(&told, "difference"), BTreeSet::from([prose.display().to_string()]));
    // The same bytes at another time are no other content.
    tree::set_time(&source.join("small/8.txt"), 1_000_000_000, 0);
    tree::write(&source.join("fresh/file"), b"fresh");
    fs::remove_dir_all(source.join("deep")).unwrap();
    let told = live("--exclude fresh").expect(exit::CHECK);
    let of = |letter: &str| told.lines().iter().filter(|line| line["modifier"] == letter).count();
    assert_eq!((of("U"), of("+"), of("M")), (2, 0, 0), "a time, and a name of a file less");
    assert!(of("-") >= 8);
    fs::remove_dir_all(source.join("small")).unwrap();
    tree::write(&source.join("small"), b"no folder");
    let told = live("").expect(exit::CHECK);
    let is_kind = |line: &&serde_json::Value| line["modifier"] == "T";
    assert_eq!(told.lines().iter().filter(is_kind).count(), 1);
    assert!(told.summary()["removed"]["files"].as_u64().unwrap() >= 20, "what was in it is gone");
    fs::remove_dir_all(&source).unwrap();
    assert!(live("").expect(exit::CHECK).summary()["removed"]["files"].as_u64().unwrap() > 20);
}

#[test]
fn a_dumped_folder_is_what_tar_unpacks() {
    let world = World::with_sites(3);
    let source = source(&world);
    let attribute =
        rustix::fs::setxattr(source.join("prose.txt"), "user.origin", b"\x00\xffbin", rustix::fs::XattrFlags::empty());
    world.back_up(&source);
    let archive = world.path("all.tar");
    world.unlocked("dump latest --json -o").arg(&archive).run().expect(exit::DONE);
    let unpacked = world.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let unpack = ["--xattrs", "--xattrs-include=*", "-xpf"].map(std::ffi::OsStr::new);
    let to: [&std::ffi::OsStr; 2] = ["-C".as_ref(), unpacked.as_os_str()];
    tool("tar", &[&unpack[..], &[archive.as_os_str()], &to].concat(), &[0]);
    need::right(attribute.is_ok(), "attributes of files cannot be set here");
    tree::assert_equal(&source, &unpacked);
    world.unlocked("dump latest -o").arg(&archive).run().refuses(exit::USAGE, "all.tar");

    // A folder of it, to a pipe.
    let part = world.unlocked("dump latest").arg(source.join("small")).run().expect(exit::DONE);
    fs::write(world.path("part.tar"), &part.stdout).unwrap();
    fs::create_dir(world.path("part")).unwrap();
    let (archive, to) = (world.path("part.tar"), world.path("part"));
    tool("tar", &["-xpf".as_ref(), archive.as_os_str(), "-C".as_ref(), to.as_os_str()], &[0]);
    tree::assert_equal(&source.join("small"), &world.path("part"));
}

#[test]
fn a_dumped_file_is_its_bytes() {
    let world = World::with_sites(3);
    let source = source(&world);
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 3_000_000).unwrap();
    world.back_up(&source);
    for name in ["noise.bin", "empty", "sparse", "prose.txt"] {
        let dumped = world.unlocked("dump latest").arg(name).run().expect(exit::DONE);
        assert!(dumped.stdout == fs::read(source.join(name)).unwrap(), "{name}");
    }
    let to = world.path("out");
    let said = world.unlocked("dump latest noise.bin --json -o").arg(&to).run().expect(exit::DONE);
    assert_eq!((said.number("files"), said.number("bytes")), (1, 1 << 20));
    assert!(fs::read(&to).unwrap() == fs::read(source.join("noise.bin")).unwrap());
    world.unlocked("dump latest no/such").run().refuses(exit::FAILED, "no/such");
    world.unlocked("dump latest link").run().refuses(exit::USAGE, "link");
    let archived = world.unlocked("dump latest link --archive tar").run().expect(exit::DONE);
    assert_eq!(archived.stdout.len() % 512, 0);
}

/// The first of two stripes is gone: what lies in the second is read, what does not is told, and nothing comes out short in silence.
#[test]
fn of_a_damaged_snapshot_the_readable_parts_are_read() {
    let world = World::with_sites(3);
    let source = world.path("source");
    tree::write(&source.join("old/file"), &tree::noise(200_000, 1));
    world.back_up(&source);
    let lost: Vec<PathBuf> = (1..=3).flat_map(|number| objects(&world.site(number), "shards")).collect();
    tree::write(&source.join("new/file"), &tree::noise(200_000, 2));
    let second = world.back_up(&source).snapshot();
    for shard in &lost {
        fs::remove_file(shard).unwrap();
    }

    let found = world.unlocked("find file --json --snapshot latest").run().expect(exit::CHECK);
    assert_eq!(paths(&found, "match"), BTreeSet::from([format!("{}/new/file", source.display())]));
    assert_eq!(paths(&found, "unsearched"), BTreeSet::from([format!("{}/old", source.display())]));
    let good = world.unlocked("dump latest new/file").run().expect(exit::DONE);
    assert!(good.stdout == fs::read(source.join("new/file")).unwrap());
    let bad = world.unlocked("dump latest old/file").run().expect(exit::CHECK);
    assert!(bad.stdout.is_empty() && bad.says("old"), "{}", bad.stderr);
    let archive = world.unlocked("dump latest").run().expect(exit::CHECK);
    fs::write(world.path("short.tar"), &archive.stdout).unwrap();
    let listed = tool("tar", &["-tf".as_ref(), world.path("short.tar").as_os_str()], &[2]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("new/file"), "what came before is there");
    let to = world.path("kept.tar");
    world.unlocked("dump latest -o").arg(&to).run().expect(exit::CHECK);
    assert!(!to.exists(), "what is not whole gets no name");
    let live = world.unlocked("diff latest --json --live").run().expect(exit::CHECK);
    assert_eq!(paths(&live, "not-compared"), BTreeSet::from([format!("{}/old", source.display())]));
    assert_eq!(paths(&live, "difference"), BTreeSet::new(), "what cannot be read is neither new nor gone");
    let stats = world.call(&format!("stats {second} --json")).run().expect(exit::DONE);
    assert!(stats.summary()["stored_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn stats_add_up_to_what_lies_at_the_sites() {
    let world = World::with_sites(3);
    let (one, other) = (world.path("one"), world.path("other"));
    tree::plain(&one, 1, 1);
    tree::plain(&other, 1, 9);
    let first = world.back_up(&one).snapshot();
    tree::write(&one.join("more"), &tree::noise(500_000, 7));
    let second = world.back_up(&one).snapshot();
    world.back_up(&other);
    let sizes = |folder: &str| (1..=3).map(|number| tree::size(&world.site(number).join(folder))).sum::<u64>();

    let by_snapshot = world.call("stats --by snapshot --json").run().expect(exit::DONE);
    let lines = by_snapshot.lines();
    let summary = by_snapshot.summary();
    let number = |value: &serde_json::Value, name: &str| value[name].as_u64().unwrap();
    assert_eq!(number(&summary, "shard_bytes"), sizes("shards"));
    assert_eq!(number(&summary, "stored_bytes") + number(&summary, "unneeded_bytes"), sizes("shards"));
    let everything: u64 = (1..=3).map(|site| tree::size(&world.site(site))).sum();
    let markers: u64 = (1..=3).map(|site| fs::metadata(world.site(site).join("site")).unwrap().len()).sum();
    assert_eq!(number(&summary, "shard_bytes") + number(&summary, "other_bytes") + markers, everything);
    let of = |id: &str| lines.iter().find(|line| line["snapshot"] == id).unwrap().clone();
    assert_eq!((number(&of(&first), "alone_bytes"), &of(&first)["files"]), (0, &serde_json::Value::Null));
    assert_eq!(
        number(&of(&second), "alone_bytes"),
        number(&of(&second), "stored_bytes") - number(&of(&first), "stored_bytes")
    );
    // All stripes are of one snapshot alone, or shared by the first two.
    let alone: u64 =
        lines.iter().filter(|line| line["type"] == "snapshot-use").map(|line| number(line, "alone_bytes")).sum();
    assert_eq!(alone + number(&of(&first), "stored_bytes"), number(&summary, "stored_bytes"));

    let by_source = world.unlocked("stats --json").run().expect(exit::DONE);
    let sources: Vec<_> = by_source.lines().into_iter().filter(|line| line["type"] == "source-use").collect();
    assert_eq!(sources.len(), 2);
    assert_eq!(sources.iter().map(|it| number(it, "alone_bytes")).sum::<u64>(), sizes("shards"), "they share nothing");
    let folders = world.unlocked(&format!("stats {second} --by folder --json")).run().expect(exit::DONE);
    let root = folders.lines().into_iter().find(|line| line["path"] == one.to_str().unwrap()).unwrap();
    assert_eq!((number(&root, "bytes"), number(&root, "files")), (tree::size(&one), tree::files(&one).len() as u64));
    assert_eq!((number(&root, "new_bytes"), number(&root, "new_files")), (500_000, 1));
    world.call(&format!("stats {second} --by folder")).run().refuses(exit::NOT_ALLOWED, "identity");
    world.unlocked("stats --by folder").run().refuses(exit::USAGE, "one snapshot");
}

#[test]
fn completions_are_read_by_the_shells() {
    let world = World::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.outside(&format!("completions {shell}")).run().expect(exit::DONE).stdout;
        let text = String::from_utf8(script.clone()).unwrap();
        assert!(text.contains("check-receipt") && text.contains("passphrase-file"), "{shell}");
        fs::write(world.path(shell), script).unwrap();
    }
    tool("bash", &["-n".as_ref(), world.path("bash").as_os_str()], &[0]);
    let asked =
        "source $0; COMP_WORDS=(blockhouse sna); COMP_CWORD=1; _blockhouse blockhouse sna ''; echo ${COMPREPLY[*]}";
    let said = tool("bash", &["-c".as_ref(), asked.as_ref(), world.path("bash").as_os_str()], &[0]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "snapshots");
    world.outside("completions tcsh").run().expect(exit::USAGE);
}

#[test]
fn manual_pages_are_rendered() {
    let world = World::empty();
    let pages = world.path("man1");
    let made = world.outside("man --json --out").arg(&pages).run().expect(exit::DONE);
    let files = tree::files(&pages);
    assert_eq!(made.number("pages"), files.len() as u64);
    let works = Command::new("groff").arg("--version").output().is_ok();
    let can_render = need::program("groff", "groff", works);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}", file.display());
        if can_render {
            let arguments = ["-man", "-Tutf8", "-ww"].map(std::ffi::OsStr::new);
            let said = tool("groff", &[&arguments[..], &[file.as_os_str()]].concat(), &[0]);
            assert!(String::from_utf8_lossy(&said.stdout).contains("blockhouse"), "{}", file.display());
        }
    }
    let one = world.outside("man key add").run().expect(exit::DONE);
    assert_eq!(one.stdout, fs::read(pages.join("blockhouse-key-add.1")).unwrap());
    world.outside("man nothing").run().refuses(exit::USAGE, "`nothing`");
}

/// What the host keeps of its ledger is believed only where it is right: altered, cut, gone or of another vault, the answers are the
/// same. So they are where the ledger itself is set back to an older state beside what was kept.
#[test]
fn a_kept_summary_of_the_ledger_changes_no_answer() {
    let (world, other) = (World::with_sites(3), World::with_sites(3));
    let source = world.path("source");
    tree::write(&source.join("file"), b"content");
    let first = world.back_up(&source).snapshot();
    other.back_up(&source);
    let (kept, ledger) = (world.vault().join("ledger.summary"), world.vault().join("ledger.redb"));
    let old = (fs::read(&kept).unwrap(), fs::read(&ledger).unwrap());
    tree::write(&source.join("file"), b"other content");
    let second = world.back_up(&source).snapshot();
    let expected = [first, second];
    assert_eq!(world.snapshots(), expected);
    let (good, fingerprint) = (fs::read(&kept).unwrap(), world.fingerprint());
    let mut random = tree::random(11);
    for number in 0..15 {
        flip(&kept, &mut random);
        assert_eq!(world.snapshots(), expected, "bit {number}");
        fs::write(&kept, &good).unwrap();
    }
    let others = fs::read(other.vault().join("ledger.summary")).unwrap();
    for (what, bytes) in [("cut", &good[..good.len() / 2]), ("empty", b""), ("older", &old.0), ("another", &others)] {
        fs::write(&kept, bytes).unwrap();
        assert_eq!(world.snapshots(), expected, "{what}");
        assert_eq!(world.fingerprint(), fingerprint, "{what}");
    }
    fs::remove_file(&kept).unwrap();
    assert_eq!(world.snapshots(), expected);
    assert!(kept.exists(), "it is made anew by who reads");
    // The ledger is set back with what was kept of it: the sites know more, and that is said.
    fs::write(&ledger, &old.1).unwrap();
    fs::write(&kept, &old.0).unwrap();
    let told = world.call("snapshots --json").run().expect(exit::DONE);
    assert!(told.lines().len() == 2 && told.says("behind site"), "{}", told.stderr);
}

#[test]
fn status_says_what_to_do_and_how_old_things_are() {
    let world = World::with_sites(3);
    let status = |words: &str| world.call(&format!("status {words}")).run();
    let empty = status("--json").expect(exit::DONE);
    assert_eq!(empty.lines()[0]["todo"][0]["command"], "blockhouse backup PATH");
    let source = world.path("source");
    tree::write(&source.join("file"), b"content");
    world.back_up(&source);
    let well = status("--json").expect(exit::DONE).lines().remove(0);
    assert_eq!((&well["todo"], &well["sources"][0]["overdue"]), (&serde_json::json!([]), &false.into()));
    let text = String::from_utf8(status("").expect(exit::DONE).stdout).unwrap();
    assert!(text.contains("less than an hour ago"), "{text}");
    tree::settle();
    let late = status("--max-age 0 --json").expect(exit::CHECK).lines().remove(0);
    assert_eq!(late["sources"][0]["overdue"], true);
    assert!(late["todo"][0]["command"].as_str().unwrap().starts_with("blockhouse backup /"), "{late}");
    status("--max-age soon").expect(exit::USAGE);
    world.destroy(2);
    let down = status("--json").expect(exit::CHECK).lines().remove(0);
    assert!(down["todo"][0]["why"].as_str().unwrap().contains("site-2"), "{down}");
}
