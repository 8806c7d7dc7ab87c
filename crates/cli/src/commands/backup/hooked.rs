//! Hooks around jobs: which run when, and what their failures mean.
//!
//! ```text
//! before (outer, inner) ─► work ─► after, or failed (inner, outer), each followed by finally
//! ```
//!
//! # Invariants
//! - **N1** A level whose `before` was begun gets its `failed` or `after`, and its `finally`, also after Ctrl-C.
//! - **N2** A failing `before` fails the work. A failing hook after the work takes nothing back: it is told, and the exit code is 1
//!   unless that of the work says worse.

use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_vault::backup::BackupReport;
use blockhouse_vault::folder::{Profiles, VAULT_VARIABLE, VaultFolder};
use blockhouse_vault::hooks::{Facts, HookError, Hooks, Moment};
use blockhouse_vault::progress::Progress;

use super::request::Job;
use super::worse;
use crate::exit::Exit;
use crate::failure::{self, one_line};
use crate::output::Output;

/// How work ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// What was recorded, or was there already.
    snapshot: Option<String>,
    is_unchanged: bool,
    error: Option<String>,
}

impl Ended {
    /// Nothing went wrong yet.
    pub(super) const fn well() -> Self {
        Self { exit: Exit::Success, snapshot: None, is_unchanged: false, error: None }
    }

    /// It failed.
    pub(super) const fn failed(exit: Exit, error: String) -> Self {
        Self { exit, snapshot: None, is_unchanged: false, error: Some(error) }
    }

    /// There is a snapshot.
    pub(super) fn done(exit: Exit, report: &BackupReport) -> Self {
        let snapshot = Some(report.snapshot.to_string());
        Self { exit, snapshot, is_unchanged: report.is_skipped, error: None }
    }

    /// Takes in how another piece of work ended.
    pub(super) fn take(&mut self, other: Self) {
        self.exit = worse(self.exit, other.exit);
        self.is_unchanged = other.is_unchanged;
        self.snapshot = other.snapshot.or_else(|| self.snapshot.take());
        self.error = self.error.take().or(other.error);
    }

    /// How it ended, in one word for hooks.
    const fn status(&self) -> &'static str {
        match self.exit {
            Exit::Success if self.is_unchanged => "unchanged",
            Exit::Success => "done",
            Exit::Unreadable => "unreadable",
            Exit::Degraded => "degraded",
            Exit::Interrupted => "interrupted",
            _ => "failed",
        }
    }

    const fn is_failure(&self) -> bool {
        !matches!(self.exit, Exit::Success | Exit::Unreadable | Exit::Degraded)
    }
}

/// Hooks from the outermost to the innermost, and what all of them are told.
#[derive(Debug)]
pub(super) struct Levels {
    hooks: Vec<Hooks>,
    facts: Facts,
}

impl Levels {
    /// Around the command.
    pub(super) fn of_command(profiles: &Profiles, folder: &VaultFolder) -> Self {
        let facts = Facts::from([(VAULT_VARIABLE, folder.root().into())]);
        Self { hooks: vec![profiles.hooks.clone()], facts }
    }

    /// Around one job: its profile's, then its source's.
    pub(super) fn of_job(profiles: &Profiles, job: &Job, folder: &anyhow::Result<PathBuf>) -> Self {
        let source = job.source();
        let of_profile = job.profile.as_ref().and_then(|name| profiles.profiles.get(name));
        let of_profile = of_profile.map(|profile| profile.hooks.clone());
        let of_source = profiles.source_hooks.get(&source).cloned();
        let mut facts = Facts::from([("BLOCKHOUSE_SOURCE", source.into()), ("BLOCKHOUSE_HOST", job.host().into())]);
        facts.extend(folder.as_ref().ok().map(|folder| (VAULT_VARIABLE, folder.into())));
        facts.extend(job.profile.as_ref().map(|name| ("BLOCKHOUSE_PROFILE", name.into())));
        Self { hooks: of_profile.into_iter().chain(of_source).collect(), facts }
    }
}

/// What a command works with.
pub(super) struct Run<'a> {
    pub(super) out: &'a Output,
    pub(super) progress: &'a Arc<Progress>,
}

impl Run<'_> {
    /// Does work within hooks.
    pub(super) async fn within(&self, levels: Levels, work: impl AsyncFnOnce() -> Ended) -> Ended {
        let Levels { hooks, mut facts } = levels;
        let is_stopped = || self.progress.is_interrupted();
        let (mut begun, mut refused) = (0, None);
        for level in &hooks {
            begun += 1;
            if let Err(error) = blocking(|| level.run(Moment::Before, &facts, &is_stopped)) {
                refused = Some(self.report(error));
                break;
            }
        }
        let mut ended = match refused {
            Some(refused) => refused,
            None => work().await,
        };
        for level in hooks.iter().take(begun).rev() {
            self.after(level, &mut facts, &mut ended);
        }
        ended
    }

    /// The hooks of a level after the work. Nobody stops them but their own limits (N1).
    fn after(&self, level: &Hooks, facts: &mut Facts, ended: &mut Ended) {
        let then = if ended.is_failure() { Moment::Failed } else { Moment::After };
        for moment in [then, Moment::Finally] {
            tell(facts, ended);
            if let Err(error) = blocking(|| level.run(moment, facts, &|| false)) {
                self.out.warn(format_args!("warning: {}", one_line(&error)));
                ended.exit = worse(ended.exit, Exit::Failed);
                ended.error.get_or_insert_with(|| one_line(&error));
            }
        }
    }

    fn report(&self, error: HookError) -> Ended {
        let told = one_line(&error);
        Ended::failed(failure::report(self.out, &error.into()), told)
    }
}

fn tell(facts: &mut Facts, ended: &Ended) {
    facts.insert("BLOCKHOUSE_STATUS", ended.status().into());
    facts.insert("BLOCKHOUSE_EXIT", ended.exit.code().to_string().into());
    facts.extend(ended.snapshot.as_ref().map(|id| ("BLOCKHOUSE_SNAPSHOT", id.into())));
    facts.extend(ended.error.as_ref().map(|error| ("BLOCKHOUSE_ERROR", error.into())));
}

/// Hooks are waited for on a thread that may block.
fn blocking<T>(run: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(run)
}
