//! `blockhouse stats`

use std::collections::HashMap;

use anyhow::Context;
use blockhouse_types::SnapshotId;
use blockhouse_vault::diff::LiveError;
use blockhouse_vault::reader;
use blockhouse_vault::select::{self, Known, Narrow, SnapshotRef};
use blockhouse_vault::stats::{self, Needed, Stats};
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::Vault;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::failure::{Refusal, one_line};
use crate::output::{self, Output};
use crate::{opening, text};

/// What the numbers are told for
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Each source
    Source,
    /// Each snapshot
    Snapshot,
    /// The folders of one snapshot; needs the identity
    Folder,
}

/// Show what takes space: at each site, for each source or snapshot, or in the folders of a snapshot
///
/// Stripes are shared: what two snapshots have in common is stored once. `stored` counts every shard of every stripe that a
/// snapshot needs, `alone` those that no other snapshot needs, which is what its removal would free. No key is needed; with
/// the identity the files and bytes of each snapshot are shown too, and how much smaller they are stored.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse stats --by snapshot --source papers"))]
pub(crate) struct StatsArgs {
    /// Only this snapshot: an id, the first digits of one, `latest`, or `latest:SOURCE`
    #[arg(value_name = "SNAP")]
    snapshot: Option<SnapshotRef>,
    /// What the numbers are told for
    #[arg(long, value_enum, default_value_t = By::Source, value_name = "WHAT")]
    by: By,
    /// With --by folder: how many levels of folders below the roots are shown
    #[arg(long, default_value_t = 1, value_name = "N")]
    depth: usize,
    #[command(flatten)]
    selectors: Selectors,
}

/// Files of a snapshot and their bytes, where the manifest was opened.
type Logical = HashMap<SnapshotId, (u64, u64)>;

pub(crate) async fn run(args: StatsArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::reader(global, out).await?;
    let narrow: Narrow = args.selectors.into();
    let chosen = match &args.snapshot {
        Some(wanted) => vec![select::one(&vault, wanted, &narrow).await?],
        None => select::all(&vault, &narrow).await?,
    };
    if args.by == By::Folder {
        return by_folder(&vault, chosen, args.depth, global, out).await;
    }
    let unlocked =
        if opening::has_key(global) { Some(opening::unlock(global, Some(vault.id()), "stats")?) } else { None };
    let all = select::all(&vault, &Narrow::default()).await?;
    let stats = stats::take_stock(&vault, &all).await;
    let logical = logical(&vault, unlocked.as_ref(), &chosen).await?;
    match args.by {
        By::Snapshot => tell_snapshots(&stats, &chosen, &logical, out)?,
        By::Source | By::Folder => tell_sources(&stats, &chosen, &logical, out)?,
    }
    tell_sites(&stats, out)?;
    for error in &stats.unread {
        out.warn(format_args!("warning: {}", one_line(error)));
    }
    let is_whole = stats.unread.is_empty() && stats.sites.iter().all(|site| site.error.is_none());
    let shards: u64 = stats.sites.iter().map(|site| site.shards.bytes).sum();
    out.record(&json!({
        "type": "summary",
        "ok": is_whole,
        "snapshots": all.len(),
        "stripes": stats.needed.count,
        "stored_bytes": stats.needed.bytes,
        "unneeded_stripes": stats.unneeded.count,
        "unneeded_bytes": stats.unneeded.bytes,
        "shard_bytes": shards,
        "other_bytes": stats.sites.iter().map(|site| site.others.bytes).sum::<u64>(),
        "unread_lists": stats.unread.len(),
    }))?;
    Ok(if is_whole { Exit::Success } else { Exit::CheckFailed })
}

async fn logical(vault: &Vault, unlocked: Option<&Unlocked>, chosen: &[Known]) -> anyhow::Result<Logical> {
    let mut logical = Logical::new();
    let Some(unlocked) = unlocked else { return Ok(logical) };
    for known in chosen {
        let (manifest, _) = reader::manifest(vault, unlocked, &known.record).await?;
        let facts = &manifest.facts;
        logical.insert(known.record.id, (facts.files().unwrap_or_default(), facts.bytes().unwrap_or_default()));
    }
    Ok(logical)
}

/// The columns that snapshots and sources share.
fn cells(used: Needed, logical: Option<(u64, u64)>) -> Vec<String> {
    let mut cells = vec![
        text::bytes(used.all.bytes),
        text::bytes(used.alone.bytes),
        text::bytes(used.all.bytes.saturating_sub(used.alone.bytes)),
    ];
    match logical {
        Some((files, bytes)) => cells.extend([files.to_string(), text::bytes(bytes), ratio(bytes, used.all.bytes)]),
        None => cells.extend(["-", "-", "-"].map(ToOwned::to_owned)),
    }
    cells
}

/// How many bytes one stored byte stands for.
fn ratio(logical: u64, stored: u64) -> String {
    if stored == 0 {
        return "-".to_owned();
    }
    let hundredths = u128::from(logical) * 100 / u128::from(stored);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn fields(used: Needed, logical: Option<(u64, u64)>) -> Value {
    json!({
        "stripes": used.all.count,
        "stored_bytes": used.all.bytes,
        "alone_stripes": used.alone.count,
        "alone_bytes": used.alone.bytes,
        "shared_bytes": used.all.bytes.saturating_sub(used.alone.bytes),
        "files": logical.map(|(files, _)| files),
        "bytes": logical.map(|(_, bytes)| bytes),
    })
}

/// One object with the fields of others.
fn with(mut record: Value, more: Value) -> Value {
    output::extend(&mut record, more);
    record
}

fn tell_snapshots(stats: &Stats, chosen: &[Known], logical: &Logical, out: &Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for known in chosen {
        let record = &known.record;
        let used = stats.snapshots.get(&record.id).copied().unwrap_or_default();
        let logical = logical.get(&record.id).copied();
        let mut row = vec![text::short(&record.id), text::moment(record.time)];
        row.extend(cells(used, logical));
        row.push(known.source_name());
        rows.push(row);
        let own = json!({
            "type": "snapshot-use",
            "snapshot": record.id,
            "source": record.source,
            "source_name": known.source_name(),
            "time": record.time,
        });
        out.record(&with(own, fields(used, logical)))?;
    }
    let head = ["snapshot", "time", "stored", "alone", "shared", "files", "bytes", "ratio", "source"];
    Ok(out.table(&head, &rows)?)
}

fn tell_sources(stats: &Stats, chosen: &[Known], logical: &Logical, out: &Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (source, used) in &stats.sources {
        let of_source: Vec<&Known> = chosen.iter().filter(|known| known.record.source == *source).collect();
        let Some(last) = of_source.last() else { continue };
        let known = of_source.iter().filter_map(|known| logical.get(&known.record.id));
        let sum = known.fold((0, 0), |(files, bytes), one| (files + one.0, bytes + one.1));
        let sum = (!logical.is_empty()).then_some(sum);
        let mut row = vec![of_source.len().to_string()];
        row.extend(cells(*used, sum));
        row.push(last.source_name());
        rows.push(row);
        let own = json!({
            "type": "source-use",
            "source": source,
            "source_name": last.source_name(),
            "snapshots": of_source.len(),
        });
        out.record(&with(own, fields(*used, sum)))?;
    }
    Ok(out.table(&["snapshots", "stored", "alone", "shared", "files", "bytes", "ratio", "source"], &rows)?)
}

fn tell_sites(stats: &Stats, out: &Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for site in &stats.sites {
        let why = site.error.as_ref().map(|error| one_line(error));
        rows.push(vec![
            site.site.to_string(),
            site.shards.count.to_string(),
            text::bytes(site.shards.bytes),
            text::bytes(site.others.bytes),
            why.clone().unwrap_or_default(),
        ]);
        out.record(&json!({
            "type": "site-use",
            "site": site.site,
            "shards": site.shards.count,
            "shard_bytes": site.shards.bytes,
            "others": site.others.count,
            "other_bytes": site.others.bytes,
            "why": why,
        }))?;
    }
    out.data(format_args!(""))?;
    out.table(&["site", "shards", "in shards", "in lists, blocks and others", ""], &rows)?;
    out.data(format_args!(""))?;
    out.data(format_args!(
        "snapshots need {} in {}; {} in {} are needed by none",
        text::bytes(stats.needed.bytes),
        text::count(stats.needed.count, "stripe"),
        text::bytes(stats.unneeded.bytes),
        text::count(stats.unneeded.count, "stripe")
    ))?;
    Ok(())
}

async fn by_folder(
    vault: &Vault,
    mut chosen: Vec<Known>,
    depth: usize,
    global: &Global,
    out: &Output,
) -> anyhow::Result<Exit> {
    let unlocked = opening::unlock(global, Some(vault.id()), "stats --by folder")?;
    let Some(known) = chosen.pop().filter(|_| chosen.is_empty()) else {
        return Err(Refusal::usage(
            "--by folder looks at one snapshot",
            "name it: blockhouse stats latest --by folder",
        )
        .into());
    };
    let record = known.record;
    let mut before = select::all(vault, &Narrow::default()).await?;
    before.retain(|other| other.record.source == record.source && other.record.block < record.block);
    let parent = match before.pop() {
        Some(parent) => Some(reader::open(vault, &unlocked, parent.record).await?),
        None => None,
    };
    let (id, parent_id) = (record.id, parent.as_ref().map(|parent| parent.record.id));
    let mut opened = reader::open(vault, &unlocked, record).await?;
    let work = move || {
        let mut parent = parent;
        stats::folders(&mut opened, parent.as_mut(), depth)
    };
    let folders = tokio::task::spawn_blocking(work).await.context("the count was stopped")?;
    let folders = folders.map_err(LiveError::from)?;
    let mut rows = Vec::new();
    for (path, used) in &folders {
        let path = text::path(path);
        rows.push(vec![
            text::bytes(used.all.bytes),
            used.all.count.to_string(),
            text::bytes(used.new.bytes),
            used.new.count.to_string(),
            path.clone(),
        ]);
        out.record(&json!({
            "type": "folder-use",
            "path": path,
            "files": used.all.count,
            "bytes": used.all.bytes,
            "new_files": used.new.count,
            "new_bytes": used.new.bytes,
        }))?;
    }
    out.table(&["bytes", "files", "new bytes", "new files", "folder"], &rows)?;
    out.record(
        &json!({ "type": "summary", "ok": true, "snapshot": id, "parent": parent_id, "folders": folders.len() }),
    )?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_what_was_backed_up_to_what_is_stored() {
        assert_eq!([ratio(300, 200), ratio(1, 3), ratio(1, 0)], ["1.50", "0.33", "-"]);
    }
}
