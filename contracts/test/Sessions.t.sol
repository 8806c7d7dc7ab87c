// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotWriter} from "../src/Errors.sol";
import {Vault} from "../src/Vault.sol";
import {Sessions} from "../src/vault/Sessions.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

contract SessionsTest is Fixture {
    // --- the life of a session

    function test_opened_session_is_what_was_asked_for() public {
        uint64 expires = uint64(block.timestamp) + LEASE;
        bytes32 expected =
            keccak256(abi.encode(block.chainid, address(vault), uint256(1), WRITER, blockhash(block.number - 1)));
        _expectEvent(address(vault));
        emit Sessions.SessionOpened(expected, WRITER, 0, expires);
        bytes32 id = _open(WRITER);
        vm.assertEq(id, expected, "id");
        (address writer, uint64 epoch, uint64 openedAt, uint64 until, bool open) = vault.session(id);
        vm.assertEq(writer, WRITER, "writer");
        vm.assertEq(epoch, 0, "epoch");
        vm.assertEq(openedAt, block.timestamp, "opened at");
        vm.assertEq(until, expires, "expires");
        vm.assertTrue(open, "open");
        vm.assertEq(vault.openSessionCount(), 1, "count");
    }

    function test_sessions_of_one_block_and_of_forks_have_ids_of_their_own() public {
        bytes32 first = _open(WRITER);
        vm.assertTrue(first != _open(WRITER), "one block");
        vm.setBlockhash(block.number - 1, "another chain");
        Vault fork = new Vault(access, VAULT_ID, RECIPIENTS, policy);
        vm.prank(WRITER);
        vm.assertTrue(first != fork.openSession(LEASE), "fork");
    }

    function test_renewal_counts_from_now() public {
        bytes32 id = _open(WRITER);
        _pass(LEASE - 1);
        uint64 expires = uint64(block.timestamp) + 2 hours;
        _expectEvent(address(vault));
        emit Sessions.SessionRenewed(id, expires);
        vm.prank(WRITER);
        vault.renewSession(id, 2 hours);
        (,,, uint64 until, bool open) = vault.session(id);
        vm.assertEq(until, expires, "expires");
        vm.assertTrue(open, "open");
    }

    function test_ended_session_is_closed_to_everything() public {
        bytes32 id = _open(WRITER);
        _expectEvent(address(vault));
        emit Sessions.SessionEnded(id);
        vm.prank(WRITER);
        vault.endSession(id);
        vm.assertEq(vault.openSessionCount(), 0, "count");
        _refusesUse(id, WRITER, abi.encodeWithSelector(Sessions.SessionClosed.selector, id));
        _refuses(Sessions.SessionClosed.selector, id);
        vm.prank(WRITER);
        vault.endSession(id);
    }

    function test_committed_session_is_closed_to_everything() public {
        bytes32 id = _open(WRITER);
        _commitAs(WRITER, _draft(id, SOURCE, "snapshot"));
        _refusesUse(id, WRITER, abi.encodeWithSelector(Sessions.SessionClosed.selector, id));
        vm.assertEq(vault.openSessionCount(), 0, "count");
    }

    /// The lease ends with its last second: at `expires` nothing of it is left.
    function test_expired_session_neither_commits_nor_renews_but_may_be_ended() public {
        bytes32 id = _open(WRITER);
        uint64 expires = uint64(block.timestamp) + LEASE;
        _pass(LEASE);
        _refusesUse(id, WRITER, abi.encodeWithSelector(Sessions.SessionExpired.selector, id, expires));
        vm.assertEq(vault.openSessionCount(), 0, "not counted");
        vm.prank(WRITER);
        vault.endSession(id);
    }

    function test_session_commits_in_the_last_second_of_its_lease() public {
        bytes32 id = _open(WRITER);
        _pass(LEASE - 1);
        _commitAs(WRITER, _draft(id, SOURCE, "snapshot"));
        vm.assertEq(vault.snapshotCount(), 1, "committed");
    }

    // --- who

    function testFuzz_session_of_one_writer_cannot_be_used_by_another(address who) public {
        vm.assume(who != WRITER);
        bytes32 id = _open(WRITER);
        _refusesOther(id, who);
        _refusesOther(id, OTHER_WRITER);
        _refusesOther(id, OWNER);
    }

    function _refusesOther(bytes32 id, address who) private {
        bytes memory error_ = abi.encodeWithSelector(Sessions.NotSessionWriter.selector, id, who);
        _refusesUse(id, who, error_);
        vm.expectRevert(error_);
        vm.prank(who);
        vault.endSession(id);
    }

    function test_revoked_writer_with_an_open_session_neither_commits_nor_renews() public {
        bytes32 id = _open(WRITER);
        _revoke(WRITER);
        _refusesUse(id, WRITER, abi.encodeWithSelector(NotWriter.selector, WRITER));
        vm.assertEq(vault.openSessionCount(), 0, "not live");
        vm.prank(WRITER);
        vault.endSession(id); // giving up stays allowed
    }

    function testFuzz_only_writers_open(address who) public {
        vm.assume(who != WRITER && who != OTHER_WRITER);
        _refuses(NotWriter.selector, who);
        _open(who);
        _refuses(NotWriter.selector, OWNER);
        _open(OWNER);
    }

    function testFuzz_unknown_session_is_refused(bytes32 id) public {
        bytes memory error_ = abi.encodeWithSelector(Sessions.UnknownSession.selector, id);
        _refusesUse(id, WRITER, error_);
        vm.expectRevert(error_);
        vm.prank(WRITER);
        vault.endSession(id);
        vm.expectRevert(error_);
        vault.session(id);
    }

    /// `who` can neither commit in the session nor renew it.
    function _refusesUse(bytes32 id, address who, bytes memory error_) private {
        vm.expectRevert(error_);
        _commitAs(who, _draft(id, SOURCE, "refused"));
        vm.expectRevert(error_);
        vm.prank(who);
        vault.renewSession(id, LEASE);
    }

    // --- bounds

    function testFuzz_lease_is_a_minute_to_a_week(uint64 lease) public {
        bytes32 id = _open(WRITER);
        if (lease < 60 || lease > 7 days) {
            bytes memory error_ =
                abi.encodeWithSelector(Sessions.LeaseOutOfRange.selector, lease, uint64(60), uint64(7 days));
            vm.expectRevert(error_);
            vm.prank(WRITER);
            vault.openSession(lease);
            vm.expectRevert(error_);
            vm.prank(WRITER);
            vault.renewSession(id, lease);
        } else {
            vm.prank(WRITER);
            vault.openSession(lease);
            vm.prank(WRITER);
            vault.renewSession(id, lease);
            vm.assertEq(vault.openSessionCount(), 2, "count");
        }
    }

    function test_lease_limits_themselves_are_allowed_and_their_neighbours_not() public {
        vm.prank(WRITER);
        vault.openSession(60);
        vm.prank(WRITER);
        vault.openSession(7 days);
        bytes4 error_ = Sessions.LeaseOutOfRange.selector;
        vm.expectRevert(abi.encodeWithSelector(error_, uint64(59), uint64(60), uint64(7 days)));
        vm.prank(WRITER);
        vault.openSession(59);
        vm.expectRevert(abi.encodeWithSelector(error_, uint64(7 days + 1), uint64(60), uint64(7 days)));
        vm.prank(WRITER);
        vault.openSession(7 days + 1);
    }

    function test_the_257th_live_session_is_refused_until_one_ends() public {
        bytes32 first = _open(WRITER);
        for (uint256 i = 1; i < 256; i++) {
            _open(WRITER);
        }
        _refuses(Sessions.TooManySessions.selector, bytes32(uint256(256)));
        _open(OTHER_WRITER);
        vm.prank(WRITER);
        vault.endSession(first);
        _open(OTHER_WRITER);
        vm.assertEq(vault.openSessionCount(), 256, "full");
    }

    /// A thief with a writer's key can fill the list; revoking the writer frees it at once, not after a week.
    function test_sessions_of_a_revoked_writer_free_their_places() public {
        for (uint256 i = 0; i < 256; i++) {
            vm.prank(WRITER);
            vault.openSession(7 days);
        }
        _refuses(Sessions.TooManySessions.selector, bytes32(uint256(256)));
        _open(OTHER_WRITER);
        _revoke(WRITER);
        bytes32 id = _open(OTHER_WRITER);
        vm.assertEq(vault.openSessionCount(), 1, "cleared");
        vm.assertEq(vault.openSessions()[0], id, "the new one");
    }

    /// While there is room nobody pays for the dead: the walk is made when the list is full.
    function test_dead_sessions_stay_until_the_list_is_full() public {
        _open(WRITER);
        _pass(LEASE);
        bytes32 id = _open(OTHER_WRITER);
        vm.assertEq(vault.openSessionCount(), 1, "live");
        vm.assertEq(vault.openSessions()[0], id, "the new one");
        uint256 before = gasleft();
        for (uint256 i = 2; i < 256; i++) {
            _open(OTHER_WRITER);
        }
        vm.assertTrue(before - gasleft() < 254 * 150_000, "each at the price of the first");
        _open(OTHER_WRITER);
        vm.assertEq(vault.openSessionCount(), 256, "the dead one made room");
        _refuses(Sessions.TooManySessions.selector, bytes32(uint256(256)));
        _open(OTHER_WRITER);
    }

    /// Clearing a full list ends each dead session with its event and keeps the live ones, wherever they stand.
    function testFuzz_clearing_keeps_exactly_the_live(uint256 longLived) public {
        bytes32[12] memory ids;
        uint256 expected = 0;
        for (uint256 i = 0; i < ids.length; i++) {
            bool long = (longLived >> i) & 1 == 1;
            vm.prank(WRITER);
            ids[i] = vault.openSession(long ? 2 hours : 1 hours);
            if (long) expected++;
        }
        bytes32[244] memory others;
        for (uint256 i = 0; i < others.length; i++) {
            vm.prank(WRITER);
            others[i] = vault.openSession(1 hours);
        }
        _pass(1 hours);
        for (uint256 i = others.length; i > 0; i--) {
            _expectEvent(address(vault));
            emit Sessions.SessionEnded(others[i - 1]);
        }
        for (uint256 i = ids.length; i > 0; i--) {
            if ((longLived >> (i - 1)) & 1 == 1) continue;
            _expectEvent(address(vault));
            emit Sessions.SessionEnded(ids[i - 1]);
        }
        _open(OTHER_WRITER);
        vm.assertEq(vault.openSessionCount(), expected + 1, "count");
        for (uint256 i = 0; i < ids.length; i++) {
            (,,,, bool open) = vault.session(ids[i]);
            vm.assertTrue(open == ((longLived >> i) & 1 == 1), "open");
            if (open) _commitAs(WRITER, _draft(ids[i], SOURCE, bytes32(i + 1)));
        }
    }

    /// The worst case of clearing, and of looking through the whole list at a sweep.
    function test_full_list_is_bounded_work() public {
        for (uint256 i = 0; i < 256; i++) {
            _open(WRITER);
        }
        vm.prank(OWNER);
        uint64 epoch = vault.mark(SOURCE, "stripes", 1);
        _pass(LEASE);
        uint256 before = gasleft();
        vm.prank(OWNER);
        vault.sweep(epoch);
        vm.assertTrue(before - gasleft() < 2_500_000, "sweep");
        before = gasleft();
        _open(OTHER_WRITER);
        vm.assertTrue(before - gasleft() < 6_000_000, "clearing");
        vm.assertEq(vault.openSessionCount(), 1, "cleared");
    }
}
