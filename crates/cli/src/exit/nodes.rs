//! What the end of a node means for its operator.

use blockhouse_homes::StoreError;
use blockhouse_homes::network::pool::journal::JournalError;
use blockhouse_homes::network::{EngineError, FolderError, HealError, NodeError, ProposalError, StartError};

use super::{Exit, NEWER, Verdict};

const CONFIG: &str = "correct it: docs/reference/node.md says what each key means";
const VALIDATORS: &str = "correct [validators] in node.toml: every validator of the network with the host:port where it listens, by its public key";
const DISK: &str =
    "give its disk space, or mend it, and start the node again: it catches up with the others, which go on meanwhile";
const PORT: &str = "another program has the port: stop it, or change it in node.toml";
const OTHERS: &str = "stop it for good, and keep its folder: nothing that only it has is on the ledger any more. To take part again, make a new node in a new folder and join the new network";
const PAST: &str =
    "name the JSON-RPC of nodes that run in `rpc_peers` of node.toml: what the ledger held before comes from them";
const OTHER_PAST: &str = "compare `network` with the other operators; if it is right, the nodes in `rpc_peers` gave another history: name others there, remove `ledger.redb`, and start the node again";
const OWN_FILES: &str = "`node.key`, `network`, `ledger.redb` and the folder `engine` are of one node of one network: put back what belongs here; each node needs a folder of its own";
const USED: &str =
    "a node runs in this folder already, or a command reads its ledger: each node needs a folder of its own";
const LEDGER: &str = "put a copy of the `ledger.redb` of another node of this network in its place, made while that one was stopped; all else in the folder stays";
const JOURNAL: &str = "if the disk is full, give it space and start the node again; if files are damaged, move the folder `journal` in `engine/epoch-N` of the node aside: it then follows the others and votes no more in this epoch, for its votes are lost";

pub(super) fn of_running(error: &NodeError) -> Option<Verdict> {
    match error {
        NodeError::Folder(error) => of_folder(error),
        NodeError::Config(_) | NodeError::Peers(_) => Some(failed(CONFIG)),
        NodeError::OtherGenesis { .. } => Some(failed(OWN_FILES)),
        NodeError::HandedOver { .. } => Some(Verdict::hinted(Exit::NotAllowed, OTHERS)),
        NodeError::NoPast { .. } => Some(failed(PAST)),
        NodeError::OtherPast { .. } => Some(failed(OTHER_PAST)),
        NodeError::Store(StoreError::Busy { .. }) => Some(Verdict::hinted(Exit::Busy, USED)),
        NodeError::Store(StoreError::Newer { .. }) => Some(failed(NEWER)),
        NodeError::Store(StoreError::Damaged { .. } | StoreError::Missing { .. })
        | NodeError::Heal(HealError::NoPeers { .. } | HealError::Peers { .. })
        | NodeError::Chain(_) => Some(Verdict::hinted(Exit::LedgerUnreachable, LEDGER)),
        NodeError::NothingLeft => Some(failed(
            "start the other nodes first; if there are none, this validator's key must not be used again: another takes its place",
        )),
        NodeError::Journal(JournalError::Newer { .. }) => Some(failed(
            "run the version that wrote it; without the file the node starts, and what was handed in and is not final is lost",
        )),
        NodeError::Store(_)
        | NodeError::Forks(_)
        | NodeError::Sync(_)
        | NodeError::Heal(_)
        | NodeError::Journal(_)
        | NodeError::DamagedAgain { .. }
        | NodeError::FailedAgain { .. } => Some(failed(DISK)),
        NodeError::Engine(error) => of_start(error),
        NodeError::Server(_) | NodeError::Metrics { .. } => Some(failed(PORT)),
        NodeError::Ended(error) => Some(failed(of_engine(error))),
        _ => None,
    }
}

/// What other recovery accounts gave is not enough, or of something else.
pub(super) fn of_proposal(error: &ProposalError) -> Option<Verdict> {
    match error {
        ProposalError::TooFew { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "with --propose FILE it is written what they agree to with `blockhouse node recovery approve`; --approval FILE brings what each gave",
        )),
        ProposalError::OtherProposal { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "propose it anew with --propose FILE: something was recorded since, or other nodes are meant",
        )),
        ProposalError::Twice { .. } | ProposalError::Sender { .. } | ProposalError::NotRecovery { .. } => {
            Some(Verdict::hinted(
                Exit::Usage,
                "leave that --approval out; `blockhouse node recovery list` shows the accounts",
            ))
        }
        _ => None,
    }
}

const fn failed(hint: &'static str) -> Verdict {
    Verdict::hinted(Exit::Failed, hint)
}

/// What is not said of a folder here is said where it is made.
fn of_folder(error: &FolderError) -> Option<Verdict> {
    match error {
        FolderError::OtherLedger { .. } => Some(failed(OWN_FILES)),
        FolderError::Keys { .. } => Some(failed("put the key back as it was made; without it this validator is lost")),
        FolderError::Config(_) => Some(failed(CONFIG)),
        FolderError::Io { .. } => Some(failed(DISK)),
        error => super::of_node_folder(error),
    }
}

fn of_start(error: &StartError) -> Option<Verdict> {
    match error {
        StartError::NoAddress { .. } | StartError::Address { .. } | StartError::NoKey { .. } => {
            Some(failed(VALIDATORS))
        }
        StartError::Peers { .. } => Some(failed(CONFIG)),
        StartError::OtherNode { .. } => Some(failed(OWN_FILES)),
        StartError::NodeFile { .. } => Some(failed(
            "move the folder `engine` of the node aside: it then follows the others and votes no more in this epoch, for its votes are lost",
        )),
        StartError::Folder { .. } => Some(failed(DISK)),
        // These are judged by themselves.
        _ => None,
    }
}

const fn of_engine(error: &EngineError) -> &'static str {
    match error {
        EngineError::Application(_) => DISK,
        _ => JOURNAL,
    }
}
