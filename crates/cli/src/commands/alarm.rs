//! `blockhouse alarm`

use std::collections::BTreeSet;

use blockhouse_types::SourceId;
use blockhouse_vault::alarm;
use blockhouse_vault::retention::{duration, sources_called, sources_on};
use blockhouse_vault::vault::Vault;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::text::parse_duration;
use crate::{opening, text};

/// Have the ledger tell when a source is not backed up for too long
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse alarm show"))]
pub(crate) struct AlarmArgs {
    #[command(subcommand)]
    command: AlarmCommand,
}

#[derive(Debug, Subcommand)]
enum AlarmCommand {
    /// Say how old the last backup of a source may be; needs the identity
    ///
    /// The ledger records `BackupOverdue` when it is older, and `BackupResumed` when a backup has come: `history` shows both, and `status`
    /// ends with exit code 4 while a source is overdue. A network looks at each block, one a minute at least; a ledger that this host
    /// seals looks only when it seals a block, so ask `status` there.
    #[command(after_help = help!("blockhouse alarm set --source papers --max-age 26h --identity ~/owner.identity"))]
    Set(SetArgs),
    /// End the alarm of a source; needs the identity
    #[command(after_help = help!("blockhouse alarm unset --source papers --identity ~/owner.identity"))]
    Unset(UnsetArgs),
    /// Show the alarms there are
    #[command(after_help = help!("blockhouse alarm show"))]
    Show,
}

#[derive(Debug, Args)]
struct SetArgs {
    #[command(flatten)]
    whose: Whose,
    /// Older than this is overdue: 26h, 7d
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    max_age: u64,
}

#[derive(Debug, Args)]
struct UnsetArgs {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["source", "host"]))]
struct Whose {
    /// Of this source: its name, one of its paths, or its id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Of every source of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

impl Whose {
    fn sources(&self, vault: &Vault) -> anyhow::Result<BTreeSet<SourceId>> {
        Ok(match (&self.source, &self.host) {
            (Some(source), _) => sources_called(vault.config(), source)?,
            (None, Some(host)) => sources_on(vault.config(), host)?,
            (None, None) => BTreeSet::new(),
        })
    }
}

pub(crate) async fn run(args: AlarmArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        AlarmCommand::Set(args) => set(&args, global, out).await,
        AlarmCommand::Unset(args) => unset(&args, global, out).await,
        AlarmCommand::Show => show(global, out).await,
    }
}

async fn set(args: &SetArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let sources = args.whose.sources(&vault)?;
    let unlocked = opening::unlock(global, Some(vault.id()), "alarm set")?;
    alarm::set(&vault, &unlocked, &sources, args.max_age).await?;
    for source in &sources {
        out.line(format_args!("the ledger tells when {} is overdue", name(&vault, *source)))?;
    }
    done(&sources, out)
}

async fn unset(args: &UnsetArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let sources = args.whose.sources(&vault)?;
    let unlocked = opening::unlock(global, Some(vault.id()), "alarm unset")?;
    alarm::unset(&vault, &unlocked, &sources).await?;
    for source in &sources {
        out.line(format_args!("{} has no alarm any more", name(&vault, *source)))?;
    }
    done(&sources, out)
}

fn done(sources: &BTreeSet<SourceId>, out: &Output) -> anyhow::Result<Exit> {
    out.record(&json!({ "type": "summary", "ok": true, "sources": sources }))?;
    Ok(Exit::Success)
}

async fn show(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let now = (vault.settings().clock)().max(vault.standing().await?.time);
    let mut watches = vault.ledger().watches().await?;
    watches.sort_by_key(|watch| watch.source);
    for watch in &watches {
        let (name, late) = (name(&vault, watch.source), watch.is_late(now));
        let state = if late { "OVERDUE" } else { "in time" };
        let since = text::age(now.saturating_sub(watch.since));
        out.data(format_args!(
            "{name}: alarm after {}; last backup, or else the alarm itself, {since}: {state}",
            duration(watch.interval)
        ))?;
        out.record(&json!({
            "type": "alarm",
            "source": watch.source,
            "source_name": name,
            "max_age": watch.interval,
            "since": watch.since,
            "overdue": late,
            "raised": watch.is_raised,
        }))?;
    }
    if watches.is_empty() {
        out.talk(format_args!("no alarm is set: blockhouse alarm set --source SOURCE --max-age SPAN"));
    }
    Ok(Exit::Success)
}

/// What this host calls a source; else its id.
pub(super) fn name(vault: &Vault, source: SourceId) -> String {
    vault.config().sources.get(&source).map_or_else(|| source.to_string(), |entry| entry.name.clone())
}
