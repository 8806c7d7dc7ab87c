//! `blockhouse node recovery`

use std::path::{Path, PathBuf};

use blockhouse_crypto::AccountSecret;
use blockhouse_homes::network::{NodeFolder, RecoveryProposal, Word};
use blockhouse_ledger::TrustRoot;
use blockhouse_types::Account;
use blockhouse_vault::ledger::Recovery;
use blockhouse_vault::recovery::{self, Planned, Wanted};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{grow, shown};
use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::opening;
use crate::output::Output;
use crate::text;

#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    #[command(subcommand)]
    command: RecoveryCommand,
}

#[derive(Debug, Subcommand)]
enum RecoveryCommand {
    /// Show who may hand the ledger over, and how many of them it takes
    #[command(after_help = help!("blockhouse node recovery list"))]
    List,
    /// Change who may hand the ledger over, or how many of them it takes; needs the owner's identity
    ///
    /// One is enough until told otherwise. From two on, neither they nor their number change without the word of as many of them: --propose
    /// writes what the others agree to with `node recovery approve`, and --approval brings what they gave. The vault's new owner is no
    /// recovery account by himself then, and `recover` and `key rotate` refuse.
    #[command(after_help = help!(
        "blockhouse node recovery set --threshold 2 --add 0x5f0c…a1 --add 0x77d2…0e --identity ~/owner.identity"
    ))]
    Set(SetArgs),
    /// Agree to a proposal, with the identity or paper key, or as a node; no vault and no network is needed
    #[command(after_help = help!("blockhouse node recovery approve proposal --dir /var/lib/blockhouse-node --out ann.approval"))]
    Approve(ApproveArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// How many recovery accounts must agree to a handover
    #[arg(long, value_name = "M", required_unless_present_any = ["add", "remove"])]
    threshold: Option<u8>,
    /// An account that may hand the ledger over from then on, as a node's: its status shows it; repeat it for more
    #[arg(long, value_name = "ACCOUNT")]
    add: Vec<Account>,
    /// An account that may not any more; repeat it for more
    #[arg(long, value_name = "ACCOUNT")]
    remove: Vec<Account>,
    /// Write what other recovery accounts agree to into a new file, and change nothing
    #[arg(long, value_name = "FILE", conflicts_with = "approvals")]
    propose: Option<PathBuf>,
    /// What another recovery account gave for that; repeat it for more
    #[arg(long = "approval", value_name = "FILE")]
    approvals: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ApproveArgs {
    /// The proposal
    #[arg(value_name = "PROPOSAL")]
    proposal: PathBuf,
    /// The data folder of the node whose account agrees [default: the account of the identity or the paper key]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The new file with what is given to who proposed it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(args: RecoveryArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        RecoveryCommand::List => {
            let vault = opening::reader(global, out).await?;
            tell(&vault.ledger().recovery().await?, out)?;
        }
        RecoveryCommand::Set(args) => set(args, global, out).await?,
        RecoveryCommand::Approve(args) => approve(&args, global, out)?,
    }
    Ok(Exit::Success)
}

async fn set(args: SetArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    const WHAT: &str = "node recovery set";
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), WHAT)?;
    let wanted = Wanted { added: args.add, removed: args.remove, threshold: args.threshold };
    let Planned { genesis, change, now, owner } = recovery::plan(&vault, wanted).await?;
    let proposal = RecoveryProposal::Change { genesis, change: change.clone() };
    if let Some(file) = &args.propose {
        proposal.write(file)?;
        return tell_proposal(&proposal, (file, &now), out);
    }
    let (words, by) = (read_words(&args.approvals)?, (owner, now.threshold));
    let approvals = proposal.approvals(&words, by, |who| now.accounts.contains(who))?;
    tell_matter(&proposal, out)?;
    opening::confirm(global, "Change who may hand the ledger over?")?;
    tell(&recovery::change(&vault, &unlocked, &change.call(approvals)).await?, out)
}

fn tell(recovery: &Recovery, out: &Output) -> anyhow::Result<()> {
    for account in &recovery.accounts {
        out.data(format_args!("0x{account}"))?;
    }
    let accounts = text::count(recovery.accounts.len() as u64, "account");
    out.data(format_args!("it takes {} of {accounts} to hand the ledger over", recovery.threshold))?;
    let accounts: Vec<String> = recovery.accounts.iter().map(|account| format!("0x{account}")).collect();
    out.record(&json!({
        "type": "summary", "ok": true, "recovery_accounts": accounts, "recovery_threshold": recovery.threshold,
    }))?;
    Ok(())
}

/// Shows a proposal that was written, and what comes next.
pub(super) fn tell_proposal(
    proposal: &RecoveryProposal,
    (file, recovery): (&Path, &Recovery),
    out: &Output,
) -> anyhow::Result<()> {
    tell_matter(proposal, out)?;
    out.talk(format_args!(
        "\nGive {} to other recovery accounts; with yours it takes {} of {}. Each of them, after he has looked at it:\n  blockhouse node recovery approve FILE --out APPROVAL\nThen the same command again with --approval APPROVAL for each, in the place of --propose.",
        file.display(),
        recovery.threshold,
        recovery.accounts.len(),
    ));
    out.record(&json!({
        "type": "summary", "ok": true, "file": file, "digest": hex::encode(proposal.digest()),
        "recovery_threshold": recovery.threshold,
    }))?;
    Ok(())
}

/// What an account agrees to.
fn tell_matter(proposal: &RecoveryProposal, out: &Output) -> anyhow::Result<()> {
    let genesis = proposal.genesis();
    out.line(format_args!("vault        {}", genesis.vault_id))?;
    match proposal {
        RecoveryProposal::Handover { succession, base } => {
            out.line(format_args!("handed over  above block {} ({}), to the network of", base.height, base.hash))?;
            shown::validators(succession.enrolments(), out)?;
            shown::charter(succession.charter().as_ref(), out)?;
            out.line(format_args!("fingerprint  {}", TrustRoot::new(genesis, succession.key()).fingerprint()))?;
        }
        RecoveryProposal::Change { change, .. } => {
            for (word, accounts) in [("comes", &change.added), ("goes", &change.removed)] {
                for account in accounts {
                    out.line(format_args!("{word:<12} 0x{account}"))?;
                }
            }
            out.line(format_args!("it takes     {}", text::count(change.threshold, "recovery account")))?;
        }
    }
    Ok(())
}

fn approve(args: &ApproveArgs, global: &Global, out: &Output) -> anyhow::Result<()> {
    let proposal = RecoveryProposal::read(&args.proposal)?;
    tell_matter(&proposal, out)?;
    let account = signer(args, &proposal, global)?;
    let who = account.account();
    opening::confirm(global, &format!("Agree to that as account 0x{who}?"))?;
    proposal.sign(&account).write(&args.out)?;
    out.line(format_args!("agreed       account 0x{who}, in {}", args.out.display()))?;
    out.talk(format_args!("Give {} to who proposed it; it holds no secret.", args.out.display()));
    out.record(&json!({
        "type": "summary", "ok": true, "account": format!("0x{who}"), "file": args.out,
        "digest": hex::encode(proposal.digest()),
    }))?;
    Ok(())
}

fn signer(args: &ApproveArgs, proposal: &RecoveryProposal, global: &Global) -> anyhow::Result<AccountSecret> {
    const WHAT: &str = "node recovery approve";
    match &args.dir {
        Some(folder) => Ok(NodeFolder::new(folder).read_keys()?.account()),
        None => grow::recovery_account(global, proposal.genesis().vault_id, WHAT),
    }
}

/// Reads what other accounts gave.
pub(super) fn read_words(files: &[PathBuf]) -> anyhow::Result<Vec<Word>> {
    files.iter().map(|file| Ok(Word::read(file)?)).collect()
}
