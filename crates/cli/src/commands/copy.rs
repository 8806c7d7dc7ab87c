//! `blockhouse copy`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use blockhouse_pipeline::compress::{DEFAULT_LEVEL, LEVELS};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_types::SnapshotId;
use blockhouse_vault::backup::BackupReport;
use blockhouse_vault::backup::copy::{CopyError, CopyMemory, CopyRequest, CopyState, Planned, copy, plan_copy};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::reader::OpenSnapshotError;
use blockhouse_vault::select::{self, Known, Narrow, SnapshotRef};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, progress, text};

/// Copy snapshots to another vault
///
/// Opened with the identity of this vault, sealed anew with the keys of the other, which needs no identity. Without SNAP every snapshot
/// that the options leave. What was copied before is passed over. A copy keeps tree, metadata, host, source, tags and times of its
/// original; the time on the ledger is that of the copy. Every file is compared with its hash on the way. A snapshot that cannot be read
/// whole is named and left out, and the others are copied (exit code 4).
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse copy --to-vault /srv/second-vault --tag kind=monthly --identity ~/owner.identity"))]
pub(crate) struct CopyArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`
    #[arg(value_name = "SNAP")]
    snapshots: Vec<SnapshotRef>,
    /// The folder of the other vault, on this host
    #[arg(long, value_name = "DIR")]
    to_vault: PathBuf,
    #[command(flatten)]
    selectors: Selectors,
    /// Write nothing: say what would be copied
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// How hard to compress: more is slower and smaller
    #[arg(long, value_name = "LEVEL", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(i64::from(*LEVELS.start())..=i64::from(*LEVELS.end())))]
    level: i32,
}

pub(crate) async fn run(args: CopyArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let from = opening::vault(global, out).await?;
    let to = opening::vault_at(VaultFolder::new(&args.to_vault), global, out).await?;
    let (wanted, named) = wanted(&from, &args.snapshots, args.selectors.into()).await?;
    let planned = plan_copy(&from, &to, wanted, &named).await?;
    let new = planned.iter().filter(|planned| planned.state == CopyState::New).count();
    let mut tally = Tally { there: planned.len() - new, ..Tally::default() };
    if args.dry_run {
        for planned in &planned {
            tell_planned(planned, out)?;
        }
        tally.copied = new;
        return tally.tell(true, started.elapsed().as_secs_f64(), out).map(|()| Exit::Success);
    }
    let unlocked = opening::unlock(global, Some(from.id()), "copy")?;
    // A run that was killed may have sealed blocks that no site has yet.
    blockhouse_vault::blocks::copy_all(&to).await?;
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let request = CopyRequest { level: args.level, dedup: DomainKind::Writer };
    let (mut memory, mut exit) = (CopyMemory::default(), Exit::Success);
    for planned in planned.iter().filter(|planned| planned.state == CopyState::New) {
        let shown = progress::show(out, &progress);
        let vaults = (&from, &unlocked, &to);
        let done = copy(vaults, &planned.known, request, (&mut memory, &progress)).await;
        drop(shown);
        let report = match done {
            Ok(report) => report,
            Err(error) if is_of_original(&error) => {
                tally.unreadable += 1;
                tell_unreadable(&planned.known, &error, out)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        tally.add(&report);
        tell(&planned.known, &report, out)?;
        if report.is_degraded() {
            exit = Exit::Degraded;
        }
    }
    tally.tell(false, started.elapsed().as_secs_f64(), out)?;
    Ok(if tally.unreadable == 0 { exit } else { Exit::CheckFailed })
}

/// True if this one snapshot cannot be read: it is no reason to leave the others.
const fn is_of_original(error: &CopyError) -> bool {
    match error {
        CopyError::Open(error) => {
            !matches!(error, OpenSnapshotError::Ledger(_) | OpenSnapshotError::Bag(_) | OpenSnapshotError::Index(_))
        }
        CopyError::Read { .. } | CopyError::OtherContent { .. } => true,
        _ => false,
    }
}

fn tell_unreadable(known: &Known, error: &CopyError, out: &Output) -> anyhow::Result<()> {
    let (record, why) = (&known.record, crate::failure::one_line(error));
    out.warn(format_args!("snapshot {} was not copied: {why}", text::short(&record.id)));
    out.record(&json!({
        "type": "not_copied",
        "snapshot": record.id,
        "source_name": known.source_name(),
        "time": record.time,
        "why": why,
    }))?;
    Ok(())
}

/// The snapshots that are meant, in the order of the ledger, and those that were named.
async fn wanted(
    from: &Vault,
    named: &[SnapshotRef],
    narrow: Narrow,
) -> anyhow::Result<(Vec<Known>, BTreeSet<SnapshotId>)> {
    let mut ids = BTreeSet::new();
    for wanted in named {
        ids.insert(select::one(from, wanted, &narrow).await?.record.id);
    }
    let mut known = select::all(from, &narrow).await?;
    if !named.is_empty() {
        known.retain(|known| ids.contains(&known.record.id));
    }
    Ok((known, ids))
}

fn tell_planned(planned: &Planned, out: &Output) -> anyhow::Result<()> {
    let record = &planned.known.record;
    let (state, words) = match planned.state {
        CopyState::New => ("new", "to be copied"),
        CopyState::There => ("there", "was copied"),
        CopyState::Forgotten => ("forgotten", "was copied, and the copy forgotten; name it to copy it again"),
    };
    let source = planned.known.source_name();
    out.line(format_args!("{}  {}  {source}: {words}", text::short(&record.id), text::moment(record.time)))?;
    out.record(&json!({ "type": "planned", "snapshot": record.id, "source_name": source, "time": record.time, "state": state }))?;
    Ok(())
}

fn tell(known: &Known, report: &BackupReport, out: &Output) -> anyhow::Result<()> {
    let durability = report.durability;
    out.line(format_args!(
        "{} copied as {}: {}, {} ({} stored before coding); {} may vanish ({durability})",
        text::short(&known.record.id),
        text::short(&report.snapshot),
        text::count(report.findings.files, "file"),
        text::bytes(report.findings.bytes),
        text::bytes(report.stored_bytes),
        text::any_sites(durability.w),
    ))?;
    for (site, why) in &report.refusals {
        out.warn(format_args!("warning: site `{site}` did not take what it was given: {why}"));
    }
    for warning in &report.warnings {
        out.warn(format_args!("warning: {}", crate::failure::one_line(warning)));
    }
    out.record(&json!({
        "type": "copied",
        "snapshot": known.record.id,
        "copy": report.snapshot,
        "source": report.source,
        "files": report.findings.files,
        "bytes": report.findings.bytes,
        "unchanged": report.findings.unchanged,
        "new_bytes": report.new_bytes,
        "stored_bytes": report.stored_bytes,
        "d": durability.d,
        "w": durability.w,
        "wd": durability.wd,
        "degraded": report.is_degraded(),
        "block": report.recorded.block,
    }))?;
    Ok(())
}

/// What was done in all.
#[derive(Debug, Default)]
struct Tally {
    copied: usize,
    there: usize,
    /// Originals that cannot be read.
    unreadable: usize,
    files: u64,
    bytes: u64,
    stored: u64,
}

impl Tally {
    fn add(&mut self, report: &BackupReport) {
        self.copied += 1;
        self.files += report.findings.files;
        self.bytes += report.findings.bytes;
        self.stored += report.stored_bytes;
    }

    fn tell(&self, is_dry_run: bool, seconds: f64, out: &Output) -> anyhow::Result<()> {
        let copied = text::count(self.copied as u64, "snapshot");
        let done = if is_dry_run { "to be copied" } else { "copied" };
        out.line(format_args!("{copied} {done}, {} passed over", self.there))?;
        if self.unreadable > 0 {
            out.warn(format_args!(
                "{} could not be read; `blockhouse repair` mends what other sites make up for, and the next copy tries again",
                text::count(self.unreadable as u64, "snapshot")
            ));
        }
        out.record(&json!({
            "type": "summary",
            "ok": self.unreadable == 0,
            "dry_run": is_dry_run,
            "copied": self.copied,
            "passed_over": self.there,
            "unreadable": self.unreadable,
            "files": self.files,
            "bytes": self.bytes,
            "stored_bytes": self.stored,
            "seconds": seconds,
        }))?;
        Ok(())
    }
}
