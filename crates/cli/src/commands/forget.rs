//! `blockhouse forget`

use blockhouse_vault::forget::{self, ForgetReport, Plan};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::retention::{self, Reason, Survey, Verdict};
use blockhouse_vault::select::{self, Narrow, SnapshotRef};
use clap::Args;
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::{opening, progress, text};

/// Forget snapshots that the rule of retention lets go
///
/// Without arguments it removes nothing: it says of every snapshot why it is kept, or that it goes. With --apply it forgets what the rules
/// let go, without the identity. Named snapshots are forgotten if the rule lets them; with the identity also outside the rule, once they
/// have their minimum age. What is forgotten is forgotten for ever; `prune` frees its space.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse forget --apply && blockhouse prune"))]
pub(crate) struct ForgetArgs {
    /// Snapshots to forget: ids, first digits of them
    #[arg(value_name = "SNAP", conflicts_with = "apply")]
    snapshots: Vec<SnapshotRef>,
    /// Forget everything that the rules let go
    #[arg(long)]
    apply: bool,
    /// Forget nothing: say what would be
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: ForgetArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let narrow: Narrow = args.selectors.into();
    let does_remove = !args.dry_run && (args.apply || !args.snapshots.is_empty());
    let mut survey = retention::survey(&vault, None).await?;
    if args.snapshots.is_empty() {
        let chosen = select::all(&vault, &narrow).await?;
        survey.verdicts.retain(|verdict| chosen.iter().any(|known| known.record.id == verdict.known.record.id));
        show(&survey, out)?;
        let plan = Plan::of_survey(&survey, |_| true);
        let report = if does_remove { execute(&vault, &plan, None, out).await? } else { ForgetReport::default() };
        return tell(&survey, &report, does_remove, out);
    }
    let mut wanted = Vec::new();
    for reference in &args.snapshots {
        let known = select::one(&vault, reference, &narrow).await?;
        wanted.extend(survey.verdicts.iter().find(|verdict| verdict.known.record.id == known.record.id));
    }
    let unlocked =
        if opening::has_key(global) { Some(opening::unlock(global, Some(vault.id()), "forget")?) } else { None };
    for verdict in &wanted {
        refuse_protected(verdict, unlocked.is_some())?;
    }
    let chosen = Survey { verdicts: wanted.iter().map(|verdict| (*verdict).clone()).collect(), ..Survey::default() };
    show(&chosen, out)?;
    if !does_remove {
        return tell(&chosen, &ForgetReport::default(), false, out);
    }
    opening::confirm(global, &format!("Forget {} for ever?", text::count(wanted.len() as u64, "snapshot")))?;
    let report = execute(&vault, &Plan::of(&wanted), unlocked.as_ref(), out).await?;
    tell(&chosen, &report, true, out)
}

/// What the contract would refuse, with the reasons and the date.
fn refuse_protected(verdict: &Verdict, is_owner: bool) -> Result<(), Refusal> {
    let binds = |reason: &&Reason| !is_owner || matches!(reason, Reason::Young { .. } | Reason::Frozen(_));
    let reasons: Vec<&Reason> = verdict.reasons.iter().filter(binds).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = reasons.iter().map(|reason| told(reason, &tags(verdict))).collect();
    let (id, until) = (text::short(&verdict.known.record.id), until(&reasons));
    Err(Refusal::Protected { what: format!("snapshot {id} is kept ({}): {until}", why.join(", ")), is_owner })
}

/// When what keeps a snapshot may end. All of it must: a date is said only where each reason has one.
fn until(reasons: &[&Reason]) -> String {
    if reasons.iter().any(|reason| matches!(reason, Reason::Frozen(_))) {
        return "not while that stands".to_owned();
    }
    if reasons.iter().any(|reason| matches!(reason, Reason::Tag(_))) {
        return "as long as it has that tag".to_owned();
    }
    let newer = reasons.iter().filter_map(|reason| match reason {
        Reason::Newest => Some(1),
        Reason::Last { nth, of } => Some(of.saturating_sub(*nth).saturating_add(1)),
        _ => None,
    });
    match (newer.max(), date(reasons.iter().copied())) {
        (_, Some(date)) => format!("it may go on {} at the earliest", text::moment(date)),
        (Some(newer), None) => {
            format!("it may go after {} at the earliest", text::count(u64::from(newer), "newer snapshot"))
        }
        (None, None) => "as long as the rule stands".to_owned(),
    }
}

/// Before when a snapshot cannot go, where each of these reasons says so; none if there is none.
fn date<'a>(reasons: impl Iterator<Item = &'a Reason>) -> Option<u64> {
    let dates: Option<Vec<u64>> = reasons.map(Reason::not_before).collect();
    dates?.into_iter().max()
}

async fn execute(
    vault: &blockhouse_vault::vault::Vault,
    plan: &Plan,
    unlocked: Option<&blockhouse_vault::unlock::Unlocked>,
    out: &Output,
) -> anyhow::Result<ForgetReport> {
    let progress = std::sync::Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = forget::execute(vault, plan, unlocked, &progress).await;
    drop(shown);
    Ok(done?)
}

/// The table: why each is kept, or that it goes.
pub(crate) fn show(survey: &Survey, out: &Output) -> anyhow::Result<()> {
    let mut rows = Vec::with_capacity(survey.verdicts.len());
    for verdict in &survey.verdicts {
        let (record, tags) = (&verdict.known.record, tags(verdict));
        let reasons: Vec<String> = verdict.reasons.iter().map(|reason| told(reason, &tags)).collect();
        rows.push(vec![
            text::short(&record.id),
            text::moment(record.time),
            text::short(&record.writer),
            if verdict.goes() { "goes".to_owned() } else { reasons.join(", ") },
            verdict.known.source_name(),
        ]);
        out.record(&json!({
            "type": "verdict",
            "snapshot": record.id,
            "source": record.source,
            "source_name": verdict.known.source_name(),
            "time": record.time,
            "writer": record.writer,
            "goes": verdict.goes(),
            "locked": verdict.is_locked(),
            "reasons": reasons,
            "not_before": date(verdict.reasons.iter()),
        }))?;
    }
    if rows.is_empty() {
        out.talk(format_args!("there is no snapshot, or none that fits"));
        return Ok(());
    }
    Ok(out.table(&["id", "time", "writer", "kept because", "source"], &rows)?)
}

/// The tags by name, as far as this host knows them.
fn tags(verdict: &Verdict) -> Vec<String> {
    let record = &verdict.known.record;
    let known = verdict.known.source.as_ref().and_then(|source| source.tags.get(&record.id.to_string()));
    known.cloned().unwrap_or_default()
}

/// A reason in words.
pub(crate) fn told(reason: &Reason, tags: &[String]) -> String {
    match reason {
        Reason::Young { until } => format!("too young until {}", text::moment(*until)),
        Reason::Tag(_) if tags.is_empty() => "tag".to_owned(),
        Reason::Tag(_) => format!("tag among {}", tags.join(" ")),
        Reason::Frozen(frozen) => {
            let what = if frozen.source.is_some() { "the source" } else { "the vault" };
            format!("{what} was frozen by {} on {}", text::short(&frozen.by), text::moment(frozen.since))
        }
        other => other.to_string(),
    }
}

fn tell(survey: &Survey, report: &ForgetReport, was_done: bool, out: &Output) -> anyhow::Result<Exit> {
    let going = survey.verdicts.iter().filter(|verdict| verdict.goes()).count();
    for (snapshot, why) in &report.refused {
        out.warn(format_args!("not forgotten: {snapshot}: {why}"));
        out.record(&json!({ "type": "refused", "snapshot": snapshot, "why": why }))?;
    }
    if was_done {
        out.line(format_args!("{} forgotten", text::count(report.forgotten.len() as u64, "snapshot")))?;
    } else {
        out.talk(format_args!("{going} of {} would go", text::count(survey.verdicts.len() as u64, "snapshot")));
    }
    out.record(&json!({
        "type": "summary",
        "ok": report.refused.is_empty(),
        "dry_run": !was_done,
        "kept": survey.verdicts.len() - going,
        "going": going,
        "forgotten": report.forgotten,
        "refused": report.refused.len(),
    }))?;
    Ok(if report.refused.is_empty() { Exit::Success } else { Exit::NotAllowed })
}

#[cfg(test)]
mod tests {
    use blockhouse_vault::retention::Span;

    use super::*;

    #[test]
    fn when_a_snapshot_may_go_is_said_as_far_as_it_is_known() {
        let (last, newest) = (Reason::Last { nth: 2, of: 3 }, Reason::Newest);
        let daily = Reason::Period { span: Span::Day, nth: 1, of: 7, not_before: 1_800_000_000 };
        let (young, tag) = (Reason::Young { until: 1_900_000_000 }, Reason::Tag([7; 32]));
        assert_eq!(until(&[&last]), "it may go after 2 newer snapshots at the earliest");
        assert_eq!(until(&[&newest]), "it may go after 1 newer snapshot at the earliest");
        assert_eq!(until(&[&last, &daily]), "it may go after 2 newer snapshots at the earliest");
        assert_eq!(until(&[&daily, &young]), format!("it may go on {} at the earliest", text::moment(1_900_000_000)));
        assert_eq!(until(&[&daily, &tag]), "as long as it has that tag");
        assert_eq!(until(&[&young, &Reason::NoRule]), "as long as the rule stands");
        assert_eq!((date([&last, &daily].into_iter()), date([].into_iter())), (None, None));
        assert_eq!(date([&daily, &young].into_iter()), Some(1_900_000_000));
    }
}
