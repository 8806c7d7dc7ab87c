//! The one binary, `blockhouse`: arguments in, workflows of `blockhouse-vault` run, answers out.
//!
//! - **Owns** what is typed, what is printed, and the exit code.
//! - **Does not** hold any logic of backups: one file per command, arguments and `run`.
//!
//! # Invariants
//! - **C1** Data goes to stdout, talk and progress to stderr; errors are printed once, here.
//! - **C2** Exit codes are decided in `exit.rs` alone. Format: `docs/reference/exit-codes.md`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod arguments;
mod commands;
mod exit;
mod failure;
mod opening;
mod output;
mod passphrase;
mod plain;
mod progress;
mod recording;
#[cfg(feature = "node")]
mod stopping;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Cli;
use crate::exit::Exit;
use crate::output::Output;

fn main() -> ExitCode {
    keep_contained_panics_quiet();
    let cli = Cli::parse();
    commands::before_threads(&cli.command);
    blockhouse_sites::limit_process(cli.global.limits());
    let out = Output::new(&cli.global);
    if !blockhouse_pipeline::code::processor_suffices() {
        return end(&out, Err(anyhow::anyhow!("this processor lacks AVX2, BMI2 or FMA, which this build needs")));
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return end(&out, Err(error.into())),
    };
    let done = runtime.block_on(commands::run(cli.command, &cli.global, &out));
    // Reads that were given up may hang on a dead mount; nothing that matters waits for them. They end with the process: a runtime that
    // is shut down takes their timers away while they run.
    std::mem::forget(runtime);
    end(&out, done)
}

/// The ledger's store contains the panics of its database over a damaged file, and a node those of its engine over a full disk or damaged
/// journals. Both turn them into an error that says what to do: the panic's own text would only frighten.
fn keep_contained_panics_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_contained = panic
            .location()
            .is_some_and(|place| ["/redb-", "/commonware-"].iter().any(|contained| place.file().contains(contained)));
        if !is_contained {
            usual(panic);
        }
    }));
}

fn end(out: &Output, done: anyhow::Result<Exit>) -> ExitCode {
    let is_well = matches!(done, Ok(Exit::Success));
    let released = if is_well { Ok(()) } else { out.release() };
    let exit = match done.and_then(|exit| Ok(released.map(|()| exit)?)) {
        Ok(exit) => exit,
        Err(error) => failure::report(out, &error),
    };
    ExitCode::from(exit.code())
}
