//! `blockhouse anchor ots` and `blockhouse anchor upgrade`

use blockhouse_homes::NodeUrl;
use blockhouse_homes::calendar::CalendarError;
use blockhouse_vault::anchor::{self, Promised, Upgraded};
use clap::Args;
use serde_json::json;

use super::needs_owner;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::one_line;
use crate::opening;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct OtsArgs {
    /// A calendar; repeat it for more: each that promises is one more that may keep its word
    #[arg(long = "calendar", value_name = "URL", required = true)]
    calendars: Vec<NodeUrl>,
}

pub(crate) async fn ots(args: OtsArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked = if opening::has_key(global) {
        Some(opening::unlock(global, Some(vault.id()), "the first anchor")?)
    } else {
        None
    };
    let Promised { block, calendars, failed } =
        needs_owner(anchor::promise(&vault, unlocked.as_ref(), &args.calendars).await)?;
    tell_failed(&failed, out);
    match &block {
        Some(place) => {
            let height = place.height;
            out.line(format_args!("block {height} of the ledger is promised by {calendars} calendars"))?;
            out.talk(format_args!("in some hours it is in a Bitcoin block: blockhouse anchor upgrade --calendar URL"));
        }
        None => out.line(format_args!("nothing new to anchor"))?,
    }
    out.record(&json!({
        "type": "summary", "ok": true, "anchored_height": block.map(|place| place.height), "calendars": calendars,
        "failing": failed.len(),
    }))?;
    Ok(Exit::Success)
}

pub(crate) async fn upgrade(args: OtsArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let Upgraded { kept, waiting, failed } = anchor::upgrade(&vault, &args.calendars).await?;
    tell_failed(&failed, out);
    for (place, bitcoin) in &kept {
        let height = place.height;
        out.line(format_args!("block {height} of the ledger is in block {bitcoin} of Bitcoin"))?;
        out.record(&json!({
            "type": "anchored", "kind": "ots", "height": height, "block_hash": place.hash, "outside_block": bitcoin,
        }))?;
    }
    for height in &waiting {
        out.line(format_args!("block {height} of the ledger is in no Bitcoin block yet"))?;
    }
    out.record(&json!({
        "type": "summary", "ok": true, "made": kept.len(), "pending": waiting.len(), "failing": failed.len(),
    }))?;
    Ok(Exit::Success)
}

fn tell_failed(failed: &[CalendarError], out: &Output) {
    for error in failed {
        out.warn(format_args!("warning: {}", one_line(error)));
    }
}
