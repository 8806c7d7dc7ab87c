//! The chains that the sites serve: verified each by itself, compared, the best one taken.

use std::cmp::Ordering;

use blockhouse_ledger::receipt::Receipt;
use blockhouse_ledger::{BlockObject, Replay, compare};
use blockhouse_sites::{Site, SiteName, Sites};
use blockhouse_types::BlockHash;

use super::RecoverError;
use crate::blocks;
use crate::folder::Config;

/// What a site serves, compared with the chain that was taken.
#[derive(Debug, Clone)]
pub struct ChainReport {
    /// The site.
    pub site: SiteName,
    /// The height that it reaches with valid blocks.
    pub height: u64,
    /// How it stands to the chain taken.
    pub state: ChainState,
}

/// How a chain stands to the one taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainState {
    /// The same.
    Same,
    /// The same, but it ends earlier.
    Behind,
    /// Another one from some block on: evidence of a fork.
    Fork {
        /// The first block that differs.
        height: u64,
    },
    /// No valid chain of this vault.
    Invalid {
        /// Why.
        why: String,
    },
}

/// The chain taken.
pub(super) struct Found {
    pub(super) objects: Vec<BlockObject>,
    pub(super) reports: Vec<ChainReport>,
}

struct Served {
    site: SiteName,
    objects: Vec<BlockObject>,
    replay: Option<Replay>,
    why: String,
}

/// Verifies what every site serves and takes the best chain (R1).
pub(super) async fn choose(sites: &Sites, config: &Config) -> Result<Found, RecoverError> {
    let mut served = Vec::new();
    for (_, site) in sites.up() {
        served.push(read(site, config).await);
    }
    let best = served.iter().enumerate().filter_map(|(place, chain)| Some((place, chain.replay.as_ref()?)));
    let best = best.max_by(|(_, one), (_, other)| compare(one.authority(), other.authority()));
    let best = best.map(|(place, replay)| (place, replay.clone()));
    let reports = |taken: &[BlockObject]| served.iter().map(|chain| report(chain, taken)).collect::<Vec<_>>();
    let Some((place, replay)) = best else { return Err(RecoverError::NoChain { chains: reports(&[]) }) };
    let taken: Vec<BlockObject> = served.get(place).map(|chain| chain.objects.clone()).unwrap_or_default();
    let reports = reports(&taken);
    for chain in &served {
        let Some(other) = &chain.replay else { continue };
        let is_equal = compare(replay.authority(), other.authority()) == Ordering::Equal;
        if is_equal && other.authority().hash() != replay.authority().hash() {
            let height = first_difference(&taken, &chain.objects);
            return Err(RecoverError::Fork { height, chains: reports });
        }
    }
    Ok(Found { objects: taken, reports })
}

/// Reads a site's blocks and verifies them up to the first that is not valid.
async fn read(site: &Site, config: &Config) -> Served {
    let name = site.name().clone();
    let invalid = |why: String| Served { site: name.clone(), objects: Vec::new(), replay: None, why };
    let mut objects = match blocks::fetch_from(site, 0).await {
        Ok(objects) => objects,
        Err(error) => return invalid(error.to_string()),
    };
    let Some(first) = objects.first() else { return invalid("it holds no blocks".to_owned()) };
    if first.hash() != config.ledger.genesis || first.chain_id != config.ledger.chain_id {
        return invalid(format!("its block 0 is {}, the key bag names {}", first.hash(), config.ledger.genesis));
    }
    let mut replay = match Replay::begin(first) {
        Ok(replay) => replay,
        Err(error) => return invalid(error.to_string()),
    };
    let mut good = 1;
    for object in objects.iter().skip(1) {
        if replay.extend(object).is_err() {
            break;
        }
        good += 1;
    }
    objects.truncate(good);
    Served { site: name, objects, replay: Some(replay), why: String::new() }
}

fn report(chain: &Served, taken: &[BlockObject]) -> ChainReport {
    let height = chain.objects.last().map_or(0, |object| object.block.header.number);
    let difference = first_difference(taken, &chain.objects);
    let state = match &chain.replay {
        None => ChainState::Invalid { why: chain.why.clone() },
        Some(_) if difference < chain.objects.len() as u64 => ChainState::Fork { height: difference },
        Some(_) if chain.objects.len() < taken.len() => ChainState::Behind,
        Some(_) => ChainState::Same,
    };
    ChainReport { site: chain.site.clone(), height, state }
}

/// The height of the first block that two chains do not share.
fn first_difference(one: &[BlockObject], other: &[BlockObject]) -> u64 {
    one.iter().zip(other).take_while(|(one, other)| one.hash() == other.hash()).count() as u64
}

/// Fails if the block of a receipt is not in the chain.
pub(super) fn expect(objects: &[BlockObject], receipt: &[u8]) -> Result<(), RecoverError> {
    let receipt = Receipt::parse(receipt)?;
    let checked =
        receipt.check(Some(receipt.fingerprint())).map_err(|error| RecoverError::ExpectCheck(Box::new(error)))?;
    let height = checked.height;
    let at = usize::try_from(height).ok().and_then(|place| objects.get(place)).map(BlockObject::hash);
    let block: BlockHash = checked.block;
    if at == Some(block) { Ok(()) } else { Err(RecoverError::NotInChain { height, block }) }
}
