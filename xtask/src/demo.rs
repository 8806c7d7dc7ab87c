//! `./x demo [PATH]`: builds the binary and becomes `blockhouse demo [PATH]`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

pub(crate) fn run(path: Option<&Path>) -> Result<()> {
    eprintln!("Building blockhouse; from nothing this takes some minutes.");
    let binary = process::build_blockhouse("ci")?;
    let error = Command::new(&binary).arg("demo").args(path).exec();
    Err(error).with_context(|| format!("could not start {}", binary.display()))
}
