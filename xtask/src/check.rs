//! `./x check`: what is asked of a change before it is merged: tests, and format, lints, documents, dependencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::{process, test};

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    let mut advisories = Advisories::NotReached;
    steps.run("format", || process::call(&mut process::cargo("fmt --all --check")?));
    steps.run("lints", || lint("clippy --profile ci --workspace --all-targets -- -D warnings"));
    steps.run("without features", || {
        lint("clippy --profile ci --package blockhouse --no-default-features -- -D warnings")
    });
    steps.run("documents", || lint("doc --profile ci --workspace --no-deps --document-private-items"));
    steps.run("dependencies", || dependencies(&mut advisories));
    test::all(&mut steps);
    let end = steps.finish();
    if matches!(advisories, Advisories::NotReached) {
        println!("\nATTENTION: known vulnerabilities of dependencies were NOT CHECKED (no advisory database).");
    }
    end
}

/// In the tests' profile: what they built of procedural macros and of C serves here too.
fn lint(words: &str) -> Result<()> {
    process::call(process::cargo(words)?.env("RUSTDOCFLAGS", "-D warnings"))
}

enum Advisories {
    Checked,
    NotReached,
}

fn dependencies(advisories: &mut Advisories) -> Result<()> {
    let deny = cargo_deny()?;
    let root = process::root()?;
    let call = |words: &[&str]| process::call(Command::new(&deny).args(words).current_dir(&root));
    call(&["check", "--hide-inclusion-graph", "bans", "licenses", "sources"])?;
    // cargo-deny has one exit code for "found" and "not fetched": fetching alone tells them apart.
    if call(&["fetch", "db"]).is_ok() {
        *advisories = Advisories::Checked;
        call(&["--offline", "check", "--hide-inclusion-graph", "advisories"])?;
    }
    Ok(())
}

/// The pinned cargo-deny; installed once, into the target folder.
fn cargo_deny() -> Result<PathBuf> {
    let tools = process::target()?.join("tools");
    let binary = tools.join("bin/cargo-deny");
    if version(&binary).is_some_and(|found| found.contains(CARGO_DENY)) {
        return Ok(binary);
    }
    let build = tools.join("build");
    let mut install = process::cargo("install cargo-deny --locked --version")?;
    process::call(install.arg(CARGO_DENY).arg("--root").arg(&tools).env("CARGO_TARGET_DIR", &build))?;
    fs::remove_dir_all(&build).with_context(|| format!("could not remove {}", build.display()))?;
    Ok(binary)
}

fn version(binary: &Path) -> Option<String> {
    let output = Command::new(binary).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()
}
