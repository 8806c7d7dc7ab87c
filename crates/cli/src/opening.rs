//! Opening vaults and keys for a command, and saying what was strange about it.

use anyhow::Context;
use blockhouse_crypto::identity::OpenIdentityError;
use blockhouse_sites::{Remedy, SiteName};
use blockhouse_types::VaultId;
use blockhouse_vault::folder::{SiteUse, VaultFolder};
use blockhouse_vault::unlock::{UnlockError, Unlocked};
use blockhouse_vault::vault::{Settings, Vault};

use crate::arguments::Global;
use crate::failure::{Refusal, one_line};
use crate::output::Output;
use crate::passphrase;

/// Opens the vault and tells what was strange.
pub(crate) async fn vault(global: &Global, out: &Output) -> anyhow::Result<Vault> {
    open(global.folder()?, global.settings(), out).await
}

/// The same for a command that writes nothing, reads of the ledger what the host keeps of it, and does without sites that it does not need.
pub(crate) async fn reader(global: &Global, out: &Output) -> anyhow::Result<Vault> {
    open(global.folder()?, Settings { reads_only: true, spares_sites: true, ..global.settings() }, out).await
}

/// The same for a command that says which sites are up: each is given all its time.
pub(crate) async fn observer(global: &Global, out: &Output) -> anyhow::Result<Vault> {
    open(global.folder()?, Settings { reads_only: true, ..global.settings() }, out).await
}

/// The same for a command that writes to the ledger at most, and does without sites that it does not need.
pub(crate) async fn site_reader(global: &Global, out: &Output) -> anyhow::Result<Vault> {
    open(global.folder()?, Settings { spares_sites: true, ..global.settings() }, out).await
}

/// The same of the vault in another folder.
pub(crate) async fn vault_at(folder: VaultFolder, global: &Global, out: &Output) -> anyhow::Result<Vault> {
    open(folder, global.settings(), out).await
}

async fn open(folder: VaultFolder, settings: Settings, out: &Output) -> anyhow::Result<Vault> {
    let vault = Vault::open(folder, settings).await?;
    tell_strange(&vault, out);
    tell_under_way(&vault, &[], out);
    Ok(vault)
}

/// Opens the vault as if these sites were gone, and tells what was strange.
pub(crate) async fn vault_without(global: &Global, sites: &[SiteName], out: &Output) -> anyhow::Result<Vault> {
    let vault = Vault::open_without(global.folder()?, global.settings(), sites).await?;
    tell_strange(&vault, out);
    tell_under_way(&vault, sites, out);
    Ok(vault)
}

/// A change of sites that was interrupted is told until it is finished; not of those that the command is about.
fn tell_under_way(vault: &Vault, about: &[SiteName], out: &Output) {
    for entry in vault.apart().iter().filter(|entry| !about.contains(&entry.spec.name)) {
        let name = &entry.spec.name;
        let what = match entry.state {
            Some(SiteUse::Joining) => {
                format!("is being added and does not count yet; `site add {}` goes on", entry.spec.url)
            }
            Some(SiteUse::Leaving) => {
                format!("is being removed; `site remove {name}` goes on, `site remove {name} --cancel` uses it again")
            }
            Some(SiteUse::Lost) => {
                format!("was declared lost, and not all that it held is made again; `site lost {name}` goes on")
            }
            Some(SiteUse::Draining) | None => continue,
        };
        out.warn(format_args!("warning: site `{name}` {what}"));
    }
}

fn tell_strange(vault: &Vault, out: &Output) {
    for warning in vault.warnings() {
        out.warn(format_args!("warning: {}", one_line(warning)));
    }
    for (member, reason) in vault.sites().down() {
        let remedy = advice(reason.remedy());
        out.warn(format_args!("warning: site `{}` is down: {}; {remedy}", member.name(), one_line(reason.as_ref())));
    }
}

/// What a user does about a site that fails.
pub(crate) const fn advice(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::BringBack => "mount or connect its storage",
        Remedy::RecreateOrCorrect => "correct its place, or make it again with `repair --recreate`",
        Remedy::FreeSpace => "make room",
        Remedy::Permit => "give this user the right to it",
        Remedy::Examine => "look at its storage",
        Remedy::GiveCredentials => "give its credentials by the environment or a file (docs/reference/sites.md)",
        Remedy::MakeBucket => "make the bucket, or correct its name in config.toml",
        Remedy::NameRegion => "name its region in its URL: ?region=…",
        Remedy::CorrectUrl => "correct its URL or the settings that it names (docs/reference/sites.md)",
        Remedy::Trust => "trust its certificate or host key if it is the right one (docs/reference/sites.md)",
        Remedy::Reach => "start its server or correct its address",
        Remedy::SetClock => "set the clock of this host",
        Remedy::Rebuild => "take a build of blockhouse that has the feature",
    }
}

/// True if the user named something that opens snapshots.
pub(crate) const fn has_key(global: &Global) -> bool {
    global.identity.is_some() || global.paper_key.is_some()
}

/// Opens the identity or the paper key; `what` needs it.
pub(crate) fn unlock(global: &Global, vault: Option<VaultId>, what: &'static str) -> anyhow::Result<Unlocked> {
    if let Some(path) = &global.paper_key {
        return Ok(Unlocked::paper(path.clone())?);
    }
    let Some(path) = &global.identity else { return Err(Refusal::MissingIdentity { what }.into()) };
    // A file without a passphrase is opened without asking for one.
    match Unlocked::identity(path.clone(), None, vault) {
        Err(UnlockError::Identity { source: OpenIdentityError::NeedsPassphrase, path }) => {
            let prompt = format!("Passphrase of {}: ", path.display());
            let passphrase = passphrase::existing(global, &prompt)?;
            let given = passphrase.as_ref().map(|passphrase| passphrase.as_str());
            Ok(Unlocked::identity(path, given, vault)?)
        }
        other => Ok(other?),
    }
}

/// Asks before something that cannot be undone; without a terminal the command itself is the word.
pub(crate) fn confirm(global: &Global, question: &str) -> anyhow::Result<()> {
    if global.yes || !passphrase::is_interactive() {
        return Ok(());
    }
    match ask_line(&format!("{question} [y/N] "))?.to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Refusal::Declined.into()),
    }
}

/// Asks for a line at the terminal.
pub(crate) fn ask_line(prompt: &str) -> anyhow::Result<String> {
    use std::io::Write;
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{prompt}").and_then(|()| stderr.flush()).context("could not write to the terminal")?;
    drop(stderr);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("could not read from the terminal")?;
    Ok(line.trim().to_owned())
}
