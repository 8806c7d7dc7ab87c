//! `blockhouse key`

use std::path::{Path, PathBuf};

use blockhouse_crypto::{Recipient, Role};
use blockhouse_vault::keys;
use blockhouse_vault::recipients;
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
    List,
    /// Let another age key open the snapshots that follow
    #[command(after_help = help!("blockhouse key add age1… --label auditor --identity ~/owner.identity"))]
    Add {
        /// The public key, `age1…`
        #[arg(value_name = "PUBLIC_KEY")]
        public: String,
        /// What to call it
        #[arg(long, value_name = "LABEL")]
        label: String,
    },
    /// Lock a key out of the snapshots that follow; what it could open, it still can
    #[command(after_help = help!("blockhouse key remove auditor --identity ~/owner.identity"))]
    Remove {
        /// Its id, public key or label
        #[arg(value_name = "KEY")]
        key: String,
    },
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
        KeyCommand::Passwd { new_passphrase_file, new_no_passphrase } => {
            passwd(new_passphrase_file.as_deref(), new_no_passphrase, global, out)
        }
    }
}

async fn list(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let set = recipients::of_config(vault.config())?;
    let is_approved = vault.ledger().default_recipients().await? == set.hash();
    let mut rows = Vec::new();
    for member in set.members() {
        let (id, role) = (member.id(), member.role().to_string());
        out.record(&json!({
            "type": "key", "id": id, "role": role, "label": member.label(), "public": member.public(),
        }))?;
        rows.push(vec![text::short(&id), role, member.label().to_owned(), member.public().to_owned()]);
    }
    out.table(&["id", "role", "label", "public key"], &rows)?;
    if is_approved {
        return Ok(Exit::Success);
    }
    out.warn(format_args!(
        "warning: the owner has not approved these keys on the ledger: backups for them are refused"
    ));
    Ok(Exit::CheckFailed)
}

async fn add(public: &str, label: &str, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let recipient = Recipient::parse(public, Role::Reader, label)
        .map_err(|error| Refusal::usage(error.to_string(), "a public key begins with age1"))?;
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "key add")?;
    let id = recipient.id();
    keys::add(&vault, &unlocked, recipient).await?;
    out.line(format_args!("key {} ({label}) opens the snapshots that follow", text::short(&id)))?;
    out.record(&json!({ "type": "summary", "ok": true, "added": id, "label": label }))?;
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
    let old = match blockhouse_vault::unlock::Unlocked::identity(path.clone(), None, None) {
        Ok(_) => None,
        Err(_) => passphrase::existing(global, &format!("Old passphrase of {}: ", path.display()))?,
    };
    let old = old.as_ref().map(|old| old.as_str());
    blockhouse_vault::unlock::Unlocked::identity(path.clone(), old, None)?;
    let new = match (is_plain, file) {
        (true, _) => None,
        (false, Some(file)) => Some(passphrase::from_file(file)?),
        (false, None) => Some(passphrase::ask_new("New passphrase: ")?),
    };
    keys::change_passphrase(&path, old, new.as_ref().map(|new| new.as_str()))?;
    out.line(format_args!("the passphrase of {} was changed", path.display()))?;
    out.talk(format_args!("copies of the file elsewhere still open with the old passphrase"));
    out.record(&json!({ "type": "summary", "ok": true }))?;
    Ok(Exit::Success)
}
