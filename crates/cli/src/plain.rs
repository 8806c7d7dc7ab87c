//! What is told of the plain objects, by `verify` and by `repair`.
//!
//! Fields: `docs/reference/json.md`.

use blockhouse_vault::plain::{CopyState, PlainReport};
use serde_json::{Value, json};

use crate::failure::one_line;
use crate::output::Output;

/// Each bad copy, and what no site can give.
pub(crate) fn tell_flaws(report: &PlainReport, out: &Output) -> anyhow::Result<()> {
    for flaw in &report.flaws {
        let (object, state) = (flaw.object.path(), state(&flaw.state));
        out.detail(format_args!("{object} at site `{}`: {state}", flaw.site));
        out.record(&json!({ "type": "plain", "object": object, "site": flaw.site, "state": state }))?;
    }
    for object in &report.gone {
        out.talk(format_args!("no site that is up has a good copy of {object}"));
        out.record(&json!({ "type": "gone", "object": object.path() }))?;
    }
    for error in &report.unlisted {
        out.talk(format_args!("{}", one_line(error)));
        out.record(&json!({ "type": "unlisted", "site": error.site, "why": one_line(error) }))?;
    }
    for error in &report.failed {
        out.talk(format_args!("{}", one_line(error)));
        out.record(&json!({ "type": "failed", "why": one_line(error) }))?;
    }
    Ok(())
}

/// How many copies are missing and damaged at each site.
pub(crate) fn tell_counts(report: &PlainReport, out: &Output) -> anyhow::Result<()> {
    for (what, counts) in [("missing", &report.missing), ("damaged", &report.damaged)] {
        for (site, count) in counts {
            out.line(format_args!("site `{site}`: other objects {what}: {count}"))?;
        }
    }
    Ok(())
}

/// The part of a summary.
pub(crate) fn as_json(report: &PlainReport) -> Value {
    json!({
        "objects": report.objects,
        "objects_read": report.objects_read,
        "missing": report.missing,
        "damaged": report.damaged,
        "gone": report.gone.len(),
        "unlisted": report.unlisted.len(),
        "written": report.written,
        "removed": report.removed,
        "failed": report.failed.len(),
    })
}

fn state(state: &CopyState) -> String {
    match state {
        CopyState::Missing => "missing".to_owned(),
        CopyState::Wrong => "damaged: its bytes are not those of the object".to_owned(),
        CopyState::Disputed => {
            "disputed: the sites hold different bytes, and only a key can tell which are right".to_owned()
        }
        CopyState::Unreadable(error) => format!("unreadable: {}", one_line(error.as_ref())),
    }
}
