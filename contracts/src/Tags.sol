// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, NotOwner} from "./Errors.sol";

/// Tags of snapshots where contracts can read them: those of a commit stand in its event alone.
///
/// - **Owns** which tags a snapshot has beside those of its commit. A tag is a keyed commitment, as in a commit.
/// - **Does not** know whether there is such a snapshot: a backup writes its tags before its commit, so that no moment
///   is without them.
///
/// # Invariants
/// - **T1** A tag can protect: a writer or the owner adds one, the owner alone takes one away.
///
/// Format: `docs/design/retention.md`.
contract Tags {
    /// Who may act.
    Access public immutable access;

    mapping(bytes32 snapshot => mapping(bytes32 tag => bool)) private _tags;

    event Tagged(bytes32 indexed snapshot, bytes32 indexed tag, address indexed by);
    event Untagged(bytes32 indexed snapshot, bytes32 indexed tag, address indexed by);

    error NotAllowedToTag(address who);

    constructor(Access access_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
    }

    /// True if the snapshot has the tag.
    function has(bytes32 snapshot, bytes32 tag) external view returns (bool) {
        return _tags[snapshot][tag];
    }

    /// Adds tags; those that are there already stay.
    function add(bytes32 snapshot, bytes32[] calldata tags) external {
        require(access.isWriter(msg.sender) || msg.sender == access.owner(), NotAllowedToTag(msg.sender));
        for (uint256 i = 0; i < tags.length; i++) {
            if (_tags[snapshot][tags[i]]) continue;
            _tags[snapshot][tags[i]] = true;
            emit Tagged(snapshot, tags[i], msg.sender);
        }
    }

    /// Takes tags away, also those that only the commit's event names: whoever reads events sees it there.
    function remove(bytes32 snapshot, bytes32[] calldata tags) external {
        require(msg.sender == access.owner(), NotOwner(msg.sender));
        for (uint256 i = 0; i < tags.length; i++) {
            delete _tags[snapshot][tags[i]];
            emit Untagged(snapshot, tags[i], msg.sender);
        }
    }
}
