//! `blockhouse find`

use std::collections::BTreeMap;

use anyhow::Context;
use blockhouse_types::{EntryFacts, EntryKind, SourceId};
use blockhouse_vault::find::{Finder, Query, Unsearched};
use blockhouse_vault::reader;
use blockhouse_vault::select::{self, Known, SnapshotRef};
use blockhouse_vault::vault::Vault;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::output::{Output, OutputError};
use crate::{opening, text};

/// Kinds of entries
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindChoice {
    /// Files
    F,
    /// Folders
    D,
    /// Symbolic links
    L,
}

/// Find files by name, age and size in one, several or all snapshots
///
/// A pattern without a slash is a name; one with a slash is the end of a path, or all of it if it begins with a slash. `*` and
/// `?` stop at slashes, `**` does not. Paths are those that were backed up. A listing that several snapshots share is read once.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse find '*.pdf' --newer 2026-01-01 --history --identity ~/owner.identity"))]
pub(crate) struct FindArgs {
    /// What to look for; any of them
    #[arg(value_name = "GLOB", required = true)]
    globs: Vec<String>,
    /// Only in this snapshot: an id, the first digits of one, `latest`, or `latest:SOURCE`; repeat for more
    #[arg(long, value_name = "SNAP", conflicts_with = "latest")]
    snapshot: Vec<SnapshotRef>,
    /// Only in the latest snapshot of each source
    #[arg(long)]
    latest: bool,
    /// Only files, folders or links; repeat for more
    #[arg(long = "type", value_enum, value_name = "f|d|l")]
    kinds: Vec<KindChoice>,
    /// Changed at this time or later: a day, a time, or @SECONDS
    #[arg(long, value_name = "TIME", value_parser = text::parse_time)]
    newer: Option<u64>,
    /// Changed at this time or before
    #[arg(long, value_name = "TIME", value_parser = text::parse_time)]
    older: Option<u64>,
    /// Files of at least so many bytes: a number, with K, M, G or T for powers of 1024
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    larger: Option<u64>,
    /// Files of at most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = text::parse_size)]
    smaller: Option<u64>,
    /// Upper and lower case are the same
    #[arg(long, short)]
    ignore_case: bool,
    /// Show each version once, with the first and the last snapshot that has it
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    selectors: Selectors,
}

/// A version of an entry: the source, the path, and what tells versions apart.
type Version = (SourceId, Vec<u8>, (u8, u64, (i64, u32), [u8; 32]));

/// In which snapshots a version is.
#[derive(Debug)]
struct Span {
    facts: EntryFacts,
    first: usize,
    last: usize,
    count: u64,
}

pub(crate) async fn run(mut args: FindArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let mut finder = Finder::try_new(query(&args))?;
    let vault = opening::reader(global, out).await?;
    let snapshots = chosen(&vault, &mut args).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "find")?;
    let (mut spans, mut matches, mut unsearched) = (BTreeMap::<Version, Span>::new(), 0_u64, Vec::new());
    for (place, known) in snapshots.iter().enumerate() {
        let mut opened = match reader::open(&vault, &unlocked, known.record.clone()).await {
            Ok(opened) => opened,
            // One that cannot be opened hides nothing of the others.
            Err(error) if snapshots.len() > 1 => {
                let why = crate::failure::one_line(&error);
                unsearched.push((place, Unsearched { path: Vec::new(), why }));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let work = move || {
            let mut found: Vec<(Vec<u8>, EntryFacts)> = Vec::new();
            let searched = finder.search(&mut opened, &mut |path, facts| {
                found.push((path.to_vec(), *facts));
                Ok::<(), OutputError>(())
            });
            (finder, found, searched)
        };
        let (back, found, searched) = tokio::task::spawn_blocking(work).await.context("the search was stopped")?;
        finder = back;
        matches += found.len() as u64;
        unsearched.extend(searched?.into_iter().map(|it| (place, it)));
        if args.history {
            note(&mut spans, place, known, found);
        } else {
            tell(known, &found, out)?;
        }
    }
    if args.history {
        tell_history(&spans, &snapshots, out)?;
    }
    for (place, it) in &unsearched {
        let id = snapshots.get(*place).map(|known| known.record.id);
        let (snapshot, path) = (id.map(|id| text::short(&id)).unwrap_or_default(), text::path(&it.path));
        out.warn(format_args!("warning: snapshot {snapshot}: could not search `{path}`: {}", it.why));
        out.record(&json!({ "type": "unsearched", "snapshot": id, "path": path, "why": it.why }))?;
    }
    let (listings, shared) = finder.listings();
    out.detail(format_args!("{listings} listings read, {shared} known from a snapshot before"));
    if matches == 0 {
        out.talk(format_args!("nothing was found in {}", text::count(snapshots.len() as u64, "snapshot")));
    }
    out.record(&json!({
        "type": "summary",
        "ok": unsearched.is_empty(),
        "snapshots": snapshots.len(),
        "matches": matches,
        "listings": listings,
        "listings_shared": shared,
        "unsearched": unsearched.len(),
    }))?;
    Ok(if unsearched.is_empty() { Exit::Success } else { Exit::CheckFailed })
}

fn query(args: &FindArgs) -> Query {
    let seconds = |time: Option<u64>| time.map(|time| i64::try_from(time).unwrap_or(i64::MAX));
    let kind = |kind: &KindChoice| match kind {
        KindChoice::F => EntryKind::File,
        KindChoice::D => EntryKind::Directory,
        KindChoice::L => EntryKind::Symlink,
    };
    Query {
        globs: args.globs.clone(),
        ignore_case: args.ignore_case,
        kinds: args.kinds.iter().map(kind).collect(),
        newer: seconds(args.newer),
        older: seconds(args.older),
        larger: args.larger,
        smaller: args.smaller,
    }
}

/// The snapshots to search, the oldest first.
async fn chosen(vault: &Vault, args: &mut FindArgs) -> anyhow::Result<Vec<Known>> {
    let narrow = std::mem::take(&mut args.selectors).into();
    if args.latest {
        return Ok(select::latest(vault, &narrow).await?);
    }
    if args.snapshot.is_empty() {
        return Ok(select::all(vault, &narrow).await?);
    }
    let mut chosen = Vec::new();
    for wanted in &args.snapshot {
        chosen.push(select::one(vault, wanted, &narrow).await?);
    }
    chosen.sort_by_key(|known: &Known| known.record.block);
    chosen.dedup_by_key(|known| known.record.id);
    Ok(chosen)
}

fn note(spans: &mut BTreeMap<Version, Span>, place: usize, known: &Known, found: Vec<(Vec<u8>, EntryFacts)>) {
    for (path, facts) in found {
        let time = (facts.mtime.seconds, facts.mtime.nanoseconds);
        let version = (facts.kind.tag(), facts.length, time, facts.content_hash);
        let span = spans.entry((known.record.source, path, version));
        let span = span.or_insert(Span { facts, first: place, last: place, count: 0 });
        span.last = place;
        span.count += 1;
    }
}

fn tell(known: &Known, found: &[(Vec<u8>, EntryFacts)], out: &Output) -> anyhow::Result<()> {
    let record = &known.record;
    if !found.is_empty() {
        let (id, time) = (text::short(&record.id), text::moment(record.time));
        out.data(format_args!("snapshot {id} of {time}, {}", known.source_name()))?;
    }
    for (path, facts) in found {
        out.data(format_args!("{}", line(path, facts)))?;
        out.record(&json!({
            "type": "match",
            "snapshot": record.id,
            "source": record.source,
            "time": record.time,
            "path": text::path(path),
            "kind": facts.kind,
            "size": facts.length,
            "mtime": facts.mtime.seconds,
            "mtime_nanoseconds": facts.mtime.nanoseconds,
        }))?;
    }
    Ok(())
}

fn line(path: &[u8], facts: &EntryFacts) -> String {
    let time = text::moment(u64::try_from(facts.mtime.seconds).unwrap_or(0));
    format!("  {} {:>12} {time} {}", text::letter(facts.kind), facts.length, text::path(path))
}

fn tell_history(spans: &BTreeMap<Version, Span>, snapshots: &[Known], out: &Output) -> anyhow::Result<()> {
    let mut last_path: Option<&[u8]> = None;
    let mut by_path: Vec<_> = spans.iter().collect();
    by_path.sort_by_key(|((source, path, _), span)| (*source, path.as_slice(), span.first));
    for ((source, path, _), span) in by_path {
        let [Some(first), Some(last)] = [snapshots.get(span.first), snapshots.get(span.last)] else { continue };
        if last_path != Some(path.as_slice()) {
            out.data(format_args!("{}", text::path(path)))?;
            last_path = Some(path);
        }
        let time = text::moment(u64::try_from(span.facts.mtime.seconds).unwrap_or(0));
        let in_all = text::count(span.count, "snapshot");
        out.data(format_args!(
            "  {} {:>12} {time} in {in_all}, {} of {} to {} of {}",
            text::letter(span.facts.kind),
            span.facts.length,
            text::short(&first.record.id),
            text::moment(first.record.time),
            text::short(&last.record.id),
            text::moment(last.record.time)
        ))?;
        out.record(&json!({
            "type": "version",
            "source": source,
            "path": text::path(path),
            "kind": span.facts.kind,
            "size": span.facts.length,
            "mtime": span.facts.mtime.seconds,
            "mtime_nanoseconds": span.facts.mtime.nanoseconds,
            "first": first.record.id,
            "first_time": first.record.time,
            "last": last.record.id,
            "last_time": last.record.time,
            "snapshots": span.count,
        }))?;
    }
    Ok(())
}
