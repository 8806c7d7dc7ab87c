//! Bindings of the contracts: calls, events, errors and the bytecode of their deployment.
//!
//! - **Owns** nothing by hand: everything is generated from `contracts/abi`, so it cannot drift from what is deployed.
//!
//! Format: `docs/design/contracts.md`.

use alloy_sol_types::sol;

sol!(
    #[sol(all_derives)]
    Access,
    "../../contracts/abi/Access.json"
);

sol!(
    #[sol(all_derives)]
    Alarms,
    "../../contracts/abi/Alarms.json"
);

sol!(
    #[sol(all_derives)]
    AnchorPoint,
    "../../contracts/abi/AnchorPoint.json"
);

sol!(
    #[sol(all_derives)]
    Anchors,
    "../../contracts/abi/Anchors.json"
);

sol!(
    #[sol(all_derives)]
    Automation,
    "../../contracts/abi/Automation.json"
);

sol!(
    #[sol(all_derives)]
    Freeze,
    "../../contracts/abi/Freeze.json"
);

pub use group::GroupValidators;

/// By itself, for its setup is that of `Validators` and called so.
mod group {
    alloy_sol_types::sol!(
        #[sol(all_derives)]
        GroupValidators,
        "../../contracts/abi/GroupValidators.json"
    );
}

sol!(
    #[sol(all_derives)]
    OwnerAfterFloor,
    "../../contracts/abi/OwnerAfterFloor.json"
);

sol!(
    #[sol(all_derives)]
    Retention,
    "../../contracts/abi/Retention.json"
);

sol!(
    #[sol(all_derives)]
    Tags,
    "../../contracts/abi/Tags.json"
);

sol!(
    #[sol(all_derives)]
    Timeline,
    "../../contracts/abi/Timeline.json"
);

sol!(
    #[sol(all_derives)]
    Validators,
    "../../contracts/abi/Validators.json"
);

sol!(
    #[sol(all_derives)]
    Vault,
    "../../contracts/abi/Vault.json"
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;
    use alloy_sol_types::{SolCall, SolEvent};

    /// The signatures of `docs/design/contracts.md` that formats and other programs depend on.
    #[test]
    fn signatures_are_those_of_the_page() {
        let commit = "(bytes32,bytes32,bytes32,bytes32,bytes32,uint64,bytes32,bytes32[],bytes32,uint16,uint16,uint16,uint64,bytes32)";
        assert_eq!(Vault::commitCall::SIGNATURE, format!("commit({commit})"));
        let committed = format!("SnapshotCommitted(bytes32,bytes32,address,{commit})");
        assert_eq!(Vault::SnapshotCommitted::SIGNATURE_HASH, keccak256(committed));
        assert_eq!(Access::handoverCall::SIGNATURE, "handover(bytes32,bytes32)");
        assert_eq!(Access::isEnrolledCall::SIGNATURE, "isEnrolled(address)");
        assert_eq!(Access::HandedOver::SIGNATURE, "HandedOver(uint64,bytes32,address)");
        assert_eq!(Access::WriterEnrolled::SIGNATURE, "WriterEnrolled(address,address,uint64,bool)");
        assert_eq!(Vault::openSessionCall::SIGNATURE, "openSession(uint64)");
        assert_eq!(Vault::forgetCall::SIGNATURE, "forget(bytes32)");
        assert_eq!(Vault::markCall::SIGNATURE, "mark(bytes32,bytes32,uint32)");
        assert_eq!(Vault::sweepCall::SIGNATURE, "sweep(uint64)");
        assert_eq!(Retention::mayRemoveCall::SIGNATURE, "mayRemove(address,bytes32,bytes32,uint64)");
        assert_eq!(Retention::keepsCall::SIGNATURE, "keeps(bytes32,bytes32)");
        assert_eq!(Freeze::freezeCall::SIGNATURE, "freeze(bytes32)");
        assert_eq!(Freeze::Frozen::SIGNATURE, "Frozen(bytes32,address)");
        assert_eq!(Tags::Tagged::SIGNATURE, "Tagged(bytes32,bytes32,address)");
        assert_eq!(Alarms::reportTamperCall::SIGNATURE, "reportTamper(uint64,bytes32,bytes32)");
        assert_eq!(Alarms::TamperReported::SIGNATURE, "TamperReported(bytes32,uint64,address,bytes32,bytes32)");
        assert_eq!(Timeline::syncCall::SIGNATURE, "sync(bytes32,uint32)");
        assert_eq!(Automation::tickCall::SIGNATURE, "tick()");
        assert_eq!(Automation::BackupOverdue::SIGNATURE, "BackupOverdue(bytes32,uint64,uint64)");
        assert_eq!(Automation::BackupResumed::SIGNATURE, "BackupResumed(bytes32,uint64,uint64)");
        assert_eq!(AnchorPoint::anchorCall::SIGNATURE, "anchor(bytes32,uint64,bytes32)");
        assert_eq!(AnchorPoint::Anchored::SIGNATURE, "Anchored(bytes32,address,uint64,bytes32)");
        assert_eq!(Anchors::Cosigned::SIGNATURE, "Cosigned(uint64,bytes32,address,bytes)");
        assert_eq!(GroupValidators::postOutcomeCall::SIGNATURE, "postOutcome(uint64,bytes)");
        assert_eq!(GroupValidators::OutcomePosted::SIGNATURE, "OutcomePosted(uint64,bytes32,address)");
        let set = "(bytes32,bytes,bytes,address,uint8)[]";
        assert_eq!(Validators::SetChanged::SIGNATURE, format!("SetChanged(uint64,bytes32,{set})"));
        assert_eq!(Validators::ForkReported::SIGNATURE, "ForkReported(address,bytes,bytes,bytes32[])");
    }
}
