//! `blockhouse backup --dry-run`: what is new, changed or gone since the last backup.

use blockhouse_vault::backup::{BackupRequest, Change, Changed, Preview, Tally, preview};
use blockhouse_vault::vault::Vault;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, OutputError};
use crate::text;

/// So many files are named without --verbose.
const NAMED: u64 = 50;

/// Looks at the source and writes nothing.
pub(super) fn run(vault: &Vault, request: &BackupRequest, out: &Output) -> anyhow::Result<Exit> {
    let (mut named, mut failed) = (0, Ok(()));
    let mut tell = |changed: Changed| {
        named += 1;
        if failed.is_ok() {
            failed = name(&changed, out.is_verbose() || named <= NAMED, out);
        }
    };
    let looked = tokio::task::block_in_place(|| preview(vault, request, &mut tell))?;
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
        "excluded": looked.excluded,
        "unreadable": looked.flaws.len(),
    }))?;
    Ok(if looked.flaws.is_empty() { Exit::Success } else { Exit::Unreadable })
}
