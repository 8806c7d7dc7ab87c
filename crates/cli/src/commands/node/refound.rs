//! `blockhouse node refound`

use std::collections::BTreeSet;
use std::path::PathBuf;

use blockhouse_homes::rpc::{NodeRole, NodeStatus};
use blockhouse_homes::{NodeUrl, Remote};
use blockhouse_ledger::governance::{EPOCH_LENGTH, EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN};
use blockhouse_vault::growth::{self, Before, LastBlock};
use blockhouse_vault::vault::Vault;
use clap::Args;
use serde_json::json;

use super::grow::{self, Made, Request, take_over, tell_next};
use super::recovery::{read_words, tell_proposal};
use super::{Dir, shown};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::{Refusal, one_line};
use crate::opening;
use crate::output::{Output, extend};

#[derive(Debug, Args)]
pub(crate) struct RefoundArgs {
    #[command(flatten)]
    dir: Dir,
    /// The enrolments of the other nodes of the new network: all were made anew with `node init`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    found: Vec<PathBuf>,
    /// Blocks in an epoch of the new network: validators change between two, by the word of the nodes' operators
    #[arg(
        long,
        value_name = "BLOCKS",
        default_value_t = EPOCH_LENGTH,
        value_parser = clap::value_parser!(u64).range(EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX)
    )]
    epoch_length: u64,
    /// Where the vault asks the new network's nodes by JSON-RPC; repeat it for more [default: this host's node]
    #[arg(long, value_name = "URL")]
    ledger: Vec<NodeUrl>,
    /// A node of the old network that may have blocks which the nodes that the vault names have not; repeat it for more
    #[arg(long, value_name = "URL")]
    ask: Vec<NodeUrl>,
    /// Go on though as many validators of the old network answer as can record blocks: what they record from now on is not on the ledger
    #[arg(long)]
    despite_quorum: bool,
    /// Write what other recovery accounts agree to with `node recovery approve`, into a new file, and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "approvals")]
    propose: Option<PathBuf>,
    /// What another recovery account gave for that; repeat it for more
    #[arg(long = "approval", value_name = "FILE")]
    approvals: Vec<PathBuf>,
}

const WHAT: &str = "node refound";

pub(super) async fn run(args: RefoundArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let account = grow::account(&vault, global, WHAT)?;
    let old: Vec<NodeUrl> = vault.config().ledger.urls.iter().chain(&args.ask).cloned().collect();
    if vault.config().ledger.growth.is_none() {
        let old = ask(&vault, &old, out).await;
        expect_no_quorum(&old, args.despite_quorum, out)?;
    }
    let down: Vec<&str> = vault.sites().down().map(|(member, _)| member.name().as_str()).collect();
    let not_asked = (!down.is_empty()).then(|| down.join(", "));
    let words = read_words(&args.approvals)?;
    let standing = vault.standing().await?;
    let age = (vault.settings().clock)().saturating_sub(standing.time);
    out.line(format_args!("goes on from  block {}, {age} s old", standing.height))?;
    tell_loss(standing.height, not_asked.as_deref(), out);
    let question = "What only the lost nodes had above that block is lost for good, and the old network must never run again. Go on?";
    let request = Request {
        folder: args.dir.path,
        files: args.found,
        epoch_length: args.epoch_length,
        nodes: args.ledger,
        words,
    };
    if let Some(file) = &args.propose {
        let (proposal, growth) = grow::propose(&vault, (Before::Network, &request), &account, file).await?;
        tell_proposal(&proposal, (file, &growth.recovery), out)?;
        return Ok(Exit::Success);
    }
    let confirm = || opening::confirm(global, question);
    let (made, base) = take_over(vault, (Before::Network, request), &account, confirm).await?;
    tell(&made, base, standing.time, out)?;
    Ok(Exit::Success)
}

/// Takes what each node of the old network has, and what it says of itself; the first that answers may be behind another.
async fn ask(vault: &Vault, nodes: &[NodeUrl], out: &Output) -> Vec<NodeStatus> {
    let mut found = Vec::new();
    for node in nodes {
        match growth::follow_one(vault, node).await {
            Ok(height) => {
                out.talk(format_args!("the node at {node} was asked; the ledger here reaches block {height}"));
            }
            Err(error) => {
                out.warn(format_args!("warning: nothing could be had of the node at {node}: {}", one_line(&error)));
            }
        }
        let Ok(remote) = Remote::new(vec![node.clone()]) else { continue };
        found.extend(remote.node_status().await);
    }
    found
}

/// Refuses if the old network can go on by itself, as far as it shows.
fn expect_no_quorum(nodes: &[NodeStatus], is_accepted: bool, out: &Output) -> Result<(), Refusal> {
    let voting = nodes.iter().filter(|node| node.role == NodeRole::Validator && node.failure.is_none());
    let answering = voting.clone().map(|node| node.key).collect::<BTreeSet<_>>().len() as u64;
    // Each knows to how many it is connected, whether the vault names them or not.
    let connected = voting.clone().map(|node| node.peers + 1).max().unwrap_or(0).max(answering);
    let Some(quorum) = voting.map(|node| node.quorum).max().filter(|quorum| connected >= *quorum) else {
        return Ok(());
    };
    let what =
        format!("{connected} nodes of the network are there or connected, and {quorum} validators can record blocks");
    if is_accepted {
        out.warn(format_args!(
            "warning: {what}: whatever they record from now on is not on the ledger of the new network"
        ));
        return Ok(());
    }
    Err(Refusal::usage(
        what,
        "a network that goes on is not founded anew: wait, or stop its nodes for good first; followers that are connected count too, so stop those. With --despite-quorum there may be two ledgers until the old nodes are stopped, and backups that only the old one holds are lost",
    ))
}

fn tell_loss(height: u64, not_asked: Option<&str>, out: &Output) {
    out.talk(format_args!(
        "Above block {height} nothing is kept. No backup that was acknowledged is lost by that while a site that holds its block was asked; what else was recorded at the lost nodes alone is."
    ));
    if let Some(sites) = not_asked {
        out.warn(format_args!(
            "warning: these sites were not asked, and may hold newer blocks of acknowledged backups: {sites}"
        ));
    }
}

fn tell(Made { network, folder }: &Made, base: LastBlock, time: u64, out: &Output) -> anyhow::Result<()> {
    let mut summary = shown::network(network, out)?;
    out.talk(format_args!(
        "\nThe new network goes on once {} of its nodes run. The old nodes must not run again: one of this release that knows a new node in its `rpc_peers` stops by itself.",
        network.network.quorum()
    ));
    let file = tell_next(network, folder, out);
    extend(&mut summary, json!({ "file": file, "height": base.height, "time": time }));
    out.record(&summary)?;
    Ok(())
}
