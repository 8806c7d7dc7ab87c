//! One file per command: its arguments and `run`.

pub(crate) mod alarm;
pub(crate) mod anchor;
pub(crate) mod backup;
pub(crate) mod check_fork;
pub(crate) mod check_receipt;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod freeze;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod man;
#[cfg(feature = "mount")]
pub(crate) mod mount;
#[cfg(feature = "node")]
pub(crate) mod node;
pub(crate) mod prune;
pub(crate) mod receipt;
pub(crate) mod recover;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod site;
pub(crate) mod snapshots;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod tag;
pub(crate) mod verify;

use crate::arguments::{Command, Global};
use crate::exit::Exit;
use crate::output::Output;

/// What a command does before the process has threads.
#[cfg_attr(not(feature = "node"), expect(unused_variables, reason = "only a node does something then"))]
pub(crate) fn before_threads(command: &Command) {
    #[cfg(feature = "node")]
    if let Command::Node(args) = command {
        node::before_threads(args);
    }
}

/// Runs a command.
pub(crate) async fn run(command: Command, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init::run(args, global, out).await,
        Command::Backup(args) => backup::run(args, global, out).await,
        Command::Snapshots(args) => snapshots::run(args, global, out).await,
        Command::Ls(args) => ls::run(args, global, out).await,
        Command::Find(args) => find::run(args, global, out).await,
        Command::Diff(args) => diff::run(args, global, out).await,
        Command::Dump(args) => dump::run(args, global, out).await,
        #[cfg(feature = "mount")]
        Command::Mount(args) => mount::run(args, global, out).await,
        Command::Restore(args) => restore::run(args, global, out).await,
        Command::Copy(args) => copy::run(args, global, out).await,
        Command::Verify(args) => verify::run(args, global, out).await,
        Command::Repair(args) => repair::run(args, global, out).await,
        Command::Retention(args) => retention::run(args, global, out).await,
        Command::Forget(args) => forget::run(args, global, out).await,
        Command::Prune(args) => prune::run(args, global, out).await,
        Command::Freeze(args) => freeze::freeze(args, global, out).await,
        Command::Unfreeze(args) => freeze::unfreeze(args, global, out).await,
        Command::Alarm(args) => alarm::run(args, global, out).await,
        Command::Tag(args) => tag::run(args, global, out).await,
        Command::Receipt(args) => receipt::run(args, global, out).await,
        Command::CheckReceipt(args) => check_receipt::run(args, global, out).await,
        Command::CheckFork(args) => check_fork::run(args, global, out).await,
        Command::Anchor(args) => anchor::run(args, global, out).await,
        Command::History(args) => history::run(args, global, out).await,
        Command::Status(args) => status::run(args, global, out).await,
        Command::Site(args) => site::run(args, global, out).await,
        Command::Stats(args) => stats::run(args, global, out).await,
        Command::Host(args) => host::run(args, global, out).await,
        #[cfg(feature = "node")]
        Command::Node(args) => node::run(args, global, out).await,
        Command::Key(args) => key::run(args, global, out).await,
        Command::Recover(args) => recover::run(args, global, out).await,
        Command::Demo(args) => demo::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
        Command::Man(args) => man::run(&args, out),
    }
}
