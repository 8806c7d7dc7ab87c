//! The earlier release that the tests upgrade from, built out of the history.
//!
//! - **Owns** which commit that is, and its binary in the target folder.
//! - **Does not** know what is tested with it: `tests/tests/upgrade.rs` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process;
use crate::steps::Steps;

/// The name under which tests find the binary.
pub(crate) const EARLIER: &str = "BLOCKHOUSE_EARLIER";
/// The word with which a test goes without it.
pub(crate) const WAIVER: &str = "earlier-release";
/// The commit. It becomes the newest release when one is made. Between releases it moves only where nodes of before and after a change
/// cannot be in one network by intention, and then `docs/design/node.md`, *Upgrading*, says so.
const COMMIT: &str = "865d438bb40a5c1f9418052eb952ff018e3c7329";

/// Builds it, as a step of its own; nothing, and the step says so, where the history does not reach so far.
pub(crate) fn step(steps: &mut Steps) -> Option<PathBuf> {
    const NAME: &str = "earlier release";
    if !is_there() {
        let why = format!("the history here lacks commit {COMMIT}: fetch all of it (git fetch --unshallow)");
        steps.pass_over(NAME, &why);
        return None;
    }
    let mut binary = None;
    steps.run(NAME, || {
        binary = Some(install()?);
        Ok(())
    });
    binary
}

/// True if it is built already, or can be.
fn is_there() -> bool {
    let known = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(process::root().ok()?).args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]);
        Some(git.stderr(Stdio::null()).status().ok()?.success())
    };
    folder().is_ok_and(|folder| is_built(&folder)) || known().unwrap_or(false)
}

fn folder() -> Result<PathBuf> {
    Ok(process::target()?.join("earlier"))
}

fn is_built(folder: &Path) -> bool {
    fs::read_to_string(folder.join("commit")).is_ok_and(|found| found == COMMIT) && folder.join("blockhouse").is_file()
}

/// Builds it beside the present one, with the same dependencies: those are not built twice as long as their versions are the same. It comes
/// before the present one is built, for both have one name in the target folder.
fn install() -> Result<PathBuf> {
    let folder = folder()?;
    let (binary, source, archive) = (folder.join("blockhouse"), folder.join("source"), folder.join("source.tar"));
    if is_built(&folder) {
        return Ok(binary);
    }
    if source.exists() {
        fs::remove_dir_all(&source).with_context(|| format!("could not remove {}", source.display()))?;
    }
    fs::create_dir_all(&source).with_context(|| format!("could not make {}", source.display()))?;
    let mut git = Command::new("git");
    git.arg("-C").arg(process::root()?).args(["archive", "--format=tar", "--output"]).arg(&archive).arg(COMMIT);
    process::call(&mut git)?;
    process::call(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    // With a test, for features of some dependencies are on for tests alone: what is built of them serves the present one too.
    let words = "build --locked --profile ci --workspace --bin blockhouse --test version_1";
    process::call(process::cargo(words)?.current_dir(&source))?;
    let built = process::target()?.join("ci/blockhouse");
    // The name of the binary is not the present one's: that one is linked under it again by its own build.
    fs::copy(&built, &binary).with_context(|| format!("could not copy {}", built.display()))?;
    fs::remove_dir_all(&source).with_context(|| format!("could not remove {}", source.display()))?;
    fs::remove_file(&archive).with_context(|| format!("could not remove {}", archive.display()))?;
    let done = folder.join("commit");
    fs::write(&done, COMMIT).with_context(|| format!("could not write {}", done.display()))?;
    Ok(binary)
}
