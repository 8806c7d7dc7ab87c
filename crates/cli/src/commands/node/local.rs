//! `blockhouse node local`

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use blockhouse_crypto::AccountSecret;
use blockhouse_homes::NodeUrl;
use blockhouse_homes::network::{Founding, Governed, Keys, NodeConfig, NodeFolder, RpcConfig, Signing, SyncConfig};
use blockhouse_ledger::governance::{EPOCH_LENGTH, EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN, Founder};
use clap::Args;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::{ENROL_KEY, SigningArg, now, write_enrol_key};
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::output::Output;
use crate::stopping;

/// How long a node may take to end when it is asked to, before it is killed: it stands that.
const END_TIME: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// How many nodes; with 3f+1 of them any f may be down
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: u16,
    /// The folder that holds the nodes' folders
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The first node's port for JSON-RPC; the others follow it
    #[arg(long, default_value_t = 8545, value_name = "PORT")]
    rpc_port: u16,
    /// The first node's port for other nodes; the others follow it
    #[arg(long, default_value_t = 9650, value_name = "PORT")]
    port: u16,
    /// How the nodes of a new network sign
    #[arg(long, value_enum, default_value_t = SigningArg::Threshold)]
    signing: SigningArg,
    /// Blocks in an epoch, where the nodes sign one by one: validators change between two
    #[arg(
        long,
        value_name = "BLOCKS",
        default_value_t = EPOCH_LENGTH,
        value_parser = clap::value_parser!(u64).range(EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX)
    )]
    epoch_length: u64,
}

pub(crate) async fn run(args: LocalArgs, out: &Output) -> anyhow::Result<Exit> {
    let folders: Vec<PathBuf> = (1..=args.nodes).map(|number| args.dir.join(format!("node-{number}"))).collect();
    if !args.dir.join(ENROL_KEY).try_exists().unwrap_or(false) {
        check_ports(&args)?;
        found(&args, &folders)?;
    }
    let program = std::env::current_exe().context("could not find this program's own file")?;
    // All of them, before any is waited for: one may need the others to heal.
    let mut started = Vec::new();
    for (number, folder) in (1_u16..).zip(&folders) {
        started.push(start(&program, folder).with_context(|| format!("could not start node {number}"))?);
    }
    let (mut nodes, mut ended) = (Vec::new(), JoinSet::new());
    for ((number, folder), mut node) in (1_u16..).zip(&folders).zip(started) {
        let lines = node.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        // Its first line says that it answers.
        let first = match lines {
            Some(mut lines) => lines.next_line().await.ok().flatten(),
            None => None,
        };
        match first {
            Some(line) => out.line(format_args!("node {number}: {}", line.trim_start_matches("the node ")))?,
            None => out.warn(format_args!("node {number} did not start: what it said stands above")),
        }
        out.record(&json!({ "type": "node", "number": number, "dir": folder, "pid": node.id() }))?;
        nodes.push(node.stdin.take());
        ended.spawn(async move { (number, node.wait().await, node) });
    }
    tell(&args, out)?;
    watch(&mut ended, &folders, out).await;
    // A node ends when its input does.
    drop(nodes);
    let all = tokio::time::timeout(END_TIME, async { while ended.join_next().await.is_some() {} });
    if all.await.is_err() {
        out.warn(format_args!("warning: some nodes did not end in {} s and are killed", END_TIME.as_secs()));
    }
    Ok(Exit::Success)
}

/// Makes the folders of a new network; the file that says so is written last.
fn found(args: &LocalArgs, folders: &[PathBuf]) -> anyhow::Result<()> {
    let mut random = rand::rng();
    let owner = AccountSecret::random(&mut random);
    let keys: Vec<Keys> = folders.iter().map(|_| Keys::generate(&mut random)).collect();
    let mut validators = std::collections::BTreeMap::new();
    for (index, keys) in keys.iter().enumerate() {
        validators.insert(NodeConfig::name_of(keys), at(args.port, index)?.to_string());
    }
    let signing = match args.signing {
        SigningArg::Threshold => Signing::Threshold,
        SigningArg::Committee => Signing::Committee,
    };
    let governed = Governed::by_operators(args.epoch_length, founders(args, &keys)?);
    // Who has all nodes in one hand founds a network with one key for its short certificates, and no governors.
    let governed = governed.filter(|_| signing == Signing::Committee);
    let founding = Founding { owner: owner.account(), time: now(), signing, validators: keys, governed };
    let founded = founding.found(&mut random)?;
    for (index, (folder, keys)) in folders.iter().zip(&founded.keys).enumerate() {
        let config = NodeConfig {
            listen: at(args.port, index)?,
            validators: validators.clone(),
            followers: Vec::new(),
            rpc_peers: rpc_peers(args, index)?,
            sync: SyncConfig::default(),
            rpc: RpcConfig { listen: at(args.rpc_port, index)?, debug: true, ..RpcConfig::default() },
            metrics: None,
            anchor: None,
            witness: None,
        };
        // What a kill left of an earlier try is of another network.
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not remove what is left at {}", folder.display()));
            }
            _ => {}
        }
        NodeFolder::new(folder).create(&founded.file, keys, &config)?;
    }
    // A folder without it is begun anew.
    write_enrol_key(&args.dir, &founded.file.genesis, owner)?;
    Ok(())
}

/// What the ledger says of the nodes: each speaks for itself.
fn founders(args: &LocalArgs, keys: &[Keys]) -> anyhow::Result<Vec<Founder>> {
    let founder = |(index, keys): (usize, &Keys)| {
        let (address, operator) = (at(args.port, index)?.to_string(), keys.account().account());
        Ok(Founder { key: keys.public(), address, operator })
    };
    keys.iter().enumerate().map(founder).collect()
}

/// Where a node listens that begins counting at that port.
fn at(port: u16, index: usize) -> anyhow::Result<SocketAddr> {
    let port = u16::try_from(index).ok().and_then(|index| port.checked_add(index));
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).context("the ports end at 65535")
}

/// The others, the next one first: nodes that heal do not all ask the same.
fn rpc_peers(args: &LocalArgs, index: usize) -> anyhow::Result<Vec<NodeUrl>> {
    let count = usize::from(args.nodes);
    let others = (1..count).map(|step| (index + step) % count);
    others.map(|other| Ok(format!("http://{}", at(args.rpc_port, other)?).parse()?)).collect()
}

/// A port that is taken shows before anything is made.
fn check_ports(args: &LocalArgs) -> anyhow::Result<()> {
    for first in [args.port, args.rpc_port] {
        for port in (first..=u16::MAX).take(usize::from(args.nodes)) {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                Refusal::usage(
                    format!("port {port} of this machine cannot be used: {error}"),
                    "choose others with --port and --rpc-port",
                )
            })?;
        }
    }
    Ok(())
}

fn start(program: &Path, folder: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["node", "run", "--with-parent", "--dir"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // A signal of the terminal is for this process: it ends the others in order.
    command.process_group(0);
    command.spawn()
}

fn tell(args: &LocalArgs, out: &Output) -> anyhow::Result<()> {
    let f = (args.nodes - 1) / 3;
    out.line(format_args!("{} nodes agree, any {f} of them may be down; Ctrl-C ends them", args.nodes))?;
    out.line(format_args!(
        "to keep a vault on it: blockhouse init --ledger http://127.0.0.1:{} --enrol-key {} …",
        args.rpc_port,
        args.dir.join(ENROL_KEY).display()
    ))?;
    Ok(())
}

/// Tells of nodes that end, until this command is to end.
async fn watch(
    ended: &mut JoinSet<(u16, std::io::Result<std::process::ExitStatus>, Child)>,
    folders: &[PathBuf],
    out: &Output,
) {
    loop {
        tokio::select! {
            () = stopping::asked() => return,
            gone = ended.join_next() => match gone {
                None => return,
                Some(Ok((number, status, _))) => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    let folder = folders.get(usize::from(number - 1)).map(|folder| folder.display().to_string());
                    out.warn(format_args!(
                        "node {number} ended ({status}); start it again with: blockhouse node run --dir {}",
                        folder.unwrap_or_default()
                    ));
                }
                Some(Err(error)) => out.warn(format_args!("a node could not be waited for: {error}")),
            },
        }
    }
}
