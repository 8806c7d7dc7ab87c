//! `blockhouse key rotate`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_crypto::identity::OpenIdentityError;
use blockhouse_crypto::{Identity, PaperKey};
use blockhouse_types::VaultId;
use blockhouse_vault::folder::write_durably;
use blockhouse_vault::progress::Progress;
use blockhouse_vault::rotate::{Left, NewKeys, RotateReport, rotate};
use blockhouse_vault::unlock::{UnlockError, Unlocked};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::{Refusal, one_line};
use crate::output::Output;
use crate::{opening, passphrase, progress, text};

/// The paper key goes to the standard output.
const PRINTED: &str = "-";

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "they are the flags")]
pub(crate) struct RotateArgs {
    /// Make a new identity with an owner's account of its own, in this file; the old one opens and rules nothing more
    #[arg(long, value_name = "FILE")]
    new_identity_out: Option<PathBuf>,
    /// Take the passphrase of the new identity from the first line of this file
    #[arg(long, value_name = "FILE", requires = "new_identity_out", conflicts_with = "new_no_passphrase")]
    new_passphrase_file: Option<PathBuf>,
    /// Leave the new identity without a passphrase
    #[arg(long, requires = "new_identity_out")]
    new_no_passphrase: bool,
    /// Make a new paper key, its words in this file; `-` prints them
    #[arg(long, value_name = "FILE|-")]
    new_paper_key_out: Option<PathBuf>,
}

pub(crate) async fn run(args: RotateArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "key rotate")?;
    if matches!(unlocked, Unlocked::Reader(_)) {
        return Err(Refusal::OwnerOnly { what: "key rotate" }.into());
    }
    opening::confirm(
        global,
        "Wrap the keys of all snapshots anew, and remove the old wraps and key bags at the sites?",
    )?;
    // The owner has the new keys before anything is changed.
    let keys = NewKeys {
        identity: args.new_identity_out.as_deref().map(|path| identity(path, vault.id(), &args)).transpose()?,
        paper: args.new_paper_key_out.as_deref().map(|path| paper(path, out)).transpose()?,
    };
    if let (Some(new), Unlocked::Owner(old)) = (&keys.identity, &unlocked)
        && new.owner().account() == old.owner().account()
    {
        let hint = "give the old identity with --identity, and another file with --new-identity-out";
        return Err(Refusal::usage("the new identity is the one that was given as the old one", hint).into());
    }
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let shown = progress::show(out, &progress);
    let done = rotate(&vault, &unlocked, &keys, &progress).await;
    drop(shown);
    let report = done?;
    tell(&report, &keys, &args, out)?;
    let is_done = report.left.is_empty() && report.unopened.is_empty();
    let left: serde_json::Map<_, _> =
        report.left.iter().map(|(site, left)| (site.to_string(), as_json(left))).collect();
    out.record(&json!({
        "type": "summary", "ok": is_done, "bag_version": report.bag_version, "rewrapped": report.rewrapped,
        "current": report.current, "forgotten": report.forgotten,
        "unopened": report.unopened.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        "new_identity": keys.identity.is_some(), "new_paper_key": keys.paper.is_some(),
        "wraps_removed": report.wraps_removed, "bags_removed": report.bags_removed, "left": left,
        "accounts_removed": report.accounts_removed, "accounts_left": report.accounts_left,
        "other_writers": report.other_writers,
    }))?;
    Ok(if is_done { Exit::Success } else { Exit::CheckFailed })
}

fn as_json(left: &Left) -> serde_json::Value {
    json!({ "wraps": left.wraps, "bags": left.bags, "why": left.why })
}

/// The new identity: made and written, or that of a run that was interrupted.
fn identity(path: &Path, vault: VaultId, args: &RotateArgs) -> anyhow::Result<Identity> {
    let passphrase = || -> anyhow::Result<Option<Zeroizing<String>>> {
        match (args.new_no_passphrase, &args.new_passphrase_file) {
            (true, _) => Ok(None),
            (false, Some(file)) => Ok(Some(passphrase::from_file(file)?)),
            (false, None) if !passphrase::is_interactive() => {
                let hint = "give it with --new-passphrase-file FILE, or want none with --new-no-passphrase";
                Err(Refusal::usage("there is no terminal to ask for the passphrase of the new identity at", hint)
                    .into())
            }
            (false, None) => Ok(Some(passphrase::ask_new("Passphrase for the new identity: ")?)),
        }
    };
    if path.symlink_metadata().is_err() {
        let identity = NewKeys::make_identity(vault);
        let passphrase = passphrase()?;
        write_durably(path, 0o600, &identity.to_file(passphrase.as_ref().map(|it| it.as_str()))?)?;
        return Ok(identity);
    }
    let opened = match Unlocked::identity(path.to_owned(), None, Some(vault)) {
        Err(UnlockError::Identity { source: OpenIdentityError::NeedsPassphrase, .. }) => {
            let passphrase = passphrase()?;
            Unlocked::identity(path.to_owned(), passphrase.as_ref().map(|it| it.as_str()), Some(vault))
        }
        opened => opened,
    };
    if let Unlocked::Owner(identity) = opened? {
        return Ok(*identity);
    }
    let what = format!("{} is there already and is no identity of this vault", path.display());
    Err(Refusal::usage(what, "give another path").into())
}

/// The new paper key: made and written or printed, or that of a run that was interrupted.
fn paper(path: &Path, out: &Output) -> anyhow::Result<PaperKey> {
    if path != Path::new(PRINTED) && path.symlink_metadata().is_ok() {
        return match Unlocked::paper(path.to_owned())? {
            Unlocked::Paper(paper) => Ok(*paper),
            _ => Err(Refusal::usage(format!("{} holds no paper key", path.display()), "give another path").into()),
        };
    }
    let paper = NewKeys::make_paper();
    let words = paper.words();
    if path == Path::new(PRINTED) {
        out.record(&json!({ "type": "paper-key", "words": words.as_str() }))?;
        out.data(format_args!("{}", words.as_str()))?;
    } else {
        let text = Zeroizing::new(format!("{}\n", words.as_str()));
        write_durably(path, 0o600, text.as_bytes())?;
    }
    Ok(paper)
}

fn tell(report: &RotateReport, keys: &NewKeys, args: &RotateArgs, out: &Output) -> anyhow::Result<()> {
    out.line(format_args!(
        "{} wrapped anew, {} had the right wraps; version {} of the key bag is in force",
        text::count(report.rewrapped, "snapshot"),
        report.current,
        report.bag_version
    ))?;
    out.line(format_args!(
        "{} and {} removed at the sites",
        text::count(report.wraps_removed, "old wrap"),
        text::count(report.bags_removed, "old key bag")
    ))?;
    for (id, error) in &report.unopened {
        out.warn(format_args!("warning: snapshot {id} was not wrapped anew: {}", one_line(error)));
    }
    if report.forgotten > 0 {
        let count = text::count(report.forgotten, "forgotten snapshot");
        out.talk(format_args!("{count} keep their old wraps as long as their objects are at the sites"));
    }
    tell_left(report, keys, out);
    if let Some(path) = args.new_identity_out.as_deref().filter(|_| keys.identity.is_some()) {
        out.talk(format_args!(
            "\nThe new identity is in {}: keep it away from this host. The old one makes no rules and hands nothing over any more; destroy it once you have tried the new one.",
            path.display()
        ));
    }
    if let Some(path) = args.new_paper_key_out.as_deref() {
        let place = if path == Path::new(PRINTED) {
            "was printed above".to_owned()
        } else {
            format!("is in {}", path.display())
        };
        out.talk(format_args!("The new paper key {place}. Destroy the old one."));
    }
    tell_accounts(report, keys, out);
    Ok(())
}

/// What old keys open still, in plain words.
fn tell_left(report: &RotateReport, keys: &NewKeys, out: &Output) {
    for (site, left) in &report.left {
        match (left.wraps, left.bags) {
            (Some(wraps), Some(bags)) => out.warn(format_args!(
                "warning: site `{site}` still has {} and {}: {}",
                text::count(wraps, "old wrap"),
                text::count(bags, "old key bag"),
                left.why
            )),
            _ => out.warn(format_args!(
                "warning: site `{site}` still has all old wraps and key bags that it had: {}",
                left.why
            )),
        }
    }
    let snapshots = text::count(report.rewrapped + report.current, "snapshot");
    let who = match (&keys.identity, &keys.paper) {
        (Some(_), Some(_)) => "the old identity or the old paper key",
        (Some(_), None) => "the old identity",
        (None, Some(_)) => "the old paper key",
        (None, None) => return,
    };
    if report.left.is_empty() {
        out.talk(format_args!(
            "\nNo site that is asked has an old wrap. Who holds {who} and copied wraps before can still open the {snapshots} made before now; to end that, make a new vault and delete the sites of this one."
        ));
    } else {
        out.warn(format_args!(
            "\nWho holds {who} can still open the {snapshots} made before now, with the wraps that are left. To end that, bring those sites back, or unlock or empty them, and run `blockhouse key rotate` again. What was copied before stays open to him in any case."
        ));
    }
    out.talk(format_args!(
        "The vault secret stays as it was: every chunk's name follows from it. Who opened the old key bag can go on confirming guesses of content and reading the sizes and names of chunks; it opens no content. Only a new vault has another one."
    ));
}

fn tell_accounts(report: &RotateReport, keys: &NewKeys, out: &Output) {
    let names = |accounts: &[blockhouse_types::Account]| {
        accounts.iter().map(|account| format!("0x{account}")).collect::<Vec<_>>().join(", ")
    };
    if !report.accounts_removed.is_empty() {
        out.talk(format_args!(
            "accounts that cannot hand the ledger over any more: {}",
            names(&report.accounts_removed)
        ));
    }
    // The old identity has one, and the old paper key: whose the others are nobody can see.
    if report.accounts_removed.len() > 2 {
        out.warn(format_args!(
            "warning: more than those of the old identity and the old paper key. If other people's are among them: blockhouse node recovery set --add"
        ));
    }
    // One beside the owner's is as it should be: that of the paper key.
    if report.accounts_left.len() > 1 {
        out.warn(format_args!(
            "warning: these accounts can hand the ledger over, alone or together, one of them is the paper key's: {}. If you know one of them not: a new paper key with --new-paper-key-out removes all others, those of other people too",
            names(&report.accounts_left)
        ));
    }
    if !report.other_writers.is_empty() && keys.identity.is_some() {
        out.warn(format_args!(
            "warning: these accounts are writers beside this host's: {}; `blockhouse history` shows who enrolled them",
            names(&report.other_writers)
        ));
    }
}
