// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {Automation} from "../src/Automation.sol";
import {Fixture} from "./Fixture.sol";
import {BurningTask} from "./Tasks.sol";
import {vm} from "./Vm.sol";

/// An owner that sets many intervals in one transaction.
contract ManyIntervals {
    constructor(Access access, Automation automation) {
        _access = access;
        _automation = automation;
    }

    Access private immutable _access;
    Automation private immutable _automation;

    function accept() external {
        _access.acceptOwnership();
    }

    function set(uint256 from, uint256 to, uint64 interval) external {
        for (uint256 i = from; i < to; i++) {
            _automation.setBackupInterval(bytes32(i), interval);
        }
    }
}

/// What a tick costs as a transaction of its own, with nothing read before. U1: the greatest is the same whatever is
/// watched.
/// forge-config: default.isolate = true
contract AutomationGasTest is Fixture {
    /// What the ledger's rules give a tick.
    uint256 private constant TICK_GAS = 1_000_000;
    /// Own work at most.
    uint256 private constant MOST = 620_000;
    /// With a task that burns its stipend.
    uint256 private constant MOST_WITH_TASK = 840_000;

    Automation private automation;

    function setUp() public override {
        super.setUp();
        automation = new Automation(vault, access);
    }

    function test_gas_with_nothing_watched() public {
        vm.assertTrue(_tick("none") < 35_000, "none");
    }

    function test_gas_with_a_hundred_watched() public {
        _measure(100);
    }

    function test_gas_with_ten_thousand_watched() public {
        _measure(10_000);
    }

    /// The costliest window: its first eight are overdue, each by a snapshot that was not seen before, and as many
    /// entries are compared as may be.
    function _measure(uint256 count) private {
        _watch(count);
        for (uint256 i = 1; i <= 8; i++) {
            _committed(bytes32(i), keccak256(abi.encode(i)));
        }
        for (uint256 i = 0; i <= count / 256; i++) {
            vm.assertTrue(_tick("compare alone") < MOST, "compare");
        }
        vm.assertTrue(_tick("rest") < 35_000, "rest");
        _pass(2 days);
        uint256 worst = _tick("eight new snapshots, all overdue");
        vm.assertTrue(worst < MOST, "worst");

        BurningTask task = new BurningTask();
        vm.prank(OWNER);
        automation.addTask(address(task));
        for (uint256 i = 1; i <= 8; i++) {
            _committed(bytes32(i), keccak256(abi.encode(i, "again")));
        }
        _pass(1 hours);
        // Past the end of the round that the first tick began.
        for (uint256 i = 0; i < count / 256; i++) {
            vm.assertTrue(_tick("compare alone, burning task") < MOST_WITH_TASK, "compare");
        }
        worst = _tick("eight resumed, burning task");
        vm.assertTrue(worst > 300_000 && worst < MOST_WITH_TASK, "worst with task");
    }

    event Measured(string what, uint256 gas);

    function _tick(string memory what) private returns (uint256 used) {
        automation.tick{gas: TICK_GAS}();
        used = vm.lastCallGas().gasTotalUsed;
        emit Measured(what, used);
    }

    function _watch(uint256 count) private {
        ManyIntervals owner = new ManyIntervals(access, automation);
        vm.prank(OWNER);
        access.transferOwnership(address(owner));
        owner.accept();
        owner.set(1, 9, 1 days);
        for (uint256 from = 9; from <= count; from += 1000) {
            owner.set(from, from + 1000 > count ? count + 1 : from + 1000, 3650 days);
        }
        vm.assertEq(automation.watchedCount(), count, "watched");
        vm.prank(address(owner));
        access.transferOwnership(OWNER);
        vm.prank(OWNER);
        access.acceptOwnership();
    }
}
