//! `blockhouse anchor evm`

use std::path::PathBuf;

use blockhouse_homes::NodeUrl;
use blockhouse_homes::external::{AnchorChain, Made, read_account_key};
use blockhouse_vault::anchor;
use clap::Args;
use serde_json::json;

use super::needs_owner;
use crate::arguments::Global;
use crate::commands::init::Gwei;
use crate::exit::Exit;
use crate::output::Output;
use crate::{opening, text};

#[derive(Debug, Args)]
pub(crate) struct EvmArgs {
    /// A node of the chain; repeat it for more
    #[arg(long = "rpc", value_name = "URL", required = true)]
    nodes: Vec<NodeUrl>,
    /// How many blocks above it make a block final [default: what the chain's nodes call final]
    #[arg(long, value_name = "BLOCKS")]
    depth: Option<u64>,
    /// The most to offer for a unit of gas, in gwei [default: 500]
    #[arg(long, value_name = "GWEI")]
    max_fee: Option<Gwei>,
    /// A file with the secret key of the account that pays there, as 64 hex digits, mode 600 [default: the account of this host]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(crate) async fn run(args: EvmArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let payer = args.key.as_deref().map(read_account_key).transpose()?;
    let vault = opening::vault(global, out).await?;
    let unlocked = if opening::has_key(global) {
        Some(opening::unlock(global, Some(vault.id()), "the first anchor")?)
    } else {
        None
    };
    let chain =
        AnchorChain { nodes: args.nodes, depth: args.depth, max_fee_wei: args.max_fee.map(|max_fee| max_fee.wei) };
    let report = needs_owner(anchor::evm(&vault, unlocked.as_ref(), &chain, payer).await)?;
    for made in &report.recorded {
        tell(made, out)?;
    }
    match (report.recorded.is_empty(), report.anchored) {
        (false, _) => {}
        (true, Some(height)) => out.line(format_args!("nothing new since block {height}, which is anchored"))?,
        (true, None) => out.line(format_args!("the ledger says nothing yet that could be anchored"))?,
    }
    out.record(&json!({
        "type": "summary", "ok": true, "sender": format!("{:x}", report.sender),
        "made": report.recorded.len(), "anchored_height": report.anchored,
    }))?;
    Ok(Exit::Success)
}

fn tell(made: &Made, out: &Output) -> anyhow::Result<()> {
    let (chain, height) = (made.anchor.chain_id, made.place.height);
    out.line(format_args!(
        "block {height} of the ledger is in block {} of chain {chain}, of {}",
        made.outside_height,
        text::moment(made.time)
    ))?;
    out.record(&json!({
        "type": "anchored", "kind": "evm", "height": height, "block_hash": made.place.hash, "chain": chain,
        "outside_block": made.outside_height, "outside_hash": made.outside_block, "time": made.time,
        "tx": format!("{:x}", made.transaction),
    }))?;
    Ok(())
}
