// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotWriter} from "../Errors.sol";
import {Rules} from "./Rules.sol";

/// Sessions: a writer's open backup, a lease on the ledger.
///
/// - **Owns** leases, the bounded list of open sessions, the count of removal epochs.
/// - **Does not** know what a session commits, or what an epoch removes.
///
/// A session is *live* while it was not ended, its lease has not run out and its writer is active. Only a live one
/// can commit or be renewed, and none ever becomes live again, because expired leases are not renewed and revoked
/// writers do not return. So what a removal waits for is exactly what could still commit.
///
/// # Invariants
/// - **S1** At most `MAX_OPEN` sessions are listed; every live session is listed.
/// - **S2** A session is used by its writer alone.
/// - **S3** A session that is not live never is again.
abstract contract Sessions is Rules {
    struct Lease {
        address writer;
        uint64 epoch;
        /// Where in `_open` it stands, while listed.
        uint16 position;
        bool listed;
        uint64 openedAt;
        uint64 expires;
    }

    /// Bounds the work of whoever walks the list.
    uint256 public constant MAX_OPEN = 256;
    uint64 public constant MIN_LEASE_SECONDS = 60;
    uint64 public constant MAX_LEASE_SECONDS = 7 days;

    /// The number of the last marking. A session opened at epoch e knows the markings 1 to e.
    uint64 public epoch;

    uint256 private _opened;
    mapping(bytes32 session => Lease) private _leases;
    /// Sessions not yet ended; some may have died since and await clearing.
    bytes32[] private _open;

    event SessionOpened(bytes32 indexed session, address indexed writer, uint64 epoch, uint64 expires);
    event SessionRenewed(bytes32 indexed session, uint64 expires);
    event SessionEnded(bytes32 indexed session);

    error LeaseOutOfRange(uint64 leaseSeconds, uint64 least, uint64 most);
    error TooManySessions(uint256 most);
    error UnknownSession(bytes32 session);
    error NotSessionWriter(bytes32 session, address who);
    error SessionClosed(bytes32 session);
    error SessionExpired(bytes32 session, uint64 expires);
    error SessionStillOpen(bytes32 session, uint64 epoch, uint64 expires);

    /// One session; `open` says whether it is live.
    function session(bytes32 id)
        external
        view
        returns (address writer, uint64 openedEpoch, uint64 openedAt, uint64 expires, bool open)
    {
        Lease storage lease = _leases[id];
        require(lease.writer != address(0), UnknownSession(id));
        return (lease.writer, lease.epoch, lease.openedAt, lease.expires, _isLive(lease));
    }

    /// The live sessions, in no order.
    function openSessions() public view returns (bytes32[] memory live) {
        live = new bytes32[](_open.length);
        uint256 count = 0;
        for (uint256 i = 0; i < live.length; i++) {
            if (_isLive(_leases[_open[i]])) live[count++] = _open[i];
        }
        assembly ("memory-safe") {
            mstore(live, count) // shortens the array to what was filled
        }
    }

    /// How many sessions are live.
    function openSessionCount() external view returns (uint256) {
        return openSessions().length;
    }

    /// Opens a session. Its id, told by the event, names this place of this chain: a fork has other ids.
    function openSession(uint64 leaseSeconds) external onlyWriter returns (bytes32 id) {
        uint64 expires = _expiry(leaseSeconds);
        if (_open.length == MAX_OPEN) _clear();
        require(_open.length < MAX_OPEN, TooManySessions(MAX_OPEN));
        _opened += 1;
        id = keccak256(abi.encode(block.chainid, address(this), _opened, msg.sender, blockhash(block.number - 1)));
        _leases[id] = Lease({
            writer: msg.sender,
            epoch: epoch,
            position: uint16(_open.length),
            listed: true,
            openedAt: uint64(block.timestamp),
            expires: expires
        });
        _open.push(id);
        emit SessionOpened(id, msg.sender, epoch, expires);
    }

    /// Sets the lease of a live session to run out in `leaseSeconds` from now.
    function renewSession(bytes32 id, uint64 leaseSeconds) external {
        uint64 expires = _expiry(leaseSeconds);
        _requireLive(id);
        _leases[id].expires = expires;
        emit SessionRenewed(id, expires);
    }

    /// Gives a session up. Its writer may do so also when it is no longer live.
    function endSession(bytes32 id) external {
        _requireListed(id);
        _end(id);
    }

    // --- inside

    /// The session is live and the sender's.
    function _requireLive(bytes32 id) internal view {
        _requireListed(id);
        require(access.isWriter(msg.sender), NotWriter(msg.sender));
        uint64 expires = _leases[id].expires;
        require(block.timestamp < expires, SessionExpired(id, expires));
    }

    /// Takes a listed session off the list: the last one moves to its place.
    function _end(bytes32 id) internal {
        Lease storage ended = _leases[id];
        bytes32 last = _open[_open.length - 1];
        _open[ended.position] = last;
        _leases[last].position = ended.position;
        _open.pop();
        ended.listed = false;
        emit SessionEnded(id);
    }

    /// Refuses while a live session knows fewer than `from` markings.
    function _requireNoneOpenedBefore(uint64 from) internal view {
        for (uint256 i = 0; i < _open.length; i++) {
            Lease storage lease = _leases[_open[i]];
            if (lease.epoch < from && _isLive(lease)) revert SessionStillOpen(_open[i], lease.epoch, lease.expires);
        }
    }

    /// Ends every listed session that is dead. From the end, since `_end` fills a gap with the last one. A walk over all of them: done when
    /// there is no room, so that to open a session costs the same however many are open.
    function _clear() private {
        for (uint256 i = _open.length; i > 0; i--) {
            bytes32 id = _open[i - 1];
            if (!_isLive(_leases[id])) _end(id);
        }
    }

    /// The session exists, is the sender's and was not ended.
    function _requireListed(bytes32 id) private view {
        Lease storage lease = _leases[id];
        require(lease.writer != address(0), UnknownSession(id));
        require(lease.writer == msg.sender, NotSessionWriter(id, msg.sender));
        require(lease.listed, SessionClosed(id));
    }

    function _isLive(Lease storage lease) private view returns (bool) {
        return lease.listed && block.timestamp < lease.expires && access.isWriter(lease.writer);
    }

    function _expiry(uint64 leaseSeconds) private view returns (uint64) {
        require(
            leaseSeconds >= MIN_LEASE_SECONDS && leaseSeconds <= MAX_LEASE_SECONDS,
            LeaseOutOfRange(leaseSeconds, MIN_LEASE_SECONDS, MAX_LEASE_SECONDS)
        );
        return uint64(block.timestamp) + leaseSeconds;
    }
}
