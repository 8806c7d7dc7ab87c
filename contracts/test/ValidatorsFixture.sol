// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Validators} from "../src/Validators.sol";
import {Change, Kind, Role, Validator} from "../src/validators/Sets.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// A set of four validators and one follower, three governors of whom two must agree, epochs of ten blocks.
abstract contract ValidatorsFixture is Fixture {
    uint256 internal constant KEY_A = 0xa1;
    uint256 internal constant KEY_B = 0xb2;
    uint256 internal constant KEY_C = 0xc3;
    uint64 internal constant EPOCH = 10;
    uint64 internal constant LEAD = 2;
    bytes32 internal constant GROUP_KEY = "group key";

    Validators internal validators;

    function setUp() public virtual override {
        super.setUp();
        validators = new Validators(access, _setup(Validators.Scheme.Threshold), _first(4, 1));
    }

    function _setup(Validators.Scheme scheme) internal pure returns (Validators.Setup memory setup) {
        setup.epochLength = EPOCH;
        setup.lead = LEAD;
        setup.scheme = scheme;
        setup.keyHash = GROUP_KEY;
        setup.governors = new address[](3);
        (setup.governors[0], setup.governors[1], setup.governors[2]) = (vm.addr(KEY_A), vm.addr(KEY_B), vm.addr(KEY_C));
        setup.threshold = 2;
    }

    /// Validators 1 to `voters`, then followers.
    function _first(uint256 voters, uint256 followers) internal pure returns (Validator[] memory set) {
        set = new Validator[](voters + followers);
        for (uint256 i = 0; i < set.length; i++) {
            set[i] = _node(i + 1, i < voters ? Role.Validator : Role.Follower);
        }
    }

    function _node(uint256 number, Role role) internal pure returns (Validator memory node) {
        node.p2pKey = bytes32(number);
        node.consensusKey = abi.encode("consensus", number);
        node.hint = "node.example:9000";
        node.operator = _operator(number);
        node.role = role;
    }

    function _operator(uint256 number) internal pure returns (address) {
        return address(uint160(0x7000 + number));
    }

    function _add(uint256 number, Role role) internal pure returns (Change memory change) {
        change.kind = Kind.Add;
        change.validator = _node(number, role);
    }

    function _remove(uint256 number) internal pure returns (Change memory change) {
        change.kind = Kind.Remove;
        change.member = bytes32(number);
    }

    function _replace(uint256 number, Validator memory with) internal pure returns (Change memory change) {
        change.kind = Kind.Replace;
        change.member = bytes32(number);
        change.validator = with;
    }

    function _list(Change memory only) internal pure returns (Change[] memory changes) {
        changes = new Change[](1);
        changes[0] = only;
    }

    function _two(Change memory first, Change memory second) internal pure returns (Change[] memory changes) {
        changes = new Change[](2);
        (changes[0], changes[1]) = (first, second);
    }

    /// Approved by two of three.
    function _approved(Change[] memory changes) internal returns (bytes32 proposal) {
        vm.prank(vm.addr(KEY_A));
        proposal = validators.propose(changes);
        vm.prank(vm.addr(KEY_B));
        validators.approve(proposal);
    }

    function _enact(Change memory only) internal {
        _approved(_list(only));
        validators.enact(_list(only));
    }

    function _toEpoch(uint64 epoch) internal {
        vm.roll(uint256(epoch) * EPOCH);
    }
}
