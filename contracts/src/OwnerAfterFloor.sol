// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract} from "./Errors.sol";
import {IPolicy} from "./IPolicy.sol";

/// The policy of version 1: the owner alone, and no snapshot younger than the floor.
///
/// The owner is asked of `Access` each time, so a transfer of ownership moves the right with it.
contract OwnerAfterFloor is IPolicy {
    /// Who the owner is.
    Access public immutable access;
    /// Seconds that must pass between the commit of a snapshot and its removal.
    uint64 public immutable floorSeconds;

    constructor(Access access_, uint64 floorSeconds_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
        floorSeconds = floorSeconds_;
    }

    /// @inheritdoc IPolicy
    function mayRead(address who, bytes32, bytes32) external view returns (bool) {
        return who == access.owner();
    }

    /// @inheritdoc IPolicy
    function mayRemove(address who, bytes32, bytes32, uint64 committedAt) external view returns (bool) {
        return who == access.owner() && block.timestamp >= uint256(committedAt) + floorSeconds;
    }
}
