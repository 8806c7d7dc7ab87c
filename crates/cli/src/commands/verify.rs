//! `blockhouse verify`

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use blockhouse_types::Durability;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::select::{self, Narrow, SnapshotRef};
use blockhouse_vault::stripes::ShardState;
use blockhouse_vault::vault::Vault;
use blockhouse_vault::verify::{VerifyReport, VerifyRequest, verify};
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::output::Output;
use crate::text::parse_percent;
use crate::{opening, plain, progress, recording, text};

/// All of the data, in hundredths of a percent.
const ALL: u16 = 10_000;

/// Check that the sites hold what snapshots need
///
/// Without the identity, shards are checked and plain text is not opened; with it and --read-data, so much of the files is opened
/// and compared with their hashes.
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
    let mut report = done?;
    let recorded = std::mem::take(&mut report.recording);
    let seconds = started.elapsed().as_secs_f64();
    let mut summary = summary(&report, seconds);
    recording::add_to(&mut summary, &recorded);
    tell_flaws(&report, out)?;
    tell(&report, (request, seconds), &down(&vault), out)?;
    out.record(&summary)?;
    let unrecorded = recording::tell(recorded, out);
    Ok(match (report.is_clean(), unrecorded) {
        (false, _) => Exit::CheckFailed,
        (true, Some(failed)) => failed,
        (true, None) => Exit::Success,
    })
}

/// The sites that are not up.
fn down(vault: &Vault) -> Vec<String> {
    vault.sites().down().map(|(member, _)| format!("`{}`", member.name())).collect()
}

/// Each of them, for whoever looks closer.
fn tell_flaws(report: &VerifyReport, out: &Output) -> anyhow::Result<()> {
    for flaw in &report.flaws {
        let (stripe, state) = (text::short(&flaw.stripe), state(&flaw.state));
        out.detail(format_args!("shard {} of stripe {stripe} at site `{}`: {state}", flaw.index, flaw.site));
        out.record(&json!({
            "type": "shard", "stripe": flaw.stripe, "index": flaw.index, "site": flaw.site, "state": state,
        }))?;
    }
    plain::tell_flaws(&report.plain, out)?;
    for stripe in &report.unreadable {
        out.detail(format_args!("stripe {stripe} has too few good shards to be read"));
        out.record(&json!({ "type": "unreadable", "stripe": stripe }))?;
    }
    for error in &report.lists {
        out.talk(format_args!("{}", one_line(error)));
        out.record(&json!({ "type": "list", "why": one_line(error) }))?;
    }
    for (snapshot, why) in &report.broken {
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

/// What is lost, what is at risk, what was looked at, what to run next: in the order in which it is wanted at night.
fn tell(
    report: &VerifyReport,
    (request, seconds): (VerifyRequest, f64),
    down: &[String],
    out: &Output,
) -> anyhow::Result<()> {
    let looked = format!(
        "{}, {}, {} in {:.1} s: {}",
        text::count(report.snapshots, "snapshot"),
        text::count(report.stripes, "stripe"),
        text::count(report.plain.objects, "other object"),
        seconds,
        depth(report, request)
    );
    let survives = report.durability.zip(report.plan).map(|(now, plan)| survives(now, plan));
    if report.is_clean() {
        out.line(format_args!("{looked}"))?;
        if let Some(survives) = survives {
            out.line(format_args!("{survives}"))?;
        }
        out.line(format_args!("clean"))?;
        return Ok(());
    }
    tell_lost(report, out)?;
    if let Some(survives) = survives {
        out.line(format_args!("AT RISK: {survives}"))?;
    }
    for (what, counts) in [("missing", &report.missing), ("damaged", &report.damaged)] {
        for (site, count) in counts {
            out.line(format_args!("site `{site}`: shards {what}: {count}"))?;
        }
    }
    plain::tell_counts(&report.plain, out)?;
    out.line(format_args!("{looked}"))?;
    Ok(out.line(format_args!("{}", next(report, down)))?)
}

fn survives(now: Durability, plan: Durability) -> String {
    format!("{} may vanish; {} when everything is in place", text::any_sites(now.w), text::any_sites(plan.w))
}

/// The snapshots that would not come back whole now, and why.
fn tell_lost(report: &VerifyReport, out: &Output) -> anyhow::Result<()> {
    if report.is_readable() {
        return Ok(());
    }
    let lost: BTreeSet<_> = report.broken.iter().map(|(snapshot, _)| snapshot).collect();
    let of = text::count(report.snapshots, "snapshot");
    out.line(format_args!("LOST as things stand: {} of {of} cannot be restored whole", lost.len()))?;
    for (snapshot, why) in &report.broken {
        out.line(format_args!("snapshot {} cannot be restored whole: {why}", text::short(snapshot)))?;
    }
    Ok(())
}

/// How closely was looked.
fn depth(report: &VerifyReport, request: VerifyRequest) -> String {
    let shards = match request.data_basis_points {
        None => return "names and sizes were looked at; --read-data reads".to_owned(),
        Some(ALL) => "shards and objects were read".to_owned(),
        Some(_) => {
            let (stripes, objects) = (report.stripes_read, report.plain.objects_read);
            format!("{} and {} were read", text::count(stripes, "stripe"), text::count(objects, "other object"))
        }
    };
    match report.files {
        None => format!("{shards}; plain text was not opened without the identity"),
        Some(files) if files.opened == files.of && report.broken.is_empty() => {
            format!("{shards} and every file was opened")
        }
        Some(files) => format!("{shards} and {} of {} opened", files.opened, text::count(files.of, "file")),
    }
}

/// What to do now.
fn next(report: &VerifyReport, down: &[String]) -> String {
    let bring_back = format!("bring back {}", down.join(", "));
    match (report.is_readable(), down.is_empty()) {
        (true, true) => "everything can be restored, and should be repaired: `blockhouse repair --read-data`".to_owned(),
        (true, false) => format!(
            "everything can be restored, and should be repaired: {bring_back} if that is soon, then `blockhouse repair --read-data`"
        ),
        (false, false) => {
            format!("DATA IS MISSING: {bring_back}, then `blockhouse repair --read-data` and `blockhouse verify`")
        }
        (false, true) => "DATA IS MISSING, and no site is down that could have it: `blockhouse repair --read-data` saves what is left; a new backup stores again what the source still has".to_owned(),
    }
}

fn summary(report: &VerifyReport, seconds: f64) -> Value {
    let files = report.files.unwrap_or_default();
    json!({
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
        "broken": report.broken.len(),
        "plaintext_checked": report.files.is_some(),
        "files": files.of,
        "files_opened": files.opened,
        "durability": report.durability,
        "plan": report.plan,
        "seconds": seconds,
    })
}
