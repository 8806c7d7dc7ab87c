//! The way to a site: turns, deadlines, retries, and what a failure leads to.
//!
//! - **Owns** whether the site is up. Once down or closed it stays so: a site that comes and goes during a run would
//!   make the run's account of what is durable where worthless.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SITE_CONCURRENCY;
use crate::error::{Cause, DownReason, Operation, SiteDown, SiteError};
use crate::limits::{Throttle, Way};
use crate::name::SiteName;
use crate::patience::Patience;
use crate::url::SiteSpec;

/// Whether a site answers.
#[derive(Debug, Clone)]
pub enum SiteState {
    /// It does, as far as is known.
    Up,
    /// It can be read, and takes no more writes in this run: full, read-only, or a write failed.
    Closed(Arc<DownReason>),
    /// It is not asked again in this run.
    Down(Arc<DownReason>),
}

impl SiteState {
    /// True if it can be read.
    pub fn can_read(&self) -> bool {
        !matches!(self, Self::Down(_))
    }

    /// True if it can be written to.
    pub fn can_write(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// A call: what is asked, on which object, how many bytes move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) operation: Operation,
    pub(super) object: &'a str,
    pub(super) bytes: u64,
}

impl Work<'_> {
    fn writes(&self) -> bool {
        matches!(self.operation, Operation::Put | Operation::Delete | Operation::Create | Operation::Sweep)
    }

    /// True if the site takes no more writes after such a failure.
    fn is_closed_by(&self, cause: &Cause) -> bool {
        match self.operation {
            Operation::Delete | Operation::Sweep => cause.of_removal_closes_for_writing(),
            _ => self.writes() && cause.closes_for_writing(),
        }
    }

    /// Which way its bytes go.
    fn way(&self) -> Way {
        if self.writes() { Way::Up } else { Way::Down }
    }
}

/// A place among those that a site works on; the last holder frees it.
pub(super) type Turn = Arc<OwnedSemaphorePermit>;

#[derive(Debug)]
pub(super) struct Line {
    name: SiteName,
    patience: Patience,
    throttle: Throttle,
    turns: Arc<Semaphore>,
    down: OnceLock<Arc<DownReason>>,
    closed: OnceLock<Arc<DownReason>>,
}

impl Line {
    pub(super) fn new(spec: &SiteSpec, patience: Patience) -> Self {
        let turns = Arc::new(Semaphore::new(SITE_CONCURRENCY));
        let patience = if spec.url.folder().is_some() { patience } else { patience.over_a_shared_line() };
        let throttle = Throttle::new(spec.limits);
        Self { name: spec.name.clone(), patience, throttle, turns, down: OnceLock::new(), closed: OnceLock::new() }
    }

    /// Waits until the bytes that were read before have had their time.
    pub(super) async fn wait_to_read(&self) {
        self.throttle.wait(Way::Down, 0).await;
    }

    /// Counts bytes that were read without knowing before how many they would be.
    pub(super) fn charge_read(&self, bytes: u64) {
        let _ = self.throttle.charge(Way::Down, bytes);
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn state(&self) -> SiteState {
        match (self.down.get(), self.closed.get()) {
            (Some(reason), _) => SiteState::Down(reason.clone()),
            (None, Some(reason)) => SiteState::Closed(reason.clone()),
            (None, None) => SiteState::Up,
        }
    }

    /// Marks the site down, and gives the reason for which it is: the first one stays.
    pub(super) fn mark_down(&self, reason: DownReason) -> Arc<DownReason> {
        let reason = self.down.get_or_init(|| Arc::new(reason)).clone();
        // Wakes everybody who waits for a turn: those who hang hold theirs for ever.
        self.turns.close();
        reason
    }

    pub(super) fn error(&self, work: Work<'_>, cause: Cause) -> SiteError {
        SiteError { site: self.name.clone(), operation: work.operation, object: work.object.to_owned(), cause }
    }

    pub(super) fn down_with(&self, reason: Arc<DownReason>) -> SiteDown {
        SiteDown { site: self.name.clone(), reason }
    }

    /// Runs a call within its deadline, with retries, and draws the conclusions.
    ///
    /// The wait for a turn has no deadline of its own: whoever holds a turn has one, and when it passes the site is
    /// down and all who wait are told.
    pub(super) async fn run<T, F>(&self, work: Work<'_>, attempt: impl Fn(Turn) -> F) -> Result<T, SiteError>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        self.run_for(work, work.bytes, attempt).await
    }

    /// The same with a deadline for `most` bytes: so many may move, of which `work` does not know.
    pub(super) async fn run_for<T, F>(
        &self,
        work: Work<'_>,
        most: u64,
        attempt: impl Fn(Turn) -> F,
    ) -> Result<T, SiteError>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let done = self.run_once_allowed(work, most, attempt).await;
        done.map_err(|cause| self.error(work, cause))
    }

    async fn run_once_allowed<T, F>(&self, work: Work<'_>, most: u64, attempt: impl Fn(Turn) -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        if work.bytes > 0 {
            self.throttle.wait(work.way(), work.bytes).await;
        }
        let turn = self.turn(work).await?;
        let tries = self.patience.retries;
        self.within_deadline(Work { bytes: most, ..work }, async {
            let mut retry = 0;
            loop {
                // On the heap: what is below is deep, and every caller's future would hold all of it.
                match Box::pin(attempt(turn.clone())).await {
                    Err(cause) if cause.is_passing() && retry < tries => {
                        tokio::time::sleep(self.patience.pause(retry)).await;
                        retry += 1;
                    }
                    done => return done,
                }
            }
        })
        .await
        .inspect_err(|cause| self.judge(work, cause))
    }

    /// Waits for a turn, unless the site is or goes down.
    pub(super) async fn turn(&self, work: Work<'_>) -> Result<Turn, Cause> {
        let turn = self.turns.clone().acquire_owned().await;
        match (turn, self.state()) {
            (_, SiteState::Down(reason)) => Err(Cause::Down(reason)),
            (_, SiteState::Closed(reason)) if work.writes() => Err(Cause::Closed(reason)),
            (Ok(turn), _) => Ok(Arc::new(turn)),
            (Err(_), _) => unreachable!("turns are closed only after the reason is set"),
        }
    }

    /// Waits for a call; a site that exceeds its deadline is down.
    pub(super) async fn within_deadline<T>(
        &self,
        work: Work<'_>,
        call: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, Cause> {
        let allowed = self.patience.deadline(work.bytes);
        let Ok(done) = tokio::time::timeout(allowed, call).await else {
            let cause = Cause::Deadline { allowed };
            self.mark_down(cause.to_reason(work.operation, work.object));
            return Err(cause);
        };
        done
    }

    /// What a failure says about the site as a whole.
    pub(super) fn judge(&self, work: Work<'_>, cause: &Cause) {
        if cause.is_gone() || cause.is_passing() || matches!(cause, Cause::Deadline { .. }) {
            self.mark_down(cause.to_reason(work.operation, work.object));
        } else if work.is_closed_by(cause) {
            self.closed.get_or_init(|| Arc::new(cause.to_reason(work.operation, work.object)));
        }
    }
}
