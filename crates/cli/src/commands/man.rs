//! `blockhouse man`

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use crate::arguments::Cli;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::text;

/// Write manual pages: one to standard output, or all of them into a folder
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse man --out ~/.local/share/man/man1"))]
pub(crate) struct ManArgs {
    /// The command, as `key add`; without one the page of blockhouse itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, out: &Output) -> anyhow::Result<Exit> {
    let mut root = Cli::command();
    root.build();
    let pages = pages(&root);
    let Some(folder) = &args.out else {
        let wanted: Vec<&str> = std::iter::once("blockhouse").chain(args.command.iter().map(String::as_str)).collect();
        let page = pages.iter().find(|(name, _)| *name == wanted.join("-"));
        let none = || {
            Refusal::usage(
                format!("there is no command `{}`", args.command.join(" ")),
                "`blockhouse --help` lists them",
            )
        };
        let (name, command) = page.ok_or_else(none)?;
        out.raw(&render(name, command)?)?;
        return Ok(Exit::Success);
    };
    std::fs::create_dir_all(folder).with_context(|| format!("could not make the folder {}", folder.display()))?;
    for (name, command) in &pages {
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, render(name, command)?).with_context(|| format!("could not write {}", path.display()))?;
    }
    let count = pages.len() as u64;
    out.line(format_args!("{} in {}", text::count(count, "page"), folder.display()))?;
    out.record(&json!({ "type": "summary", "ok": true, "pages": count, "folder": folder }))?;
    Ok(Exit::Success)
}

/// Every command with the name of its page: `blockhouse`, `blockhouse-key-add`.
fn pages(root: &Command) -> Vec<(String, &Command)> {
    let (mut pages, mut waiting) = (Vec::new(), vec![("blockhouse".to_owned(), root)]);
    while let Some((name, command)) = waiting.pop() {
        let below = command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set());
        waiting.extend(below.map(|it| (format!("{name}-{}", it.get_name()), it)));
        pages.push((name, command));
    }
    pages.sort_by(|(one, _), (other, _)| one.cmp(other));
    pages
}

fn render(name: &str, command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    // Without a date the pages of one release are the same wherever they are made.
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date("")
        .source(concat!("blockhouse ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).context("could not make the page")?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_in_roff() {
        let mut root = Cli::command();
        root.build();
        let pages = pages(&root);
        assert!(pages.iter().any(|(name, _)| name == "blockhouse-key-add") && pages.len() > 20, "{}", pages.len());
        for (name, command) in &pages {
            let text = String::from_utf8(render(name, command).unwrap()).unwrap();
            assert!(text.contains(".TH ") && text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}");
        }
    }
}
