//! Pages and code say the same: what can be compared by names is compared here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};

type Names = BTreeSet<String>;

fn root() -> PathBuf {
    let own: PathBuf = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where").into();
    own.parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The design pages, joined.
fn pages() -> String {
    let pages = tree::files(&root().join("docs/design"));
    let is_page = |path: &&PathBuf| path.extension().is_some_and(|end| end == "md");
    pages.iter().filter(is_page).map(read).collect::<Vec<_>>().join("\n")
}

/// The sources of all crates without their tests, joined.
fn sources() -> String {
    let files = tree::files(&root().join("crates"));
    let is_source = |path: &&PathBuf| {
        let text = path.to_str().unwrap();
        let is_rust = path.extension().is_some_and(|end| end == "rs");
        is_rust && text.contains("/src/") && !text.contains("/tests")
    };
    let without_tests = |path: &PathBuf| read(path).split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    files.iter().filter(is_source).map(without_tests).collect::<Vec<_>>().join("\n")
}

/// Every run of allowed characters that follows one of `quotes` and `start`, and ends with a quote.
fn quoted(text: &str, start: &str, allowed: fn(char) -> bool) -> Names {
    let found = text.match_indices(start).filter_map(|(at, _)| {
        let is_quoted = text[..at].ends_with(['"', '`']);
        let rest = &text[at..];
        let end = rest.find(|letter| !allowed(letter))?;
        (is_quoted && rest[end..].starts_with(['"', '`'])).then(|| rest[..end].to_owned())
    });
    found.collect()
}

#[track_caller]
fn expect_same(what: &str, code: &Names, page: &Names) {
    assert!(!code.is_empty(), "no {what} was found in the code");
    let (unwritten, unknown): (Vec<_>, Vec<_>) = (code.difference(page).collect(), page.difference(code).collect());
    assert!(unwritten.is_empty(), "{what} in the code, on no page: {unwritten:?}");
    assert!(unknown.is_empty(), "{what} on a page, nowhere in the code: {unknown:?}");
}

/// A context that is spelled in another way on its page is another hash to who follows the page.
#[test]
fn every_context_of_a_hash_is_on_a_page_and_in_the_code() {
    let word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == ' ';
    let contexts = |text: &str| {
        // Alone, the beginning says how all of them begin.
        let whole = quoted(text, "blockhouse v1 ", word).into_iter().filter(|context| context != "blockhouse v1 ");
        whole.collect::<Names>()
    };
    expect_same("a context", &contexts(&sources()), &contexts(&pages()));
}

#[test]
fn every_magic_of_a_format_is_on_a_page_and_in_the_code() {
    let letter = |letter: char| letter.is_ascii_uppercase();
    let magics = |text: &str| {
        let four = quoted(text, "BH", letter).into_iter().filter(|name| name.len() == 4);
        four.collect::<Names>()
    };
    expect_same("a magic", &magics(&sources()), &magics(&pages()));
}

/// By the checked-in ABI. What reverts with which error stands in the sources of the contracts.
#[test]
fn every_function_and_event_is_on_the_page_of_contracts() {
    let page = read("docs/design/contracts.md");
    let words: BTreeSet<&str> = page.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
    let mut count = 0;
    for file in tree::files(&root().join("contracts/abi")) {
        if file.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let abi: serde_json::Value = serde_json::from_str(&read(&file)).unwrap();
        let items = abi.as_array().or_else(|| abi["abi"].as_array()).unwrap();
        let shown = items.iter().filter(|item| item["type"] == "function" || item["type"] == "event");
        for name in shown.filter_map(|item| item["name"].as_str()) {
            assert!(words.contains(name), "{} has {name}, contracts.md has not", file.display());
            count += 1;
        }
    }
    assert!(count > 50, "only {count} names in the ABI");
}

/// The first column of the page of exit codes.
fn exit_codes() -> BTreeSet<i32> {
    let page = read("docs/reference/exit-codes.md");
    page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(' ')?.0.parse().ok()).collect()
}

/// The program, its page and these tests speak of the same codes.
#[test]
fn every_help_lists_the_exit_codes_of_the_page() {
    let (world, page) = (World::empty(), exit_codes());
    let help = |words: &str| {
        let done = world.outside(words).run().expect(exit::DONE);
        String::from_utf8(done.stdout).unwrap()
    };
    let all = help("--help");
    let (_, listed) = all.split_once("Commands:").unwrap();
    let (listed, _) = listed.split_once("\n\n").unwrap();
    let commands: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|name| !["", "help"].contains(name)).collect();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in commands {
        let text = help(&format!("{command} --help"));
        let (_, codes) = text.split_once("Exit codes:").unwrap_or_else(|| panic!("{command} lists no exit codes"));
        let codes: BTreeSet<i32> = codes.split(';').map(|code| first_number(code).unwrap()).collect();
        assert_eq!(codes, page, "{command}");
    }
    let ours = [exit::DONE, exit::FAILED, exit::USAGE, exit::UNREADABLE, exit::CHECK, exit::NOT_ALLOWED];
    let more = [exit::DEGRADED, exit::NO_VAULT, exit::PASSPHRASE];
    assert!(ours.iter().chain(&more).all(|code| page.contains(code)));
}

fn first_number(text: &str) -> Option<i32> {
    text.split_whitespace().next()?.parse().ok()
}

/// Each dependency has its reason in ARCHITECTURE.md, and no reason outlives its dependency.
#[test]
fn every_dependency_has_its_reason() {
    let page = read("ARCHITECTURE.md");
    let (_, table) = page.split_once("\n## Dependencies").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let first_columns = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let reasons: Names =
        first_columns.flat_map(|column| column.split(", ")).map(|name| name.replace('`', "")).collect();

    let workspace = read("Cargo.toml");
    let (_, dependencies) = workspace.split_once("[workspace.dependencies]").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let outside = dependencies.lines().filter(|line| !line.contains("path = "));
    let offered: Names = outside.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    let mut used = Names::new();
    for file in tree::files(&root().join("crates")).into_iter().chain(["xtask", "fuzz", "tests"].map(manifest)) {
        if file.ends_with("Cargo.toml") {
            let text = read(&file);
            used.extend(text.lines().filter_map(|line| Some(line.split_once([' ', '.'])?.0.to_owned())));
        }
    }
    used.retain(|name| offered.contains(name));
    expect_same("a dependency", &used, &reasons);
    assert_eq!(offered, used, "offered to the crates, used by some");
}

fn manifest(package: &str) -> PathBuf {
    root().join(package).join("Cargo.toml")
}
