// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Automation} from "../src/Automation.sol";
import {Fixture} from "./Fixture.sol";
import {Vm, bound, vm} from "./Vm.sol";

/// Compares `Automation` with a slow and obvious model: every source looked at by itself, whenever asked.
contract AutomationModelTest is Fixture {
    uint256 private constant SOURCES = 40;
    uint256 private constant MOST_ASKED = 8;

    Automation private automation;
    uint256 private random;
    uint64[SOURCES] private intervals;
    /// The last commit, or the beginning of the watch if that came later and there was no commit.
    uint64[SOURCES] private since;
    bool[SOURCES] private hasCommit;
    /// What the events have said.
    mapping(bytes32 source => bool) private alarmed;
    uint256 private commits;

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_alarms_are_those_of_the_model(uint256 seed) public {
        random = seed;
        automation = new Automation(vault, access);
        uint256 steps = 20 + _next(30);
        for (uint256 i = 0; i < steps; i++) {
            uint256 what = _next(8);
            if (what < 3) _setAny();
            else if (what < 5) _commitAny();
            else if (what == 5) _lookAny();
            else if (what == 6) _tickTimes(1);
            else _pass(bound(_next(type(uint256).max), 1, 3 hours));
            _checkViews();
        }
        // Nothing that is overdue stays without an alarm once the bound of ticks has passed.
        _tickTimes(SOURCES / MOST_ASKED + 3);
        for (uint256 i = 0; i < SOURCES; i++) {
            vm.assertTrue(!_isLate(i) || alarmed[_source(i)], "no alarm");
        }
        // And no alarm outlives its reason by more than the recheck.
        _pass(automation.RECHECK_SECONDS());
        _tickTimes(SOURCES / MOST_ASKED + 3);
        for (uint256 i = 0; i < SOURCES; i++) {
            vm.assertTrue(_isLate(i) == alarmed[_source(i)], "alarm");
        }
        _checkViews();
    }

    // --- what happens

    function _setAny() private {
        uint256 i = _next(SOURCES);
        uint64 interval = _next(5) == 0 ? 0 : uint64(bound(_next(type(uint256).max), 1, 5 hours));
        bool known = intervals[i] != 0;
        if (interval == 0 && !known) return;
        vm.recordLogs();
        vm.prank(OWNER);
        automation.setBackupInterval(_source(i), interval);
        if (!known && !hasCommit[i]) since[i] = uint64(block.timestamp);
        intervals[i] = interval;
        _read();
    }

    function _commitAny() private {
        uint256 i = _next(SOURCES);
        _committed(_source(i), bytes32(++commits));
        since[i] = uint64(block.timestamp);
        hasCommit[i] = true;
    }

    function _lookAny() private {
        uint256 i = _next(SOURCES);
        if (intervals[i] == 0) return;
        vm.recordLogs();
        automation.look(_source(i));
        _read();
        vm.assertTrue(_isLate(i) == alarmed[_source(i)], "look");
    }

    function _tickTimes(uint256 count) private {
        vm.recordLogs();
        for (uint256 i = 0; i < count; i++) {
            automation.tick();
        }
        _read();
    }

    /// U2: the events of a source alternate; a watch that ends, ends its alarm.
    function _read() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            bytes32 source = logs[i].topics[1];
            if (logs[i].topics[0] == Automation.BackupOverdue.selector) {
                vm.assertFalse(alarmed[source], "raised twice");
                alarmed[source] = true;
            } else if (logs[i].topics[0] == Automation.BackupResumed.selector) {
                vm.assertTrue(alarmed[source], "ended twice");
                alarmed[source] = false;
            } else if (abi.decode(logs[i].data, (uint64)) == 0) {
                alarmed[source] = false;
            }
        }
    }

    // --- what must hold

    function _checkViews() private view {
        uint256 watched = 0;
        uint256 late = 0;
        for (uint256 i = 0; i < SOURCES; i++) {
            if (intervals[i] == 0) continue;
            watched++;
            if (_isLate(i)) late++;
            (uint64 interval, uint64 from, bool isLate, bool raised) = automation.watch(_source(i));
            vm.assertEq(interval, intervals[i], "interval");
            vm.assertEq(from, since[i], "since");
            vm.assertTrue(isLate == _isLate(i), "late");
            vm.assertTrue(raised == alarmed[_source(i)], "raised");
        }
        vm.assertEq(automation.watchedCount(), watched, "watched");
        (bytes32[] memory found,) = automation.overdue(0, SOURCES);
        vm.assertEq(found.length, late, "overdue");
    }

    function _isLate(uint256 i) private view returns (bool) {
        return intervals[i] != 0 && block.timestamp >= since[i] + intervals[i];
    }

    function _source(uint256 i) private pure returns (bytes32) {
        return bytes32(i + 1);
    }

    function _next(uint256 below) private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return random % below;
    }
}
