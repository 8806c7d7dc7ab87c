//! `blockhouse prune`

use std::sync::Arc;
use std::time::Instant;

use blockhouse_vault::progress::Progress;
use blockhouse_vault::prune::{PruneReport, PruneRequest, prune};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, progress, text};

/// Free the space of what no snapshot needs any more
///
/// Marks it on the ledger, waits until no backup is left that does not know of the mark, and then removes it from the sites. Backups may run
/// all the time. If an older one still runs, nothing is removed: the next prune goes on (exit code 7), or --wait waits for it. What a site
/// that is down holds goes when it is back. Needs no identity.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse forget --apply && blockhouse prune"))]
pub(crate) struct PruneArgs {
    /// Remove nothing: say what would be
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Wait for backups that were begun before the mark
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

pub(crate) async fn run(args: PruneArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let vault = opening::vault(global, out).await?;
    let request = PruneRequest { dry_run: args.dry_run, wait: args.wait };
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = prune(&vault, request, &progress).await;
    drop(shown);
    tell(&done?, request, started.elapsed().as_secs_f64(), out)
}

fn tell(report: &PruneReport, request: PruneRequest, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
    let would = if request.dry_run { "would be " } else { "" };
    for (site, freed) in &report.freed {
        let (shards, objects) = (text::count(freed.shards, "shard"), text::count(freed.objects, "other object"));
        out.line(format_args!("site `{site}`: {} {would}freed, {shards}, {objects}", text::bytes(freed.bytes)))?;
    }
    out.line(format_args!(
        "{} of {} {would}removed, {} {would}freed of {} in {seconds:.1} s",
        report.removed,
        text::count(report.stripes, "stripe"),
        text::bytes(freed_bytes(report)),
        text::bytes(report.stored_bytes),
    ))?;
    if report.partly_needed_bytes > 0 {
        out.talk(format_args!(
            "{} are kept in stripes of which forgotten snapshots used parts too",
            text::bytes(report.partly_needed_bytes)
        ));
    }
    if report.ended_sessions > 0 {
        out.talk(format_args!("sessions of backups that were killed and are ended now: {}", report.ended_sessions));
    }
    if !request.dry_run {
        tell_waiting(report, out);
    }
    for (site, why) in &report.left {
        out.warn(format_args!(
            "warning: site `{site}` may still hold what was to go: {why}; the next prune looks again"
        ));
    }
    out.record(&summary(report, request, seconds))?;
    Ok(if is_done(report, request) { Exit::Success } else { Exit::Degraded })
}

/// True if it did what was asked: a dry run leaves everything to the next prune and lacks nothing.
fn is_done(report: &PruneReport, request: PruneRequest) -> bool {
    request.dry_run || report.is_finished()
}

fn freed_bytes(report: &PruneReport) -> u64 {
    report.freed.values().map(|freed| freed.bytes).sum()
}

fn tell_waiting(report: &PruneReport, out: &Output) {
    for session in &report.waiting {
        out.talk(format_args!(
            "waits for session {} of writer {}, which ends on {} at the latest unless it is renewed",
            text::short(&session.id),
            text::short(&session.writer),
            text::moment(session.expires)
        ));
    }
    if !report.waiting.is_empty() {
        out.talk(format_args!("what is to go is marked and not removed yet: the next `blockhouse prune` goes on"));
    }
}

fn summary(report: &PruneReport, request: PruneRequest, seconds: f64) -> Value {
    let waiting: Vec<Value> = report
        .waiting
        .iter()
        .map(|session| json!({ "session": session.id, "writer": session.writer, "expires": session.expires }))
        .collect();
    let freed: Map<String, Value> = report
        .freed
        .iter()
        .map(|(site, freed)| {
            let value = json!({ "shards": freed.shards, "objects": freed.objects, "bytes": freed.bytes });
            (site.to_string(), value)
        })
        .collect();
    json!({
        "type": "summary",
        "ok": is_done(report, request),
        "dry_run": request.dry_run,
        "epoch": report.epoch,
        "stripes": report.stripes,
        "stored_bytes": report.stored_bytes,
        "unneeded": report.unneeded,
        "removed": report.removed,
        "kept": report.kept,
        "freed": freed,
        "freed_bytes": freed_bytes(report),
        "partly_needed_bytes": report.partly_needed_bytes,
        "ended_sessions": report.ended_sessions,
        "waiting": waiting,
        "left": report.left,
        "seconds": seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup that runs keeps a prune from its end, and a dry run from nothing: it once said `"ok": false` and ended with code 0.
    #[test]
    fn a_dry_run_beside_a_backup_is_as_good_as_its_exit_code() {
        let session = blockhouse_vault::ledger::LiveSession {
            id: blockhouse_types::SessionId::new([1; 32]),
            writer: blockhouse_types::Account::new([2; 20]),
            epoch: 0,
            expires: 9,
        };
        let report = PruneReport { waiting: vec![session], ..PruneReport::default() };
        for dry_run in [true, false] {
            assert_eq!(summary(&report, PruneRequest { dry_run, wait: false }, 0.0)["ok"], dry_run);
        }
    }
}
