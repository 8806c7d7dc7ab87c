// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {NotAContract, NotOwner, OutOfRange} from "../src/Errors.sol";
import {IPolicy} from "../src/IPolicy.sol";
import {OwnerAfterFloor} from "../src/OwnerAfterFloor.sol";
import {Vault} from "../src/Vault.sol";
import {Rules} from "../src/vault/Rules.sol";
import {Fixture} from "./Fixture.sol";
import {ToldPolicy} from "./Policies.sol";
import {vm} from "./Vm.sol";

contract RulesTest is Fixture {
    // --- construction

    function test_construction_sets_the_rules() public {
        _expectEvent(_nextContract());
        emit Rules.DefaultRecipientsSet("set");
        _expectEvent(_nextContract());
        emit Rules.DefaultPolicySet(address(policy));
        Vault fresh = new Vault(access, "id", "set", policy);
        vm.assertEq(address(fresh.access()), address(access), "access");
        vm.assertEq(fresh.vaultId(), "id", "id");
        vm.assertEq(fresh.defaultRecipients(), "set", "set");
        vm.assertEq(address(fresh.defaultPolicy()), address(policy), "policy");
        vm.assertEq(fresh.bagVersion(), 0, "no bag");
    }

    function test_construction_refuses_what_could_never_work() public {
        _refuses(NotAContract.selector, STRANGER);
        new Vault(Access(STRANGER), VAULT_ID, RECIPIENTS, policy);
        _refuses(Rules.ZeroVaultId.selector);
        new Vault(access, 0, RECIPIENTS, policy);
        _refuses(Rules.ZeroRecipients.selector, bytes32(0));
        new Vault(access, VAULT_ID, 0, policy);
        _refuses(NotAContract.selector, address(0));
        new Vault(access, VAULT_ID, RECIPIENTS, IPolicy(address(0)));
        _refuses(NotAContract.selector, STRANGER);
        new OwnerAfterFloor(Access(STRANGER), FLOOR);
    }

    function _nextContract() private view returns (address) {
        // Nonces below 128 are one byte; the fixture made three contracts.
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"d694", address(this), uint8(4))))));
    }

    // --- policies

    function test_a_source_has_its_own_policy_or_the_default_one() public {
        ToldPolicy own = new ToldPolicy();
        vm.assertEq(address(vault.policyOf(SOURCE)), address(policy), "default");
        _expectEvent(address(vault));
        emit Rules.PolicySet(SOURCE, address(own));
        _setPolicy(SOURCE, address(own));
        vm.assertEq(address(vault.policyOf(SOURCE)), address(own), "own");
        vm.assertEq(address(vault.policyOf(OTHER_SOURCE)), address(policy), "other");

        _setPolicy(SOURCE, address(0));
        vm.assertEq(address(vault.policyOf(SOURCE)), address(policy), "default again");
        _expectEvent(address(vault));
        emit Rules.DefaultPolicySet(address(own));
        vm.prank(OWNER);
        vault.setDefaultPolicy(own);
        vm.assertEq(address(vault.policyOf(SOURCE)), address(own), "new default");
    }

    function test_a_policy_without_code_is_refused() public {
        _refuses(NotAContract.selector, STRANGER);
        _setPolicy(SOURCE, STRANGER);
        _refuses(NotAContract.selector, STRANGER);
        vm.prank(OWNER);
        vault.setDefaultPolicy(IPolicy(STRANGER));
        _refuses(NotAContract.selector, address(0));
        vm.prank(OWNER);
        vault.setDefaultPolicy(IPolicy(address(0)));
    }

    /// The floor is exact to the second and also holds where its sum passes 64 bits.
    function testFuzz_owner_after_floor(address who, uint64 committedAt, uint64 floor, uint256 passed) public {
        OwnerAfterFloor some = new OwnerAfterFloor(access, floor);
        uint256 now_ = passed % (uint256(type(uint64).max) * 2);
        vm.warp(now_);
        bool old = now_ >= uint256(committedAt) + uint256(floor);
        vm.assertTrue(some.mayRemove(OWNER, SOURCE, "snapshot", committedAt) == old, "owner");
        vm.assertTrue(some.mayRead(OWNER, SOURCE, "snapshot"), "owner reads");
        if (who == OWNER) return;
        vm.assertFalse(some.mayRemove(who, SOURCE, "snapshot", committedAt), "nobody else");
        vm.assertFalse(some.mayRead(who, SOURCE, "snapshot"), "nobody else reads");
    }

    function test_owner_after_floor_follows_the_owner_to_the_second() public {
        vm.warp(1_000_000 + FLOOR - 1);
        vm.assertFalse(policy.mayRemove(OWNER, SOURCE, "snapshot", 1_000_000), "a second early");
        vm.warp(1_000_000 + FLOOR);
        vm.assertTrue(policy.mayRemove(OWNER, SOURCE, "snapshot", 1_000_000), "on time");
        vm.prank(OWNER);
        access.transferOwnership(PAPER);
        vm.prank(PAPER);
        access.acceptOwnership();
        vm.assertFalse(policy.mayRemove(OWNER, SOURCE, "snapshot", 1_000_000), "former");
        vm.assertTrue(policy.mayRemove(PAPER, SOURCE, "snapshot", 1_000_000), "new");
        vm.assertEq(policy.floorSeconds(), FLOOR, "floor");
        vm.assertEq(address(policy.access()), address(access), "access");
    }

    // --- recipients

    function test_recipients_are_the_default_or_approved_for_the_source() public {
        vm.assertTrue(vault.isApproved(SOURCE, RECIPIENTS), "default");
        vm.assertFalse(vault.isApproved(SOURCE, "set"), "not yet");
        vm.assertFalse(vault.isApproved(SOURCE, 0), "zero");
        _expectEvent(address(vault));
        emit Rules.RecipientsApproved(SOURCE, "set", true);
        _approve(SOURCE, "set", true);
        vm.assertTrue(vault.isApproved(SOURCE, "set"), "approved");
        vm.assertFalse(vault.isApproved(OTHER_SOURCE, "set"), "for this source alone");
        _expectEvent(address(vault));
        emit Rules.RecipientsApproved(SOURCE, "set", false);
        _approve(SOURCE, "set", false);
        vm.assertFalse(vault.isApproved(SOURCE, "set"), "withdrawn");

        _expectEvent(address(vault));
        emit Rules.DefaultRecipientsSet("new");
        vm.prank(OWNER);
        vault.setDefaultRecipients("new");
        vm.assertFalse(vault.isApproved(SOURCE, RECIPIENTS), "former default");
        vm.assertTrue(vault.isApproved(SOURCE, "new"), "new default");
    }

    function test_zero_recipients_are_refused() public {
        _refuses(Rules.ZeroRecipients.selector, bytes32(0));
        vm.prank(OWNER);
        vault.setDefaultRecipients(0);
        _refuses(Rules.ZeroRecipients.selector, SOURCE);
        _approve(SOURCE, 0, true);
    }

    function _approve(bytes32 source, bytes32 set, bool approved) private {
        vm.prank(OWNER);
        vault.approveRecipients(source, set, approved);
    }

    // --- key bag and modules

    function test_bag_versions_rise_by_one() public {
        _expectEvent(address(vault));
        emit Rules.BagRecorded(1, "bag 1");
        _recordBag(1, "bag 1");
        _recordBag(2, "bag 2");
        vm.assertEq(vault.bagVersion(), 2, "version");
        vm.assertEq(vault.bagHash(), "bag 2", "hash");
        _refuses(Rules.ZeroBag.selector, bytes32(uint256(3)));
        _recordBag(3, 0);
    }

    function testFuzz_any_other_bag_version_is_refused(uint32 version) public {
        _recordBag(1, "bag 1");
        vm.assume(version != 2);
        _refuses(Rules.WrongBagVersion.selector, version, 2);
        _recordBag(version, "bag");
    }

    function _recordBag(uint32 version, bytes32 hash) private {
        vm.prank(OWNER);
        vault.recordBag(version, hash);
    }

    function test_modules_are_listed_once_and_may_be_retired() public {
        _expectEvent(address(vault));
        emit Rules.ModuleSet("audits", address(policy));
        _setModule("audits", address(policy));
        _setModule("guardians", address(access));
        _setModule("audits", address(access));
        vm.assertEq(vault.module("audits"), address(access), "replaced");
        _expectEvent(address(vault));
        emit Rules.ModuleSet("audits", address(0));
        _setModule("audits", address(0));
        vm.assertEq(vault.module("audits"), address(0), "retired");
        _setModule("audits", address(policy));
        vm.assertEq(vault.moduleCount(), 2, "count");
        vm.assertEq(vault.moduleNameAt(0), "audits", "first");
        vm.assertEq(vault.moduleNameAt(1), "guardians", "second");
        _refuses(OutOfRange.selector, 2, 2);
        vault.moduleNameAt(2);
        _refuses(NotAContract.selector, STRANGER);
        _setModule("audits", STRANGER);
    }

    function _setModule(bytes32 name, address target) private {
        vm.prank(OWNER);
        vault.setModule(name, target);
    }

    // --- who

    /// Every rule is the owner's alone, and the owner is the one of now.
    function testFuzz_rules_refuse_everyone_but_the_owner(address who) public {
        vm.assume(who != OWNER);
        _refusesRules(who);
        _refusesRules(WRITER);
        _refusesRules(PAPER);
        vm.prank(OWNER);
        access.transferOwnership(PAPER);
        _refusesRules(PAPER); // offered is not accepted
        vm.prank(PAPER);
        access.acceptOwnership();
        _refusesRules(OWNER);
    }

    function _refusesRules(address who) private {
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.setPolicy(SOURCE, policy);
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.setDefaultPolicy(policy);
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.setDefaultRecipients("set");
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.approveRecipients(SOURCE, "set", true);
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.recordBag(1, "bag");
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.setModule("name", address(policy));
        _refuses(NotOwner.selector, who);
        vm.prank(who);
        vault.recordReaderVerified("list");
    }
}
