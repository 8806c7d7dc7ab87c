//! Refusals of the command line itself, and how any error is printed: once, with its causes and a hint.

use std::path::PathBuf;

use blockhouse_types::{BlockHash, Fingerprint};

use crate::exit::{Exit, verdict};
use crate::output::{Output, OutputError};

/// What the command line refuses by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{what}")]
    Usage { what: String, hint: Option<&'static str> },
    #[error("{what} needs the identity or the paper key")]
    MissingIdentity { what: &'static str },
    #[error("{what} needs the owner's identity")]
    OwnerOnly { what: &'static str },
    #[error("the receipt is of the vault with fingerprint {found}; whether that is your vault was not said")]
    NoFingerprint { found: Fingerprint },
    #[error(
        "the receipt holds if block {height} of chain {chain} has the hash {hash}: nobody was asked, and anyone can make such a file around a block that never was"
    )]
    NotVouched { chain: u64, height: u64, hash: BlockHash },
    #[error(
        "block {height} has the hash {hash} in the file and {found} on the chain: it was never on it, or was dropped from it"
    )]
    OtherBlock { height: u64, hash: BlockHash, found: BlockHash },
    #[error(
        "the anchor holds if block {height} of chain {chain} has the hash {hash}: nobody was asked, and anyone can make such a file around a block that never was"
    )]
    AnchorNotVouched { chain: u64, height: u64, hash: BlockHash },
    #[error("the anchor file has no cosignature of the witness {key}")]
    NotCosigned { key: String },
    #[error("the anchor file leads to no Bitcoin block with the Merkle root of {hash}")]
    OtherRoot { hash: String },
    #[error("the chain has no block {height} yet")]
    NoSuchBlock { height: u64 },
    #[error("block {height} is on the chain and not final yet: the chain may still drop it")]
    NotFinal { height: u64 },
    #[error("the file speaks of chain {chain}, the node is of another one, with the id {found}")]
    OtherChain { chain: u64, found: u64 },
    #[error("the target `{}` is not empty", path.display())]
    TargetNotEmpty { path: PathBuf },
    #[error("the snapshot has no entry `{path}`")]
    NoEntry { path: String },
    #[error("{what}")]
    Protected { what: String, is_owner: bool },
    #[cfg(feature = "node")]
    #[error("the node at {url} gives no status: {why}")]
    Silent { url: String, why: String },
    #[error("not confirmed, nothing was done")]
    Declined,
}

impl Refusal {
    /// Wrong usage, with what may help.
    pub(crate) fn usage(what: impl Into<String>, hint: &'static str) -> Self {
        Self::Usage { what: what.into(), hint: Some(hint) }
    }
}

/// Prints an error and gives the exit code it stands for.
pub(crate) fn report(out: &Output, error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<OutputError>().is_some_and(OutputError::is_closed) {
        // Whoever reads our output has had enough; there is nobody to tell.
        return Exit::Failed;
    }
    let verdict = verdict(error);
    out.warn(format_args!("error: {error}"));
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if text != said {
            out.warn(format_args!("  caused by: {text}"));
        }
        said = text;
    }
    if let Some(hint) = verdict.hint {
        out.warn(format_args!("\nhint: {hint}"));
    }
    verdict.exit
}

/// An error with its causes on one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
