//! `blockhouse anchor`

mod evm;
mod list;
mod ots;

use blockhouse_ledger::Contract;
use blockhouse_vault::anchor::AnchorError;
use blockhouse_vault::ledger::LedgerError;
use clap::{Args, Subcommand};

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::Output;

/// Show the ledger to others outside, so that not even its own operators can rewrite it unseen
///
/// A ledger that one operator keeps can be made anew by that operator, receipts and all. What was anchored cannot: a chain outside knows the
/// block, and when. A receipt that an anchor covers was not made later than that: `receipt --anchored`, `check-receipt --anchor`.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse anchor evm --rpc https://node.example"))]
pub(crate) struct AnchorArgs {
    #[command(subcommand)]
    command: AnchorCommand,
}

#[derive(Debug, Subcommand)]
enum AnchorCommand {
    /// Anchor the last block on an outside chain, and record that on the ledger
    ///
    /// Any chain of the EVM will do. The contract is made there if it is not there yet, and belongs to nobody. It costs the fee of one
    /// transaction, paid by the account of this host, or that of --key. Waits until it is final there. Killed anywhere, the next run records what was
    /// anchored before it anchors anew. Run it on a schedule, after the backups: the less lies between, the less can be forged.
    #[command(after_help = help!("blockhouse anchor evm --rpc https://node.example --max-fee 30"))]
    Evm(evm::EvmArgs),
    /// Give the digest of the last block to OpenTimestamps calendars, which put it into Bitcoin, and record their promises
    ///
    /// A calendar collects digests and puts one hash over all of them into a Bitcoin block, some hours later: `anchor upgrade` asks for the
    /// proof and records it. It costs nothing. Until then it proves nothing.
    #[command(after_help = help!("blockhouse anchor ots --calendar https://a.pool.opentimestamps.org"))]
    Ots(ots::OtsArgs),
    /// Ask calendars what became of their promises, and record the proofs of those that they kept
    ///
    /// Only the calendars that are named here are asked.
    #[command(after_help = help!("blockhouse anchor upgrade --calendar https://alice.btc.calendar.opentimestamps.org"))]
    Upgrade(ots::OtsArgs),
    /// List what the ledger has of its anchors, and of witnesses
    #[command(after_help = help!("blockhouse anchor list"))]
    List,
}

pub(crate) async fn run(args: AnchorArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        AnchorCommand::Evm(args) => evm::run(args, global, out).await,
        AnchorCommand::Ots(args) => ots::ots(args, global, out).await,
        AnchorCommand::Upgrade(args) => ots::upgrade(args, global, out).await,
        AnchorCommand::List => list::run(global, out).await,
    }
}

/// The contract in which anchors are recorded is made by the owner alone.
fn needs_owner<T>(done: Result<T, AnchorError>) -> anyhow::Result<T> {
    match done {
        Err(AnchorError::Ledger(LedgerError::NoModule { name })) if name == Contract::Anchors.name() => {
            Err(Refusal::MissingIdentity { what: "the first anchor of a ledger" }.into())
        }
        done => Ok(done?),
    }
}
