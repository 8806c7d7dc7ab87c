//! `blockhouse retention`

use std::collections::BTreeSet;

use blockhouse_types::SourceId;
use blockhouse_vault::ledger::Policy;
use blockhouse_vault::retention::{self, ALL, Keep, Reason, Rule, Survey};
use blockhouse_vault::vault::Vault;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::commands::forget::{self, told};
use crate::exit::{Exit, help};
use crate::output::{self, Output};
use crate::text::{parse_count, parse_duration, parse_tag};
use crate::{opening, text};

/// Lay down which snapshots are kept, or show the rules in force
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse retention show"))]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Lay a rule down; then `forget --apply` and `prune` run without the identity
    ///
    /// The rule is a contract on the ledger: it checks every removal, whoever asks. Snapshots are counted by the ledger's time in UTC, those
    /// of each writer by themselves. Says first what would be kept and what would go now. Needs the identity.
    #[command(after_help = help!("blockhouse retention set --default --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --min-age 7d --identity ~/owner.identity"))]
    Set(SetArgs),
    /// Take the own rule of a source away: the default decides about it again
    ///
    /// Says first what would be kept and what would go by the default. Needs the identity.
    #[command(after_help = help!("blockhouse retention unset --source papers --identity ~/owner.identity"))]
    Unset(UnsetArgs),
    /// Show the rule in force for each source
    #[command(after_help = help!("blockhouse retention show"))]
    Show,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").required(true).args(["source", "host", "default"]))]
struct SetArgs {
    /// For this source: its name, one of its paths, or its id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// For every source of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// For every source that has no rule of its own
    #[arg(long)]
    default: bool,
    /// Keep the N newest; `all` keeps everything
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "0")]
    keep_last: u32,
    /// Keep the newest of each of the last N hours that have snapshots
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_hourly: u32,
    /// The same for days
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_daily: u32,
    /// The same for weeks, which begin on Monday
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_weekly: u32,
    /// The same for months
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_monthly: u32,
    /// The same for years
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_yearly: u32,
    /// Keep what is less than this older than the newest: 12h, 30d, 8w, 2y
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_within: Option<u64>,
    /// Keep what has this tag; repeat for more
    #[arg(long = "keep-tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    keep_tags: Vec<String>,
    /// Nothing younger goes, whoever asks [default: as it is now]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    min_age: Option<u64>,
    /// Change nothing: say what would be kept and what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["source", "host"]))]
struct UnsetArgs {
    /// Of this source: its name, one of its paths, or its id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Of every source of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Change nothing: say what would be kept and what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub(crate) async fn run(args: RetentionArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        RetentionCommand::Set(args) => set(args, global, out).await,
        RetentionCommand::Unset(args) => unset(args, global, out).await,
        RetentionCommand::Show => show(global, out).await,
    }
}

async fn set(args: SetArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let sources = named(&vault, args.source.as_deref(), args.host.as_deref())?;
    let rule = rule_of(&args, &vault, &sources).await?;
    rule.check().map_err(retention::RetentionError::from)?;
    let bound = retention::bound_by(&vault, &sources).await?;
    let mut survey = retention::survey(&vault, Some((&rule, &bound))).await?;
    let going = preview(&mut survey, &bound, &format!("the rule {rule}"), out)?;
    let warnings: Vec<String> =
        retention::cautions(&vault, &rule, &bound).await?.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        out.warn(format_args!("warning: {warning}"));
    }
    let mut summary = json!({
        "type": "summary",
        "ok": true,
        "dry_run": args.dry_run,
        "rule": as_json(&rule),
        "sources": bound,
        "kept": survey.verdicts.len() - going,
        "going": going,
        "warnings": warnings,
    });
    if !args.dry_run {
        let unlocked = opening::unlock(global, Some(vault.id()), "retention set")?;
        opening::confirm(global, "Lay this rule down?")?;
        retention::lay_down(&vault, &unlocked, &rule, &sources).await?;
        out.line(format_args!("the rule is in force"))?;
        output::extend(&mut summary, json!({ "height": vault.standing().await?.height }));
    }
    out.record(&summary)?;
    Ok(Exit::Success)
}

async fn unset(args: UnsetArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let sources = named(&vault, args.source.as_deref(), args.host.as_deref())?;
    let default = vault.ledger().policy(None).await?;
    let mut survey = match default.rule() {
        Some(rule) => retention::survey(&vault, Some((rule, &sources))).await?,
        // What another kind of contract would say is not known.
        None => Survey::default(),
    };
    let going = preview(&mut survey, &sources, &format!("the default: {}", words(&default)), out)?;
    let mut summary = json!({
        "type": "summary",
        "ok": true,
        "dry_run": args.dry_run,
        "rule": default.rule().map(as_json),
        "sources": sources,
        "kept": survey.verdicts.len() - going,
        "going": going,
    });
    if !args.dry_run {
        let unlocked = opening::unlock(global, Some(vault.id()), "retention unset")?;
        opening::confirm(global, "Take the rule away?")?;
        retention::take_back(&vault, &unlocked, &sources).await?;
        out.line(format_args!("the default is in force"))?;
        output::extend(&mut summary, json!({ "height": vault.standing().await?.height }));
    }
    out.record(&summary)?;
    Ok(Exit::Success)
}

/// The sources that were named; none for the default.
fn named(vault: &Vault, source: Option<&str>, host: Option<&str>) -> anyhow::Result<BTreeSet<SourceId>> {
    Ok(match (source, host) {
        (Some(source), _) => retention::sources_called(vault.config(), source)?,
        (None, Some(host)) => retention::sources_on(vault.config(), host)?,
        (None, None) => BTreeSet::new(),
    })
}

/// Shows what would become of the snapshots of these sources; how many would go.
fn preview(survey: &mut Survey, bound: &BTreeSet<SourceId>, rule: &str, out: &Output) -> anyhow::Result<usize> {
    survey.verdicts.retain(|verdict| bound.contains(&verdict.known.record.source));
    let going = survey.verdicts.iter().filter(|verdict| verdict.goes()).count();
    forget::show(survey, out)?;
    out.talk(format_args!("{rule}"));
    out.talk(format_args!("now {going} of {} would go", text::count(survey.verdicts.len() as u64, "snapshot")));
    Ok(going)
}

/// The rule that was typed. An age that was not said stays what it is, for to shorten it unasked would loosen the rule.
async fn rule_of(args: &SetArgs, vault: &Vault, sources: &BTreeSet<SourceId>) -> anyhow::Result<Rule> {
    let mut now = 0;
    for source in sources.iter().copied().map(Some).chain([None]) {
        now = now.max(vault.ledger().policy(source).await?.minimum_age().unwrap_or(0));
    }
    let tags = args.keep_tags.iter().map(|tag| retention::commitment(vault, tag)).collect::<Result<_, _>>()?;
    let keep = Keep {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
    };
    Ok(Rule { keep, within: args.keep_within.unwrap_or(0), tags, minimum_age: args.min_age.unwrap_or(now) })
}

async fn show(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let survey = retention::survey(&vault, None).await?;
    let default = vault.ledger().policy(None).await?;
    tell_policy(None, "(all others)", &default, &survey, out)?;
    for (source, policy) in &survey.policies {
        let name = vault.config().sources.get(source).map_or_else(|| source.to_string(), |entry| entry.name.clone());
        tell_policy(Some(*source), &name, policy, &survey, out)?;
    }
    for frozen in &survey.frozen {
        out.data(format_args!("{}", told(&Reason::Frozen(*frozen), &[])))?;
    }
    Ok(Exit::Success)
}

fn tell_policy(
    source: Option<SourceId>,
    name: &str,
    policy: &Policy,
    survey: &Survey,
    out: &Output,
) -> anyhow::Result<()> {
    let words = words(policy);
    out.data(format_args!("{name}: {words}"))?;
    let of_source = |frozen: &&blockhouse_vault::ledger::Frozen| frozen.source.is_none() || frozen.source == source;
    let frozen = survey.frozen.iter().find(of_source);
    out.record(&json!({
        "type": "rule",
        "source": source,
        "source_name": source.map(|_| name),
        "words": words,
        "rule": policy.rule().map(as_json),
        "minimum_age": policy.minimum_age(),
        "frozen_by": frozen.map(|frozen| frozen.by),
        "frozen_since": frozen.map(|frozen| frozen.since),
    }))?;
    Ok(())
}

fn words(policy: &Policy) -> String {
    match policy {
        Policy::Retention(force) => force.rule.to_string(),
        Policy::OwnerAfterFloor { floor_seconds: 0 } => "only the owner removes".to_owned(),
        Policy::OwnerAfterFloor { floor_seconds } => {
            format!("only the owner removes, and nothing younger than {floor_seconds} s")
        }
        Policy::Other { contract } => format!("contract {contract} decides"),
    }
}

fn as_json(rule: &Rule) -> Value {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = rule.keep;
    json!({
        "last": if last == ALL { json!("all") } else { json!(last) },
        "hourly": hourly,
        "daily": daily,
        "weekly": weekly,
        "monthly": monthly,
        "yearly": yearly,
        "within": rule.within,
        "tags": rule.tags.len(),
        "minimum_age": rule.minimum_age,
    })
}
