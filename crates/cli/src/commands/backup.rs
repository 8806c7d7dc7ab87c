//! `blockhouse backup`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use blockhouse_pipeline::compress::{DEFAULT_LEVEL, LEVELS};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sources::files::{Event, FilesSource, Options};
use blockhouse_vault::backup::{BackupError, BackupReport, BackupRequest, back_up};
use blockhouse_vault::progress::Progress;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::progress::{self, Total};
use crate::text::{self, parse_tag};
use crate::{opening, passphrase};

/// Who shares stored chunks with this source
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Dedup {
    /// All sources of this host
    Writer,
    /// This source alone
    Source,
    /// All hosts of the vault
    Vault,
    /// All hosts, for the public blocks of chains
    Chain,
}

/// Back up folders and files
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse backup ~/documents --exclude '*.tmp' --tag kind=daily"))]
pub(crate) struct BackupArgs {
    /// What to back up; several paths make one source
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Leave out what matches; repeat for more
    #[arg(long = "exclude", value_name = "GLOB")]
    excludes: Vec<String>,
    /// Mark the snapshot; repeat for more
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<String>,
    /// Only look: say what would be read
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// How hard to compress
    #[arg(long, value_name = "LEVEL", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(i64::from(*LEVELS.start())..=i64::from(*LEVELS.end())))]
    level: i32,
    /// Call the source so; else it is known by this host and the paths
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Who shares stored chunks with this source
    #[arg(long, value_enum, default_value_t = Dedup::Writer)]
    dedup: Dedup,
    /// Copy the files of a running node or database as they are; they may not open again
    #[arg(long)]
    allow_live: bool,
    /// The name of this host [default: its own]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

pub(crate) async fn run(args: BackupArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let options = Options { excludes: args.excludes.clone(), allow_live: args.allow_live };
    let vault = opening::vault(global, out).await?;
    if args.dry_run {
        return look(args.paths, options, out).await;
    }
    let (progress, total) = (Arc::new(Progress::new()), Total::default());
    progress::stop_on_interrupt(out, &progress);
    if passphrase::is_interactive() && !out.is_quiet() {
        count_ahead(args.paths.clone(), options, &total);
    }
    let request = BackupRequest {
        paths: args.paths,
        source: args.source,
        host: args.host.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()),
        excludes: args.excludes,
        tags: args.tags,
        level: args.level,
        dedup: match args.dedup {
            Dedup::Writer => DomainKind::Writer,
            Dedup::Source => DomainKind::Source,
            Dedup::Vault => DomainKind::Vault,
            Dedup::Chain => DomainKind::Chain,
        },
        allow_live: args.allow_live,
    };
    let shown = progress::show(out, &progress, &total);
    let done = back_up(&vault, &request, &progress).await;
    drop(shown);
    tell(&done?, started.elapsed().as_secs_f64(), out)
}

fn tell(report: &BackupReport, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
    for flaw in &report.findings.flaws {
        let path = text::tree_path(&flaw.path);
        out.talk(format_args!("not as it should be: {path}: {}", flaw.why));
        out.record(&json!({ "type": "unreadable", "path": path, "why": flaw.why }))?;
    }
    let (findings, durability) = (&report.findings, report.durability);
    out.line(format_args!(
        "snapshot {}\n{} files, {} ({} new, {} stored before coding) in {seconds:.1} s\nblock {}; any {} sites may vanish ({durability})",
        report.snapshot,
        findings.files,
        text::bytes(findings.bytes),
        text::bytes(report.new_bytes),
        text::bytes(report.stored_bytes),
        report.recorded.block,
        durability.w,
    ))?;
    for (site, why) in &report.refusals {
        out.warn(format_args!("warning: site `{site}` did not take what it was given: {why}"));
    }
    if report.is_degraded() {
        out.talk(format_args!(
            "degraded: the plan survives the loss of {} sites; bring sites back and run `blockhouse repair`",
            report.plan.w
        ));
    }
    out.record(&json!({
        "type": "summary",
        "snapshot": report.snapshot,
        "source": report.source,
        "files": findings.files,
        "bytes": findings.bytes,
        "new_bytes": report.new_bytes,
        "stored_bytes": report.stored_bytes,
        "stripes": report.stripes,
        "unchanged": findings.unchanged,
        "excluded": findings.excluded,
        "unreadable": findings.flaws.len(),
        "d": durability.d,
        "w": durability.w,
        "wd": durability.wd,
        "degraded": report.is_degraded(),
        "block": report.recorded.block,
        "tx": report.recorded.transaction.to_string(),
        "seconds": seconds,
    }))?;
    Ok(match (findings.flaws.is_empty(), report.is_degraded()) {
        (false, _) => Exit::Unreadable,
        (true, true) => Exit::Degraded,
        (true, false) => Exit::Success,
    })
}

/// What a walk would read.
#[derive(Debug, Default)]
struct Count {
    files: u64,
    bytes: u64,
    unreadable: Vec<String>,
}

fn count(paths: &[PathBuf], options: &Options) -> Result<Count, BackupError> {
    let source = FilesSource::try_new(paths, options)?;
    let mut counted = Count::default();
    for event in source.capture()?.walk() {
        match event {
            Event::Entry { found, .. } if found.kind == blockhouse_types::EntryKind::File => {
                counted.files += 1;
                counted.bytes += found.size;
            }
            Event::Unreadable { unreadable, .. } => counted.unreadable.push(text::path(&unreadable.path)),
            Event::Entry { .. } | Event::Enter { .. } | Event::Leave => {}
        }
    }
    Ok(counted)
}

/// Counts beside the backup, so that the time left can be told. What fails here fails there too, and is told there.
fn count_ahead(paths: Vec<PathBuf>, options: Options, total: &Total) {
    let total = Arc::clone(total);
    std::thread::spawn(move || {
        if let Ok(counted) = count(&paths, &options) {
            total.store(counted.bytes, Ordering::Relaxed);
        }
    });
}

async fn look(paths: Vec<PathBuf>, options: Options, out: &Output) -> anyhow::Result<Exit> {
    let counting = tokio::task::spawn_blocking(move || count(&paths, &options));
    let counted = counting.await.context("the walk was stopped")??;
    for path in &counted.unreadable {
        out.talk(format_args!("unreadable: {path}"));
    }
    out.line(format_args!("would read {} files, {}; nothing was stored", counted.files, text::bytes(counted.bytes)))?;
    out.record(&json!({
        "type": "summary",
        "dry_run": true,
        "files": counted.files,
        "bytes": counted.bytes,
        "unreadable": counted.unreadable.len(),
    }))?;
    Ok(if counted.unreadable.is_empty() { Exit::Success } else { Exit::Unreadable })
}
