//! What the end of a growth means for the user.

use blockhouse_vault::growth::GrowthError;
use blockhouse_vault::recovery::RecoveryError;

use super::{Exit, Verdict};

pub(super) fn of_growth(error: &GrowthError) -> Option<Verdict> {
    match error {
        GrowthError::IsNetwork => Some(Verdict::hinted(
            Exit::Usage,
            "nothing is left to do here: the nodes of its network keep it, and `blockhouse node join` adds a follower",
        )),
        GrowthError::NoNetwork => Some(Verdict::hinted(
            Exit::Usage,
            "`blockhouse node init --from-vault` makes a network keep it; if the host that seals is gone, `blockhouse recover`",
        )),
        GrowthError::IsExternal => Some(Verdict::plain(Exit::Usage)),
        GrowthError::OtherNetwork { .. } => Some(Verdict::hinted(
            Exit::Usage,
            "give the same enrolments as before: the ledger was left to the nodes of those. If they can never run, `blockhouse recover` into a new vault folder takes the ledger back, and what was given out of this network must be destroyed",
        )),
        GrowthError::NotRecovery => Some(Verdict::hinted(
            Exit::NotAllowed,
            "give the owner's identity with --identity FILE, or the paper key with --paper-key FILE",
        )),
        GrowthError::Home(error) => super::of_home(error),
        GrowthError::Ledger(error) => super::of_ledger(error),
        GrowthError::Copies(error) => Some(super::of_copies(error)),
        _ => None,
    }
}

pub(super) fn of_recovery(error: &RecoveryError) -> Option<Verdict> {
    match error {
        RecoveryError::OneHost => Some(Verdict::hinted(
            Exit::Usage,
            "only where a network keeps the ledger does it take several; one that a host seals becomes such by blockhouse node init --from-vault",
        )),
        RecoveryError::FirstVersion => Some(Verdict::hinted(
            Exit::Usage,
            "it is what it is, for contracts are final; a new vault has the newer one",
        )),
        RecoveryError::Threshold { .. } | RecoveryError::There { .. } | RecoveryError::NotThere { .. } => {
            Some(Verdict::hinted(Exit::Usage, "`blockhouse node recovery list` shows the accounts"))
        }
        RecoveryError::Ledger(error) => super::of_ledger(error),
        RecoveryError::Bag(error) => super::of_bag_change(error),
        RecoveryError::Home(error) => super::of_home(error),
        RecoveryError::Copies(error) => Some(super::of_copies(error)),
        _ => None,
    }
}
