// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, OutOfRange} from "./Errors.sol";
import {Vault} from "./Vault.sol";
import {Tasks} from "./automation/Tasks.sol";

/// Raises the alarm when a source has not been backed up for longer than its owner allows.
///
/// `tick` is called by the ledger itself at the end of every block, and by anyone else. It only tells what time has
/// already made true: the views compute from `Vault` and the block's time, and never wait for it.
///
/// - **Owns** the watched sources, their intervals, which alarms were raised, the cursor of `tick`.
/// - **Does not** change `Vault` or `Access`, and has no right at either: it reads them.
///
/// # Invariants
/// - **U1** The work of a tick is bounded whatever is watched: `MOST_SKIMMED` entries, `MOST_ASKED` questions to
///   `Vault`, one task with its stipend.
/// - **U2** `BackupOverdue` and `BackupResumed` of a watch alternate, the first one first.
/// - **U3** No watched source that is due is passed over: the cursor goes on from where it stopped, and rests only
///   until the soonest due time it saw.
/// - **U4** No task and no source can make a tick revert.
///
/// Final: no proxy, no upgrade, no self-destruct. Format: `docs/design/contracts.md`.
contract Automation is Tasks {
    /// Fills one slot.
    struct Watch {
        uint64 interval;
        /// Time of the last commit that was seen; until there is one, of the beginning of the watch.
        uint64 since;
        /// How many snapshots the source had then.
        uint64 seen;
        /// Place among the watched, plus one; zero if not watched.
        uint32 place;
        /// The alarm was raised, and not ended since.
        bool raised;
    }

    /// Fills one slot.
    struct Round {
        /// Nothing is due before this time; a round that has begun goes on until its end.
        uint64 restUntil;
        /// No entry before the cursor is due before this time.
        uint64 soonest;
        /// The next entry to look at.
        uint32 cursor;
    }

    /// Entries of which one tick compares the time: four of them are one read.
    uint256 public constant MOST_SKIMMED = 256;
    /// Due entries for which one tick asks `Vault`: some 45,000 gas each if there is a new snapshot.
    uint256 public constant MOST_ASKED = 8;
    uint64 public constant MAX_INTERVAL_SECONDS = 3650 days;
    /// How soon the cursor returns to a source that is overdue, to see whether it has resumed; sooner if its interval
    /// is shorter, so that no commit comes and becomes too old unseen.
    uint64 public constant RECHECK_SECONDS = 10 minutes;

    /// The record that is watched.
    Vault public immutable vault;

    mapping(bytes32 source => Watch) private _watches;
    bytes32[] private _sources;
    /// When each of `_sources` is to be looked at next, no later than it can become overdue; four in a word.
    mapping(uint256 word => uint256) private _dueTimes;
    Round private _round;

    /// An interval of 0: the source is watched no longer, and an alarm of it is void.
    event BackupIntervalSet(bytes32 indexed source, uint64 interval);
    event BackupOverdue(bytes32 indexed source, uint64 since, uint64 interval);
    /// There is a new commit, or a longer interval.
    event BackupResumed(bytes32 indexed source, uint64 since, uint64 interval);

    error ZeroWatch();
    error NotWatched(bytes32 source);
    error IntervalTooLong(bytes32 source, uint64 interval, uint64 most);
    error AccessOfAnother(address vault, address access);

    constructor(Vault vault_, Access access_) Tasks(access_) {
        require(address(vault_).code.length != 0, NotAContract(address(vault_)));
        require(address(vault_.access()) == address(access_), AccessOfAnother(address(vault_), address(access_)));
        vault = vault_;
    }

    // --- what others ask

    function watchedCount() external view returns (uint256) {
        return _sources.length;
    }

    /// The watched sources, in no order.
    function watchedAt(uint256 index) external view returns (bytes32) {
        require(index < _sources.length, OutOfRange(index, _sources.length));
        return _sources[index];
    }

    /// A watch as it is now: since when there is no commit, whether that is too long, and whether the event was raised.
    function watch(bytes32 source) external view returns (uint64 interval, uint64 since, bool late, bool raised) {
        Watch memory now_ = _current(source, _watched(source));
        return (now_.interval, now_.since, _isLate(now_), now_.raised);
    }

    /// The sources that are overdue now, of those at `from` to `from + limit`; `next` is where to go on, 0 at the end.
    function overdue(uint256 from, uint256 limit) external view returns (bytes32[] memory late, uint256 next) {
        uint256 count = _sources.length;
        require(from <= count, OutOfRange(from, count));
        uint256 to = limit < count - from ? from + limit : count;
        late = new bytes32[](to - from);
        uint256 found = 0;
        for (uint256 i = from; i < to; i++) {
            bytes32 source = _sources[i];
            if (_isLate(_current(source, _watches[source]))) late[found++] = source;
        }
        assembly ("memory-safe") {
            mstore(late, found) // shortens the array to what was filled
        }
        return (late, to == count ? 0 : to);
    }

    // --- anyone

    /// Looks at the watched sources that are due, as far as one tick may, then runs one task.
    function tick() external {
        _refuseReentry();
        if (_sources.length != 0 && block.timestamp >= _round.restUntil) _goOn();
        _runNext();
    }

    /// Looks at one source at once, without waiting for the cursor.
    function look(bytes32 source) external {
        _look(_watched(source).place - 1);
    }

    // --- the owner

    /// Sets how old the last commit of a source may be; 0 ends the watch. The source need not have a commit yet.
    function setBackupInterval(bytes32 source, uint64 interval) external onlyOwner {
        require(source != 0, ZeroWatch());
        if (interval == 0) {
            _unwatch(source);
        } else {
            require(interval <= MAX_INTERVAL_SECONDS, IntervalTooLong(source, interval, MAX_INTERVAL_SECONDS));
            emit BackupIntervalSet(source, interval);
            _watch(source, interval);
        }
    }

    // --- inside

    /// U1 and U3: from the cursor to the end of the list, as far as the budgets go.
    function _goOn() private {
        uint256 count = _sources.length;
        uint256 next = _round.cursor;
        uint64 soonest = next == 0 ? type(uint64).max : _round.soonest;
        uint256 end = count - next > MOST_SKIMMED ? next + MOST_SKIMMED : count;
        uint256 asked = 0;
        uint256 word = _dueTimes[next / 4] >> (64 * (next % 4));
        for (; next < end; next++) {
            if (next & 3 == 0) word = _dueTimes[next >> 2];
            uint64 dueAt = uint64(word);
            word >>= 64;
            if (dueAt <= block.timestamp) {
                if (asked++ == MOST_ASKED) break;
                dueAt = _look(next);
            }
            if (dueAt < soonest) soonest = dueAt;
        }
        bool done = next == count;
        // While a round is under way there is no rest: `restUntil` stays in the past.
        _round = Round({
            restUntil: done ? soonest : uint64(block.timestamp), soonest: soonest, cursor: done ? 0 : uint32(next)
        });
    }

    /// Brings one entry up to `Vault`, and raises or ends its alarm; gives when it is to be looked at next. That is never
    /// sooner than it was before, while the interval is the same: so the cursor need not be told.
    function _look(uint256 index) private returns (uint64 dueAt) {
        bytes32 source = _sources[index];
        Watch storage stored = _watches[source];
        Watch memory now_ = _current(source, stored);
        bool late = _isLate(now_);
        if (now_.seen != stored.seen || late != now_.raised) {
            if (late && !now_.raised) emit BackupOverdue(source, now_.since, now_.interval);
            if (!late && now_.raised) emit BackupResumed(source, now_.since, now_.interval);
            now_.raised = late;
            _watches[source] = now_;
        }
        uint64 again = now_.interval < RECHECK_SECONDS ? now_.interval : RECHECK_SECONDS;
        dueAt = late ? uint64(block.timestamp) + again : now_.since + now_.interval;
        _setDueAt(index, dueAt);
    }

    function _watch(bytes32 source, uint64 interval) private {
        Watch storage stored = _watches[source];
        if (stored.place == 0) {
            _sources.push(source);
            stored.since = uint64(block.timestamp);
            stored.place = uint32(_sources.length);
        }
        stored.interval = interval;
        uint256 index = stored.place - 1;
        _look(index);
        _wake(index);
    }

    /// The last entry moves to the place of the one that goes.
    function _unwatch(bytes32 source) private {
        uint256 index = _watched(source).place - 1;
        uint256 last = _sources.length - 1;
        delete _watches[source];
        if (index != last) {
            bytes32 moved = _sources[last];
            _sources[index] = moved;
            _setDueAt(index, _dueAt(last));
            _watches[moved].place = uint32(index + 1);
            _wake(index);
        }
        _sources.pop();
        _setDueAt(last, 0);
        if (_round.cursor >= _sources.length) _round.cursor = 0;
        emit BackupIntervalSet(source, 0);
    }

    /// U3: the entry may be due before all that the cursor has seen, or stand where it has passed.
    function _wake(uint256 index) private {
        uint64 dueAt = _dueAt(index);
        if (dueAt < _round.restUntil) _round.restUntil = dueAt;
        if (dueAt < _round.soonest) _round.soonest = dueAt;
    }

    function _dueAt(uint256 index) private view returns (uint64) {
        return uint64(_dueTimes[index / 4] >> (64 * (index % 4)));
    }

    function _setDueAt(uint256 index, uint64 dueAt) private {
        uint256 shift = 64 * (index % 4);
        uint256 others = _dueTimes[index / 4] & ~(uint256(type(uint64).max) << shift);
        _dueTimes[index / 4] = others | (uint256(dueAt) << shift);
    }

    /// What is known of a watch, with the last commit that `Vault` has. Its record is read only if there is a new one.
    function _current(bytes32 source, Watch storage stored) private view returns (Watch memory now_) {
        now_ = stored;
        uint256 count = vault.snapshotCountOf(source);
        if (count == now_.seen) return now_;
        now_.seen = uint64(count);
        now_.since = vault.snapshot(vault.snapshotOf(source, count - 1)).committedAt;
    }

    function _isLate(Watch memory now_) private view returns (bool) {
        return block.timestamp >= now_.since + now_.interval;
    }

    function _watched(bytes32 source) private view returns (Watch storage found) {
        found = _watches[source];
        require(found.place != 0, NotWatched(source));
    }
}
