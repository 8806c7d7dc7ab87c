//! `blockhouse backup --dry-run`: what is new, changed or gone since the last backup.

use blockhouse_vault::backup::{Change, Changed, Preview, Tally, Told, preview};
use blockhouse_vault::vault::Vault;
use serde_json::json;

use super::report::{by_reason, left_out};
use super::request::Job;
use crate::exit::Exit;
use crate::output::{Output, OutputError};
use crate::text;

/// So many files are named without --verbose.
const NAMED: u64 = 50;

/// Looks at the source and writes nothing.
pub(super) fn run(vault: &Vault, job: &Job, out: &Output) -> anyhow::Result<Exit> {
    if let Some(stream) = job.stream() {
        return tell_stream(&stream.described(), &String::from_utf8_lossy(stream.name()), out);
    }
    let request = job.request()?;
    let (mut named, mut failed) = (0, Ok(()));
    let mut tell = |told: Told| {
        if failed.is_err() {
            return;
        }
        failed = match told {
            Told::Changed(changed) => {
                named += 1;
                name(&changed, out.is_verbose() || named <= NAMED, out)
            }
            Told::LeftOut(..) if !out.is_verbose() => Ok(()),
            Told::LeftOut(path, reason) => name_left_out(&text::path(&path), reason.name(), out),
        };
    };
    let looked = tokio::task::block_in_place(|| preview(vault, &request, &mut tell))?;
    failed?;
    if named > NAMED && !out.is_verbose() {
        out.data(format_args!("… and {} more, which --verbose names", named - NAMED))?;
    }
    sum_up(&looked, out)
}

fn name(changed: &Changed, is_named: bool, out: &Output) -> Result<(), OutputError> {
    let (path, change) = (text::path(&changed.path), word(changed.change));
    out.record(&json!({ "type": "change", "change": change, "path": path, "bytes": changed.bytes }))?;
    if is_named {
        out.data(format_args!("{change:7}  {:>10}  {path}", text::bytes(changed.bytes)))?;
    }
    Ok(())
}

fn name_left_out(path: &str, reason: &str, out: &Output) -> Result<(), OutputError> {
    out.record(&json!({ "type": "left_out", "path": path, "reason": reason }))?;
    out.data(format_args!("left out  {path}: {}", reason.replace('_', " ")))
}

/// A stream is not begun: a command may do more than write.
fn tell_stream(what: &str, name: &str, out: &Output) -> anyhow::Result<Exit> {
    out.data(format_args!("a backup would store the output of `{what}` as `{name}`; a dry run does not begin it"))?;
    out.record(&json!({ "type": "summary", "dry_run": true, "stream": name }))?;
    Ok(Exit::Success)
}

const fn word(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Changed => "changed",
        Change::Gone => "gone",
    }
}

fn sum_up(looked: &Preview, out: &Output) -> anyhow::Result<Exit> {
    for flaw in &looked.flaws {
        let path = text::path(&flaw.path);
        out.warn(format_args!("unreadable: {path}: {}", flaw.why));
        out.record(&json!({ "type": "unreadable", "path": path, "why": flaw.why }))?;
    }
    for problem in &looked.ignore_problems {
        let path = text::path(&problem.path);
        out.warn(format_args!("warning: {path} line {}: {}: it leaves nothing out", problem.line, problem.why));
    }
    let tally = |tally: Tally| format!("{} ({})", tally.files, text::bytes(tally.bytes));
    let unchanged = looked.all.files - looked.new.files - looked.changed.files;
    if !looked.is_known {
        out.talk(format_args!("this host remembers no backup of this source: every file counts as new"));
    }
    out.data(format_args!(
        "a backup would hold {}, {}: {} new, {} changed, {unchanged} unchanged; {} gone since the last one",
        text::count(looked.all.files, "file"),
        text::bytes(looked.all.bytes),
        tally(looked.new),
        tally(looked.changed),
        tally(looked.gone),
    ))?;
    if looked.left_out.total() > 0 {
        out.data(format_args!("left out: {}", left_out(&looked.left_out)))?;
    }
    out.data(format_args!("nothing was stored: this was a dry run"))?;
    out.record(&json!({
        "type": "summary",
        "dry_run": true,
        "known": looked.is_known,
        "files": looked.all.files,
        "bytes": looked.all.bytes,
        "new_files": looked.new.files,
        "new_bytes": looked.new.bytes,
        "changed_files": looked.changed.files,
        "changed_bytes": looked.changed.bytes,
        "unchanged_files": unchanged,
        "gone_files": looked.gone.files,
        "gone_bytes": looked.gone.bytes,
        "excluded": looked.left_out.total(),
        "excluded_by": by_reason(&looked.left_out),
        "unreadable": looked.flaws.len(),
    }))?;
    Ok(if looked.flaws.is_empty() { Exit::Success } else { Exit::Unreadable })
}
