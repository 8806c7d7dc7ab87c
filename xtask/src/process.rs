//! Where things are, and how other programs are called: said before, with their output as it comes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The root of the repository this was started from. Asked at run time: two checkouts may share one target folder, and
/// cargo then runs the program that the other one built.
pub(crate) fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Ok(Path::new(&xtask).parent().context("xtask has no parent folder")?.to_owned())
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else where it built this program, whatever made it choose that folder.
pub(crate) fn target() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
        return std::path::absolute(folder).context("could not find the current folder");
    }
    let program = std::env::current_exe().context("could not find the path of xtask")?;
    // <target>/<profile>/xtask
    Ok(program.ancestors().nth(2).context("xtask lies in no target folder")?.to_owned())
}

/// `cargo WORDS`, in the repository, building in the target folder.
pub(crate) fn cargo(words: &str) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(words.split_whitespace()).current_dir(root()?).env("CARGO_TARGET_DIR", target()?);
    Ok(command)
}

/// The binary, built with a profile.
pub(crate) fn build_blockhouse(profile: &str) -> Result<PathBuf> {
    call(cargo("build --package blockhouse --bin blockhouse --profile")?.arg(profile))?;
    Ok(target()?.join(profile).join("blockhouse"))
}

/// Says what is run, runs it, and fails if it fails.
pub(crate) fn call(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("could not start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// A command as it could be typed, its program without the folder.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).display().to_string();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.display().to_string());
    }
    line
}
