//! `blockhouse history`

use blockhouse_ledger::{Told, tell};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, text};

/// Show everything the ledger says, or everything about one object
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse history 3f9a12"))]
pub(crate) struct HistoryArgs {
    /// The id of a snapshot, source, session or account, or its first digits
    #[arg(value_name = "OBJECT")]
    object: Option<String>,
}

pub(crate) async fn run(args: HistoryArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let wanted = args.object.map(|text| text.strip_prefix("0x").unwrap_or(&text).to_lowercase());
    let mut found = 0;
    for entry in vault.ledger().history().await?.entries {
        let told = tell(&entry.event);
        if wanted.as_ref().is_some_and(|wanted| !is_about(&told, wanted)) {
            continue;
        }
        found += 1;
        let fields: Vec<String> = told.fields.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
        out.data(format_args!(
            "{:>6}  {}  {:22} {}",
            entry.block,
            text::moment(entry.time),
            told.name,
            fields.join(" ")
        ))?;
        let fields: Map<String, Value> =
            told.fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        out.record(&json!({
            "type": "event",
            "block": entry.block,
            "time": entry.time,
            "tx": entry.transaction.to_string(),
            "log": entry.log,
            "event": told.name,
            "fields": fields,
        }))?;
    }
    match (found, wanted) {
        (0, Some(wanted)) => anyhow::bail!("the ledger says nothing about `{wanted}`"),
        _ => Ok(Exit::Success),
    }
}

/// Ids shortened, for people.
fn shown(value: &str) -> &str {
    let is_id = value.len() >= 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { value.get(..12).unwrap_or(value) } else { value }
}

/// True if an id in the event begins so.
fn is_about(told: &Told, wanted: &str) -> bool {
    told.fields.iter().any(|(_, value)| value.len() >= 40 && value.starts_with(wanted))
}
