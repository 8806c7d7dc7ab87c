//! The tools that are compared, as shell commands.
//!
//! The commands see `$SRC` (what to back up), `$REPO` (where to), `$DST` (an empty folder to restore to), `$STATE`
//! (caches, keys; empty at first), `$N` (1, 2, 3: the number of the backup) and `$BIN` (the program).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// A backup tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    version: &'static str,
    commands: Commands,
}

/// What the tool is called with; a step without a command is skipped.
#[derive(Debug)]
struct Commands {
    /// Runs before each command.
    environment: &'static str,
    init: Option<&'static str>,
    backup: &'static str,
    check: Option<&'static str>,
    verify: &'static str,
    restore: &'static str,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Init,
    /// The number of the backup: all; again, unchanged; after the change.
    Backup(u8),
    /// Structure only.
    Check,
    /// Reads and authenticates every byte.
    Verify,
    Restore,
}

impl Step {
    pub(crate) const BEFORE_CHANGE: [Self; 3] = [Self::Init, Self::Backup(1), Self::Backup(2)];
    pub(crate) const AFTER_CHANGE: [Self; 4] = [Self::Backup(3), Self::Check, Self::Verify, Self::Restore];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup(1) => "backup1",
            Self::Backup(2) => "backup2",
            Self::Backup(_) => "backup3",
            Self::Check => "check",
            Self::Verify => "verify",
            Self::Restore => "restore",
        }
    }
}

impl Tool {
    pub(crate) fn command(&self, step: Step) -> Option<String> {
        let commands = &self.commands;
        let command = match step {
            Step::Init => commands.init?,
            Step::Backup(_) => commands.backup,
            Step::Check => commands.check?,
            Step::Verify => commands.verify,
            Step::Restore => commands.restore,
        };
        Some(format!("{}; {command}", commands.environment))
    }

    /// What the tool says of itself, in one line.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new("bash")
            .args(["-c", self.version])
            .env("BIN", &self.program)
            .output()
            .with_context(|| format!("could not ask {} for its version", self.name))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or("unknown").to_owned())
    }
}

/// All tools, built or installed where that is needed.
pub(crate) fn all(profile: &str) -> Result<Vec<Tool>> {
    let blockhouse = blockhouse(process::build_blockhouse(profile)?);
    Ok(vec![blockhouse, borg(install_borg()?), rustic(install_rustic()?), restic(), plain()])
}

/// Six sites, any two of which may be lost. No passphrase: opening an identity that has one takes 256 MiB for a
/// moment, which is the price of scrypt and says nothing about backing up.
fn blockhouse(program: PathBuf) -> Tool {
    Tool {
        name: "blockhouse",
        program,
        version: "\"$BIN\" --version",
        commands: Commands {
            environment: "export BLOCKHOUSE_VAULT=\"$REPO/vault\" BLOCKHOUSE_IDENTITY=\"$STATE/identity\"",
            init: Some(
                "mkdir \"$REPO\"/s{1..6} && \"$BIN\" init --no-passphrase --identity-out \"$STATE/identity\" \
                 --paper-key-out \"$STATE/paper\" --code 4+2 --site \"$REPO/s1\" --site \"$REPO/s2\" \
                 --site \"$REPO/s3\" --site \"$REPO/s4\" --site \"$REPO/s5\" --site \"$REPO/s6\"",
            ),
            backup: "cd \"$SRC\" && \"$BIN\" backup . --json",
            check: Some("\"$BIN\" verify"),
            verify: "\"$BIN\" verify --read-data",
            restore: "\"$BIN\" restore latest --to \"$DST\"",
        },
    }
}

fn borg(program: PathBuf) -> Tool {
    Tool {
        name: "borg",
        program,
        version: "\"$BIN\" --version",
        commands: Commands {
            environment: "export BORG_PASSPHRASE=bench BORG_BASE_DIR=\"$STATE\" BORG_REPO=\"$REPO/r\"",
            init: Some("\"$BIN\" init -e repokey-blake2"),
            backup: "cd \"$SRC\" && \"$BIN\" create -C zstd,3 \"::b$N\" .",
            check: Some("\"$BIN\" check"),
            verify: "\"$BIN\" check --verify-data",
            restore: "cd \"$DST\" && \"$BIN\" extract --sparse ::b3",
        },
    }
}

fn rustic(program: PathBuf) -> Tool {
    Tool {
        name: "rustic",
        program,
        version: "\"$BIN\" --version",
        commands: Commands {
            environment: "export RUSTIC_PASSWORD=bench RUSTIC_REPOSITORY=\"$REPO/r\" RUSTIC_CACHE_DIR=\"$STATE/cache\" \
                          RUSTIC_NO_PROGRESS=true",
            init: Some("\"$BIN\" init"),
            backup: "cd \"$SRC\" && \"$BIN\" backup .",
            check: Some("\"$BIN\" check"),
            verify: "\"$BIN\" check --read-data",
            restore: "\"$BIN\" restore latest \"$DST\"",
        },
    }
}

fn restic() -> Tool {
    Tool {
        name: "restic",
        program: "restic".into(),
        version: "\"$BIN\" version",
        commands: Commands {
            environment: "export RESTIC_PASSWORD=bench RESTIC_REPOSITORY=\"$REPO\" RESTIC_CACHE_DIR=\"$STATE/cache\"",
            init: Some("\"$BIN\" init -q"),
            backup: "cd \"$SRC\" && \"$BIN\" backup -q .",
            check: Some("\"$BIN\" check -q"),
            verify: "\"$BIN\" check -q --read-data",
            restore: "\"$BIN\" restore -q latest --target \"$DST\"",
        },
    }
}

/// What people do by hand: no deduplication, no authentication.
fn plain() -> Tool {
    Tool {
        name: "tar|zstd|openssl",
        program: "tar".into(),
        version: "zstd --version | grep -o \"v[0-9.]*\"",
        commands: Commands {
            environment: "export PASS=bench; c='-aes-256-ctr -pbkdf2 -pass env:PASS'; f=\"$REPO/b$N.tar.zst.enc\"",
            init: None,
            backup: "\"$BIN\" -C \"$SRC\" -S --xattrs -cf - . | zstd -3 -q | openssl enc $c -out \"$f\"",
            check: None,
            verify: "openssl enc -d $c -in \"$f\" | zstd -t -q",
            restore: "openssl enc -d $c -in \"$f\" | zstd -d -q | \"$BIN\" -C \"$DST\" --xattrs -xpf -",
        },
    }
}

/// The version that figures are published against.
const BORG: &str = "borgbackup==1.4.5";

fn install_borg() -> Result<PathBuf> {
    let environment = process::target()?.join("python/borg");
    let program = environment.join("bin/borg");
    let wanted = environment.join(BORG);
    if !wanted.exists() {
        process::call(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        process::call(Command::new(environment.join("bin/pip")).args(["install", "--quiet", BORG]))?;
        std::fs::write(&wanted, "").with_context(|| format!("could not write {}", wanted.display()))?;
    }
    Ok(program)
}

/// Built without its server, exporters and screens, which take no part: that spares half an hour on a small machine.
const RUSTIC: &str = "0.11.4";

fn install_rustic() -> Result<PathBuf> {
    let folder = process::target()?.join("tools/rustic");
    let wanted = folder.join(format!("rustic-{RUSTIC}"));
    if !wanted.exists() {
        println!("building rustic {RUSTIC}, once: this takes long");
        let mut install = process::cargo("install rustic-rs --locked --no-default-features --version")?;
        process::call(install.arg(RUSTIC).arg("--root").arg(&folder).env_remove("CARGO_TARGET_DIR"))?;
        std::fs::write(&wanted, "").with_context(|| format!("could not write {}", wanted.display()))?;
    }
    Ok(folder.join("bin/rustic"))
}
