//! `./x test`: everything that must pass on every change.

use anyhow::Result;

use crate::fuzz::{self, Budget};
use crate::steps::Steps;
use crate::task::FuzzOptions;
use crate::{contracts, ethereum, process, python};

/// How long every fuzz target runs, in seconds.
const FUZZ_SECONDS: u64 = 5;

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    all(&mut steps);
    steps.finish()
}

/// Runs every step; without a build the others would only repeat its failure.
pub(crate) fn all(steps: &mut Steps) {
    let built = steps.run("build", build);
    if built {
        steps.run("python environment", || python::install().map(drop));
        steps.run("Ethereum's clients", || ethereum::install().map(drop));
        steps.run("tests", tests);
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

/// All tests in Rust; those that call the Python decoder or clients of others find them through the environment.
fn tests() -> Result<()> {
    let (python, clients) = (python::install()?, ethereum::install()?);
    let mut tests = process::cargo("test --profile ci --workspace --no-fail-fast")?;
    process::call(tests.env(python::PYTHON, python).env(ethereum::CLIENTS, clients))
}
