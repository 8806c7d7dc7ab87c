use std::path::PathBuf;
use std::time::Duration;

use blockhouse_ledger::ClockError;

use super::*;

fn exit_of(error: impl Into<anyhow::Error>) -> Exit {
    verdict(&error.into()).exit
}

fn no_vault() -> ConfigError {
    ConfigError::NoVault { folder: PathBuf::from("/v") }
}

#[test]
fn no_vault_is_10_behind_a_transparent_error_too() {
    assert_eq!(exit_of(no_vault()), Exit::NoVault);
    assert_eq!(exit_of(OpenError::Config(no_vault())), Exit::NoVault);
    assert_eq!(exit_of(anyhow::Error::from(OpenError::Config(no_vault())).context("outer")), Exit::NoVault);
}

#[test]
fn the_home_of_the_ledger_decides_through_every_wrapping() {
    let busy = || StoreError::Busy { path: PathBuf::from("/l"), waited: Duration::from_secs(1) };
    let through_ledger = |home: HomeError| BackupError::Ledger(LedgerError::Home(Box::new(home)));
    assert_eq!(exit_of(OpenError::Ledger(HomeError::Store(busy()))), Exit::Busy);
    assert_eq!(exit_of(through_ledger(HomeError::Store(busy()))), Exit::Busy);
    let handed_over = || HomeError::HandedOver { in_force: [1; 32], own: [2; 32] };
    assert_eq!(exit_of(through_ledger(handed_over())), Exit::NotAllowed);
    let guard = |source: GuardError| HomeError::Guard { height: 1, source: Box::new(source) };
    let few = GuardError::TooFewSites { read: 1, needed: 3 };
    assert_eq!(exit_of(through_ledger(guard(few))), Exit::LedgerUnreachable);
    let other = GuardError::HandedOver { site: "s".parse().unwrap(), number: 1 };
    assert_eq!(exit_of(through_ledger(guard(other))), Exit::NotAllowed);
    let clock = HomeError::Clock(ClockError::Behind { now: 1, parent: 9, behind: 8 });
    let judged = verdict(&through_ledger(clock).into());
    assert_eq!((judged.exit, judged.hint), (Exit::Failed, Some(CLOCK)));
}

#[test]
fn passphrases_proofs_and_interruptions_have_codes_of_their_own() {
    let unlock = |source| UnlockError::Identity { path: PathBuf::from("i"), source };
    assert_eq!(exit_of(unlock(OpenIdentityError::WrongPassphrase)), Exit::WrongPassphrase);
    assert_eq!(exit_of(unlock(OpenIdentityError::NeedsPassphrase)), Exit::WrongPassphrase);
    assert_eq!(exit_of(ParseError::NotCanonical), Exit::CheckFailed);
    assert_eq!(exit_of(CheckError::Failed), Exit::CheckFailed);
    assert_eq!(exit_of(BackupError::Walk(WalkError::Interrupted)), Exit::Interrupted);
    assert_eq!(exit_of(RestoreSnapshotError::Interrupted), Exit::Interrupted);
    assert_eq!(exit_of(VerifyError::Interrupted), Exit::Interrupted);
    assert_eq!(exit_of(RepairVaultError::Interrupted), Exit::Interrupted);
    assert_eq!(exit_of(std::io::Error::other("x")), Exit::Failed);
}

/// The pattern stands in the snapshot: it was told as wrong usage, though nobody typed it, and without a way out.
#[test]
fn patterns_of_a_snapshot_that_cannot_be_understood_are_no_wrong_usage() {
    let empty = || ExcludeError::Empty { pattern: "/".to_owned() };
    assert_eq!(exit_of(empty()), Exit::Usage);
    let judged = verdict(&RestoreSnapshotError::Spared(empty()).into());
    assert_eq!(judged.exit, Exit::Failed);
    assert!(judged.hint.is_some_and(|hint| hint.contains("without --delete")), "{judged:?}");
}

#[test]
fn what_a_handover_cuts_off_is_told_with_its_code_and_the_way_out() {
    let site = || "s".parse().unwrap();
    let (snapshot, block) = (blockhouse_types::SnapshotId::new([1; 32]), 7);
    let source = GuardError::HandedOver { site: site(), number: 1 };
    let judged = verdict(&BackupError::TakenOver { snapshot, block, source }.into());
    assert_eq!((judged.exit, judged.hint), (Exit::NotAllowed, Some(CUT_OFF)));
    let unconfirmed = |source| BackupError::Unconfirmed { snapshot, block, source };
    assert_eq!(exit_of(unconfirmed(GuardError::TooFewSites { read: 1, needed: 3 })), Exit::LedgerUnreachable);
    assert_eq!(exit_of(unconfirmed(GuardError::Forked { site: site(), height: 7 })), Exit::NotAllowed);
    assert_eq!(exit_of(RecoverError::Outdone { handovers: 0, others: 1, chains: Vec::new() }), Exit::CheckFailed);
    assert_eq!(exit_of(RecoverError::KeepsGrowing { readings: 4 }), Exit::Busy);
    assert_eq!(exit_of(RecoverError::Unasked { read: 1, needed: 2 }), Exit::LedgerUnreachable);
    let folder = || PathBuf::from("/v");
    assert_eq!(exit_of(RecoverError::Busy { folder: folder() }), Exit::Busy);
    assert_eq!(exit_of(InitError::Busy { folder: folder() }), Exit::Busy);
}

/// The page of exit codes has one row for each code.
#[test]
fn the_page_lists_every_code() {
    let page = include_str!("../../../../docs/reference/exit-codes.md");
    let all = [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Unreadable,
        Exit::CheckFailed,
        Exit::NotAllowed,
        Exit::LedgerUnreachable,
        Exit::Degraded,
        Exit::NoVault,
        Exit::Busy,
        Exit::WrongPassphrase,
        Exit::Interrupted,
    ];
    for exit in all {
        assert_eq!(page.matches(&format!("\n| {} |", exit.code())).count(), 1, "{exit:?}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| ") && line.contains("| ")).count(), all.len() + 1);
}
