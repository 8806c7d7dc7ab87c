// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {OutOfRange} from "./Errors.sol";
import {IPolicy} from "./IPolicy.sol";
import {Removal} from "./vault/Removal.sol";
import {Rules} from "./vault/Rules.sol";

/// The record of a vault: what was backed up, how safe it is, what may be removed.
///
/// - **Owns** snapshots and their sources, health and verify records. Sessions, removal and rules are its parts.
/// - **Does not** hold a name, a path or a byte of content: salted commitments, sizes, times and accounts only.
///
/// Final: no proxy, no upgrade, no self-destruct. Later parts join through `setModule`.
///
/// # Invariants
/// - **V1** A snapshot id is committed once; it belongs to one source; forgotten is for ever.
/// - **V2** A commit names a recipient set that was the default or approved for its source when it was made.
/// - **V3** No forget, mark or sweep succeeds that the source's policy refuses, whoever asks.
/// - **V4** Sweep of epoch e succeeds only when no session opened before e can still commit.
/// - **V5** A parent, if not zero, is a snapshot of the same source that was not forgotten at the commit.
/// - **V6** Snapshots of a source are enumerated in block order.
///
/// Format: `docs/design/contracts.md`.
contract Vault is Removal {
    /// What a writer says in a commit.
    struct Commit {
        bytes32 session;
        bytes32 source;
        bytes32 snapshot;
        bytes32 objectHash;
        bytes32 listRoot;
        uint64 storedBytes;
        bytes32 recipients;
        bytes32[] tags;
        bytes32 parent;
        uint16 d;
        uint16 w;
        uint16 wd;
        uint64 headHeight;
        bytes32 headHash;
    }

    /// What is kept of it; the tags stand in the event alone. Ordered to fill nine slots.
    struct Snapshot {
        bytes32 source;
        bytes32 objectHash;
        bytes32 listRoot;
        bytes32 recipients;
        bytes32 parent;
        bytes32 session;
        bytes32 headHash;
        address writer;
        uint64 storedBytes;
        uint16 d;
        uint16 w;
        uint16 wd;
        bool forgotten;
        uint64 committedAt;
        uint64 block;
        uint64 headHeight;
    }

    struct Health {
        uint16 d;
        uint16 w;
        uint16 wd;
        uint64 recordedAt;
    }

    struct Verify {
        uint64 verifiedAt;
        bool ok;
        uint16 dataBasisPoints;
        bytes32 snapshot;
    }

    uint16 private constant ALL_BASIS_POINTS = 10_000;

    mapping(bytes32 snapshot => Snapshot) private _snapshots;
    bytes32[] private _snapshotList;
    mapping(bytes32 source => bytes32[]) private _snapshotsOf;
    bytes32[] private _sources;
    mapping(bytes32 snapshot => Health) private _health;
    mapping(bytes32 source => Verify) private _lastVerify;

    /// When a reader verified all stripes of this list; 0 if none did.
    mapping(bytes32 listRoot => uint64) public readerVerifiedAt;

    event SnapshotCommitted(bytes32 indexed source, bytes32 indexed snapshot, address indexed writer, Commit data);
    event HealthRecorded(bytes32 indexed snapshot, address indexed by, uint16 d, uint16 w, uint16 wd);
    event VerifyRecorded(
        bytes32 indexed source,
        bytes32 indexed snapshot,
        address indexed by,
        uint16 dataBasisPoints,
        uint32 missing,
        uint32 damaged,
        bool ok
    );
    event ReaderVerified(bytes32 indexed listRoot);
    event SnapshotForgotten(bytes32 indexed snapshot, address indexed by);

    error ZeroSource(bytes32 snapshot);
    error ZeroSnapshot(bytes32 source);
    error SnapshotExists(bytes32 snapshot);
    error UnknownSnapshot(bytes32 snapshot);
    error AlreadyForgotten(bytes32 snapshot);
    error RecipientsNotApproved(bytes32 source, bytes32 recipients);
    error ParentOfOtherSource(bytes32 parent, bytes32 source, bytes32 parentSource);
    error TooManyBasisPoints(bytes32 snapshot, uint16 dataBasisPoints);

    constructor(Access access_, bytes32 vaultId_, bytes32 defaultRecipients_, IPolicy defaultPolicy_)
        Rules(access_, vaultId_, defaultRecipients_, defaultPolicy_)
    {}

    // --- what is recorded

    /// Everything about a snapshot but its tags, as committed, and whether it is forgotten.
    function snapshot(bytes32 id) external view returns (Snapshot memory) {
        return _known(id);
    }

    function snapshotCount() external view returns (uint256) {
        return _snapshotList.length;
    }

    /// All snapshots in block order, forgotten ones included.
    function snapshotAt(uint256 index) external view returns (bytes32) {
        return _at(_snapshotList, index);
    }

    function sourceCount() external view returns (uint256) {
        return _sources.length;
    }

    /// The sources, in order of their first snapshots.
    function sourceAt(uint256 index) external view returns (bytes32) {
        return _at(_sources, index);
    }

    function snapshotCountOf(bytes32 source) external view returns (uint256) {
        return _snapshotsOf[source].length;
    }

    /// The snapshots of one source in block order, forgotten ones included.
    function snapshotOf(bytes32 source, uint256 index) external view returns (bytes32) {
        return _at(_snapshotsOf[source], index);
    }

    /// The last recorded health of a snapshot; until one is, what its commit said.
    function health(bytes32 id) external view returns (uint16 d, uint16 w, uint16 wd, uint64 recordedAt) {
        Snapshot storage known = _known(id);
        Health storage last = _health[id];
        if (last.recordedAt == 0) return (known.d, known.w, known.wd, known.committedAt);
        return (last.d, last.w, last.wd, last.recordedAt);
    }

    /// The last verify of any snapshot of a source; all zero if there was none.
    function lastVerify(bytes32 source)
        external
        view
        returns (uint64 verifiedAt, bytes32 id, bool ok, uint16 dataBasisPoints)
    {
        Verify storage last = _lastVerify[source];
        return (last.verifiedAt, last.snapshot, last.ok, last.dataBasisPoints);
    }

    // --- writers

    /// Commits a snapshot and ends the session. No policy is asked: none can keep a backup from being recorded.
    function commit(Commit calldata c) external {
        _requireLive(c.session);
        require(c.source != 0, ZeroSource(c.snapshot));
        require(c.snapshot != 0, ZeroSnapshot(c.source));
        require(_snapshots[c.snapshot].source == 0, SnapshotExists(c.snapshot));
        require(isApproved(c.source, c.recipients), RecipientsNotApproved(c.source, c.recipients));
        if (c.parent != 0) _requireParent(c.parent, c.source);

        _store(c);
        emit SnapshotCommitted(c.source, c.snapshot, msg.sender, c);
        _end(c.session);
    }

    /// Records how safe a snapshot is now, after its shards were counted or repaired.
    function recordHealth(bytes32 id, uint16 d, uint16 w, uint16 wd) external onlyWriter {
        _notForgotten(id);
        _health[id] = Health({d: d, w: w, wd: wd, recordedAt: uint64(block.timestamp)});
        emit HealthRecorded(id, msg.sender, d, w, wd);
    }

    /// Records a verify. `dataBasisPoints` is the share of the data that was read, 10 000 being all.
    function recordVerify(bytes32 id, uint16 dataBasisPoints, uint32 missing, uint32 damaged, bool ok)
        external
        onlyWriter
    {
        bytes32 source = _notForgotten(id).source;
        require(dataBasisPoints <= ALL_BASIS_POINTS, TooManyBasisPoints(id, dataBasisPoints));
        _lastVerify[source] =
            Verify({verifiedAt: uint64(block.timestamp), ok: ok, dataBasisPoints: dataBasisPoints, snapshot: id});
        emit VerifyRecorded(source, id, msg.sender, dataBasisPoints, missing, damaged, ok);
    }

    // --- the owner

    /// Records that a reader has opened and verified every stripe of this list: any writer may reuse them.
    function recordReaderVerified(bytes32 listRoot) external onlyOwner {
        readerVerifiedAt[listRoot] = uint64(block.timestamp);
        emit ReaderVerified(listRoot);
    }

    // --- whoever the policy lets

    /// Forgets a snapshot for ever: its stripes no longer count as needed by it.
    function forget(bytes32 id) external onlyEnrolled {
        Snapshot storage known = _notForgotten(id);
        _requireRemovable(known.source, id, known.committedAt);
        known.forgotten = true;
        emit SnapshotForgotten(id, msg.sender);
    }

    // --- inside

    function _store(Commit calldata c) private {
        _snapshots[c.snapshot] = Snapshot({
            source: c.source,
            objectHash: c.objectHash,
            listRoot: c.listRoot,
            recipients: c.recipients,
            parent: c.parent,
            session: c.session,
            headHash: c.headHash,
            writer: msg.sender,
            storedBytes: c.storedBytes,
            d: c.d,
            w: c.w,
            wd: c.wd,
            forgotten: false,
            committedAt: uint64(block.timestamp),
            block: uint64(block.number),
            headHeight: c.headHeight
        });
        _snapshotList.push(c.snapshot);
        if (_snapshotsOf[c.source].length == 0) _sources.push(c.source);
        _snapshotsOf[c.source].push(c.snapshot);
    }

    function _requireParent(bytes32 parent, bytes32 source) private view {
        bytes32 parentSource = _notForgotten(parent).source;
        require(parentSource == source, ParentOfOtherSource(parent, source, parentSource));
    }

    function _notForgotten(bytes32 id) private view returns (Snapshot storage known) {
        known = _known(id);
        require(!known.forgotten, AlreadyForgotten(id));
    }

    function _known(bytes32 id) private view returns (Snapshot storage known) {
        known = _snapshots[id];
        require(known.source != 0, UnknownSnapshot(id));
    }

    function _at(bytes32[] storage list, uint256 index) private view returns (bytes32) {
        require(index < list.length, OutOfRange(index, list.length));
        return list[index];
    }
}
