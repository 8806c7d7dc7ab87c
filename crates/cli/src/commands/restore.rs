//! `blockhouse restore`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use blockhouse_sites::SiteName;
use blockhouse_sources::files::{Accounts, MetadataRules, Overwrite, OwnerKind, OwnerMapping, Ownership};
use blockhouse_types::SnapshotId;
use blockhouse_types::limits::MIB;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::restore::{
    Change, ChangeKind, MEMORY_DEFAULT, MEMORY_MIN, OnChange, RestoreReport, RestoreRequest, Selection, Standing,
    restore, standing,
};
use blockhouse_vault::select::{self, Place, PlaceRef};
use blockhouse_vault::stripes::Fault;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::{Global, Selectors, place_parser};
use crate::exit::{Exit, help};
use crate::failure::{Refusal, one_line};
use crate::output::{Output, OutputError};
use crate::progress;
use crate::{opening, text};

/// What happens to what is in the target
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverwriteChoice {
    /// It stays as it is; only what is missing is written
    Never,
    /// A file is replaced if its content differs, and gets its metadata; something of another kind stays and is told
    IfChanged,
    /// It is replaced, whatever it is, unless it has the right content; a folder with something in it is not
    Always,
}

/// Restore a snapshot, or a part of it, bit for bit
///
/// A snapshot of one folder comes back as what is in that folder, one of several paths as each path under its last name.
/// Nothing in the target that is not in the snapshot is touched, unless --delete says so. Every file is compared with its hash
/// before it gets its name; what is there already and right is not fetched. A restore that was stopped goes on with the same command.
/// What could not be restored as it was is listed, and the exit code is 3.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = help!("blockhouse restore latest --to /tmp/restored --identity ~/owner.identity"))]
pub(crate) struct RestoreArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`; with `:PATH` after it only what stands there, with its path as `ls`
    /// or `find` shows it: what is in a folder goes into DIR itself, a file under its own name. Of the newest snapshot: `latest::PATH`
    #[arg(value_name = "SNAP", value_parser = place_parser())]
    snapshot: PlaceRef,
    /// Where to; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Say what would be written and deleted, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    patterns: Patterns,
    /// Leave so many names out at the beginning of each path, after :PATH, as tar does; what has no more names is left out
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    strip_components: usize,
    /// What happens to what is in the target; needed if it is not empty
    #[arg(long, value_enum, value_name = "WHEN")]
    overwrite: Option<OverwriteChoice>,
    /// Remove from the folders that are restored what is not in the snapshot, but for what --exclude names and what the backup left
    /// out. Without --overwrite as with --overwrite if-changed
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    owners: Owners,
    /// Leave extended attributes and ACLs as the target gives them
    #[arg(long)]
    no_xattrs: bool,
    /// Write over the files of a running node or database
    #[arg(long)]
    allow_live: bool,
    /// Hold so many MiB of packs and plans in memory; the process itself takes some 70 MiB more
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_DEFAULT / MIB, value_parser = parse_memory)]
    memory: usize,
    #[command(flatten)]
    selectors: Selectors,
}

/// Which part of the snapshot
#[derive(Debug, Args)]
struct Patterns {
    /// Only what matches, and all that is in it; repeat for more. A pattern with a slash matches paths as `ls` shows them, else
    /// names. `*` and `?` stop at slashes, `**` does not
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "GLOB")]
    iinclude: Vec<String>,
    /// Take patterns for --include from a file, one on each line; lines that begin with # are passed over
    #[arg(long, value_name = "FILE")]
    include_file: Vec<PathBuf>,
    /// Leave out what matches, and all that is in it; repeat for more
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "GLOB")]
    iexclude: Vec<String>,
    /// Take patterns for --exclude from a file
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
}

/// Whom restored entries belong to
#[derive(Debug, Args)]
struct Owners {
    /// Restore owners by their numbers, not by their names
    #[arg(long, conflicts_with = "no_owner")]
    numeric_owner: bool,
    /// Let everything belong to whoever restores
    #[arg(long)]
    no_owner: bool,
    /// Give what belonged to user OLD to NEW; names or numbers, repeat for more, the first that fits counts
    #[arg(long, value_name = "OLD:NEW")]
    map_user: Vec<String>,
    /// The same for groups
    #[arg(long, value_name = "OLD:NEW")]
    map_group: Vec<String>,
}

pub(crate) async fn run(args: RestoreArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let on_change = shown(args.dry_run, global, out);
    let mut request = RestoreRequest {
        strip_components: args.strip_components,
        selection: args.patterns.read()?,
        metadata: args.owners.rules(args.no_xattrs)?,
        delete: args.delete,
        guarded: guarded(global),
        dry_run: args.dry_run,
        allow_live: args.allow_live,
        memory: args.memory * MIB,
        on_change,
        ..RestoreRequest::new(args.to)
    };
    if args.delete && args.overwrite == Some(OverwriteChoice::Never) {
        let what = "--delete takes away what is not in the snapshot, --overwrite never leaves what is there";
        return Err(Refusal::usage(what, "give one of the two").into());
    }
    let vault = opening::site_reader(global, out).await?;
    let Place { known, path } = select::place(&vault, &args.snapshot, &args.selectors.into()).await?;
    request.path = path;
    let (id, is_new) = (known.record.id, standing(&request.to, &request.portion(known.record.id)));
    request.overwrite = match (args.overwrite, is_new) {
        (Some(OverwriteChoice::Never), _) | (None, Standing::Empty) => Overwrite::Never,
        (Some(OverwriteChoice::IfChanged), _) => Overwrite::IfChanged,
        (Some(OverwriteChoice::Always), _) => Overwrite::Always,
        (None, Standing::Unfinished) => Overwrite::Resume,
        (None, Standing::Filled) if args.delete => Overwrite::IfChanged,
        (None, Standing::Filled) => return Err(Refusal::TargetNotEmpty { path: request.to }.into()),
    };
    if is_new == Standing::Unfinished {
        out.talk(format_args!("going on with a restore of this snapshot that was not finished"));
    }
    let unlocked = opening::unlock(global, Some(vault.id()), "restore")?;
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = restore(&vault, &unlocked, known, &request, &progress).await;
    drop(shown);
    tell((id, &request), &done?, started.elapsed().as_secs_f64(), out)
}

impl Patterns {
    fn read(self) -> anyhow::Result<Selection> {
        let Self { mut include, iinclude, include_file, mut exclude, iexclude, exclude_file } = self;
        include.extend(lines(&include_file)?);
        exclude.extend(lines(&exclude_file)?);
        Ok(Selection { include, include_any_case: iinclude, exclude, exclude_any_case: iexclude })
    }
}

/// The patterns in files.
fn lines(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut patterns = Vec::new();
    for file in files {
        let unread =
            |error| Refusal::usage(format!("could not read {}: {error}", file.display()), "give a file of patterns");
        let read = std::fs::read_to_string(file).map_err(unread)?;
        let lines = read.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        patterns.extend(lines.map(str::to_owned));
    }
    Ok(patterns)
}

impl Owners {
    fn rules(self, without_attributes: bool) -> anyhow::Result<MetadataRules> {
        let accounts = Accounts::of_this_host();
        let mappings = |texts: &[String], kind| {
            let mapping = |text: &String| OwnerMapping::of(text, kind, &accounts);
            let refused = |error: blockhouse_sources::files::OwnerMappingError| {
                Refusal::usage(error.to_string(), "--map-user OLD:NEW and --map-group OLD:NEW take names or numbers")
            };
            texts.iter().map(mapping).collect::<Result<Vec<_>, _>>().map_err(refused)
        };
        let ownership = match (self.numeric_owner, self.no_owner) {
            (_, true) => Ownership::Mine,
            (true, _) => Ownership::ByNumber,
            _ => Ownership::ByName,
        };
        let (users, groups) =
            (mappings(&self.map_user, OwnerKind::User)?, mappings(&self.map_group, OwnerKind::Group)?);
        Ok(MetadataRules { ownership, users, groups, without_attributes })
    }
}

/// What nothing is deleted around, unless the user says that it is meant.
fn guarded(global: &Global) -> Vec<PathBuf> {
    let mut guarded: Vec<PathBuf> = global.identity.iter().chain(&global.paper_key).cloned().collect();
    if !global.yes {
        guarded.extend(std::env::var_os("HOME").map(PathBuf::from));
        guarded.extend(std::env::current_dir());
        guarded.push(PathBuf::from("/"));
    }
    guarded
}

/// Shows every change: what a dry run finds, and with --verbose what is done.
fn shown(is_data: bool, global: &Global, out: &Output) -> Option<OnChange> {
    if !is_data && !global.verbose {
        return None;
    }
    let out = out.clone();
    Some(Arc::new(move |change: &Change| {
        let (kind, path, bytes) = (word(change.kind), text::path(&change.path), text::bytes(change.bytes));
        // Whoever reads may have had enough; the command learns it at its last line.
        let _ = if is_data { out.line(format_args!("{kind:<8} {path} ({bytes})")) } else { Ok(()) };
        if !is_data {
            out.detail(format_args!("{kind}: {path} ({bytes})"));
        }
        let record = json!({ "type": "change", "change": kind, "path": path, "bytes": change.bytes });
        let _ = out.record(&record);
    }))
}

const fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::New => "new",
        ChangeKind::Changed => "changed",
        ChangeKind::Replaced => "replaced",
        ChangeKind::Deleted => "deleted",
    }
}

/// Reads a number of mebibytes.
fn parse_memory(text: &str) -> Result<usize, String> {
    let least = MEMORY_MIN / MIB;
    match text.parse() {
        Ok(mebibytes) if (least..=1 << 20).contains(&mebibytes) => Ok(mebibytes),
        _ => Err(format!("`{text}` is no number of MiB from {least} on")),
    }
}

fn tell(
    (snapshot, request): (SnapshotId, &RestoreRequest),
    report: &RestoreReport,
    seconds: f64,
    out: &Output,
) -> anyhow::Result<Exit> {
    for flaw in &report.flaws {
        let path = text::path(&flaw.path);
        out.talk(format_args!("not as in the snapshot: {path}: {}", flaw.why));
        out.record(&json!({ "type": "flaw", "path": path, "why": flaw.why }))?;
    }
    let (mut missing, mut damaged) = (BTreeMap::<&SiteName, u64>::new(), BTreeMap::<&SiteName, u64>::new());
    for damage in &report.damage {
        out.detail(format_args!("{}", one_line(damage)));
        let counts = if matches!(damage.fault, Fault::Missing) { &mut missing } else { &mut damaged };
        *counts.entry(&damage.site).or_default() += 1;
    }
    tell_what_was_done(report, request.dry_run, seconds, out)?;
    let changes = &report.changes;
    if report.stripped > 0 {
        let paths = text::count(report.stripped, "path");
        out.talk(format_args!("left out, with no more names than --strip-components takes away: {paths}"));
    }
    talk_of_deleting(report, request.dry_run, out);
    if report.unread > 0 {
        out.talk(format_args!("the same command goes on once what could not be read can be"));
    }
    if !report.damage.is_empty() {
        out.warn(format_args!(
            "warning: shards that were missing or damaged and were made up for by others: {}; run `blockhouse repair --read-data`",
            report.damage.len()
        ));
    }
    out.record(&json!({
        "type": "summary",
        "ok": report.flaws.is_empty(),
        "snapshot": snapshot,
        "path": request.path.as_deref().map(text::path),
        "files": report.files,
        "bytes": report.bytes,
        "kept": report.kept,
        "spared": report.spared,
        "stripped": report.stripped,
        "dry_run": request.dry_run,
        "new": changes.new,
        "new_bytes": changes.new_bytes,
        "changed": changes.changed,
        "changed_bytes": changes.changed_bytes,
        "deleted": changes.deleted,
        "deleted_bytes": changes.deleted_bytes,
        "fetched_bytes": report.fetched_bytes,
        "reused_bytes": report.reused_bytes,
        "flaws": report.flaws.len(),
        "missing": missing,
        "damaged": damaged,
        "seconds": seconds,
    }))?;
    Ok(match (report.unread, report.flaws.is_empty()) {
        (0, true) => Exit::Success,
        (0, false) => Exit::Unreadable,
        _ => Exit::CheckFailed,
    })
}

/// How much was written, or would be.
fn tell_what_was_done(
    report: &RestoreReport,
    is_rehearsal: bool,
    seconds: f64,
    out: &Output,
) -> Result<(), OutputError> {
    let changes = &report.changes;
    if is_rehearsal {
        out.line(format_args!(
            "would write {} new ({}) and {} changed ({}), and delete {} ({}); {} as they are",
            changes.new,
            text::bytes(changes.new_bytes),
            changes.changed,
            text::bytes(changes.changed_bytes),
            changes.deleted,
            text::bytes(changes.deleted_bytes),
            report.kept,
        ))
    } else {
        out.line(format_args!(
            "restored {}, {}, each checked against its hash, in {seconds:.1} s; {} there already",
            text::count(report.files, "file"),
            text::bytes(report.bytes),
            if report.kept == 1 { "1 was".to_owned() } else { format!("{} were", report.kept) }
        ))
    }
}

/// What went because it is not in the snapshot, and what stays all the same.
fn talk_of_deleting(report: &RestoreReport, is_rehearsal: bool, out: &Output) {
    let changes = &report.changes;
    if changes.deleted > 0 && !is_rehearsal {
        let bytes = text::bytes(changes.deleted_bytes);
        out.talk(format_args!("deleted what is not in the snapshot: {} ({bytes})", changes.deleted));
    }
    if report.spared > 0 {
        let names = text::count(report.spared, "name");
        out.talk(format_args!(
            "not in the snapshot, and left there: {names} that --exclude or a backup leaves out, or on another file system"
        ));
    }
}
