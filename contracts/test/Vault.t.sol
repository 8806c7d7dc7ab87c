// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotWriter, OutOfRange} from "../src/Errors.sol";
import {Vault} from "../src/Vault.sol";
import {Sessions} from "../src/vault/Sessions.sol";
import {Fixture} from "./Fixture.sol";
import {ToldPolicy} from "./Policies.sol";
import {vm} from "./Vm.sol";

contract VaultTest is Fixture {
    // --- commit

    function test_commit_tells_everything_in_its_event_and_ends_the_session() public {
        Vault.Commit memory c = _draft(_open(WRITER), SOURCE, "snapshot");
        _expectEvent(address(vault));
        emit Vault.SnapshotCommitted(SOURCE, "snapshot", WRITER, c);
        _expectEvent(address(vault));
        emit Sessions.SessionEnded(c.session);
        _commitAs(WRITER, c);
    }

    function testFuzz_snapshot_is_what_was_committed(Vault.Commit memory c) public {
        vm.assume(c.source != 0 && c.snapshot != 0);
        c.session = _open(WRITER);
        c.recipients = RECIPIENTS;
        c.parent = 0;
        _commitAs(WRITER, c);

        Vault.Snapshot memory kept = vault.snapshot(c.snapshot);
        bytes32 given = keccak256(
            abi.encode(c.source, c.objectHash, c.listRoot, c.recipients, c.parent, c.session, c.headHash, c.storedBytes)
        );
        bytes32 found = keccak256(
            abi.encode(
                kept.source,
                kept.objectHash,
                kept.listRoot,
                kept.recipients,
                kept.parent,
                kept.session,
                kept.headHash,
                kept.storedBytes
            )
        );
        vm.assertEq(found, given, "hashes");
        vm.assertTrue(kept.d == c.d && kept.w == c.w && kept.wd == c.wd, "durability");
        vm.assertEq(kept.headHeight, c.headHeight, "head");
        vm.assertEq(kept.writer, WRITER, "writer");
        vm.assertEq(kept.committedAt, block.timestamp, "time");
        vm.assertEq(kept.block, block.number, "block");
        vm.assertFalse(kept.forgotten, "forgotten");
    }

    function test_commit_refuses_zero_ids() public {
        bytes32 session = _open(WRITER);
        _refuses(Vault.ZeroSource.selector, "snapshot");
        _commitAs(WRITER, _draft(session, 0, "snapshot"));
        _refuses(Vault.ZeroSnapshot.selector, SOURCE);
        _commitAs(WRITER, _draft(session, SOURCE, 0));
    }

    /// V1: also for another source, another writer, and after it was forgotten.
    function test_snapshot_is_committed_once() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        _refusesSecond(id, SOURCE);
        _refusesSecond(id, OTHER_SOURCE);
        _forgetNow(id);
        _refusesSecond(id, SOURCE);
    }

    function _refusesSecond(bytes32 id, bytes32 source) private {
        bytes32 session = _open(OTHER_WRITER);
        _refuses(Vault.SnapshotExists.selector, id);
        _commitAs(OTHER_WRITER, _draft(session, source, id));
    }

    /// V2: judged at the commit, by the rules of that moment.
    function test_commit_names_default_or_approved_recipients() public {
        Vault.Commit memory c = _draft(_open(WRITER), SOURCE, "snapshot");
        c.recipients = "set";
        _refusesRecipients(c);
        vm.prank(OWNER);
        vault.approveRecipients(OTHER_SOURCE, "set", true);
        _refusesRecipients(c);
        c.recipients = 0;
        _refusesRecipients(c);
        c.recipients = "set";
        vm.prank(OWNER);
        vault.approveRecipients(SOURCE, "set", true);
        _commitAs(WRITER, c);

        vm.prank(OWNER);
        vault.setDefaultRecipients("new");
        _refusesRecipients(_draft(_open(WRITER), SOURCE, "second"));
    }

    function _refusesRecipients(Vault.Commit memory c) private {
        bytes4 error_ = Vault.RecipientsNotApproved.selector;
        vm.expectRevert(abi.encodeWithSelector(error_, c.source, c.recipients));
        _commitAs(WRITER, c);
    }

    /// V5
    function test_parent_is_a_remembered_snapshot_of_the_same_source() public {
        bytes32 parent = _committed(SOURCE, "parent");
        Vault.Commit memory c = _draft(_open(WRITER), SOURCE, "child");
        c.parent = "unknown";
        _refuses(Vault.UnknownSnapshot.selector, "unknown");
        _commitAs(WRITER, c);
        c.parent = c.snapshot;
        _refuses(Vault.UnknownSnapshot.selector, c.snapshot);
        _commitAs(WRITER, c);

        c.parent = parent;
        c.source = OTHER_SOURCE;
        vm.expectRevert(abi.encodeWithSelector(Vault.ParentOfOtherSource.selector, parent, OTHER_SOURCE, SOURCE));
        _commitAs(WRITER, c);
        c.source = SOURCE;
        _commitAs(WRITER, c);
        vm.assertEq(vault.snapshot("child").parent, parent, "parent");

        _forgetNow(parent);
        c = _draft(_open(WRITER), SOURCE, "grandchild");
        c.parent = parent;
        _refuses(Vault.AlreadyForgotten.selector, parent);
        _commitAs(WRITER, c);
    }

    /// A refused commit leaves the session as it was: the writer mends it and commits.
    function test_refused_commit_keeps_the_session() public {
        Vault.Commit memory c = _draft(_open(WRITER), SOURCE, "snapshot");
        c.recipients = "set";
        _refusesRecipients(c);
        c.recipients = RECIPIENTS;
        _commitAs(WRITER, c);
    }

    // --- enumeration

    function test_snapshots_and_sources_are_enumerated_in_order() public {
        _committed(SOURCE, "first");
        _pass(1);
        _committed(OTHER_SOURCE, "second");
        _pass(1);
        _committed(SOURCE, "third");
        _forgetNow("first");
        vm.assertEq(vault.snapshotCount(), 3, "snapshots");
        vm.assertEq(vault.snapshotAt(0), "first", "first");
        vm.assertEq(vault.snapshotAt(1), "second", "second");
        vm.assertEq(vault.snapshotAt(2), "third", "third");
        vm.assertEq(vault.sourceCount(), 2, "sources");
        vm.assertEq(vault.sourceAt(0), SOURCE, "source");
        vm.assertEq(vault.sourceAt(1), OTHER_SOURCE, "other source");
        vm.assertEq(vault.snapshotCountOf(SOURCE), 2, "of source");
        vm.assertEq(vault.snapshotOf(SOURCE, 0), "first", "of source, first");
        vm.assertEq(vault.snapshotOf(SOURCE, 1), "third", "of source, second");
        vm.assertEq(vault.snapshotCountOf("none"), 0, "of none");
    }

    function test_enumeration_ends_where_it_ends() public {
        _committed(SOURCE, "first");
        _refuses(OutOfRange.selector, 1, 1);
        vault.snapshotAt(1);
        _refuses(OutOfRange.selector, 1, 1);
        vault.sourceAt(1);
        _refuses(OutOfRange.selector, 1, 1);
        vault.snapshotOf(SOURCE, 1);
    }

    // --- records

    function test_health_is_the_commits_until_a_writer_records_it() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        _healthIs(id, 6, 2, 1);
        _pass(60);
        _expectEvent(address(vault));
        emit Vault.HealthRecorded(id, OTHER_WRITER, 4, 0, 0);
        vm.prank(OTHER_WRITER);
        vault.recordHealth(id, 4, 0, 0);
        _healthIs(id, 4, 0, 0);
        vm.assertEq(vault.snapshot(id).d, 6, "what was committed stays");
    }

    function _healthIs(bytes32 id, uint16 d, uint16 w, uint16 wd) private view {
        (uint16 isD, uint16 isW, uint16 isWd, uint64 recordedAt) = vault.health(id);
        vm.assertTrue(isD == d && isW == w && isWd == wd, "health");
        vm.assertEq(recordedAt, block.timestamp, "time");
    }

    function test_verify_is_recorded_for_its_source() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        _expectEvent(address(vault));
        emit Vault.VerifyRecorded(SOURCE, id, WRITER, 10_000, 3, 2, false);
        vm.prank(WRITER);
        vault.recordVerify(id, 10_000, 3, 2, false);
        (uint64 verifiedAt, bytes32 of_, bool ok, uint16 basisPoints) = vault.lastVerify(SOURCE);
        vm.assertEq(verifiedAt, block.timestamp, "time");
        vm.assertEq(of_, id, "snapshot");
        vm.assertFalse(ok, "ok");
        vm.assertEq(basisPoints, 10_000, "share");
        vm.prank(WRITER);
        vault.recordVerify(id, 0, 0, 0, true);
        (,, ok, basisPoints) = vault.lastVerify(SOURCE);
        vm.assertTrue(ok && basisPoints == 0, "the last counts");
        (verifiedAt,,,) = vault.lastVerify(OTHER_SOURCE);
        vm.assertEq(verifiedAt, 0, "never");
    }

    function test_records_refuse_unknown_and_forgotten_snapshots_and_more_than_all() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        vm.expectRevert(abi.encodeWithSelector(Vault.TooManyBasisPoints.selector, id, uint16(10_001)));
        vm.prank(WRITER);
        vault.recordVerify(id, 10_001, 0, 0, true);
        _refusesRecords(WRITER, "none", abi.encodeWithSelector(Vault.UnknownSnapshot.selector, bytes32("none")));
        _refuses(Vault.UnknownSnapshot.selector, "none");
        vault.snapshot("none");
        _refuses(Vault.UnknownSnapshot.selector, "none");
        vault.health("none");
        _forgetNow(id);
        _refusesRecords(WRITER, id, abi.encodeWithSelector(Vault.AlreadyForgotten.selector, id));
    }

    function testFuzz_records_are_writers_alone(address who) public {
        vm.assume(who != WRITER && who != OTHER_WRITER);
        bytes32 id = _committed(SOURCE, "snapshot");
        _refusesRecords(who, id, abi.encodeWithSelector(NotWriter.selector, who));
        _refusesRecords(OWNER, id, abi.encodeWithSelector(NotWriter.selector, OWNER));
        _revoke(WRITER);
        _refusesRecords(WRITER, id, abi.encodeWithSelector(NotWriter.selector, WRITER));
    }

    function _refusesRecords(address who, bytes32 id, bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(who);
        vault.recordHealth(id, 1, 1, 1);
        vm.expectRevert(error_);
        vm.prank(who);
        vault.recordVerify(id, 1, 1, 1, true);
    }

    function test_reader_verified_is_recorded_by_the_owner() public {
        vm.assertEq(vault.readerVerifiedAt("list"), 0, "not yet");
        _expectEvent(address(vault));
        emit Vault.ReaderVerified("list");
        vm.prank(OWNER);
        vault.recordReaderVerified("list");
        vm.assertEq(vault.readerVerifiedAt("list"), block.timestamp, "now");
    }

    // --- forget

    function test_forgotten_is_for_ever_and_enumerated_still() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        _pass(FLOOR);
        _expectEvent(address(vault));
        emit Vault.SnapshotForgotten(id, OWNER);
        vm.prank(OWNER);
        vault.forget(id);
        vm.assertTrue(vault.snapshot(id).forgotten, "forgotten");
        _refuses(Vault.AlreadyForgotten.selector, id);
        vm.prank(OWNER);
        vault.forget(id);
        _refuses(Vault.UnknownSnapshot.selector, "none");
        vm.prank(OWNER);
        vault.forget("none");
    }

    function _forgetNow(bytes32 id) private {
        ToldPolicy told = new ToldPolicy();
        bytes32 source = vault.snapshot(id).source;
        told.tell(source, true);
        _setPolicy(source, address(told));
        vm.prank(OWNER);
        vault.forget(id);
        _setPolicy(source, address(0));
    }
}
