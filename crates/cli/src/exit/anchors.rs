//! What it means for the user that the ledger was not anchored.

use blockhouse_homes::{ExternalError, HomeError};
use blockhouse_vault::anchor::AnchorError;
use blockhouse_vault::folder::LockError;

use super::{Exit, Verdict, of_external, of_home, of_retention};

pub(super) fn of_anchor(error: &AnchorError) -> Option<Verdict> {
    match error {
        AnchorError::Home(HomeError::External(error)) => of_chain(error),
        AnchorError::Home(HomeError::NoBlocks) => Some(Verdict::hinted(
            Exit::Usage,
            "its records are on a chain that others keep already: `receipt` proves them by that chain's own blocks",
        )),
        AnchorError::Home(error) => of_home(error),
        AnchorError::Retention(error) => of_retention(error),
        AnchorError::Lock(LockError::Busy { .. }) => {
            Some(Verdict::hinted(Exit::Busy, "another process of this host anchors: run again when it has ended"))
        }
        AnchorError::NoAccount => {
            Some(Verdict::hinted(Exit::NotAllowed, "anchor from a host that backs up into this vault, or from a node"))
        }
        AnchorError::Rewritten { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "keep what both say: the chain outside proves which history was there first. If you recovered an older copy of the ledger yourself, go on with another account: --key FILE",
        )),
        AnchorError::Calendar(_) => Some(Verdict::hinted(Exit::Failed, "try again later, or name other calendars")),
        AnchorError::NotAnchored { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "anchor it: `blockhouse anchor evm --rpc URL`, or a node with [anchor] in its node.toml",
        )),
        _ => None,
    }
}

/// Of a chain that the user names with each run.
fn of_chain(error: &ExternalError) -> Option<Verdict> {
    let hint = match error {
        ExternalError::NoNode { .. } | ExternalError::Behind { .. } => {
            "bring a node of the chain back, or name others with --rpc URL"
        }
        ExternalError::NotFinal { .. } => {
            "run the command again: what was sent is kept in the vault folder, and is finished first"
        }
        ExternalError::Fee { .. } => "wait until gas is cheaper, or allow more with --max-fee GWEI",
        ExternalError::OtherChain { .. } | ExternalError::OtherGenesis { .. } => "give the URLs of nodes of one chain",
        ExternalError::Dropped { .. } => {
            "ask several nodes. If the chain is right as it is, remove the folder `anchors` of the vault folder, and anchor anew with a greater --depth"
        }
        _ => return of_external(error),
    };
    of_external(error).map(|verdict| Verdict { hint: Some(hint), ..verdict })
}
