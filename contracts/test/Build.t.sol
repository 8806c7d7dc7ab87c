// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {Alarms} from "../src/Alarms.sol";
import {AnchorPoint} from "../src/AnchorPoint.sol";
import {Anchors} from "../src/Anchors.sol";
import {Automation} from "../src/Automation.sol";
import {Freeze} from "../src/Freeze.sol";
import {GroupValidators} from "../src/GroupValidators.sol";
import {OwnerAfterFloor} from "../src/OwnerAfterFloor.sol";
import {Retention} from "../src/Retention.sol";
import {Tags} from "../src/Tags.sol";
import {Timeline} from "../src/Timeline.sol";
import {Validators} from "../src/Validators.sol";
import {Vault} from "../src/Vault.sol";
import {vm} from "./Vm.sol";

/// What is tested here is what is checked in: the same creation code, byte for byte.
contract BuildTest {
    function test_checked_in_bytecode_is_the_one_under_test() public view {
        _same("Access", type(Access).creationCode);
        _same("Alarms", type(Alarms).creationCode);
        _same("AnchorPoint", type(AnchorPoint).creationCode);
        _same("Anchors", type(Anchors).creationCode);
        _same("Automation", type(Automation).creationCode);
        _same("Freeze", type(Freeze).creationCode);
        _same("GroupValidators", type(GroupValidators).creationCode);
        _same("OwnerAfterFloor", type(OwnerAfterFloor).creationCode);
        _same("Retention", type(Retention).creationCode);
        _same("Tags", type(Tags).creationCode);
        _same("Timeline", type(Timeline).creationCode);
        _same("Validators", type(Validators).creationCode);
        _same("Vault", type(Vault).creationCode);
    }

    function _same(string memory name, bytes memory tested) private view {
        string memory json = vm.readFile(string.concat("abi/", name, ".json"));
        bytes memory checkedIn = vm.parseJsonBytes(json, ".bytecode");
        vm.assertEq(keccak256(checkedIn), keccak256(tested), name);
    }
}
