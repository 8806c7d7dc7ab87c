//! `blockhouse node`

mod enrol;
mod local;
mod run;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;

/// Run the ledger as a network of nodes that agree on every block
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse node local --nodes 4 --dir ~/ledger"))]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Run a whole network on this machine, to try it
    ///
    /// Each node is a process of its own, with a folder of its own; they end with this command. Started again on the same folder, the
    /// network goes on where it stopped. All keys are made here, so this is no network that could not be rewritten: it is for trying.
    #[command(after_help = help!("blockhouse node local --nodes 4 --dir ~/ledger --rpc-port 8545"))]
    Local(local::LocalArgs),
    /// Let nodes of the vault's network raise alarms on its ledger; needs the owner's identity
    ///
    /// A node that finds its store altered tells it there, and so to everybody: `blockhouse history` shows it. Its account is enrolled as a
    /// writer like a host's, and revoked with `host revoke`. Compare what is shown with what the node's operator reads.
    #[command(after_help = help!("blockhouse node enrol --identity ~/owner.identity"))]
    Enrol(enrol::EnrolArgs),
    /// Run the node of a folder, until it is stopped
    #[command(after_help = help!("blockhouse node run --dir /var/lib/blockhouse-node"))]
    Run(run::RunArgs),
}

/// The data folder of a node.
#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The data folder of the node
    #[arg(long = "dir", value_name = "DIR")]
    pub(crate) path: PathBuf,
}

pub(crate) async fn run(args: NodeArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        NodeCommand::Enrol(args) => enrol::run(args, global, out).await,
        NodeCommand::Local(args) => local::run(args, out).await,
        NodeCommand::Run(args) => run::run(args, out).await,
    }
}
