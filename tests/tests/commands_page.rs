//! `docs/reference/commands.md` is what the binary says of itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fmt::Write;
use std::fs;

use blockhouse_tests::guide::repository;
use blockhouse_tests::world::{World, exit};

const HEAD: &str = "# Commands\n\nWhat `blockhouse COMMAND --help` says, for all of them. Made by the test that compares it: \
`BLOCKHOUSE_WRITE_PAGES=1 cargo test -p blockhouse-tests --test commands_page`. The global options stand with `blockhouse` itself; \
the [exit codes](exit-codes.md) are those of all commands.\n";

fn help(world: &World, words: &str) -> String {
    let said = world.outside(&format!("{words} --help")).env("COLUMNS", "100").run().expect(exit::DONE);
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<String> {
    let Some((_, after)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let list = after.split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(ToOwned::to_owned).collect()
}

/// A command's part of the page: without the options and codes that all have.
fn part(name: &str, help: &str) -> String {
    let own = if name == "blockhouse" { help } else { help.split("\n\nGlobal options:").next().unwrap() };
    let own = own.split("\n\nExit codes:").next().unwrap();
    let example = help.split_once("\n\nExample:\n").map(|(_, after)| after.lines().next().unwrap().trim());
    let own = own.split("\n\nExample:").next().unwrap();
    let example = example.map(|example| format!("\n\n```sh\n{example}\n```")).unwrap_or_default();
    format!("\n## {name}\n\n```text\n{own}\n```{example}\n")
}

#[test]
fn the_page_of_commands_is_what_help_says() {
    let world = World::empty();
    let mut page = HEAD.to_owned();
    let mut waiting = vec![String::new()];
    while let Some(words) = waiting.pop() {
        let help = help(&world, &words);
        page.write_str(&part(format!("blockhouse {words}").trim(), &help)).unwrap();
        waiting.extend(listed(&help).into_iter().rev().map(|name| format!("{words} {name}").trim().to_owned()));
    }
    let path = repository().join("docs/reference/commands.md");
    if std::env::var_os("BLOCKHOUSE_WRITE_PAGES").is_some() {
        fs::write(&path, page).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap();
    let differs = written.lines().zip(page.lines()).find(|(written, said)| written != said);
    assert!(
        written == page,
        "docs/reference/commands.md is another; write it anew with BLOCKHOUSE_WRITE_PAGES=1. First: {differs:?}"
    );
}
