//! From a stripe's sealed table of contents to the host's index.

use blockhouse_pipeline::pack::{PackKeys, Table};
use blockhouse_types::ChunkId;

use crate::index::{Index, IndexError, Slot, StripeEntry};
use crate::stripes::StripeStore;

/// The chunks of a pack, as the index keeps them.
pub(crate) fn slots(table: &Table) -> Vec<(ChunkId, Slot)> {
    let slot = |entry: &blockhouse_pipeline::pack::TableEntry| {
        let (offset, sealed_len, plain_len) = (entry.offset, entry.sealed_len, entry.plain_len);
        (entry.id, Slot { codec: entry.codec.tag(), offset, sealed_len, plain_len })
    };
    table.entries().iter().map(slot).collect()
}

/// Reads a stripe's table and indexes its chunks. A table that cannot be read is as if the stripe were not there.
pub(crate) async fn admit(
    index: &mut Index,
    stripes: &StripeStore,
    entry: &StripeEntry,
    keys: &PackKeys,
) -> Result<bool, IndexError> {
    match stripes.read_table(entry, keys).await {
        Ok(table) => index.add(*entry, slots(&table)).map(|()| true),
        Err(_) => Ok(false),
    }
}
