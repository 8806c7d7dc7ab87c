// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {OutOfRange} from "./Errors.sol";
import {Validators} from "./Validators.sol";
import {Role, Validator} from "./validators/Sets.sol";

/// The validators of a network that signs with one key, which every set hands on to the next by a resharing.
///
/// - **Owns** the outcomes of resharings as they were posted, each with its height.
/// - **Does not** check an outcome: it is signed by every node that took part, and the ledger's nodes check that, off the chain.
///
/// # Invariants
/// - **G3** An outcome is posted for one set, by the operator of one of its validators, once by each: so there are never more than a
///   set has members, and what was posted never changes.
///
/// Final: no proxy, no upgrade, no self-destruct. Format: `docs/design/contracts.md`.
contract GroupValidators is Validators {
    struct Outcome {
        /// The block that holds it.
        uint64 height;
        bytes data;
    }

    uint256 public constant MOST_OUTCOME_BYTES = 16_384;

    mapping(bytes32 step => Outcome[]) private _outcomes;
    mapping(bytes32 step => mapping(address by => bool)) private _posted;

    event OutcomePosted(uint64 indexed from, bytes32 indexed setHash, address indexed by);

    error WrongOutcomeLength(uint256 length, uint256 most);
    error AlreadyPosted(uint64 from, address by);

    constructor(Access access_, Setup memory setup, Validator[] memory first) Validators(access_, setup, first) {}

    /// Posts the outcome of the resharing to the set that is in force from that epoch on, or since.
    function postOutcome(uint64 epoch_, bytes calldata data) external {
        require(
            data.length != 0 && data.length <= MOST_OUTCOME_BYTES, WrongOutcomeLength(data.length, MOST_OUTCOME_BYTES)
        );
        Record storage record = _recordOf(epoch_);
        _requireOperator(record, epoch_);
        bytes32 step = _step(record.epoch, record.hash);
        require(!_posted[step][msg.sender], AlreadyPosted(record.epoch, msg.sender));
        _posted[step][msg.sender] = true;
        _outcomes[step].push(Outcome(uint64(block.number), data));
        emit OutcomePosted(record.epoch, record.hash, msg.sender);
    }

    /// How many outcomes were posted for the set of that hash, in force from that epoch on.
    function outcomeCount(uint64 from, bytes32 setHash) external view returns (uint256) {
        return _outcomes[_step(from, setHash)].length;
    }

    /// One of them, in the order in which they were posted.
    function outcomeAt(uint64 from, bytes32 setHash, uint256 index)
        external
        view
        returns (uint64 height, bytes memory data)
    {
        Outcome[] storage all = _outcomes[_step(from, setHash)];
        require(index < all.length, OutOfRange(index, all.length));
        return (all[index].height, all[index].data);
    }

    function _step(uint64 from, bytes32 setHash) private pure returns (bytes32) {
        return keccak256(abi.encode(from, setHash));
    }

    function _requireOperator(Record storage record, uint64 epoch_) private view {
        Validator[] memory set = _expand(record);
        for (uint256 i = 0; i < set.length; i++) {
            if (set[i].role == Role.Validator && set[i].operator == msg.sender) return;
        }
        revert NotOperator(epoch_, msg.sender);
    }
}
