// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotEnrolled} from "../src/Errors.sol";
import {Vault} from "../src/Vault.sol";
import {Removal} from "../src/vault/Removal.sol";
import {Rules} from "../src/vault/Rules.sol";
import {Sessions} from "../src/vault/Sessions.sol";
import {Fixture} from "./Fixture.sol";
import {BurningPolicy, ExactPolicy, RawPolicy, ReenteringPolicy, RevertingPolicy, ToldPolicy} from "./Policies.sol";
import {vm} from "./Vm.sol";

contract RemovalTest is Fixture {
    ToldPolicy private told;

    function setUp() public override {
        super.setUp();
        told = new ToldPolicy();
        told.tell(SOURCE, true);
        _setPolicy(SOURCE, address(told));
    }

    function _mark(address who) private returns (uint64) {
        vm.prank(who);
        return vault.mark(SOURCE, "stripes", 7);
    }

    function _sweep(address who, uint64 epoch) private {
        vm.prank(who);
        vault.sweep(epoch);
    }

    // --- mark and sweep

    function test_marking_begins_an_epoch_and_sweeping_ends_it_once() public {
        _expectEvent(address(vault));
        emit Removal.Marked(1, SOURCE, "stripes", 7);
        vm.assertEq(_mark(WRITER), 1, "first");
        vm.assertEq(_mark(OWNER), 2, "second");
        vm.assertEq(vault.epoch(), 2, "epoch");
        _pass(1);
        _expectEvent(address(vault));
        emit Removal.Swept(1, PAPER);
        _sweep(PAPER, 1);

        (bytes32 source, bytes32 root, uint32 count, uint64 markedAt, bool swept) = vault.marking(1);
        vm.assertEq(source, SOURCE, "source");
        vm.assertEq(root, "stripes", "root");
        vm.assertEq(count, 7, "count");
        vm.assertEq(markedAt, block.timestamp - 1, "marked at");
        vm.assertTrue(swept, "swept");
        (,,,, swept) = vault.marking(2);
        vm.assertFalse(swept, "the other is not");
        _refuses(Removal.AlreadySwept.selector, bytes32(uint256(1)));
        _sweep(WRITER, 1);
    }

    function test_mark_and_sweep_refuse_nothing_and_the_unknown() public {
        vm.expectRevert(abi.encodeWithSelector(Removal.EmptyMarking.selector, SOURCE, bytes32("stripes")));
        vm.prank(WRITER);
        vault.mark(SOURCE, "stripes", 0);
        _mark(WRITER);
        _refuses(Removal.UnknownEpoch.selector, bytes32(0));
        _sweep(WRITER, 0);
        _refuses(Removal.UnknownEpoch.selector, bytes32(uint256(2)));
        _sweep(WRITER, 2);
        _refuses(Removal.UnknownEpoch.selector, bytes32(uint256(2)));
        vault.marking(2);
    }

    function testFuzz_only_the_enrolled_remove(address who) public {
        vm.assume(!access.isEnrolled(who));
        bytes32 id = _committed(SOURCE, "snapshot");
        _mark(WRITER);
        _refusesRemoval(who, id);
        _revoke(WRITER);
        _refusesRemoval(WRITER, id);
    }

    function _refusesRemoval(address who, bytes32 id) private {
        _refuses(NotEnrolled.selector, who);
        _mark(who);
        _refuses(NotEnrolled.selector, who);
        _sweep(who, 1);
        _refuses(NotEnrolled.selector, who);
        vm.prank(who);
        vault.forget(id);
    }

    // --- V4

    function test_sweep_waits_for_every_session_that_does_not_know_the_epoch() public {
        bytes32 older = _open(WRITER);
        uint64 expires = uint64(block.timestamp) + LEASE;
        uint64 epoch = _mark(WRITER);
        bytes32 newer = _open(OTHER_WRITER); // same block, after the mark: knows it
        _refusesSweep(epoch, older, expires);
        _pass(LEASE - 1);
        _refusesSweep(epoch, older, expires);
        _pass(1);
        vm.prank(OTHER_WRITER);
        vm.expectRevert(abi.encodeWithSelector(Sessions.SessionExpired.selector, newer, expires));
        vault.renewSession(newer, LEASE);
        _sweep(WRITER, epoch);
    }

    function _refusesSweep(uint64 epoch, bytes32 session, uint64 expires) private {
        vm.expectRevert(abi.encodeWithSelector(Sessions.SessionStillOpen.selector, session, uint64(0), expires));
        _sweep(WRITER, epoch);
    }

    function test_renewed_session_keeps_its_epoch_and_keeps_sweep_waiting() public {
        bytes32 older = _open(WRITER);
        uint64 epoch = _mark(WRITER);
        _pass(LEASE - 1);
        vm.prank(WRITER);
        vault.renewSession(older, LEASE);
        _pass(LEASE - 1);
        _refusesSweep(epoch, older, uint64(block.timestamp) + 1);
    }

    function test_sweep_passes_once_older_sessions_end_commit_or_lose_their_writer() public {
        bytes32 ends = _open(WRITER);
        bytes32 commits = _open(WRITER);
        _open(OTHER_WRITER);
        uint64 epoch = _mark(WRITER);
        vm.prank(WRITER);
        vault.endSession(ends);
        _commitAs(WRITER, _draft(commits, SOURCE, "snapshot"));
        _open(WRITER); // knows the epoch: does not hold it up
        _revoke(OTHER_WRITER);
        _sweep(WRITER, epoch);
    }

    function test_a_session_between_two_epochs_holds_up_the_second_alone() public {
        uint64 first = _mark(WRITER);
        bytes32 between = _open(WRITER);
        uint64 second = _mark(WRITER);
        _sweep(WRITER, first);
        bytes4 error_ = Sessions.SessionStillOpen.selector;
        vm.expectRevert(abi.encodeWithSelector(error_, between, first, uint64(block.timestamp) + LEASE));
        _sweep(WRITER, second);
    }

    // --- V3

    function test_policy_is_asked_about_exactly_this_removal() public {
        bytes32 id = _committed(SOURCE, "snapshot");
        uint64 committedAt = uint64(block.timestamp);
        _pass(9);
        _setPolicy(SOURCE, address(new ExactPolicy(PAPER, SOURCE, id, committedAt)));
        _refusedFor(WRITER, SOURCE, id);
        vm.prank(WRITER);
        vault.forget(id);
        vm.prank(PAPER);
        vault.forget(id);

        _setPolicy(SOURCE, address(new ExactPolicy(PAPER, SOURCE, "stripes", 0)));
        _refusedFor(WRITER, SOURCE, "stripes");
        _mark(WRITER);
        _mark(PAPER);
        _refusedFor(WRITER, SOURCE, "stripes");
        _sweep(WRITER, 1);
        _sweep(PAPER, 1);
    }

    function test_policy_decides_again_at_the_sweep() public {
        uint64 epoch = _mark(WRITER);
        told.tell(SOURCE, false);
        _refusedFor(WRITER, SOURCE, "stripes");
        _sweep(WRITER, epoch);
        told.tell(SOURCE, true);
        _sweep(WRITER, epoch);
    }

    /// The yes of one source's policy removes nothing of another's.
    function test_a_lax_source_does_not_open_a_strict_one() public {
        bytes32 id = _committed(OTHER_SOURCE, "snapshot");
        _refusedFor(OWNER, OTHER_SOURCE, id);
        vm.prank(OWNER);
        vault.forget(id); // the default policy: the floor has not passed
    }

    function _refusedFor(address who, bytes32 source, bytes32 object) private {
        bytes4 error_ = Rules.PolicyRefused.selector;
        vm.expectRevert(abi.encodeWithSelector(error_, address(vault.policyOf(source)), who, source, object));
    }

    // --- hostile policies

    /// Whatever a policy does but say a plain yes is a no, told by name, and never keeps a backup from its commit.
    function test_hostile_policies_refuse_removal_and_cannot_stop_a_commit() public {
        _hostile(address(new RevertingPolicy()));
        _hostile(address(new BurningPolicy()));
        _hostile(address(new RawPolicy(1, 0)));
        _hostile(address(new RawPolicy(1, 31)));
        _hostile(address(new RawPolicy(1, 64)));
        _hostile(address(new RawPolicy(0, 32)));
        _hostile(address(new RawPolicy(2, 32)));
        _hostile(address(new RawPolicy(uint256(1) << 255, 32)));
    }

    function _hostile(address hostile) private {
        _setPolicy(SOURCE, hostile);
        bytes32 id = _committed(SOURCE, keccak256(abi.encode(hostile)));
        bytes memory error_ = abi.encodeWithSelector(Rules.PolicyRefused.selector, hostile, OWNER, SOURCE, id);
        vm.expectRevert(error_);
        vm.prank(OWNER);
        vault.forget{gas: 3_000_000}(id);
        vm.assertFalse(vault.snapshot(id).forgotten, "kept");
        vm.expectRevert(abi.encodeWithSelector(Rules.PolicyRefused.selector, hostile, OWNER, SOURCE, bytes32("s")));
        vm.prank(OWNER);
        vault.mark{gas: 3_000_000}(SOURCE, "s", 1);
    }

    /// The same shape with a plain yes passes: the refusals above are not of the fixture's making.
    function test_plain_yes_passes() public {
        _setPolicy(SOURCE, address(new RawPolicy(1, 32)));
        bytes32 id = _committed(SOURCE, "snapshot");
        vm.prank(OWNER);
        vault.forget(id);
        vm.assertTrue(vault.snapshot(id).forgotten, "forgotten");
    }

    /// A policy that is itself owner of the vault still changes nothing while it is asked.
    function test_policy_cannot_call_back() public {
        ReenteringPolicy hostile = new ReenteringPolicy(vault);
        _setPolicy(SOURCE, address(hostile));
        bytes32 id = _committed(SOURCE, "snapshot");
        hostile.prepare(abi.encodeCall(vault.setDefaultRecipients, ("stolen")));
        vm.prank(OWNER);
        access.transferOwnership(address(hostile));
        vm.prank(address(hostile));
        access.acceptOwnership();
        _refusedFor(OWNER, SOURCE, id);
        vm.prank(OWNER);
        vault.forget{gas: 3_000_000}(id);
        vm.assertEq(vault.defaultRecipients(), RECIPIENTS, "unchanged");
    }
}
