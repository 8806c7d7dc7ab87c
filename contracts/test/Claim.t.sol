// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Access} from "../src/Access.sol";
import {Recovery} from "../src/access/Recovery.sol";
import {NotOwner} from "../src/Errors.sol";
import {OwnerAfterFloor} from "../src/OwnerAfterFloor.sol";
import {Vault} from "../src/Vault.sol";
import {vm} from "./Vm.sol";

/// How a ledger that nobody owns yet is claimed: it was begun with a throw-away account as owner, whose key whoever
/// begins to use the ledger is given. Every call is one that the contracts of version 1 have.
contract ClaimTest {
    /// Owner in genesis; its key lies in a file.
    address private constant THROW_AWAY = address(0xe001);
    /// The claimer's identity, paper key and writer.
    address private constant OWNER = address(0x1001);
    address private constant PAPER = address(0x1002);
    address private constant WRITER = address(0x2001);

    Access private access;
    Vault private vault;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.roll(100);
        access = new Access(THROW_AWAY, new address[](0));
        vault = new Vault(access, "vault of genesis", "recipients of genesis", new OwnerAfterFloor(access, 0));
    }

    /// The order of docs/design/contracts.md, section *Claiming a ledger*.
    function _claim() private {
        // Block 1, the throw-away account. From the next block on the offered owner may send.
        vm.prank(THROW_AWAY);
        access.transferOwnership(OWNER);
        vm.roll(block.number + 1);
        // Block 2, the new owner, in this order.
        vm.prank(OWNER);
        access.acceptOwnership();
        vm.prank(OWNER);
        access.addRecovery(PAPER);
        vm.prank(OWNER);
        access.removeRecovery(THROW_AWAY);
        vm.prank(OWNER);
        OwnerAfterFloor policy = new OwnerAfterFloor(access, 30 days);
        vm.prank(OWNER);
        vault.setDefaultPolicy(policy);
        vm.prank(OWNER);
        vault.setDefaultRecipients("recipients of the claimer");
        vm.prank(OWNER);
        vault.recordBag(1, "bag");
        vm.prank(OWNER);
        access.enrolWriter(WRITER, address(0), 0, false);
    }

    function test_an_unclaimed_ledger_looks_like_this() public view {
        vm.assertEq(access.owner(), THROW_AWAY, "owner");
        vm.assertEq(access.pendingOwner(), address(0), "offered");
        vm.assertEq(access.recoveryCount(), 1, "recovery");
        vm.assertEq(access.writerCount() + access.handovers(), 0, "writers and handovers");
        vm.assertEq(vault.snapshotCount() + vault.openSessionCount() + vault.epoch(), 0, "record");
        vm.assertEq(vault.bagVersion() + vault.moduleCount(), 0, "rules");
    }

    function test_the_claimer_is_the_owner_and_the_throw_away_account_is_nobody() public {
        _claim();
        vm.assertEq(access.owner(), OWNER, "owner");
        vm.assertEq(access.pendingOwner(), address(0), "offered");
        vm.assertTrue(access.isRecovery(OWNER) && access.isRecovery(PAPER), "recovery");
        vm.assertEq(access.recoveryCount(), 2, "no other recovery account");
        vm.assertFalse(access.isEnrolled(THROW_AWAY), "enrolled");
        vm.assertTrue(access.isWriter(WRITER), "writer");
        vm.assertEq(vault.defaultRecipients(), "recipients of the claimer", "recipients");
        vm.assertFalse(vault.isApproved("any", "recipients of genesis"), "recipients of genesis");
        vm.assertEq(OwnerAfterFloor(address(vault.defaultPolicy())).floorSeconds(), 30 days, "floor");
        vm.assertEq(vault.bagVersion(), 1, "bag");
    }

    function test_the_throw_away_account_can_do_nothing_after() public {
        _claim();
        bytes32 parent = "parent";
        vm.setBlockhash(block.number - 1, parent);
        _refused(address(access), abi.encodeCall(access.handover, ("key", parent)), Recovery.NotRecovery.selector);
        bytes4 stranger = Ownable.OwnableUnauthorizedAccount.selector;
        _refused(address(access), abi.encodeCall(access.transferOwnership, (THROW_AWAY)), stranger);
        _refused(address(access), abi.encodeCall(access.acceptOwnership, ()), stranger);
        _refused(address(access), abi.encodeCall(access.addRecovery, (THROW_AWAY)), stranger);
        _refused(address(vault), abi.encodeCall(vault.setDefaultRecipients, ("x")), NotOwner.selector);
    }

    /// Killed between the blocks, or raced: each step can be taken again, and the second claimer is told.
    function test_a_claim_that_stopped_half_way_goes_on() public {
        vm.prank(THROW_AWAY);
        access.transferOwnership(address(0xbad));
        vm.prank(THROW_AWAY);
        access.transferOwnership(OWNER); // the last offer counts
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(0xbad)));
        vm.prank(address(0xbad));
        access.acceptOwnership();
        _claim();
        vm.assertEq(access.owner(), OWNER, "owner");
    }

    /// The order matters: the paper key before the throw-away account goes is not required, but a last recovery account
    /// cannot go, and the owner is one as soon as it is owner.
    function test_the_throw_away_account_cannot_go_before_the_claimer_owns() public {
        vm.expectRevert(abi.encodeWithSelector(Recovery.LastRecovery.selector, THROW_AWAY));
        vm.prank(THROW_AWAY);
        access.removeRecovery(THROW_AWAY);
    }

    /// What genesis said for ever, and the claimer has to take as it is.
    function test_the_vault_id_and_the_addresses_stay() public {
        address before = address(vault.access());
        _claim();
        vm.assertEq(vault.vaultId(), "vault of genesis", "vault id");
        vm.assertEq(address(vault.access()), before, "access");
    }

    function _refused(address target, bytes memory call_, bytes4 error_) private {
        vm.prank(THROW_AWAY);
        (bool done, bytes memory answer) = target.call(call_);
        vm.assertTrue(!done && bytes4(answer) == error_, "the throw-away account was not refused");
    }
}
