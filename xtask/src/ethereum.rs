//! Ethereum's usual clients, which others wrote, and the reader of metrics: tests ask a ledger's nodes with them.
//!
//! - **Owns** their folder in the target folder: npm packages by `tests/tools/package-lock.json`, Python packages by
//!   `tests/tools/requirements.txt`.
//! - **Does not** know what is asked: `tests/tests/rpc_clients.rs` and `network_clients.rs` do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, python};

/// The name under which tests find the folder.
pub(crate) const CLIENTS: &str = "BLOCKHOUSE_ETHEREUM_TOOLS";

/// What npm reads.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs the clients, unless they are what the pins ask for already: then no network is needed.
pub(crate) fn install() -> Result<PathBuf> {
    let (pins, folder) = (process::root()?.join("tests/tools"), process::target()?.join("tools/ethereum"));
    install_npm(&pins, &folder.join("npm"))?;
    python::environment(&folder.join("python"), &pins.join("requirements.txt"))?;
    Ok(folder)
}

fn install_npm(pins: &Path, folder: &Path) -> Result<()> {
    let lock = pins.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("could not read {}", lock.display()))?;
    let done = folder.join("node_modules/.installed-lock.json");
    if fs::read(&done).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    for name in PACKAGES {
        fs::copy(pins.join(name), folder.join(name)).with_context(|| format!("could not copy {name}"))?;
    }
    // Nothing of theirs runs while they are installed.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    process::call(Command::new("npm").args(words).current_dir(folder))?;
    fs::write(&done, wanted).with_context(|| format!("could not write {}", done.display()))
}
