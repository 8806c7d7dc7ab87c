//! `blockhouse freeze` and `blockhouse unfreeze`

use blockhouse_types::SourceId;
use blockhouse_vault::ledger::LedgerError;
use blockhouse_vault::retention::{self, RetentionError};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::opening;
use crate::output::Output;

/// Stop all removal, of one source or of the whole vault
///
/// Nothing is forgotten and no stripe is removed until the owner lifts it, whoever asks. Needs no identity once a rule was laid down with
/// `retention set`; before that the owner must make the contract that can freeze.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse freeze"))]
pub(crate) struct FreezeArgs {
    /// Only snapshots of this source: its name, one of its paths, or its id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

/// Let removal go on; needs the identity
///
/// Without a source, every freeze is lifted.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse unfreeze --identity ~/owner.identity"))]
pub(crate) struct UnfreezeArgs {
    /// Only the freeze of this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

pub(crate) async fn freeze(args: FreezeArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let source = one_source(&vault, args.source.as_deref())?;
    let unlocked =
        if opening::has_key(global) { Some(opening::unlock(global, Some(vault.id()), "freeze")?) } else { None };
    match retention::freeze(&vault, unlocked.as_ref(), source).await {
        // The contract that can freeze is not there: only the owner can make it.
        Err(RetentionError::Ledger(LedgerError::NoModule { .. })) => {
            return Err(Refusal::MissingIdentity { what: "freeze, before any rule was laid down," }.into());
        }
        done => done?,
    }
    told("frozen", source, out)
}

pub(crate) async fn unfreeze(args: UnfreezeArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let source = one_source(&vault, args.source.as_deref())?;
    let unlocked = opening::unlock(global, Some(vault.id()), "unfreeze")?;
    retention::unfreeze(&vault, &unlocked, source).await?;
    told("unfrozen", source, out)
}

fn one_source(vault: &Vault, wanted: Option<&str>) -> anyhow::Result<Option<SourceId>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let found = retention::sources_called(vault.config(), wanted)?;
    match found.len() {
        1 => Ok(found.first().copied()),
        count => Err(Refusal::usage(format!("{count} sources are called `{wanted}`"), "give the id of one").into()),
    }
}

fn told(what: &str, source: Option<SourceId>, out: &Output) -> anyhow::Result<Exit> {
    let of = source.map_or_else(|| "the vault".to_owned(), |source| format!("source {source}"));
    out.line(format_args!("{of} is {what}"))?;
    out.record(&json!({ "type": "summary", "ok": true, what: true, "source": source }))?;
    Ok(Exit::Success)
}
