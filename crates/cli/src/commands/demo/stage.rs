//! The scratch folder of a demo and the commands run in it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::damage;
use crate::exit::Exit;
use crate::output::Output;
use crate::passphrase::PASSPHRASE_VARIABLE;

/// A scratch folder, removed at the end unless it is kept.
pub(super) struct Stage {
    folder: PathBuf,
    binary: PathBuf,
    keep: bool,
    out: Output,
    steps: Cell<u32>,
}

impl Stage {
    /// Makes the folder.
    pub(super) fn set(keep: bool, out: &Output) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("could not find this program")?;
        let folder = std::env::temp_dir().join(format!("blockhouse-demo-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("could not find {}", folder.display()))?;
        let stage = Self { folder, binary, keep, out: out.clone(), steps: Cell::new(0) };
        stage.say(&format!(
            "Everything happens in {}; commands are run as you would run them:",
            stage.folder.display()
        ))?;
        stage.say("  export BLOCKHOUSE_VAULT=vault BLOCKHOUSE_IDENTITY=owner.identity")?;
        Ok(stage)
    }

    /// A path in the folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Says something.
    pub(super) fn say(&self, words: &str) -> anyhow::Result<()> {
        Ok(self.out.line(format_args!("{words}"))?)
    }

    /// Begins a step.
    pub(super) fn step(&self, title: &str) -> anyhow::Result<()> {
        self.steps.set(self.steps.get() + 1);
        self.say(&format!("\n{}. {title}", self.steps.get()))
    }

    /// Runs a command of this binary, which must end with that code.
    pub(super) fn run(&self, arguments: &[&str], expected: Exit) -> anyhow::Result<()> {
        self.run_with(self.command(arguments), arguments, expected)
    }

    /// The same, without vault and identity.
    pub(super) fn run_outside(&self, arguments: &[&str], expected: Exit) -> anyhow::Result<()> {
        let mut command = self.command(arguments);
        command.env("BLOCKHOUSE_VAULT", "no-vault-here").env_remove("BLOCKHOUSE_IDENTITY");
        self.run_with(command, arguments, expected)
    }

    /// Runs a command and reads its JSON.
    pub(super) fn ask(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let shown = arguments.join(" ");
        let output = self.command(arguments).output().with_context(|| format!("could not run blockhouse {shown}"))?;
        ensure!(output.status.success(), "blockhouse {shown} ended with {}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("blockhouse {shown} did not print JSON"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.folder);
        command.env("BLOCKHOUSE_VAULT", "vault").env("BLOCKHOUSE_IDENTITY", "owner.identity");
        command.env_remove(PASSPHRASE_VARIABLE);
        command
    }

    fn run_with(&self, mut command: Command, arguments: &[&str], expected: Exit) -> anyhow::Result<()> {
        let shown = arguments.join(" ");
        self.say(&format!("  $ blockhouse {shown}"))?;
        let output = command.output().with_context(|| format!("could not run blockhouse {shown}"))?;
        for stream in [&output.stdout, &output.stderr] {
            for line in String::from_utf8_lossy(stream).lines() {
                self.say(&format!("    {line}"))?;
            }
        }
        let code = output.status.code();
        ensure!(
            code == Some(expected.code().into()),
            "blockhouse {shown} ended with {}, expected was exit code {}",
            output.status,
            expected.code()
        );
        if expected != Exit::Success {
            self.say(&format!("    (exit code {})", expected.code()))?;
        }
        Ok(())
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, path: &str) -> anyhow::Result<()> {
        self.say(&format!("  $ mkdir {path}"))?;
        fs::create_dir(self.path(path)).with_context(|| format!("could not make {path}"))
    }

    /// Writes a file.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.say(&format!("  {path}: {} bytes", bytes.len()))?;
        fs::write(self.path(path), bytes).with_context(|| format!("could not write {path}"))
    }

    /// Removes a folder with everything in it.
    pub(super) fn destroy(&self, path: &str) -> anyhow::Result<()> {
        self.say(&format!("  $ rm -r {path}"))?;
        fs::remove_dir_all(self.path(path)).with_context(|| format!("could not remove {path}"))
    }

    /// Flips one byte in every shard of a site.
    pub(super) fn corrupt(&self, site: &str) -> anyhow::Result<()> {
        let flipped = damage::flip_in_each(&self.path(site).join("shards"))?;
        ensure!(flipped > 0, "{site} holds no shards to corrupt");
        self.say(&format!("  one byte flipped in each of the {flipped} shards at {site}"))
    }

    /// Copies a receipt with one digit of its last hash changed.
    pub(super) fn flip_digit(&self, from: &str, to: &str) -> anyhow::Result<()> {
        damage::flip_digit(&self.path(from), &self.path(to))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            self.out.talk(format_args!("kept: {}", self.folder.display()));
        } else if let Err(error) = remove(&self.folder) {
            self.out.warn(format_args!("could not remove {}: {error}", self.folder.display()));
        }
    }
}

fn remove(folder: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(folder)
}
