// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Validators} from "../src/Validators.sol";
import {Change, Role, Validator} from "../src/validators/Sets.sol";
import {ValidatorsFixture} from "./ValidatorsFixture.sol";
import {vm} from "./Vm.sol";

/// N1 to N4 under arbitrary changes, taken or refused: sets are compared as they were seen, epoch by epoch.
contract ValidatorsModelTest is ValidatorsFixture {
    uint64 private constant EPOCHS = 12;

    uint256 private random;
    /// The hash of each epoch's set, as it was at the epoch's first block.
    mapping(uint64 epoch => bytes32) private seen;

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_neighbouring_sets_have_quorums_that_meet(uint256 seed) public {
        random = seed;
        uint256 size = _next(4) == 0 ? 1 : 4 + _next(7);
        validators = new Validators(access, _setup(Validators.Scheme.Committee), _first(size, _next(3)));
        uint64 first = validators.epoch();
        for (uint64 epoch = first; epoch < first + EPOCHS; epoch++) {
            _toEpoch(epoch);
            seen[epoch] = validators.setHashOf(epoch);
            for (uint256 i = _next(5); i > 0; i--) {
                _tryAny();
            }
            // N1: what is in force, or about to be, stays as it is.
            for (uint64 past = first; past <= epoch; past++) {
                vm.assertEq(validators.setHashOf(past), seen[past], "a set in force changed");
            }
        }
        for (uint64 epoch = first; epoch < first + EPOCHS; epoch++) {
            Validator[] memory set = validators.setOf(epoch);
            vm.assertEq(keccak256(abi.encode(set)), validators.setHashOf(epoch), "hash");
            _checkSet(set);
            _checkNeighbours(set, validators.setOf(epoch + 1));
        }
    }

    // --- what must hold

    /// N2 and N3.
    function _checkSet(Validator[] memory set) private pure {
        uint256 voters = _voters(set);
        vm.assertTrue(voters == 1 || voters >= 4, "size");
        for (uint256 i = 0; i < set.length; i++) {
            for (uint256 j = 0; j < i; j++) {
                vm.assertTrue(set[i].p2pKey != set[j].p2pKey, "p2p key twice");
                vm.assertTrue(keccak256(set[i].consensusKey) != keccak256(set[j].consensusKey), "consensus key twice");
            }
        }
    }

    /// N4: the least that a quorum of one set and a quorum of the next have in common is someone. Who is in both with
    /// the same keys is one member; quorums are chosen to avoid those.
    function _checkNeighbours(Validator[] memory left, Validator[] memory right) private pure {
        uint256 common = 0;
        for (uint256 i = 0; i < left.length; i++) {
            for (uint256 j = 0; j < right.length; j++) {
                if (_isSameVoter(left[i], right[j])) common++;
            }
        }
        (uint256 here, uint256 there) = (_voters(left), _voters(right));
        if (here == 1) {
            vm.assertEq(common, 1, "the first stays");
            return;
        }
        uint256 leftCommon = _quorum(here) - (here - common); // least members of `common` in a quorum of the left
        uint256 rightCommon = _quorum(there) - (there - common);
        vm.assertTrue(leftCommon + rightCommon > common, "quorums that do not meet");
    }

    function _quorum(uint256 voters) private pure returns (uint256) {
        return voters - (voters - 1) / 3;
    }

    function _isSameVoter(Validator memory a, Validator memory b) private pure returns (bool) {
        return a.role == Role.Validator && b.role == Role.Validator && a.p2pKey == b.p2pKey
            && keccak256(a.consensusKey) == keccak256(b.consensusKey);
    }

    function _voters(Validator[] memory set) private pure returns (uint256 count) {
        for (uint256 i = 0; i < set.length; i++) {
            if (set[i].role == Role.Validator) count++;
        }
    }

    // --- what happens

    function _tryAny() private {
        Change[] memory changes = new Change[](1 + (_next(3) == 0 ? _next(4) : 0));
        for (uint256 i = 0; i < changes.length; i++) {
            changes[i] = _any();
        }
        _approvedBySome(changes);
        uint64 before = validators.version();
        (bool done,) = address(validators).call(abi.encodeCall(validators.enact, (changes)));
        vm.assertEq(validators.version(), before + (done ? 1 : 0), "version");
    }

    function _approvedBySome(Change[] memory changes) private {
        bytes32 proposal = validators.proposalId(changes);
        uint256[3] memory keys = [KEY_A, KEY_B, KEY_C];
        for (uint256 i = 0; i < 3; i++) {
            if (validators.hasApproved(proposal, vm.addr(keys[i]))) continue;
            vm.prank(vm.addr(keys[i]));
            validators.approve(proposal);
        }
    }

    function _any() private returns (Change memory) {
        uint256 number = 1 + _next(14);
        Role role = _next(4) == 0 ? Role.Follower : Role.Validator;
        uint256 what = _next(4);
        if (what == 0) return _remove(number);
        if (what < 3) return _add(number, role);
        Validator memory node = _node(_next(2) == 0 ? number : 1 + _next(14), role);
        if (_next(3) == 0) node.consensusKey = abi.encode("again", _next(3));
        return _replace(number, node);
    }

    function _next(uint256 below) private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return random % below;
    }
}
