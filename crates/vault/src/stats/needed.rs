//! Who needs which stripe. What lists share is read once, and counted by its nodes: the work grows with the number of different
//! nodes, not with that of snapshots times stripes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use blockhouse_sites::Sites;
use blockhouse_types::{ListHash, SourceId, StripeId};

use super::Amount;
use crate::ledger::SnapshotRecord;
use crate::lists::{self, ListError, Step, root_of};

/// Which of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// None.
    #[default]
    None,
    /// Only this one, by its place.
    One(usize),
    /// More than one.
    Many,
}

impl Owner {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (Self::One(one), Self::One(other)) if one == other => self,
            _ => Self::Many,
        }
    }
}

/// Who needs a node or a stripe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) snapshots: Owner,
    pub(super) sources: BTreeSet<SourceId>,
}

impl Need {
    fn join(&mut self, other: &Self) {
        self.snapshots = self.snapshots.join(other.snapshots);
        self.sources.extend(&other.sources);
    }
}

/// A node that was read.
#[derive(Debug)]
enum Read {
    Leaf(Vec<StripeId>),
    Inner(Vec<ListHash>),
}

/// What all lists say together.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) stripes: HashMap<StripeId, Need>,
    pub(super) unread: Vec<ListError>,
    /// None before those below it.
    nodes: Vec<(ListHash, Read)>,
}

/// Reads the lists of these snapshots.
pub(super) async fn read(sites: &Arc<Sites>, snapshots: &[&SnapshotRecord]) -> Needs {
    let mut needs = Needs::default();
    let mut steps = lists::visit(sites, snapshots.iter().map(|record| root_of(record)).collect());
    while let Some(step) = steps.recv().await {
        match step {
            Step::Leaf(node, stripes) => needs.nodes.push((node.hash, Read::Leaf(stripes))),
            Step::Inner(node, below) => needs.nodes.push((node.hash, Read::Inner(below))),
            Step::Read(_) => {}
            Step::Unread(_, error) => needs.unread.push(error),
        }
    }
    let owners = snapshots.iter().enumerate().map(|(place, record)| {
        (root_of(record), Need { snapshots: Owner::One(place), sources: BTreeSet::from([record.source]) })
    });
    needs.spread(owners);
    needs
}

impl Needs {
    /// From the roots down: who needs a node needs what is below it.
    fn spread(&mut self, owners: impl Iterator<Item = (ListHash, Need)>) {
        let mut needed: HashMap<ListHash, Need> = HashMap::new();
        for (root, owner) in owners {
            needed.entry(root).or_default().join(&owner);
        }
        for (hash, node) in self.nodes.iter().rev() {
            let Some(need) = needed.get(hash).cloned() else { continue };
            match node {
                Read::Leaf(stripes) => {
                    for stripe in stripes {
                        self.stripes.entry(*stripe).or_default().join(&need);
                    }
                }
                Read::Inner(below) => {
                    for hash in below {
                        needed.entry(*hash).or_default().join(&need);
                    }
                }
            }
        }
    }

    /// The stripes below each node, and their bytes.
    pub(super) fn totals(&self, size: impl Fn(&StripeId) -> u64) -> HashMap<ListHash, Amount> {
        let mut totals: HashMap<ListHash, Amount> = HashMap::new();
        for (hash, node) in &self.nodes {
            let mut total = Amount::default();
            match node {
                Read::Leaf(stripes) => stripes.iter().for_each(|stripe| total.add(size(stripe))),
                Read::Inner(below) => {
                    below.iter().filter_map(|hash| totals.get(hash)).for_each(|below| total.plus(*below));
                }
            }
            totals.insert(*hash, total);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> ListHash {
        ListHash::new([byte; 32])
    }

    fn stripe(byte: u8) -> StripeId {
        StripeId::new([byte; 32])
    }

    /// Two lists of two leaves each, the leaf 2 in both; the third snapshot is of another source and has leaf 1 alone.
    #[test]
    fn what_is_in_one_list_alone_is_told_from_what_is_shared() {
        let leaf = |byte, stripes: &[u8]| (hash(byte), Read::Leaf(stripes.iter().map(|it| stripe(*it)).collect()));
        let inner = |byte, below: &[u8]| (hash(byte), Read::Inner(below.iter().map(|it| hash(*it)).collect()));
        let nodes = vec![leaf(1, &[10]), leaf(2, &[20, 21]), inner(100, &[1, 2]), leaf(3, &[30]), inner(101, &[2, 3])];
        let mut needs = Needs { nodes, ..Needs::default() };
        let source = |byte| SourceId::new([byte; 32]);
        let owner = |place, from| Need { snapshots: Owner::One(place), sources: BTreeSet::from([source(from)]) };
        needs.spread([(hash(100), owner(0, 1)), (hash(101), owner(1, 1)), (hash(1), owner(2, 2))].into_iter());
        let of = |byte| needs.stripes[&stripe(byte)].clone();
        assert_eq!((of(10).snapshots, of(10).sources.len()), (Owner::Many, 2));
        assert_eq!((of(20).snapshots, of(20).sources.len()), (Owner::Many, 1));
        assert_eq!((of(30).snapshots, of(30).sources.len()), (Owner::One(1), 1));
        let totals = needs.totals(|stripe| u64::from(stripe.as_bytes()[0]));
        assert_eq!(totals[&hash(100)], Amount { count: 3, bytes: 51 });
        assert_eq!(totals[&hash(101)], Amount { count: 3, bytes: 71 });
    }
}
