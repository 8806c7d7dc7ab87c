//! What a session may reuse: the index, brought up to what the sites hold and cut down to what may be trusted.
//!
//! # Invariants
//! - **T1** A stripe is reused only if its writer's signature is of this line of writers, within what each was trusted for.
//! - **T2** A stripe is reused only if the sites list enough of its shards, with the right sizes.
//! - **T3** A stripe that a removal may take away is not reused, whatever the sites list (`prune::marked`).
//!
//! Format: `docs/design/sites.md` and *Trusting the past* in `docs/design/threats.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use blockhouse_pipeline::pack::PackKeys;
use blockhouse_types::{Account, StripeId};
use futures::{StreamExt as _, stream};

use super::store::Known;
use crate::catalog;
use crate::index::{Index, IndexError};
use crate::ledger::{Ledger, LedgerError, SnapshotRecord, WriterRecord};
use crate::lists;
use crate::prune::Marked;
use crate::stripes::{Presence, StripeStore};
use crate::vault::{HostSecrets, Vault};

/// How many heads of stripes are read at the same time.
const HEADS_IN_FLIGHT: usize = 16;

/// Why the index could not be brought up to the sites.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatchUpError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The chunks that a session may reuse.
pub(super) async fn catch_up(
    vault: &Vault,
    secrets: &HostSecrets,
    ledger: &Ledger,
    (stripes, presence): (&StripeStore, &Presence),
    marked: &Marked,
) -> Result<Known, CatchUpError> {
    let mut index = Index::open(&vault.folder().index())?;
    index.compact()?;
    let line = Line::of(secrets.writer.account(), &ledger.writers().await?);
    let inherited = inherited_stripes(vault, &line, ledger.snapshots().await?).await;
    let trusted = |writer: &Account, stripe: &StripeId| {
        *writer == line.own || (line.predecessors.contains_key(writer) && inherited.contains(stripe))
    };
    let keys = PackKeys::new(&secrets.write.index_key);
    let unknown: Vec<StripeId> = presence.stripes().filter(|id| index.stripe(id).is_none()).collect();
    // A stripe that cannot be read, or is a stranger's, is as if it were not there: what it holds is written again.
    let heads = stream::iter(unknown).map(async |id| (id, stripes.read_head(&id).await)).buffered(HEADS_IN_FLIGHT);
    let mut heads = std::pin::pin!(heads);
    while let Some((id, head)) = heads.next().await {
        let Some(head) = head.ok().filter(|head| trusted(&head.entry.writer, &id)) else { continue };
        // Not settled either: its shards may go at any moment.
        if marked.is_absent(&id) {
            continue;
        }
        if !stripes.settle(presence, &head.entry).await {
            continue;
        }
        catalog::admit(&mut index, stripes, &head.entry, &keys).await?;
    }
    let reusable: HashSet<StripeId> = index
        .stripes()
        .filter(|entry| trusted(&entry.writer, &entry.id) && presence.is_usable(*entry))
        .filter(|entry| !marked.is_absent(&entry.id))
        .map(|entry| entry.id)
        .collect();
    Ok(Known::new(index, reusable))
}

/// A writer and those whose work it continues.
struct Line {
    own: Account,
    /// Up to which block the commits of a predecessor count.
    predecessors: BTreeMap<Account, u64>,
}

impl Line {
    fn of(own: Account, writers: &[WriterRecord]) -> Self {
        let by_account: BTreeMap<Account, &WriterRecord> =
            writers.iter().map(|writer| (writer.account, writer)).collect();
        let mut predecessors = BTreeMap::new();
        let (mut current, mut limit) = (own, u64::MAX);
        while let Some(record) = by_account.get(&current) {
            // What a stolen host wrote is not reused, nor what came before it through it.
            let Some(before) = record.predecessor.filter(|_| !record.host_stolen) else { break };
            limit = limit.min(record.predecessor_last_block);
            if predecessors.insert(before, limit).is_some() {
                break;
            }
            current = before;
        }
        Self { own, predecessors }
    }
}

/// The stripes in the lists that predecessors committed while they were trusted; nodes that cannot be read give nothing.
async fn inherited_stripes(vault: &Vault, line: &Line, snapshots: Vec<SnapshotRecord>) -> BTreeSet<StripeId> {
    let is_trusted = |snapshot: &SnapshotRecord| {
        line.predecessors.get(&snapshot.writer).is_some_and(|limit| snapshot.block <= *limit)
    };
    let trusted: Vec<SnapshotRecord> = snapshots.into_iter().filter(is_trusted).collect();
    lists::read_union(vault.sites(), &trusted).await.stripes
}
