//! `blockhouse backup`

mod dry_run;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use blockhouse_pipeline::compress::{DEFAULT_LEVEL, LEVELS};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sources::files::{Event, FilesSource, Options};
use blockhouse_types::EntryKind;
use blockhouse_vault::backup::{BackupReport, BackupRequest, back_up};
use blockhouse_vault::progress::Progress;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::output::Output;
use crate::progress;
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
///
/// All paths of one command become one snapshot of one source. The source is known again by this host and the paths, or by
/// --source. What did not change since is not read again, and what the sites have already is not stored again. Needs neither
/// identity nor passphrase.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse backup ~/documents --exclude '*.tmp' --tag kind=daily"))]
pub(crate) struct BackupArgs {
    /// What to back up; several paths make one source
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Leave out what matches; repeat for more. Without a slash a pattern matches names at any depth, with one a path from
    /// PATH or from the root folder; one that ends in a slash matches folders only. `*` and `?` stop at slashes, `**` does not
    #[arg(long = "exclude", value_name = "GLOB")]
    excludes: Vec<String>,
    /// Mark the snapshot, to choose it by later; repeat for more
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<String>,
    /// Write nothing: say which files are new, changed or gone since the last backup, without reading them
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// How hard to compress: more is slower and smaller
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
    let vault = opening::vault(global, out).await?;
    let is_dry_run = args.dry_run;
    let request = request_of(args);
    if is_dry_run {
        return dry_run::run(&vault, &request, out);
    }
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    if !out.is_quiet() && (out.is_json() || passphrase::is_interactive()) {
        count_ahead(&request, &progress);
    }
    let shown = progress::show(out, &progress);
    let done = back_up(&vault, &request, &progress).await;
    drop(shown);
    tell(&done?, started.elapsed().as_secs_f64(), out)
}

fn request_of(args: BackupArgs) -> BackupRequest {
    BackupRequest {
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
    }
}

fn tell(report: &BackupReport, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
    for flaw in &report.findings.flaws {
        let path = text::tree_path(&flaw.path);
        out.talk(format_args!("not as it should be: {path}: {}", flaw.why));
        out.record(&json!({ "type": "unreadable", "path": path, "why": flaw.why }))?;
    }
    let (findings, durability) = (&report.findings, report.durability);
    out.line(format_args!(
        "snapshot {}\n{}, {} ({} new, {} stored before coding) in {seconds:.1} s\nblock {}; {} may vanish ({durability})",
        report.snapshot,
        text::count(findings.files, "file"),
        text::bytes(findings.bytes),
        text::bytes(report.new_bytes),
        text::bytes(report.stored_bytes),
        report.recorded.block,
        text::any_sites(durability.w),
    ))?;
    for (site, why) in &report.refusals {
        out.warn(format_args!("warning: site `{site}` did not take what it was given: {why}"));
    }
    for warning in &report.warnings {
        out.warn(format_args!("warning: {}", one_line(warning)));
    }
    if report.is_degraded() {
        out.talk(format_args!(
            "degraded: the plan survives the loss of {}; bring sites back and run `blockhouse repair`",
            text::count(report.plan.w, "site")
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
        "warnings": report.warnings.iter().map(|warning| one_line(warning)).collect::<Vec<_>>(),
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

/// When a backup has run so long, its files are counted: one that ends sooner is not slowed down by a second walk.
const WORTH_COUNTING: std::time::Duration = std::time::Duration::from_secs(2);

/// Counts beside the backup, so that the time left can be told. What fails here fails there too, and is told there.
fn count_ahead(request: &BackupRequest, progress: &Arc<Progress>) {
    // The backup itself refuses what is live.
    let options = Options { excludes: request.excludes.clone(), allow_live: true };
    let (paths, progress) = (request.paths.clone(), Arc::clone(progress));
    std::thread::spawn(move || {
        std::thread::sleep(WORTH_COUNTING);
        let Ok(source) = FilesSource::try_new(&paths, &options) else { return };
        let Ok(capture) = source.capture() else { return };
        let is_file = |event: &Event| match event {
            Event::Entry { found, .. } if found.kind == EntryKind::File => Some(found.size),
            _ => None,
        };
        progress.set_total(capture.walk().filter_map(|event| is_file(&event)).sum());
    });
}
