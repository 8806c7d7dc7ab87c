//! `blockhouse site list` and `site probe`

use blockhouse_sites::{ProbeReport, SiteName, SiteState};
use blockhouse_vault::folder::{Config, SiteUse};
use blockhouse_vault::site::{self, SiteRow};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::one_line;
use crate::output::Output;
use crate::{opening, text};

pub(super) async fn list(fast: bool, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let mut rows = Vec::new();
    for row in site::list(&vault, fast).await {
        let (state, why) = state(&row);
        let (spec, labels) = (&row.entry.spec, &row.entry.spec.labels);
        out.record(&json!({
            "type": "site", "name": spec.name, "url": spec.url, "region": labels.region, "provider": labels.provider,
            "state": state, "why": why, "draining": row.entry.is_draining(),
            "shards": row.shards, "bytes": row.bytes, "free_bytes": row.free_bytes,
        }))?;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            spec.name.to_string(),
            state.to_owned(),
            or_none(row.shards.map(|shards| shards.to_string())),
            or_none(row.bytes.map(text::bytes)),
            or_none(row.free_bytes.map(text::bytes)),
            or_none(labels.region.clone()),
            or_none(labels.provider.clone()),
            spec.url.to_string(),
        ]);
    }
    out.table(&["site", "state", "shards", "held", "free", "region", "provider", "place"], &rows)?;
    Ok(Exit::Success)
}

/// What is to be known of a site first, and why it is so.
fn state(row: &SiteRow) -> (&'static str, Option<String>) {
    match (row.entry.state, &row.state) {
        (_, Some(SiteState::Down(reason))) => ("down", Some(one_line(reason.as_ref()))),
        (Some(SiteUse::Draining), _) => (SiteUse::Draining.as_str(), None),
        (_, Some(SiteState::Closed(reason))) => ("read-only", Some(one_line(reason.as_ref()))),
        (None, _) => ("up", None),
        (Some(under_way), _) => (under_way.as_str(), None),
    }
}

pub(super) async fn probe(wanted: Option<SiteName>, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    if let Some(wanted) = &wanted {
        site::find(&Config::load(&global.folder()?)?, std::slice::from_ref(wanted))?;
    }
    let vault = opening::vault(global, out).await?;
    let (mut asked, mut bad) = (0_u64, 0_u64);
    for member in vault.sites().members().iter().filter(|it| wanted.as_ref().is_none_or(|name| name == it.name())) {
        asked += 1;
        let probed = match (member.writable(), member.state()) {
            (Some(site), _) => site.probe().await.map_err(|error| one_line(&error)),
            (None, SiteState::Down(reason) | SiteState::Closed(reason)) => Err(one_line(reason.as_ref())),
            (None, SiteState::Up) => Err("it takes no writes".to_owned()),
        };
        bad += u64::from(!tell_probe(member.name(), probed, out)?);
    }
    out.record(&json!({ "type": "summary", "ok": bad == 0, "probed": asked, "failing": bad }))?;
    Ok(if bad == 0 { Exit::Success } else { Exit::CheckFailed })
}

/// Tells what one site promises; true if that is all that it must.
fn tell_probe(site: &SiteName, probed: Result<ProbeReport, String>, out: &Output) -> anyhow::Result<bool> {
    let report = match probed {
        Ok(report) => report,
        Err(why) => {
            out.data(format_args!("site `{site}` could not be probed: {why}"))?;
            out.record(&json!({ "type": "probe", "site": site, "ok": false, "why": why }))?;
            return Ok(false);
        }
    };
    let promises = [
        (report.create_only, "nothing is overwritten"),
        (report.read_back, "what was written is read"),
        (report.list_after_write, "it is listed at once"),
        (report.durable_rename, "renames are one step"),
    ];
    let words = |kept: bool| {
        let of = promises.iter().filter(|(is_kept, _)| *is_kept == kept).map(|(_, what)| *what);
        of.collect::<Vec<_>>().join(", ")
    };
    let ok = report.keeps_promises();
    if ok {
        let free = report.free_bytes.map_or_else(String::new, |free| format!("; {} free", text::bytes(free)));
        out.data(format_args!("site `{site}` keeps its promises: {}{free}", words(true)))?;
    } else {
        out.data(format_args!("site `{site}` does NOT promise: {}; it does: {}", words(false), words(true)))?;
    }
    for caveat in report.caveats() {
        out.data(format_args!("site `{site}`: {caveat}"))?;
    }
    out.record(&json!({
        "type": "probe", "site": site, "ok": ok, "why": null, "create_only": report.create_only,
        "read_back": report.read_back, "list_after_write": report.list_after_write,
        "durable_rename": report.durable_rename, "atomic_create": report.atomic_create, "synced": report.synced,
        "can_delete": report.can_delete, "caveats": report.caveats(),
        "free_bytes": report.free_bytes, "total_bytes": report.total_bytes,
    }))?;
    Ok(ok)
}
