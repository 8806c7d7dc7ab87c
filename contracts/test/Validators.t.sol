// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Access} from "../src/Access.sol";
import {NotAContract, NotEnrolled, OutOfRange} from "../src/Errors.sol";
import {Validators} from "../src/Validators.sol";
import {Governors} from "../src/validators/Governors.sol";
import {Change, Role, Sets, Validator} from "../src/validators/Sets.sol";
import {ValidatorsFixture} from "./ValidatorsFixture.sol";
import {vm} from "./Vm.sol";

contract ValidatorsTest is ValidatorsFixture {
    // --- making it

    function test_the_first_set_is_in_force_at_once() public {
        vm.assertEq(validators.epoch(), 10, "epoch");
        Validator[] memory set = validators.setOf(10);
        vm.assertEq(set.length, 5, "members");
        vm.assertEq(validators.setHashOf(10), keccak256(abi.encode(_first(4, 1))), "hash");
        vm.assertEq(keccak256(abi.encode(set)), validators.setHashOf(10), "hash of set");
        vm.assertEq(validators.setCount(), 1, "sets");
        vm.assertEq(validators.keyOf(10), GROUP_KEY, "key");
        vm.expectRevert(abi.encodeWithSelector(Sets.EpochBeforeFirst.selector, 9, 10));
        validators.setOf(9);
        _refuses(OutOfRange.selector, 1, 1);
        validators.setAt(1);
    }

    function test_a_set_of_two_or_three_or_none_is_refused() public {
        for (uint256 count = 0; count < 4; count++) {
            if (count == 1) continue;
            vm.expectRevert(abi.encodeWithSelector(Sets.TooFewValidators.selector, count, 4));
            new Validators(access, _setup(Validators.Scheme.Threshold), _first(count, 4));
        }
        new Validators(access, _setup(Validators.Scheme.Threshold), _first(1, 0));
    }

    function test_a_setup_that_makes_no_sense_is_refused() public {
        Validators.Setup memory setup = _setup(Validators.Scheme.Threshold);
        _refuses(NotAContract.selector, STRANGER);
        new Validators(Access(STRANGER), setup, _first(4, 0));
        setup.keyHash = 0;
        _refuses(Validators.ZeroKeyHash.selector);
        new Validators(access, setup, _first(4, 0));
        setup = _setup(Validators.Scheme.Threshold);
        setup.epochLength = 0;
        _refuses(Sets.WrongEpochLength.selector, 0, LEAD);
        new Validators(access, setup, _first(4, 0));
        setup.epochLength = EPOCH;
        setup.lead = 0;
        _refuses(Sets.WrongEpochLength.selector, EPOCH, 0);
        new Validators(access, setup, _first(4, 0));
        setup.lead = 17;
        _refuses(Sets.WrongEpochLength.selector, EPOCH, 17);
        new Validators(access, setup, _first(4, 0));
        setup = _setup(Validators.Scheme.Threshold);
        setup.threshold = 4;
        _refuses(Governors.WrongThreshold.selector, 4, 3);
        new Validators(access, setup, _first(4, 0));
        setup.threshold = 0;
        _refuses(Governors.WrongThreshold.selector, 0, 3);
        new Validators(access, setup, _first(4, 0));
        setup.threshold = 2;
        setup.governors[2] = setup.governors[0];
        _refuses(Governors.RepeatedGovernor.selector, setup.governors[0]);
        new Validators(access, setup, _first(4, 0));
        setup.governors[2] = address(0);
        _refuses(Governors.NotGovernor.selector, address(0));
        new Validators(access, setup, _first(4, 0));
        setup.governors = new address[](17);
        _refuses(Governors.TooManyGovernors.selector, 17, 16);
        new Validators(access, setup, _first(4, 0));
    }

    // --- approvals

    function test_a_change_needs_as_many_governors_as_the_threshold_says() public {
        Change[] memory changes = _list(_add(9, Role.Validator));
        bytes32 proposal = validators.proposalId(changes);
        _refuses(Governors.NotGovernor.selector, OWNER);
        vm.prank(OWNER);
        validators.propose(changes);
        vm.prank(vm.addr(KEY_A));
        validators.propose(changes);
        _refusesApproval(Governors.AlreadyApproved.selector, proposal, vm.addr(KEY_A));
        vm.prank(vm.addr(KEY_A));
        validators.approve(proposal);
        vm.expectRevert(abi.encodeWithSelector(Governors.TooFewApprovals.selector, proposal, 1, 2));
        validators.enact(changes);
        vm.prank(vm.addr(KEY_C));
        validators.approve(proposal);
        vm.assertEq(validators.approvals(proposal), 2, "approvals");
        vm.assertTrue(validators.hasApproved(proposal, vm.addr(KEY_C)), "by");
        _expectEvent(address(validators));
        emit Validators.Enacted(proposal, 1, 12);
        vm.prank(STRANGER);
        validators.enact(changes);
    }

    function test_a_governor_may_sign_instead_of_sending() public {
        Change[] memory changes = _list(_add(9, Role.Follower));
        bytes32 proposal = validators.proposalId(changes);
        validators.approveBySignature(proposal, _signed(KEY_A, proposal));
        bytes memory signature = _signed(KEY_A, proposal);
        _refusesApproval(Governors.AlreadyApproved.selector, proposal, vm.addr(KEY_A));
        validators.approveBySignature(proposal, signature);
        signature = _signed(0xdd, proposal);
        _refuses(Governors.NotGovernor.selector, vm.addr(0xdd));
        validators.approveBySignature(proposal, signature);
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 3));
        validators.approveBySignature(proposal, hex"010203");
        validators.approveBySignature(proposal, _signed(KEY_B, proposal));
        validators.enact(changes);
    }

    function test_the_digest_is_that_of_eip_712() public view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Blockhouse Validators"),
                keccak256("1"),
                block.chainid,
                address(validators)
            )
        );
        bytes32 message = keccak256(abi.encode(keccak256("Approval(bytes32 proposal)"), bytes32("p")));
        bytes32 digest = keccak256(abi.encodePacked(bytes2(0x1901), domain, message));
        vm.assertEq(validators.approvalDigest("p"), digest, "digest");
    }

    function test_an_approval_can_be_withdrawn_and_its_signature_does_not_bring_it_back() public {
        Change[] memory changes = _list(_add(9, Role.Validator));
        bytes32 proposal = validators.proposalId(changes);
        bytes memory signature = _signed(KEY_A, proposal);
        validators.approveBySignature(proposal, signature);
        vm.prank(vm.addr(KEY_A));
        validators.withdrawApproval(proposal);
        vm.assertEq(validators.approvals(proposal), 0, "withdrawn");
        _refusesApproval(Governors.Withdrawn.selector, proposal, vm.addr(KEY_A));
        validators.approveBySignature(proposal, signature);
        _refusesApproval(Governors.NotApproved.selector, proposal, vm.addr(KEY_A));
        vm.prank(vm.addr(KEY_A));
        validators.withdrawApproval(proposal);
        vm.prank(vm.addr(KEY_A));
        validators.approve(proposal);
        vm.assertEq(validators.approvals(proposal), 1, "again");
    }

    /// Q2: what was approved for one set is void for the next.
    function test_a_change_makes_all_other_proposals_void() public {
        Change[] memory other = _list(_add(10, Role.Follower));
        _approved(other);
        _enact(_add(9, Role.Follower));
        bytes32 proposal = validators.proposalId(other);
        vm.expectRevert(abi.encodeWithSelector(Governors.TooFewApprovals.selector, proposal, 0, 2));
        validators.enact(other);
    }

    function test_an_empty_proposal_is_refused() public {
        _refuses(Validators.NoChanges.selector);
        vm.prank(vm.addr(KEY_A));
        validators.propose(new Change[](0));
        _refuses(Validators.NoChanges.selector);
        validators.enact(new Change[](0));
    }

    // --- changes

    function test_a_change_is_in_force_after_the_lead_and_never_before() public {
        bytes32 before = validators.setHashOf(10);
        _enact(_add(9, Role.Validator));
        vm.assertEq(validators.setHashOf(10), before, "this epoch");
        vm.assertEq(validators.setHashOf(11), before, "next epoch");
        vm.assertEq(validators.setOf(12).length, 6, "after the lead");
        (uint64 from, bytes32 hash, uint256 members, uint256 voters, uint256 changes) = validators.setAt(1);
        vm.assertEq(from, 12, "from");
        vm.assertEq(hash, validators.setHashOf(12), "hash");
        vm.assertEq(hash, keccak256(abi.encode(validators.setOf(12))), "hash of set");
        vm.assertEq(members + voters + changes, 6 + 5 + 1, "sizes");
        _toEpoch(40);
        vm.assertEq(validators.setHashOf(40), hash, "later");
        vm.assertEq(validators.setHashOf(11), before, "history");
    }

    function test_only_f_changes_of_validators_fit_one_epoch() public {
        _enact(_replace(1, _node(11, Role.Validator)));
        _approved(_list(_add(12, Role.Validator)));
        vm.expectRevert(abi.encodeWithSelector(Sets.TooManyChanges.selector, 12, 2, 1));
        validators.enact(_list(_add(12, Role.Validator)));
        _toEpoch(11); // the approvals still stand
        validators.enact(_list(_add(12, Role.Validator)));
        vm.assertEq(validators.setCount(), 3, "sets");
    }

    function test_followers_and_addresses_change_freely() public {
        _enact(_add(20, Role.Follower));
        _enact(_remove(5));
        Validator memory moved = _node(2, Role.Validator);
        moved.hint = "elsewhere.example:9000";
        moved.operator = _operator(77);
        _enact(_replace(2, moved));
        (,,,, uint256 changes) = validators.setAt(1);
        vm.assertEq(changes, 0, "changes");
        vm.assertEq(keccak256(validators.setOf(12)[1].hint), keccak256("elsewhere.example:9000"), "hint");
        vm.assertEq(validators.setCount(), 2, "one set");
    }

    function test_a_promotion_a_demotion_and_another_key_are_changes() public {
        _enact(_replace(5, _node(5, Role.Validator)));
        (,,, uint256 voters, uint256 changes) = validators.setAt(1);
        vm.assertEq(voters * 10 + changes, 51, "promoted");
        _toEpoch(11);
        Validator memory rekeyed = _node(2, Role.Validator);
        rekeyed.consensusKey = "another";
        _enact(_replace(2, rekeyed));
        (,,, voters, changes) = validators.setAt(2);
        vm.assertEq(voters * 10 + changes, 51, "another key");
        _toEpoch(12);
        _enact(_replace(5, _node(5, Role.Follower)));
        (,,, voters, changes) = validators.setAt(3);
        vm.assertEq(voters * 10 + changes, 41, "demoted");
    }

    function test_a_set_below_four_is_refused() public {
        _approved(_list(_remove(1)));
        _refuses(Sets.TooFewValidators.selector, 3, 4);
        validators.enact(_list(_remove(1)));
    }

    function test_doubled_and_malformed_members_are_refused() public {
        Validator memory node = _node(1, Role.Validator);
        _refusesAdd(node, abi.encodeWithSelector(Sets.KeyTaken.selector, bytes32(uint256(1)), bytes32(uint256(1))));
        node.p2pKey = "fresh";
        _refusesAdd(
            node, abi.encodeWithSelector(Sets.KeyTaken.selector, bytes32("fresh"), keccak256(node.consensusKey))
        );
        node.consensusKey = "";
        _refusesAdd(node, abi.encodeWithSelector(Sets.WrongKeyLength.selector, bytes32("fresh"), 0, 192));
        node.consensusKey = new bytes(193);
        _refusesAdd(node, abi.encodeWithSelector(Sets.WrongKeyLength.selector, bytes32("fresh"), 193, 192));
        node.consensusKey = "fresh";
        node.hint = "";
        _refusesAdd(node, abi.encodeWithSelector(Sets.WrongHintLength.selector, bytes32("fresh"), 0, 259));
        node.hint = new bytes(260);
        _refusesAdd(node, abi.encodeWithSelector(Sets.WrongHintLength.selector, bytes32("fresh"), 260, 259));
        node.hint = "h:1";
        node.operator = address(0);
        _refusesAdd(node, abi.encodeWithSelector(Sets.ZeroOperator.selector, bytes32("fresh")));
        node.p2pKey = 0;
        _refusesAdd(node, abi.encodeWithSelector(Sets.ZeroP2pKey.selector, address(0)));
    }

    function test_changes_that_name_what_is_not_there_are_refused() public {
        _approved(_list(_remove(99)));
        _refuses(Sets.UnknownMember.selector, bytes32(uint256(99)));
        validators.enact(_list(_remove(99)));
        Change memory change = _add(9, Role.Follower);
        change.member = "member";
        _approved(_list(change));
        _refuses(Sets.SuperfluousMember.selector, bytes32("member"));
        validators.enact(_list(change));
        change = _remove(1);
        change.validator.p2pKey = "member";
        _approved(_list(change));
        _refuses(Sets.SuperfluousMember.selector, bytes32("member"));
        validators.enact(_list(change));
    }

    function test_a_key_is_free_again_once_its_member_is_gone() public {
        _enact(_remove(5));
        _enact(_add(5, Role.Follower));
        vm.assertEq(validators.setOf(12).length, 5, "members");
        _approved(_two(_add(6, Role.Follower), _add(6, Role.Follower)));
        vm.expectRevert(abi.encodeWithSelector(Sets.KeyTaken.selector, bytes32(uint256(6)), bytes32(uint256(6))));
        validators.enact(_two(_add(6, Role.Follower), _add(6, Role.Follower)));
    }

    function test_the_greatest_set_fits_a_block() public {
        Change[] memory changes = new Change[](59);
        for (uint256 i = 0; i < changes.length; i++) {
            changes[i] = _add(100 + i, Role.Follower);
            changes[i].validator.consensusKey = abi.encodePacked(i, new bytes(160));
            changes[i].validator.hint = new bytes(259);
        }
        _approved(changes);
        uint256 before = gasleft();
        validators.enact(changes);
        vm.assertTrue(before - gasleft() < 29_000_000, "gas");
        vm.assertEq(validators.setOf(12).length, 64, "members");
        _approved(_list(_add(9, Role.Follower)));
        _refuses(Sets.TooManyMembers.selector, 65, 64);
        validators.enact(_list(_add(9, Role.Follower)));
    }

    // --- growth from one

    function test_one_grows_to_four_or_more_in_one_step_and_stays_in_the_set() public {
        validators = new Validators(access, _setup(Validators.Scheme.Threshold), _first(1, 0));
        _approved(_two(_add(2, Role.Validator), _add(3, Role.Validator)));
        _refuses(Sets.TooFewValidators.selector, 3, 4);
        validators.enact(_two(_add(2, Role.Validator), _add(3, Role.Validator)));

        Change[] memory changes = new Change[](4);
        for (uint256 i = 0; i < 4; i++) {
            changes[i] = _add(2 + i, Role.Validator);
        }
        _approved(changes);
        validators.enact(changes);
        vm.assertEq(validators.setOf(12).length, 5, "five");
        _approved(_list(_remove(1)));
        _refuses(Sets.FirstValidatorStays.selector, bytes32(uint256(1)));
        validators.enact(_list(_remove(1)));
        _toEpoch(12); // its approvals still stand
        validators.enact(_list(_remove(1)));
        vm.assertEq(validators.setOf(14).length, 4, "later it may go");
    }

    // --- the key

    function test_a_quorum_of_operators_records_the_key_once() public {
        for (uint256 i = 1; i <= 3; i++) {
            vm.assertEq(validators.keyOf(11), 0, "not yet");
            vm.prank(_operator(i));
            validators.recordKey(11, GROUP_KEY);
        }
        vm.assertEq(validators.keyOf(11), GROUP_KEY, "recorded");
        vm.assertEq(validators.keyEpoch(), 11, "epoch");
        vm.expectRevert(abi.encodeWithSelector(Validators.KeyAlreadyRecorded.selector, 11, GROUP_KEY));
        vm.prank(_operator(4));
        validators.recordKey(11, GROUP_KEY);
    }

    function test_who_operates_no_validator_has_no_word_about_the_key() public {
        vm.expectRevert(abi.encodeWithSelector(Validators.NotOperator.selector, 11, _operator(5)));
        vm.prank(_operator(5)); // a follower
        validators.recordKey(11, GROUP_KEY);
    }

    function test_the_threshold_scheme_keeps_its_key() public {
        vm.expectRevert(abi.encodeWithSelector(Validators.KeyChanged.selector, bytes32("other"), GROUP_KEY));
        vm.prank(_operator(1));
        validators.recordKey(11, "other");
    }

    function test_the_committee_scheme_changes_its_key_and_a_node_may_correct_itself() public {
        validators = new Validators(access, _setup(Validators.Scheme.Committee), _first(4, 0));
        bytes32[4] memory words = [bytes32("wrong"), "right", "right", "right"];
        for (uint256 i = 0; i < 3; i++) {
            vm.prank(_operator(i + 1));
            validators.recordKey(11, words[i]);
        }
        vm.assertEq(validators.keyOf(11), 0, "two of four");
        vm.prank(_operator(1));
        validators.recordKey(11, "right");
        vm.assertEq(validators.keyOf(11), "right", "three of four");
    }

    function test_a_key_is_recorded_only_for_an_epoch_whose_set_is_settled() public {
        for (uint64 epoch = 9; epoch <= 12; epoch += 3) {
            vm.expectRevert(abi.encodeWithSelector(Validators.WrongKeyEpoch.selector, epoch, 10));
            vm.prank(_operator(1));
            validators.recordKey(epoch, GROUP_KEY);
        }
        _refuses(Validators.ZeroKeyHash.selector);
        vm.prank(_operator(1));
        validators.recordKey(11, 0);
    }

    // --- alarms

    function test_a_fork_is_told_with_its_signers() public {
        bytes32[] memory signers = new bytes32[](2);
        (signers[0], signers[1]) = (bytes32(uint256(1)), bytes32(uint256(2)));
        _expectEvent(address(validators));
        emit Validators.ForkReported(WRITER, "one", "other", signers);
        vm.prank(WRITER);
        validators.reportFork("one", "other", signers);
    }

    function test_a_report_is_bounded_and_from_the_enrolled() public {
        bytes32[] memory signers = new bytes32[](2);
        _refuses(NotEnrolled.selector, STRANGER);
        vm.prank(STRANGER);
        validators.reportFork("one", "other", signers);
        _refusesReport("one", "other", signers, abi.encodeWithSelector(Validators.WrongSigners.selector, 1));
        signers = new bytes32[](1);
        _refusesReport("one", "one", signers, abi.encodeWithSelector(Validators.NoFork.selector));
        _refusesReport("one", "", signers, abi.encodeWithSelector(Validators.NoFork.selector));
        bytes memory long = new bytes(16_385);
        _refusesReport(long, "", signers, abi.encodeWithSelector(Validators.EvidenceTooLong.selector, 16_385, 16_384));
        _refusesReport("one", "b", new bytes32[](0), abi.encodeWithSelector(Validators.WrongSigners.selector, 0));
        _refusesReport("one", "b", new bytes32[](65), abi.encodeWithSelector(Validators.WrongSigners.selector, 65));
    }

    // --- inside

    function _signed(uint256 key, bytes32 proposal) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, validators.approvalDigest(proposal));
        return abi.encodePacked(r, s, v);
    }

    function _refusesApproval(bytes4 error_, bytes32 proposal, address who) private {
        vm.expectRevert(abi.encodeWithSelector(error_, proposal, who));
    }

    function _refusesAdd(Validator memory node, bytes memory error_) private {
        Change memory change;
        change.validator = node;
        _approved(_list(change));
        vm.expectRevert(error_);
        validators.enact(_list(change));
    }

    function _refusesReport(bytes memory a, bytes memory b, bytes32[] memory signers, bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(WRITER);
        validators.reportFork(a, b, signers);
    }
}
