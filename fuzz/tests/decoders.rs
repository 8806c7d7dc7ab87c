//! No decoder without a target: the sources are read for functions that look like decoders of outside bytes, and each
//! must be fed by a target or stand below with the reason why not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_fuzz::{Verdict, package, targets};

/// The crates that see outside bytes before anything has checked them: what came from sites and people, and the host's own
/// files, which a fault of its disk may have changed.
const CRATES: [&str; 10] =
    ["types", "crypto", "pipeline", "ledger", "consensus", "sites", "sources", "homes", "vault", "cli"];

/// How decoders are called.
const NAMES: [&str; 11] = [
    "decode",
    "parse",
    "from_bytes",
    "from_record",
    "from_str",
    "open",
    "load",
    "verify",
    "check",
    "decrypt",
    "recover",
];

/// What an argument looks like that may be outside bytes, or the file that holds them.
const BYTES: [&str; 7] = ["[u8]", "[u8;", "Bytes", "Decoder<", "&str", "Path", "VaultFolder"];

/// Functions that look like decoders and need no target.
const NOT_DECODERS: [(&str, &str); 27] = [
    ("cli/arguments.rs::parse_ref", "calls SiteSpec::parse, which is fed"),
    (
        "cli/commands/init.rs::from_str",
        "typed by the user of this host, in a program that nothing links; tested beside it",
    ),
    ("cli/commands/mount/point.rs::check", "looks at a folder of this host by its name"),
    ("cli/text.rs::parse_count", "typed by the user of this host, in a program that nothing links; tested beside it"),
    (
        "cli/text.rs::parse_duration",
        "typed by the user of this host, in a program that nothing links; tested beside it",
    ),
    ("cli/text.rs::parse_percent", "typed by the user of this host, in a program that nothing links; tested beside it"),
    ("cli/text.rs::parse_size", "typed by the user of this host, in a program that nothing links; tested beside it"),
    ("cli/text.rs::parse_tag", "typed by the user of this host, in a program that nothing links; tested beside it"),
    ("cli/text.rs::parse_time", "typed by the user of this host, in a program that nothing links; tested beside it"),
    (
        "homes/network/pool/journal.rs::open",
        "reads the file and calls decode, which is fed; tested beside it with every cut",
    ),
    (
        "consensus/folder.rs::open",
        "reads the file `node`, whose decoder is private, and locks the folder of the engine",
    ),
    (
        "homes/store/file.rs::open_unfinished",
        "private to healing; fed with flipped, cut and foreign files by the test `tamper` beside it",
    ),
    ("homes/store/rehearsal.rs::open", "the same: called by open_unfinished alone"),
    (
        "homes/store/salvage.rs::open",
        "opens the file as the store does, which is fed; what it gives is judged as a stranger's block is",
    ),
    ("homes/network/chain.rs::open", "takes an open store; the bytes are a key"),
    ("ledger/receipt/file.rs::check_file", "compares a length and a hash, and reads no bytes"),
    ("pipeline/shard/prefix.rs::check_leaves", "private to the shard's own checks, which are fed"),
    ("sites/disk/real.rs::open", "opens a file of a site by its name"),
    ("sites/name.rs::check_text", "called by SiteName::parse, which is fed"),
    ("sites/twin.rs::open", "opens a file of a site by its name"),
    ("sources/files/read.rs::open", "opens a file of the source by its name"),
    ("sources/files/restore.rs::open", "opens the folder that a restore writes to"),
    ("sources/files/trail.rs::open_quietly", "opens a file of the source by its name"),
    ("types/entry/facts.rs::decode_mode_and_owner", "called by the decoders of entries and their facts, which are fed"),
    ("vault/vault/open.rs::open", "reads configuration, secrets and ledger store, each of which is fed"),
    ("vault/vault/open.rs::open_with_joining", "the same with one site more"),
    ("vault/vault/open.rs::open_without", "the same with some sites fewer"),
];

/// `crate/file.rs::function` of everything that looks like a decoder.
fn decoders() -> BTreeSet<String> {
    let crates = package().join("../crates");
    let mut found = BTreeSet::new();
    for name in CRATES {
        let source = crates.join(name).join("src");
        for file in rust_files(&source) {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let place = format!("{name}/{}", file.strip_prefix(&source).unwrap().display());
            found.extend(decoders_in(text).map(|function| format!("{place}::{function}")));
        }
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

/// Names of public functions, and of `FromStr`, that take bytes and are called like a decoder.
fn decoders_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("fn ").filter_map(|(at, _)| {
        let before = text[..at].lines().last().unwrap_or_default();
        let (name, rest) = text[at + 3..].split_once(['(', '<'])?;
        let arguments = rest.split_once("->")?.0;
        let public = before.contains("pub ") || before.contains("pub(") || name == "from_str";
        let called_so = NAMES.iter().any(|known| name == *known || name.starts_with(&format!("{known}_")));
        let takes_bytes = BYTES.iter().any(|bytes| arguments.contains(bytes));
        (public && called_so && takes_bytes).then_some(name)
    })
}

#[test]
fn every_decoder_is_fed_by_a_target() {
    let fed: BTreeSet<_> =
        targets::ALL.iter().flat_map(|target| target.decoders).map(|name| (*name).to_owned()).collect();
    let excused: BTreeSet<_> = NOT_DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> =
        decoders().into_iter().filter(|name| !fed.contains(name) && !excused.contains(name)).collect();
    assert!(missing.is_empty(), "no target feeds {missing:#?}");
}

#[test]
fn what_a_target_names_exists() {
    let crates = package().join("../crates");
    for name in targets::ALL.iter().flat_map(|target| target.decoders).chain(NOT_DECODERS.iter().map(|(name, _)| name))
    {
        let (file, function) = name.split_once("::").unwrap();
        let (package, file) = file.split_once('/').unwrap();
        let text = fs::read_to_string(crates.join(package).join("src").join(file)).unwrap_or_default();
        assert!(text.contains(&format!("fn {function}")), "{name} does not exist");
    }
}

#[test]
fn every_target_accepts_its_seeds() {
    let mut names = BTreeSet::new();
    for target in targets::ALL {
        assert!(names.insert(target.name), "two targets are called {}", target.name);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            assert_eq!((target.run)(seed), Verdict::Accepted, "seed {number} of {}", target.name);
        }
    }
}
