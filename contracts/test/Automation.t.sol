// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {Automation} from "../src/Automation.sol";
import {NotAContract, NotOwner, OutOfRange} from "../src/Errors.sol";
import {Tasks} from "../src/automation/Tasks.sol";
import {Vault} from "../src/Vault.sol";
import {Fixture} from "./Fixture.sol";
import {BurningTask, LongTask, ReenteringTask, ToldTask} from "./Tasks.sol";
import {vm} from "./Vm.sol";

contract AutomationTest is Fixture {
    uint64 private constant DAY = 1 days;
    /// What the ledger's rules give a tick.
    uint256 private constant TICK_GAS = 1_000_000;

    Automation private automation;

    function setUp() public override {
        super.setUp();
        automation = new Automation(vault, access);
    }

    // --- making it

    function test_it_is_made_for_a_vault_and_its_access_alone() public {
        _refuses(NotAContract.selector, STRANGER);
        new Automation(vault, Access(STRANGER));
        _refuses(NotAContract.selector, STRANGER);
        new Automation(Vault(STRANGER), access);
        Access other = new Access(OWNER, _one(PAPER));
        vm.expectRevert(abi.encodeWithSelector(Automation.AccessOfAnother.selector, address(vault), address(other)));
        new Automation(vault, other);
    }

    // --- backup overdue

    function test_a_commit_that_is_too_old_raises_the_alarm_once_and_a_new_one_ends_it_once() public {
        _committed(SOURCE, "s1");
        uint64 since = uint64(block.timestamp);
        _set(SOURCE, DAY);
        _pass(DAY - 1);
        _quiet();
        _pass(1);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, since, DAY);
        automation.tick();
        _quiet();
        _pass(5 * DAY);
        _quiet();

        _committed(SOURCE, "s2");
        since = uint64(block.timestamp);
        _pass(automation.RECHECK_SECONDS());
        _expectEvent(address(automation));
        emit Automation.BackupResumed(SOURCE, since, DAY);
        automation.tick();
        _quiet();
        _pass(DAY);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, since, DAY);
        automation.tick();
    }

    function test_a_source_without_a_commit_counts_from_the_beginning_of_the_watch() public {
        uint64 since = uint64(block.timestamp);
        _set(SOURCE, DAY);
        _pass(DAY);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, since, DAY);
        automation.tick();
    }

    function test_a_commit_before_the_due_time_keeps_the_tick_quiet() public {
        _set(SOURCE, DAY);
        for (uint256 i = 1; i < 5; i++) {
            _pass(DAY - 1);
            _committed(SOURCE, bytes32(i));
            _pass(DAY - 1);
            _quiet();
        }
    }

    function test_a_forgotten_snapshot_was_a_backup_all_the_same() public {
        bytes32 id = _committed(SOURCE, "s1");
        _set(SOURCE, 90 * DAY);
        _pass(FLOOR);
        vm.prank(OWNER);
        vault.forget(id);
        _quiet();
        (, uint64 since, bool late,) = automation.watch(SOURCE);
        vm.assertEq(since, block.timestamp - FLOOR, "since");
        vm.assertFalse(late, "late");
    }

    function test_a_source_that_is_overdue_already_raises_the_alarm_when_it_is_watched() public {
        _committed(SOURCE, "s1");
        uint64 since = uint64(block.timestamp);
        _pass(3 * DAY);
        _expectEvent(address(automation));
        emit Automation.BackupIntervalSet(SOURCE, DAY);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, since, DAY);
        _set(SOURCE, DAY);
        _expectEvent(address(automation));
        emit Automation.BackupResumed(SOURCE, since, 9 * DAY);
        _set(SOURCE, 9 * DAY);
    }

    function test_look_does_at_once_what_a_tick_does_in_its_turn() public {
        _set(SOURCE, DAY);
        _pass(DAY);
        automation.tick();
        _committed(SOURCE, "s1");
        _expectEvent(address(automation));
        emit Automation.BackupResumed(SOURCE, uint64(block.timestamp), DAY);
        vm.prank(STRANGER);
        automation.look(SOURCE);
        _refuses(Automation.NotWatched.selector, OTHER_SOURCE);
        automation.look(OTHER_SOURCE);
    }

    function test_a_shorter_interval_wakes_the_cursor() public {
        _set(SOURCE, 1 hours);
        _pass(1 hours);
        automation.tick(); // raised; the cursor would return in ten minutes
        _committed(SOURCE, "s1");
        _set(SOURCE, 2 minutes);
        uint64 since = uint64(block.timestamp);
        _pass(2 minutes);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, since, 2 minutes);
        automation.tick();
    }

    /// An entry that moves to where the cursor has passed is not lost for the round.
    function test_an_entry_that_moves_behind_the_cursor_is_not_late() public {
        for (uint256 i = 1; i <= 20; i++) {
            _set(bytes32(i), i == 20 ? DAY + 5 minutes : DAY);
        }
        uint64 since = uint64(block.timestamp);
        _pass(DAY);
        automation.tick(); // eight of nineteen
        _set(bytes32(uint256(1)), 0); // the last moves to its place
        for (uint256 i = 0; i < 3; i++) {
            automation.tick();
        }
        _pass(5 minutes);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(bytes32(uint256(20)), since, DAY + 5 minutes);
        automation.tick();
    }

    function test_the_owner_alone_sets_an_interval() public {
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        automation.setBackupInterval(SOURCE, DAY);
        vm.prank(OWNER);
        _refuses(Automation.ZeroWatch.selector);
        automation.setBackupInterval(0, DAY);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(Automation.IntervalTooLong.selector, SOURCE, 3650 days + 1, 3650 days));
        automation.setBackupInterval(SOURCE, 3650 days + 1);
        vm.prank(OWNER);
        _refuses(Automation.NotWatched.selector, SOURCE);
        automation.setBackupInterval(SOURCE, 0);
    }

    function test_a_watch_that_ends_says_so_and_raises_no_alarm() public {
        _set(SOURCE, DAY);
        _set(OTHER_SOURCE, 2 * DAY);
        _expectEvent(address(automation));
        emit Automation.BackupIntervalSet(SOURCE, 0);
        _set(SOURCE, 0);
        _pass(DAY);
        _quiet();
        vm.assertEq(automation.watchedCount(), 1, "count");
        vm.assertEq(automation.watchedAt(0), OTHER_SOURCE, "moved");
        _refuses(OutOfRange.selector, 1, 1);
        automation.watchedAt(1);
        _refuses(Automation.NotWatched.selector, SOURCE);
        automation.watch(SOURCE);
        _pass(DAY);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(OTHER_SOURCE, uint64(block.timestamp - 2 * DAY), 2 * DAY);
        automation.tick();
        _set(OTHER_SOURCE, 0);
        automation.tick();
        vm.assertEq(automation.watchedCount(), 0, "none");
    }

    function test_views_know_before_any_tick_did() public {
        _committed(SOURCE, "s1");
        _set(SOURCE, DAY);
        _set(OTHER_SOURCE, 9 * DAY);
        _pass(DAY);
        (uint64 interval, uint64 since, bool late, bool raised) = automation.watch(SOURCE);
        vm.assertEq(interval, DAY, "interval");
        vm.assertEq(since, block.timestamp - DAY, "since");
        vm.assertTrue(late, "late");
        vm.assertFalse(raised, "raised");
        (bytes32[] memory found, uint256 next) = automation.overdue(0, 1);
        vm.assertEq(found.length, 1, "one");
        vm.assertEq(found[0], SOURCE, "which");
        vm.assertEq(next, 1, "next");
        (found, next) = automation.overdue(1, type(uint256).max);
        vm.assertEq(found.length + next, 0, "none after");
        _refuses(OutOfRange.selector, 3, 2);
        automation.overdue(3, 1);
    }

    /// U3 over several ticks: more entries than one may skim, more due than one may ask about.
    function test_all_alarms_are_raised_within_the_bound_of_ticks() public {
        for (uint256 i = 1; i <= 600; i++) {
            _set(bytes32(i), i % 20 == 0 ? DAY : 9 * DAY);
        }
        _pass(DAY);
        vm.recordLogs();
        // 30 due ones are four ticks' questions, 600 entries three ticks' reads.
        for (uint256 i = 0; i < 6; i++) {
            automation.tick();
        }
        vm.assertEq(vm.getRecordedLogs().length, 30, "alarms");
        _quiet();
    }

    // --- tasks

    function test_the_owner_alone_lists_tasks() public {
        ToldTask task = new ToldTask();
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        automation.addTask(address(task));
        _refuses(NotAContract.selector, STRANGER);
        vm.prank(OWNER);
        automation.addTask(STRANGER);
        _expectEvent(address(automation));
        emit Tasks.TaskAdded(address(task));
        _add(address(task));
        _refuses(Tasks.TaskListed.selector, address(task));
        vm.prank(OWNER);
        automation.addTask(address(task));
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        automation.removeTask(address(task));
        _expectEvent(address(automation));
        emit Tasks.TaskRemoved(address(task));
        vm.prank(OWNER);
        automation.removeTask(address(task));
        _refuses(Tasks.NotATask.selector, address(task));
        vm.prank(OWNER);
        automation.removeTask(address(task));
        _refuses(OutOfRange.selector, 0, 0);
        automation.taskAt(0);
        for (uint256 i = 0; i < 16; i++) {
            _add(address(new ToldTask()));
        }
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(Tasks.TooManyTasks.selector, 16));
        automation.addTask(address(task));
    }

    function test_tasks_take_turns_with_their_stipend() public {
        ToldTask[3] memory tasks;
        for (uint256 i = 0; i < 3; i++) {
            tasks[i] = new ToldTask();
            _add(address(tasks[i]));
        }
        for (uint256 i = 0; i < 7; i++) {
            automation.tick{gas: TICK_GAS}();
        }
        vm.assertEq(tasks[0].runs(), 3, "first");
        vm.assertEq(tasks[1].runs(), 2, "second");
        vm.assertEq(tasks[2].runs(), 2, "third");
        vm.assertTrue(tasks[0].gasGiven() <= automation.TASK_GAS(), "no more than the stipend");
        vm.assertTrue(tasks[0].gasGiven() > automation.TASK_GAS() - 1_000, "no less");
    }

    function test_a_caller_with_little_gas_takes_no_turn_away() public {
        ToldTask task = new ToldTask();
        _add(address(task));
        automation.tick{gas: 220_000}();
        vm.assertEq(task.runs(), 0, "waits");
        (, bool failing) = automation.taskAt(0);
        vm.assertFalse(failing, "did not fail");
        automation.tick{gas: TICK_GAS}();
        vm.assertEq(task.runs(), 1, "runs");
    }

    function test_a_task_that_fails_is_told_once_and_so_is_one_that_runs_again() public {
        ToldTask task = new ToldTask();
        _add(address(task));
        task.tell(true);
        _expectEvent(address(automation));
        emit Tasks.TaskFailing(address(task));
        automation.tick();
        _quiet();
        (, bool failing) = automation.taskAt(0);
        vm.assertTrue(failing, "failing");
        task.tell(false);
        _expectEvent(address(automation));
        emit Tasks.TaskRunning(address(task));
        automation.tick();
        _quiet();
    }

    /// U4: neither spent gas, nor a long answer, nor a call back stops the alarm or the other tasks.
    function test_hostile_tasks_stop_nothing() public {
        ReenteringTask reentering = new ReenteringTask(automation);
        ToldTask good = new ToldTask();
        _add(address(new BurningTask()));
        _add(address(new LongTask(true)));
        _add(address(new LongTask(false)));
        _add(address(reentering));
        _add(address(good));
        _set(SOURCE, DAY);
        _pass(DAY);
        _expectEvent(address(automation));
        emit Automation.BackupOverdue(SOURCE, uint64(block.timestamp - DAY), DAY);
        for (uint256 i = 0; i < 5; i++) {
            automation.tick{gas: TICK_GAS}();
        }
        vm.assertEq(good.runs(), 1, "the good one");
        vm.assertFalse(reentering.entered(), "tick was entered");
        vm.assertTrue(reentering.looked(), "look was refused");
    }

    // --- inside

    function _set(bytes32 source, uint64 interval) private {
        vm.prank(OWNER);
        automation.setBackupInterval(source, interval);
    }

    function _add(address task) private {
        vm.prank(OWNER);
        automation.addTask(task);
    }

    /// A tick without an event.
    function _quiet() private {
        vm.recordLogs();
        automation.tick();
        vm.assertEq(vm.getRecordedLogs().length, 0, "a tick that should be quiet");
    }
}
