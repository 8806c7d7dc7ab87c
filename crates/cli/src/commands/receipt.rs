//! `blockhouse receipt`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use blockhouse_vault::anchor::anchor_file;
use blockhouse_vault::folder::write_durably;
use blockhouse_vault::receipt::{of_file, of_snapshot};
use blockhouse_vault::select::{self, SnapshotRef};
use clap::Args;
use serde_json::json;

use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, text};

/// Make a receipt: a proof, to be checked offline, that a snapshot or one file of it is on the ledger
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse receipt latest -o receipt.json"))]
pub(crate) struct ReceiptArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`
    #[arg(value_name = "SNAP")]
    snapshot: SnapshotRef,
    /// One file of it, as `ls` shows it; needs the identity
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Where the receipt goes [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what proves that the snapshot was not recorded later: an anchor of its block, or of one that follows it
    #[arg(long, value_name = "FILE")]
    anchored: Option<PathBuf>,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: ReceiptArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let known = select::one(&vault, &args.snapshot, &args.selectors.into()).await?;
    let receipt = match &args.path {
        None => of_snapshot(&vault, &known).await?,
        Some(path) => {
            let unlocked = opening::unlock(global, Some(vault.id()), "a receipt of one file")?;
            of_file(&vault, &unlocked, &known, path.as_bytes()).await?
        }
    };
    // Before the receipt, so that a failure leaves no half of the two.
    if let Some(path) = &args.anchored {
        let bytes = anchor_file(&vault, known.record.block).await?.to_bytes();
        write_durably(path, 0o644, &bytes)?;
        out.talk(format_args!("what was anchored, {} bytes, in {}", bytes.len(), path.display()));
    }
    let bytes = receipt.to_bytes();
    match &args.output {
        Some(path) => {
            write_durably(path, 0o644, &bytes)?;
            let id = text::short(&known.record.id);
            out.talk(format_args!("receipt of snapshot {id}, {} bytes, in {}", bytes.len(), path.display()));
            let anchor = args.anchored.as_ref().map(|anchor| format!(" --anchor {} --rpc URL", anchor.display()));
            out.talk(format_args!(
                "anyone can check it: blockhouse check-receipt {} --fingerprint {}{}",
                path.display(),
                receipt.fingerprint(),
                anchor.unwrap_or_default()
            ));
            out.record(&json!({
                "type": "summary",
                "ok": true,
                "snapshot": known.record.id,
                "fingerprint": receipt.fingerprint(),
                "file": path,
                "bytes": bytes.len(),
                "anchor": args.anchored,
            }))?;
        }
        None => out.raw(&bytes)?,
    }
    Ok(Exit::Success)
}
