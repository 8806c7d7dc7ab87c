//! `blockhouse status`

use std::collections::BTreeMap;

use blockhouse_sites::SiteState;
use blockhouse_types::Durability;
use blockhouse_vault::ledger::{SnapshotRecord, VerifyRecord};
use blockhouse_vault::select::{self, Known, Narrow};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::output::Output;
use crate::{opening, text};

/// Show on one screen whether everything is safe, and since when
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse status --json"))]
pub(crate) struct StatusArgs {}

/// A source, by its snapshots.
struct SourceStatus {
    latest: Known,
    snapshots: u64,
    /// What its weakest snapshot survives.
    least: Durability,
    verified: Option<(u64, VerifyRecord)>,
}

pub(crate) async fn run(_: StatusArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let standing = vault.standing().await?;
    let (plan, sources) = (vault.plan(), sources(&vault).await?);
    let (sites, down) = sites(&vault, out)?;
    out.data(format_args!("fingerprint  {}", standing.fingerprint))?;
    out.data(format_args!("ledger       block {} of {}", standing.height, text::moment(standing.time)))?;
    out.data(format_args!("plan         {}: {} may vanish ({plan})", vault.config().code, text::any_sites(plan.w)))?;
    tell_sources(&sources, out)?;
    let is_bad = |source: &SourceStatus| source.verified.is_some_and(|(_, verified)| !verified.ok);
    let exit = match () {
        () if down > 0 || sources.iter().any(is_bad) => Exit::CheckFailed,
        () if sources.iter().any(|source| source.least.w < plan.w) => Exit::Degraded,
        () => Exit::Success,
    };
    out.data(format_args!(
        "{}",
        match exit {
            Exit::Success => "everything that was recorded is safe as planned",
            Exit::Degraded => "degraded: some snapshots survive less than the plan; run `blockhouse repair`",
            _ => "NOT WELL: sites are down or the last verification found damage; bring sites back, then repair and verify",
        }
    ))?;
    out.record(&json!({
        "type": "status",
        "ok": exit == Exit::Success,
        "vault": vault.id(),
        "fingerprint": standing.fingerprint,
        "height": standing.height,
        "head": standing.hash.to_string(),
        "time": standing.time,
        "code": vault.config().code.to_string(),
        "plan": plan,
        "writes_here": vault.secrets().is_some(),
        "sites": sites,
        "sources": sources.iter().map(as_json).collect::<Vec<_>>(),
        "warnings": vault.warnings().iter().map(|warning| one_line(warning)).collect::<Vec<_>>(),
    }))?;
    Ok(exit)
}

/// The sites for JSON, and how many are not up.
fn sites(vault: &Vault, out: &Output) -> anyhow::Result<(Vec<Value>, usize)> {
    let (mut sites, mut rows, mut down) = (Vec::new(), Vec::new(), 0);
    for member in vault.sites().members() {
        let (state, why) = match member.state() {
            SiteState::Up => ("up", None),
            SiteState::Closed(reason) => ("read-only", Some(one_line(reason.as_ref()))),
            SiteState::Down(reason) => ("down", Some(one_line(reason.as_ref()))),
        };
        down += usize::from(state == "down");
        let spec = member.spec();
        let labels = &spec.labels;
        sites.push(json!({
            "name": spec.name, "url": spec.url, "region": labels.region, "provider": labels.provider,
            "state": state, "why": why,
        }));
        rows.push(vec![spec.name.to_string(), state.to_owned(), spec.url.to_string()]);
    }
    out.table(&["site", "state", "place"], &rows)?;
    out.data(format_args!(""))?;
    Ok((sites, down))
}

async fn sources(vault: &Vault) -> anyhow::Result<Vec<SourceStatus>> {
    let mut sources = BTreeMap::new();
    for known in select::all(vault, &Narrow::default()).await? {
        let SnapshotRecord { source, durability, verified, .. } = known.record;
        let status = sources.entry(source).or_insert_with(|| SourceStatus {
            latest: known.clone(),
            snapshots: 0,
            least: durability,
            verified: None,
        });
        status.latest = known;
        status.snapshots += 1;
        status.least = status.least.least(durability);
        status.verified = status.verified.into_iter().chain(verified).max_by_key(|(time, _)| *time);
    }
    Ok(sources.into_values().collect())
}

fn tell_sources(sources: &[SourceStatus], out: &Output) -> anyhow::Result<()> {
    let row = |source: &SourceStatus| {
        let verified = match source.verified {
            None => "never".to_owned(),
            Some((time, verified)) => {
                format!("{} {}", text::moment(time), if verified.ok { "clean" } else { "DAMAGE" })
            }
        };
        vec![
            source.snapshots.to_string(),
            text::short(&source.latest.record.id),
            text::moment(source.latest.record.time),
            source.least.to_string(),
            verified,
            source.latest.source_name(),
        ]
    };
    out.data(format_args!(""))?;
    let rows: Vec<Vec<String>> = sources.iter().map(row).collect();
    out.table(&["snapshots", "latest", "time", "survives", "verified", "source"], &rows)?;
    Ok(out.data(format_args!(""))?)
}

fn as_json(source: &SourceStatus) -> Value {
    let record = &source.latest.record;
    json!({
        "source": record.source,
        "name": source.latest.source_name(),
        "host": source.latest.source.as_ref().map(|entry| &entry.host),
        "snapshots": source.snapshots,
        "latest": record.id,
        "time": record.time,
        "d": source.least.d,
        "w": source.least.w,
        "wd": source.least.wd,
        "verified": source.verified.map(|(time, verified)| json!({
            "time": time,
            "ok": verified.ok,
            "missing": verified.missing,
            "damaged": verified.damaged,
            "data_basis_points": verified.data_basis_points,
        })),
    })
}
