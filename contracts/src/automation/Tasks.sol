// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../Access.sol";
import {NotAContract, NotOwner, OutOfRange} from "../Errors.sol";

/// What a later module offers to be run by the ledger: a call in which it tells what time has made due.
interface ITask {
    function tick() external;
}

/// The later tasks of the ledger, run one a tick in turn.
///
/// `Automation` is final, and the ledger's rules name its address. So what comes later joins by this list, and not by
/// another rule of blocks.
///
/// - **Owns** the list of tasks, whose turn it is, which of them fail.
/// - **Does not** trust a task: it gets a stipend of gas and a bare call, its answer is not read.
///
/// # Invariants
/// - **K1** A tick runs at most one task, with at most `TASK_GAS`; each gets its turn once in as many ticks as there
///   are tasks, unless the caller gave too little gas, when the turn waits.
/// - **K2** A task cannot make the tick revert, nor enter it again.
/// - **K3** The call brings no right with it: the caller that a task sees is enrolled nowhere.
abstract contract Tasks {
    /// Fills one slot.
    struct Task {
        address target;
        bool failing;
    }

    /// Fills one slot.
    struct Turn {
        uint32 next;
        bool running;
    }

    uint256 public constant MOST_TASKS = 16;
    uint256 public constant TASK_GAS = 200_000;
    /// What must be left to give a task its stipend: a call passes on 63 of 64 parts at most; and to end the tick.
    uint256 private constant GAS_TO_RUN = TASK_GAS + TASK_GAS / 63 + 25_000;

    /// Who the owner is.
    Access public immutable access;

    Task[] private _tasks;
    Turn private _turn;

    event TaskAdded(address indexed task);
    event TaskRemoved(address indexed task);
    /// The first run that failed after one that did not.
    event TaskFailing(address indexed task);
    /// The first run that did not fail after one that did.
    event TaskRunning(address indexed task);

    error TaskListed(address task);
    error NotATask(address task);
    error TooManyTasks(uint256 most);
    error TickEntered();

    modifier onlyOwner() {
        require(msg.sender == access.owner(), NotOwner(msg.sender));
        _;
    }

    constructor(Access access_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
    }

    function taskCount() external view returns (uint256) {
        return _tasks.length;
    }

    /// A task, in no order, and whether its last run failed.
    function taskAt(uint256 index) external view returns (address target, bool failing) {
        require(index < _tasks.length, OutOfRange(index, _tasks.length));
        Task storage found = _tasks[index];
        return (found.target, found.failing);
    }

    function addTask(address task) external onlyOwner {
        _refuseReentry();
        require(task.code.length != 0, NotAContract(task));
        require(_find(task) == _tasks.length, TaskListed(task));
        require(_tasks.length < MOST_TASKS, TooManyTasks(MOST_TASKS));
        _tasks.push(Task({target: task, failing: false}));
        emit TaskAdded(task);
    }

    function removeTask(address task) external onlyOwner {
        _refuseReentry();
        uint256 index = _find(task);
        require(index != _tasks.length, NotATask(task));
        _tasks[index] = _tasks[_tasks.length - 1];
        _tasks.pop();
        emit TaskRemoved(task);
    }

    // --- inside

    /// K2.
    function _refuseReentry() internal view {
        require(!_turn.running, TickEntered());
    }

    /// K1: the next task, if there is one and gas for it.
    function _runNext() internal {
        uint256 count = _tasks.length;
        if (count == 0 || gasleft() < GAS_TO_RUN) return;
        uint256 index = _turn.next % count;
        Task storage task = _tasks[index];
        address target = task.target;
        _turn = Turn({next: uint32((index + 1) % count), running: true});
        bytes memory input = abi.encodeCall(ITask.tick, ());
        bool failed;
        assembly ("memory-safe") {
            // No byte of the answer is copied: its length costs the task, not the tick.
            failed := iszero(call(TASK_GAS, target, 0, add(input, 32), mload(input), 0, 0))
        }
        _turn.running = false;
        if (failed == task.failing) return;
        task.failing = failed;
        if (failed) emit TaskFailing(target);
        else emit TaskRunning(target);
    }

    function _find(address task) private view returns (uint256 index) {
        while (index < _tasks.length && _tasks[index].target != task) index++;
    }
}
