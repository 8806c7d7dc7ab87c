//! Forgetting snapshots: by the rule, or by name.
//!
//! - **Owns** which snapshots are asked of the contract, and with which account.
//! - **Does not** remove a byte: what nobody needs any more `prune` removes.
//!
//! # Invariants
//! - **F1** Nothing is forgotten that the contract does not let go at that moment: a survey is only a plan.
//! - **F2** A kill leaves snapshots that are forgotten and others that are not, and nothing between.
//!
//! Page: `docs/design/retention.md`.

use std::collections::BTreeSet;

use blockhouse_types::{SnapshotId, SourceId};

use crate::ledger::{Forgetting, LedgerError};
use crate::progress::Progress;
use crate::retention::{self, RetentionError, Survey, Verdict};
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What is to be forgotten.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The newest first: so what a contract walks for each is short.
    pub forgettings: Vec<Forgetting>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct ForgetReport {
    /// Forgotten.
    pub forgotten: Vec<SnapshotId>,
    /// Refused by the contract, with its reason.
    pub refused: Vec<(SnapshotId, String)>,
}

/// Why nothing more was forgotten. What was forgotten stays so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The ledger.
    #[error("the ledger did not take it")]
    Ledger(#[from] LedgerError),
    /// The rules, or the copies of what was recorded.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Neither the writer's secrets nor the identity are here.
    #[error("this folder has no writer's secrets, and the identity was not given: it can remove nothing")]
    NoAccount,
    /// The user stopped it.
    #[error("forgetting was interrupted")]
    Interrupted,
}

impl Plan {
    /// What a survey lets go, narrowed by `is_chosen`.
    pub fn of_survey(survey: &Survey, is_chosen: impl Fn(&Verdict) -> bool) -> Self {
        let chosen = survey.verdicts.iter().rev().filter(|verdict| verdict.goes() && is_chosen(verdict));
        Self { forgettings: chosen.map(forgetting).collect() }
    }

    /// These by name, whatever the rule says; the contract decides.
    pub fn of(verdicts: &[&Verdict]) -> Self {
        Self { forgettings: verdicts.iter().rev().map(|verdict| forgetting(verdict)).collect() }
    }
}

fn forgetting(verdict: &Verdict) -> Forgetting {
    let record = &verdict.known.record;
    Forgetting { snapshot: record.id, source: record.source, writer: record.writer, place: verdict.place }
}

/// Brings all timelines up, as [`execute`] does those that it needs. Does nothing in a folder that cannot write.
pub async fn prepare(vault: &Vault) -> Result<(), ForgetError> {
    let Some(secrets) = vault.secrets() else { return Ok(()) };
    let ledger = vault.ledger_as(&secrets.writer);
    let sources: BTreeSet<SourceId> = ledger.snapshots().await?.iter().map(|record| record.source).collect();
    Ok(retention::bring_up(&ledger, &secrets.writer, &sources).await?)
}

/// Forgets, many in one block, with the owner's account if it is there, else with the writer's. Copies the blocks to the sites.
pub async fn execute(
    vault: &Vault,
    plan: &Plan,
    unlocked: Option<&Unlocked>,
    progress: &Progress,
) -> Result<ForgetReport, ForgetError> {
    let sender = match (unlocked, vault.secrets()) {
        (Some(unlocked), _) => retention::owner(vault, unlocked).await?,
        (None, Some(secrets)) => secrets.writer.clone(),
        (None, None) => return Err(ForgetError::NoAccount),
    };
    let ledger = vault.ledger_as(&sender);
    // After the survey that the plan is of: the contract must know of every snapshot that it counted.
    let sources: BTreeSet<SourceId> = plan.forgettings.iter().map(|forgetting| forgetting.source).collect();
    retention::bring_up(&ledger, &sender, &sources).await?;
    let timeline = ledger.modules().await?.timeline;
    let mut report = ForgetReport::default();
    let mut rest = plan.forgettings.as_slice();
    progress.expect_steps(rest.len() as u64);
    while !rest.is_empty() {
        if progress.is_interrupted() {
            retention::conclude(vault).await?;
            return Err(ForgetError::Interrupted);
        }
        let done = ledger.forget_some(&sender, rest, timeline).await?;
        rest = rest.get(done.dealt.max(1)..).unwrap_or_default();
        (0..done.dealt).for_each(|_| progress.add_step());
        report.forgotten.extend(done.done);
        report.refused.extend(done.refused);
    }
    if !report.refused.is_empty() {
        // One that failed when it was sealed held up what takes its siblings out of their timelines.
        retention::bring_up(&ledger, &sender, &sources).await?;
    }
    if !report.forgotten.is_empty() {
        retention::conclude(vault).await?;
    }
    Ok(report)
}
