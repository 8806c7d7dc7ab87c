//! Where passphrases come from: a flag, the environment, a command, or the terminal.
//!
//! # Invariants
//! - **P1** A passphrase is never an argument, never printed, and overwritten when it is dropped.
//! - **P2** Commands that this process starts do not get it.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use zeroize::Zeroizing;

use crate::arguments::Global;
use crate::failure::Refusal;

/// The environment variable that holds the passphrase.
pub(crate) const PASSPHRASE_VARIABLE: &str = "BLOCKHOUSE_PASSPHRASE";
/// Nothing longer is read as a passphrase.
const PASSPHRASE_MAX: u64 = 64 * 1024;

/// True if there is somebody to ask.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The passphrase to open something with; none if none was given and nobody can be asked.
pub(crate) fn existing(global: &Global, prompt: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    if global.no_passphrase {
        return Ok(None);
    }
    match given(global)? {
        Some(passphrase) => Ok(Some(passphrase)),
        None if is_interactive() => ask(prompt).map(Some),
        None => Ok(None),
    }
}

/// The passphrase of something new; none if the owner explicitly wants none.
pub(crate) fn new(global: &Global, prompt: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    if global.no_passphrase {
        return Ok(None);
    }
    if let Some(passphrase) = given(global)? {
        return Ok(Some(passphrase));
    }
    ask_new(prompt).map(Some)
}

/// Asks twice for a passphrase that is to be set.
pub(crate) fn ask_new(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if !is_interactive() {
        let hint = "give it in BLOCKHOUSE_PASSPHRASE, with --passphrase-file FILE or --passphrase-command CMD, or want none with --no-passphrase";
        return Err(Refusal::usage("there is no terminal to ask for a passphrase at", hint).into());
    }
    let passphrase = ask(prompt)?;
    if passphrase.is_empty() {
        return Err(Refusal::usage("the passphrase is empty", "--no-passphrase wants none").into());
    }
    if *ask("Again: ")? != *passphrase {
        return Err(Refusal::usage("the two passphrases differ", "run it again").into());
    }
    Ok(passphrase)
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).context("could not read the passphrase from the terminal")
}

fn given(global: &Global) -> anyhow::Result<Option<Zeroizing<String>>> {
    if let Some(path) = &global.passphrase_file {
        return from_file(path).map(Some);
    }
    if let Some(command) = &global.passphrase_command {
        return from_command(command).map(Some);
    }
    match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(passphrase) => Ok(Some(Zeroizing::new(passphrase))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Refusal::usage(format!("{PASSPHRASE_VARIABLE} is not UTF-8"), "use --passphrase-file FILE").into())
        }
    }
}

/// The first line of a file.
pub(crate) fn from_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(PASSPHRASE_MAX).read_to_string(&mut text))
        .with_context(|| format!("could not read the passphrase file {}", path.display()))?;
    Ok(first_line(&text))
}

fn from_command(command: &str) -> anyhow::Result<Zeroizing<String>> {
    let failed = || format!("could not run the passphrase command `{command}`");
    let output = Command::new("sh")
        .args(["-c", command])
        .env_remove(PASSPHRASE_VARIABLE)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .with_context(failed)?;
    if !output.status.success() {
        anyhow::bail!("the passphrase command `{command}` failed: {}", output.status);
    }
    let stdout = Zeroizing::new(output.stdout);
    let text = std::str::from_utf8(&stdout).with_context(failed)?;
    Ok(first_line(text))
}

fn first_line(text: &str) -> Zeroizing<String> {
    let line = text.split('\n').next().unwrap_or_default();
    Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line() {
        for (text, line) in [("a b\nc", "a b"), ("a\r\n", "a"), ("a", "a"), ("", ""), (" a \n", " a ")] {
            assert_eq!(*first_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn a_command_does_not_get_the_variable() {
        let script = format!("echo \"got-${{{PASSPHRASE_VARIABLE}-nothing}}\"");
        assert_eq!(*from_command(&script).unwrap(), "got-nothing");
        assert!(from_command("exit 3").is_err());
    }
}
