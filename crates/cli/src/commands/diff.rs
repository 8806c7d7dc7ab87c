//! `blockhouse diff`

use std::path::PathBuf;

use anyhow::Context;
use blockhouse_types::{EntryFacts, EntryKind};
use blockhouse_vault::diff::{self, Difference, LiveError, LiveRequest, Modifier, NoEntry, Summary};
use blockhouse_vault::reader::{self, ReadTreeError};
use blockhouse_vault::select::{self, PlaceRef};
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::{Global, Selectors, place_parser};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::{self, Output, OutputError};
use crate::{opening, text};

/// Show what differs between two snapshots, or between a snapshot and what is there now
///
/// Letters: + new, - gone, M other bytes, U other mode, owner, time or attributes, T another kind. With --live a file of the same
/// length and time counts as unchanged; one of another time is read and compared by its hash. Folders that both snapshots share
/// are not read. The exit code is 0 whether something differs or not, unless --exit-code is given; what could not be
/// read in the vault makes it 4, on the live side 3.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse diff 3f9a12 latest --identity ~/owner.identity"))]
pub(crate) struct DiffArgs {
    /// The older snapshot: an id, the first digits of one, `latest`, or `latest:SOURCE`; with `:PATH` after it only what stands there
    /// (`latest::PATH`)
    #[arg(value_name = "SNAP", value_parser = place_parser())]
    before: PlaceRef,
    /// The newer one; with `:PATH` after it if the older has one
    #[arg(value_name = "OTHER", required_unless_present = "live", conflicts_with = "live", value_parser = place_parser())]
    after: Option<PlaceRef>,
    /// Compare with what is there now: where it was backed up, or in PATH as a restore fills it
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "clap's type of an option whose value may be left out")]
    live: Option<Option<PathBuf>>,
    /// With --live: read every file, whatever its length and time say
    #[arg(long, requires = "live")]
    content: bool,
    /// With --live: leave out what matches, as `backup` does; repeat for more
    #[arg(long = "exclude", value_name = "GLOB", requires = "live")]
    excludes: Vec<String>,
    /// End with exit code 4 if something differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    selectors: Selectors,
}

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error(transparent)]
    Read(#[from] ReadTreeError),
    #[error(transparent)]
    NoEntry(#[from] NoEntry),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl DiffError {
    fn told(self) -> anyhow::Error {
        match self {
            Self::Output(error) => error.into(),
            Self::Live(error) => error.into(),
            Self::NoEntry(NoEntry { path }) => Refusal::NoEntry { path: text::path(&path) }.into(),
            Self::Read(error) => LiveError::from(error).into(),
        }
    }
}

pub(crate) async fn run(args: DiffArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::reader(global, out).await?;
    let narrow = args.selectors.into();
    let before = select::place(&vault, &args.before, &narrow).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "diff")?;
    let (first, one) = (before.known.record.id, before.path);
    let mut before = reader::open(&vault, &unlocked, before.known.record).await?;
    let teller = out.clone();
    let (summary, second) = match (args.after, args.live) {
        (Some(after), _) => {
            let after = select::place(&vault, &after, &narrow).await?;
            let (second, other) = (after.known.record.id, after.path);
            let paths = both(one, other)?;
            let mut after = reader::open(&vault, &unlocked, after.known.record).await?;
            let work = move || {
                let paths = paths.as_ref().map(|[one, other]| [&one[..], &other[..]]);
                diff::compare(&mut before, &mut after, paths, &mut |it| tell(it, &teller).map_err(DiffError::from))
            };
            (tokio::task::spawn_blocking(work).await, Some(second))
        }
        (None, Some(_)) if one.is_some() => {
            let hint = "restore it elsewhere, or leave the path out";
            return Err(Refusal::usage("--live compares the whole snapshot with what is there now", hint).into());
        }
        (None, Some(path)) => {
            let request = LiveRequest { path, excludes: args.excludes, content: args.content };
            let work =
                move || diff::compare_live(&mut before, &request, &mut |it| tell(it, &teller).map_err(DiffError::from));
            (tokio::task::spawn_blocking(work).await, None)
        }
        (None, None) => {
            return Err(Refusal::usage("nothing to compare with", "give a second snapshot, or --live").into());
        }
    };
    let summary = summary.context("the comparison was stopped")?.map_err(DiffError::told)?;
    let mut record = tell_summary(&summary, out)?;
    output::extend(&mut record, json!({ "before": first, "after": second }));
    out.record(&record)?;
    let lost = |is_in_vault: bool| summary.not_compared.iter().any(|it| it.is_in_vault == is_in_vault);
    Ok(match () {
        () if lost(true) => Exit::CheckFailed,
        () if lost(false) => Exit::Unreadable,
        () if args.exit_code && !summary.is_equal() => Exit::CheckFailed,
        () => Exit::Success,
    })
}

/// The paths of both snapshots; one alone would be compared with everything.
fn both(one: Option<Vec<u8>>, other: Option<Vec<u8>>) -> anyhow::Result<Option<[Vec<u8>; 2]>> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some([one, other])),
        (None, None) => Ok(None),
        _ => {
            let hint = "give `:PATH` after both snapshots, or after neither";
            Err(Refusal::usage("a path is compared with a path", hint).into())
        }
    }
}

fn tell(difference: &Difference, out: &Output) -> Result<(), OutputError> {
    let Difference { path, modifier, before, after } = difference;
    let is_folder = |facts: &Option<EntryFacts>| facts.is_some_and(|facts| facts.kind == EntryKind::Directory);
    let slash = if is_folder(after) || (after.is_none() && is_folder(before)) { "/" } else { "" };
    out.data(format_args!("{} {}{slash}", modifier.letter(), text::path(path)))?;
    out.record(&json!({
        "type": "difference",
        "modifier": modifier.letter().to_string(),
        "path": text::path(path),
        "before": before.as_ref().map(side),
        "after": after.as_ref().map(side),
    }))
}

fn side(facts: &EntryFacts) -> Value {
    json!({
        "kind": facts.kind,
        "size": facts.length,
        "mode": format!("{:04o}", facts.mode),
        "uid": facts.uid,
        "gid": facts.gid,
        "mtime": facts.mtime.seconds,
        "mtime_nanoseconds": facts.mtime.nanoseconds,
    })
}

/// For people what was found, and for programs the object, which is not written yet.
fn tell_summary(summary: &Summary, out: &Output) -> anyhow::Result<Value> {
    for it in &summary.not_compared {
        let path = text::path(&it.path);
        out.warn(format_args!("warning: could not compare `{path}`: {}", it.why));
        out.record(&json!({ "type": "not-compared", "path": path, "why": it.why, "in_vault": it.is_in_vault }))?;
    }
    let mut rows = Vec::new();
    let mut counts = serde_json::Map::new();
    let named = [
        ("added", "new", Modifier::Added),
        ("removed", "gone", Modifier::Removed),
        ("changed", "other bytes", Modifier::Content),
        ("metadata", "other metadata", Modifier::Metadata),
        ("kind", "another kind", Modifier::Kind),
    ];
    for (field, name, modifier) in named {
        let tally = summary.tally(modifier);
        if tally != diff::Tally::default() {
            let numbers = [tally.files, tally.folders, tally.others].map(|number| number.to_string());
            let [files, folders, others] = numbers;
            rows.push(vec![name.to_owned(), files, folders, others, text::bytes(tally.bytes)]);
        }
        counts.insert(
            field.to_owned(),
            json!({ "files": tally.files, "folders": tally.folders, "others": tally.others, "bytes": tally.bytes }),
        );
    }
    if summary.is_equal() {
        out.talk(format_args!("nothing differs"));
    } else if !rows.is_empty() {
        out.data(format_args!(""))?;
        out.table(&["", "files", "folders", "others", "bytes"], &rows)?;
    }
    let mut record =
        json!({ "type": "summary", "equal": summary.is_equal(), "not_compared": summary.not_compared.len() });
    output::extend(&mut record, Value::Object(counts));
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_restic() {
        let all = [Modifier::Added, Modifier::Removed, Modifier::Content, Modifier::Metadata, Modifier::Kind];
        assert_eq!(all.map(Modifier::letter), ['+', '-', 'M', 'U', 'T']);
    }
}
