//! The exit codes, and the one place where an error is given its code and its hint.
//!
//! The table for users is `docs/reference/exit-codes.md`; a test compares the two.

mod anchors;
mod changes;
mod growth;
#[cfg(feature = "node")]
mod nodes;
#[cfg(test)]
mod tests;

use std::error::Error;

use blockhouse_crypto::enrol_key::EnrolKeyError;
use blockhouse_crypto::identity::OpenIdentityError;
use blockhouse_crypto::recipient::UnwrapError;
#[cfg(feature = "node")]
use blockhouse_homes::network::{
    CeremonyError, EnrolmentError, FolderError, GatherError, GoverningError, JoinError, StartError,
};
use blockhouse_homes::{ExternalError, HomeError, RemoteError, StoreError};
use blockhouse_ledger::anchor::{BitcoinHeaderError, CheckAnchorError, ParseAnchorError};
use blockhouse_ledger::receipt::{CheckError, FileError, ParseError};
use blockhouse_pipeline::host_request::RequestError;
use blockhouse_pipeline::placement::PlacementError;
use blockhouse_pipeline::wraps::OpenWrapsError;
use blockhouse_sites::{Cause, CreateError, Trouble};
use blockhouse_sources::files::{ExcludeError, OpenSourceError, RestoreError};
use blockhouse_sources::files_from::ListError;
use blockhouse_sources::stream::StreamError;
use blockhouse_vault::backup::copy::CopyError;
use blockhouse_vault::backup::{BackupError, WalkError};
use blockhouse_vault::blocks::GuardError;
use blockhouse_vault::diff::LiveError;
use blockhouse_vault::dump::DumpError;
use blockhouse_vault::find::GlobError;
use blockhouse_vault::folder::{ConfigError, LockError, ProfileError};
use blockhouse_vault::forget::ForgetError;
use blockhouse_vault::hooks::HookError;
use blockhouse_vault::hosts::HostsError;
use blockhouse_vault::init::InitError;
use blockhouse_vault::keys::KeysError;
use blockhouse_vault::ledger::LedgerError;
use blockhouse_vault::mount::OpenMountError;
use blockhouse_vault::prune::PruneError;
use blockhouse_vault::publish::TooFewCopies;
use blockhouse_vault::reader::OpenSnapshotError;
use blockhouse_vault::receipt::MakeReceiptError;
use blockhouse_vault::recover::RecoverError;
use blockhouse_vault::repair::RepairVaultError;
use blockhouse_vault::restore::{Guarded, RestoreSnapshotError};
use blockhouse_vault::retention::RetentionError;
use blockhouse_vault::select::SelectError;
use blockhouse_vault::unlock::{BagError, UnlockError};
use blockhouse_vault::vault::OpenError;
use blockhouse_vault::verify::VerifyError;

#[cfg(feature = "mount")]
use crate::commands::mount::PointError;
use crate::failure::Refusal;
use crate::opening::advice;
use anchors::of_anchor;
use changes::{of_alarm, of_bag_change, of_rotate, of_site_change};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// It failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// Done, but some files could not be read or restored as they were.
    Unreadable,
    /// A check failed: damage, tampering, or a receipt that proves nothing.
    CheckFailed,
    /// The vault's rules refuse it, or the identity is missing.
    NotAllowed,
    /// The ledger cannot be reached, or too few sites to seal on it.
    LedgerUnreachable,
    /// Recorded, but it survives less than the plan.
    Degraded,
    /// There is no vault.
    NoVault,
    /// Another process is at it.
    Busy,
    /// The passphrase is wrong or missing.
    WrongPassphrase,
    /// Stopped by the user.
    Interrupted,
}

impl Exit {
    /// Its number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreadable => 3,
            Self::CheckFailed => 4,
            Self::NotAllowed => 5,
            Self::LedgerUnreachable => 6,
            Self::Degraded => 7,
            Self::NoVault => 10,
            Self::Busy => 11,
            Self::WrongPassphrase => 12,
            Self::Interrupted => 130,
        }
    }
}

/// The end of each `--help`: an example and the exit codes.
macro_rules! help {
    ($example:literal) => {
        concat!(
            "Example:\n  ",
            $example,
            "\n\n",
            "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 some files unreadable; 4 a check failed; 5 not allowed or ",
            "identity missing; 6 ledger not reachable; 7 recorded but degraded; 10 no vault; 11 busy; ",
            "12 wrong passphrase; 130 interrupted"
        )
    };
}
pub(crate) use help;

/// What an error means for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What may help.
    pub(crate) hint: Option<&'static str>,
}

impl Verdict {
    const fn hinted(exit: Exit, hint: &'static str) -> Self {
        Self { exit, hint: Some(hint) }
    }

    const fn plain(exit: Exit) -> Self {
        Self { exit, hint: None }
    }
}

/// The verdict on an error: that of the first cause that decides.
pub(crate) fn verdict(error: &anyhow::Error) -> Verdict {
    error.chain().find_map(judge).unwrap_or(Verdict::plain(Exit::Failed))
}

/// The verdict on one cause, if it decides. Errors behind `transparent` variants are not causes of their own: each judge
/// asks those of its own variants.
fn judge(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    None.or_else(|| cause.downcast_ref().map(of_refusal))
        .or_else(|| cause.downcast_ref().and_then(of_open))
        .or_else(|| cause.downcast_ref().and_then(of_config))
        .or_else(|| cause.downcast_ref().and_then(of_init))
        .or_else(|| cause.downcast_ref().and_then(of_hosts))
        .or_else(|| cause.downcast_ref().map(of_request))
        .or_else(|| cause.downcast_ref().map(of_enrol_key))
        .or_else(|| cause.downcast_ref().and_then(of_backup))
        .or_else(|| cause.downcast_ref().and_then(of_copy))
        .or_else(|| of_mount(cause))
        .or_else(|| cause.downcast_ref().and_then(of_restore))
        .or_else(|| cause.downcast_ref().and_then(of_verify))
        .or_else(|| cause.downcast_ref().and_then(of_repair))
        .or_else(|| cause.downcast_ref().and_then(of_alarm))
        .or_else(|| cause.downcast_ref().and_then(of_retention))
        .or_else(|| cause.downcast_ref().and_then(of_forget))
        .or_else(|| cause.downcast_ref().and_then(of_prune))
        .or_else(|| cause.downcast_ref().and_then(of_lock))
        .or_else(|| cause.downcast_ref().and_then(of_open_snapshot))
        .or_else(|| cause.downcast_ref().and_then(of_unwrap))
        .or_else(|| cause.downcast_ref().and_then(of_anchor))
        .or_else(|| cause.downcast_ref().and_then(of_receipt))
        .or_else(|| cause.downcast_ref().and_then(of_recover))
        .or_else(|| cause.downcast_ref().and_then(of_select))
        .or_else(|| cause.downcast_ref().and_then(of_unlock))
        .or_else(|| cause.downcast_ref().and_then(of_keys))
        .or_else(|| cause.downcast_ref().and_then(of_bag_change))
        .or_else(|| cause.downcast_ref().and_then(of_site_change))
        .or_else(|| cause.downcast_ref().and_then(of_rotate))
        .or_else(|| cause.downcast_ref().and_then(of_ledger))
        .or_else(|| cause.downcast_ref().and_then(of_home))
        .or_else(|| cause.downcast_ref().and_then(of_external))
        .or_else(|| cause.downcast_ref().and_then(of_store))
        .or_else(|| cause.downcast_ref().and_then(growth::of_growth))
        .or_else(|| cause.downcast_ref().and_then(growth::of_recovery))
        .or_else(|| of_node(cause))
        .or_else(|| cause.downcast_ref().map(of_guard))
        .or_else(|| cause.downcast_ref().and_then(of_identity))
        .or_else(|| cause.downcast_ref().map(of_copies))
        .or_else(|| cause.downcast_ref().and_then(of_walk))
        .or_else(|| cause.downcast_ref().and_then(of_site))
        .or_else(|| cause.downcast_ref().and_then(of_stream))
        .or_else(|| cause.downcast_ref().and_then(of_profile))
        .or_else(|| cause.downcast_ref().map(of_hook))
        .or_else(|| of_words(cause))
        .or_else(|| cause.downcast_ref().and_then(of_dump))
        .or_else(|| cause.downcast_ref().and_then(of_live))
        .or_else(|| cause.downcast_ref().map(of_glob))
        .or_else(|| of_proof(cause))
}

const IDENTITY: &str =
    "give the identity with --identity FILE (or BLOCKHOUSE_IDENTITY), or the paper key with --paper-key FILE";
const BRING_BACK: &str = "bring sites back, or look at `blockhouse status`";
const CLOCK: &str = "set the clock of this host; if it is right as it is, run again with --accept-clock";
const HANDED_OVER: &str =
    "the vault lives on at another host; to take it back, run `blockhouse recover` here into a new vault folder";
const AHEAD: &str = "bring back the sites that hold the blocks before it; if they are lost for good, `blockhouse recover` into a new vault folder goes on from the longest ledger there is";
const FORKED: &str = "the fingerprint tells the two apart: `blockhouse recover --fingerprint FINGERPRINT` into a new vault folder takes the one that had it, and goes on from there for good";
const SAME_KEY: &str = "`blockhouse recover` into a new vault folder takes the longer of the two, or with --expect RECEIPT the one that holds that receipt, and goes on from there for good";
const CUT_OFF: &str = "back up on the new host; what only this one has, its `blockhouse receipt ID -o FILE` and then `blockhouse recover --expect FILE` into a new vault folder bring back";
const CLAIMED: &str =
    "a host of that vault is made by `blockhouse host request -o FILE`, and the owner's `host approve FILE`";
const NODES: &str = "start a node or correct its URL in config.toml ([ledger] urls); reading works without, from this host's copy and the sites";
const NOT_FINAL: &str = "see with `blockhouse snapshots` or `history` whether it was recorded, once nodes answer again; if it was not, run this again: what was stored is reused";
const FOREIGN_NODE: &str = "nothing of it was taken; keep what it says as evidence, and ask a node that you trust: [ledger] urls in config.toml";
const NOT_A_HOST: &str = "this host is not, or no longer, one of the vault's: `blockhouse host request -o FILE` in a new vault folder, and the owner's `blockhouse host approve FILE`, make it one";
const GOVERNED: &str = "networks are governed that were founded with `node init` or `node refound`, or with `node local --signing committee`, of four to sixteen nodes with an operator each";
const MAKING: &str = "wait for its end, or give another folder with --vault DIR";
const LISTED: &str = "`blockhouse ls SNAP` shows the paths of a snapshot";
const MEND: &str = "bring sites back and run it again; `blockhouse verify` tells what is damaged, `blockhouse repair` mends what can be";
const TWO_BLOCKS: &str = "keep both files: the ledger's own key certified the receipt's block, and others outside were shown another one of that height. What was anchored first was there first";
const OTHER_KEY: &str =
    "give the owner's identity, the paper key, or a key that was added before the snapshot was made";

fn of_refusal(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Usage { hint: Some(hint), .. } => Verdict::hinted(Exit::Usage, hint),
        Refusal::Usage { hint: None, .. } => Verdict::plain(Exit::Usage),
        Refusal::MissingIdentity { .. } => Verdict::hinted(Exit::NotAllowed, IDENTITY),
        Refusal::OwnerOnly { .. } => {
            Verdict::hinted(Exit::NotAllowed, "give the owner's identity with --identity FILE (or BLOCKHOUSE_IDENTITY)")
        }
        Refusal::NoFingerprint { .. } => Verdict::hinted(
            Exit::Usage,
            "anyone can make such a file: get the fingerprint from the vault's owner and give it with --fingerprint",
        ),
        Refusal::NotVouched { .. } => Verdict::hinted(
            Exit::Usage,
            "ask a node that you trust with --rpc URL, or give the hash as you got it from one with --block HASH",
        ),
        Refusal::AnchorNotVouched { .. } => Verdict::hinted(
            Exit::Usage,
            "ask a node of that chain that you trust with --rpc URL, or give the hash as you got it from one with --block HASH; or name witnesses that you know with --witness KEY",
        ),
        Refusal::OtherBlock { .. }
        | Refusal::NoSuchBlock { .. }
        | Refusal::OtherChain { .. }
        | Refusal::NotCosigned { .. }
        | Refusal::OtherRoot { .. } => Verdict::plain(Exit::CheckFailed),
        Refusal::NotFinal { .. } => {
            Verdict::hinted(Exit::CheckFailed, "check again later, when more blocks are above it")
        }
        Refusal::TargetNotEmpty { .. } => {
            Verdict::hinted(Exit::Usage, "say what is to become of it: --overwrite never|if-changed|always")
        }
        Refusal::Protected { is_owner: false, .. } => Verdict::hinted(
            Exit::NotAllowed,
            "with the owner's identity (--identity FILE) it may go outside the rule, once it has its minimum age and nothing is frozen",
        ),
        Refusal::Protected { is_owner: true, .. } => Verdict::plain(Exit::NotAllowed),
        Refusal::NoEntry { .. } => Verdict::hinted(Exit::Failed, LISTED),
        #[cfg(feature = "node")]
        Refusal::Silent { .. } => Verdict::hinted(
            Exit::LedgerUnreachable,
            "start it: blockhouse node run --dir DIR; if it runs, its JSON-RPC is at `[rpc] listen` of its node.toml",
        ),
        Refusal::Declined => Verdict::plain(Exit::Failed),
    }
}

fn of_node(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    #[cfg(feature = "node")]
    return None
        .or_else(|| cause.downcast_ref().and_then(nodes::of_running))
        .or_else(|| cause.downcast_ref().and_then(of_start))
        .or_else(|| cause.downcast_ref().and_then(of_node_folder))
        .or_else(|| cause.downcast_ref().and_then(nodes::of_proposal))
        .or_else(|| cause.downcast_ref().map(of_enrolment))
        .or_else(|| cause.downcast_ref().map(of_ceremony))
        .or_else(|| cause.downcast_ref().and_then(of_join))
        .or_else(|| cause.downcast_ref().and_then(of_gathering))
        .or_else(|| cause.downcast_ref().and_then(of_governing));
    #[cfg(not(feature = "node"))]
    {
        let _ = cause;
        None
    }
}

/// A node that does not start.
#[cfg(feature = "node")]
fn of_start(error: &StartError) -> Option<Verdict> {
    match error {
        StartError::InUse { .. } => Some(Verdict::hinted(Exit::Busy, "each node needs a folder of its own")),
        StartError::Listen { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "another program has the port: stop it, or change `listen` in node.toml",
        )),
        _ => None,
    }
}

#[cfg(feature = "node")]
fn of_node_folder(error: &FolderError) -> Option<Verdict> {
    match error {
        FolderError::NoNode { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "give the node's data folder with --dir DIR; `blockhouse node join` completes one that `node init` began",
        )),
        FolderError::Exists { .. } => {
            Some(Verdict::hinted(Exit::Failed, "each node needs a folder of its own: give another with --dir DIR"))
        }
        FolderError::Enrolled { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "hand that file to the founder; to say something else with the same key, remove it and run this again",
        )),
        FolderError::NotEmpty { .. } => Some(Verdict::hinted(Exit::Failed, "give a new folder with --dir DIR")),
        FolderError::NoKey { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "make the node first: blockhouse node init --dir DIR --name NAME --listen IP:PORT",
        )),
        FolderError::Enrolment { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "remove it and run `blockhouse node init` again in the same folder: the node keeps its key",
        )),
        FolderError::Founding { .. } => {
            Some(Verdict::hinted(Exit::Failed, "take the founding file again from the founder: it is the same for all"))
        }
        FolderError::Proposal { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "a proposal is what --propose wrote, an approval what `blockhouse node recovery approve` wrote: take it again from who has it",
        )),
        FolderError::Record { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "if no node of the network has finished, remove it: the node begins the ceremony anew",
        )),
        FolderError::Network { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "take the file again from the founder or from another node: it is the same at all of them",
        )),
        FolderError::OtherPast { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "remove that file if it is not what this command copied there, and run it again",
        )),
        FolderError::Open { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "take the rights of others away: chmod 600; if others may have read it, make a new node",
        )),
        _ => None,
    }
}

/// A file that an operator sent.
#[cfg(feature = "node")]
fn of_enrolment(_: &EnrolmentError) -> Verdict {
    Verdict::hinted(Exit::CheckFailed, "ask the node's operator for its enrolment again, by another way")
}

#[cfg(feature = "node")]
fn of_ceremony(error: &CeremonyError) -> Verdict {
    let hint = match error {
        CeremonyError::Same { .. } | CeremonyError::SameKey { .. } => "give each node's enrolment once",
        CeremonyError::SameName { .. } | CeremonyError::SameAddress { .. } => {
            "one of their operators removes his `enrolment` and runs `blockhouse node init` again in the same folder, with what is right"
        }
        _ => "a network has 1 to 128 validators",
    };
    Verdict::hinted(Exit::Usage, hint)
}

#[cfg(feature = "node")]
fn of_governing(error: &GoverningError) -> Option<Verdict> {
    match error {
        GoverningError::Remote(error) => of_remote(error),
        GoverningError::NotGoverned => Some(Verdict::hinted(Exit::NotAllowed, GOVERNED)),
        GoverningError::NotMade => Some(Verdict::hinted(
            Exit::NotAllowed,
            "take the ledger over first: blockhouse init --ledger URL --enrol-key FILE",
        )),
        GoverningError::Refused { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "look at what is in force and proposed: blockhouse node validators list",
        )),
        GoverningError::NotTaken { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "the owner of the vault enrols the nodes' accounts: blockhouse node enrol --identity FILE",
        )),
        GoverningError::NoProposal { .. } => {
            Some(Verdict::hinted(Exit::Usage, "see what is proposed: blockhouse node validators list"))
        }
        GoverningError::NothingToPost => Some(Verdict::hinted(
            Exit::Usage,
            "`blockhouse node status` of a node that takes part says who is missed, or that it is posted already; nodes that do not take part know nothing of it",
        )),
        GoverningError::NoOutcome { .. } => {
            Some(Verdict::hinted(Exit::CheckFailed, "ask another node: --ledger URL, and look at this one"))
        }
        _ => None,
    }
}

#[cfg(feature = "node")]
fn of_join(error: &JoinError) -> Option<Verdict> {
    match error {
        JoinError::Folder(error) => of_node_folder(error),
        JoinError::Fingerprint { .. }
        | JoinError::Inconsistent
        | JoinError::OneKey
        | JoinError::Founding { .. }
        | JoinError::OtherNetwork { .. }
        | JoinError::OtherEnrolment { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "do not join; ask the founder, and compare the fingerprint with the other operators",
        )),
        JoinError::NotEnrolled { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "only a network that was founded with enrolments is joined: blockhouse node init --found FILE…",
        )),
        JoinError::NoValidator { .. } => Some(Verdict::hinted(
            Exit::Usage,
            "to follow it without a vote, say --follower; to have one, its enrolment must be among those that it is founded with",
        )),
        JoinError::NoPast { .. } => Some(Verdict::hinted(
            Exit::Usage,
            "name the JSON-RPC of the node that the network grew from, or of another that runs: --rpc-peer URL",
        )),
        JoinError::NoShare => Some(Verdict::hinted(
            Exit::CheckFailed,
            "a validator of such a network joins with the founding file, while the others do; without its share it can only follow",
        )),
        JoinError::Validator => Some(Verdict::hinted(Exit::Usage, "join without --follower")),
        _ => None,
    }
}

/// No key was made, and nothing that is left stands in the way of making one.
#[cfg(feature = "node")]
fn of_gathering(error: &GatherError) -> Option<Verdict> {
    const AGAIN: &str = "nothing is lost: run the same again, at the same time as the others";
    match error {
        GatherError::Folder(error) => of_node_folder(error),
        GatherError::Start(error) => of_start(error),
        GatherError::Failed { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "ask the operator of who is named; then all run the same again, or the network is founded without him",
        )),
        GatherError::Patience { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "tell their operators; nothing is lost: run the same again when all are there. Who finished before has the key: the file `network` of his node's folder completes the others",
        )),
        GatherError::Stopped | GatherError::Connections { .. } => Some(Verdict::hinted(Exit::Failed, AGAIN)),
        _ => None,
    }
}

fn of_open(error: &OpenError) -> Option<Verdict> {
    match error {
        OpenError::Config(error) => of_config(error),
        OpenError::Forked { .. } => Some(Verdict::hinted(Exit::CheckFailed, FORKED)),
        OpenError::Nodes(error) => of_remote(error),
        OpenError::NotHealed(_) => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring back a site of the vault: each holds the blocks of the ledger",
        )),
        _ => None,
    }
}

fn of_config(error: &ConfigError) -> Option<Verdict> {
    let hint = "make one with `blockhouse init`, or say where it is with --vault DIR or BLOCKHOUSE_VAULT";
    matches!(error, ConfigError::NoVault { .. }).then_some(Verdict::hinted(Exit::NoVault, hint))
}

fn of_init(error: &InitError) -> Option<Verdict> {
    match error {
        InitError::NoSites | InitError::SamePlace { .. } => {
            Some(Verdict::hinted(Exit::Usage, "name each site once: --site URL"))
        }
        InitError::Placement(PlacementError::NoSites | PlacementError::TooFewSites { .. }) => {
            Some(Verdict::hinted(Exit::Usage, "give more sites with --site, or a smaller code with --code"))
        }
        InitError::Marked { source, .. } => of_init(source),
        InitError::Busy { .. } => Some(Verdict::hinted(Exit::Busy, MAKING)),
        InitError::Leftovers { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "an init that was stopped left them: remove them. If a vault lived here whose config.toml is lost, keep them and run `blockhouse recover`",
        )),
        InitError::Exists { .. } => Some(Verdict::hinted(Exit::Failed, "give another folder with --vault DIR")),
        InitError::FileExists { .. } => Some(Verdict::hinted(Exit::Failed, "give another path, or move the file away")),
        InitError::Site { source, .. } => of_create(source),
        InitError::Nodes(error) => of_remote(error),
        InitError::Chain(error) => of_external(error),
        InitError::Funds { .. } => Some(Verdict::hinted(Exit::NotAllowed, FUND)),
        InitError::IsNetwork => Some(Verdict::hinted(Exit::Usage, "give its enrol key with --enrol-key FILE")),
        InitError::OtherLedger { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "give the URL of a node of that ledger, or the enrol key of this one",
        )),
        InitError::OtherEnrolKey { .. } | InitError::Claimed { .. } | InitError::InUse { .. } => {
            Some(Verdict::hinted(Exit::NotAllowed, CLAIMED))
        }
        InitError::Used => Some(Verdict::hinted(
            Exit::CheckFailed,
            "do not use this ledger: whoever changed it may still hand it over; have its founder begin another",
        )),
        InitError::NotTakenUp { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "give the files and the passphrase of the earlier try, or other paths to begin anew",
        )),
        _ => None,
    }
}

fn of_create(error: &CreateError) -> Option<Verdict> {
    match error {
        CreateError::Taken { .. } | CreateError::Within { .. } | CreateError::NotEmpty { .. } => {
            Some(Verdict::hinted(Exit::Failed, "a site needs a folder of its own: an empty one, or one not yet there"))
        }
        CreateError::NoParent { .. } => {
            Some(Verdict::hinted(Exit::Failed, "mount the storage, or make the folder that the site goes into"))
        }
        _ => None,
    }
}

/// A remote site that refuses is told what to do about; of folders, the cause itself says it.
fn of_site(cause: &Cause) -> Option<Verdict> {
    let exit = |trouble: &Trouble| if matches!(trouble, Trouble::Setting) { Exit::Usage } else { Exit::Failed };
    cause.trouble().map(|trouble| Verdict::hinted(exit(trouble), advice(trouble.remedy())))
}

fn of_backup(error: &BackupError) -> Option<Verdict> {
    match error {
        BackupError::NoWriter => Some(Verdict::hinted(
            Exit::NotAllowed,
            "back up on the vault's host; if that is gone, `blockhouse recover` makes this one the host",
        )),
        BackupError::NotApproved { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "a change of keys was interrupted, or config.toml was edited: `blockhouse key list --identity FILE` brings ledger and host back to the key bag, then run this again",
        )),
        BackupError::Source(OpenSourceError::Missing { .. } | OpenSourceError::AllMissing { .. }) => None,
        BackupError::Source(_) => Some(Verdict::plain(Exit::Usage)),
        BackupError::Capture(_) => Some(Verdict::hinted(
            Exit::Failed,
            "stop it for the time of the backup; --allow-live copies the files as they are, which may not open again",
        )),
        BackupError::SiteTaken { .. } => Some(Verdict::hinted(Exit::Busy, "run it again: what it stored is reused")),
        BackupError::TakenOver { .. } => Some(Verdict::hinted(Exit::NotAllowed, CUT_OFF)),
        BackupError::AtRisk { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "bring sites back; to record it all the same, run again with --accept-risk",
        )),
        BackupError::Copies(_) => Some(Verdict::hinted(Exit::Failed, BRING_BACK)),
        BackupError::StripeGone { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "bring sites back or run `blockhouse repair`; a new run writes again what cannot be found",
        )),
        BackupError::Walk(error) => of_walk(error),
        _ => None,
    }
}

fn of_walk(error: &WalkError) -> Option<Verdict> {
    match error {
        WalkError::Interrupted => {
            Some(Verdict::hinted(Exit::Interrupted, "run it again: what was stored is not stored twice"))
        }
        WalkError::Stream(error) => of_stream(error),
        _ => None,
    }
}

fn of_stream(error: &StreamError) -> Option<Verdict> {
    match error {
        StreamError::Name { .. } | StreamError::NoCommand => Some(Verdict::plain(Exit::Usage)),
        StreamError::Failed { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "its own words above say why; no snapshot was recorded, run this again when it works",
        )),
        StreamError::Silent { .. } => {
            Some(Verdict::hinted(Exit::Failed, "if it needs longer, give it time: --command-timeout DURATION"))
        }
        StreamError::Empty { .. } => {
            Some(Verdict::hinted(Exit::Failed, "if nothing is what it should write, say so: --allow-empty"))
        }
        _ => None,
    }
}

fn of_profile(error: &ProfileError) -> Option<Verdict> {
    match error {
        ProfileError::Config(error) => of_config(error),
        _ => Some(Verdict::hinted(Exit::Usage, "docs/reference/backup.md has every key of profiles and hooks")),
    }
}

fn of_hook(error: &HookError) -> Verdict {
    match error {
        HookError::Interrupted { .. } => Verdict::plain(Exit::Interrupted),
        _ => Verdict::hinted(Exit::Failed, "its own words above say why; --no-hooks backs up without hooks"),
    }
}

fn of_words(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    let is_wrong = cause.is::<ExcludeError>() || cause.is::<ListError>();
    is_wrong.then_some(Verdict::plain(Exit::Usage))
}

fn of_copy(error: &CopyError) -> Option<Verdict> {
    match error {
        CopyError::SameVault { .. } => {
            Some(Verdict::hinted(Exit::Usage, "give the folder of another vault with --to-vault DIR"))
        }
        CopyError::Open(error) => of_open_snapshot(error),
        CopyError::Backup(error) => of_backup(error),
        CopyError::Read { .. } | CopyError::OtherContent { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "`blockhouse repair` mends what other sites make up for; snapshots that were copied before stand",
        )),
        _ => None,
    }
}

fn of_mount(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    if let Some(OpenMountError::Key(error)) = cause.downcast_ref() {
        return of_open_snapshot(error);
    }
    #[cfg(feature = "mount")]
    return cause.downcast_ref().map(of_mount_point);
    #[cfg(not(feature = "mount"))]
    None
}

#[cfg(feature = "mount")]
fn of_mount_point(error: &PointError) -> Verdict {
    match error {
        PointError::Missing { .. } => Verdict::hinted(Exit::Usage, "make the folder, or give another"),
        PointError::NotAFolder { .. } => Verdict::hinted(Exit::Usage, "give an empty folder"),
        PointError::NotEmpty { .. } => {
            Verdict::hinted(Exit::Usage, "what is in it could not be seen while the vault is: give an empty folder")
        }
        PointError::Stale { .. } => Verdict::hinted(
            Exit::Failed,
            "unmount it first: `fusermount3 -u DIR`, or as root `umount DIR`; then run this again",
        ),
        PointError::NoDevice => Verdict::hinted(
            Exit::Failed,
            "load the kernel's module as root: `modprobe fuse`; a container needs the device passed in",
        ),
        PointError::DeviceClosed(_) => Verdict::hinted(Exit::Failed, "let this user read and write /dev/fuse"),
        PointError::NoHelper => {
            Verdict::hinted(Exit::Failed, "install it: `apt-get install fuse3`; or run this as root")
        }
        PointError::OthersForbidden(_) => {
            Verdict::hinted(Exit::Failed, "--allow-other needs the line `user_allow_other` in /etc/fuse.conf, or root")
        }
        PointError::Unmount { .. } => Verdict::hinted(Exit::Failed, "`umount -l DIR` as root takes it away"),
        _ => Verdict::plain(Exit::Failed),
    }
}

fn of_restore(error: &RestoreSnapshotError) -> Option<Verdict> {
    match error {
        RestoreSnapshotError::Open(error) => of_open_snapshot(error),
        RestoreSnapshotError::Interrupted => Some(Verdict::hinted(
            Exit::Interrupted,
            "go on with the same command: what is restored is not fetched again",
        )),
        RestoreSnapshotError::Glob { .. } => Some(Verdict::plain(Exit::Usage)),
        RestoreSnapshotError::NoEntry { .. } => Some(Verdict::hinted(Exit::Failed, LISTED)),
        RestoreSnapshotError::Collision { .. } => {
            Some(Verdict::hinted(Exit::Usage, "strip fewer names, or leave one of the two out with --exclude"))
        }
        // Decided here: the cause is a pattern of the snapshot, not one that was typed.
        RestoreSnapshotError::Spared(_) => Some(Verdict::hinted(
            Exit::Failed,
            "restore without --delete; or, if a later version of blockhouse made the snapshot, with that version",
        )),
        RestoreSnapshotError::Write(RestoreError::NoFolder { .. }) => {
            Some(Verdict::hinted(Exit::Usage, "give a folder with --to DIR; it is made if it is not there"))
        }
        RestoreSnapshotError::Write(RestoreError::Busy { .. }) => {
            Some(Verdict::hinted(Exit::Busy, "wait for its end, or restore into another folder"))
        }
        RestoreSnapshotError::Full { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "make room and go on with the same command: what is restored is not fetched again",
        )),
        RestoreSnapshotError::Live(_) => Some(Verdict::hinted(
            Exit::Failed,
            "stop it for the time of the restore, or restore elsewhere; --allow-live writes over its files, which may break them",
        )),
        RestoreSnapshotError::Guarded { what: Guarded::Other, .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "restore without --delete, or elsewhere; around a home folder or the current one, --yes says that it is meant",
        )),
        RestoreSnapshotError::Guarded { .. } => {
            Some(Verdict::hinted(Exit::NotAllowed, "restore without --delete, or elsewhere"))
        }
        RestoreSnapshotError::NothingMatches => {
            Some(Verdict::hinted(Exit::Failed, "`blockhouse ls SNAP` shows the paths as --include takes them"))
        }
        _ => None,
    }
}

fn of_dump(error: &DumpError) -> Option<Verdict> {
    match error {
        DumpError::Read { .. } | DumpError::OtherContent { .. } => Some(Verdict::hinted(Exit::CheckFailed, MEND)),
        DumpError::NoEntry { .. } => Some(Verdict::hinted(Exit::Failed, LISTED)),
        DumpError::NoBytes { .. } => Some(Verdict::hinted(
            Exit::Usage,
            "`--archive tar` makes an archive with it; `blockhouse restore` makes it anew",
        )),
        DumpError::NotInSnapshot { .. } => {
            Some(Verdict::hinted(Exit::Unreadable, "`blockhouse find` shows whether another snapshot has it"))
        }
        _ => None,
    }
}

fn of_live(error: &LiveError) -> Option<Verdict> {
    let hint = "give what is there now with --live PATH";
    match error {
        LiveError::Source(OpenSourceError::Missing { .. }) => Some(Verdict::hinted(Exit::Failed, hint)),
        LiveError::Source(_) => Some(Verdict::hinted(Exit::Usage, hint)),
        LiveError::Read(_) => Some(Verdict::hinted(Exit::CheckFailed, MEND)),
        _ => None,
    }
}

fn of_glob(_: &GlobError) -> Verdict {
    Verdict::hinted(Exit::Usage, "`*`, `?`, `[…]` and `**` have a meaning; a backslash before one takes it away")
}

fn of_verify(error: &VerifyError) -> Option<Verdict> {
    let hint = "nothing was recorded; run it again";
    matches!(error, VerifyError::Interrupted).then_some(Verdict::hinted(Exit::Interrupted, hint))
}

fn of_repair(error: &RepairVaultError) -> Option<Verdict> {
    let hint = "run it again: what was mended stays mended";
    matches!(error, RepairVaultError::Interrupted).then_some(Verdict::hinted(Exit::Interrupted, hint))
}

fn of_retention(error: &RetentionError) -> Option<Verdict> {
    match error {
        RetentionError::Rule(_) => Some(Verdict::hinted(
            Exit::Usage,
            "say what it keeps: --keep-last, --keep-daily, --keep-within, …; `--keep-last all` keeps everything",
        )),
        RetentionError::NoSource { .. } | RetentionError::NoHost { .. } => {
            Some(Verdict::hinted(Exit::Usage, "`blockhouse snapshots --json` lists the sources with their hosts"))
        }
        RetentionError::NoTagKey => Some(Verdict::hinted(Exit::NotAllowed, "run it on the vault's host")),
        RetentionError::Copies(error) => Some(of_copies(error)),
        RetentionError::Bag(BagError::Open(_)) => {
            Some(Verdict::hinted(Exit::NotAllowed, "give the owner's identity with --identity FILE, or the paper key"))
        }
        _ => None,
    }
}

fn of_forget(error: &ForgetError) -> Option<Verdict> {
    match error {
        ForgetError::Retention(error) => of_retention(error),
        ForgetError::NoAccount => Some(Verdict::hinted(Exit::NotAllowed, IDENTITY)),
        ForgetError::Interrupted => {
            Some(Verdict::hinted(Exit::Interrupted, "what was forgotten stays so; run it again for the rest"))
        }
        _ => None,
    }
}

fn of_prune(error: &PruneError) -> Option<Verdict> {
    match error {
        PruneError::Frozen { .. } => {
            Some(Verdict::hinted(Exit::NotAllowed, "the owner lifts it: `blockhouse unfreeze --identity FILE`"))
        }
        PruneError::NoWriter => Some(Verdict::hinted(Exit::NotAllowed, "prune on the vault's host")),
        PruneError::Needed { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "bring sites back and run `blockhouse repair`, which copies lists that any site still has",
        )),
        PruneError::Earlier { .. } | PruneError::Copies(_) => Some(Verdict::hinted(Exit::Failed, BRING_BACK)),
        PruneError::Guard(error) => Some(of_guard(error)),
        PruneError::Interrupted => {
            Some(Verdict::hinted(Exit::Interrupted, "run it again: the next prune goes on from there"))
        }
        _ => None,
    }
}

fn of_lock(error: &LockError) -> Option<Verdict> {
    let hint = "another prune is at work: run again when it has ended";
    matches!(error, LockError::Busy { .. }).then_some(Verdict::hinted(Exit::Busy, hint))
}

fn of_open_snapshot(error: &OpenSnapshotError) -> Option<Verdict> {
    let is_for_others = matches!(error, OpenSnapshotError::Wraps(OpenWrapsError::NotForThis { .. }));
    is_for_others.then_some(Verdict::hinted(Exit::NotAllowed, OTHER_KEY))
}

fn of_unwrap(error: &UnwrapError) -> Option<Verdict> {
    let is_for_others = matches!(error, UnwrapError::NotForThis { .. });
    is_for_others.then_some(Verdict::hinted(Exit::NotAllowed, OTHER_KEY))
}

fn of_receipt(error: &MakeReceiptError) -> Option<Verdict> {
    match error {
        MakeReceiptError::Open(error) => of_open_snapshot(error),
        MakeReceiptError::NoEntry { .. } => Some(Verdict::hinted(Exit::Failed, LISTED)),
        _ => None,
    }
}

fn of_recover(error: &RecoverError) -> Option<Verdict> {
    match error {
        RecoverError::Exists { .. } => {
            Some(Verdict::hinted(Exit::Failed, "recover into another folder: --vault NEW_FOLDER"))
        }
        RecoverError::Busy { .. } => Some(Verdict::hinted(Exit::Busy, MAKING)),
        RecoverError::NeedsOthers { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "make a folder that can read it: recover --read-only --network URL. While the network lives, `host approve` from there makes another host a writer; if it is lost, `node refound --propose` asks the other accounts",
        )),
        RecoverError::KeepsGrowing { .. } => Some(Verdict::hinted(
            Exit::Busy,
            "stop the old host's backups and run this again; --fingerprint takes the ledger as it stands, and reports what that leaves out",
        )),
        RecoverError::Outdone { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "a handover that you did not make, or one that cut off the snapshot of that receipt: --yes takes the ledger with the receipt and outdoes the other",
        )),
        RecoverError::Unasked { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring sites back and run this again: it goes on from that handover",
        )),
        RecoverError::SeveralVaults { .. } => Some(Verdict::hinted(Exit::Usage, "give the sites of one vault")),
        RecoverError::Fork { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "say which is yours: --fingerprint with one that only yours has had, or --expect with a receipt that only yours holds",
        )),
        RecoverError::OtherFingerprint { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "compare the fingerprint with the recovery sheet; if it is right, give other sites of the vault",
        )),
        RecoverError::NotInChain { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "somebody rewrote the ledger, or sites are behind: give more sites, and compare with receipts you hold",
        )),
        RecoverError::NoSite { .. } | RecoverError::NoChain { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "give other sites of the vault; the recovery sheet lists them",
        )),
        RecoverError::TooFewSites { .. } | RecoverError::Copies(_) => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring sites back; --read-only reads the vault without taking it over",
        )),
        _ => None,
    }
}

fn of_select(error: &SelectError) -> Option<Verdict> {
    match error {
        SelectError::None { .. } | SelectError::NoSource { .. } => {
            Some(Verdict::hinted(Exit::Failed, "`blockhouse snapshots` lists them"))
        }
        SelectError::Ambiguous { .. } => Some(Verdict::hinted(Exit::Usage, "give more digits of the id")),
        SelectError::SeveralSources { .. } => {
            Some(Verdict::hinted(Exit::Usage, "name one as latest:SOURCE, or narrow with --host, --source, --tag"))
        }
        _ => None,
    }
}

fn of_unlock(error: &UnlockError) -> Option<Verdict> {
    match error {
        UnlockError::OtherVault { .. } => Some(Verdict::hinted(Exit::NotAllowed, OTHER_KEY)),
        _ => None,
    }
}

fn of_keys(error: &KeysError) -> Option<Verdict> {
    match error {
        KeysError::NoRecipient { .. } => {
            Some(Verdict::hinted(Exit::Failed, "`blockhouse key list` shows ids, labels and public keys"))
        }
        KeysError::SeveralRecipients { .. } => Some(Verdict::hinted(Exit::Usage, "give more digits of the id")),
        KeysError::LabelTaken { .. } => Some(Verdict::hinted(Exit::Usage, "give another one with --label")),
        KeysError::OpensBag { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "old copies of the key bag stay open to it; whoever must lock it out makes a new vault",
        )),
        KeysError::Change(error) => of_bag_change(error),
        _ => None,
    }
}

fn of_identity(error: &OpenIdentityError) -> Option<Verdict> {
    match error {
        OpenIdentityError::WrongPassphrase => Some(Verdict::plain(Exit::WrongPassphrase)),
        OpenIdentityError::NeedsPassphrase => Some(Verdict::hinted(
            Exit::WrongPassphrase,
            "give it at the prompt of a terminal, in BLOCKHOUSE_PASSPHRASE, or with --passphrase-file FILE",
        )),
        _ => None,
    }
}

fn of_ledger(error: &LedgerError) -> Option<Verdict> {
    match error {
        LedgerError::Refused { reason } if reason.contains("PolicyRefused") => Some(Verdict::hinted(
            Exit::NotAllowed,
            "`blockhouse retention show` says which rule is in force and what is frozen; the owner lays down another with `retention set`",
        )),
        LedgerError::Refused { reason } if reason.contains("NotWriter") => {
            Some(Verdict::hinted(Exit::NotAllowed, NOT_A_HOST))
        }
        LedgerError::Refused { .. } | LedgerError::NonceTaken { .. } | LedgerError::Failed { .. } => {
            Some(Verdict::plain(Exit::NotAllowed))
        }
        LedgerError::LeftOut { .. } => {
            Some(Verdict::hinted(Exit::CheckFailed, "name another node of the chain in config.toml: [ledger] urls"))
        }
        LedgerError::NoModule { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "the owner makes it with the first `blockhouse retention set --identity FILE`",
        )),
        LedgerError::Transport(_) | LedgerError::Pending(_) => Some(Verdict::plain(Exit::LedgerUnreachable)),
        _ => None,
    }
}

fn of_home(error: &HomeError) -> Option<Verdict> {
    match error {
        HomeError::Store(error) => of_store(error),
        HomeError::HandedOver { .. } => Some(Verdict::hinted(Exit::NotAllowed, HANDED_OVER)),
        HomeError::Left { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "run the same `blockhouse node init --from-vault` again: it goes on, and this host becomes a client of the network",
        )),
        HomeError::NoKey => Some(Verdict::hinted(Exit::NotAllowed, "only the vault's host can write to its ledger")),
        HomeError::Clock(_) => Some(Verdict::hinted(Exit::Failed, CLOCK)),
        HomeError::Remote(error) => of_remote(error),
        HomeError::External(error) => of_external(error),
        HomeError::NoBlocks => Some(Verdict::plain(Exit::Usage)),
        _ => None,
    }
}

const FUND: &str = "send these accounts what they need on that chain, then run the same command again: it goes on";

fn of_external(error: &ExternalError) -> Option<Verdict> {
    match error {
        ExternalError::NoNode { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring a node of the chain back, or name others in config.toml: [ledger] urls",
        )),
        ExternalError::Behind { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "wait until they have caught up, or name others in config.toml: [ledger] urls",
        )),
        ExternalError::NotFinal { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "run the command again: what was sent is in the file `outbox` of the vault folder, and is finished first",
        )),
        ExternalError::Funds { .. } => Some(Verdict::hinted(Exit::NotAllowed, FUND)),
        ExternalError::Fee { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "wait until gas is cheaper, or allow more: `max_fee_wei` in [ledger.chain] of config.toml, --max-fee of init",
        )),
        ExternalError::NoFinality => {
            Some(Verdict::hinted(Exit::Usage, "say how many blocks above it make a block final: --depth BLOCKS"))
        }
        ExternalError::OtherChain { .. } | ExternalError::OtherGenesis { .. } => {
            Some(Verdict::hinted(Exit::CheckFailed, "give the URL of a node of the vault's chain"))
        }
        ExternalError::Dropped { .. } => Some(Verdict::hinted(
            Exit::CheckFailed,
            "snapshots may be gone from the ledger: ask several nodes. If the chain is right as it is, remove the file `outbox` of the vault folder, wait for more blocks with a greater `depth`, and back up anew",
        )),
        ExternalError::InPart { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "look with `blockhouse history` at what was recorded, then run the command again",
        )),
        ExternalError::NonceTaken { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "somebody else sends with this account: if that is not you, its key is known to a stranger",
        )),
        ExternalError::Foreign { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "wait until they are in blocks, or cancel them where they were sent, then run the command again",
        )),
        ExternalError::Refused { method: "eth_sendRawTransaction", .. } => Some(Verdict::plain(Exit::NotAllowed)),
        ExternalError::Busy { .. } => Some(Verdict::hinted(Exit::Busy, "wait until it has ended")),
        ExternalError::OutboxForm { .. } => {
            Some(Verdict::hinted(Exit::Failed, "remove it: what it held is on the chain, or will not be"))
        }
        _ => None,
    }
}

fn of_remote(error: &RemoteError) -> Option<Verdict> {
    match error {
        RemoteError::NoNode { problems } if problems.iter().any(|problem| problem.error.is_evidence()) => {
            Some(Verdict::hinted(Exit::CheckFailed, FOREIGN_NODE))
        }
        RemoteError::NoNode { .. } => Some(Verdict::hinted(Exit::LedgerUnreachable, NODES)),
        RemoteError::NotFinal { .. } => Some(Verdict::hinted(Exit::LedgerUnreachable, NOT_FINAL)),
        RemoteError::InPart { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "look with `blockhouse history` at what was recorded, then run the command again",
        )),
        RemoteError::NotEnrolled { .. } => Some(Verdict::hinted(Exit::NotAllowed, NOT_A_HOST)),
        RemoteError::Refused { .. } => Some(Verdict::plain(Exit::NotAllowed)),
        RemoteError::NoUrl => {
            Some(Verdict::hinted(Exit::Usage, "name them in config.toml: [ledger] urls = [\"http://…\"]"))
        }
        _ => None,
    }
}

fn of_hosts(error: &HostsError) -> Option<Verdict> {
    match error {
        HostsError::Exists { .. } => Some(Verdict::hinted(Exit::Failed, "give another folder with --vault DIR")),
        HostsError::Busy { .. } => Some(Verdict::hinted(Exit::Busy, MAKING)),
        HostsError::Name { .. } => Some(Verdict::hinted(Exit::Usage, "give one with --name NAME")),
        HostsError::AskedAs { .. } => {
            Some(Verdict::hinted(Exit::Failed, "give that name with --name, or another folder with --vault DIR"))
        }
        HostsError::NotAsked { .. } => {
            Some(Verdict::hinted(Exit::Failed, "first `blockhouse host request -o FILE`, in the same vault folder"))
        }
        HostsError::OneHost => Some(Verdict::hinted(
            Exit::NotAllowed,
            "only a vault whose ledger a network keeps has several hosts: `blockhouse init --ledger URL --enrol-key FILE`",
        )),
        HostsError::NotGoverned => Some(Verdict::hinted(Exit::NotAllowed, GOVERNED)),
        HostsError::Revoked { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "`blockhouse host request` in a new vault folder makes a new account",
        )),
        HostsError::NoHost { .. } | HostsError::SeveralHosts { .. } => {
            Some(Verdict::hinted(Exit::Failed, "`blockhouse host list` shows names and accounts"))
        }
        HostsError::Answer(_) | HostsError::OtherVault { .. } | HostsError::Fingerprint { .. } => {
            Some(Verdict::hinted(
                Exit::CheckFailed,
                "nothing was made; ask the owner for the answer and the fingerprint again",
            ))
        }
        HostsError::NotListed { .. } => Some(Verdict::hinted(Exit::NotAllowed, NOT_A_HOST)),
        HostsError::NoSites { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "mount or connect a site at the same place as on the owner's host, then run this again",
        )),
        HostsError::Nodes(error) => of_remote(error),
        HostsError::Bag(error) => of_bag_change(error),
        HostsError::Copies(error) => Some(of_copies(error)),
        _ => None,
    }
}

fn of_request(_: &RequestError) -> Verdict {
    Verdict::hinted(Exit::CheckFailed, "ask the host for its request again")
}

fn of_enrol_key(_: &EnrolKeyError) -> Verdict {
    Verdict::hinted(Exit::Usage, "give the file that the ledger's founder made, as it was made")
}

/// Of what a later release wrote.
const NEWER: &str = "run the release that wrote it, or a later one: nothing was changed here";

fn of_store(error: &StoreError) -> Option<Verdict> {
    match error {
        StoreError::Busy { .. } => {
            Some(Verdict::hinted(Exit::Busy, "another command is writing to the ledger: run again when it has ended"))
        }
        StoreError::Damaged { .. } | StoreError::Missing { .. } => Some(Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring back a site of the vault: each holds the blocks of the ledger",
        )),
        StoreError::Newer { .. } => Some(Verdict::hinted(Exit::Failed, NEWER)),
        _ => None,
    }
}

fn of_guard(error: &GuardError) -> Verdict {
    match error {
        GuardError::TooFewSites { needed: 1, .. } => Verdict::hinted(Exit::LedgerUnreachable, BRING_BACK),
        GuardError::TooFewSites { .. } => Verdict::hinted(
            Exit::LedgerUnreachable,
            "bring sites back; if you know that no other host has recovered this vault, run again with --accept-risk",
        ),
        GuardError::Rival { .. } => Verdict::hinted(Exit::NotAllowed, FORKED),
        GuardError::Forked { .. } => Verdict::hinted(Exit::NotAllowed, SAME_KEY),
        GuardError::Ahead { .. } => Verdict::hinted(Exit::NotAllowed, AHEAD),
        _ => Verdict::hinted(Exit::NotAllowed, HANDED_OVER),
    }
}

fn of_copies(_: &TooFewCopies) -> Verdict {
    Verdict::hinted(Exit::Failed, BRING_BACK)
}

fn of_proof(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    if let Some(CheckAnchorError::OtherBlock { found, expected, .. }) = cause.downcast_ref()
        && found == expected
    {
        return Some(Verdict::hinted(Exit::CheckFailed, TWO_BLOCKS));
    }
    let is_no_anchor =
        cause.is::<ParseAnchorError>() || cause.is::<CheckAnchorError>() || cause.is::<BitcoinHeaderError>();
    let is_no_proof = cause.is::<ParseError>() || cause.is::<CheckError>() || cause.is::<FileError>() || is_no_anchor;
    is_no_proof.then_some(Verdict::plain(Exit::CheckFailed))
}
