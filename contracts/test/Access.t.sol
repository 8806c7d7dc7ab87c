// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Access} from "../src/Access.sol";
import {Recovery} from "../src/access/Recovery.sol";
import {NotWriter, OutOfRange} from "../src/Errors.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

contract AccessTest is Fixture {
    address private constant FRESH = address(0x4001);

    // --- construction

    function test_owner_and_paper_are_recovery_accounts_from_the_start() public {
        address[] memory none = new address[](0);
        Access alone = new Access(OWNER, none);
        vm.assertTrue(alone.isRecovery(OWNER), "owner");
        vm.assertEq(alone.recoveryCount(), 1, "alone");
        vm.assertTrue(access.isRecovery(OWNER) && access.isRecovery(PAPER), "both");
        vm.assertEq(access.recoveryCount(), 2, "count");
        vm.assertEq(access.owner(), OWNER, "owner");
    }

    function test_construction_refuses_no_owner_and_bad_recovery_accounts() public {
        _refuses(Ownable.OwnableInvalidOwner.selector, address(0));
        new Access(address(0), _one(PAPER));
        _refuses(Recovery.ZeroAccount.selector);
        new Access(OWNER, _one(address(0)));
        _refuses(Recovery.AlreadyRecovery.selector, OWNER);
        new Access(OWNER, _one(OWNER));
    }

    // --- enrolment

    function test_enrolled_are_owner_recovery_writers_and_the_offered_owner() public {
        vm.assertTrue(access.isEnrolled(OWNER) && access.isEnrolled(PAPER) && access.isEnrolled(WRITER), "enrolled");
        vm.assertFalse(access.isEnrolled(STRANGER), "stranger");
        vm.assertFalse(access.isEnrolled(address(0)), "no offer is not the zero account");
        vm.prank(OWNER);
        access.transferOwnership(STRANGER);
        vm.assertTrue(access.isEnrolled(STRANGER), "must be able to accept");
        _revoke(WRITER);
        vm.assertFalse(access.isEnrolled(WRITER), "revoked");
    }

    function test_writer_record_is_what_was_enrolled() public {
        _expectEvent(address(access));
        emit Access.WriterEnrolled(FRESH, WRITER, 99, true);
        vm.prank(OWNER);
        access.enrolWriter(FRESH, WRITER, 99, true);

        Access.Writer memory fresh = access.writer(FRESH);
        vm.assertTrue(fresh.active && fresh.hostStolen && access.isWriter(FRESH), "flags");
        vm.assertEq(fresh.predecessor, WRITER, "predecessor");
        vm.assertEq(fresh.predecessorLastBlock, 99, "last block");
        vm.assertEq(fresh.enrolledAt, block.timestamp, "enrolled at");
        vm.assertEq(fresh.revokedAt, 0, "revoked at");
        vm.assertEq(access.writerCount(), 3, "count");
        vm.assertEq(access.writerAt(2), FRESH, "order");
        _refuses(OutOfRange.selector, 3, 3);
        access.writerAt(3);
    }

    function test_revoked_writer_keeps_its_record_and_never_comes_back() public {
        _pass(5);
        _expectEvent(address(access));
        emit Access.WriterRevoked(WRITER);
        _revoke(WRITER);
        vm.assertFalse(access.isWriter(WRITER), "inactive");
        vm.assertEq(access.writer(WRITER).revokedAt, block.timestamp, "revoked at");
        vm.assertEq(access.writerAt(0), WRITER, "still listed");

        _refuses(Access.AlreadyEnrolled.selector, WRITER);
        _enrol(WRITER);
        _refuses(NotWriter.selector, WRITER);
        _revoke(WRITER);
        _refuses(NotWriter.selector, STRANGER);
        _revoke(STRANGER);
    }

    function test_enrolment_refuses_zero_twice_and_false_predecessors() public {
        _refuses(Recovery.ZeroAccount.selector);
        _enrol(address(0));
        _refuses(Access.AlreadyEnrolled.selector, WRITER);
        _enrol(WRITER);
        _refusesEnrolment(STRANGER, 0, false, STRANGER); // never a writer
        _refusesEnrolment(FRESH, 0, false, FRESH); // itself
        _refusesEnrolment(address(0), 1, false, address(0)); // facts about nobody
        _refusesEnrolment(address(0), 0, true, address(0));
        vm.expectRevert(abi.encodeWithSelector(Access.PredecessorAhead.selector, FRESH, uint64(101), uint256(100)));
        vm.prank(OWNER);
        access.enrolWriter(FRESH, WRITER, 101, false);
    }

    function _refusesEnrolment(address predecessor, uint64 lastBlock, bool stolen, address named) private {
        vm.expectRevert(abi.encodeWithSelector(Access.UnknownPredecessor.selector, FRESH, named));
        vm.prank(OWNER);
        access.enrolWriter(FRESH, predecessor, lastBlock, stolen);
    }

    function test_revoked_writer_may_be_a_predecessor() public {
        _revoke(WRITER);
        vm.prank(OWNER);
        access.enrolWriter(FRESH, WRITER, 100, false);
        vm.assertEq(access.writer(FRESH).predecessor, WRITER, "predecessor");
    }

    // --- recovery accounts

    function test_recovery_accounts_come_and_go_but_for_the_last() public {
        _expectEvent(address(access));
        emit Recovery.RecoveryAdded(FRESH);
        vm.prank(OWNER);
        access.addRecovery(FRESH);
        vm.assertEq(access.recoveryCount(), 3, "three");

        _expectEvent(address(access));
        emit Recovery.RecoveryRemoved(FRESH);
        _removeRecovery(FRESH);
        vm.assertFalse(access.isRecovery(FRESH), "removed");
        _removeRecovery(PAPER);
        _refuses(Recovery.LastRecovery.selector, OWNER);
        _removeRecovery(OWNER);
        vm.assertEq(access.recoveryCount(), 1, "one");
    }

    function test_recovery_refuses_zero_twice_and_unknown() public {
        _refuses(Recovery.ZeroAccount.selector);
        vm.prank(OWNER);
        access.addRecovery(address(0));
        _refuses(Recovery.AlreadyRecovery.selector, PAPER);
        vm.prank(OWNER);
        access.addRecovery(PAPER);
        _refuses(Recovery.NotRecovery.selector, STRANGER);
        _removeRecovery(STRANGER);
    }

    function _removeRecovery(address who) private {
        vm.prank(OWNER);
        access.removeRecovery(who);
    }

    // --- ownership

    function test_ownership_moves_in_two_steps_and_the_new_owner_may_hand_over() public {
        _expectEvent(address(access));
        emit Ownable2Step.OwnershipTransferStarted(OWNER, FRESH);
        vm.prank(OWNER);
        access.transferOwnership(FRESH);
        vm.assertEq(access.owner(), OWNER, "not yet");
        _refuses(Ownable.OwnableUnauthorizedAccount.selector, STRANGER);
        vm.prank(STRANGER);
        access.acceptOwnership();

        _expectEvent(address(access));
        emit Ownable.OwnershipTransferred(OWNER, FRESH);
        _expectEvent(address(access));
        emit Recovery.RecoveryAdded(FRESH);
        vm.prank(FRESH);
        access.acceptOwnership();
        vm.assertEq(access.owner(), FRESH, "moved");
        vm.assertTrue(access.isRecovery(FRESH) && access.isRecovery(OWNER), "recovery");
        vm.assertEq(access.recoveryCount(), 3, "count");
    }

    function test_recovery_account_that_becomes_owner_is_counted_once() public {
        vm.prank(OWNER);
        access.transferOwnership(PAPER);
        vm.prank(PAPER);
        access.acceptOwnership();
        vm.assertEq(access.recoveryCount(), 2, "count");
    }

    function test_ownership_cannot_be_renounced() public {
        _refuses(Access.OwnerCannotRenounce.selector, OWNER);
        vm.prank(OWNER);
        access.renounceOwnership();
    }

    /// Every rule is the owner's alone: writers, recovery accounts and strangers are refused by name.
    function testFuzz_owner_functions_refuse_everyone_else(address who) public {
        vm.assume(who != OWNER);
        _refusesOwnerCalls(who);
        _refusesOwnerCalls(PAPER);
        _refusesOwnerCalls(WRITER);
    }

    function _refusesOwnerCalls(address who) private {
        bytes4 error_ = Ownable.OwnableUnauthorizedAccount.selector;
        _refuses(error_, who);
        vm.prank(who);
        access.enrolWriter(FRESH, address(0), 0, false);
        _refuses(error_, who);
        vm.prank(who);
        access.revokeWriter(WRITER);
        _refuses(error_, who);
        vm.prank(who);
        access.addRecovery(FRESH);
        _refuses(error_, who);
        vm.prank(who);
        access.removeRecovery(PAPER);
        _refuses(error_, who);
        vm.prank(who);
        access.transferOwnership(FRESH);
    }

    // --- handovers

    function test_handover_is_recorded_for_its_place_in_the_chain() public {
        vm.setBlockhash(99, "parent");
        _expectEvent(address(access));
        emit Recovery.HandedOver(1, "key", PAPER);
        vm.prank(PAPER);
        access.handover("key", "parent");
        vm.assertEq(access.handovers(), 1, "count");
        (uint64 height, bytes32 key, address by) = access.handoverAt(1);
        vm.assertEq(height, 100, "height");
        vm.assertEq(key, "key", "key");
        vm.assertEq(by, PAPER, "by");
        _refuses(Recovery.UnknownHandover.selector, 0, 1);
        access.handoverAt(0);
        _refuses(Recovery.UnknownHandover.selector, 2, 1);
        access.handoverAt(2);
    }

    function test_handover_refuses_no_key_and_every_other_parent() public {
        vm.setBlockhash(98, "grandparent");
        vm.setBlockhash(99, "parent");
        _refuses(Recovery.ZeroKey.selector, PAPER);
        vm.prank(PAPER);
        access.handover(0, "parent");
        vm.expectRevert(
            abi.encodeWithSelector(Recovery.WrongParent.selector, bytes32("grandparent"), bytes32("parent"))
        );
        vm.prank(PAPER);
        access.handover("key", "grandparent");
    }

    /// A sealing key's thief, a writer or a removed recovery account cannot name a successor.
    function testFuzz_handover_is_for_recovery_accounts_alone(address who) public {
        vm.assume(who != OWNER && who != PAPER);
        vm.setBlockhash(99, "parent");
        _refuses(Recovery.NotRecovery.selector, who);
        vm.prank(who);
        access.handover("key", "parent");
        _removeRecovery(PAPER);
        _refuses(Recovery.NotRecovery.selector, PAPER);
        vm.prank(PAPER);
        access.handover("key", "parent");
        vm.assertEq(access.handovers(), 0, "none");
    }
}
