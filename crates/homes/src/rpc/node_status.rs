//! What a node says about itself: to its operator, and to what watches it.
//!
//! Reference: `docs/reference/node.md`, section *Status and metrics*.

use std::fmt::Write as _;

use alloy_primitives::{Address, B256, Bytes, U64};
use serde::{Deserialize, Serialize};

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeRole {
    /// It votes.
    Validator,
    /// It has a full copy and no vote.
    Follower,
    /// A validator that must not vote: its earlier votes are lost, or it has no share of the key.
    Silent,
}

/// How far a node is in reading its own store again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubStatus {
    /// Blocks that this pass has examined.
    pub examined: u64,
    /// Blocks that it will.
    pub blocks: u64,
    /// Passes that found all sound, since the node started.
    pub passes: u64,
    /// When the last of them ended, in milliseconds since 1970; 0 before the first.
    pub ended_millis: u64,
    /// How often the store was altered and healed, since the process began.
    pub healed: u64,
    /// Alarms about that which are not on the ledger yet.
    pub untold: u64,
}

/// What a node lacks of the ledger's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryStatus {
    /// From this block on it has all; those below it fetches. 0: it has all.
    pub bottom: u64,
    /// Why the last node that was asked for them was left, if it was.
    pub trouble: Option<String>,
}

/// How a node that anchors its ledger outside, or cosigns it, stands with that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestingStatus {
    /// The block that it attested last; 0 before the first.
    pub height: u64,
    /// When, in the ledger's seconds; 0 before the first.
    pub time: u64,
    /// Why the last try did not succeed, if it did not.
    pub trouble: Option<String>,
}

/// What another node said of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherRelease {
    /// Where it was asked.
    pub rpc: String,
    /// The version of its program.
    pub version: String,
    /// The newest rules that it knows; 0 if its release does not say.
    pub rules: u64,
}

impl OtherRelease {
    /// True if it knows these rules. A release that does not say knows the first.
    pub const fn knows(&self, rules: u64) -> bool {
        rules <= if self.rules == 0 { 1 } else { self.rules }
    }
}

/// What a node knows of forks of its ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkStatus {
    /// Forks of which it keeps evidence.
    pub known: u64,
    /// Those that its operator has not called settled.
    pub unsettled: u64,
    /// Those that are not on the ledger yet, as far as it knows.
    pub untold: u64,
    /// Why it gives no vote, if it is for one of them.
    pub silent: Option<String>,
    /// Records on the ledger, of anchors and witnesses, that name another block than the one here.
    #[serde(default)]
    pub signs: u64,
    /// What the first of them say.
    #[serde(default)]
    pub first_signs: Vec<String>,
}

/// How a network hands its one key on to the set of validators that comes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResharingStatus {
    /// The epoch from which on the ledger names the set.
    pub from: u64,
    /// The epoch with which it takes over, once the outcome stands on the ledger.
    pub takes_over: Option<u64>,
    /// Who is not heard of those who must take part, as far as this node takes part.
    pub absent: Vec<String>,
    /// Whose part is awaited for some time, though it is heard.
    pub awaited: Vec<String>,
    /// True once this node knows that all signed the outcome.
    pub complete: bool,
    /// True if it is complete and waits for an operator of the set to post it: this node's own account is none of them.
    #[serde(default)]
    pub to_post: bool,
    /// Why this node's last try did not succeed, if it did not.
    pub trouble: Option<String>,
}

/// What all participants of a resharing signed, and the ledger does not have yet. It speaks for itself: whoever may post it may be handed it by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeOutcome {
    /// The epoch from which on the ledger names the set.
    pub from: U64,
    /// The outcome as it is posted.
    pub outcome: Bytes,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The ledger's chain id.
    pub chain_id: u64,
    /// Its public key among nodes; zeros if it is of a version that does not say.
    #[serde(default)]
    pub key: B256,
    /// The account by which it speaks on the ledger, once the owner has enrolled it; zeros likewise.
    #[serde(default)]
    pub account: Address,
    /// Whether it votes.
    pub role: NodeRole,
    /// How many validators there are.
    pub validators: u64,
    /// How many must agree.
    pub quorum: u64,
    /// Height of the last final block here.
    pub height: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, in milliseconds since 1970.
    pub time_millis: u64,
    /// How many final blocks are known and not recorded here yet.
    pub lag: u64,
    /// The view that is voted on.
    pub view: u64,
    /// The view of the last final block.
    pub final_view: u64,
    /// To how many nodes it is connected.
    pub peers: u64,
    /// How often two votes of one validator contradicted each other.
    pub conflicts: u64,
    /// Transactions that can stand in the next block.
    pub pending: u64,
    /// Transactions that wait for others.
    pub queued: u64,
    /// What waits in bytes, as it is charged.
    pub pool_bytes: u64,
    /// The length of its store, the file; 0 if it is of a version that does not say.
    #[serde(default)]
    pub store_bytes: u64,
    /// The watch over its own store.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// What it lacks of the history.
    #[serde(default)]
    pub history: HistoryStatus,
    /// What it knows of forks.
    #[serde(default)]
    pub forks: ForkStatus,
    /// Its anchors outside; none if its operator did not tell it to make any.
    #[serde(default)]
    pub anchoring: Option<AttestingStatus>,
    /// Its cosignatures; none if its operator did not make it a witness. The times are by its own clock.
    #[serde(default)]
    pub witness: Option<AttestingStatus>,
    /// How the network's one key is handed on; none while no other set comes.
    #[serde(default)]
    pub resharing: Option<ResharingStatus>,
    /// Why it takes no part any more, if it does not.
    pub failure: Option<String>,
    /// The version of the program.
    pub version: String,
    /// The newest rules of a ledger that it knows, by their number in a genesis; 0 if it is of a release that does not say.
    #[serde(default)]
    pub rules: u64,
    /// The newest rules that this ledger's genesis names; 0 likewise.
    #[serde(default)]
    pub rules_named: u64,
    /// What the nodes in its `rpc_peers` last said of their releases.
    #[serde(default)]
    pub releases: Vec<OtherRelease>,
}

impl NodeStatus {
    /// The other nodes that are of another release than this one, by what both say.
    pub fn of_other_releases(&self) -> impl Iterator<Item = &OtherRelease> {
        let is_other = move |other: &&OtherRelease| other.version != self.version || other.rules != self.rules;
        self.releases.iter().filter(is_other)
    }

    /// Those of them that do not know all rules of this ledger.
    pub fn too_old(&self) -> impl Iterator<Item = &OtherRelease> {
        self.releases.iter().filter(move |other| !other.knows(self.rules_named))
    }

    /// In Prometheus' text format. Names end in their unit.
    pub fn prometheus(&self) -> String {
        let is = u64::from;
        let (anchoring, witness) = (self.anchoring.as_ref(), self.witness.as_ref());
        let gauges = [
            ("height", "height of the last final block", self.height),
            ("final_time_milliseconds", "time of the last final block", self.time_millis),
            ("finality_lag_blocks", "final blocks that are not recorded yet", self.lag),
            ("view", "view that is voted on", self.view),
            ("final_view", "view of the last final block", self.final_view),
            ("peers", "nodes that it is connected to", self.peers),
            ("validators", "validators of the network", self.validators),
            ("quorum", "validators that must agree", self.quorum),
            ("conflicts_total", "contradicting votes that were seen", self.conflicts),
            ("pool_pending", "transactions that can stand in the next block", self.pending),
            ("pool_queued", "transactions that wait for others", self.queued),
            ("pool_bytes", "what waits in bytes", self.pool_bytes),
            ("store_bytes", "length of its store, the file", self.store_bytes),
            ("scrub_examined_blocks", "blocks of its store that this pass has examined", self.scrub.examined),
            ("scrub_blocks", "blocks that this pass examines", self.scrub.blocks),
            ("scrub_passes_total", "passes that found the store sound", self.scrub.passes),
            ("scrub_ended_milliseconds", "time at which the last such pass ended", self.scrub.ended_millis),
            ("healed_total", "times its store was altered and healed", self.scrub.healed),
            ("alarms_untold", "alarms that are not on the ledger yet", self.scrub.untold),
            ("history_bottom", "height from which on it has all blocks, 0 if it has all", self.history.bottom),
            ("forks", "forks of the ledger of which it keeps evidence", self.forks.known),
            ("forks_unsettled", "those that its operator has not called settled", self.forks.unsettled),
            ("forks_untold", "those that are not on the ledger yet", self.forks.untold),
            ("fork_signs", "anchors and cosignatures of other blocks than those here", self.forks.signs),
            ("anchored_height", "the block that it anchored outside last", anchoring.map_or(0, |it| it.height)),
            (
                "anchoring_failed",
                "1 if its last try to anchor did not succeed",
                is(anchoring.is_some_and(|it| it.trouble.is_some())),
            ),
            ("cosigned_height", "the block that it cosigned last", witness.map_or(0, |it| it.height)),
            (
                "cosigning_failed",
                "1 if its last try to cosign did not succeed",
                is(witness.is_some_and(|it| it.trouble.is_some())),
            ),
            (
                "votes",
                "1 if it is a validator that votes",
                is(self.role == NodeRole::Validator && self.failure.is_none()),
            ),
            (
                "resharing_absent",
                "nodes that are missed for handing the network's key on",
                self.resharing.as_ref().map_or(0, |it| it.absent.len() as u64),
            ),
            ("failed", "1 if it takes no part any more", is(self.failure.is_some())),
            ("rules", "the newest rules of a ledger that it knows", self.rules),
            ("rules_named", "the newest rules that this ledger's genesis names", self.rules_named),
            ("releases_other", "other nodes that are of another release", self.of_other_releases().count() as u64),
            (
                "releases_too_old",
                "other nodes that do not know all rules of this ledger",
                self.too_old().count() as u64,
            ),
        ];
        let mut text = String::new();
        for (name, help, value) in gauges {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "# HELP blockhouse_{name} {help}\n# TYPE blockhouse_{name} {kind}\nblockhouse_{name} {value}"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_a_line_a_kind_and_a_number_each() {
        let status = NodeStatus {
            chain_id: 1,
            key: B256::ZERO,
            account: Address::ZERO,
            role: NodeRole::Validator,
            validators: 4,
            quorum: 3,
            height: 7,
            hash: B256::ZERO,
            time_millis: 1,
            lag: 0,
            view: 9,
            final_view: 8,
            peers: 3,
            conflicts: 0,
            pending: 0,
            queued: 0,
            pool_bytes: 0,
            store_bytes: 0,
            scrub: ScrubStatus::default(),
            history: HistoryStatus::default(),
            forks: ForkStatus::default(),
            anchoring: None,
            witness: None,
            resharing: None,
            failure: None,
            version: "0".to_owned(),
            rules: 1,
            rules_named: 1,
            releases: Vec::new(),
        };
        let text = status.prometheus();
        assert!(text.contains("blockhouse_height 7\n") && text.contains("blockhouse_votes 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, number) = line.split_once(' ').unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")) && number.parse::<u64>().is_ok(), "{line}");
        }
        assert!(NodeStatus { failure: Some("x".to_owned()), ..status }.prometheus().contains("blockhouse_votes 0\n"));
    }

    #[test]
    fn a_release_that_does_not_say_knows_the_first_rules_alone() {
        let other = |rules| OtherRelease { rpc: String::new(), version: "0.1.0".to_owned(), rules };
        assert!(
            other(0).knows(1) && !other(0).knows(2) && other(2).knows(2) && other(3).knows(2) && !other(1).knows(2)
        );
    }
}
