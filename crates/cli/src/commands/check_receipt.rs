//! `blockhouse check-receipt`

mod anchored;

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use blockhouse_crypto::hash::ContentHasher;
use blockhouse_homes::NodeUrl;
use blockhouse_homes::external::ChainWord;
use blockhouse_ledger::anchor::ANCHOR_FILE_MAX;
use blockhouse_ledger::receipt::{Checked, FileFacts, RECEIPT_MAX, Receipt, Vouched};
use blockhouse_types::{BlockHash, Fingerprint};
use blockhouse_vault::vault::local_fingerprint;
use clap::Args;
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::text;
use anchored::{Anchored, Means, WitnessKey, witness_key};

/// Check a receipt, offline; works without a vault
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse check-receipt receipt.json --fingerprint 6e0b…f1 --file letter.txt"))]
pub(crate) struct CheckReceiptArgs {
    /// The receipt
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    /// The fingerprint of the vault, from its owner [default: that of the vault here]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
    /// What `receipt --anchored` wrote: check that the receipt was not made later than others outside saw its block
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Of an anchor, or of a vault on an outside chain: ask this node of that chain, which you trust, whether the block is on it, and final
    #[arg(long, value_name = "URL", conflicts_with = "block")]
    rpc: Option<NodeUrl>,
    /// Of an anchor, or of a vault on an outside chain: the hash of that block, as a node that you trust, or an explorer, shows it
    #[arg(long, value_name = "HASH")]
    block: Option<BlockHash>,
    /// Of an anchor in Bitcoin: the header of its block, as a node that you trust gives it: 160 hex digits, or a file of them or of its 80 bytes
    #[arg(long, value_name = "HEX|FILE", requires = "anchor")]
    bitcoin_header: Option<OsString>,
    /// The public key of a witness that you know, which must have cosigned; repeat it for each that must
    #[arg(long = "witness", value_name = "KEY", value_parser = witness_key, requires = "anchor")]
    witnesses: Vec<WitnessKey>,
    /// Compare this file with the one that the receipt proves
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(args: CheckReceiptArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let receipt = Receipt::parse(&read(&args.receipt)?)?;
    let fingerprints = match args.fingerprint {
        Some(fingerprint) => Some((fingerprint, fingerprint)),
        None => of_vault_here(global, receipt.height()).await?,
    };
    let (now, then) = fingerprints.ok_or(Refusal::NoFingerprint { found: receipt.fingerprint() })?;
    // A receipt from before other validators followed is of the fingerprint that the vault had then.
    let checked = receipt.check(Some(now)).or_else(|error| receipt.check(Some(then)).map_err(|_| error))?;
    if let Some(path) = &args.file {
        let Some(facts) = &checked.file else {
            let hint = "make one of the file: blockhouse receipt SNAP PATH";
            return Err(Refusal::usage("the receipt is of a whole snapshot and proves no file", hint).into());
        };
        compare(path, facts)?;
    }
    let (trust, anchored) = match &args.anchor {
        Some(path) => {
            let means =
                Means { rpc: args.rpc, block: args.block, bitcoin: args.bitcoin_header, witnesses: args.witnesses };
            (None, anchored::shown_by(path, &receipt, &checked, means).await?)
        }
        None => (vouch(&receipt, &checked, (args.rpc, args.block)).await?, Vec::new()),
    };
    tell(&checked, (args.file.as_deref(), trust.as_ref(), &anchored), out)?;
    if let Some(Trust { trusted, is_final }) = trust {
        let word = if is_final == Some(true) { " and final" } else { ". Nobody said whether it is final" };
        out.talk(format_args!("trusted: {trusted}{word}"));
    }
    Ok(Exit::Success)
}

/// Who vouches for the block of an outside chain.
struct Trust {
    trusted: String,
    /// Whether they say that it is final; none if they do not say.
    is_final: Option<bool>,
}

/// Of an outside chain everything hangs on the hash of one block. Who says that it is on the chain is named; nobody is assumed.
async fn vouch(
    receipt: &Receipt,
    checked: &Checked,
    (rpc, block): (Option<NodeUrl>, Option<BlockHash>),
) -> anyhow::Result<Option<Trust>> {
    let (height, hash, chain) = (checked.height, checked.block, checked.chain_id);
    if checked.vouched == Vouched::ByKey {
        let hint = "leave out --rpc and --block: the receipt is certified by the ledger's own key; they are for an anchor, which --anchor FILE gives";
        let is_asked = rpc.is_some() || block.is_some();
        return if is_asked {
            Err(Refusal::usage("the receipt is of no outside chain", hint).into())
        } else {
            Ok(None)
        };
    }
    if let Some(given) = block {
        let trusted = format!("whoever said that block {height} of chain {chain} is {given}");
        return if given == hash {
            Ok(Some(Trust { trusted, is_final: None }))
        } else {
            Err(Refusal::OtherBlock { height, hash, found: given }.into())
        };
    }
    let Some(url) = rpc else { return Err(Refusal::NotVouched { chain, height, hash }.into()) };
    let trusted = format!("the node at {url}, which says that block {height} of chain {chain} is {hash}");
    let is_final = ask(url, (chain, receipt.genesis()), (height, hash)).await?;
    Ok(Some(Trust { trusted, is_final }))
}

/// Has a node say that its chain has that block; whether it is final, if it says so.
async fn ask(
    url: NodeUrl,
    (chain, genesis): (u64, BlockHash),
    (height, hash): (u64, BlockHash),
) -> anyhow::Result<Option<bool>> {
    let word = ChainWord::ask(url, height).await?;
    if (word.chain_id, word.genesis) != (chain, genesis) {
        return Err(Refusal::OtherChain { chain, found: word.chain_id }.into());
    }
    match word.block {
        Some(found) if found == hash => {}
        Some(found) => return Err(Refusal::OtherBlock { height, hash, found }.into()),
        None => return Err(Refusal::NoSuchBlock { height }.into()),
    }
    // What the chain may still drop proves nothing yet.
    if word.is_final == Some(false) {
        return Err(Refusal::NotFinal { height }.into());
    }
    Ok(word.is_final)
}

/// The bytes of a receipt or an anchor file, and no more than one above the most that either may have: then it is refused as too long.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    const _: () = assert!(RECEIPT_MAX >= ANCHOR_FILE_MAX, "an anchor file is read as a receipt is");
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(RECEIPT_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("could not read {}", path.display()))?;
    Ok(bytes)
}

/// The fingerprint of the vault in the vault folder, now and at that height, if there is one, by the ledger on this host: no site is opened.
async fn of_vault_here(global: &Global, height: u64) -> anyhow::Result<Option<(Fingerprint, Fingerprint)>> {
    let Ok(folder) = global.folder() else { return Ok(None) };
    if !folder.exists() {
        return Ok(None);
    }
    Ok(Some(local_fingerprint(&folder, height).await?))
}

fn compare(path: &Path, facts: &FileFacts) -> anyhow::Result<()> {
    let failed = || format!("could not read {}", path.display());
    let mut file = std::fs::File::open(path).with_context(failed)?;
    let (mut hasher, mut length, mut buffer) = (ContentHasher::new(), 0_u64, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).with_context(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
    facts
        .check_file(length, &hasher.finish())
        .with_context(|| format!("{} is not the file that the receipt proves", path.display()))
}

fn tell(
    checked: &Checked,
    (file, trust, anchored): (Option<&Path>, Option<&Trust>, &[Anchored]),
    out: &Output,
) -> anyhow::Result<()> {
    let time = text::moment(checked.time);
    out.line(format_args!("good: snapshot {} was recorded at {time}", checked.snapshot))?;
    out.line(format_args!(
        "block {} of the ledger {}, vault {}",
        checked.height, checked.chain_id, checked.fingerprint
    ))?;
    if let Some(facts) = &checked.file {
        let path = text::tree_path(&facts.path);
        out.line(format_args!("it holds `{path}` with {} bytes", facts.entry.length))?;
        match file {
            Some(file) => out.line(format_args!("and {} has its content, byte for byte", file.display()))?,
            None => out.talk(format_args!("to compare a file with it, give --file FILE")),
        }
    }
    for anchored in anchored {
        out.line(format_args!("{}", anchored.line()))?;
    }
    out.record(&json!({
        "type": "summary",
        "ok": true,
        "snapshot": checked.snapshot,
        "source": checked.source,
        "fingerprint": checked.fingerprint,
        "chain_id": checked.chain_id,
        "block": checked.height,
        "block_hash": checked.block,
        "vouched": if checked.vouched == Vouched::ByKey { "key" } else { "chain" },
        "trusted": trust.map(|trust| &trust.trusted),
        "final": trust.map_or(Some(true), |trust| trust.is_final),
        "time": checked.time,
        "d": checked.commit.d,
        "w": checked.commit.w,
        "wd": checked.commit.wd,
        "path": checked.file.as_ref().map(|facts| text::tree_path(&facts.path)),
        "file_compared": file.is_some(),
        "anchored": anchored.iter().map(Anchored::record).collect::<Vec<_>>(),
    }))?;
    Ok(())
}
