//! What a backup did, for people and programs.

use blockhouse_sources::files::LeftOutTally;
use blockhouse_vault::backup::BackupReport;
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::failure::one_line;
use crate::output::Output;
use crate::text;

/// Tells it, and how the command ends for it.
pub(super) fn tell(report: &BackupReport, profile: Option<&str>, seconds: f64, out: &Output) -> anyhow::Result<Exit> {
    for flaw in &report.findings.flaws {
        let path = text::tree_path(&flaw.path);
        out.talk(format_args!("not as it should be: {path}: {}", flaw.why));
        out.record(&json!({ "type": "unreadable", "path": path, "why": flaw.why }))?;
    }
    say(report, seconds, out)?;
    record(report, profile, seconds, out)?;
    Ok(match (report.findings.flaws.is_empty(), report.is_degraded()) {
        (false, _) => Exit::Unreadable,
        (true, true) => Exit::Degraded,
        (true, false) => Exit::Success,
    })
}

fn say(report: &BackupReport, seconds: f64, out: &Output) -> anyhow::Result<()> {
    let (findings, durability) = (&report.findings, report.durability);
    let head = if report.is_skipped { "unchanged since snapshot" } else { "snapshot" };
    out.line(format_args!(
        "{head} {}\n{}, {} ({} new, {} stored before coding) in {seconds:.1} s\nblock {}; {} may vanish ({durability})",
        report.snapshot,
        text::count(findings.files, "file"),
        text::bytes(findings.bytes),
        text::bytes(report.new_bytes),
        text::bytes(report.stored_bytes),
        report.recorded.block,
        text::any_sites(durability.w),
    ))?;
    if findings.left_out.total() > 0 {
        out.line(format_args!("left out: {}", left_out(&findings.left_out)))?;
    }
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
    Ok(())
}

fn record(report: &BackupReport, profile: Option<&str>, seconds: f64, out: &Output) -> anyhow::Result<()> {
    let (findings, durability) = (&report.findings, report.durability);
    out.record(&json!({
        "type": "summary",
        "profile": profile,
        "snapshot": report.snapshot,
        "source": report.source,
        "skipped": report.is_skipped,
        "files": findings.files,
        "bytes": findings.bytes,
        "new_bytes": report.new_bytes,
        "stored_bytes": report.stored_bytes,
        "stripes": report.stripes,
        "unchanged": findings.unchanged,
        "excluded": findings.left_out.total(),
        "excluded_by": by_reason(&findings.left_out),
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
    Ok(())
}

/// What was left out, as a list of numbers and reasons.
pub(super) fn left_out(tally: &LeftOutTally) -> String {
    let some = tally.by_reason().filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| format!("{count} by {}", reason.name().replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// The same for programs: every reason, zeros too.
pub(super) fn by_reason(tally: &LeftOutTally) -> Value {
    let all: Map<String, Value> =
        tally.by_reason().map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
    all.into()
}
