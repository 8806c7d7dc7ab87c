//! Where the epoch of an engine ends.
//!
//! - **Owns** how the engine hears of it: it proposes the last block again, view after view, until it is final, and no block above it.
//! - **Does not** know why it ends, nor stop the engine: who runs it does, once that block is durable.

use std::sync::Arc;

use commonware_consensus::types::{Epoch, EpochInfo, Epocher, Height};

use crate::application::Erased;

/// The height of an end that nobody knows yet.
const NO_END: Height = Height::new(u64::MAX - 1);

/// The one epoch of an engine, in the heights that it counts from its base.
#[derive(Clone)]
pub(crate) struct OneEpoch {
    epoch: Epoch,
    base: u64,
    application: Arc<dyn Erased>,
}

impl OneEpoch {
    pub(crate) const fn new(epoch: Epoch, base: u64, application: Arc<dyn Erased>) -> Self {
        Self { epoch, base, application }
    }

    fn end(&self) -> Height {
        // A last block at or below the base is that of an earlier epoch.
        let last = self.application.last_block().and_then(|last| last.checked_sub(self.base)).filter(|last| *last > 0);
        last.map_or(NO_END, Height::new)
    }
}

impl Epocher for OneEpoch {
    fn containing(&self, height: Height) -> Option<EpochInfo> {
        let end = self.end();
        (height <= end).then(|| EpochInfo::new(self.epoch, height, Height::zero(), end))
    }

    fn first(&self, epoch: Epoch) -> Option<Height> {
        (epoch == self.epoch).then(Height::zero)
    }

    fn last(&self, epoch: Epoch) -> Option<Height> {
        (epoch == self.epoch).then(|| self.end())
    }
}
