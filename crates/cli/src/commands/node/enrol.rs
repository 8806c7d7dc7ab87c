//! `blockhouse node enrol`

use anyhow::Context as _;
use blockhouse_homes::{NodeIdentity, NodeUrl};
use blockhouse_types::Account;
use blockhouse_vault::hosts::{HostsError, enrol_node, enrol_operator, operators};
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
    /// Enrol, too, those accounts of operators and governors that the ledger names and that are no node's own: without that they can say nothing
    #[arg(long)]
    operators: bool,
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
    let mut operators = if args.operators { operators(&vault).await? } else { Vec::new() };
    operators.retain(|operator| !found.iter().any(|(_, identity)| account_of(identity) == *operator));
    for operator in &operators {
        out.line(format_args!("operator, apart from his node\n  account  0x{operator}"))?;
    }
    opening::confirm(global, "Do the nodes' operators read the same in their status? Enrol these accounts?")?;
    for (url, identity) in found {
        let account = account_of(&identity);
        let is_new = enrol_node(&vault, &unlocked, (identity.key.0, account)).await?;
        let what = if is_new { "may raise alarms now" } else { "could raise alarms already" };
        out.talk(format_args!("the node at {url} {what}"));
        let (node, rpc) = (format!("{:x}", identity.key), url.to_string());
        out.record(
            &json!({ "type": "enrolled", "rpc": rpc, "node": node, "account": account, "enrolled_now": is_new }),
        )?;
    }
    for operator in operators {
        let is_new = enrol_operator(&vault, &unlocked, operator).await?;
        let what = if is_new { "is enrolled now" } else { "was enrolled already" };
        out.talk(format_args!("the operator's account 0x{operator} {what}"));
        out.record(&json!({ "type": "enrolled", "account": operator, "enrolled_now": is_new }))?;
    }
    Ok(Exit::Success)
}

const fn account_of(identity: &NodeIdentity) -> Account {
    Account::new(identity.account.into_array())
}
