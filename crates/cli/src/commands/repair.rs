//! `blockhouse repair`

use std::sync::Arc;
use std::time::Instant;

use blockhouse_sites::SiteName;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::repair::{RepairReport, RepairRequest, recreate_sites, repair};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::{Refusal, one_line};
use crate::output::Output;
use crate::{opening, plain, progress, recording, text};

/// Make again what the sites lost, from what is left of it; needs no key
///
/// A site whose folder is there and empty is made again; one whose folder is gone only with --recreate, for it may be a mount
/// that is missing.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse repair --read-data --recreate usb-disk"))]
pub(crate) struct RepairArgs {
    /// Only say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Read every byte of every shard, not only names and sizes
    #[arg(long)]
    read_data: bool,
    /// Make this site again, empty; repeat for more
    #[arg(long, value_name = "SITE")]
    recreate: Vec<SiteName>,
}

pub(crate) async fn run(args: RepairArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let vault = opened(&args, global, out).await?;
    if vault.secrets().is_none() && !args.dry_run {
        out.warn(format_args!(
            "this folder only reads the vault: what the sites lost is made again at the sites, for that needs no key"
        ));
    }
    let request = RepairRequest { dry_run: args.dry_run, read_data: args.read_data };
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = repair(&vault, &request, &progress).await;
    drop(shown);
    let mut report = done?;
    let recorded = std::mem::take(&mut report.recording);
    let seconds = started.elapsed().as_secs_f64();
    let mut summary = summary(&report, &request, seconds);
    recording::add_to(&mut summary, &recorded);
    tell_flaws(&report, out)?;
    tell(&report, &request, seconds, out)?;
    out.record(&summary)?;
    let unrecorded = recording::tell(recorded, out);
    Ok(match (report.is_whole(), unrecorded, is_degraded(&report)) {
        (false, ..) => Exit::CheckFailed,
        (true, Some(failed), _) => failed,
        (true, None, true) => Exit::Degraded,
        (true, None, false) => Exit::Success,
    })
}

/// True if it survives less than the plan.
fn is_degraded(report: &RepairReport) -> bool {
    report.durability.zip(report.plan).is_some_and(|(now, plan)| now.w < plan.w)
}

/// The vault, with its empty sites made again.
async fn opened(args: &RepairArgs, global: &Global, out: &Output) -> anyhow::Result<Vault> {
    let vault = opening::vault(global, out).await?;
    let names: Vec<&SiteName> = vault.config().sites.iter().map(|site| &site.spec.name).collect();
    if let Some(stranger) = args.recreate.iter().find(|name| !names.contains(name)) {
        let known: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let what = format!("the vault has no site `{stranger}`, its sites are {}", known.join(", "));
        return Err(Refusal::usage(what, "name one of them").into());
    }
    if args.dry_run {
        return Ok(vault);
    }
    let made = recreate_sites(&vault, &args.recreate).await;
    for (site, result) in &made {
        match result {
            Ok(()) => out.talk(format_args!("site `{site}` was made again, empty")),
            Err(error) => out.warn(format_args!("warning: site `{site}` could not be made again: {}", one_line(error))),
        }
    }
    if made.iter().any(|(_, result)| result.is_ok()) {
        return Ok(Vault::open(global.folder()?, global.settings()).await?);
    }
    Ok(vault)
}

fn tell_flaws(report: &RepairReport, out: &Output) -> anyhow::Result<()> {
    for (stripe, error) in &report.lost {
        out.talk(format_args!("stripe {stripe} cannot be repaired: {}", one_line(error)));
        out.record(&json!({ "type": "lost", "stripe": stripe, "why": one_line(error) }))?;
    }
    for (stripe, error) in &report.failed {
        out.talk(format_args!("the repair of stripe {stripe} failed: {}", one_line(error)));
        out.record(&json!({ "type": "failed", "stripe": stripe, "why": one_line(error) }))?;
    }
    for error in &report.lists {
        out.talk(format_args!("{}", one_line(error)));
        out.record(&json!({ "type": "list", "why": one_line(error) }))?;
    }
    plain::tell_flaws(&report.plain, out)
}

fn tell(report: &RepairReport, request: &RepairRequest, seconds: f64, out: &Output) -> anyhow::Result<()> {
    for (what, counts) in [("missing", &report.missing), ("damaged", &report.damaged)] {
        for (site, count) in counts {
            out.line(format_args!("site `{site}`: shards {what}: {count}"))?;
        }
    }
    plain::tell_counts(&report.plain, out)?;
    let would = if request.dry_run { "would be " } else { "" };
    out.line(format_args!(
        "{} looked at: {} {would}written, {} {would}removed",
        text::count(report.stripes, "stripe"),
        text::count(report.written, "shard"),
        text::count(report.removed, "bad file")
    ))?;
    out.line(format_args!(
        "{} other objects looked at: {} {would}copied, {} bad ones {would}removed, all in {seconds:.1} s",
        report.plain.objects, report.plain.written, report.plain.removed
    ))?;
    if let (Some(durability), Some(plan)) = (report.durability, report.plan) {
        out.line(format_args!(
            "{} may vanish {}({} by the plan)",
            text::any_sites(durability.w),
            if request.dry_run { "then " } else { "now " },
            plan.w
        ))?;
    }
    Ok(())
}

fn summary(report: &RepairReport, request: &RepairRequest, seconds: f64) -> Value {
    json!({
        "type": "summary",
        "ok": report.is_whole() && !is_degraded(report),
        "dry_run": request.dry_run,
        "stripes": report.stripes,
        "missing": report.missing,
        "damaged": report.damaged,
        "written": report.written,
        "removed": report.removed,
        "copied": report.plain.written,
        "plain": plain::as_json(&report.plain),
        "lost": report.lost.len(),
        "failed": report.failed.len(),
        "durability": report.durability,
        "plan": report.plan,
        "seconds": seconds,
    })
}
