//! `blockhouse status`

use std::collections::BTreeMap;

use blockhouse_sites::{Remedy, SiteState};
use blockhouse_types::Durability;
use blockhouse_vault::ledger::{SnapshotRecord, VerifyRecord, Watch};
use blockhouse_vault::retention::duration;
use blockhouse_vault::select::{self, Known, Narrow};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::{Value, json};

use super::alarm;
use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::output::Output;
use crate::{opening, text};

/// How old a backup may be before it counts as overdue, where nothing else is said.
const MAX_AGE: u64 = 2 * 86_400;
/// How old a verification may be.
const MAX_VERIFY_AGE: u64 = 30 * 86_400;

/// Show on one screen whether everything is safe, and since when, and what to do
///
/// A source is overdue two days after its last backup, or 30 days after its last verification; that alone changes no exit code,
/// unless --max-age or --max-verify-age is given, or the owner has set an alarm for the source (`alarm set`).
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse status --max-age 26h"))]
pub(crate) struct StatusArgs {
    /// A source whose last backup is older than this is overdue, and the exit code 4: 26h, 7d
    #[arg(long, value_name = "SPAN", value_parser = text::parse_duration)]
    max_age: Option<u64>,
    /// The same for its last verification
    #[arg(long, value_name = "SPAN", value_parser = text::parse_duration)]
    max_verify_age: Option<u64>,
}

/// A source, by its snapshots.
struct SourceStatus {
    latest: Known,
    snapshots: u64,
    /// What its weakest snapshot survives.
    least: Durability,
    verified: Option<(u64, VerifyRecord)>,
    /// When the first of them was recorded: so long it has not been verified at most.
    first: u64,
    /// The alarm that the owner has set for it.
    watch: Option<Watch>,
    /// By the clock of this host.
    overdue: bool,
    verify_overdue: bool,
}

/// What to do: the command, and why.
struct Action {
    why: String,
    command: String,
}

pub(crate) async fn run(args: StatusArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::observer(global, out).await?;
    let standing = vault.standing().await?;
    let now = (vault.settings().clock)();
    let (plan, (mut sources, mut bare)) = (vault.plan(), sources(&vault).await?);
    bare.retain(|watch| watch.is_late(now.max(standing.time)));
    for source in &mut sources {
        let is_old = |time: u64, most: u64| now.saturating_sub(time) >= most;
        let most = args.max_age.or(source.watch.is_none().then_some(MAX_AGE));
        source.overdue = most.is_some_and(|most| is_old(source.latest.record.time, most))
            || source.watch.is_some_and(|watch| watch.is_late(now.max(standing.time)));
        let verified = source.verified.map_or(source.first, |(time, _)| time);
        source.verify_overdue = is_old(verified, args.max_verify_age.unwrap_or(MAX_VERIFY_AGE));
    }
    let (sites, down) = sites(&vault, out)?;
    out.data(format_args!("fingerprint  {}", standing.fingerprint))?;
    out.data(format_args!("ledger       block {} of {}", standing.height, text::moment(standing.time)))?;
    out.data(format_args!("plan         {}: {} may vanish ({plan})", vault.config().code, text::any_sites(plan.w)))?;
    tell_sources(&sources, now, out)?;
    let is_bad = |source: &SourceStatus| source.verified.is_some_and(|(_, verified)| !verified.ok);
    let is_late = !bare.is_empty()
        || sources.iter().any(|source| {
            let decides = args.max_age.is_some() || source.watch.is_some();
            (decides && source.overdue) || (args.max_verify_age.is_some() && source.verify_overdue)
        });
    let exit = match () {
        () if down > 0 || is_late || sources.iter().any(is_bad) => Exit::CheckFailed,
        () if sources.iter().any(|source| source.least.w < plan.w) => Exit::Degraded,
        () => Exit::Success,
    };
    let is_unsafe = down > 0 || sources.iter().any(is_bad);
    out.data(format_args!(
        "{}",
        match exit {
            Exit::Success => "everything that was recorded is safe as planned",
            Exit::Degraded => "degraded: some snapshots survive less than the plan; run `blockhouse repair`",
            _ if !is_unsafe => "NOT WELL: backups or verifications are overdue",
            _ => "NOT WELL: sites are down or the last verification found damage; bring sites back, then repair and verify",
        }
    ))?;
    let mut actions = actions(&vault, &sources, plan, now);
    actions.extend(bare.iter().map(|watch| first_backup(&vault, watch)));
    if !actions.is_empty() {
        out.data(format_args!("\nwhat to do:"))?;
    }
    for Action { why, command } in &actions {
        out.data(format_args!("  {why}: {command}"))?;
    }
    out.record(&json!({
        "type": "status",
        "ok": exit == Exit::Success,
        "vault": vault.id(),
        "fingerprint": standing.fingerprint,
        "height": standing.height,
        "head": standing.hash.to_string(),
        "time": standing.time,
        "now": now,
        "code": vault.config().code.to_string(),
        "plan": plan,
        "writes_here": vault.secrets().is_some(),
        "sites": sites,
        "sources": sources.iter().map(as_json).collect::<Vec<_>>(),
        "todo": actions.iter().map(|it| json!({ "why": it.why, "command": it.command })).collect::<Vec<_>>(),
        "warnings": vault.warnings().iter().map(|warning| one_line(warning)).collect::<Vec<_>>(),
    }))?;
    Ok(exit)
}

/// What to do about an alarm of a source that has no snapshot.
fn first_backup(vault: &Vault, watch: &Watch) -> Action {
    let (name, interval) = (alarm::name(vault, watch.source), duration(watch.interval));
    Action {
        why: format!("{name} has no snapshot, and its alarm is after {interval}"),
        command: "blockhouse backup PATH".to_owned(),
    }
}

/// What to do, the most urgent first.
fn actions(vault: &Vault, sources: &[SourceStatus], plan: Durability, now: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut add = |why: String, command: String| actions.push(Action { why, command });
    for (member, reason) in vault.sites().down() {
        let command = match reason.remedy() {
            Remedy::RecreateOrCorrect => {
                "correct its place in config.toml, or `blockhouse repair --recreate`".to_owned()
            }
            _ => format!("bring back {}", member.spec().url),
        };
        add(format!("site `{}` is down", member.name()), command);
    }
    let is_bad = |source: &&SourceStatus| source.verified.is_some_and(|(_, verified)| !verified.ok);
    if sources.iter().any(|source| is_bad(&source)) {
        add(
            "the last verification found damage".to_owned(),
            "blockhouse repair --read-data, then blockhouse verify".to_owned(),
        );
    } else if sources.iter().any(|source| source.least.w < plan.w) {
        add("some snapshots survive less than the plan".to_owned(), "blockhouse repair".to_owned());
    }
    if sources.is_empty() && vault.secrets().is_some() {
        add("nothing is backed up".to_owned(), "blockhouse backup PATH".to_owned());
    }
    for source in sources.iter().filter(|source| source.overdue) {
        let age = text::age(now.saturating_sub(source.latest.record.time));
        let roots = source.latest.source.as_ref().map(|entry| entry.roots.join(" ")).unwrap_or_default();
        let on = source.latest.source.as_ref().map(|entry| format!(" on {}", entry.host)).unwrap_or_default();
        let command = format!("blockhouse backup {roots}{on}");
        let alarm = source.watch.map(|watch| format!(", its alarm is after {}", duration(watch.interval)));
        let alarm = alarm.unwrap_or_default();
        add(format!("{} was backed up {age}{alarm}", source.latest.source_name()), command);
    }
    let unverified = sources.iter().filter(|source| source.verify_overdue).map(|source| source.latest.source_name());
    let unverified: Vec<String> = unverified.collect();
    if !unverified.is_empty() {
        add(format!("not verified for long: {}", unverified.join(", ")), "blockhouse verify --read-data=5".to_owned());
    }
    actions
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

async fn sources(vault: &Vault) -> anyhow::Result<(Vec<SourceStatus>, Vec<Watch>)> {
    let mut sources = BTreeMap::new();
    for known in select::all(vault, &Narrow::default()).await? {
        let SnapshotRecord { source, durability, verified, .. } = known.record;
        let status = sources.entry(source).or_insert_with(|| SourceStatus {
            latest: known.clone(),
            snapshots: 0,
            least: durability,
            verified: None,
            first: known.record.time,
            watch: None,
            overdue: false,
            verify_overdue: false,
        });
        status.latest = known;
        status.snapshots += 1;
        status.least = status.least.least(durability);
        status.verified = status.verified.into_iter().chain(verified).max_by_key(|(time, _)| *time);
    }
    let mut bare = Vec::new();
    for watch in vault.ledger().watches().await? {
        match sources.get_mut(&watch.source) {
            Some(source) => source.watch = Some(watch),
            None => bare.push(watch),
        }
    }
    Ok((sources.into_values().collect(), bare))
}

fn tell_sources(sources: &[SourceStatus], now: u64, out: &Output) -> anyhow::Result<()> {
    let row = |source: &SourceStatus| {
        let verified = match source.verified {
            None => "never".to_owned(),
            Some((time, verified)) => {
                let depth = match verified.data_basis_points {
                    0 => "listed".to_owned(),
                    points => format!("{}.{:02} % read", points / 100, points % 100),
                };
                let age = text::age(now.saturating_sub(time));
                format!("{age}, {depth}, {}", if verified.ok { "clean" } else { "DAMAGE" })
            }
        };
        vec![
            source.snapshots.to_string(),
            text::short(&source.latest.record.id),
            text::age(now.saturating_sub(source.latest.record.time)),
            source.least.to_string(),
            verified,
            source.latest.source_name(),
        ]
    };
    out.data(format_args!(""))?;
    let rows: Vec<Vec<String>> = sources.iter().map(row).collect();
    out.table(&["snapshots", "latest", "last backup", "survives", "verified", "source"], &rows)?;
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
        "max_age": source.watch.map(|watch| watch.interval),
        "overdue": source.overdue,
        "verify_overdue": source.verify_overdue,
        "verified": source.verified.map(|(time, verified)| json!({
            "time": time,
            "ok": verified.ok,
            "missing": verified.missing,
            "damaged": verified.damaged,
            "data_basis_points": verified.data_basis_points,
        })),
    })
}
