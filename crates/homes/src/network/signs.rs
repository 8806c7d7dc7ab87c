//! Signs of a fork without proof: what anchors and witnesses recorded on this ledger of its blocks, and is not so here.
//!
//! An anchor and a cosignature name a block by height and hash. Whoever made one of another chain, and then meets this one, records it here; and a
//! transaction made for the one chain counts on the other too. (Of the last 256 blocks the contract itself refuses another hash.) They hold no certificate, so they prove nothing and name nobody: what comes of
//! them is an alarm that says which, for people to look.
//!
//! - **Owns** which records are looked at, what is found, and its words.
//! - **Does not** silence anybody: an enrolled account can record what it likes.
//!
//! # Invariants
//! - **X1** A cosignature counts only with the witness's own signature over another block than the one here. Of an anchor the outside chain would have
//!   to be asked: it counts as its account's word, and its words say so.
//! - **X2** At most [`SIGNS_MAX`] are kept, and [`SIGNS_OF_ONE`] of one account, the first ones; all are counted.
//! - **X3** Who asks what is known waits for no search.
//!
//! Format: `docs/design/forks.md`, section *Signs without proof*.

use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256, Log};
use alloy_sol_types::{SolEvent as _, SolEventInterface as _};
use blockhouse_ledger::BlockPlace;
use blockhouse_ledger::anchor::Cosignature;
use blockhouse_ledger::contracts::Anchors::{self, AnchorsEvents};
use blockhouse_types::BlockHash;

use super::attesting::MODULE;
use super::recorded::Recorded;
use super::speaker::module;
use crate::store::{EventKey, EventPlace, Order, Sought, Store, StoreError, Wanted};

/// How many are kept with their words.
pub const SIGNS_MAX: usize = 16;
/// How many of them one account may have there: whoever records what he likes must not take the room of others.
pub const SIGNS_OF_ONE: usize = 4;
/// How many look-ups of the index one search may take.
const WORK: u64 = 4096;

/// A record of another block than the one here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSign {
    /// The height of which it says something.
    pub height: u64,
    /// What it says that the block there is.
    pub said: B256,
    /// What the block there is.
    pub here: B256,
    /// Who recorded it.
    pub by: Address,
    /// The block that holds the record.
    pub recorded: u64,
    /// What it is of.
    pub of: SignOf,
}

/// What said that a block is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignOf {
    /// An anchor on a chain outside, of that id; 0 where it is none of the EVM.
    Anchor(u64),
    /// The cosignature of the witness with that key.
    Witness([u8; 32]),
}

impl std::fmt::Display for ForkSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.of {
            SignOf::Anchor(chain) => {
                write!(f, "block {} was anchored outside (chain {chain}) as {}", self.height, self.said)?;
            }
            SignOf::Witness(key) => {
                write!(f, "witness {} cosigned block {} as {}", hex::encode(key), self.height, self.said)?;
            }
        }
        write!(
            f,
            " and is {} here (recorded by {} in block {}). Either that is wrong, or another chain was shown there; it holds no certificate, so nobody can be named",
            self.here, self.by, self.recorded
        )
    }
}

/// What was found so far, and up to where it was looked.
#[derive(Debug, Default)]
pub struct Signs {
    /// Held for moments (X3).
    known: Mutex<Known>,
    /// Held by who searches.
    searching: Mutex<()>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    signs: Vec<ForkSign>,
    count: u64,
    /// The next place to look at, and from where on blocks were there then.
    next: Option<(EventPlace, u64)>,
}

impl Signs {
    /// How many there are, and the words of the first ones.
    pub fn told(&self) -> (u64, Vec<String>) {
        let known = lock(&self.known);
        (known.count, known.signs.iter().map(ToString::to_string).collect())
    }

    /// Looks at what was recorded since; gives what is new.
    pub fn look(&self, store: &Store) -> Result<Vec<ForkSign>, StoreError> {
        let _turn = lock(&self.searching);
        let (mut known, mut found) = (lock(&self.known).clone(), Vec::new());
        let searched = known.search(store, &mut found);
        *lock(&self.known) = known;
        match searched {
            Err(error) if found.is_empty() => Err(error),
            // What fails is met again with the next look; what was found before it is known now, and told.
            _ => Ok(found),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn search(&mut self, store: &Store, found: &mut Vec<ForkSign>) -> Result<(), StoreError> {
        let Some(contract) = module(store, MODULE) else { return Ok(()) };
        let bottom = store.bottom();
        // Once all blocks are here, all is looked at once more: what was kept is not found twice, the rest is counted anew.
        let mut place = if let Some((place, _)) = self.next.filter(|(_, then)| bottom > 0 || *then == 0) {
            place
        } else {
            self.count = self.signs.len() as u64;
            EventPlace::first_of(bottom)
        };
        let kinds = [Anchors::Anchored::SIGNATURE_HASH, Anchors::Cosigned::SIGNATURE_HASH];
        let wanted = Wanted::new([vec![EventKey::Emitter(contract)], kinds.map(EventKey::Signature).to_vec()]);
        let (mut work, mut recorded) = (WORK, Recorded::of(store));
        while work > 0 {
            // What was counted is not counted again where the next one cannot be read.
            self.next = Some((place, bottom));
            match store.seek_event(&wanted, (place, Order::Oldest), &mut work)? {
                Sought::At(at) => {
                    if let Some(log) = recorded.at(at, contract)?
                        && let Some(sign) = read(store, log, at.height())?
                    {
                        self.note(sign, found);
                    }
                    place = at.next(Order::Oldest).unwrap_or(at);
                }
                Sought::Spent(next) => place = next,
                Sought::Nowhere => {
                    place = place.max(EventPlace::first_of(store.indexed_events()));
                    break;
                }
            }
        }
        self.next = Some((place, bottom));
        Ok(())
    }

    fn note(&mut self, sign: ForkSign, found: &mut Vec<ForkSign>) {
        if self.signs.contains(&sign) {
            return;
        }
        self.count += 1;
        let of_one = self.signs.iter().filter(|other| other.by == sign.by).count();
        if self.signs.len() < SIGNS_MAX && of_one < SIGNS_OF_ONE {
            self.signs.push(sign.clone());
            found.push(sign);
        }
    }
}

/// What block `recorded` holds there, if it is a sign.
fn read(store: &Store, log: &Log, recorded: u64) -> Result<Option<ForkSign>, StoreError> {
    let Ok(event) = AnchorsEvents::decode_log(log) else { return Ok(None) };
    let (height, said, by, of) = match event.data {
        AnchorsEvents::Anchored(it) => (it.height, it.blockHash, it.by, SignOf::Anchor(it.chainId)),
        AnchorsEvents::Cosigned(it) => {
            let place = BlockPlace {
                chain_id: store.genesis().chain_id,
                height: it.height,
                hash: BlockHash::new(it.blockHash.0),
            };
            let signed = Cosignature::decode(&it.signature).ok();
            let genesis = store.genesis().hash();
            let Some(signed) = signed.filter(|signed| signed.check(genesis, &place).is_ok()) else { return Ok(None) };
            (it.height, it.blockHash, it.by, SignOf::Witness(signed.key))
        }
    };
    // One that is not fetched yet says nothing; the contract takes none above the block that holds the record.
    let here = match store.hash_at(height) {
        Err(StoreError::NotHere { .. }) => None,
        here => here?,
    };
    let Some(here) = here.filter(|here| *here != said) else { return Ok(None) };
    Ok(Some(ForkSign { height, said, here, by, recorded, of }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X3.
    #[test]
    fn who_asks_waits_for_no_search() {
        let signs = Signs::default();
        let _turn = lock(&signs.searching);
        assert_eq!(signs.told(), (0, Vec::new()));
    }
}
