//! What the changes of keys, sites and alarms mean for the user.

use blockhouse_vault::alarm::AlarmError;
use blockhouse_vault::bag::BagChangeError;
use blockhouse_vault::rotate::RotateError;
use blockhouse_vault::site::SiteChangeError;
use blockhouse_vault::unlock::BagError;

use super::{Exit, Verdict, of_config, of_copies, of_create, of_open, of_repair, of_retention};

pub(super) fn of_alarm(error: &AlarmError) -> Option<Verdict> {
    match error {
        AlarmError::Outside => Some(Verdict::hinted(
            Exit::NotAllowed,
            "let what watches your machines run `blockhouse status --max-age SPAN`: its exit code is 4 if a source is overdue",
        )),
        AlarmError::Age { .. } => Some(Verdict::plain(Exit::Usage)),
        AlarmError::NotSet { .. } => Some(Verdict::hinted(Exit::Usage, "`blockhouse alarm show` lists them")),
        AlarmError::Owner(error) => of_retention(error),
        _ => None,
    }
}

pub(super) fn of_bag_change(error: &BagChangeError) -> Option<Verdict> {
    match error {
        BagChangeError::Bag(BagError::Open(_)) => {
            Some(Verdict::hinted(Exit::NotAllowed, "give the owner's identity with --identity FILE, or the paper key"))
        }
        BagChangeError::Copies(error) => Some(of_copies(error)),
        BagChangeError::Read(error) => of_config(error),
        _ => None,
    }
}

pub(super) fn of_rotate(error: &RotateError) -> Option<Verdict> {
    match error {
        RotateError::NoWriter => Some(Verdict::hinted(
            Exit::NotAllowed,
            "rotate on the vault's host; if that is gone, `blockhouse recover` makes this one the host",
        )),
        RotateError::Unopened { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "nothing is in force yet: bring sites back and run it again; --accept-risk goes on without them, and the old keys alone open these",
        )),
        RotateError::NeedsOthers { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "note the accounts of `blockhouse node recovery list`, and let as many of them agree that one is enough for a while: blockhouse node recovery set --threshold 1 --propose FILE. A new paper key takes all others' accounts away: enrol them again with `node recovery set --threshold M --add ACCOUNT`",
        )),
        RotateError::OtherOwner { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "give the identity that became the owner; if nobody you know has it, somebody took the vault over: make a new one",
        )),
        RotateError::Bag(error) => of_bag_change(error),
        RotateError::Interrupted => {
            Some(Verdict::hinted(Exit::Interrupted, "run it again with the same files: it goes on"))
        }
        _ => None,
    }
}

pub(super) fn of_site_change(error: &SiteChangeError) -> Option<Verdict> {
    match error {
        SiteChangeError::NoSuchSite { .. } => Some(Verdict::hinted(Exit::Usage, "`blockhouse site list` shows them")),
        SiteChangeError::NoWriter => Some(Verdict::hinted(
            Exit::NotAllowed,
            "change the sites on the vault's host; if that is gone, `blockhouse recover` makes this one the host",
        )),
        SiteChangeError::NameTaken { .. } => Some(Verdict::hinted(Exit::Usage, "give it another name: URL,name=NAME")),
        SiteChangeError::UnderWay { .. } => Some(Verdict::hinted(
            Exit::Usage,
            "finish that first: `blockhouse site drain --cancel`, `site remove`, `site remove --cancel` or `site lost`, with its name",
        )),
        SiteChangeError::Returned { .. } => {
            Some(Verdict::hinted(Exit::NotAllowed, "empty the folder and add it again: it gets everything anew"))
        }
        SiteChangeError::Promises { .. } => Some(Verdict::hinted(
            Exit::Failed,
            "put it right and run this again: it goes on; or `blockhouse site remove NAME` and use another place",
        )),
        SiteChangeError::NotCopied { .. } => {
            Some(Verdict::hinted(Exit::Failed, "see that it has room and answers, then run this again: it goes on"))
        }
        SiteChangeError::TooFewSites { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "add a site before; only `blockhouse site lost`, for a site that is gone, goes below that",
        )),
        SiteChangeError::Below { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "`blockhouse site drain NAME` copies what is needed there to the others; if the site is gone for good, `blockhouse site lost NAME`",
        )),
        SiteChangeError::WasLost { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "`blockhouse site lost NAME` goes on with it; `blockhouse repair` does the same for the stripes",
        )),
        SiteChangeError::LessSafe { .. } => Some(Verdict::hinted(
            Exit::NotAllowed,
            "add a site before; only `blockhouse site lost`, for a site that is gone, goes below what was planned",
        )),
        SiteChangeError::NotDraining { .. } | SiteChangeError::NotLeaving { .. } => Some(Verdict::plain(Exit::Usage)),
        SiteChangeError::BackupsOpen { .. } => Some(Verdict::hinted(
            Exit::Busy,
            "wait for their end; that of a backup that was killed ends within a day, and --accept-risk does not wait",
        )),
        SiteChangeError::Create { source, .. } => of_create(source),
        SiteChangeError::Bag(error) => of_bag_change(error),
        SiteChangeError::Read(error) => of_config(error),
        SiteChangeError::Open(error) => of_open(error),
        SiteChangeError::Repair(error) => of_repair(error),
        SiteChangeError::Interrupted => Some(Verdict::hinted(Exit::Interrupted, "run it again: it goes on")),
        _ => None,
    }
}
