//! The way to a site: turns, deadlines, retries, and what a failure leads to.
//!
//! - **Owns** whether the site is up. Once down or closed it stays so: a site that comes and goes during a run would
//!   make the run's account of what is durable where worthless.
//!
//! A run that only reads can spare some sites ([`Spare`]): where nobody is there when one of them is opened, it is tried again once and no
//! more, and the others are read. Of those that it needs each has its whole budget, and so has every site of a run that writes, and every call
//! at a site that is open. If the others do not suffice, those that were spared are asked again (`sites`).

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SITE_CONCURRENCY;
use crate::error::{Cause, DownReason, Operation, SiteDown, SiteError};
use crate::limits::{Throttle, Way};
use crate::name::SiteName;
use crate::patience::{Patience, Spare};
use crate::trouble::Trouble;
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
    spare: Spare,
    /// Whether the run does without the site, once that was asked.
    is_spared: OnceLock<bool>,
}

impl Line {
    /// The way to a site that is needed.
    pub(super) fn new(spec: &SiteSpec, patience: Patience) -> Self {
        Self::sparing(spec, patience, Spare::default())
    }

    /// The way to one of sites of which some can be spared.
    pub(super) fn sparing(spec: &SiteSpec, patience: Patience, spare: Spare) -> Self {
        let turns = Arc::new(Semaphore::new(SITE_CONCURRENCY));
        let patience = if spec.url.folder().is_some() { patience } else { patience.over_a_shared_line() };
        let throttle = Throttle::new(spec.limits);
        let (down, closed, is_spared) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { name: spec.name.clone(), patience, throttle, turns, down, closed, spare, is_spared }
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
        // It counts as one of those that can be spared, whatever took it down.
        let _ = self.spare_it();
        // Wakes everybody who waits for a turn: those who hang hold theirs for ever.
        self.turns.close();
        reason
    }

    pub(super) fn error(&self, work: Work<'_>, cause: Cause) -> SiteError {
        SiteError { site: self.name.clone(), operation: work.operation, object: work.object.to_owned(), cause }
    }

    /// True if the run can do without this site, and does from now on.
    fn spare_it(&self) -> bool {
        *self.is_spared.get_or_init(|| self.spare.take())
    }

    /// True if a call that failed so, and was tried again once, need not be tried once more.
    fn is_given_up(&self, work: Work<'_>, cause: &Cause, retry: u32) -> bool {
        let is_opened = work.operation == Operation::Open;
        retry > 0 && is_opened && cause.trouble().is_some_and(Trouble::is_absence) && self.spare_it()
    }

    pub(super) fn down_with(&self, reason: Arc<DownReason>) -> SiteDown {
        let _ = self.spare_it();
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
                    Err(cause) if cause.is_passing() && retry < tries && !self.is_given_up(work, &cause, retry) => {
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
        let mut call = pin!(call);
        let (mut left, opening) = (allowed, self.patience.opening);
        if work.operation == Operation::Open && opening < allowed {
            match tokio::time::timeout(opening, &mut call).await {
                Ok(done) => return done,
                Err(_) if self.spare_it() => return Err(self.late(work, opening)),
                Err(_) => left = left.saturating_sub(opening),
            }
        }
        match tokio::time::timeout(left, call).await {
            Ok(done) => done,
            Err(_) => Err(self.late(work, allowed)),
        }
    }

    /// The site took too long, and is down.
    fn late(&self, work: Work<'_>, allowed: Duration) -> Cause {
        let cause = Cause::Deadline { allowed };
        self.mark_down(cause.to_reason(work.operation, work.object));
        cause
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use crate::site::tests::spec;
    use crate::trouble::ServiceFailure;

    const OPEN: Work<'static> = Work { operation: Operation::Open, object: "its marker", bytes: 0 };
    const GET: Work<'static> = Work { operation: Operation::Get, object: "shards/one", bytes: 1 };
    const PUT: Work<'static> = Work { operation: Operation::Put, object: "shards/one", bytes: 1 };

    fn line(spare: &Spare) -> Line {
        let patience = Patience { back_off: Duration::from_millis(1), ..Patience::default() };
        Line::sparing(&spec(Path::new("/a")), patience, spare.clone())
    }

    /// How often a call is tried that fails so each time.
    async fn tries(line: &Line, work: Work<'_>, trouble: Trouble) -> u32 {
        let count = Cell::new(0);
        let failing = |_turn| {
            count.set(count.get() + 1);
            std::future::ready(Err::<(), _>(Cause::Service(ServiceFailure::new(trouble.clone(), "no"))))
        };
        line.run(work, failing).await.unwrap_err();
        assert!(!line.state().can_read());
        count.get()
    }

    /// Two seconds went by at each opening with a site where nobody answers, though the others have all that is read.
    #[tokio::test]
    async fn a_site_that_can_be_spared_is_tried_again_once_and_one_that_is_needed_as_often_as_ever() {
        let spare = Spare::new(2);
        let lines = [line(&spare), line(&spare), line(&spare)];
        assert_eq!(tries(&lines[0], OPEN, Trouble::Refused).await, 2);
        assert_eq!(tries(&lines[1], OPEN, Trouble::Broken).await, 2);
        assert_eq!(tries(&lines[2], OPEN, Trouble::Refused).await, 4, "it is needed");
        assert_eq!(tries(&line(&Spare::default()), OPEN, Trouble::Refused).await, 4, "all are");
    }

    #[tokio::test]
    async fn what_is_there_and_busy_or_is_written_to_has_its_whole_budget() {
        for (work, trouble, count) in [
            (GET, Trouble::Refused, 4),
            (GET, Trouble::Broken, 4),
            (GET, Trouble::Busy, 4),
            (OPEN, Trouble::Busy, 4),
            (PUT, Trouble::Refused, 4),
        ] {
            assert_eq!(tries(&line(&Spare::new(1)), work, trouble.clone()).await, count, "{work:?} {trouble:?}");
        }
    }

    /// Whatever takes a site down, it is one of those that can be spared: once.
    #[tokio::test]
    async fn a_site_that_is_down_counts_once() {
        let spare = Spare::new(2);
        let (one, other) = (line(&spare), line(&spare));
        let reason = one.mark_down(DownReason::NoMarker { place: "there".to_owned() });
        let _ = one.down_with(reason);
        assert_eq!(tries(&other, OPEN, Trouble::Refused).await, 2);
        assert!(!spare.take());
    }

    #[tokio::test]
    async fn a_silent_site_that_can_be_spared_is_not_waited_for_as_long_as_one_that_is_needed() {
        let (base, opening) = (Duration::from_millis(60), Duration::from_millis(20));
        for (spare, expected) in [(1, opening), (0, base)] {
            let patience = Patience { base, opening, ..Patience::default() };
            let line = Line::sparing(&spec(Path::new("/a")), patience, Spare::new(spare));
            let silent = |_turn| std::future::pending::<Result<(), Cause>>();
            let error = line.run(OPEN, silent).await.unwrap_err();
            assert!(matches!(error.cause, Cause::Deadline { allowed } if allowed == expected), "{error:?}");
        }
    }
}
