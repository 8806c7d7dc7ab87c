//! `blockhouse demo`
//!
//! Runs this very binary, as a user would, and prints every command that it runs.

mod compare;
mod damage;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;

use crate::exit::{Exit, help};
use crate::output::Output;
use compare::compare;
use stage::Stage;

/// Real blocks of Bitcoin's main network; `fixtures/bitcoin/SOURCES.md` says where they come from.
const BLOCKS: [(&str, &[u8]); 7] = [
    ("blocks-1-255.dat", include_bytes!("../../../../fixtures/bitcoin/btcd/blocks1-255.dat")),
    ("block-169482.dat", include_bytes!("../../../../fixtures/bitcoin/bitcoinj/block169482.dat")),
    ("block-227835.dat", include_bytes!("../../../../fixtures/bitcoin/bitcoinj/block227835.dat")),
    ("block-277647.dat", include_bytes!("../../../../fixtures/bitcoin/btcd/block277647.dat")),
    ("block-333961.blk", include_bytes!("../../../../fixtures/bitcoin/electrs/block333961.blk")),
    ("block-370661.dat", include_bytes!("../../../../fixtures/bitcoin/bitcoinj/block370661.dat")),
    ("block-702861.raw", include_bytes!("../../../../fixtures/bitcoin/rust-bitcoin/block702861.raw")),
];
/// The folder that they are written to.
const BLOCKS_FOLDER: &str = "mainnet-blocks";

/// Watch it work: real data over six sites, two destroyed, a third corrupted, all restored, and a proof of it
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse demo ~/documents"))]
pub(crate) struct DemoArgs {
    /// Your own data, backed up too; it is only read
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Keep the scratch folder
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &DemoArgs, out: &Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let own = args.path.as_deref().map(Own::find).transpose()?;
    let stage = Stage::set(args.keep, out)?;
    show(&stage, own.as_ref())?;
    stage.say(&format!(
        "\nAll of it was checked by the commands above, not by this text. {:.0} s.",
        started.elapsed().as_secs_f64()
    ))?;
    Ok(Exit::Success)
}

/// The user's own data.
struct Own {
    path: PathBuf,
    name: PathBuf,
}

impl Own {
    fn find(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("could not find {}", path.display()))?;
        let name = path.file_name().map(PathBuf::from);
        let name =
            name.with_context(|| format!("{} has no name to restore it under; give a folder in it", path.display()))?;
        ensure!(name != Path::new(BLOCKS_FOLDER), "the demo has a folder of that name; rename yours for it");
        Ok(Self { path, name })
    }
}

fn show(stage: &Stage, own: Option<&Own>) -> anyhow::Result<()> {
    prepare(stage)?;
    let own_path = own.map(|own| own.path.to_string_lossy().into_owned());
    let mut backup = vec!["backup", BLOCKS_FOLDER];
    backup.extend(own_path.as_deref());

    stage.step("Back up: cut, encrypt, code 4+2, spread over the sites, record on the ledger")?;
    stage.run(&backup, Exit::Success)?;

    stage.step("Back up again: nothing changed, so nothing new is stored")?;
    stage.run(&backup, Exit::Success)?;

    stage.step("Disaster: two of the six sites are destroyed")?;
    for site in ["sites/two", "sites/five"] {
        stage.destroy(site)?;
    }

    stage.step("Repair at once, needs no key: what they held is made again at the four sites that are left")?;
    stage.run(&["repair"], Exit::Degraded)?;
    stage.say("  Exit code 7 says: done, but not as safe as planned until the two sites are back.")?;

    stage.step("Disaster again: a third site corrupts every shard it holds")?;
    stage.corrupt("sites/three")?;
    stage.say(
        "  (All three in the same moment would be more than a 4+2 code survives: that is what the repair was for.)",
    )?;

    stage.step("Verify: it must notice, and say how bad it is")?;
    stage.run(&["verify", "latest", "--read-data"], Exit::CheckFailed)?;

    stage.step("Restore from the three good sites that are left, and compare byte for byte")?;
    stage.run(&["restore", "latest", "--to", "restored"], Exit::Success)?;
    let restored = stage.path("restored");
    let pairs = match own {
        None => vec![(stage.path(BLOCKS_FOLDER), restored)],
        Some(own) => vec![
            (stage.path(BLOCKS_FOLDER), restored.join(BLOCKS_FOLDER)),
            (own.path.clone(), restored.join(&own.name)),
        ],
    };
    for (original, copy) in pairs {
        let compared = compare(&original, &copy)?;
        stage.say(&format!("  the same, byte for byte: {} files, {} bytes", compared.files, compared.bytes))?;
    }

    stage.step("Repair: the destroyed sites come back as empty folders, and the corrupt shards are replaced")?;
    for site in ["sites/two", "sites/five"] {
        stage.make_folder(site)?;
    }
    stage.run(&["repair", "--read-data"], Exit::Success)?;

    stage.step("Verify again: every byte of every shard, every file opened")?;
    stage.run(&["verify", "--read-data"], Exit::Success)?;

    prove(stage)
}

fn prepare(stage: &Stage) -> anyhow::Result<()> {
    stage.step("Real data: blocks of Bitcoin's main network")?;
    stage.make_folder(BLOCKS_FOLDER)?;
    for (name, bytes) in BLOCKS {
        stage.write(&format!("{BLOCKS_FOLDER}/{name}"), bytes)?;
    }

    stage.step("Make a vault over six sites")?;
    stage.make_folder("sites")?;
    let mut init = vec!["init", "--no-passphrase", "--identity-out", "owner.identity", "--paper-key-out", "paper.txt"];
    for site in ["sites/one", "sites/two", "sites/three", "sites/four", "sites/five", "sites/six"] {
        init.extend(["--site", site]);
    }
    stage.run(&init, Exit::Success)?;
    stage.say(
        "  Honestly: these six sites are six folders of ONE disk, and would all die with it. Real sites lie on disks of\n  \
         their own, in places of their own. And a real identity has a passphrase and is kept away from this host.",
    )
}

/// A receipt, checked where there is no vault, and the ledger's own words.
fn prove(stage: &Stage) -> anyhow::Result<()> {
    stage.step("A receipt, checked offline by somebody who has no vault, only the fingerprint")?;
    stage.run(&["receipt", "latest", "-o", "receipt.json"], Exit::Success)?;
    let status = stage.ask(&["status", "--json"])?;
    let fingerprint = status.get("fingerprint").and_then(|value| value.as_str());
    let fingerprint = fingerprint.context("the status shows no fingerprint")?;
    stage.run_outside(&["check-receipt", "receipt.json", "--fingerprint", fingerprint], Exit::Success)?;

    stage.step("The same receipt with one digit changed proves nothing")?;
    stage.flip_digit("receipt.json", "forged.json")?;
    stage.run_outside(&["check-receipt", "forged.json", "--fingerprint", fingerprint], Exit::CheckFailed)?;

    stage.step("What the ledger says about all this")?;
    stage.run(&["history"], Exit::Success)
}
