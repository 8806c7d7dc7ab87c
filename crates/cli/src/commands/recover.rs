//! `blockhouse recover`

use std::path::PathBuf;

use anyhow::Context;
use blockhouse_homes::NodeUrl;
use blockhouse_sites::SiteSpec;
use blockhouse_types::Fingerprint;
use blockhouse_vault::recover::{
    ChainPlace, ChainReport, ChainState, LeftOut, RecoverError, RecoverReport, RecoverRequest, recover,
};
use blockhouse_vault::unlock::Unlocked;
use clap::Args;
use serde_json::{Value, json};

use super::init::Gwei;
use crate::arguments::{Global, SiteParser};
use crate::exit::{Exit, help};
use crate::failure::one_line;
use crate::opening;
use crate::output::Output;
use crate::passphrase;

/// Get a vault back on a new host, from one site and the identity or paper key
#[derive(Debug, Args)]
#[command(after_help = help!(
    "blockhouse --vault ~/new-vault recover --site /mnt/a --fingerprint 6e0b…f1 --paper-key words.txt"
))]
pub(crate) struct RecoverArgs {
    /// A site of the vault; one that can be reached is enough, more are better
    #[arg(long = "site", value_name = "URL", required = true, value_parser = SiteParser)]
    sites: Vec<SiteSpec>,
    /// A fingerprint of the vault, from the recovery sheet: what never had it is another vault, or forged
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
    /// A receipt that the ledger must contain: proof that nothing before it was rewritten. If a ledger with more handovers does
    /// not contain it, --yes takes the one that does
    #[arg(long, value_name = "RECEIPT")]
    expect: Option<PathBuf>,
    /// A node of the outside chain that the ledger is on, where the recovery sheet names one; repeat for more nodes of it
    #[arg(long = "ledger", value_name = "URL")]
    nodes: Vec<NodeUrl>,
    /// On an outside chain: the block from which on the contracts are searched, from the recovery sheet
    #[arg(long, value_name = "BLOCK", requires = "nodes", default_value_t = 0)]
    since: u64,
    /// On an outside chain a block is final when so many others are above it [default: what the chain itself calls finalized]
    #[arg(long, value_name = "BLOCKS", requires = "nodes")]
    depth: Option<u64>,
    /// On an outside chain offer at most so much for a unit of gas, in gwei [default: 500]
    #[arg(long, value_name = "GWEI", requires = "nodes")]
    max_fee: Option<Gwei>,
    /// Rehearse: make a folder that can read, and change nothing at the sites
    #[arg(long)]
    read_only: bool,
    /// With --read-only: a node of the network that keeps the ledger, lost or not; repeat for more. `node refound`,
    /// `node recovery set` and `host approve` go on from such a folder
    #[arg(long, value_name = "URL", requires = "read_only", conflicts_with = "nodes")]
    network: Vec<NodeUrl>,
    /// The old host is in a stranger's hands: reuse nothing that it wrote
    #[arg(long)]
    host_stolen: bool,
}

pub(crate) async fn run(args: RecoverArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let expect = match &args.expect {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("could not read the receipt {}", path.display()))?)
        }
        None => None,
    };
    let unlocked = opening::unlock(global, None, "recover")?;
    if args.fingerprint.is_none() && matches!(unlocked, Unlocked::Paper(_)) {
        out.warn(format_args!(
            "warning: with the paper key alone nothing tells this vault from a forged one. Give --fingerprint with the one on the recovery sheet, or begin with --read-only and compare."
        ));
    }
    if !args.read_only {
        opening::confirm(global, "Take the vault over? Its old host will not be able to back up any more.")?;
    }
    let folder = global.folder()?;
    let read_only = args.read_only;
    let RecoverArgs { sites, fingerprint, host_stolen, nodes, since, depth, max_fee, network, .. } = args;
    let max_fee_wei = max_fee.map(|max_fee| max_fee.wei);
    let chain = (!nodes.is_empty()).then_some(ChainPlace { nodes, since, depth, max_fee_wei });
    let is_anchored = fingerprint.is_some();
    let request = RecoverRequest {
        folder,
        sites,
        fingerprint,
        expect,
        prefer_expected: false,
        chain,
        read_only,
        network,
        host_stolen,
    };
    match recover_confirmed(request, &unlocked, global, out).await {
        Ok(report) => tell(&report, (read_only, is_anchored), out),
        Err(error) => {
            tell_chains(error.chains(), out);
            if let RecoverError::NoSite { down } = &error {
                for site in down {
                    out.warn(format_args!("{}", one_line(site)));
                }
            }
            Err(error.into())
        }
    }
}

/// Recovers. Where the expected receipt is on a ledger that another one outdoes, the owner is asked, with the evidence shown.
async fn recover_confirmed(
    mut request: RecoverRequest,
    unlocked: &Unlocked,
    global: &Global,
    out: &Output,
) -> Result<RecoverReport, RecoverError> {
    let outdone = match recover(request.clone(), unlocked, global.settings()).await {
        Err(error @ RecoverError::Outdone { .. }) => error,
        done => return done,
    };
    let RecoverError::Outdone { handovers, others, chains } = &outdone else { return Err(outdone) };
    let is_asked = !global.yes && passphrase::is_interactive();
    if is_asked {
        tell_chains(chains, out);
    }
    let question = format!(
        "The ledger with the receipt has {handovers} handovers, another one has {others}. Take the one with the receipt, and outdo the other?"
    );
    let is_confirmed = global.yes || (is_asked && opening::confirm(global, &question).is_ok());
    if !is_confirmed {
        return Err(outdone);
    }
    request.prefer_expected = true;
    recover(request, unlocked, global.settings()).await
}

fn tell_chains(chains: &[ChainReport], out: &Output) {
    for chain in chains {
        let (site, height) = (&chain.site, chain.height);
        let fingerprint = chain.fingerprint.map(|it| it.to_string()).unwrap_or_default();
        match &chain.state {
            ChainState::Same => {
                out.detail(format_args!(
                    "site `{site}` serves the ledger up to block {height}, fingerprint {fingerprint}"
                ));
            }
            ChainState::Behind => {
                out.warn(format_args!("warning: site `{site}` serves an older ledger, up to block {height}"));
            }
            ChainState::Fork { height: from, evidence } => {
                let kept = if evidence.is_some() {
                    "; the folder `forks` of the vault folder has the evidence: blockhouse check-fork"
                } else {
                    ""
                };
                out.warn(format_args!(
                    "warning: site `{site}` serves another ledger from block {from} on, up to block {height}, fingerprint {fingerprint}{kept}"
                ));
            }
            ChainState::Other => {
                out.warn(format_args!(
                    "warning: site `{site}` serves another ledger, or a forged one: it never had the fingerprint asked for, it has {fingerprint}"
                ));
            }
            ChainState::Invalid { why } => {
                out.warn(format_args!("warning: site `{site}` serves no ledger of this vault: {why}"));
            }
        }
    }
}

fn chain_json(chain: &ChainReport) -> Value {
    let state = match &chain.state {
        ChainState::Same => "same",
        ChainState::Behind => "behind",
        ChainState::Fork { .. } => "fork",
        ChainState::Other => "other",
        ChainState::Invalid { .. } => "invalid",
    };
    json!({ "site": chain.site, "height": chain.height, "fingerprint": chain.fingerprint, "state": state })
}

fn left_out_json(left_out: &LeftOut) -> Value {
    json!({ "snapshot": left_out.snapshot, "block": left_out.block, "site": left_out.site })
}

fn tell(report: &RecoverReport, (read_only, is_anchored): (bool, bool), out: &Output) -> anyhow::Result<Exit> {
    tell_chains(&report.chains, out);
    for site in &report.down {
        out.talk(format_args!("site `{site}` is down"));
    }
    out.line(format_args!("vault {} is back, with {} snapshots", report.vault, report.snapshots))?;
    if read_only {
        out.line(format_args!("fingerprint  {} (read only: this host cannot back up)", report.after))?;
    } else {
        out.line(format_args!("fingerprint before  {}\nfingerprint now     {}", report.before, report.after))?;
        out.talk(format_args!("Keep the new recovery sheet elsewhere. The old host is refused from now on."));
    }
    for LeftOut { snapshot, block, site } in &report.left_out {
        out.warn(format_args!(
            "WARNING: snapshot {snapshot}, in block {block} of what site `{site}` serves, is NOT in the vault as it is recovered"
        ));
    }
    if !report.left_out.is_empty() {
        out.warn(format_args!(
            "Another host recorded it while this one took over, or on a ledger that was not taken. Back up the same files here. If they are gone: `blockhouse receipt ID -o FILE` on that host, then `blockhouse --vault NEW_FOLDER recover --expect FILE`, before anything else is backed up here."
        ));
    }
    for file in &report.set_aside {
        out.warn(format_args!(
            "{} is of the vault that was in this folder before. Delete it once nothing is missing: `secrets` hold the keys of the old host.",
            file.display()
        ));
    }
    if !is_anchored {
        let before = report.before;
        out.talk(format_args!("Compare {before} with the fingerprint on the recovery sheet: it must be the same."));
    }
    out.record(&json!({
        "type": "summary",
        "ok": report.left_out.is_empty(),
        "vault": report.vault,
        "fingerprint_before": report.before,
        "fingerprint": report.after,
        "snapshots": report.snapshots,
        "read_only": read_only,
        "chains": report.chains.iter().map(chain_json).collect::<Vec<_>>(),
        "down": report.down,
        "left_out": report.left_out.iter().map(left_out_json).collect::<Vec<_>>(),
        "set_aside": report.set_aside.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
    }))?;
    Ok(if report.left_out.is_empty() { Exit::Success } else { Exit::CheckFailed })
}
