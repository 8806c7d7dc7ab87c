//! `blockhouse node init`

use std::net::SocketAddr;
use std::path::PathBuf;

use blockhouse_homes::NodeUrl;
use blockhouse_homes::network::{
    Address, Enrolment, Keys, Label, NodeConfig, NodeFolder, Place, RpcConfig, SyncConfig,
};
use blockhouse_ledger::governance::{EPOCH_LENGTH, EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN};
use blockhouse_types::Account;
use clap::Args;
use serde_json::json;

use super::{Dir, SigningArg, found, grow};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    dir: Dir,
    /// What to call the node: one word that no other node of the network has
    #[arg(long, value_name = "NAME", required_unless_present_any = ["found", "complete"])]
    name: Option<Label>,
    /// Where it listens for other nodes: an address of this machine and a port
    #[arg(long, value_name = "IP:PORT", required_unless_present_any = ["found", "complete"])]
    listen: Option<SocketAddr>,
    /// Where other nodes reach it, if not there: a name, or an address that is translated
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<Address>,
    /// Where it stands, so that it is known what is lost together: site=S,provider=P,region=R, all or some
    #[arg(long, value_name = "PLACE")]
    place: Option<Place>,
    /// The account that speaks for the node on the ledger [default: the node's own]. Where validators share one key and no node speaks by
    /// its own, an operator has one step more to do when they change: `node validators post`
    #[arg(long, value_name = "ACCOUNT")]
    operator: Option<Account>,
    /// Where it answers clients by JSON-RPC [default: 127.0.0.1:8545]
    #[arg(long, value_name = "IP:PORT")]
    rpc_listen: Option<SocketAddr>,
    /// Found a network of the nodes of these enrolments; its files go to --dir, a new folder
    #[arg(
        long,
        value_name = "FILE",
        num_args = 1..,
        conflicts_with_all = ["name", "listen", "address", "place", "operator", "rpc_listen"]
    )]
    found: Vec<PathBuf>,
    /// Let the network take over the ledger of the vault, with its history; needs the owner's identity. --dir is the folder of this host's
    /// node, --found are the enrolments of the others
    #[arg(long, requires = "found", conflicts_with = "signing")]
    from_vault: bool,
    /// Where the vault asks the network's nodes by JSON-RPC from then on; repeat it for more [default: this host's node]
    #[arg(long, value_name = "URL", requires = "from_vault")]
    ledger: Vec<NodeUrl>,
    /// How its validators sign
    #[arg(long, value_enum, default_value_t = SigningArg::Committee, requires = "found")]
    signing: SigningArg,
    /// Complete the enrol key in --dir, once the nodes that were founded there with --signing threshold have made their key: with the
    /// network file of any of them
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["found", "name", "listen", "address", "place", "operator", "rpc_listen"]
    )]
    complete: Option<PathBuf>,
    /// Blocks in an epoch: validators change between two, by the word of the nodes' operators; those that share a key hand it
    /// on
    #[arg(
        long,
        value_name = "BLOCKS",
        default_value_t = EPOCH_LENGTH,
        requires = "found",
        value_parser = clap::value_parser!(u64).range(EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX)
    )]
    epoch_length: u64,
}

pub(crate) async fn run(args: InitArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    if args.from_vault {
        return grow::run(
            grow::Request {
                folder: args.dir.path,
                files: args.found,
                epoch_length: args.epoch_length,
                nodes: args.ledger,
                words: Vec::new(),
            },
            global,
            out,
        )
        .await;
    }
    if let Some(network) = &args.complete {
        return found::complete(network, &args.dir.path, out);
    }
    match (args.name, args.listen) {
        (Some(name), Some(listen)) => {
            let node = NewNode {
                address: address(args.address, listen)?,
                place: args.place.unwrap_or_default(),
                operator: args.operator,
                rpc_listen: args.rpc_listen,
                name,
                listen,
            };
            make(args.dir.path, node, out)
        }
        _ => found::run(&args.found, &args.dir.path, (args.signing, args.epoch_length), out),
    }
}

/// What an operator says of a node.
struct NewNode {
    name: Label,
    listen: SocketAddr,
    address: Address,
    place: Place,
    operator: Option<Account>,
    rpc_listen: Option<SocketAddr>,
}

/// Where others reach a node that listens there.
fn address(given: Option<Address>, listen: SocketAddr) -> anyhow::Result<Address> {
    if let Some(address) = given {
        return Ok(address);
    }
    let hint = "say where with --address HOST:PORT, or give --listen an address of this machine and a port";
    listen
        .to_string()
        .parse()
        .map_err(|_| Refusal::usage(format!("other nodes cannot reach this one at {listen}"), hint).into())
}

fn make(folder: PathBuf, node: NewNode, out: &Output) -> anyhow::Result<Exit> {
    let default = RpcConfig::default();
    let config = NodeConfig {
        listen: node.listen,
        validators: std::collections::BTreeMap::new(),
        followers: Vec::new(),
        rpc_peers: Vec::new(),
        sync: SyncConfig::default(),
        rpc: RpcConfig { listen: node.rpc_listen.unwrap_or(default.listen), ..default },
        metrics: None,
        anchor: None,
        witness: None,
    };
    let folder = NodeFolder::new(folder);
    let NewNode { name, address, place, operator, .. } = node;
    let enrol = |keys: &Keys| {
        let operator = operator.unwrap_or_else(|| keys.account().account());
        Enrolment::sign(keys, name, address, place, Some(operator))
    };
    let enrolment = folder.prepare(Keys::generate(&mut rand::rng()), &config, enrol)?;
    let file = folder.enrolment();
    out.line(format_args!("key        {}", enrolment.key_text()))?;
    out.line(format_args!("address    {}", enrolment.address()))?;
    out.line(format_args!("enrolment  {}", file.display()))?;
    out.talk(format_args!(
        "\nGive the enrolment to who founds the network; it holds no secret. {} does, and stays here.\nThe founder: blockhouse node init --found ENROLMENT… --dir NEW\nThen here: blockhouse node join --dir {} --network FILE",
        folder.path().join("node.key").display(),
        folder.path().display(),
    ));
    out.record(&json!({
        "type": "summary", "ok": true, "name": enrolment.name().as_str(), "public": enrolment.key_text(),
        "address": enrolment.address().as_str(), "file": file,
    }))?;
    Ok(Exit::Success)
}
