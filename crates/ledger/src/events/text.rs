//! The ledger's events by name and fields.

use alloy_primitives::B256;

use super::Event;
use crate::contracts::Access::AccessEvents;
use crate::contracts::Alarms::AlarmsEvents;
use crate::contracts::AnchorPoint::AnchorPointEvents;
use crate::contracts::Anchors::AnchorsEvents;
use crate::contracts::Automation::AutomationEvents;
use crate::contracts::Freeze::FreezeEvents;
use crate::contracts::Tags::TagsEvents;
use crate::contracts::Timeline::TimelineEvents;
use crate::contracts::Validators::ValidatorsEvents;
use crate::contracts::Vault::VaultEvents;

/// An event, as `history` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its name in the contract.
    pub name: &'static str,
    /// Its fields, as text.
    pub fields: Vec<(&'static str, String)>,
}

macro_rules! told {
    ($name:literal $(, $label:literal = $value:expr)*) => {
        Told { name: $name, fields: vec![$(($label, plain(&$value))),*] }
    };
}

/// Ids without the `0x` that Ethereum puts before them: as all other commands show them.
fn plain(value: &impl ToString) -> String {
    let text = value.to_string();
    match text.strip_prefix("0x") {
        Some(digits) => digits.to_lowercase(),
        None => text,
    }
}

/// An event in words.
pub fn tell(event: &Event) -> Told {
    match event {
        Event::Vault(event) => tell_vault(event),
        Event::Access(event) => tell_access(event),
        Event::Freeze(event) => tell_freeze(event),
        Event::Tags(event) => tell_tags(event),
        Event::Timeline(event) => tell_timeline(event),
        Event::Alarms(event) => tell_alarms(event),
        Event::Automation(event) => tell_automation(event),
        Event::Validators(event) => tell_validators(event),
        Event::Anchors(event) => tell_anchors(event),
        Event::AnchorPoint(AnchorPointEvents::Anchored(e)) => {
            told!("Anchored", "ledger" = e.ledger, "sender" = e.sender, "height" = e.height, "block_hash" = e.blockHash)
        }
    }
}

fn tell_alarms(event: &AlarmsEvents) -> Told {
    match event {
        AlarmsEvents::NodeSet(e) => told!("NodeSet", "account" = e.account, "node" = e.node),
        AlarmsEvents::TamperReported(e) => told!(
            "TamperReported",
            "node" = e.node,
            "what" = padded_text(&e.what),
            "height" = e.height,
            "block" = e.blockHash,
            "by" = e.by
        ),
    }
}

fn tell_freeze(event: &FreezeEvents) -> Told {
    match event {
        FreezeEvents::Frozen(e) => told!("Frozen", "source" = e.source, "by" = e.by),
        FreezeEvents::Unfrozen(e) => told!("Unfrozen", "source" = e.source, "by" = e.by),
    }
}

fn tell_tags(event: &TagsEvents) -> Told {
    match event {
        TagsEvents::Tagged(e) => told!("Tagged", "snapshot" = e.snapshot, "tag" = e.tag, "by" = e.by),
        TagsEvents::Untagged(e) => told!("Untagged", "snapshot" = e.snapshot, "tag" = e.tag, "by" = e.by),
    }
}

fn tell_timeline(event: &TimelineEvents) -> Told {
    match event {
        TimelineEvents::Imported(e) => told!("Imported", "source" = e.source, "count" = e.count),
        TimelineEvents::Dropped(e) => told!("Dropped", "source" = e.source, "place" = e.place),
    }
}

fn tell_vault(event: &VaultEvents) -> Told {
    use VaultEvents as E;
    match event {
        E::SessionOpened(e) => {
            told!("SessionOpened", "session" = e.session, "writer" = e.writer, "epoch" = e.epoch, "expires" = e.expires)
        }
        E::SessionRenewed(e) => told!("SessionRenewed", "session" = e.session, "expires" = e.expires),
        E::SessionEnded(e) => told!("SessionEnded", "session" = e.session),
        E::SnapshotCommitted(e) => told!(
            "SnapshotCommitted",
            "snapshot" = e.snapshot,
            "source" = e.source,
            "session" = e.data.session,
            "writer" = e.writer,
            "stored_bytes" = e.data.storedBytes,
            "d" = e.data.d,
            "w" = e.data.w,
            "wd" = e.data.wd
        ),
        E::HealthRecorded(e) => {
            told!("HealthRecorded", "snapshot" = e.snapshot, "by" = e.by, "d" = e.d, "w" = e.w, "wd" = e.wd)
        }
        E::VerifyRecorded(e) => told!(
            "VerifyRecorded",
            "snapshot" = e.snapshot,
            "source" = e.source,
            "by" = e.by,
            "data_basis_points" = e.dataBasisPoints,
            "missing" = e.missing,
            "damaged" = e.damaged,
            "ok" = e.ok
        ),
        E::ReaderVerified(e) => told!("ReaderVerified", "list_root" = e.listRoot),
        E::SnapshotForgotten(e) => told!("SnapshotForgotten", "snapshot" = e.snapshot, "by" = e.by),
        E::Marked(e) => {
            told!("Marked", "epoch" = e.epoch, "source" = e.source, "stripes_root" = e.stripesRoot, "count" = e.count)
        }
        E::Swept(e) => told!("Swept", "epoch" = e.epoch, "by" = e.by),
        E::PolicySet(e) => told!("PolicySet", "source" = e.source, "policy" = e.policy),
        E::DefaultPolicySet(e) => told!("DefaultPolicySet", "policy" = e.policy),
        E::DefaultRecipientsSet(e) => told!("DefaultRecipientsSet", "set" = e.set),
        E::RecipientsApproved(e) => {
            told!("RecipientsApproved", "source" = e.source, "set" = e.set, "approved" = e.approved)
        }
        E::BagRecorded(e) => told!("BagRecorded", "version" = e.version, "hash" = e.hash),
        E::ModuleSet(e) => told!("ModuleSet", "name" = e.name, "module" = e.module),
    }
}

fn tell_access(event: &AccessEvents) -> Told {
    use AccessEvents as E;
    match event {
        E::WriterEnrolled(e) => told!(
            "WriterEnrolled",
            "who" = e.who,
            "predecessor" = e.predecessor,
            "predecessor_last_block" = e.predecessorLastBlock,
            "host_stolen" = e.hostStolen
        ),
        E::WriterRevoked(e) => told!("WriterRevoked", "who" = e.who),
        E::RecoveryAdded(e) => told!("RecoveryAdded", "who" = e.who),
        E::RecoveryRemoved(e) => told!("RecoveryRemoved", "who" = e.who),
        E::RecoveryThresholdSet(e) => told!("RecoveryThresholdSet", "threshold" = e.threshold),
        E::HandedOver(e) => told!("HandedOver", "number" = e.number, "next_key" = e.nextKey, "by" = e.by),
        E::OwnershipTransferStarted(e) => {
            told!("OwnershipTransferStarted", "previous_owner" = e.previousOwner, "new_owner" = e.newOwner)
        }
        E::OwnershipTransferred(e) => {
            told!("OwnershipTransferred", "previous_owner" = e.previousOwner, "new_owner" = e.newOwner)
        }
    }
}

fn tell_automation(event: &AutomationEvents) -> Told {
    use AutomationEvents as E;
    match event {
        E::BackupIntervalSet(e) => told!("BackupIntervalSet", "source" = e.source, "interval" = e.interval),
        E::BackupOverdue(e) => {
            told!("BackupOverdue", "source" = e.source, "since" = e.since, "interval" = e.interval)
        }
        E::BackupResumed(e) => {
            told!("BackupResumed", "source" = e.source, "since" = e.since, "interval" = e.interval)
        }
        E::TaskAdded(e) => told!("TaskAdded", "task" = e.task),
        E::TaskRemoved(e) => told!("TaskRemoved", "task" = e.task),
        E::TaskFailing(e) => told!("TaskFailing", "task" = e.task),
        E::TaskRunning(e) => told!("TaskRunning", "task" = e.task),
    }
}

fn tell_validators(event: &ValidatorsEvents) -> Told {
    use ValidatorsEvents as E;
    match event {
        E::Proposed(e) => {
            told!("Proposed", "proposal" = e.proposal, "by" = e.by, "version" = e.version, "changes" = e.changes.len())
        }
        E::Approved(e) => told!("Approved", "proposal" = e.proposal, "governor" = e.governor),
        E::ApprovalWithdrawn(e) => told!("ApprovalWithdrawn", "proposal" = e.proposal, "governor" = e.governor),
        E::Enacted(e) => told!("Enacted", "proposal" = e.proposal, "version" = e.version, "epoch" = e.epoch),
        E::SetChanged(e) => told!("SetChanged", "epoch" = e.epoch, "hash" = e.hash, "members" = e.set.len()),
        E::KeyVoted(e) => told!("KeyVoted", "epoch" = e.epoch, "key_hash" = e.keyHash, "operator" = e.operator),
        E::KeyRecorded(e) => told!("KeyRecorded", "epoch" = e.epoch, "key_hash" = e.keyHash),
        E::ForkReported(e) => {
            let signers: Vec<String> = e.signers.iter().map(plain).collect();
            told!("ForkReported", "by" = e.by, "signers" = signers.join(","))
        }
    }
}

fn tell_anchors(event: &AnchorsEvents) -> Told {
    use AnchorsEvents as E;
    match event {
        E::Anchored(e) => told!(
            "Anchored",
            "kind" = padded_text(&e.kind),
            "height" = e.height,
            "block_hash" = e.blockHash,
            "chain_id" = e.chainId,
            "target" = e.target,
            "tx" = e.txHash,
            "by" = e.by
        ),
        E::Cosigned(e) => {
            told!("Cosigned", "height" = e.height, "block_hash" = e.blockHash, "by" = e.by, "signature" = e.signature)
        }
    }
}

/// A short text padded with zeros, if it is one that can be shown; else its bytes.
pub fn padded_text(word: &B256) -> String {
    let text = word.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_padded = !text.is_empty() && word.iter().skip(text.len()).all(|byte| *byte == 0);
    match std::str::from_utf8(text) {
        Ok(text) if is_padded && text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => word.to_string(),
    }
}
