//! What a seed draws for a run: who is cut off from whom, who is killed, how disks fail, and when. Then it is calm, and all have to go on.

use std::time::Duration;

use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::action::{Action, Schedule};
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::{self, FaultConfig, PartialWriteMode, ResizeConfig, WriteConfig};
use commonware_utils::{Probability, probability};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

pub(crate) const GOOD: Link =
    Link { latency: Duration::from_millis(10), jitter: Duration::from_millis(5), success_rate: probability!(1.0) };
const CUT: Link = Link { latency: Duration::ZERO, jitter: Duration::ZERO, success_rate: probability!(0.0) };

/// The nodes have recorded something by then, where links are good.
const FIRST: u64 = 1500;
/// How long a cut or a failure of disks takes, in milliseconds.
const LONG: std::ops::Range<u64> = 500..4000;
/// How long a node that was killed stays away, in milliseconds.
const AWAY: std::ops::Range<u64> = 50..1500;

/// In which way disks fail, those of all nodes: the engine's, or at last the ledger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disk {
    Sync,
    /// A part of the bytes is there all the same.
    Write,
    Resize,
    Open,
    Read,
    Scan,
    Remove,
    /// No block is made durable.
    Ledger,
}

impl Disk {
    pub(crate) const ALL: [Self; 8] =
        [Self::Sync, Self::Write, Self::Resize, Self::Open, Self::Read, Self::Scan, Self::Remove, Self::Ledger];

    /// Of so many seeds in a row each way has its share.
    pub(crate) fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed).unwrap() % Self::ALL.len()]
    }

    fn faults(self, random: &mut StdRng) -> FaultConfig {
        let mut percent = |range: std::ops::Range<u64>| Probability::new(random.random_range(range), 100).unwrap();
        let none = FaultConfig::default();
        match self {
            Self::Sync => none.sync(percent(1..4)),
            Self::Write => {
                let (failure_rate, retention_rate) = (percent(1..4), percent(5..100));
                let mode = if random.random() { PartialWriteMode::Prefix } else { PartialWriteMode::Subset };
                none.write(WriteConfig { failure_rate, retention_rate, mode })
            }
            Self::Resize => none.resize(ResizeConfig { failure_rate: percent(50..100), partial_rate: percent(0..100) }),
            Self::Open => none.open(percent(2..20)),
            Self::Read => none.read(percent(2..20)),
            Self::Scan => none.scan(percent(5..40)),
            Self::Remove => none.remove(percent(20..80)),
            Self::Ledger => none,
        }
    }
}

/// Disks fail from then to then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) disk: Disk,
}

/// What stands in place of faults once all that was drawn has happened: none, and seen by nodes and harness. A busy runtime is late with events.
const CALM: FaultConfig = FaultConfig {
    open_rate: Some(probability!(0.0)),
    read_rate: None,
    write_rate: None,
    sync_rate: None,
    resize_rate: None,
    remove_rate: None,
    scan_rate: None,
};

/// True once the storm is over.
pub(crate) fn is_calm(context: &deterministic::Context) -> bool {
    context.storage_fault_config().read().open_rate == CALM.open_rate
}

/// All that befalls a run until it is calm.
pub(crate) struct Storm {
    random: StdRng,
    nodes: Vec<PublicKey>,
    link: Link,
    calm: u64,
    failures: Vec<Failure>,
    events: Vec<(u64, Action<PublicKey>)>,
}

impl Storm {
    /// It is calm after so many milliseconds; the links are as bad as that, and good afterwards.
    pub(crate) fn new(seed: u64, nodes: Vec<PublicKey>, link: Link, calm: u64) -> Self {
        // Other numbers than those of the keys.
        Self { random: StdRng::seed_from_u64(!seed), nodes, link, calm, failures: Vec::new(), events: Vec::new() }
    }

    /// So often, one time after the other, a part of the nodes is cut off from the rest: both ways, or one way alone.
    pub(crate) fn cuts(mut self, count: u64) -> Self {
        for place in 0..count {
            let (begin, end) = self.interval((place, count));
            let (part, both) =
                (self.random.random_range(1..(1_u32 << self.nodes.len()) - 1), self.random.random_bool(0.6));
            let is_inside = |index: usize| (part >> index) & 1 == 1;
            for (from, sender) in self.nodes.iter().enumerate() {
                for (to, receiver) in self.nodes.iter().enumerate() {
                    if is_inside(from) != is_inside(to) && (both || is_inside(from)) {
                        let (from, to) = (sender.clone(), receiver.clone());
                        self.events.push((begin, Action::UpdateLink { from, to, link: CUT }));
                    }
                }
            }
            self.events.push((end, Action::Heal(self.link.clone())));
        }
        self
    }

    /// So many times a node is killed, any one, whether others are away or not.
    pub(crate) fn kills(mut self, count: u64) -> Self {
        for _ in 0..count {
            let at = self.random.random_range(FIRST..self.calm);
            let back = (at + self.random.random_range(AWAY)).min(self.calm);
            let node = self.any();
            self.events.extend([(at, Action::Crash(node.clone())), (back, Action::Restart(node))]);
        }
        self
    }

    /// So often, one time after the other, disks fail in that way, while some of the nodes begin again. Those that end over it come back.
    pub(crate) fn disks(mut self, disk: Disk, count: u64) -> Self {
        for place in 0..count {
            let (mut begin, end) = self.interval((place, count));
            if disk == Disk::Resize {
                // What a failed write leaves is cut off when its file is opened: else hardly anything is resized.
                let middle = begin.midpoint(end);
                self.fails(Disk::Write, (begin, middle), 0);
                begin = middle;
            }
            let returns = if disk == Disk::Resize { 2 * self.nodes.len() } else { 3 };
            self.fails(disk, (begin, end), returns);
            for node in self.nodes.clone() {
                let at = self.random.random_range(end..=self.calm);
                self.events.push((at, Action::Restart(node)));
            }
        }
        self
    }

    /// Disks fail in that way from then to then, and so often a node begins again meanwhile.
    fn fails(&mut self, disk: Disk, (begin, end): (u64, u64), returns: usize) {
        let faults = disk.faults(&mut self.random);
        self.events.push((begin, Action::SetStorageFault(faults)));
        for _ in 0..returns {
            let at = self.random.random_range(begin..end);
            let node = self.any();
            self.events.push((at, Action::Restart(node)));
        }
        self.events.push((end, Action::SetStorageFault(FaultConfig::default())));
        let (begin, end) = (Duration::from_millis(begin), Duration::from_millis(end));
        self.failures.push(Failure { begin, end, disk });
    }

    /// A time in the part at that place of so many equal parts of the storm.
    fn interval(&mut self, (place, count): (u64, u64)) -> (u64, u64) {
        let length = (self.calm - FIRST) / count;
        let (first, last) = (FIRST + place * length, FIRST + (place + 1) * length);
        let begin = self.random.random_range(first..last - LONG.start);
        let long = self.random.random_range(LONG);
        (begin, last.min(begin + long))
    }

    fn any(&mut self) -> PublicKey {
        self.nodes[self.random.random_range(0..self.nodes.len())].clone()
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        self.failures.clone()
    }

    /// What happens when; with the calm at its end.
    pub(crate) fn schedule(mut self) -> Schedule<PublicKey> {
        // What is at one time stays in its order.
        self.events.sort_by_key(|(at, _)| *at);
        let end = [(self.calm, Action::Heal(GOOD)), (self.calm, Action::SetStorageFault(CALM))];
        let all = self.events.into_iter().chain(end);
        all.fold(Schedule::new(), |schedule, (at, action)| schedule.at(Duration::from_millis(at), action))
    }
}
