//! The decoder in Python that is written from the format pages alone, and the environment it runs in.
//!
//! - **Owns** a virtual environment in the target folder with exactly what `docs/design/check/requirements.txt` pins, and
//!   how such environments are made.
//! - **Does not** know the formats: `docs/design/check` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The name under which tests find the interpreter of the environment.
pub(crate) const PYTHON: &str = "BLOCKHOUSE_PYTHON";

/// Makes the environment of the decoder.
pub(crate) fn install() -> Result<PathBuf> {
    environment(&process::target()?.join("python/check"), &process::root()?.join("docs/design/check/requirements.txt"))
}

/// Makes an environment, unless it is what the pins ask for already: then no network is needed. Gives its interpreter.
pub(crate) fn environment(folder: &Path, pins: &Path) -> Result<PathBuf> {
    let wanted = fs::read(pins).with_context(|| format!("could not read {}", pins.display()))?;
    let (python, done) = (folder.join("bin/python"), folder.join("installed.txt"));
    if fs::read(&done).is_ok_and(|found| found == wanted) && works(&python) {
        return Ok(python);
    }
    process::call(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    process::call(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(pins))?;
    fs::write(&done, wanted).with_context(|| format!("could not write {}", done.display()))?;
    Ok(python)
}

/// Runs the decoder's own tests: golden fixtures of every format, altered bytes included.
pub(crate) fn test() -> Result<()> {
    let folder = process::root()?.join("docs/design/check");
    let tests = fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))?;
    let is_test = |name: &str| name.starts_with("test_") && Path::new(name).extension().is_some_and(|end| end == "py");
    let count = tests.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_test)).count();
    ensure!(count > 0, "{} holds no test_*.py", folder.display());
    process::call(
        Command::new(install()?)
            .args(["-B", "-m", "unittest", "discover", "--verbose", "--start-directory"])
            .arg(&folder)
            .current_dir(process::root()?),
    )
}

/// Whether an interpreter that was linked earlier is still there.
fn works(python: &Path) -> bool {
    Command::new(python).args(["-c", ""]).status().is_ok_and(|status| status.success())
}
