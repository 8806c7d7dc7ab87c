//! The chains that the sites serve: verified each by itself, compared, the best one taken.

use blockhouse_ledger::receipt::{Checked, Receipt};
use blockhouse_sites::{SiteName, Sites};
use blockhouse_types::Fingerprint;

use super::{RecoverError, RecoverRequest};
use crate::blocks::{self, BlocksError, Chain, first_difference, strongest};
use crate::folder::Config;

/// A chain that a site serves, compared with the one that was taken. A site may serve several.
#[derive(Debug, Clone)]
pub struct ChainReport {
    /// The site.
    pub site: SiteName,
    /// The height that it reaches with valid blocks.
    pub height: u64,
    /// The vault's fingerprint there; none if it serves no chain.
    pub fingerprint: Option<Fingerprint>,
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
    /// A chain of this ledger's beginning that never had the fingerprint asked for.
    Other,
    /// No valid chain of this vault.
    Invalid {
        /// Why.
        why: String,
    },
}

/// What the operator knows from elsewhere.
pub(super) struct Trust {
    fingerprint: Option<Fingerprint>,
    expected: Option<Box<Checked>>,
}

impl Trust {
    pub(super) fn of(request: &RecoverRequest) -> Result<Self, RecoverError> {
        let expected = request.expect.as_deref().map(|receipt| {
            let receipt = Receipt::parse(receipt)?;
            let checked = receipt.check(Some(receipt.fingerprint()));
            checked.map(Box::new).map_err(|error| RecoverError::ExpectCheck(Box::new(error)))
        });
        Ok(Self { fingerprint: request.fingerprint, expected: expected.transpose()? })
    }

    /// True if the vault had the fingerprint asked for on that chain.
    fn counts(&self, chain: &Chain) -> bool {
        self.fingerprint.is_none_or(|asked| chain.has_had(asked))
    }

    /// Fails if the block of the expected receipt is not in the chain.
    pub(super) fn expect_in(&self, chain: &Chain) -> Result<(), RecoverError> {
        let Some(expected) = &self.expected else { return Ok(()) };
        let at = usize::try_from(expected.height).ok().and_then(|place| chain.blocks().get(place));
        if at.is_some_and(|object| object.hash() == expected.block) {
            return Ok(());
        }
        Err(RecoverError::NotInChain { height: expected.height, block: expected.block })
    }
}

struct Served {
    site: SiteName,
    chains: Result<Vec<Chain>, BlocksError>,
}

/// Verifies what every site serves and takes the best chain (R1).
pub(super) async fn choose(
    sites: &Sites,
    config: &Config,
    trust: &Trust,
) -> Result<(Chain, Vec<ChainReport>), RecoverError> {
    let mut served = Vec::new();
    for (_, site) in sites.up() {
        served.push(Served { site: site.name().clone(), chains: blocks::chains_of(site, config).await });
    }
    let all: Vec<&Chain> = served.iter().filter_map(|site| site.chains.as_ref().ok()).flatten().collect();
    let mut counting: Vec<&Chain> = all.iter().copied().filter(|chain| trust.counts(chain)).collect();
    let most = counting.iter().map(|chain| chain.authority().handovers()).max();
    // A thief of the sealing key makes any height, never a handover: what holds the expected receipt goes before what is higher.
    let holds = |chain: &&Chain| Some(chain.authority().handovers()) == most && trust.expect_in(chain).is_ok();
    if counting.iter().any(holds) {
        counting.retain(holds);
    }
    let best = strongest(counting);
    let reports = |taken: Option<&Chain>| reports(&served, taken, trust);
    match (best.as_slice(), trust.fingerprint) {
        ([chain], _) => Ok(((*chain).clone(), reports(Some(chain)))),
        ([one, other, ..], _) => {
            let height = first_difference(one.blocks(), other.blocks());
            Err(RecoverError::Fork { height, chains: reports(Some(one)) })
        }
        ([], Some(asked)) if !all.is_empty() => Err(RecoverError::OtherFingerprint { asked, chains: reports(None) }),
        ([], _) => Err(RecoverError::NoChain { chains: reports(None) }),
    }
}

fn reports(served: &[Served], taken: Option<&Chain>, trust: &Trust) -> Vec<ChainReport> {
    let mut reports = Vec::new();
    for Served { site, chains } in served {
        match chains {
            Ok(chains) => reports.extend(chains.iter().map(|chain| ChainReport {
                site: site.clone(),
                height: chain.authority().height(),
                fingerprint: Some(chain.fingerprint()),
                state: state(chain, taken, trust),
            })),
            Err(error) => reports.push(ChainReport {
                site: site.clone(),
                height: 0,
                fingerprint: None,
                state: ChainState::Invalid { why: error.to_string() },
            }),
        }
    }
    reports
}

fn state(chain: &Chain, taken: Option<&Chain>, trust: &Trust) -> ChainState {
    if !trust.counts(chain) {
        return ChainState::Other;
    }
    let taken = taken.map_or(&[][..], Chain::blocks);
    let height = first_difference(taken, chain.blocks());
    match chain.blocks().len() {
        length if height < length as u64 => ChainState::Fork { height },
        length if length < taken.len() => ChainState::Behind,
        _ => ChainState::Same,
    }
}
