//! `./x long`: in full what `./x test` runs short. Hours: for the night, and before a release.
//!
//! - **Owns** how much "in full" is.
//! - **Does not** hold tests: these are those of `./x test`, which read from their environment how far they go.

use anyhow::Result;

use crate::fuzz::{self, Budget};
use crate::steps::Steps;
use crate::task::FuzzOptions;
use crate::{process, test};

/// Instants at which a backup is killed.
const KILLS: &str = "200";
/// Histories of pruning while backups run.
const PRUNES: &str = "200";
/// Instants at which each change of sites or keys, each forget and each prune is cut off.
const CUTS: &str = "100";
/// How many times as many seeds of each scenario of a simulated network.
const SIMULATIONS: &str = "50";
/// How many times as many faults of nodes and of the network between them.
const FAULTS: &str = "20";
/// How many times as many random damages of the ledger's file.
const EFFORT: &str = "25";
/// The seed if none was given: the same run each time, so that two machines can be compared.
const SEED: u64 = 1;

pub(crate) fn run(seed: Option<u64>) -> Result<()> {
    let seed = seed.unwrap_or(SEED);
    println!("seed {seed}; again: ./x long --seed {seed}");
    let mut steps = Steps::default();
    if steps.run("build", test::build) {
        steps.run("every byte flipped", || {
            tests("--package blockhouse-pipeline flip", &[("BLOCKHOUSE_FULL_FLIPS", "1")], seed)
        });
        steps.run("damage of the ledger's file", || {
            tests("--package blockhouse-homes", &[("BLOCKHOUSE_EFFORT", EFFORT)], seed)
        });
        steps.run("simulated networks", || {
            // What each scenario met stands in its output.
            let words = "--package blockhouse-homes --test simulation -- --show-output";
            tests(words, &[("BLOCKHOUSE_SIMULATIONS", SIMULATIONS)], seed)
        });
        steps.run("kills", || {
            tests("--package blockhouse-tests --test kill -- --nocapture", &[("BLOCKHOUSE_KILLS", KILLS)], seed)
        });
        steps.run("prunes", || {
            tests(
                "--package blockhouse-tests --test retention pruning -- --nocapture",
                &[("BLOCKHOUSE_PRUNE_SEEDS", PRUNES)],
                seed,
            )
        });
        for suite in ["network_faults", "network_bad_input"] {
            steps.run(suite, || {
                let words = format!("--package blockhouse-tests --test {suite} -- --nocapture");
                tests(&words, &[("BLOCKHOUSE_FAULTS", FAULTS)], seed)
            });
        }
        steps.run("cuts", || tests("--package blockhouse-vault --test workflows", &[("BLOCKHOUSE_CUTS", CUTS)], seed));
        steps.run("fuzz in full", || {
            fuzz::run_built(&FuzzOptions { budget: Budget::default(), seed: Some(seed), ..FuzzOptions::default() })
        });
    }
    steps.finish()
}

fn tests(words: &str, environment: &[(&str, &str)], seed: u64) -> Result<()> {
    let mut command = process::cargo(&format!("test --profile ci {words}"))?;
    process::call(command.envs(environment.iter().copied()).env("BLOCKHOUSE_SEED", seed.to_string()))
}
