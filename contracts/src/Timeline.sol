// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotAContract} from "./Errors.sol";
import {Vault} from "./Vault.sol";

/// The snapshots of a source that are not forgotten, one chain for each signer, from the newest on.
///
/// So what a rule of retention walks does not grow with what was forgotten. Anyone may bring it up to `Vault`.
///
/// - **Owns** the chains. An entry is named by its *place*: its index among the snapshots of its source, plus one.
/// - **Does not** decide anything, and is never ahead of `Vault`: it may lack new snapshots and hold forgotten ones.
///   Who reads it asks `Vault` whether an entry is forgotten, and loses nothing by entries that are not there yet.
///
/// # Invariants
/// - **L1** A chain holds the snapshots of one source and one signer, each once, and no other's.
/// - **L2** Along a chain, times do not rise from newer to older.
/// - **L3** Every imported snapshot that is not forgotten is in its chain.
///
/// Format: `docs/design/retention.md`.
contract Timeline {
    /// Fills one slot.
    struct Entry {
        uint64 committedAt;
        uint32 newer;
        uint32 older;
    }

    /// The record of everything.
    Vault public immutable vault;

    /// How many snapshots of a source were looked at.
    mapping(bytes32 source => uint32) public imported;
    /// The place of the newest snapshot of a source by one signer; zero if there is none.
    mapping(bytes32 source => mapping(address signer => uint32)) public newest;
    mapping(bytes32 source => mapping(uint32 place => Entry)) private _entries;

    event Imported(bytes32 indexed source, uint32 count);
    event Dropped(bytes32 indexed source, uint32 place);

    error NotForgotten(bytes32 snapshot);
    error UnknownPlace(bytes32 source, uint32 place);

    constructor(Vault vault_) {
        require(address(vault_).code.length != 0, NotAContract(address(vault_)));
        vault = vault_;
    }

    /// When the snapshot at this place was committed, and the place of the one before it by the same signer.
    function entry(bytes32 source, uint32 place) external view returns (uint64 committedAt, uint32 older) {
        Entry storage found = _entries[source][place];
        return (found.committedAt, found.older);
    }

    /// Looks at the next snapshots of a source, at most `limit`, in their order; gives how many are left.
    function sync(bytes32 source, uint32 limit) external returns (uint256 left) {
        uint256 count = vault.snapshotCountOf(source);
        uint32 from = imported[source];
        uint32 to = count - from > limit ? from + limit : uint32(count);
        for (uint32 index = from; index < to; index++) {
            Vault.Snapshot memory found = vault.snapshot(vault.snapshotOf(source, index));
            if (!found.forgotten) _append(source, found.writer, index + 1, found.committedAt);
        }
        if (to != from) {
            imported[source] = to;
            emit Imported(source, to);
        }
        return count - to;
    }

    /// Takes forgotten snapshots out of their chains. Places that were dropped before are passed over.
    function drop(bytes32 source, uint32[] calldata places) external {
        for (uint256 i = 0; i < places.length; i++) {
            uint32 place = places[i];
            require(place != 0 && place <= imported[source], UnknownPlace(source, place));
            if (_entries[source][place].committedAt == 0) continue;
            bytes32 id = vault.snapshotOf(source, place - 1);
            Vault.Snapshot memory found = vault.snapshot(id);
            require(found.forgotten, NotForgotten(id));
            _unlink(source, found.writer, place);
            emit Dropped(source, place);
        }
    }

    function _append(bytes32 source, address signer, uint32 place, uint64 committedAt) private {
        uint32 before = newest[source][signer];
        if (before != 0) _entries[source][before].newer = place;
        _entries[source][place] = Entry({committedAt: committedAt, newer: 0, older: before});
        newest[source][signer] = place;
    }

    function _unlink(bytes32 source, address signer, uint32 place) private {
        Entry memory gone = _entries[source][place];
        if (gone.newer == 0) newest[source][signer] = gone.older;
        else _entries[source][gone.newer].older = gone.older;
        if (gone.older != 0) _entries[source][gone.older].newer = gone.newer;
        delete _entries[source][place];
    }
}
