//! What a node that began by a state lacks: the blocks below, fetched from the top down while it takes part.
//!
//! Each is named by the block above it, and its receipts by its own header; its certificate is checked too. The last one must follow the
//! block 0 of the genesis. They are not executed: the state that they led to was certified.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;

use super::super::chain::Chain;
use super::super::orderer::Orderer;
use super::Ended;
use crate::embedded::LedgerKeys;
use crate::remote::{NodeUrl, RUN, Remote};
use crate::store::Past;

const PAST: &str = "blockhouse_getPastBlocks";
/// The pause after a run, so many times as long as the run took: what a client waits for comes first.
const PACE: u32 = 1;
/// The pause before peers are asked again of which none had what is wanted; each is twice as long as the last one.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_mins(5);

/// Why the last peer that was asked was left; nothing while all goes well.
pub(in crate::network) type Trouble = Arc<Mutex<Option<String>>>;

/// Fetches all blocks that are missing; ends when none is.
pub(in crate::network) async fn fill(chain: Arc<Chain>, orderer: Arc<Orderer>, peers: Remote, trouble: Trouble) {
    let mut pause = AGAIN;
    loop {
        let next = match chain.head().below_bottom() {
            Ok(Some(next)) => next,
            Ok(None) => return,
            Err(error) => return orderer.fail(crate::chain::chain(&error)),
        };
        let begun = tokio::time::Instant::now();
        match take_of_any(&chain, &peers, next, &trouble).await {
            Ok(true) => {
                pause = AGAIN;
                tokio::time::sleep(begun.elapsed() * PACE).await;
            }
            Ok(false) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
            Err(why) => return orderer.fail(why),
        }
    }
}

/// Takes the next blocks of the first peer that has them; false if none has. The error is this node's own.
async fn take_of_any(chain: &Chain, peers: &Remote, next: (u64, B256), trouble: &Trouble) -> Result<bool, String> {
    let note = |words| *trouble.lock().unwrap_or_else(PoisonError::into_inner) = words;
    for node in peers.in_turn() {
        match take(chain, peers, node, next).await {
            Ok(()) => {
                peers.prefer(node);
                note(None);
                return Ok(true);
            }
            // It is asked again another time: it may have been starting.
            Err(Ended::Peer(error)) => note(Some(format!("{node}: {}", crate::chain::chain(&error)))),
            Err(Ended::Own(error)) => return Err(crate::chain::chain(&error)),
        }
    }
    Ok(false)
}

async fn take(chain: &Chain, peers: &Remote, node: &NodeUrl, mut next: (u64, B256)) -> Result<(), Ended> {
    let past = peers.past(node, next.0, RUN).await.map_err(Ended::Peer)?;
    if past.is_empty() {
        return Err(Ended::strange(PAST, format!("it has no block {}", next.0)));
    }
    // It is here: the last of these must follow it.
    if past.iter().any(|past| past.height() == 0) {
        return Err(Ended::strange(PAST, "it gave block 0 too"));
    }
    tokio::task::block_in_place(|| -> Result<(), Ended> {
        let store = chain.head();
        let (keys, chain_id) = (LedgerKeys::of(&store)?, store.genesis().chain_id);
        let mut judge = |past: &Past| {
            past.compare(next.0, next.1)?;
            past.certified_by(chain_id, &keys.at(next.0))?;
            next = (next.0.saturating_sub(1), past.parent());
            Ok::<(), String>(())
        };
        past.iter().try_for_each(&mut judge).map_err(|why| Ended::strange(PAST, why))?;
        chain.put_past(&past)?;
        Ok(())
    })
}
