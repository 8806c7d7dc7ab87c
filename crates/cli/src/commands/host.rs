//! `blockhouse host`

use std::path::{Path, PathBuf};

use anyhow::Context;
use blockhouse_pipeline::host_request::{HostRequest, REQUEST_MAX};
use blockhouse_types::Fingerprint;
use blockhouse_vault::folder::write_durably;
use blockhouse_vault::hosts::{self, Host};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;
use crate::{opening, text};

/// The longest answer that is read: the longest that is made, and some more.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;

/// Let several hosts back up into one vault, whose ledger a network keeps
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse host list"))]
pub(crate) struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Ask to be one of a vault's hosts: makes an account here, and a file for the vault's owner
    ///
    /// The file holds no secret. Read its code to the owner by telephone: it is how he knows that nobody changed the file. Run
    /// again before it is answered, it writes the same file.
    #[command(after_help = help!("blockhouse host request -o web-1.request"))]
    Request {
        /// Where the request goes
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// What to call this host [default: its host name]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Make a host that asked one of the vault's, and a file for it; needs the owner's identity
    ///
    /// The file is sealed to the host that asked. It gives it what it needs to write and to deduplicate, and to read nothing.
    #[command(after_help = help!("blockhouse host approve web-1.request -o web-1.answer --identity ~/owner.identity"))]
    Approve {
        /// The request
        #[arg(value_name = "FILE")]
        request: PathBuf,
        /// Where the answer goes
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make the vault folder of this host from the owner's answer
    ///
    /// The ledger is fetched from its nodes and verified from its first block on. Compare the fingerprint with the owner's, or
    /// give it with --fingerprint: anybody could have made the answer.
    #[command(after_help = help!("blockhouse host join web-1.answer --fingerprint 6e0b…f1"))]
    Join {
        /// The answer
        #[arg(value_name = "FILE")]
        answer: PathBuf,
        /// The vault's fingerprint, as its owner says it
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<Fingerprint>,
    },
    /// Take a host's right to write, for ever; needs the owner's identity. What it recorded stays
    #[command(after_help = help!("blockhouse host revoke web-1 --identity ~/owner.identity"))]
    Revoke {
        /// Its name or its account, as `host list` shows them
        #[arg(value_name = "NAME|ACCOUNT")]
        host: String,
    },
    /// List the vault's hosts
    #[command(after_help = help!("blockhouse host list"))]
    List,
}

pub(crate) async fn run(args: HostArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        HostCommand::Request { output, name } => request(&output, name, global, out),
        HostCommand::Approve { request, output } => approve(&request, &output, global, out).await,
        HostCommand::Join { answer, fingerprint } => join(&answer, fingerprint, global, out).await,
        HostCommand::Revoke { host } => revoke(&host, global, out).await,
        HostCommand::List => list(global, out).await,
    }
}

fn request(output: &Path, name: Option<String>, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let request = hosts::request(&global.folder()?, &name)?;
    write_durably(output, 0o644, request.to_text().as_bytes())?;
    let (code, account) = (request.code().to_string(), request.account());
    out.line(format_args!("code     {code}"))?;
    out.line(format_args!("account  0x{account}"))?;
    out.talk(format_args!(
        "\nThe request is in {}; it holds no secret. Give it to the vault's owner, and read the code to him.\nThe owner: blockhouse host approve {} -o ANSWER --identity FILE\nThen here: blockhouse host join ANSWER",
        output.display(),
        output.display(),
    ));
    out.record(&json!({
        "type": "summary", "ok": true, "host": request.name(), "account": account, "code": code, "file": output,
    }))?;
    Ok(Exit::Success)
}

async fn approve(request: &Path, output: &Path, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let bytes = read_limited(request, REQUEST_MAX as u64, "request")?;
    let request = HostRequest::parse(&bytes).with_context(|| format!("could not use {}", request.display()))?;
    if output.symlink_metadata().is_ok() {
        let what = format!("{} is there already and is not overwritten", output.display());
        return Err(Refusal::usage(what, "give another path, or move the file away").into());
    }
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "host approve")?;
    let (code, account) = (request.code().to_string(), request.account());
    out.line(format_args!("name     {}", request.name()))?;
    out.line(format_args!("code     {code}"))?;
    opening::confirm(global, "Does the host's operator read the same code? Make it a host of this vault?")?;
    let approved = hosts::approve(&vault, &unlocked, &request).await?;
    write_durably(output, 0o600, &approved.answer)?;
    let fingerprint = vault.standing().await?.fingerprint;
    out.line(format_args!("account  0x{account}"))?;
    let what = if approved.is_new { "is a host of this vault now" } else { "was a host of this vault already" };
    out.talk(format_args!(
        "`{}` {what}. The answer is in {}, and opens for that host alone.\nThere: blockhouse host join {} --fingerprint {fingerprint}",
        request.name(),
        output.display(),
        output.display(),
    ));
    out.record(&json!({
        "type": "summary", "ok": true, "host": request.name(), "account": account, "code": code, "file": output,
        "already": !approved.is_new, "fingerprint": fingerprint,
    }))?;
    Ok(Exit::Success)
}

async fn join(answer: &Path, expected: Option<Fingerprint>, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let bytes = read_limited(answer, ANSWER_MAX, "answer")?;
    let joined = hosts::join(global.folder()?, &bytes, expected, global.settings()).await?;
    for site in &joined.down {
        out.warn(format_args!(
            "warning: site `{site}` cannot be used from this host; correct its place in config.toml"
        ));
    }
    out.line(format_args!("vault        {}", joined.vault))?;
    out.line(format_args!("fingerprint  {}", joined.fingerprint))?;
    if expected.is_none() {
        out.talk(format_args!(
            "Compare the fingerprint with the one that the owner's `blockhouse status` shows: another one is another vault."
        ));
    }
    out.talk(format_args!("This host can back up now: blockhouse backup PATH"));
    out.record(&json!({
        "type": "summary", "ok": true, "vault": joined.vault, "fingerprint": joined.fingerprint, "down": joined.down,
    }))?;
    Ok(Exit::Success)
}

async fn revoke(wanted: &str, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "host revoke")?;
    let known = hosts::list(&vault).await?;
    let host = hosts::find(&known, wanted)?;
    let name = shown(host);
    opening::confirm(global, &format!("Take the right to write from {name}, for ever?"))?;
    hosts::revoke(&vault, &unlocked, host).await?;
    out.line(format_args!("{name} writes to this vault no more"))?;
    out.talk(format_args!(
        "It still knows how chunks of this vault are named and sealed, and its site credentials: take those away at the sites."
    ));
    out.record(&json!({ "type": "summary", "ok": true, "host": host.name, "account": host.account }))?;
    Ok(Exit::Success)
}

async fn list(global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::reader(global, out).await?;
    let mut rows = Vec::new();
    for host in hosts::list(&vault).await? {
        let state = if host.is_active { "active" } else { "revoked" };
        out.record(&json!({
            "type": "host", "account": host.account, "host": host.name, "state": state, "this": host.is_own,
            "snapshots": host.snapshots, "last": host.last,
        }))?;
        let name = host.name.clone().unwrap_or_else(|| if host.is_own { "this host" } else { "-" }.to_owned());
        let last = host.last.map_or_else(|| "-".to_owned(), text::moment);
        rows.push(vec![format!("0x{}", host.account), name, state.to_owned(), host.snapshots.to_string(), last]);
    }
    out.table(&["account", "name", "state", "snapshots", "last"], &rows)?;
    Ok(Exit::Success)
}

fn shown(host: &Host) -> String {
    host.name.as_ref().map_or_else(|| format!("0x{}", host.account), |name| format!("`{name}` (0x{})", host.account))
}

/// Reads a small file that somebody else made.
fn read_limited(path: &Path, most: u64, what: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path).with_context(|| format!("could not read the {what} {}", path.display()))?;
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("could not read the {what} {}", path.display()))?;
    anyhow::ensure!(bytes.len() as u64 <= most, "{} is too long for a {what} of a host", path.display());
    Ok(bytes)
}
