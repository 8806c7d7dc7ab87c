//! The chains that the sites serve: verified each by itself, compared, the best one taken.

use std::collections::BTreeMap;

use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::fingerprint::TrustRoot;
use blockhouse_ledger::fork::{ForkEvidence, ForkSide};
use blockhouse_ledger::receipt::{Checked, Receipt};
use blockhouse_sites::{SiteName, Sites};
use blockhouse_types::{Fingerprint, SnapshotId};

use super::{RecoverError, RecoverRequest};
use crate::blocks::{self, BlocksError, Chain, Committed, first_difference, strongest};
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
        /// What proves it to others, if one key certified both. A handover beside a block of the key before it is decided by the rule.
        evidence: Option<Box<ForkEvidence>>,
    },
    /// A chain of this ledger's beginning that never had the fingerprint asked for.
    Other,
    /// No valid chain of this vault.
    Invalid {
        /// Why.
        why: String,
    },
}

/// A snapshot on a verified chain that was not taken: the vault as it is recovered lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The block that commits it.
    pub block: u64,
    /// A site that serves that chain.
    pub site: SiteName,
}

/// The snapshots left out, each once.
pub(super) type LeftOuts = BTreeMap<SnapshotId, LeftOut>;

/// Notes what a site's chain commits.
pub(super) fn note_left_out(notes: &mut LeftOuts, site: &SiteName, committed: &[Committed]) {
    for Committed { snapshot, block } in committed.iter().copied() {
        notes.entry(snapshot).or_insert_with(|| LeftOut { snapshot, block, site: site.clone() });
    }
}

/// The chain to go on from, and what it was chosen among.
pub(super) struct Chosen {
    pub(super) chain: Chain,
    pub(super) reports: Vec<ChainReport>,
    /// What other chains commit that count.
    pub(super) left_out: LeftOuts,
    /// The most handovers that any chain has.
    pub(super) most_handovers: u64,
}

/// What the operator knows from elsewhere.
pub(super) struct Trust {
    fingerprint: Option<Fingerprint>,
    expected: Option<Box<Checked>>,
    /// The expected receipt outweighs handovers.
    prefers_expected: bool,
}

impl Trust {
    pub(super) fn of(request: &RecoverRequest) -> Result<Self, RecoverError> {
        let expected = request.expect.as_deref().map(|receipt| {
            let receipt = Receipt::parse(receipt)?;
            let checked = receipt.check(Some(receipt.fingerprint()));
            checked.map(Box::new).map_err(|error| RecoverError::ExpectCheck(Box::new(error)))
        });
        let expected = expected.transpose()?;
        Ok(Self { fingerprint: request.fingerprint, expected, prefers_expected: request.prefer_expected })
    }

    /// True if the owner chose the chain, by a fingerprint or by a receipt that outweighs handovers.
    pub(super) const fn is_chosen(&self) -> bool {
        self.fingerprint.is_some() || self.prefers_expected
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
pub(super) async fn choose(sites: &Sites, config: &Config, trust: &Trust) -> Result<Chosen, RecoverError> {
    let mut served = Vec::new();
    for (_, site) in sites.up() {
        served.push(Served { site: site.name().clone(), chains: blocks::chains_of(site, config).await });
    }
    let all: Vec<&Chain> = served.iter().filter_map(|site| site.chains.as_ref().ok()).flatten().collect();
    let most = |chains: &[&Chain]| chains.iter().map(|chain| chain.authority().handovers()).max().unwrap_or(0);
    let mut counting: Vec<&Chain> = all.iter().copied().filter(|chain| trust.counts(chain)).collect();
    let most_counting = most(&counting);
    // A thief of the sealing key makes any height, never a handover: what holds the expected receipt goes before what is higher.
    if trust.expected.is_some() && counting.iter().any(|chain| trust.expect_in(chain).is_ok()) {
        counting.retain(|chain| trust.expect_in(chain).is_ok());
    }
    let best = strongest(counting);
    let reports = |taken: Option<&Chain>| reports(&served, taken, trust);
    match (best.as_slice(), trust.fingerprint) {
        ([chain], _) if chain.authority().handovers() < most_counting && !trust.prefers_expected => {
            let (handovers, others) = (chain.authority().handovers(), most_counting);
            Err(RecoverError::Outdone { handovers, others, chains: reports(Some(chain)) })
        }
        ([chain], _) => Ok(Chosen {
            chain: (*chain).clone(),
            reports: reports(Some(chain)),
            left_out: left_out(&served, chain, trust),
            most_handovers: most(&all),
        }),
        ([one, other, ..], _) => {
            let height = first_difference(one.blocks(), other.blocks());
            Err(RecoverError::Fork { height, chains: reports(Some(one)) })
        }
        ([], Some(asked)) if !all.is_empty() => Err(RecoverError::OtherFingerprint { asked, chains: reports(None) }),
        ([], _) => Err(RecoverError::NoChain { chains: reports(None) }),
    }
}

/// The snapshots that chains commit which count, and the chain taken does not.
fn left_out(served: &[Served], taken: &Chain, trust: &Trust) -> LeftOuts {
    let mut notes = LeftOuts::new();
    for Served { site, chains } in served {
        for chain in chains.iter().flatten().filter(|chain| trust.counts(chain)) {
            note_left_out(&mut notes, site, chain.snapshots());
        }
    }
    for Committed { snapshot, .. } in taken.snapshots() {
        notes.remove(snapshot);
    }
    notes
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

/// The evidence that two blocks of one height are, which both are in verified chains.
fn evidence(chain: &Chain, (ours, theirs): (&BlockObject, &BlockObject)) -> Option<ForkEvidence> {
    let genesis = chain.blocks().first()?.genesis.as_ref()?;
    let root = TrustRoot::new(genesis, theirs.certificate.key());
    let evidence = ForkEvidence::new(root, Vec::new(), [ForkSide::from(ours), ForkSide::from(theirs)]);
    evidence.check(None).is_ok().then_some(evidence)
}

fn state(chain: &Chain, taken: Option<&Chain>, trust: &Trust) -> ChainState {
    if !trust.counts(chain) {
        return ChainState::Other;
    }
    let taken = taken.map_or(&[][..], Chain::blocks);
    let height = first_difference(taken, chain.blocks());
    match chain.blocks().len() {
        length if height < length as u64 => {
            let place = usize::try_from(height).unwrap_or(usize::MAX);
            let sides = taken.get(place).zip(chain.blocks().get(place));
            let evidence = sides.and_then(|(ours, theirs)| evidence(chain, (ours.as_ref(), theirs.as_ref())));
            ChainState::Fork { height, evidence: evidence.map(Box::new) }
        }
        length if length < taken.len() => ChainState::Behind,
        _ => ChainState::Same,
    }
}
