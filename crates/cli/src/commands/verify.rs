//! `blockhouse verify`

use std::sync::Arc;
use std::time::Instant;

use blockhouse_vault::progress::Progress;
use blockhouse_vault::select::{self, Narrow, SnapshotRef};
use blockhouse_vault::stripes::ShardState;
use blockhouse_vault::verify::{VerifyReport, VerifyRequest, verify};
use clap::Args;
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::output::Output;
use crate::text::parse_percent;
use crate::{opening, plain, progress, text};

/// Check that the sites hold what snapshots need
///
/// Without the identity, shards are checked and plain text is not opened; with it and --read-data, every file is opened and
/// compared with its hash.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse verify --read-data=10"))]
pub(crate) struct VerifyArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE` [default: all snapshots]
    #[arg(value_name = "SNAP")]
    pub(crate) snapshot: Option<SnapshotRef>,
    /// Read and check so much of the data, not only names and sizes [with no number: all]
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100", value_parser = parse_percent)]
    pub(crate) read_data: Option<u16>,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: VerifyArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let vault = opening::vault(global, out).await?;
    let narrow: Narrow = args.selectors.into();
    let snapshots = match &args.snapshot {
        Some(wanted) => vec![select::one(&vault, wanted, &narrow).await?],
        None => select::all(&vault, &narrow).await?,
    };
    let is_opened = args.read_data.is_some() && opening::has_key(global);
    let unlocked = is_opened.then(|| opening::unlock(global, Some(vault.id()), "verify")).transpose()?;
    let request = VerifyRequest { data_basis_points: args.read_data };
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = verify(&vault, snapshots, unlocked.as_ref(), request, &progress).await;
    drop(shown);
    let report = done?;
    tell_flaws(&report, out)?;
    tell(&report, request, started.elapsed().as_secs_f64(), out)
}

fn tell_flaws(report: &VerifyReport, out: &Output) -> anyhow::Result<()> {
    for flaw in &report.flaws {
        let state = state(&flaw.state);
        out.detail(format_args!(
            "shard {} of stripe {} at site `{}`: {state}",
            flaw.index,
            text::short(&flaw.stripe),
            flaw.site
        ));
        out.record(&json!({
            "type": "shard", "stripe": flaw.stripe, "index": flaw.index, "site": flaw.site, "state": state,
        }))?;
    }
    plain::tell_flaws(&report.plain, out)?;
    for stripe in &report.unreadable {
        out.talk(format_args!("stripe {stripe} has too few good shards to be read"));
        out.record(&json!({ "type": "unreadable", "stripe": stripe }))?;
    }
    for error in &report.lists {
        out.talk(format_args!("{}", one_line(error)));
        out.record(&json!({ "type": "list", "why": one_line(error) }))?;
    }
    for (snapshot, why) in &report.broken {
        out.talk(format_args!("snapshot {} cannot be restored whole: {why}", text::short(snapshot)));
        out.record(&json!({ "type": "broken", "snapshot": snapshot, "why": why }))?;
    }
    Ok(())
}

fn state(state: &ShardState) -> String {
    match state {
        ShardState::Good => "good".to_owned(),
        ShardState::Missing => "missing".to_owned(),
        ShardState::SiteDown => "missing, its site is down".to_owned(),
        ShardState::Damaged(fault) => format!("damaged: {}", one_line(fault)),
        ShardState::Foreign(fault) => format!("not this vault's: {}", one_line(fault)),
        ShardState::WrongSize { found } => format!("damaged: it has {found} bytes"),
        ShardState::Unclaimed(fault) => format!("not written by a writer: {}", one_line(fault)),
        ShardState::Unreadable(error) => format!("unreadable: {}", one_line(error.as_ref())),
    }
}

fn tell(report: &VerifyReport, request: VerifyRequest, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
    for (what, counts) in [("missing", &report.missing), ("damaged", &report.damaged)] {
        for (site, count) in counts {
            out.line(format_args!("site `{site}`: shards {what}: {count}"))?;
        }
    }
    plain::tell_counts(&report.plain, out)?;
    let plain = match (request.data_basis_points.is_some(), report.plaintext_checked) {
        (false, _) => "names and sizes were looked at; --read-data reads",
        (true, false) => "shards and objects were read; plain text was not opened without the identity",
        (true, true) => "shards and objects were read and every file was opened",
    };
    let verdict = match (report.is_clean(), report.is_readable()) {
        (true, _) => "clean",
        (false, true) => "everything can be restored, and should be repaired: `blockhouse repair --read-data`",
        (false, false) => "DATA IS MISSING: bring back sites, then `blockhouse repair`",
    };
    out.line(format_args!(
        "{}, {}, {} in {seconds:.1} s: {plain}",
        text::count(report.snapshots, "snapshot"),
        text::count(report.stripes, "stripe"),
        text::count(report.plain.objects, "other object")
    ))?;
    if let (Some(durability), Some(plan)) = (report.durability, report.plan) {
        let now = text::any_sites(durability.w);
        out.line(format_args!("{now} may vanish; {} when everything is in place", text::any_sites(plan.w)))?;
    }
    out.line(format_args!("{verdict}"))?;
    out.record(&json!({
        "type": "summary",
        "ok": report.is_clean(),
        "readable": report.is_readable(),
        "snapshots": report.snapshots,
        "stripes": report.stripes,
        "stripes_read": report.stripes_read,
        "missing": report.missing,
        "damaged": report.damaged,
        "plain": plain::as_json(&report.plain),
        "unreadable": report.unreadable.len(),
        "broken": report.broken.len() + report.lists.len(),
        "plaintext_checked": report.plaintext_checked,
        "durability": report.durability,
        "plan": report.plan,
        "seconds": seconds,
    }))?;
    Ok(if report.is_clean() { Exit::Success } else { Exit::CheckFailed })
}
