// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {OutOfRange} from "../Errors.sol";

/// Who holds which keys in a set.
enum Role {
    Validator,
    Follower
}

/// One node of the network.
struct Validator {
    /// Ed25519, for the connections between nodes.
    bytes32 p2pKey;
    /// Of the consensus scheme; not read here.
    bytes consensusKey;
    /// "host:port", for the first connection.
    bytes hint;
    /// The account that speaks for the node.
    address operator;
    Role role;
}

enum Kind {
    Add,
    Remove,
    Replace
}

/// One step from a set to the next.
struct Change {
    Kind kind;
    /// The p2p key of the member that goes or is replaced; 0 for one that is added.
    bytes32 member;
    /// The member that comes; empty for one that goes.
    Validator validator;
}

/// The sets of nodes, one after another, each from its epoch on.
///
/// - **Owns** the members and the history of sets.
/// - **Does not** know who may change a set.
///
/// # Invariants
/// - **N1** A set holds from the epoch it names, which lies at least `lead` epochs after that of the block that made
///   it; the set of an epoch that has begun never changes.
/// - **N2** No two members of a set share a p2p key or a consensus key.
/// - **N3** A set has four validators or more; or one, if no larger one came before it. The first validator of a set of
///   one is in the set that follows.
/// - **N4** Between two sets that follow each other at most f validators were added, removed or replaced, f being a
///   third of one less than the former has. So any quorum of the one meets any quorum of the other.
abstract contract Sets {
    struct Record {
        uint64 epoch;
        uint16 validators;
        /// Changes of validators against the record before.
        uint16 changes;
        bytes32 hash;
        /// Places in `_nodes`, in the order in which the hash has them.
        uint32[] members;
    }

    uint256 public constant MOST_MEMBERS = 64;
    uint256 public constant LEAST_VALIDATORS = 4;
    uint256 public constant MOST_KEY_BYTES = 192;
    /// A DNS name, a colon, a port.
    uint256 public constant MOST_HINT_BYTES = 259;
    uint64 public constant MOST_LEAD = 16;

    /// Blocks in an epoch: epoch e begins at height e * epochLength.
    uint64 public immutable epochLength;
    /// From the epoch in which a change is made to the one in which it is in force: time for a resharing.
    uint64 public immutable lead;

    Validator[] private _nodes;
    Record[] private _records;
    /// Keys of the newest set.
    mapping(bytes32 key => bool) private _taken;

    /// The whole set, in force from `epoch` on; it may still be amended until that epoch is near.
    event SetChanged(uint64 indexed epoch, bytes32 indexed hash, Validator[] set);

    error WrongEpochLength(uint64 epochLength, uint64 lead);
    error ZeroP2pKey(address operator);
    error ZeroOperator(bytes32 p2pKey);
    error WrongKeyLength(bytes32 p2pKey, uint256 length, uint256 most);
    error WrongHintLength(bytes32 p2pKey, uint256 length, uint256 most);
    /// A member of the set has this p2p key, or this consensus key (then its hash).
    error KeyTaken(bytes32 p2pKey, bytes32 taken);
    error UnknownMember(bytes32 p2pKey);
    /// A change names what its kind has no use for.
    error SuperfluousMember(bytes32 p2pKey);
    error TooManyMembers(uint256 count, uint256 most);
    error TooFewValidators(uint256 count, uint256 least);
    error TooManyChanges(uint64 epoch, uint256 changes, uint256 most);
    error FirstValidatorStays(bytes32 p2pKey);
    error EpochBeforeFirst(uint64 epoch, uint64 first);

    constructor(uint64 epochLength_, uint64 lead_, Validator[] memory first) {
        require(epochLength_ != 0 && lead_ != 0 && lead_ <= MOST_LEAD, WrongEpochLength(epochLength_, lead_));
        epochLength = epochLength_;
        lead = lead_;
        Record storage record = _records.push();
        record.epoch = uint64(block.number / epochLength_);
        for (uint256 i = 0; i < first.length; i++) {
            _add(record, first[i]);
        }
        require(
            record.validators == 1 || record.validators >= LEAST_VALIDATORS,
            TooFewValidators(record.validators, LEAST_VALIDATORS)
        );
        _seal(record);
    }

    // --- what others ask

    /// The epoch of this block.
    function epoch() public view returns (uint64) {
        return uint64(block.number) / epochLength;
    }

    /// The members in an epoch. Of an epoch to come: as decided so far.
    function setOf(uint64 epoch_) external view returns (Validator[] memory) {
        return _expand(_recordOf(epoch_));
    }

    /// keccak256 of the ABI encoding of `setOf`.
    function setHashOf(uint64 epoch_) external view returns (bytes32) {
        return _recordOf(epoch_).hash;
    }

    /// How many sets there were, with those to come.
    function setCount() external view returns (uint256) {
        return _records.length;
    }

    /// One set: from which epoch on it is in force, its hash, its size.
    function setAt(uint256 index)
        external
        view
        returns (uint64 from, bytes32 hash, uint256 members, uint256 validators, uint256 changes)
    {
        require(index < _records.length, OutOfRange(index, _records.length));
        Record storage found = _records[index];
        return (found.epoch, found.hash, found.members.length, found.validators, found.changes);
    }

    // --- inside

    /// Makes the next set, or amends it if it is not in force yet.
    function _change(Change[] calldata changes) internal {
        Record storage next = _next();
        Record storage former = _records[_records.length - 2];
        for (uint256 i = 0; i < changes.length; i++) {
            _apply(next, former, changes[i]);
        }
        uint256 most = former.validators == 1 ? MOST_MEMBERS : (former.validators - 1) / 3;
        require(next.changes <= most, TooManyChanges(next.epoch, next.changes, most));
        bool grown = next.validators >= LEAST_VALIDATORS || (former.validators == 1 && next.validators == 1);
        require(grown, TooFewValidators(next.validators, LEAST_VALIDATORS));
        _seal(next);
    }

    /// The record of the epoch that changes made now are for; a copy of the newest, if there is none.
    function _next() private returns (Record storage next) {
        uint64 from = epoch() + lead;
        Record storage newest = _records[_records.length - 1];
        if (newest.epoch == from) return newest;
        next = _records.push();
        newest = _records[_records.length - 2];
        next.epoch = from;
        next.validators = newest.validators;
        next.members = newest.members;
    }

    function _apply(Record storage next, Record storage former, Change calldata change) private {
        if (change.kind == Kind.Add) {
            require(change.member == 0, SuperfluousMember(change.member));
            _add(next, change.validator);
            if (change.validator.role == Role.Validator) next.changes++;
        } else if (change.kind == Kind.Remove) {
            require(change.validator.p2pKey == 0, SuperfluousMember(change.validator.p2pKey));
            uint256 place = _placeOf(next, change.member);
            if (_drop(next, place) == Role.Validator) _count(next, former, change.member);
            next.members[place] = next.members[next.members.length - 1];
            next.members.pop();
        } else {
            _replace(next, former, change);
        }
    }

    /// The new member takes the place of the old one. Only another address is no change of the quorum.
    function _replace(Record storage next, Record storage former, Change calldata change) private {
        uint256 place = _placeOf(next, change.member);
        bytes32 consensusKey = keccak256(_nodes[next.members[place]].consensusKey);
        Role was = _drop(next, place);
        next.members[place] = _enter(next, change.validator);
        bool same = was == change.validator.role && change.member == change.validator.p2pKey
            && consensusKey == keccak256(change.validator.consensusKey);
        bool voter = was == Role.Validator || change.validator.role == Role.Validator;
        if (voter && !same) _count(next, former, change.member);
    }

    /// A change that takes a vote from a member, or gives it other keys.
    function _count(Record storage next, Record storage former, bytes32 member) private {
        require(former.validators != 1, FirstValidatorStays(member));
        next.changes++;
    }

    function _add(Record storage record, Validator memory node) private {
        require(record.members.length < MOST_MEMBERS, TooManyMembers(record.members.length + 1, MOST_MEMBERS));
        record.members.push(_enter(record, node));
    }

    /// N2: a node whose keys are well-formed and nobody else's.
    function _enter(Record storage record, Validator memory node) private returns (uint32) {
        require(node.p2pKey != 0, ZeroP2pKey(node.operator));
        require(node.operator != address(0), ZeroOperator(node.p2pKey));
        uint256 length = node.consensusKey.length;
        require(length != 0 && length <= MOST_KEY_BYTES, WrongKeyLength(node.p2pKey, length, MOST_KEY_BYTES));
        length = node.hint.length;
        require(length != 0 && length <= MOST_HINT_BYTES, WrongHintLength(node.p2pKey, length, MOST_HINT_BYTES));
        _take(node.p2pKey, node.p2pKey);
        _take(node.p2pKey, _consensusSlot(node));
        if (node.role == Role.Validator) record.validators++;
        _nodes.push(node);
        return uint32(_nodes.length - 1);
    }

    /// Frees the keys of a member.
    function _drop(Record storage record, uint256 place) private returns (Role role) {
        Validator storage node = _nodes[record.members[place]];
        delete _taken[node.p2pKey];
        delete _taken[_consensusSlot(node)];
        role = node.role;
        if (role == Role.Validator) record.validators--;
    }

    function _take(bytes32 p2pKey, bytes32 key) private {
        require(!_taken[key], KeyTaken(p2pKey, key));
        _taken[key] = true;
    }

    function _consensusSlot(Validator memory node) private pure returns (bytes32) {
        return keccak256(node.consensusKey);
    }

    function _seal(Record storage record) private {
        Validator[] memory set = _expand(record);
        record.hash = keccak256(abi.encode(set));
        emit SetChanged(record.epoch, record.hash, set);
    }

    function _expand(Record storage record) internal view returns (Validator[] memory set) {
        set = new Validator[](record.members.length);
        for (uint256 i = 0; i < set.length; i++) {
            set[i] = _nodes[record.members[i]];
        }
    }

    function _placeOf(Record storage record, bytes32 p2pKey) private view returns (uint256) {
        for (uint256 i = 0; i < record.members.length; i++) {
            if (_nodes[record.members[i]].p2pKey == p2pKey) return i;
        }
        revert UnknownMember(p2pKey);
    }

    /// The last record whose epoch is not after this one: by halving, since records never go.
    function _recordOf(uint64 epoch_) internal view returns (Record storage) {
        require(epoch_ >= _records[0].epoch, EpochBeforeFirst(epoch_, _records[0].epoch));
        uint256 low = 0;
        uint256 high = _records.length;
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            if (_records[middle].epoch <= epoch_) low = middle;
            else high = middle;
        }
        return _records[low];
    }
}
