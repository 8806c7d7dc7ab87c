//! The README and the guides, run word by word by whoever follows them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use blockhouse_crypto::{AgeIdentity, Role};
use blockhouse_tests::guide::{Walk, blocks, repository};
use blockhouse_tests::world::{World, binary};
use blockhouse_tests::{anvil, need, tree};

const GUIDES: [&str; 4] =
    ["docs/guides/first-backup.md", "docs/guides/readers.md", "docs/guides/recover.md", "docs/guides/incident.md"];

fn papers(walk: &Walk, at: &str) {
    let copied = Command::new("cp").arg("-r").arg(repository().join("fixtures/bitcoin")).arg(walk.path(at)).status();
    assert!(copied.unwrap().success());
}

#[test]
fn the_walk_through_the_readme() {
    let world = World::empty();
    let walk = Walk::in_folder(&world.path("system"), &binary());
    papers(&walk, "tmp/walk/papers");
    // What was written a moment ago is read again by the next backup, which the page does not show.
    tree::settle();
    walk.page("README.md", "tmp/walk");
}

/// One vault lives through all guides, as its owner's would.
#[test]
fn the_guides_one_after_the_other() {
    let world = World::empty();
    let walk = Walk::in_folder(&world.path("system"), &binary());
    papers(&walk, "home/ann/papers");
    tree::settle();
    provide_age_keygen(&world);
    let walk = walk.with_programs(&world.path("tools"));
    for guide in GUIDES {
        walk.page(guide, "home/ann");
    }
}

/// What is done every day, with the vault of the first guide.
#[test]
fn the_guide_to_every_day() {
    let world = World::empty();
    let walk = Walk::in_folder(&world.path("system"), &binary());
    papers(&walk, "home/ann/papers");
    tree::settle();
    walk.page("docs/guides/first-backup.md", "home/ann");
    walk.page("docs/guides/daily.md", "home/ann");
}

/// Four operators, each with a folder of his own; the ports of the page must be free.
#[test]
fn the_guide_to_networks() {
    let world = World::empty();
    let walk = Walk::in_folder(&world.path("system"), &binary());
    papers(&walk, "home/ann/papers");
    tree::settle();
    // The page goes to the end: without anvil it would be another one.
    if !need::set_up("ethereum-tools", anvil::program().exists()) {
        return;
    }
    let walk = walk.with_programs(anvil::program().parent().unwrap());
    walk.page("docs/guides/network.md", "home/ann");
}

/// The page on mounting goes on with the vault of the first guide.
#[test]
fn the_guide_to_mounting() {
    let opens = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !need::right(opens && tree::is_root(), "mounting needs root and /dev/fuse") {
        return;
    }
    let world = World::empty();
    let walk = Walk::in_folder(&world.path("system"), &binary());
    papers(&walk, "home/ann/papers");
    tree::settle();
    walk.page("docs/guides/first-backup.md", "home/ann");
    walk.page("docs/guides/mount.md", "home/ann");
}

/// The tool `age-keygen` where it is not installed: it writes a pair of keys in its format, and says its words.
fn provide_age_keygen(world: &World) {
    let pair = AgeIdentity::random(&mut rand::rng());
    let public = pair.recipient(Role::Reader, "").unwrap().public().to_owned();
    let file = format!("# created: 2026-11-21T12:00:00Z\n# public key: {public}\n{}\n", *pair.to_text());
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -o ] || exit 2\numask 077\ncat >\"$2\" <<'END'\n{file}END\necho 'Public key: {public}' >&2\n"
    );
    let tool = world.path("tools/age-keygen");
    tree::write(&tool, script.as_bytes());
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Commands that a page shows without their output are not run; their words are those that the binary takes.
#[test]
fn commands_that_are_not_run_have_flags_that_exist() {
    let mut seen = 0;
    for page in GUIDES.iter().chain(&["README.md", "docs/guides/network.md"]) {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            let Some((_, command)) = line.split_once("blockhouse ") else { continue };
            seen += 1;
            let words: Vec<&str> = command.split_whitespace().collect();
            let is_name = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase()) && !word.is_empty();
            let names = words.iter().skip_while(|word| !is_name(word)).take_while(is_name);
            let help = Command::new(binary()).args(names).arg("--help").output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(flag), "{page}: `{line}`: there is no {flag}");
            }
        }
    }
    assert!(seen >= 2, "the pages show commands that are not run");
}
