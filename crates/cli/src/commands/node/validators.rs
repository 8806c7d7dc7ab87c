//! `blockhouse node validators`

use std::path::PathBuf;

use blockhouse_homes::network::{
    Address, AddressError, Enrolment, Governing, NodeFolder, Posting, ProposalId, Sets, Step,
};
use blockhouse_homes::{NodeUrl, Remote};
use clap::{Args, Subcommand};
use serde_json::json;

use super::status::local_url;
use super::{Dir, found};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::text;

#[derive(Debug, Args)]
pub(crate) struct ValidatorsArgs {
    #[command(subcommand)]
    command: ValidatorsCommand,
}

#[derive(Debug, Subcommand)]
enum ValidatorsCommand {
    /// Show the validators now and later, and what is proposed
    #[command(after_help = help!("blockhouse node validators list --dir /var/lib/blockhouse-node"))]
    List(Asked),
    /// Propose a change of the validators, and approve it, by the node's own account
    ///
    /// The account must be a governor, which those of the nodes that founded the network are, and enrolled (`blockhouse node enrol`). A third of
    /// one less than there are validators may come, go or be replaced in one step.
    #[command(after_help = help!("blockhouse node validators propose --dir /var/lib/blockhouse-node --replace 9f0c…a1 --by ~/eve/enrolment"))]
    Propose(ProposeArgs),
    /// Approve a proposal by the node's own account
    #[command(after_help = help!("blockhouse node validators approve 0x5b1e…07 --dir /var/lib/blockhouse-node"))]
    Approve(OneArgs),
    /// Take an approval back
    #[command(after_help = help!("blockhouse node validators withdraw 0x5b1e…07 --dir /var/lib/blockhouse-node"))]
    Withdraw(OneArgs),
    /// Carry out a proposal that enough governors approve: it is in force from the epoch after the next one
    #[command(after_help = help!("blockhouse node validators enact 0x5b1e…07 --dir /var/lib/blockhouse-node"))]
    Enact(OneArgs),
    /// Post that all have their shares of the key, where no node may
    ///
    /// Where validators share one key they hand it on by themselves, and a node whose own account is the operator's posts what came of it. Where all
    /// operators keep their accounts elsewhere (`node init --operator`), one of them does that: `node status` says when. It speaks for itself, so
    /// it does not matter who, nor which node hands it out.
    #[command(after_help = help!("blockhouse node validators post --dir ~/office --ledger http://127.0.0.1:8545"))]
    Post(PostArgs),
}

/// Which node is asked.
#[derive(Debug, Args)]
struct Asked {
    /// The data folder of a node, on this machine
    #[arg(long, value_name = "DIR", required_unless_present = "ledger")]
    dir: Option<PathBuf>,
    /// The URL of its JSON-RPC [default: that of the folder's node]
    #[arg(long, value_name = "URL")]
    ledger: Option<NodeUrl>,
}

/// Who signs, and which node is handed the transaction.
#[derive(Debug, Args)]
struct Signer {
    #[command(flatten)]
    dir: Dir,
    /// The URL of the JSON-RPC that is asked [default: that of the folder's node]
    #[arg(long, value_name = "URL")]
    ledger: Option<NodeUrl>,
}

#[derive(Debug, Args)]
struct ProposeArgs {
    #[command(flatten)]
    signer: Signer,
    /// The enrolment of a node that gets a vote; repeat it for more
    #[arg(long, value_name = "ENROLMENT")]
    add: Vec<PathBuf>,
    /// The enrolment of a node that follows, and is served by all; repeat it for more
    #[arg(long, value_name = "ENROLMENT")]
    add_follower: Vec<PathBuf>,
    /// The public key of a node that goes; repeat it for more
    #[arg(long, value_name = "KEY", value_parser = key)]
    remove: Vec<[u8; 32]>,
    /// The public key of a node in whose place another comes; repeat it, each with a --by
    #[arg(long, value_name = "KEY", value_parser = key, requires = "by")]
    replace: Vec<[u8; 32]>,
    /// The enrolment of the node that comes in the place of the replaced one
    #[arg(long, value_name = "ENROLMENT", requires = "replace")]
    by: Vec<PathBuf>,
    /// A node that is reached elsewhere, by its public key; the others find it there from that epoch on, without being started again. Repeat it
    /// for more
    #[arg(long = "move", value_name = "KEY=HOST:PORT", value_parser = moved)]
    moved: Vec<([u8; 32], Address)>,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The id of the proposal
    #[arg(value_name = "PROPOSAL")]
    proposal: ProposalId,
    #[command(flatten)]
    signer: Signer,
}

#[derive(Debug, Args)]
struct PostArgs {
    /// The folder whose node.key has the account of an operator; no node need run there
    #[arg(long, value_name = "DIR", required_unless_present = "print")]
    dir: Option<PathBuf>,
    /// The URL of the JSON-RPC of a node that takes part [default: that of the folder's node]
    #[arg(long, value_name = "URL", required_unless_present = "dir")]
    ledger: Option<NodeUrl>,
    /// Post nothing: show the transaction, for a wallet that has the account
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(args: ValidatorsArgs, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        ValidatorsCommand::List(asked) => list(asked, out).await?,
        ValidatorsCommand::Propose(args) => propose(&args, out).await?,
        ValidatorsCommand::Approve(args) => {
            let (governing, account) = signer(&args.signer).await?;
            governing.approve(&account, args.proposal).await?;
            let sets = governing.sets().await?;
            let given = sets.open.iter().find(|open| open.proposal == args.proposal).map_or(0, |open| open.approvals);
            out.line(format_args!("approved: {given} of {} governors", sets.threshold))?;
            if given >= sets.threshold {
                out.talk(format_args!("Next: blockhouse node validators enact {} --dir DIR", args.proposal));
            }
            done(args.proposal, out)?;
        }
        ValidatorsCommand::Withdraw(args) => {
            let (governing, account) = signer(&args.signer).await?;
            governing.withdraw(&account, args.proposal).await?;
            out.line(format_args!("the approval is taken back"))?;
            done(args.proposal, out)?;
        }
        ValidatorsCommand::Enact(args) => {
            let (governing, account) = signer(&args.signer).await?;
            governing.enact(&account, args.proposal).await?;
            let sets = governing.sets().await?;
            let from = sets.sets.last().map_or(0, |set| set.from);
            let first = from.saturating_mul(sets.epoch_length);
            out.line(format_args!("enacted: in force from epoch {from}, which begins with block {first}"))?;
            done(args.proposal, out)?;
        }
        ValidatorsCommand::Post(args) => post(args, out).await?,
    }
    Ok(Exit::Success)
}

async fn post(args: PostArgs, out: &Output) -> anyhow::Result<()> {
    let folder = NodeFolder::new(args.dir.unwrap_or_default());
    let account = if args.print { None } else { Some(folder.read_keys()?.account()) };
    let url = args.ledger.map_or_else(|| local_url(&folder), Ok)?;
    let governing = Governing::of(Remote::new(vec![url])?).await?;
    let posting = governing.posting().await?;
    let from = posting.from();
    let operators: Vec<String> = posting.operators().iter().map(|operator| format!("{operator:#x}")).collect();
    let (to, data) = (format!("{:#x}", Posting::to()), posting.data().to_string());
    if let Some(account) = account {
        governing.post(&account, &posting).await?;
        out.line(format_args!("posted: all of the set of epoch {from} have their shares"))?;
        out.talk(format_args!("`blockhouse node status` says with which epoch it takes over."));
    } else {
        out.data(format_args!("to    {to}"))?;
        out.data(format_args!("data  {data}"))?;
        out.data(format_args!("from one of {}", operators.join(", ")))?;
    }
    out.record(&json!({
        "type": "summary", "ok": true, "from": from, "posted": !args.print, "to": to, "data": data, "operators": operators,
    }))?;
    Ok(())
}

fn done(proposal: ProposalId, out: &Output) -> anyhow::Result<()> {
    out.record(&json!({ "type": "summary", "ok": true, "proposal": proposal.to_string() }))?;
    Ok(())
}

async fn signer(signer: &Signer) -> anyhow::Result<(Governing, blockhouse_crypto::AccountSecret)> {
    let folder = NodeFolder::new(&signer.dir.path);
    let account = folder.read_keys()?.account();
    let url = signer.ledger.clone().map_or_else(|| local_url(&folder), Ok)?;
    Ok((Governing::of(Remote::new(vec![url])?).await?, account))
}

async fn propose(args: &ProposeArgs, out: &Output) -> anyhow::Result<()> {
    let mut steps = Vec::new();
    if args.replace.len() != args.by.len() {
        let what = format!("{} nodes are replaced by {}", args.replace.len(), args.by.len());
        return Err(Refusal::usage(what, "give one --by ENROLMENT for each --replace KEY").into());
    }
    for (key, file) in args.replace.iter().zip(&args.by) {
        steps.push(Step::Replace(*key, found::read(file)?));
    }
    steps.extend(args.remove.iter().copied().map(Step::Remove));
    for (files, votes) in [(&args.add, true), (&args.add_follower, false)] {
        for file in files {
            steps.push(Step::Add(found::read(file)?, votes));
        }
    }
    if steps.is_empty() && args.moved.is_empty() {
        return Err(Refusal::usage(
            "nothing is proposed",
            "say what: --add, --add-follower, --remove, --replace with --by, --move",
        )
        .into());
    }
    let changes = steps.iter().map(|step| step.change().ok_or_else(|| without_operator(step)));
    let mut changes = changes.collect::<Result<Vec<_>, _>>()?;
    let (governing, account) = signer(&args.signer).await?;
    for (key, address) in &args.moved {
        changes.push(governing.moved(*key, address).await?);
    }
    let proposal = governing.propose(&account, changes).await?;
    out.line(format_args!("proposed: {proposal}"))?;
    out.talk(format_args!(
        "Each other governor, after he has looked at it: blockhouse node validators approve {proposal} --dir DIR"
    ));
    done(proposal, out)
}

fn without_operator(step: &Step) -> Refusal {
    let name = match step {
        Step::Add(enrolment, _) | Step::Replace(_, enrolment) => Enrolment::name(enrolment).to_string(),
        Step::Remove(_) => String::new(),
    };
    Refusal::usage(
        format!("the enrolment of `{name}` names no account that speaks for the node"),
        "make the node again with this release: blockhouse node init",
    )
}

async fn list(asked: Asked, out: &Output) -> anyhow::Result<()> {
    let url = match (asked.ledger, asked.dir) {
        (Some(url), _) => url,
        (None, dir) => local_url(&NodeFolder::new(dir.unwrap_or_default()))?,
    };
    let sets = Governing::of(Remote::new(vec![url])?).await?.sets().await?;
    tell(&sets, out)
}

fn tell(sets: &Sets, out: &Output) -> anyhow::Result<()> {
    let next = (sets.epoch + 1).saturating_mul(sets.epoch_length);
    out.data(format_args!("epoch {} at block {}; the next begins with block {next}", sets.epoch, sets.height))?;
    for set in &sets.sets {
        let when = if set.from <= sets.epoch { "now".to_owned() } else { format!("from epoch {}", set.from) };
        out.data(format_args!("{when}"))?;
        for member in &set.members {
            let role = if member.votes { "validator" } else { "follower " };
            out.data(format_args!("  {role}  {}  {}  {:#x}", shown(&member.key), member.address, member.operator))?;
            out.record(&json!({
                "type": "set-member", "from": set.from, "public": shown(&member.key), "address": member.address,
                "operator": format!("{:#x}", member.operator), "votes": member.votes,
            }))?;
        }
    }
    out.data(format_args!(
        "{} of {} change them",
        sets.threshold,
        text::count(sets.governors.len() as u64, "governor")
    ))?;
    for open in &sets.open {
        out.data(format_args!("proposed {} by {:#x}, approved by {}", open.proposal, open.by, open.approvals))?;
        for change in open.told() {
            out.data(format_args!("  {change}"))?;
        }
        out.record(&json!({
            "type": "proposal", "proposal": open.proposal.to_string(), "by": format!("{:#x}", open.by),
            "changes": open.told(), "approvals": open.approvals,
        }))?;
    }
    let governors: Vec<String> = sets.governors.iter().map(|account| format!("{account:#x}")).collect();
    out.record(&json!({
        "type": "summary", "ok": true, "height": sets.height, "epoch": sets.epoch, "epoch_length": sets.epoch_length,
        "next_epoch_block": next, "governors": governors, "threshold": sets.threshold,
    }))?;
    Ok(())
}

/// Reads a public key as `node status` shows it.
fn key(text: &str) -> Result<[u8; 32], String> {
    let refused = || "a node's public key is 64 hex digits".to_owned();
    if text.len() != 64 || !text.is_ascii() {
        return Err(refused());
    }
    let mut key = [0; 32];
    for (place, byte) in key.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2).ok_or_else(refused)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
    }
    Ok(key)
}

/// Reads where which node is.
fn moved(text: &str) -> Result<([u8; 32], Address), String> {
    let (node, address) = text.split_once('=').ok_or_else(|| "it looks like KEY=HOST:PORT".to_owned())?;
    Ok((key(node)?, address.parse().map_err(|error: AddressError| error.to_string())?))
}

/// As `node status` shows it.
fn shown(key: &[u8; 32]) -> String {
    hex::encode(key)
}
