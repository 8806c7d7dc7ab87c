// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Sessions} from "./Sessions.sol";

/// Removal of stripes in two steps: mark a set, wait for older sessions, sweep it.
///
/// - **Owns** the markings, one an epoch.
/// - **Does not** know which stripes a set has or who refers to them: the sweeper counts references in the lists of
///   all snapshots again after `sweep`, which no older session can then change, and removes what has none.
///
/// # Invariants
/// - **V3** No mark or sweep succeeds that the source's policy refuses.
/// - **V4** Epoch e is swept only when no session opened before e is live, and once.
abstract contract Removal is Sessions {
    struct Marking {
        bytes32 source;
        bytes32 stripesRoot;
        uint32 count;
        uint64 markedAt;
        bool swept;
    }

    mapping(uint64 epoch => Marking) private _markings;

    event Marked(uint64 indexed epoch, bytes32 indexed source, bytes32 stripesRoot, uint32 count);
    event Swept(uint64 indexed epoch, address indexed by);

    error EmptyMarking(bytes32 source, bytes32 stripesRoot);
    error UnknownEpoch(uint64 epoch);
    error AlreadySwept(uint64 epoch);

    function marking(uint64 of_)
        external
        view
        returns (bytes32 source, bytes32 stripesRoot, uint32 count, uint64 markedAt, bool swept)
    {
        Marking storage found = _marking(of_);
        return (found.source, found.stripesRoot, found.count, found.markedAt, found.swept);
    }

    /// Begins an epoch: sessions opened from now on treat these stripes as absent.
    function mark(bytes32 source, bytes32 stripesRoot, uint32 count) external onlyEnrolled returns (uint64 begun) {
        require(count != 0, EmptyMarking(source, stripesRoot));
        _requireRemovable(source, stripesRoot, 0);
        begun = ++epoch;
        _markings[begun] = Marking({
            source: source, stripesRoot: stripesRoot, count: count, markedAt: uint64(block.timestamp), swept: false
        });
        emit Marked(begun, source, stripesRoot, count);
    }

    /// Ends the wait of an epoch: no session that might use its stripes is left.
    function sweep(uint64 of_) external onlyEnrolled {
        Marking storage found = _marking(of_);
        require(!found.swept, AlreadySwept(of_));
        _requireRemovable(found.source, found.stripesRoot, 0);
        _requireNoneOpenedBefore(of_);
        found.swept = true;
        emit Swept(of_, msg.sender);
    }

    function _marking(uint64 of_) private view returns (Marking storage) {
        require(of_ != 0 && of_ <= epoch, UnknownEpoch(of_));
        return _markings[of_];
    }
}
