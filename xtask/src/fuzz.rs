//! `./x fuzz`: feeds mutated bytes to every decoder of outside bytes. The targets and the driver are in `fuzz/`.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::task::FuzzOptions;

/// How long each target runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    Runs(u64),
    Seconds(u64),
}

impl Default for Budget {
    /// What is asked of a release.
    fn default() -> Self {
        Self::Runs(1_000_000)
    }
}

/// Builds the targets and runs them.
pub(crate) fn run(options: &FuzzOptions) -> Result<()> {
    process::call(&mut process::cargo("build --profile ci --quiet --package blockhouse-fuzz --bin blockhouse-fuzz")?)?;
    run_built(options)
}

/// Runs the targets that the build of all tests made: building them by themselves would build their dependencies a second time.
pub(crate) fn run_built(options: &FuzzOptions) -> Result<()> {
    let mut command = Command::new(process::target()?.join("ci/blockhouse-fuzz"));
    command.current_dir(process::root()?);
    match options.budget {
        Budget::Runs(runs) => command.arg("--runs").arg(runs.to_string()),
        Budget::Seconds(seconds) => command.arg("--seconds").arg(seconds.to_string()),
    };
    if let Some(seed) = options.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if options.list {
        command.arg("--list");
    }
    process::call(command.args(&options.target))
}
