//! `blockhouse node join`

use std::path::PathBuf;

use blockhouse_homes::NodeUrl;
use blockhouse_homes::network::{FoundingFile, Joining, NodeFolder};
use blockhouse_types::Fingerprint;
use clap::Args;
use serde_json::json;

use super::{Dir, gather, shown};
use crate::exit::Exit;
use crate::output::{Output, extend};

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(super) dir: Dir,
    /// The network file, as the founder or any node of the network has it; or the founding file of a network that is to sign with one key
    #[arg(long, value_name = "FILE")]
    pub(super) network: PathBuf,
    /// The fingerprint that the other operators read; of a founding file, its number
    #[arg(long, value_name = "FINGERPRINT")]
    pub(super) expect: Option<Fingerprint>,
    /// Follow the network: a full copy of the ledger, and no vote
    #[arg(long)]
    pub(super) follower: bool,
    /// Another node's JSON-RPC, from which this node heals its store if that is altered; repeat it for more
    #[arg(long = "rpc-peer", value_name = "URL")]
    pub(super) rpc_peers: Vec<NodeUrl>,
    /// How long to wait for the others where a key is made; without end, if not told
    #[arg(long, value_name = "SECONDS")]
    pub(super) wait: Option<u64>,
}

pub(crate) async fn run(args: &JoinArgs, out: &Output) -> anyhow::Result<Exit> {
    if FoundingFile::is_at(&args.network) {
        return gather::run(args, out).await;
    }
    let mut joining =
        Joining::plan(NodeFolder::new(&args.dir.path), &args.network, args.follower)?.healed_by(&args.rpc_peers);
    if let Some(expected) = args.expect {
        joining = joining.expect(expected)?;
    }
    let mut summary = shown::network(joining.network(), out)?;
    joining.execute()?;
    let (role, key) = (if args.follower { "follower" } else { "validator" }, joining.key_text());
    out.line(format_args!("joined as {role} {key}"))?;
    if args.expect.is_none() {
        out.talk(format_args!(
            "\nCompare the fingerprint with the other operators, all of it, before you start the node: another one is another network."
        ));
    }
    if args.follower {
        out.talk(format_args!(
            "\nValidators serve only followers that they name. In node.toml of some of them, above the first line that begins with `[`:\n  followers = [\"{key}\"]\nThey take it up while they run."
        ));
    }
    out.talk(format_args!("\nNext: blockhouse node run --dir {}", args.dir.path.display()));
    extend(&mut summary, json!({ "role": role, "public": key }));
    out.record(&summary)?;
    Ok(Exit::Success)
}
