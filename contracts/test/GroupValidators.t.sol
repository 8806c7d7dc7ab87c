// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {OutOfRange} from "../src/Errors.sol";
import {GroupValidators} from "../src/GroupValidators.sol";
import {Validators} from "../src/Validators.sol";
import {Role} from "../src/validators/Sets.sol";
import {ValidatorsFixture} from "./ValidatorsFixture.sol";
import {vm} from "./Vm.sol";

contract GroupValidatorsTest is ValidatorsFixture {
    GroupValidators internal group;

    function setUp() public override {
        super.setUp();
        group = new GroupValidators(access, _setup(Validators.Scheme.Threshold), _first(4, 1));
        validators = group;
    }

    /// R1.
    function test_each_operator_of_the_set_posts_once() public {
        bytes32 set = group.setHashOf(10);
        vm.assertEq(group.outcomeCount(10, set), 0, "none");
        vm.prank(_operator(2));
        group.postOutcome(11, "first");
        vm.prank(_operator(4));
        group.postOutcome(10, "second");
        vm.assertEq(group.outcomeCount(10, set), 2, "two");
        (uint64 height, bytes memory data) = group.outcomeAt(10, set, 1);
        vm.assertEq(height, block.number, "height");
        vm.assertEq(keccak256(data), keccak256("second"), "data");
        vm.expectRevert(abi.encodeWithSelector(GroupValidators.AlreadyPosted.selector, 10, _operator(2)));
        vm.prank(_operator(2));
        group.postOutcome(10, "another");
        // Neither a follower's operator nor a stranger.
        for (uint256 number = 5; number < 7; number++) {
            vm.expectRevert(abi.encodeWithSelector(Validators.NotOperator.selector, 10, _operator(number)));
            vm.prank(_operator(number));
            group.postOutcome(10, "another");
        }
        _refuses(OutOfRange.selector, 2, 2);
        group.outcomeAt(10, set, 2);
    }

    function test_an_outcome_is_of_one_set() public {
        _enact(_replace(4, _node(6, Role.Validator)));
        vm.prank(_operator(6));
        group.postOutcome(12, "of the coming set");
        vm.expectRevert(abi.encodeWithSelector(Validators.NotOperator.selector, 12, _operator(4)));
        vm.prank(_operator(4));
        group.postOutcome(12, "of who leaves");
        vm.assertEq(group.outcomeCount(12, group.setHashOf(12)), 1, "coming");
        vm.assertEq(group.outcomeCount(10, group.setHashOf(10)), 0, "in force");
        vm.assertEq(group.outcomeCount(12, group.setHashOf(10)), 0, "another hash");
    }

    function test_an_empty_or_too_long_outcome_is_refused() public {
        _refuses(GroupValidators.WrongOutcomeLength.selector, 0, 16_384);
        vm.prank(_operator(1));
        group.postOutcome(10, "");
        bytes memory longest = new bytes(16_384);
        _refuses(GroupValidators.WrongOutcomeLength.selector, 16_385, 16_384);
        vm.prank(_operator(1));
        group.postOutcome(10, abi.encodePacked(longest, hex"00"));
        vm.prank(_operator(1));
        group.postOutcome(10, longest);
    }
}
