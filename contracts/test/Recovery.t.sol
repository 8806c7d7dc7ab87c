// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Recovery} from "../src/access/Recovery.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// Handovers by several.
contract RecoveryTest is Fixture {
    address private constant FRESH = address(0x4001);
    bytes32 private constant KEY = "key";
    bytes32 private constant PARENT = "parent";

    /// Secrets of accounts in ascending order of the accounts, all of them recovery accounts beside `OWNER` and `PAPER`.
    uint256[] private _secrets;

    function setUp() public override {
        super.setUp();
        vm.setBlockhash(99, PARENT);
        for (uint256 secret = 1; secret <= 4; secret++) {
            uint256 place = _secrets.length;
            _secrets.push(secret);
            for (; place > 0 && vm.addr(_secrets[place - 1]) > vm.addr(secret); place--) {
                _secrets[place] = _secrets[place - 1];
            }
            _secrets[place] = secret;
        }
        _change(_accounts(), new address[](0), 3, new bytes[](0));
    }

    // --- handovers

    function test_it_takes_as_many_as_the_threshold_says() public {
        vm.assertEq(access.recoveryThreshold(), 3, "three");
        bytes32 digest = access.handoverDigest(KEY, PARENT);
        _refuses(Recovery.TooFewRecoveries.selector, 1, 3);
        vm.prank(PAPER);
        access.handover(KEY, PARENT);
        _refusesHandover(PAPER, _signed(digest, 0, 1), 2);
        vm.expectEmit(true, true, true, true, address(access));
        emit Recovery.HandedOver(1, KEY, PAPER);
        vm.prank(PAPER);
        access.handoverWith(KEY, PARENT, _signed(digest, 0, 2));
        vm.assertEq(access.handovers(), 1, "one");
    }

    /// Signatures count once each, only those of recovery accounts, only for this key, parent, chain and contract.
    function test_what_is_no_word_of_another_recovery_account_counts_nothing() public {
        bytes32 digest = access.handoverDigest(KEY, PARENT);
        bytes[] memory two = _signed(digest, 0, 2);
        (two[0], two[1]) = (two[1], two[0]);
        _refusesHandover(PAPER, two, 2);
        two[0] = two[1];
        _refusesHandover(PAPER, two, 2);
        // The sender is one already.
        _refusesHandover(vm.addr(_secrets[0]), _signed(digest, 0, 2), 2);
        _refusesHandover(PAPER, _signed(access.handoverDigest("other", PARENT), 0, 2), 1);
        _refusesHandover(PAPER, _signed(access.handoverDigest(KEY, "other"), 0, 2), 1);
        two = _signed(digest, 0, 2);
        two[1] = _sign(77, digest);
        _refusesHandover(PAPER, two, 2);
        two[1] = "no signature";
        _refusesHandover(PAPER, two, 2);
        vm.chainId(block.chainid + 1);
        _refusesHandover(PAPER, _signed(digest, 0, 2), 1);
    }

    function testFuzz_signatures_give_no_right_to_send(address who) public {
        vm.assume(!access.isRecovery(who));
        bytes[] memory all = _signed(access.handoverDigest(KEY, PARENT), 0, 4);
        _refuses(Recovery.NotRecovery.selector, who);
        vm.prank(who);
        access.handoverWith(KEY, PARENT, all);
        vm.assertFalse(access.mayHandOver(who, KEY, PARENT, all), "the view agrees");
    }

    /// The view is what the call does, but for the parent.
    function testFuzz_the_view_says_what_the_call_does(uint256 seed, uint256 from, uint256 count) public {
        from = from % 4;
        bytes32 digest = access.handoverDigest(KEY, PARENT);
        bytes[] memory approvals = _signed(digest, from, count % (5 - from));
        address by = seed % 2 == 0 ? PAPER : vm.addr(_secrets[seed % 4]);
        bool may = access.mayHandOver(by, KEY, PARENT, approvals);
        vm.prank(by);
        try access.handoverWith(KEY, PARENT, approvals) {
            vm.assertTrue(may, "it may");
        } catch {
            vm.assertFalse(may, "it may not");
        }
    }

    function test_key_and_parent_are_asked_for_as_of_one_alone() public {
        bytes[] memory approvals = _signed(access.handoverDigest(0, PARENT), 0, 2);
        _refuses(Recovery.ZeroKey.selector, PAPER);
        vm.prank(PAPER);
        access.handoverWith(0, PARENT, approvals);
        approvals = _signed(access.handoverDigest(KEY, "grandparent"), 0, 2);
        vm.expectRevert(abi.encodeWithSelector(Recovery.WrongParent.selector, bytes32("grandparent"), PARENT));
        vm.prank(PAPER);
        access.handoverWith(KEY, "grandparent", approvals);
    }

    // --- changes

    /// The owner alone could else be all of them.
    function test_the_owner_alone_changes_nothing_once_it_takes_more() public {
        _refuses(Recovery.TooFewRecoveries.selector, 1, 3);
        vm.prank(OWNER);
        access.addRecovery(FRESH);
        _refuses(Recovery.TooFewRecoveries.selector, 1, 3);
        vm.prank(OWNER);
        access.removeRecovery(PAPER);
        address[] memory none = new address[](0);
        _refuses(Recovery.TooFewRecoveries.selector, 1, 3);
        _change(none, none, 1, new bytes[](0));
        vm.prank(OWNER);
        access.transferOwnership(FRESH);
        vm.prank(FRESH);
        access.acceptOwnership();
        vm.assertFalse(access.isRecovery(FRESH), "the new owner has no word");
        vm.assertEq(access.recoveryCount(), 6, "nor has anybody else come");
        bytes[] memory others = _signed(access.recoveryChangeDigest(none, none, 1), 0, 2);
        _refuses(Recovery.TooFewRecoveries.selector, 2, 3);
        vm.prank(FRESH);
        access.changeRecovery(none, none, 1, others);
    }

    function test_as_many_as_it_takes_change_them_once() public {
        address[] memory none = new address[](0);
        bytes[] memory approvals = _signed(access.recoveryChangeDigest(_one(FRESH), _one(PAPER), 2), 0, 2);
        vm.expectEmit(true, true, true, true, address(access));
        emit Recovery.RecoveryAdded(FRESH);
        vm.expectEmit(true, true, true, true, address(access));
        emit Recovery.RecoveryRemoved(PAPER);
        vm.expectEmit(true, true, true, true, address(access));
        emit Recovery.RecoveryThresholdSet(2);
        _change(_one(FRESH), _one(PAPER), 2, approvals);
        vm.assertEq(access.recoveryThreshold(), 2, "two");
        // The same signatures say nothing of a later change.
        _refuses(Recovery.TooFewRecoveries.selector, 1, 2);
        _change(_one(FRESH), _one(PAPER), 2, approvals);
        _change(none, none, 1, _signed(access.recoveryChangeDigest(none, none, 1), 0, 1));
        vm.prank(OWNER);
        access.addRecovery(PAPER);
    }

    function test_a_threshold_that_nobody_could_reach_is_refused() public {
        address[] memory none = new address[](0);
        for (uint256 i = 0; i < 2; i++) {
            uint256 wrong = i == 0 ? 0 : 7;
            bytes[] memory approvals = _signed(access.recoveryChangeDigest(none, none, wrong), 0, 2);
            _refuses(Recovery.WrongRecoveryThreshold.selector, wrong, 6);
            _change(none, none, wrong, approvals);
        }
        address[] memory others = _accounts();
        bytes[] memory word = _signed(access.recoveryChangeDigest(none, others, 3), 0, 2);
        _refuses(Recovery.WrongRecoveryThreshold.selector, 3, 2);
        _change(none, others, 3, word);
    }

    function testFuzz_changes_are_the_owners(address who) public {
        vm.assume(who != OWNER);
        address[] memory none = new address[](0);
        bytes[] memory all = _signed(access.recoveryChangeDigest(none, none, 1), 0, 4);
        _refuses(Ownable.OwnableUnauthorizedAccount.selector, who);
        vm.prank(who);
        access.changeRecovery(none, none, 1, all);
    }

    // --- inside

    function _change(address[] memory added, address[] memory removed, uint256 threshold, bytes[] memory approvals)
        private
    {
        vm.prank(OWNER);
        access.changeRecovery(added, removed, threshold, approvals);
    }

    function _refusesHandover(address by, bytes[] memory approvals, uint256 given) private {
        vm.assertFalse(access.mayHandOver(by, KEY, PARENT, approvals), "the view");
        _refuses(Recovery.TooFewRecoveries.selector, given, 3);
        vm.prank(by);
        access.handoverWith(KEY, PARENT, approvals);
    }

    function _accounts() private view returns (address[] memory accounts) {
        accounts = new address[](_secrets.length);
        for (uint256 i = 0; i < accounts.length; i++) {
            accounts[i] = vm.addr(_secrets[i]);
        }
    }

    function _signed(bytes32 digest, uint256 from, uint256 count) private view returns (bytes[] memory signatures) {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            signatures[i] = _sign(_secrets[from + i], digest);
        }
    }

    function _sign(uint256 secret, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }
}
