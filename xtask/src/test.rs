//! `./x test`: everything that must pass on every change.

use std::path::Path;

use anyhow::Result;

use crate::fuzz::{self, Budget};
use crate::steps::Steps;
use crate::task::FuzzOptions;
use crate::{contracts, earlier, ethereum, process, python};

/// The variable that names what tests are to go without: `tests/src/need.rs`.
const WAIVE: &str = "BLOCKHOUSE_WAIVE";
/// How long every fuzz target runs, in seconds.
const FUZZ_SECONDS: u64 = 3;

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    all(&mut steps);
    steps.finish()
}

/// Runs every step; without a build the others would only repeat its failure.
pub(crate) fn all(steps: &mut Steps) {
    let earlier = earlier::step(steps);
    let built = steps.run("build", build);
    if built {
        steps.run("python environment", || python::install().map(drop));
        steps.run("Ethereum's clients", || ethereum::install().map(drop));
        steps.run("tests", || tests(earlier.as_deref()));
    }
    steps.run("format pages", python::test);
    steps.run("contracts: drift", || contracts::run(true));
    steps.run("contracts: tests", contracts::test);
    if built {
        steps.run("fuzz smoke", || {
            fuzz::run_built(&FuzzOptions { budget: Budget::Seconds(FUZZ_SECONDS), ..FuzzOptions::default() })
        });
    }
}

/// The binary and all tests, in one call: the binary by itself would have its dependencies built a second time, for features of some
/// are on for tests alone.
pub(crate) fn build() -> Result<()> {
    process::call(&mut process::cargo("build --profile ci --workspace --lib --bins --tests")?)
}

/// All tests in Rust; those that call the Python decoder, clients of others or an earlier release find them through the environment.
fn tests(earlier: Option<&Path>) -> Result<()> {
    let (python, clients) = (python::install()?, ethereum::install()?);
    let mut tests = process::cargo("test --profile ci --workspace --no-fail-fast")?;
    match earlier {
        Some(earlier) => tests.env(earlier::EARLIER, earlier),
        // The step has said why; the test says that it was not run.
        None => tests.env(WAIVE, waived_with(earlier::WAIVER)),
    };
    process::call(tests.env(python::PYTHON, python).env(ethereum::CLIENTS, clients))
}

/// What the tests are to go without: what the caller waives, and this.
fn waived_with(name: &str) -> String {
    match std::env::var(WAIVE) {
        Ok(waived) if !waived.is_empty() => format!("{waived},{name}"),
        _ => name.to_owned(),
    }
}
