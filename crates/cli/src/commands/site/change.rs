//! `blockhouse site add`, `lost`, `drain` and `remove`

use std::sync::Arc;
use std::time::Instant;

use blockhouse_sites::{SiteName, SiteSpec, SiteUrl};
use blockhouse_types::Code;
use blockhouse_vault::folder::{Config, SiteEntry};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::repair::RepairReport;
use blockhouse_vault::site::{self, AddReport, LostPlan, Plans, RemoveReport};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::one_line;
use crate::output::{self, Output};
use crate::{opening, plain, progress, recording, text};

/// Progress of all parts of a command, which the user can stop.
fn begin(out: &Output) -> Arc<Progress> {
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    progress
}

pub(super) async fn add(spec: SiteSpec, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "site add")?;
    let progress = begin(out);
    let shown = progress::show(out, &progress);
    let added = site::add(&vault, &unlocked, spec, &progress).await;
    drop(shown);
    let report = added?;
    tell_added(&report, vault.config().sites.len() + usize::from(!report.already), vault.config().code, out)?;
    let survey = report.survey.as_ref().map(blockhouse_pipeline::placement::Survey::lines).unwrap_or_default();
    let mut summary = json!({
        "type": "summary", "ok": true, "site": report.site, "already": report.already, "copied": report.copied,
        "plan_before": report.plans.before, "plan": report.plans.after, "survey": survey,
    });
    if let Some(probe) = &report.probe {
        let promises = json!({
            "atomic_create": probe.atomic_create, "synced": probe.synced, "can_delete": probe.can_delete,
            "caveats": probe.caveats(),
        });
        output::extend(&mut summary, promises);
    }
    out.record(&summary)?;
    Ok(Exit::Success)
}

fn tell_added(report: &AddReport, sites: usize, code: Code, out: &Output) -> anyhow::Result<()> {
    let (site, Plans { before, after }) = (&report.site, report.plans);
    let copied = text::count(report.copied, "object");
    if report.already {
        out.line(format_args!("site `{site}` was there already; {copied} that it lacked were copied there"))?;
    } else {
        out.line(format_args!("site `{site}` is one of {sites} sites now; {copied} were copied there"))?;
    }
    if let Some(probe) = &report.probe {
        let free = probe.free_bytes.map_or_else(String::new, |free| format!("; {} free", text::bytes(free)));
        out.talk(format_args!("it keeps its promises{free}"));
        probe.caveats().iter().for_each(|caveat| out.talk(format_args!("{caveat}")));
    }
    out.line(format_args!("new stripes survive {after}; without it they survive {before}"))?;
    if after.w > before.w {
        out.talk(format_args!("stripes that are there survive what they did: `blockhouse repair` spreads them"));
    } else if !report.already {
        let why = if usize::from(after.w) < code.parity() {
            format!("with {} sites a {code} code survives the loss of {}", code.shards(), code.parity())
        } else {
            format!("that is the most that a {code} code survives")
        };
        out.warn(format_args!("note: it does not get safer by it: w stays {}; {why}", after.w));
        let better = Code::default_for(sites);
        if better.parity() > code.parity() {
            out.talk(format_args!(
                "for {sites} sites `init` would choose {better}; the code of a vault cannot be changed, a new vault would have it"
            ));
        }
    }
    if let Ok(survey) = &report.survey {
        for remark in survey.lines().iter().skip(1) {
            out.warn(format_args!("warning: {remark}"));
        }
    }
    Ok(())
}

pub(super) async fn lost(sites: &[SiteName], dry_run: bool, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    site::find(&Config::load(&global.folder()?)?, sites)?;
    let vault = opening::vault_without(global, sites, out).await?;
    let unlocked = if dry_run { None } else { Some(opening::unlock(global, Some(vault.id()), "site lost")?) };
    let progress = begin(out);
    let bar = progress::show(out, &progress);
    let planned = site::plan_lost(&vault, sites, &progress).await;
    drop(bar);
    let plan = planned?;
    let names = sites.iter().map(|site| format!("`{site}`")).collect::<Vec<_>>().join(", ");
    tell_loss(&names, &plan, vault.config().code, out)?;
    let Some(unlocked) = unlocked else {
        out.line(format_args!("nothing was done: this was a dry run"))?;
        let mut summary = summary(&plan.repair, plan.plans, started);
        output::extend(&mut summary, json!({ "sites": sites, "dry_run": true }));
        out.record(&summary)?;
        return Ok(Exit::Success);
    };
    let question = format!("Declare {names} lost for good? What they hold does not count from then on.");
    opening::confirm(global, &question)?;
    let bar = progress::show(out, &progress);
    let done = site::lost(&vault, &unlocked, sites, &progress).await;
    drop(bar);
    let done = done?;
    let word = if sites.len() == 1 { "is" } else { "are" };
    out.line(format_args!("{names} {word} lost: not asked, not counted, not on the recovery sheet any more"))?;
    if !done.is_done {
        out.warn(format_args!(
            "warning: not all could be made again; run this command again when the other sites take it"
        ));
    }
    let mut fields = summary(&done.repair, plan.plans, started);
    output::extend(&mut fields, json!({ "sites": sites, "dry_run": false, "done": done.is_done }));
    finish(done.repair, fields, out)
}

/// What the loss comes to, before anything is done.
fn tell_loss(names: &str, plan: &LostPlan, code: Code, out: &Output) -> anyhow::Result<()> {
    let (before, after) = (plan.plans.before, plan.plans.after);
    if plan.left < plan.needed {
        out.warn(format_args!(
            "WARNING: {} left, a {code} code needs {}: the plan cannot be kept. New backups go on, and survive less.",
            text::count(plan.left as u64, "site"),
            plan.needed
        ));
    }
    if after.w < before.w {
        out.warn(format_args!(
            "WARNING: without {names} {} may vanish, not {} as before. Add a site: `blockhouse site add`.",
            text::any_sites(after.w),
            text::any_sites(before.w)
        ));
    }
    for (stripe, error) in &plan.repair.lost {
        out.warn(format_args!("WARNING: stripe {stripe} cannot be made again: {}", one_line(error)));
    }
    tell_work(&plan.repair, "to make again", out)
}

fn tell_work(repair: &RepairReport, what: &str, out: &Output) -> anyhow::Result<()> {
    Ok(out.line(format_args!(
        "{what}: {} of {}; {} to read from sites (egress), {} to write",
        text::count(repair.written, "shard"),
        text::count(repair.stripes, "stripe"),
        text::bytes(repair.read_bytes),
        text::bytes(repair.written_bytes)
    ))?)
}

pub(super) async fn drain(site: &SiteName, dry_run: bool, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    site::find(&Config::load(&global.folder()?)?, std::slice::from_ref(site))?;
    let mut vault = opening::vault(global, out).await?;
    let unlocked = if dry_run { None } else { Some(opening::unlock(global, Some(vault.id()), "site drain")?) };
    let progress = begin(out);
    let bar = progress::show(out, &progress);
    let planned = site::plan_drain(&mut vault, site, &progress).await;
    drop(bar);
    let plan = planned?;
    let plans = plan.plans;
    tell_work(&plan.repair, "to copy", out)?;
    tell_plans(plans, out);
    let Some(unlocked) = unlocked else {
        out.line(format_args!("nothing was done: this was a dry run"))?;
        let mut summary = summary(&plan.repair, plans, started);
        output::extend(&mut summary, json!({ "site": site, "dry_run": true }));
        out.record(&summary)?;
        return Ok(Exit::Success);
    };
    let bar = progress::show(out, &progress);
    let done = site::drain(&mut vault, &unlocked, site, &progress).await;
    drop(bar);
    let done = done?;
    let is_drained = done.shortfall.is_none();
    if is_drained {
        out.line(format_args!("nothing is needed at `{site}` any more; `blockhouse site remove {site}` removes it"))?;
    } else {
        out.warn(format_args!(
            "warning: {} need `{site}` still; run this again when the other sites are up and have room",
            text::count(done.shortfall.stripes, "stripe")
        ));
    }
    let mut fields = summary(&done.repair, plans, started);
    let of_drain =
        json!({ "site": site, "dry_run": false, "needed_there": done.shortfall.stripes, "drained": is_drained });
    output::extend(&mut fields, of_drain);
    let exit = finish(done.repair, fields, out)?;
    Ok(if is_drained || exit != Exit::Success { exit } else { Exit::CheckFailed })
}

pub(super) async fn cancel_drain(site: &SiteName, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    site::find(&Config::load(&global.folder()?)?, std::slice::from_ref(site))?;
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "site drain")?;
    site::cancel_drain(&vault, &unlocked, site).await?;
    out.line(format_args!("site `{site}` is used again as before"))?;
    out.record(&json!({ "type": "summary", "ok": true, "site": site, "cancelled": true }))?;
    Ok(Exit::Success)
}

pub(super) async fn remove(site: &SiteName, dry_run: bool, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let names = std::slice::from_ref(site);
    site::find(&Config::load(&global.folder()?)?, names)?;
    let vault = opening::vault_without(global, names, out).await?;
    let unlocked = if dry_run { None } else { Some(opening::unlock(global, Some(vault.id()), "site remove")?) };
    let progress = begin(out);
    let bar = progress::show(out, &progress);
    let planned = site::plan_remove(&vault, site, &progress).await;
    drop(bar);
    let plan = planned?;
    let Some(unlocked) = unlocked else {
        out.line(format_args!("nothing is needed at `{site}`: it may be removed; this was a dry run"))?;
        return record_removal(&plan, true, out);
    };
    opening::confirm(global, &format!("Remove site `{site}` from the vault?"))?;
    let report = site::remove(&vault, &unlocked, site, &progress).await?;
    out.line(format_args!("site `{site}` is not a site of the vault any more"))?;
    out.talk(format_args!(
        "what lies there is of no use to anyone without a key, and not needed: {}",
        how_to_delete(&report.entry)
    ));
    record_removal(&report, false, out)
}

pub(super) async fn cancel_remove(site: &SiteName, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let names = std::slice::from_ref(site);
    site::find(&Config::load(&global.folder()?)?, names)?;
    let vault = opening::vault_without(global, names, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "site remove")?;
    site::cancel_remove(&vault, &unlocked, site).await?;
    out.line(format_args!("site `{site}` is used again as before"))?;
    out.record(&json!({ "type": "summary", "ok": true, "site": site, "cancelled": true }))?;
    Ok(Exit::Success)
}

fn record_removal(report: &RemoveReport, dry_run: bool, out: &Output) -> anyhow::Result<Exit> {
    let spec = &report.entry.spec;
    out.record(&json!({
        "type": "summary", "ok": true, "dry_run": dry_run, "site": spec.name, "url": spec.url,
        "plan_before": report.plans.before, "plan": report.plans.after,
    }))?;
    Ok(Exit::Success)
}

fn how_to_delete(entry: &SiteEntry) -> String {
    match &entry.spec.url {
        SiteUrl::File(path) => format!("rm -r '{}'", path.display()),
        url => format!("delete what is at {url}"),
    }
}

fn tell_plans(plans: Plans, out: &Output) {
    let Plans { before, after } = plans;
    if after.w < before.w {
        out.warn(format_args!(
            "warning: without it {} may vanish, not {} as before",
            text::any_sites(after.w),
            text::any_sites(before.w)
        ));
    }
}

/// What both changes say of the shards that they made.
fn summary(report: &RepairReport, plans: Plans, started: Instant) -> Value {
    json!({
        "type": "summary",
        "ok": report.is_whole() && report.incomplete == 0,
        "stripes": report.stripes,
        "written": report.written,
        "read_bytes": report.read_bytes,
        "written_bytes": report.written_bytes,
        "copied": report.plain.written,
        "lost": report.lost.len(),
        "failed": report.failed.len() as u64 + report.incomplete,
        "durability": report.durability,
        "plan_before": plans.before,
        "plan": plans.after,
        "seconds": started.elapsed().as_secs_f64(),
    })
}

/// Tells what was done and what could not be, and how it ended.
fn finish(mut report: RepairReport, mut fields: Value, out: &Output) -> anyhow::Result<Exit> {
    let recorded = std::mem::take(&mut report.recording);
    recording::add_to(&mut fields, &recorded);
    for (stripe, error) in &report.lost {
        out.warn(format_args!("stripe {stripe} is lost: {}", one_line(error)));
        out.record(&json!({ "type": "lost", "stripe": stripe, "why": one_line(error) }))?;
    }
    for (stripe, error) in &report.failed {
        out.talk(format_args!("stripe {stripe} could not be written elsewhere: {}", one_line(error)));
        out.record(&json!({ "type": "failed", "stripe": stripe, "why": one_line(error) }))?;
    }
    plain::tell_flaws(&report.plain, out)?;
    out.line(format_args!(
        "{} written: {} read, {} written; {} copied where they were missing",
        text::count(report.written, "shard"),
        text::bytes(report.read_bytes),
        text::bytes(report.written_bytes),
        text::count(report.plain.written, "other object")
    ))?;
    if let Some(now) = report.durability {
        out.line(format_args!("{} may vanish now ({now})", text::any_sites(now.w)))?;
    }
    out.record(&fields)?;
    let is_whole = report.is_whole() && report.incomplete == 0;
    let unrecorded = recording::tell(recorded, out);
    let is_degraded = report.durability.zip(report.plan).is_some_and(|(now, plan)| now.w < plan.w);
    Ok(match (is_whole, unrecorded, is_degraded) {
        (false, ..) => Exit::CheckFailed,
        (true, Some(failed), _) => failed,
        (true, None, true) => Exit::Degraded,
        (true, None, false) => Exit::Success,
    })
}
