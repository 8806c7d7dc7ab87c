//! What contracts recorded, read at the places that the index of events gives.
//!
//! - **Owns** that the receipts of a block are read, and compared with their root, once for all events that are asked for one after another: a block may
//!   hold thousands.
//! - **Does not** search: the [`Store`] does.

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, Log};

use crate::store::{EventPlace, Store, StoreError};

/// The events of one store.
pub(super) struct Recorded<'a> {
    store: &'a Store,
    /// The block that was read last, with all its events.
    block: Option<(u64, Vec<Log>)>,
}

impl<'a> Recorded<'a> {
    /// Of which nothing was read yet.
    pub(super) const fn of(store: &'a Store) -> Self {
        Self { store, block: None }
    }

    /// The event at that place, if it is of that contract.
    pub(super) fn at(&mut self, place: EventPlace, contract: Address) -> Result<Option<&Log>, StoreError> {
        let height = place.height();
        if self.block.as_ref().is_none_or(|(read, _)| *read != height) {
            let receipts = self.store.receipts(height)?;
            self.block = Some((height, receipts.iter().flat_map(ReceiptEnvelope::logs).cloned().collect()));
        }
        let logs = self.block.as_ref().map_or(&[][..], |(_, logs)| logs);
        let index = usize::try_from(place.index()).unwrap_or(usize::MAX);
        Ok(logs.get(index).filter(|log| log.address == contract))
    }
}
