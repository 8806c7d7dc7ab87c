//! Anchoring by OpenTimestamps: the digest of a checkpoint is given to calendars, and what they have of it later is recorded.
//!
//! - **Owns** what is asked of which calendar, and what of it is recorded.
//! - **Does not** ask a server that only a record names: whoever is enrolled writes records.
//!
//! # Invariants
//! - **T1** What is recorded is of a checkpoint of this ledger. A promise is recorded at once; that is what is upgraded later, wherever.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256};
use blockhouse_homes::NodeUrl;
use blockhouse_homes::attest::{has_news, place_at};
use blockhouse_homes::calendar::{CalendarError, Calendars};
use blockhouse_ledger::anchor::{AttestationKind, OTS_MAX, Ots, OtsAttestation, Timestamp, checkpoint_digest};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::Anchors;
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;
use blockhouse_types::BlockHash;

use super::{AnchorError, contract};
use crate::folder::Held;
use crate::ledger::address;
use crate::retention;
use crate::unlock::Unlocked;
use crate::vault::Vault;

/// What calendars promised.
#[derive(Debug)]
pub struct Promised {
    /// The block whose digest they have; none if there is nothing new.
    pub block: Option<BlockPlace>,
    /// How many of them promised.
    pub calendars: usize,
    /// Those that did not.
    pub failed: Vec<CalendarError>,
}

/// What became of promises.
#[derive(Debug, Default)]
pub struct Upgraded {
    /// Blocks of the ledger, and the height of the Bitcoin block that each is in.
    pub kept: Vec<(BlockPlace, u64)>,
    /// Blocks of the ledger that are in no Bitcoin block yet, as far as was told.
    pub waiting: Vec<u64>,
    /// Calendars that could not be asked.
    pub failed: Vec<CalendarError>,
}

/// Gives the digest of the last block to calendars, and records what they promise.
pub async fn promise(
    vault: &Vault,
    unlocked: Option<&Unlocked>,
    calendars: &[NodeUrl],
) -> Result<Promised, AnchorError> {
    let own = vault.home().own_copy()?;
    let writer = vault.secrets().ok_or(AnchorError::NoAccount)?.writer.clone();
    let contract = contract(vault, unlocked).await?;
    let _alone = Held::try_alone(&vault.folder().anchor_lock())?;
    let account = address(writer.account());
    let own_stamps = records(vault).await?.into_iter().filter(|stamp| stamp.by == account);
    let above = own_stamps.map(|stamp| stamp.height).max().unwrap_or(0);
    let found = own
        .read(move |store| {
            let is_due = store.height() > above && has_news(store, contract, above)?;
            let place = if is_due { place_at(store, store.height())? } else { None };
            Ok::<_, AnchorError>(place.map(|place| (place, checkpoint_digest(store.genesis().hash(), &place))))
        })
        .await??;
    let Some((place, digest)) = found else {
        return Ok(Promised { block: None, calendars: 0, failed: Vec::new() });
    };
    let client = Calendars::new().map_err(AnchorError::Calendar)?;
    let (mut timestamp, mut count, mut failed) = (Timestamp::default(), 0, Vec::new());
    for calendar in calendars {
        match client.submit(calendar, digest).await {
            Ok(promised) => {
                timestamp.merge(promised);
                count += 1;
            }
            Err(error) => failed.push(error),
        }
    }
    if count == 0 {
        return Err(failed.pop().map_or(AnchorError::NoCalendar, AnchorError::Calendar));
    }
    vault.ledger_as(&writer).record_anchor(&record(&place, &Ots { digest, timestamp })?).await?;
    retention::conclude(vault).await?;
    Ok(Promised { block: Some(place), calendars: count, failed })
}

/// Asks calendars what became of their promises, and records those that they kept.
pub async fn upgrade(vault: &Vault, calendars: &[NodeUrl]) -> Result<Upgraded, AnchorError> {
    let writer = vault.secrets().ok_or(AnchorError::NoAccount)?.writer.clone();
    let _alone = Held::try_alone(&vault.folder().anchor_lock())?;
    let client = Calendars::new().map_err(AnchorError::Calendar)?;
    let (ledger, mut upgraded) = (vault.ledger_as(&writer), Upgraded::default());
    let records = records(vault).await?;
    // What others recorded may be none, and ends nothing.
    let account = address(writer.account());
    let is_done = |stamp: &&Stamp| stamp.by == account && is_complete(&stamp.ots);
    let done: BTreeSet<u64> = records.iter().filter(is_done).map(|stamp| stamp.height).collect();
    let own = records.iter().filter(|stamp| stamp.by == account);
    let mut recorded: Vec<(u64, Ots)> = own.map(|stamp| (stamp.height, stamp.ots.clone())).collect();
    for Stamp { height, mut ots, .. } in records.into_iter().filter(|stamp| !done.contains(&stamp.height)) {
        let read = move |store: &blockhouse_homes::Store| {
            let place = place_at(store, height)?;
            Ok::<_, AnchorError>(place.map(|place| (place, checkpoint_digest(store.genesis().hash(), &place))))
        };
        let own = vault.home().own_copy()?.read(read).await??;
        // T1.
        let Some((place, _)) = own.filter(|(_, digest)| *digest == ots.digest) else { continue };
        let before = ots.clone();
        ask(&client, calendars, &mut ots, &mut upgraded.failed).await;
        match kept_in(&ots) {
            // All of it is recorded.
            Some(_) if ots == before || recorded.iter().any(|(at, known)| *at == height && *known == ots) => {}
            Some(bitcoin) => {
                // One that is too long keeps none of the others from being recorded.
                let Ok(call) = record(&place, &ots) else {
                    upgraded.waiting.push(height);
                    continue;
                };
                ledger.record_anchor(&call).await?;
                recorded.push((height, ots));
                upgraded.kept.push((place, bitcoin));
            }
            None => upgraded.waiting.push(height),
        }
    }
    if !upgraded.kept.is_empty() {
        retention::conclude(vault).await?;
    }
    Ok(upgraded)
}

/// Completes what these calendars have promised, as far as they have it.
async fn ask(client: &Calendars, calendars: &[NodeUrl], ots: &mut Ots, failed: &mut Vec<CalendarError>) {
    for claim in ots.claims() {
        let OtsAttestation::Pending { uri } = claim.by else { continue };
        let is_named = |calendar: &&NodeUrl| calendar.as_str().trim_end_matches('/') == uri.trim_end_matches('/');
        let Some(calendar) = calendars.iter().find(is_named) else { continue };
        match client.fetch(calendar, &claim.message).await {
            Ok(Some(more)) => ots.complete(&claim.message, &more),
            Ok(None) => {}
            Err(error) => failed.push(error),
        }
    }
}

/// The Bitcoin block that a proof leads to.
fn kept_in(ots: &Ots) -> Option<u64> {
    ots.claims().into_iter().find_map(|claim| match claim.by {
        OtsAttestation::Bitcoin { height } => Some(height),
        _ => None,
    })
}

/// True if there is a Bitcoin block for each promise: one that a single calendar names may be none.
fn is_complete(ots: &Ots) -> bool {
    let claims = ots.claims();
    let count = |is: fn(&OtsAttestation) -> bool| claims.iter().filter(|claim| is(&claim.by)).count();
    let kept = count(|by| matches!(by, OtsAttestation::Bitcoin { .. }));
    kept > 0 && kept >= count(|by| matches!(by, OtsAttestation::Pending { .. }))
}

/// A proof on the ledger.
struct Stamp {
    /// The block that it is said to be of.
    height: u64,
    /// Who recorded it.
    by: Address,
    ots: Ots,
}

/// The proofs on the ledger.
async fn records(vault: &Vault) -> Result<Vec<Stamp>, AnchorError> {
    let records = vault.ledger().anchor_records().await?;
    let proof = |event: AnchorsEvents| match event {
        AnchorsEvents::Anchored(event) if event.kind == AttestationKind::Ots.word() => {
            Some(Stamp { height: event.height, by: event.by, ots: Ots::decode(&event.data).ok()? })
        }
        _ => None,
    };
    Ok(records.into_iter().filter_map(|record| proof(record.event)).collect())
}

fn record(place: &BlockPlace, ots: &Ots) -> Result<Anchors::recordCall, AnchorError> {
    let data = ots.encode();
    // Together the answers of calendars may be more than one proof can have: nobody would read it.
    if data.len() > OTS_MAX || Ots::decode(&data).is_err() {
        return Err(AnchorError::LongProof { length: data.len() });
    }
    let hash: BlockHash = place.hash;
    Ok(Anchors::recordCall {
        kind: AttestationKind::Ots.word(),
        chainId: 0,
        target: Address::ZERO,
        txHash: B256::ZERO,
        height: place.height,
        blockHash: B256::new(hash.to_bytes()),
        data: data.into(),
    })
}
