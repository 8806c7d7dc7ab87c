// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, NotOwner} from "./Errors.sol";

/// A stop to all removal, of one source or of the whole vault.
///
/// - **Owns** what is frozen, by whom and since when. It outlives every rule of retention: a new rule asks here too.
/// - **Does not** refuse anything itself: policies ask it.
///
/// # Invariants
/// - **F1** A freeze only tightens, so any active writer or the owner makes one; the owner alone lifts one.
/// - **F2** While anything is frozen, `frozenCount` is not zero.
///
/// Format: `docs/design/retention.md`.
contract Freeze {
    struct State {
        address by;
        uint64 since;
    }

    /// Names the whole vault where a source is asked for.
    bytes32 public constant WHOLE = 0;

    /// Who may act.
    Access public immutable access;
    /// How many freezes stand.
    uint256 public frozenCount;

    /// Rises when the owner lifts all freezes at once: those of an earlier one count no more.
    uint64 private _generation;
    mapping(uint64 generation => mapping(bytes32 source => State)) private _states;

    event Frozen(bytes32 indexed source, address indexed by);
    event Unfrozen(bytes32 indexed source, address indexed by);

    error AlreadyFrozen(bytes32 source, address by, uint64 since);
    error NotFrozen(bytes32 source);
    error NotAllowedToFreeze(address who);

    constructor(Access access_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
    }

    /// Who froze exactly this source, or with zero the whole vault, and when; zero if nobody did.
    function state(bytes32 source) public view returns (address by, uint64 since) {
        State storage found = _states[_generation][source];
        return (found.by, found.since);
    }

    /// True if this source may lose nothing now: it is frozen, or the whole vault is.
    function isFrozen(bytes32 source) external view returns (bool) {
        if (frozenCount == 0) return false;
        (address by,) = state(source);
        (address whole,) = state(WHOLE);
        return by != address(0) || whole != address(0);
    }

    /// Freezes a source, or with zero the whole vault.
    function freeze(bytes32 source) external {
        require(access.isWriter(msg.sender) || msg.sender == access.owner(), NotAllowedToFreeze(msg.sender));
        (address by, uint64 since) = state(source);
        require(by == address(0), AlreadyFrozen(source, by, since));
        _states[_generation][source] = State({by: msg.sender, since: uint64(block.timestamp)});
        frozenCount += 1;
        emit Frozen(source, msg.sender);
    }

    /// Lifts the freeze of a source; with zero every freeze there is, so that nobody can hold the owner up with many.
    function unfreeze(bytes32 source) external {
        require(msg.sender == access.owner(), NotOwner(msg.sender));
        (address by,) = state(source);
        if (source == WHOLE) {
            require(frozenCount != 0, NotFrozen(source));
            _generation += 1;
            frozenCount = 0;
        } else {
            require(by != address(0), NotFrozen(source));
            delete _states[_generation][source];
            frozenCount -= 1;
        }
        emit Unfrozen(source, msg.sender);
    }
}
