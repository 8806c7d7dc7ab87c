//! `blockhouse init`

use std::path::{Path, PathBuf};

use anyhow::Context;
use blockhouse_crypto::EnrolKey;
use blockhouse_homes::NodeUrl;
use blockhouse_sites::SiteSpec;
use blockhouse_types::Code;
use blockhouse_vault::init::{Claim, Elsewhere, InitError, InitReport, InitRequest, OnChain, init};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::{Global, SiteParser};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::opening::ask_line;
use crate::output::Output;
use crate::passphrase;

/// Seconds for which nobody, the owner included, can remove a snapshot after its commit: a week to notice an intruder.
const FLOOR_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Make a vault: keys, sites and a ledger
#[derive(Debug, Args)]
#[command(after_help = help!(
    "blockhouse init --site /mnt/a --site /mnt/b --site /mnt/c --identity-out ~/owner.identity --paper-key-out ~/paper.txt"
))]
pub(crate) struct InitArgs {
    /// A site: a folder, or a file:, s3:, sftp: or webdav: URL; repeat for more. Say where it is:
    /// ,name=N,region=R,provider=P; and how fast it may be used: ,upload=RATE,download=RATE
    #[arg(long = "site", value_name = "URL[,…]", required = true, value_parser = SiteParser)]
    sites: Vec<SiteSpec>,
    /// Where the ledger is kept, instead of one that this host seals: with --enrol-key the nodes of a network, whose ledger is
    /// taken over; without it the nodes of any EVM chain, on which the contracts are made. Repeat for more nodes of it
    #[arg(long = "ledger", value_name = "URL")]
    nodes: Vec<NodeUrl>,
    /// On an outside chain a block is final when so many others are above it [default: what the chain itself calls finalized]
    #[arg(long, value_name = "BLOCKS", requires = "nodes", conflicts_with = "enrol_key")]
    depth: Option<u64>,
    /// On an outside chain offer at most so much for a unit of gas, in gwei [default: 500]
    #[arg(long, value_name = "GWEI", requires = "nodes", conflicts_with = "enrol_key")]
    max_fee: Option<Gwei>,
    /// The enrol key file of that ledger, which its founder gave out. Run again after an interruption, with the same files, it
    /// goes on
    #[arg(long, value_name = "FILE", requires = "nodes")]
    enrol_key: Option<PathBuf>,
    /// K shards of data and M of parity; K is at least 1 [default: by the number of sites]
    #[arg(long, value_name = "K+M")]
    code: Option<Code>,
    /// Where the owner's identity file goes; keep it away from this host
    #[arg(long, value_name = "FILE")]
    identity_out: Option<PathBuf>,
    /// Where the words of the paper key go; `-` prints them
    #[arg(long, value_name = "FILE|-")]
    paper_key_out: Option<PathBuf>,
}

pub(crate) async fn run(args: InitArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let folder = global.folder()?;
    let (identity_out, paper_out) = where_keys_go(args.identity_out, args.paper_key_out)?;
    let ledger = elsewhere(args.nodes, args.enrol_key.as_deref(), (args.depth, args.max_fee))?;
    // What an earlier try left is taken up where the ledger is elsewhere.
    if ledger.is_none() && paper_out != Path::new("-") && paper_out.symlink_metadata().is_ok() {
        return Err(InitError::FileExists { path: paper_out }.into());
    }
    let code = args.code.unwrap_or_else(|| Code::default_for(args.sites.len()));
    if code.parity() == 0 {
        out.warn(format_args!(
            "WARNING: the code {code} has NO PARITY. The loss of ANY ONE of its sites loses data, and nothing can repair it."
        ));
    }
    let passphrase = passphrase::new(global, "New passphrase for the identity: ")?;
    let sites = args.sites;
    let request = InitRequest {
        folder: folder.clone(),
        identity_out: identity_out.clone(),
        paper_out: (paper_out != Path::new("-")).then(|| paper_out.clone()),
        passphrase,
        sites,
        code: args.code,
        floor_seconds: FLOOR_SECONDS,
        ledger,
    };
    let report = init(request, global.settings()).await?;
    if paper_out == Path::new("-") {
        let words = report.paper.words();
        out.record(&json!({ "type": "paper-key", "words": words.as_str() }))?;
        out.data(format_args!("{}", words.as_str()))?;
    }
    tell(&report, out)?;
    out.talk(format_args!(
        "\nThe identity is in {}{}.\nKeep both away from this host: either of them opens everything, and without them nothing is read again.\nThe recovery sheet, which holds no secret, is in {}: keep a copy elsewhere too.\nNext: blockhouse backup PATH",
        identity_out.display(),
        if paper_out == Path::new("-") { ", the paper key was printed above".to_owned() } else { format!(", the paper key in {}", paper_out.display()) },
        folder.recovery_sheet().display(),
    ));
    Ok(Exit::Success)
}

/// A price of gas, in gwei and parts of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gwei {
    pub(crate) wei: u64,
}

impl std::str::FromStr for Gwei {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a price in gwei looks like 30 or 0.5";
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 9 || !are_digits(whole) || !are_digits(part) {
            return Err(WRONG);
        }
        format!("{whole}{part:0<9}").parse().map(|wei| Self { wei }).map_err(|_| WRONG)
    }
}

/// Who keeps the ledger, if this host does not.
fn elsewhere(
    nodes: Vec<NodeUrl>,
    enrol_key: Option<&Path>,
    (depth, max_fee): (Option<u64>, Option<Gwei>),
) -> anyhow::Result<Option<Elsewhere>> {
    Ok(match (enrol_key, nodes.is_empty()) {
        (Some(path), _) => Some(Elsewhere::Network(claim(nodes, path)?)),
        (None, false) => {
            Some(Elsewhere::Chain(OnChain { nodes, depth, max_fee_wei: max_fee.map(|max_fee| max_fee.wei) }))
        }
        (None, true) => None,
    })
}

/// The ledger that is to be taken over.
fn claim(nodes: Vec<NodeUrl>, path: &Path) -> anyhow::Result<Claim> {
    let file = std::fs::read(path).with_context(|| format!("could not read the enrol key {}", path.display()))?;
    let key = EnrolKey::parse(&Zeroizing::new(file)).with_context(|| format!("could not use {}", path.display()))?;
    Ok(Claim { nodes, key })
}

/// Where identity and paper key go: as given, or asked for at a terminal.
fn where_keys_go(identity: Option<PathBuf>, paper: Option<PathBuf>) -> anyhow::Result<(PathBuf, PathBuf)> {
    let missing = match (&identity, &paper) {
        (None, None) => "--identity-out and --paper-key-out are",
        (None, Some(_)) => "--identity-out is",
        (Some(_), None) => "--paper-key-out is",
        (Some(_), Some(_)) => "",
    };
    if !missing.is_empty() && !passphrase::is_interactive() {
        let hint = "say where the keys go: --identity-out FILE --paper-key-out FILE, or `-` to print the paper key";
        return Err(Refusal::usage(format!("{missing} needed without a terminal"), hint).into());
    }
    let ask = |prompt: &str, default: &str| -> anyhow::Result<PathBuf> {
        let line = ask_line(&format!("{prompt} [{default}] "))?;
        Ok(PathBuf::from(if line.is_empty() { default } else { &line }))
    };
    let identity = identity.map_or_else(|| ask("Where shall the identity file go?", "owner.identity"), Ok)?;
    let paper = paper.map_or_else(|| ask("Where shall the words of the paper key go (- prints them)?", "-"), Ok)?;
    Ok((identity, paper))
}

fn tell(report: &InitReport, out: &Output) -> anyhow::Result<()> {
    let mut probes = Vec::new();
    for (site, probe) in &report.probes {
        let free = probe.free_bytes.map_or_else(String::new, |free| format!("; {} free", crate::text::bytes(free)));
        let kept = if probe.synced { "durable renames" } else { "objects come whole" };
        out.talk(format_args!("site `{site}` keeps its promises: {kept}, nothing overwritten{free}"));
        let caveats = probe.caveats();
        for caveat in &caveats {
            out.talk(format_args!("site `{site}` cannot promise all: {caveat}"));
        }
        probes.push(json!({
            "site": site,
            "free_bytes": probe.free_bytes,
            "total_bytes": probe.total_bytes,
            "caveats": caveats,
        }));
    }
    let lines = report.survey.lines();
    if let Some((plan, cautions)) = lines.split_first() {
        out.line(format_args!("{plan}"))?;
        // What looks safer than it is, is said whatever else is not.
        for caution in cautions {
            out.warn(format_args!("warning: {caution}"));
        }
    }
    out.line(format_args!("vault        {}", report.vault))?;
    out.line(format_args!("fingerprint  {}", report.fingerprint))?;
    let durability = report.survey.durability;
    out.record(&json!({
        "type": "summary",
        "vault": report.vault,
        "fingerprint": report.fingerprint,
        "code": report.survey.code.to_string(),
        "w": durability.w,
        "wd": durability.wd,
        "survey": lines,
        "sites": probes,
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_in_gwei_may_have_parts() {
        let wei = |text: &str| text.parse::<Gwei>().map(|price| price.wei);
        assert_eq!(wei("30"), Ok(30_000_000_000));
        assert_eq!(wei("0.5"), Ok(500_000_000));
        assert_eq!(wei("1.000000001"), Ok(1_000_000_001));
        for wrong in ["", ".5", "-1", "1.0000000001", "1e9", "30 gwei", "99999999999999"] {
            assert!(wei(wrong).is_err(), "{wrong}");
        }
    }
}
