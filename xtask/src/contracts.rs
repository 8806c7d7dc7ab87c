//! The contracts' checked-in ABI and bytecode: built with the pinned compiler, compared or replaced.
//!
//! - **Owns** when the npm packages are installed, and what counts as drift.
//! - **Does not** compile: that is `contracts/build.mjs`. `cargo build` needs none of this, only the checked-in files.
//!
//! Format: `docs/design/contracts.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// File name to content, of one folder of built contracts.
type Built = BTreeMap<String, Vec<u8>>;

/// Rebuilds the contracts. With `check`, fails if a checked-in file is not what the sources give; without, writes them.
pub(crate) fn run(check: bool) -> Result<()> {
    let folder = folder()?;
    install(&folder)?;
    let scratch = tempfile::tempdir().context("could not make a scratch folder")?;
    call(&folder, "node", [OsStr::new("build.mjs"), scratch.path().as_os_str()])?;
    let built = read(scratch.path())?;
    let abi = folder.join("abi");
    if check { compare(&read(&abi)?, &built) } else { replace(&abi, &built) }
}

/// Runs the contracts' own tests: unit, fuzzed and invariant.
pub(crate) fn test() -> Result<()> {
    let folder = folder()?;
    install(&folder)?;
    let forge = folder.join("node_modules/.bin/forge");
    ensure!(forge.exists(), "forge has no package for this machine: contracts are tested on x86-64 Linux");
    call(&folder, forge, ["test"])
}

fn folder() -> Result<PathBuf> {
    Ok(process::root()?.join("contracts"))
}

/// Installs the pinned packages, unless they are what the lock file asks for already: then no network is needed.
fn install(folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json")).context("could not read contracts/package-lock.json")?;
    let installed = folder.join("node_modules/.installed-lock.json");
    if fs::read(&installed).is_ok_and(|found| found == lock) {
        return Ok(());
    }
    call(folder, "npm", ["ci"])?;
    fs::write(&installed, lock).with_context(|| format!("could not write {}", installed.display()))
}

fn call<A: AsRef<OsStr>>(
    folder: &Path,
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    let name = Path::new(program.as_ref()).display().to_string();
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status()
        .with_context(|| format!("could not start {name}: contracts need Node.js 20 or later, with npm"))?;
    ensure!(status.success(), "{name} failed in {}: {status}", folder.display());
    Ok(())
}

fn read(folder: &Path) -> Result<Built> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let mut built = Built::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("could not list {}", folder.display()))?;
        let path = entry.path();
        let content = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        built.insert(entry.file_name().to_string_lossy().into_owned(), content);
    }
    Ok(built)
}

fn compare(checked_in: &Built, built: &Built) -> Result<()> {
    let names: BTreeSet<_> = checked_in.keys().chain(built.keys()).collect();
    let drifted: Vec<_> =
        names.into_iter().filter(|name| checked_in.get(*name) != built.get(*name)).map(String::as_str).collect();
    if !drifted.is_empty() {
        bail!("contracts/abi is not what contracts/src gives: {}; run `./x contracts`", drifted.join(", "));
    }
    Ok(())
}

fn replace(abi: &Path, built: &Built) -> Result<()> {
    fs::create_dir_all(abi).with_context(|| format!("could not make {}", abi.display()))?;
    for stale in read(abi)?.keys().filter(|name| !built.contains_key(*name)) {
        fs::remove_file(abi.join(stale)).with_context(|| format!("could not remove {stale}"))?;
    }
    for (name, content) in built {
        fs::write(abi.join(name), content).with_context(|| format!("could not write {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::{Built, compare, read, replace};

    fn built(files: &[(&str, &str)]) -> Built {
        files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
    }

    #[test]
    fn equal_files_are_no_drift() {
        let files = built(&[("Access.json", "a"), ("Vault.json", "v")]);
        compare(&files, &files.clone()).unwrap();
    }

    #[test]
    fn changed_missing_and_stale_files_are_named() {
        let checked_in = built(&[("Access.json", "a"), ("Old.json", "o"), ("Vault.json", "v")]);
        let now = built(&[("Access.json", "a"), ("New.json", "n"), ("Vault.json", "w")]);
        let error = compare(&checked_in, &now).unwrap_err().to_string();
        assert!(error.contains("New.json, Old.json, Vault.json"), "{error}");
        assert!(!error.contains("Access.json"), "{error}");
    }

    #[test]
    fn replaced_files_are_what_was_built() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), &built(&[("Old.json", "o"), ("Vault.json", "v")])).unwrap();
        let now = built(&[("Vault.json", "w")]);
        replace(folder.path(), &now).unwrap();
        assert_eq!(read(folder.path()).unwrap(), now);
    }
}
