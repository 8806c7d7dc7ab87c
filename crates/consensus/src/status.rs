//! What a node says about itself, gathered from what the engine reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commonware_actor::Feedback;
use commonware_consensus::simplex::types::Activity;
use commonware_consensus::{Reporter, Viewable};
use std::marker::PhantomData;

use crate::bind::Scheme;
use crate::block::Digest;

/// What a node does in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    Validator,
    /// It is named as a validator and does not vote: its share or the journal of its votes is missing.
    Silent,
    /// It has no vote; it receives and checks all blocks.
    Follower,
}

/// A node at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub role: Role,
    /// The highest view with a certificate that it saw.
    pub view: u64,
    /// The highest view with a final block.
    pub final_view: u64,
    /// The height of the highest final block that it knows of, on the ledger.
    pub tip: u64,
    /// The height of the last block that its application made durable.
    pub height: u64,
    /// How many peers are connected.
    pub peers: usize,
    /// How often a validator was seen to sign two things of which it may sign one.
    pub conflicts: u64,
}

impl Status {
    /// How many final blocks it has yet to record.
    pub const fn lag(&self) -> u64 {
        self.tip.saturating_sub(self.height)
    }
}

/// The numbers behind a [`Status`], written by the engine's tasks.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) view: AtomicU64,
    pub(crate) final_view: AtomicU64,
    pub(crate) tip: AtomicU64,
    pub(crate) height: AtomicU64,
    pub(crate) conflicts: AtomicU64,
}

/// Keeps [`Counts`] in step with the votes.
pub(crate) struct Watcher<S> {
    counts: Arc<Counts>,
    scheme: PhantomData<fn() -> S>,
}

impl<S> Watcher<S> {
    pub(crate) const fn new(counts: Arc<Counts>) -> Self {
        Self { counts, scheme: PhantomData }
    }
}

impl<S> Clone for Watcher<S> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.counts))
    }
}

impl<S: Scheme> Reporter for Watcher<S> {
    type Activity = Activity<S, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let raise = |number: &AtomicU64, view: u64| number.fetch_max(view, Ordering::Relaxed);
        match activity {
            Activity::Notarization(certificate) | Activity::Certification(certificate) => {
                raise(&self.counts.view, certificate.view().get());
            }
            Activity::Nullification(certificate) => {
                raise(&self.counts.view, certificate.view().get());
            }
            Activity::Finalization(certificate) => {
                raise(&self.counts.view, certificate.view().get());
                raise(&self.counts.final_view, certificate.view().get());
            }
            Activity::ConflictingNotarize(_) | Activity::ConflictingFinalize(_) | Activity::NullifyFinalize(_) => {
                self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            Activity::Notarize(_) | Activity::Nullify(_) | Activity::Finalize(_) => {}
        }
        Feedback::Ok
    }
}

/// One line for each connected peer, whose value is when it connected.
const CONNECTED: &str = "network_tracker_directory_connected{";

/// How many peers the engine's metrics call connected: it has no other way to ask.
pub(crate) fn connected(metrics: &str) -> usize {
    metrics.lines().filter(|line| line.starts_with(CONNECTED) && !line.ends_with(" 0")).count()
}
