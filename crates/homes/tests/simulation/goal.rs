//! What the harness sees of a node, and when a run has gone far enough.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::exit::ExitCondition;
use commonware_glue::simulate::processed::ProcessedHeight;
use commonware_glue::simulate::tracker::ProgressTracker;
use commonware_runtime::{Clock as _, deterministic};

use crate::seat::Seat;
use crate::storm::is_calm;
use crate::witness::{Event, Witness};

/// How many blocks of the tenure that follows are enough.
const FOLLOWED: u64 = 6;
/// For how long no node records a block in a standstill: longer than the turns of two dead leaders.
const STANDSTILL: Duration = Duration::from_millis(2500);
/// How many blocks who is left behind has less than another: more than come while a message is on its way.
const BEHIND: u64 = 5;

/// What the harness sees of a node: its ledger; nothing of a liar.
pub(crate) struct State {
    pub(crate) seat: Option<Seat>,
    pub(crate) clock: deterministic::Context,
}

impl ProcessedHeight for State {
    async fn processed_height(&self) -> u64 {
        self.seat.as_ref().map_or(u64::MAX, Seat::height)
    }
}

/// The simulated time since the run began.
pub(crate) fn elapsed(clock: &deterministic::Context) -> Duration {
    clock.current().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Enough nodes have recorded enough blocks, after the storm if there is one.
#[derive(Clone)]
pub(crate) struct Goal {
    pub(crate) blocks: u64,
    pub(crate) nodes: usize,
    /// How many there are, those that are away among them.
    pub(crate) all: usize,
    /// And some of the tenure that follows.
    pub(crate) changes: bool,
    /// Whether there is a storm: what was recorded before it is over is not enough.
    pub(crate) storm: bool,
    pub(crate) witness: Witness,
    pub(crate) progress: Arc<Mutex<Progress>>,
}

/// What was seen when it was last looked.
#[derive(Default)]
pub(crate) struct Progress {
    /// The height of the best node, and since when.
    best: (u64, Duration),
    stands: bool,
    is_behind: bool,
    /// The height of the best node when it became calm.
    base: Option<u64>,
}

impl Goal {
    /// From which height on blocks count, if they do by now. Tells the witness of standstills, and of nodes that were left behind.
    fn look(&self, clock: &deterministic::Context, heights: &[u64]) -> Option<u64> {
        let now = elapsed(clock);
        let mut progress = self.progress.lock().unwrap();
        let (best, worst) = (heights.iter().max().copied()?, heights.iter().min().copied()?);
        if best > progress.best.0 {
            println!("{best} blocks after {now:?}");
            progress.best = (best, now);
        }
        let stands = now.saturating_sub(progress.best.1) >= STANDSTILL;
        let is_behind = best >= worst + BEHIND;
        if stands && !progress.stands {
            println!("no block after {best} from {:?} on", progress.best.1);
            self.witness.count(Event::Standstill, 1);
        }
        self.witness.count(Event::LeftBehind, u64::from(is_behind && !progress.is_behind));
        (progress.stands, progress.is_behind) = (stands, is_behind);
        if !self.storm {
            return Some(0);
        }
        // The harness does what is due before it looks here: none of the lives that the storm began goes on any more.
        if progress.base.is_none() && is_calm(clock) {
            println!("calm after {now:?}: {heights:?}");
            self.witness.calm();
            progress.base = Some(best);
        }
        progress.base
    }
}

impl ExitCondition<PublicKey, State> for Goal {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn requires_polling(&self) -> bool {
        true
    }

    fn reached<'a>(
        &'a self,
        _: &'a ProgressTracker<PublicKey>,
        states: &'a [&'a State],
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + 'a>> {
        let seats: Vec<&Seat> = states.iter().filter_map(|state| state.seat.as_ref()).collect();
        let heights: Vec<u64> = seats.iter().map(|seat| seat.height()).collect();
        self.witness.count(Event::Away, u64::from(states.len() < self.all));
        let base = states.first().and_then(|state| self.look(&state.clock, &heights));
        let reached = base.is_some_and(|base| {
            let is_done =
                |seat: &&&Seat| seat.height() >= base + self.blocks && (!self.changes || seat.has_followed(FOLLOWED));
            // A liar is always done.
            let liars = states.len() - seats.len();
            liars + seats.iter().filter(is_done).count() >= self.nodes
        });
        Box::pin(async move { Ok(reached) })
    }
}
