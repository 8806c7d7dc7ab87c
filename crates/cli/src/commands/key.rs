//! `blockhouse key`

mod rotate;

use std::path::{Path, PathBuf};

use blockhouse_crypto::{Recipient, RecipientSet, Role};
use blockhouse_vault::keys::{self, Added};
use blockhouse_vault::recipients;
use blockhouse_vault::unlock::Unlocked;
use blockhouse_vault::vault::Vault;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::{opening, passphrase, text};

/// Manage who can open snapshots, and the passphrase of the identity
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse key list"))]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List the keys that open the next snapshots
    #[command(after_help = help!("blockhouse key list"))]
    ///
    /// Without the identity, what this host's config.toml names, and whether the owner approved it. With it, what the key bag
    /// says, which is in force; a change of keys that was interrupted is finished.
    List,
    /// Let another age key open the snapshots that follow
    ///
    /// It opens none before, and has no other right. Run again after an interruption, it finishes what was begun.
    #[command(after_help = help!("blockhouse key add age1… --label auditor --identity ~/owner.identity"))]
    Add {
        /// The public key, `age1…`
        #[arg(value_name = "PUBLIC_KEY")]
        public: String,
        /// What to call it; no two keys are called the same
        #[arg(long, value_name = "LABEL", value_parser = NonEmptyStringValueParser::new())]
        label: String,
    },
    /// Lock a key out of the snapshots that follow; what it could open, it still can
    #[command(after_help = help!("blockhouse key remove auditor --identity ~/owner.identity"))]
    Remove {
        /// Its label, public key, or id as `key list` shows it
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Wrap the keys of all snapshots anew, and make a new key bag; with other keys in the place of the old ones if asked
    ///
    /// After a key was removed, or an identity or paper key came into wrong hands. Old wraps and key bags are removed at the sites
    /// once the new ones are safe there. Run again after an interruption, with the same files, it goes on.
    #[command(after_help = help!(
        "blockhouse key rotate --identity ~/owner.identity --new-identity-out ~/new.identity --new-paper-key-out ~/new-paper.txt"
    ))]
    Rotate(rotate::RotateArgs),
    /// Change the passphrase of the identity file
    #[command(after_help = help!("blockhouse key passwd --identity ~/owner.identity"))]
    Passwd {
        /// Take the new passphrase from the first line of this file
        #[arg(long, value_name = "FILE", conflicts_with = "new_no_passphrase")]
        new_passphrase_file: Option<PathBuf>,
        /// Leave the identity file without a passphrase
        #[arg(long)]
        new_no_passphrase: bool,
    },
}

pub(crate) async fn run(args: KeyArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        KeyCommand::List => list(global, out).await,
        KeyCommand::Add { public, label } => add(&public, &label, global, out).await,
        KeyCommand::Remove { key } => remove(&key, global, out).await,
        KeyCommand::Rotate(args) => rotate::run(args, global, out).await,
        KeyCommand::Passwd { new_passphrase_file, new_no_passphrase } => {
            passwd(new_passphrase_file.as_deref(), new_no_passphrase, global, out)
        }
    }
}

async fn list(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked =
        if opening::has_key(global) { Some(opening::unlock(global, Some(vault.id()), "key list")?) } else { None };
    match unlocked.filter(|unlocked| !matches!(unlocked, Unlocked::Reader(_))) {
        Some(unlocked) => list_bag(&vault, &unlocked, out).await,
        None => list_host(&vault, out).await,
    }
}

/// What the key bag says: that is in force, whatever ledger and host said before.
async fn list_bag(vault: &Vault, unlocked: &Unlocked, out: &Output) -> anyhow::Result<Exit> {
    let found = keys::in_force(vault, unlocked).await?;
    tell_keys(&found.recipients, out)?;
    let is_host = vault.secrets().is_some();
    let lags = [
        (found.ledger_lagged, "the ledger approved other keys"),
        (found.host_lagged, "this host's config.toml named other keys"),
    ];
    for (_, what) in lags.iter().filter(|(lags, _)| *lags) {
        let now =
            if is_host { "it was brought to the key bag now" } else { "the vault's own host brings it to the key bag" };
        out.warn(format_args!("warning: {what}: a change was interrupted, or the file was edited; {now}"));
    }
    out.data(format_args!("these keys open the next snapshots: version {} of the key bag is in force", found.version))?;
    let is_settled = is_host || !found.lagged();
    out.record(&json!({
        "type": "summary",
        "ok": is_settled,
        "bag_version": found.version,
        "ledger_lagged": found.ledger_lagged,
        "host_lagged": found.host_lagged,
    }))?;
    Ok(if is_settled { Exit::Success } else { Exit::CheckFailed })
}

/// What this host's configuration says, and whether that is what the owner approved.
async fn list_host(vault: &Vault, out: &Output) -> anyhow::Result<Exit> {
    let set = recipients::of_config(vault.config())?;
    let is_approved = vault.ledger().default_recipients().await? == set.hash();
    tell_keys(&set, out)?;
    out.record(&json!({ "type": "summary", "ok": is_approved, "host_lagged": !is_approved }))?;
    if is_approved {
        out.data(format_args!(
            "these keys open the next snapshots: this host's config.toml names them, and the owner approved them"
        ))?;
        return Ok(Exit::Success);
    }
    out.warn(format_args!(
        "warning: this host's config.toml lags behind: the owner approved other keys on the ledger, and backups for these are refused\nhint: `blockhouse key list --identity FILE` shows the keys in force and brings this host to them"
    ));
    Ok(Exit::CheckFailed)
}

fn tell_keys(set: &RecipientSet, out: &Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut members: Vec<&Recipient> = set.members().iter().collect();
    members.sort_by(|one, other| (one.role(), one.label()).cmp(&(other.role(), other.label())));
    for member in members {
        let (id, role) = (member.id(), member.role().to_string());
        out.record(&json!({
            "type": "key", "id": id, "role": role, "label": member.label(), "public": member.public(),
        }))?;
        rows.push(vec![text::short(&id), role, member.label().to_owned(), member.public().to_owned()]);
    }
    Ok(out.table(&["id", "role", "label", "public key"], &rows)?)
}

async fn add(public: &str, label: &str, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let recipient = Recipient::parse(public, Role::Reader, label).map_err(|error| {
        Refusal::usage(error.to_string(), "`age-keygen` makes a pair of keys and prints the public one")
    })?;
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "key add")?;
    let id = recipient.id();
    let (is_new, label) = match keys::add(&vault, &unlocked, recipient).await? {
        Added::New => (true, label.to_owned()),
        Added::Already { label } => (false, label),
    };
    let id_text = text::short(&id);
    if is_new {
        out.line(format_args!("key {id_text} ({label}) opens the snapshots that follow, and none before"))?;
    } else {
        out.line(format_args!("key {id_text} was there already, as `{label}`: it opens the snapshots that follow"))?;
    }
    out.record(&json!({ "type": "summary", "ok": true, "added": id, "label": label, "already": !is_new }))?;
    Ok(Exit::Success)
}

async fn remove(key: &str, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "key remove")?;
    opening::confirm(global, &format!("Lock the key `{key}` out of all snapshots that follow?"))?;
    let id = keys::remove(&vault, &unlocked, key).await?;
    out.line(format_args!("key {} does not open the snapshots that follow", text::short(&id)))?;
    out.talk(format_args!("what it could open it still can: its manifest keys are out of reach now"));
    out.record(&json!({ "type": "summary", "ok": true, "removed": id }))?;
    Ok(Exit::Success)
}

fn passwd(file: Option<&Path>, is_plain: bool, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let path = global.identity.clone().ok_or(Refusal::OwnerOnly { what: "key passwd" })?;
    // Opened once before the new passphrase is asked for: whoever mistypes the old one learns it first.
    let old = match Unlocked::identity(path.clone(), None, None) {
        Ok(_) => None,
        Err(_) => passphrase::existing(global, &format!("Old passphrase of {}: ", path.display()))?,
    };
    let old = old.as_ref().map(|old| old.as_str());
    Unlocked::identity(path.clone(), old, None)?;
    let new = match (is_plain, file) {
        (true, _) => None,
        (false, Some(file)) => Some(passphrase::from_file(file)?),
        (false, None) if !passphrase::is_interactive() => {
            let hint = "give it with --new-passphrase-file FILE, or want none with --new-no-passphrase";
            return Err(Refusal::usage("there is no terminal to ask for the new passphrase at", hint).into());
        }
        (false, None) => Some(passphrase::ask_new("New passphrase: ")?),
    };
    keys::change_passphrase(&path, old, new.as_ref().map(|new| new.as_str()))?;
    out.line(format_args!("the passphrase of {} was changed", path.display()))?;
    out.talk(format_args!("copies of the file elsewhere still open with the old passphrase"));
    out.record(&json!({ "type": "summary", "ok": true }))?;
    Ok(Exit::Success)
}
