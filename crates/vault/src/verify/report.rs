//! What a verification found.

use std::collections::BTreeMap;

use blockhouse_sites::SiteName;
use blockhouse_types::{Durability, SnapshotId, StripeId};

use crate::lists::ListError;
use crate::plain::PlainReport;
use crate::recording::Recording;
use crate::stripes::{Depth, ShardState, StripeFindings};

/// A shard that is not as it should be.
#[derive(Debug, Clone)]
pub struct ShardFlaw {
    /// Its stripe.
    pub stripe: StripeId,
    /// Its index.
    pub index: u8,
    /// The site.
    pub site: SiteName,
    /// What is wrong.
    pub state: ShardState,
}

/// How many files were opened and compared with their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenedFiles {
    /// Those that were drawn.
    pub opened: u64,
    /// All that were met.
    pub of: u64,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Stripes looked at.
    pub stripes: u64,
    /// Stripes of which every shard was read.
    pub stripes_read: u64,
    /// Missing shards by the site that should have them.
    pub missing: BTreeMap<SiteName, u64>,
    /// Damaged shards by site.
    pub damaged: BTreeMap<SiteName, u64>,
    /// Each of them.
    pub flaws: Vec<ShardFlaw>,
    /// Stripes with too few good shards to be read.
    pub unreadable: Vec<StripeId>,
    /// The plain objects: lists, snapshot objects, wraps, maps, the key bag, blocks and handovers.
    pub plain: PlainReport,
    /// Stripe lists that could not be read.
    pub lists: Vec<ListError>,
    /// Snapshots that cannot be restored whole, with what is wrong; several entries where several things are.
    pub broken: Vec<(SnapshotId, String)>,
    /// The files that were opened, if plain text was.
    pub files: Option<OpenedFiles>,
    /// What the weakest snapshot survives: its stripes as they were found, and its description.
    pub durability: Option<Durability>,
    /// What it would survive with everything in place.
    pub plan: Option<Durability>,
    /// Whether the outcome stands on the ledger.
    pub recording: Recording,
}

impl VerifyReport {
    /// True if nothing is missing, damaged or broken.
    pub fn is_clean(&self) -> bool {
        self.flaws.is_empty() && self.plain.is_clean() && self.is_readable()
    }

    /// True if every snapshot can be read, whatever has to be repaired.
    pub fn is_readable(&self) -> bool {
        self.unreadable.is_empty() && self.lists.is_empty() && self.broken.is_empty()
    }

    /// Takes in what was found of a stripe.
    pub(super) fn take(&mut self, findings: StripeFindings) {
        self.stripes += 1;
        self.stripes_read += u64::from(findings.depth == Depth::Data);
        let so_far = self.durability.unwrap_or(findings.durability);
        self.durability = Some(so_far.least(findings.durability));
        if !findings.is_readable() {
            self.unreadable.push(findings.stripe);
        }
        for shard in findings.shards {
            let counts = match shard.state {
                ShardState::Good => continue,
                ShardState::Missing | ShardState::SiteDown => &mut self.missing,
                _ => &mut self.damaged,
            };
            *counts.entry(shard.site.clone()).or_default() += 1;
            let (stripe, index) = (findings.stripe, shard.holder.index.0);
            self.flaws.push(ShardFlaw { stripe, index, site: shard.site, state: shard.state });
        }
    }
}
