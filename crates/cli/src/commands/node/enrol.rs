//! `blockhouse node enrol`

use anyhow::Context as _;
use blockhouse_homes::NodeUrl;
use blockhouse_types::Account;
use blockhouse_vault::hosts::{HostsError, enrol_node};
use clap::Args;
use serde_json::json;

use crate::arguments::Global;
use crate::exit::Exit;
use crate::opening;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct EnrolArgs {
    /// The URLs of the nodes' JSON-RPC [default: all nodes that the vault names]
    #[arg(value_name = "URL")]
    nodes: Vec<NodeUrl>,
}

pub(crate) async fn run(args: EnrolArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let remote = vault.nodes().ok_or(HostsError::OneHost)?;
    let unlocked = opening::unlock(global, Some(vault.id()), "node enrol")?;
    let nodes = if args.nodes.is_empty() { remote.nodes().to_vec() } else { args.nodes };
    let mut found = Vec::new();
    for url in &nodes {
        let identity = remote.identity(url).await.with_context(|| format!("could not ask the node at {url}"))?;
        out.line(format_args!("{url}\n  node     {:x}\n  account  {}", identity.key, identity.account))?;
        found.push((url, identity));
    }
    opening::confirm(global, "Do the nodes' operators read the same in their status? Enrol these accounts?")?;
    for (url, identity) in found {
        let account = Account::new(identity.account.into_array());
        let is_new = enrol_node(&vault, &unlocked, (identity.key.0, account)).await?;
        let what = if is_new { "may raise alarms now" } else { "could raise alarms already" };
        out.talk(format_args!("the node at {url} {what}"));
        let (node, rpc) = (format!("{:x}", identity.key), url.to_string());
        out.record(
            &json!({ "type": "enrolled", "rpc": rpc, "node": node, "account": account, "enrolled_now": is_new }),
        )?;
    }
    Ok(Exit::Success)
}
