//! `blockhouse restore`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use blockhouse_sites::SiteName;
use blockhouse_sources::files::{Overwrite, Ownership};
use blockhouse_types::SnapshotId;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::restore::{RestoreReport, RestoreRequest, restore};
use blockhouse_vault::select::{self, SnapshotRef};
use blockhouse_vault::stripes::Fault;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::failure::{Refusal, one_line};
use crate::output::Output;
use crate::progress;
use crate::{opening, text};

/// What happens to what is in the target
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OverwriteChoice {
    /// It stays as it is; only what is missing is written
    Never,
    /// A file is replaced if its content differs, and gets its metadata; something of another kind stays and is told
    IfChanged,
    /// It is replaced, whatever it is; a folder with something in it is not
    Always,
}

/// Restore a snapshot, or a part of it, bit for bit
///
/// A snapshot of one folder comes back as what is in that folder, one of several paths as each path under its last name.
/// Nothing in the target that is not in the snapshot is touched. Every file is compared with its hash before it gets its name.
/// What could not be restored as it was is listed, and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse restore latest --to /tmp/restored --identity ~/owner.identity"))]
pub(crate) struct RestoreArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`
    #[arg(value_name = "SNAP")]
    snapshot: SnapshotRef,
    /// Where to; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only what matches, and all that is in it; repeat for more. A pattern with a slash matches paths as `ls` shows them, else
    /// names. `*` and `?` stop at slashes, `**` does not
    #[arg(long = "include", value_name = "GLOB")]
    include: Vec<String>,
    /// What happens to what is in the target; needed if it is not empty
    #[arg(long, value_enum, value_name = "WHEN")]
    overwrite: Option<OverwriteChoice>,
    /// Restore owners by their numbers, not by their names
    #[arg(long)]
    numeric_owner: bool,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: RestoreArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let vault = opening::vault(global, out).await?;
    let known = select::one(&vault, &args.snapshot, &args.selectors.into()).await?;
    if args.overwrite.is_none() && !is_empty(&args.to) {
        return Err(Refusal::TargetNotEmpty { path: args.to }.into());
    }
    let unlocked = opening::unlock(global, Some(vault.id()), "restore")?;
    let request = RestoreRequest {
        to: args.to,
        include: args.include,
        overwrite: match args.overwrite {
            None | Some(OverwriteChoice::Never) => Overwrite::Never,
            Some(OverwriteChoice::IfChanged) => Overwrite::IfChanged,
            Some(OverwriteChoice::Always) => Overwrite::Always,
        },
        ownership: if args.numeric_owner { Ownership::ByNumber } else { Ownership::ByName },
    };
    let (progress, id) = (Arc::new(Progress::new()), known.record.id);
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = restore(&vault, &unlocked, known, &request, &progress).await;
    drop(shown);
    tell(id, &done?, started.elapsed().as_secs_f64(), out)
}

/// True if nothing is there, or a folder with nothing in it. What is no folder the restore itself refuses.
fn is_empty(target: &Path) -> bool {
    std::fs::read_dir(target).map_or(true, |mut entries| entries.next().is_none())
}

fn tell(snapshot: SnapshotId, report: &RestoreReport, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
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
    out.line(format_args!(
        "restored {}, {}, each checked against its hash, in {seconds:.1} s; {} there already",
        text::count(report.files, "file"),
        text::bytes(report.bytes),
        if report.kept == 1 { "1 was".to_owned() } else { format!("{} were", report.kept) }
    ))?;
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
        "files": report.files,
        "bytes": report.bytes,
        "kept": report.kept,
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
