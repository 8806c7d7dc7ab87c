// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Automation} from "../src/Automation.sol";
import {ITask} from "../src/automation/Tasks.sol";

/// Counts its runs, and fails while it is told to.
contract ToldTask is ITask {
    uint256 public runs;
    uint256 public gasGiven;
    bool private _fails;

    function tell(bool fails) external {
        _fails = fails;
    }

    function tick() external {
        gasGiven = gasleft();
        require(!_fails);
        runs += 1;
    }
}

/// Burns all gas it is given.
contract BurningTask is ITask {
    function tick() external pure {
        assembly { invalid() }
    }
}

/// Answers as many bytes as its gas buys, as a return or as a revert.
contract LongTask is ITask {
    bool private immutable _reverts;

    constructor(bool reverts) {
        _reverts = reverts;
    }

    function tick() external view {
        bool reverts = _reverts;
        assembly {
            if reverts { revert(0, 200000) }
            return(0, 200000)
        }
    }
}

/// Calls the tick that runs it.
contract ReenteringTask is ITask {
    Automation private immutable _automation;
    bool public entered;
    bool public looked;

    constructor(Automation automation) {
        _automation = automation;
    }

    function tick() external {
        (entered,) = address(_automation).call(abi.encodeCall(Automation.tick, ()));
        (looked,) = address(_automation).call(abi.encodeCall(Automation.look, (bytes32("source"))));
    }
}
