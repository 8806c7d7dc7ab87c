//! Hooks: commands of the user before and after backups.
//!
//! - **Owns** how a hook is run, what it is told, and what its failure is called.
//! - **Does not** decide when: the command line does, and says what each failure means for the backup.
//!
//! # Invariants
//! - **K1** A hook sees no secret of this program: of its variables only the ones that are meant for it.
//! - **K2** A hook that lasts too long is ended with all that it started.
//! - **K3** What a hook prints goes to the standard error: data stays data.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use blockhouse_sources::child::{HowEnded, Running, Waited};
use serde::Deserialize;

use crate::folder::one_or_many;

/// How long a hook may last if nothing else is said.
const TIMEOUT_SECS: u64 = 3600;

/// The hooks around something, each for `sh -c`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Before it; if one fails, the rest is not done.
    #[serde(deserialize_with = "one_or_many")]
    pub before: Vec<String>,
    /// After it was done.
    #[serde(deserialize_with = "one_or_many")]
    pub after: Vec<String>,
    /// After it failed.
    #[serde(deserialize_with = "one_or_many")]
    pub failed: Vec<String>,
    /// At the end, however it ended.
    #[serde(deserialize_with = "one_or_many")]
    pub finally: Vec<String>,
    /// How long each of them may last.
    pub timeout_secs: u64,
}

impl Default for Hooks {
    fn default() -> Self {
        let none = Vec::new;
        Self { before: none(), after: none(), failed: none(), finally: none(), timeout_secs: TIMEOUT_SECS }
    }
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before.
    Before,
    /// After success.
    After,
    /// After failure.
    Failed,
    /// At the end.
    Finally,
}

impl Moment {
    /// Its key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
            Self::Finally => "finally",
        }
    }
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It could not be run.
    #[error("the `{moment}` hook `{command}` could not be run")]
    Start {
        moment: &'static str,
        command: String,
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("the `{moment}` hook `{command}` failed ({ended})")]
    Failed { moment: &'static str, command: String, ended: HowEnded },
    /// It lasted too long.
    #[error("the `{moment}` hook `{command}` was stopped after {seconds} s")]
    TooLong { moment: &'static str, command: String, seconds: u64 },
    /// The user asked to stop.
    #[error("the backup was interrupted while the `{moment}` hook `{command}` ran")]
    Interrupted { moment: &'static str, command: String },
}

/// What hooks are told, by the names of variables.
pub type Facts = BTreeMap<&'static str, OsString>;

impl Hooks {
    /// The commands of a moment.
    pub fn of(&self, moment: Moment) -> &[String] {
        match moment {
            Moment::Before => &self.before,
            Moment::After => &self.after,
            Moment::Failed => &self.failed,
            Moment::Finally => &self.finally,
        }
    }

    /// Runs the hooks of a moment one after another, to the first that fails.
    pub fn run(&self, moment: Moment, facts: &Facts, is_stopped: &dyn Fn() -> bool) -> Result<(), HookError> {
        self.of(moment).iter().try_for_each(|command| self.run_one(command, moment, facts, is_stopped))
    }

    fn run_one(
        &self,
        line: &str,
        moment: Moment,
        facts: &Facts,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), HookError> {
        let (command, moment) = (line.to_owned(), moment.name());
        let waited = self.wait(line, moment, facts, is_stopped);
        match waited.map_err(|source| HookError::Start { moment, command: command.clone(), source })? {
            Waited::Ended(status) if status.success() => Ok(()),
            Waited::Ended(status) => Err(HookError::Failed { moment, command, ended: HowEnded(status) }),
            Waited::TooLong => Err(HookError::TooLong { moment, command, seconds: self.timeout_secs }),
            Waited::Stopped => Err(HookError::Interrupted { moment, command }),
        }
    }

    fn wait(
        &self,
        line: &str,
        moment: &'static str,
        facts: &Facts,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<Waited> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).stdin(Stdio::null());
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        // The facts are set after the variables of this program were taken out.
        blockhouse_sources::child::without_secrets(&mut command);
        command.env("BLOCKHOUSE_HOOK", moment).envs(facts);
        Running::start_as_it_is(&mut command)?.wait(Some(Duration::from_secs(self.timeout_secs)), is_stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(before: &[&str]) -> Hooks {
        Hooks { before: before.iter().map(|&line| line.to_owned()).collect(), timeout_secs: 60, ..Hooks::default() }
    }

    #[test]
    fn hooks_run_in_order_to_the_first_that_fails_and_see_their_facts() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("note");
        let line = |word: &str| format!("echo {word} $BLOCKHOUSE_HOOK $BLOCKHOUSE_SOURCE >> {}", note.display());
        let hooks = hooks(&[&line("one"), "exit 9", &line("two")]);
        let facts = Facts::from([("BLOCKHOUSE_SOURCE", "papers".into())]);
        let failed = hooks.run(Moment::Before, &facts, &|| false).unwrap_err();
        assert_eq!(failed.to_string(), "the `before` hook `exit 9` failed (exit code 9)");
        assert_eq!(std::fs::read_to_string(note).unwrap(), "one before papers\n");
        assert!(hooks.run(Moment::After, &facts, &|| false).is_ok());
    }

    #[test]
    fn a_hook_that_hangs_is_stopped() {
        let hooks = Hooks { timeout_secs: 1, ..hooks(&["sleep 1000"]) };
        let stopped = hooks.run(Moment::Before, &Facts::new(), &|| false).unwrap_err();
        assert!(matches!(stopped, HookError::TooLong { seconds: 1, .. }), "{stopped}");
        let stopped = hooks.run(Moment::Before, &Facts::new(), &|| true).unwrap_err();
        assert!(matches!(stopped, HookError::Interrupted { .. }), "{stopped}");
    }
}
