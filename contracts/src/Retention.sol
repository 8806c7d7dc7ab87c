// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract} from "./Errors.sol";
import {Freeze} from "./Freeze.sol";
import {IPolicy} from "./IPolicy.sol";
import {Tags} from "./Tags.sol";
import {Timeline} from "./Timeline.sol";
import {Vault} from "./Vault.sol";
import {Span, periodOf} from "./retention/Calendar.sol";

/// A rule of retention: which snapshots a writer may let go, and how old one must be before anybody may.
///
/// Counted by the ledger's time in UTC and for each signer by itself: what a stolen writer commits displaces no other
/// writer's snapshots.
///
/// - **Owns** one rule, for ever: another rule is another contract, which the owner puts in force.
/// - **Does not** remember anything: snapshots are `Vault`'s and `Timeline`'s, tags `Tags`', freezes `Freeze`'s.
///
/// # Invariants
/// - **R1** Nothing younger than `minimumAge`, and nothing of a frozen source, may be removed, whoever asks.
/// - **R2** What the rule keeps, and a signer's newest snapshot, is removed by the owner alone.
/// - **R3** What `Timeline` lacks, and what of it is forgotten, only makes the rule keep more.
/// - **R4** A set of stripes is removed by the owner or an active writer, while nothing in the vault is frozen.
///
/// Format: `docs/design/retention.md`.
contract Retention is IPolicy {
    struct Rule {
        /// How many of the newest; `ALL` keeps everything.
        uint32 last;
        /// Of how many hours, days, weeks, months and years that have snapshots the newest one.
        uint32 hourly;
        uint32 daily;
        uint32 weekly;
        uint32 monthly;
        uint32 yearly;
        /// Everything less than so many seconds older than the newest.
        uint64 within;
        /// Everything with one of these tags.
        bytes32[] tags;
        /// Seconds before which nothing goes.
        uint64 minimumAge;
    }

    /// One kind of period while the newer snapshots are walked.
    struct Count {
        /// How many periods may still be counted before the snapshot in question falls out; zero: it fell out.
        uint32 left;
        /// The period of the snapshot in question.
        uint256 own;
        /// The last one that was counted.
        uint256 seen;
    }

    uint32 public constant ALL = type(uint32).max;
    /// The sum of all counts: bounds the gas of one removal.
    uint256 public constant MOST_COUNTED = 512;
    uint256 public constant MOST_TAGS = 16;
    uint256 private constant SPANS = 5;

    Vault public immutable vault;
    Access public immutable access;
    Timeline public immutable timeline;
    Freeze public immutable freeze;
    Tags public immutable tags;
    uint64 public immutable minimumAge;

    uint32 private immutable _last;
    uint32 private immutable _hourly;
    uint32 private immutable _daily;
    uint32 private immutable _weekly;
    uint32 private immutable _monthly;
    uint32 private immutable _yearly;
    uint64 private immutable _within;
    bytes32[] private _tags;

    error KeepsNothing();
    error CountsTooMany(uint256 sum, uint256 most);
    error TooManyTags(uint256 count, uint256 most);

    constructor(Vault vault_, Timeline timeline_, Freeze freeze_, Tags tags_, Rule memory rule_) {
        _requireCode(address(vault_));
        _requireCode(address(timeline_));
        _requireCode(address(freeze_));
        _requireCode(address(tags_));
        uint256 sum = uint256(rule_.hourly) + rule_.daily + rule_.weekly + rule_.monthly + rule_.yearly;
        if (rule_.last != ALL) sum += rule_.last;
        require(sum <= MOST_COUNTED, CountsTooMany(sum, MOST_COUNTED));
        require(rule_.tags.length <= MOST_TAGS, TooManyTags(rule_.tags.length, MOST_TAGS));
        bool keeps_ = sum != 0 || rule_.last == ALL || rule_.within != 0 || rule_.tags.length != 0;
        require(keeps_, KeepsNothing());

        vault = vault_;
        access = vault_.access();
        timeline = timeline_;
        freeze = freeze_;
        tags = tags_;
        minimumAge = rule_.minimumAge;
        _last = rule_.last;
        _hourly = rule_.hourly;
        _daily = rule_.daily;
        _weekly = rule_.weekly;
        _monthly = rule_.monthly;
        _yearly = rule_.yearly;
        _within = rule_.within;
        _tags = rule_.tags;
    }

    /// The rule, as it was laid down.
    function rule() external view returns (Rule memory) {
        return Rule({
            last: _last,
            hourly: _hourly,
            daily: _daily,
            weekly: _weekly,
            monthly: _monthly,
            yearly: _yearly,
            within: _within,
            tags: _tags,
            minimumAge: minimumAge
        });
    }

    /// @inheritdoc IPolicy
    function mayRead(address who, bytes32, bytes32) external view returns (bool) {
        return who == access.owner();
    }

    /// @inheritdoc IPolicy
    function mayRemove(address who, bytes32 source, bytes32 object, uint64 committedAt) external view returns (bool) {
        bool isOwner = who == access.owner();
        if (committedAt == 0) return freeze.frozenCount() == 0 && (isOwner || access.isWriter(who));
        if (block.timestamp < uint256(committedAt) + minimumAge || freeze.isFrozen(source)) return false;
        return isOwner || (access.isWriter(who) && !keeps(source, object));
    }

    /// True if the rule keeps this snapshot, or it is the newest of its signer. Newer are those of a later block time,
    /// so that none of one block displaces another.
    function keeps(bytes32 source, bytes32 snapshot) public view returns (bool) {
        if (_last == ALL || _isTagged(snapshot)) return true;
        Vault.Snapshot memory asked = vault.snapshot(snapshot);
        Count[SPANS] memory counts = _counts(asked.committedAt);
        uint32 lastLeft = _last;
        bool isNewestKnown = false;
        uint32 place = timeline.newest(source, asked.writer);
        while (place != 0) {
            (uint64 time, uint32 older) = timeline.entry(source, place);
            if (time <= asked.committedAt) break;
            // Only an entry that would change a count is worth asking `Vault` about.
            if ((!isNewestKnown || lastLeft != 0 || _counted(counts, time)) && !_isForgotten(source, place)) {
                if (!isNewestKnown && time - asked.committedAt < _within) return true;
                isNewestKnown = true;
                if (lastLeft != 0) lastLeft -= 1;
                _count(counts, time);
                if (lastLeft == 0 && _haveAllFallenOut(counts)) return false;
            }
            place = older;
        }
        // It is the newest, or a count is not used up.
        return true;
    }

    // --- inside

    function _counts(uint64 time) private view returns (Count[SPANS] memory counts) {
        uint32[SPANS] memory left = [_hourly, _daily, _weekly, _monthly, _yearly];
        for (uint256 i = 0; i < SPANS; i++) {
            counts[i] = Count({left: left[i], own: periodOf(Span(i), time), seen: type(uint256).max});
        }
    }

    /// True if a snapshot of that time would be counted.
    function _counted(Count[SPANS] memory counts, uint64 time) private pure returns (bool) {
        for (uint256 i = 0; i < SPANS; i++) {
            if (counts[i].left != 0 && periodOf(Span(i), time) != counts[i].seen) return true;
        }
        return false;
    }

    /// Counts a snapshot newer than the one in question: one in its own period displaces it, one of another period
    /// uses up one of those that are kept.
    function _count(Count[SPANS] memory counts, uint64 time) private pure {
        for (uint256 i = 0; i < SPANS; i++) {
            Count memory count = counts[i];
            if (count.left == 0) continue;
            uint256 period = periodOf(Span(i), time);
            if (period == count.own) {
                count.left = 0;
            } else if (period != count.seen) {
                count.seen = period;
                count.left -= 1;
            }
        }
    }

    function _haveAllFallenOut(Count[SPANS] memory counts) private pure returns (bool) {
        for (uint256 i = 0; i < SPANS; i++) {
            if (counts[i].left != 0) return false;
        }
        return true;
    }

    function _isTagged(bytes32 snapshot) private view returns (bool) {
        for (uint256 i = 0; i < _tags.length; i++) {
            if (tags.has(snapshot, _tags[i])) return true;
        }
        return false;
    }

    function _isForgotten(bytes32 source, uint32 place) private view returns (bool forgotten) {
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        forgotten = vault.snapshot(vault.snapshotOf(source, place - 1)).forgotten;
        // The record is not needed again: without this, memory would cost more than the reads do.
        assembly ("memory-safe") {
            mstore(0x40, free)
        }
    }

    function _requireCode(address account) private view {
        require(account.code.length != 0, NotAContract(account));
    }
}
