//! `blockhouse check-fork`

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use blockhouse_ledger::fork::{FORK_EVIDENCE_MAX, ForkEvidence, ProvedFork, SignedBy};
use blockhouse_types::Fingerprint;
use blockhouse_vault::vault::local_fingerprint;
use clap::Args;
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;

/// Check evidence that the ledger has forked, offline; works without a vault
///
/// Two blocks of one height that the ledger's key certified both: a network can make them only if more than a third of its validators, or thieves of their
/// keys, break the rules. Nodes and hosts keep such evidence in their folder `forks`. Exit code 4 says that the fork is proved.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse check-fork fork-71-5b0e3c5a91d2f046 --fingerprint 6e0b…f1"))]
pub(crate) struct CheckForkArgs {
    /// The evidence
    #[arg(value_name = "FILE")]
    evidence: PathBuf,
    /// The fingerprint of the vault, from its owner [default: that of the vault here]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
}

pub(crate) async fn run(args: CheckForkArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let mut bytes = Vec::new();
    std::fs::File::open(&args.evidence)
        .and_then(|file| file.take(FORK_EVIDENCE_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("could not read {}", args.evidence.display()))?;
    let evidence =
        ForkEvidence::decode(&bytes).with_context(|| format!("{} is no fork evidence", args.evidence.display()))?;
    let fingerprints = match args.fingerprint {
        Some(asked) => Some((asked, asked)),
        None => fingerprints_here(global, &evidence).await?,
    };
    let Some((now, then)) = fingerprints else {
        let found = evidence.check(None)?.fingerprint;
        let what = format!(
            "the fork evidence is of the vault with fingerprint {found}; whether that is your vault was not said"
        );
        let hint = "anyone can make a ledger that forks: get the fingerprint from the vault's owner and give it with --fingerprint";
        return Err(Refusal::usage(what, hint).into());
    };
    // Evidence from before other validators followed is of the fingerprint that the vault had then.
    let proved = evidence.check(Some(now)).or_else(|error| evidence.check(Some(then)).map_err(|_| error))?;
    tell(&proved, out)?;
    Ok(Exit::CheckFailed)
}

/// The fingerprint of the vault in the vault folder, now and at the height of the evidence, if there is a vault.
async fn fingerprints_here(
    global: &Global,
    evidence: &ForkEvidence,
) -> anyhow::Result<Option<(Fingerprint, Fingerprint)>> {
    let Ok(folder) = global.folder() else { return Ok(None) };
    if !folder.exists() {
        return Ok(None);
    }
    let [side, _] = evidence.sides();
    Ok(Some(local_fingerprint(&folder, side.header.number).await?))
}

fn tell(proved: &ProvedFork, out: &Output) -> anyhow::Result<()> {
    let ProvedFork { fingerprint, chain_id, height, blocks, by, .. } = proved;
    out.line(format_args!("FORKED: the ledger {chain_id}, vault {fingerprint}, has two certified blocks {height}"))?;
    for block in blocks {
        out.line(format_args!("block    {block}"))?;
    }
    let signers: Vec<String> = proved.signers().iter().map(hex::encode).collect();
    for signer in &signers {
        out.line(format_args!("signer   {signer}"))?;
    }
    out.line(format_args!("{}", accused(by)))?;
    let (kind, voters, one_view) = match by {
        SignedBy::Operator => ("operator", None, None),
        SignedBy::Group => ("group", None, None),
        SignedBy::Validators { of, one_view, .. } => ("validators", Some(of), Some(one_view)),
    };
    out.record(&json!({
        "type": "summary",
        "ok": false,
        "fingerprint": fingerprint,
        "chain_id": chain_id,
        "block": height,
        "block_hashes": blocks,
        "signers": signers,
        "signed_by": kind,
        "voters": voters,
        "one_view": one_view,
    }))?;
    Ok(())
}

/// What that says of them, and no more.
fn accused(by: &SignedBy) -> String {
    match by {
        SignedBy::Operator => {
            "the one operator's key signed both: it is used twice, as by a copy of the vault folder, or it is stolen, or he lies".to_owned()
        }
        SignedBy::Group => {
            "both are signed by the key that all validators share. That names nobody: more than a third of them took part in both, and which cannot be told".to_owned()
        }
        SignedBy::Validators { both, of, one_view: true } => format!(
            "these {} of {of} validators signed both in one view: each of them, or who has its key, broke the rules",
            both.len()
        ),
        SignedBy::Validators { both, of, one_view: false } => format!(
            "these {} of {of} validators signed both, in two views: more than a third of the validators broke the rules, and most likely these; the messages of both views tell which",
            both.len()
        ),
    }
}
