//! `blockhouse anchor list`

use blockhouse_ledger::Event;
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;
use blockhouse_ledger::tell;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::Output;
use crate::{opening, text};

pub(crate) async fn run(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::site_reader(global, out).await?;
    let mut rows = Vec::new();
    for record in vault.ledger().anchor_records().await? {
        let (height, hash, chain, by) = match &record.event {
            AnchorsEvents::Anchored(event) => (event.height, event.blockHash, Some(event.chainId), event.by),
            AnchorsEvents::Cosigned(event) => (event.height, event.blockHash, None, event.by),
        };
        let kind = match &record.event {
            AnchorsEvents::Anchored(_) => {
                let told = tell(&Event::Anchors(record.event.clone()));
                told.fields.into_iter().find(|(name, _)| *name == "kind").map(|(_, kind)| kind).unwrap_or_default()
            }
            AnchorsEvents::Cosigned(_) => "witness".to_owned(),
        };
        out.record(&json!({
            "type": "anchor", "kind": kind, "height": height, "block_hash": format!("{hash:x}"),
            "chain": chain.filter(|chain| *chain != 0), "by": format!("{by:x}"), "block": record.block, "time": record.time,
        }))?;
        let chain = chain.filter(|chain| *chain != 0).map_or_else(|| "-".to_owned(), |chain| chain.to_string());
        rows.push(vec![height.to_string(), kind, chain, text::moment(record.time), format!("{by:x}")]);
    }
    out.table(&["block", "kind", "chain", "recorded", "by"], &rows)?;
    out.record(&json!({ "type": "summary", "ok": true, "anchors": Value::from(rows.len()) }))?;
    Ok(Exit::Success)
}
