//! `blockhouse snapshots`

use blockhouse_vault::select::{self, Known};
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, text};

/// List the snapshots, the oldest first
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse snapshots --host nas --at 2026-01-31"))]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: SnapshotsArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::reader(global, out).await?;
    let found = select::all(&vault, &args.selectors.into()).await?;
    if found.is_empty() {
        out.talk(format_args!("there is no snapshot, or none that fits"));
    } else if out.is_json() {
        out.records(found.iter().map(as_json))?;
    } else {
        let rows: Vec<_> = found.iter().map(as_row).collect();
        out.table(&["id", "time", "survives", "stored", "tags", "source"], &rows)?;
    }
    Ok(Exit::Success)
}

fn as_row(known: &Known) -> Vec<String> {
    let record = &known.record;
    vec![
        text::short(&record.id),
        text::moment(record.time),
        record.durability.to_string(),
        text::bytes(record.commit.storedBytes),
        tags(known).join(" "),
        known.source_name(),
    ]
}

fn tags(known: &Known) -> Vec<String> {
    let noted = known.source.as_ref().map(|source| &source.tags).filter(|tags| !tags.is_empty());
    noted.and_then(|tags| tags.get(&known.record.id.to_string())).cloned().unwrap_or_default()
}

fn as_json(known: &Known) -> Value {
    let record = &known.record;
    json!({
        "type": "snapshot",
        "id": record.id,
        "source": record.source,
        "source_name": known.source_name(),
        "host": known.source.as_ref().map(|source| &source.host),
        "roots": known.source.as_ref().map(|source| &source.roots),
        "tags": tags(known),
        "time": record.time,
        "block": record.block,
        "tx": record.transaction.to_string(),
        "writer": record.writer,
        "stored_bytes": record.commit.storedBytes,
        "d": record.durability.d,
        "w": record.durability.w,
        "wd": record.durability.wd,
    })
}
