//! `blockhouse node`

mod enrol;
mod found;
mod gather;
mod grow;
mod init;
mod join;
mod local;
mod recovery;
mod refound;
mod run;
mod shown;
mod status;
mod validators;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blockhouse_crypto::AccountSecret;
use blockhouse_crypto::enrol_key::EnrolKey;
use blockhouse_homes::network::{FolderError, write_secret};
use blockhouse_ledger::Genesis;
use clap::{Args, Subcommand, ValueEnum};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;

/// What lets its holder take over a network's ledger.
const ENROL_KEY: &str = "enrol.key";

/// Run the ledger as a network of nodes that agree on every block
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse node local --nodes 4 --dir ~/ledger"))]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Make a node, or found a network of nodes that were made
    ///
    /// Each operator makes a node: its key, and an enrolment, which says where it is and holds no secret. One of them founds the network with
    /// all enrolments (--found): he never has a key of another. Then each joins with the file that he made, after all have read its
    /// fingerprint to each other. With --signing threshold the nodes make one key together while they join, all at the same time; then the
    /// founder completes his enrol key (--complete).
    #[command(after_help = help!(
        "blockhouse node init --dir /var/lib/blockhouse-node --name ann --listen 10.0.0.5:9650 --place site=fra-1,provider=acme,region=eu"
    ))]
    Init(init::InitArgs),
    /// Join a network with the file that its founder gave out, which makes the node ready to run
    ///
    /// Compare the fingerprint with the other operators, or give it with --expect: anybody could have made the file.
    ///
    /// With the founding file of a network that is to sign with one key, the nodes make that key now: every validator's operator runs this
    /// at about the same time, and it ends when all have it. It tells who is missing. Killed or stopped anywhere, it is run again.
    #[command(after_help = help!("blockhouse node join --dir /var/lib/blockhouse-node --network network --expect 6e0b…f1"))]
    Join(join::JoinArgs),
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
    /// Show and change who may hand the vault's ledger over to another network, and how many of them it takes
    #[command(after_help = help!("blockhouse node recovery list"))]
    Recovery(recovery::RecoveryArgs),
    /// Found the network of the vault's ledger anew, after it lost more validators for good than it can do without; needs the owner's identity
    ///
    /// It goes on from the highest block that can be had of the nodes that answer and of the sites, under new validators. --dir is the folder
    /// of this host's node, which was made with `node init` as the others were.
    ///
    /// Where it takes several recovery accounts (`node recovery`), --propose writes what the others agree to with `node recovery approve`, and
    /// --approval brings what they gave. Meanwhile nothing changes; if newer blocks are found, it is proposed anew.
    #[command(after_help = help!(
        "blockhouse node refound --dir /var/lib/blockhouse-node --found ben/enrolment cat/enrolment dan/enrolment --identity ~/owner.identity"
    ))]
    Refound(refound::RefoundArgs),
    /// Run the node of a folder, until it is stopped
    #[command(after_help = help!("blockhouse node run --dir /var/lib/blockhouse-node"))]
    Run(run::RunArgs),
    /// Show on one screen how a node is, and what its network survives
    #[command(after_help = help!("blockhouse node status --dir /var/lib/blockhouse-node"))]
    Status(status::StatusArgs),
    /// Show and change the validators of a network whose nodes sign one by one
    #[command(after_help = help!("blockhouse node validators list --dir /var/lib/blockhouse-node"))]
    Validators(validators::ValidatorsArgs),
}

/// How the validators of a new network sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SigningArg {
    /// With shares of one key: short certificates, one key to know; if the ledger is ever forked, the evidence names nobody
    Threshold,
    /// One by one: faster, longer certificates; the evidence of a fork names who signed both sides
    Committee,
}

/// The data folder of a node.
#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The data folder of the node
    #[arg(long = "dir", value_name = "DIR")]
    pub(crate) path: PathBuf,
}

/// What a command of nodes does before the process has threads.
pub(crate) fn before_threads(args: &NodeArgs) {
    if let NodeCommand::Run(_) = &args.command {
        run::begin_with_few_arenas();
    }
}

pub(crate) async fn run(args: NodeArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        NodeCommand::Enrol(args) => enrol::run(args, global, out).await,
        NodeCommand::Init(args) => init::run(args, global, out).await,
        NodeCommand::Join(args) => join::run(&args, out).await,
        NodeCommand::Recovery(args) => recovery::run(args, global, out).await,
        NodeCommand::Refound(args) => refound::run(args, global, out).await,
        NodeCommand::Status(args) => status::run(&args, out).await,
        NodeCommand::Local(args) => local::run(args, out).await,
        NodeCommand::Run(args) => run::run(args, out).await,
        NodeCommand::Validators(args) => validators::run(args, out).await,
    }
}

/// Now, as the time of a block 0.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes what takes the ledger of that genesis over, and gives its path.
fn write_enrol_key(folder: &Path, genesis: &Genesis, owner: AccountSecret) -> Result<PathBuf, FolderError> {
    write_enrol_key_of(folder, &EnrolKey { chain_id: genesis.chain_id, genesis: genesis.hash(), owner })
}

fn write_enrol_key_of(folder: &Path, key: &EnrolKey) -> Result<PathBuf, FolderError> {
    let path = folder.join(ENROL_KEY);
    write_secret(&path, key.to_text().as_bytes())?;
    Ok(path)
}
