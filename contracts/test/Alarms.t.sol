// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {Alarms} from "../src/Alarms.sol";
import {NotAContract, NotEnrolled, NotOwner} from "../src/Errors.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

contract AlarmsTest is Fixture {
    Alarms private alarms;

    function setUp() public override {
        super.setUp();
        alarms = new Alarms(access);
        vm.prank(OWNER);
        alarms.setNode(WRITER, "node");
    }

    function test_it_needs_an_access() public {
        _refuses(NotAContract.selector, STRANGER);
        new Alarms(Access(STRANGER));
    }

    function test_the_owner_alone_says_who_speaks_for_a_node() public {
        _expectEvent(address(alarms));
        emit Alarms.NodeSet(OTHER_WRITER, "other");
        vm.prank(OWNER);
        alarms.setNode(OTHER_WRITER, "other");
        vm.assertEq(alarms.nodeOf(OTHER_WRITER), "other", "node");
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        alarms.setNode(WRITER, "other");
        _refuses(Alarms.ZeroSpeaker.selector, bytes32("node"));
        vm.prank(OWNER);
        alarms.setNode(address(0), "node");
    }

    /// L1.
    function test_a_report_names_the_node_of_its_sender() public {
        _expectEvent(address(alarms));
        emit Alarms.TamperReported("node", 7, WRITER, "hash of 7", "block");
        _report(WRITER, 7, "block");
    }

    /// L1.
    function test_others_report_nothing() public {
        _refuses(Alarms.NotANode.selector, OTHER_WRITER);
        _report(OTHER_WRITER, 7, "block");
        _refuses(NotEnrolled.selector, STRANGER);
        _report(STRANGER, 7, "block");
        vm.prank(OWNER);
        alarms.setNode(STRANGER, "strange");
        _refuses(NotEnrolled.selector, STRANGER);
        _report(STRANGER, 7, "block");
        _revoke(WRITER);
        _refuses(NotEnrolled.selector, WRITER);
        _report(WRITER, 7, "block");
    }

    function test_a_node_that_is_unset_reports_no_more() public {
        vm.prank(OWNER);
        alarms.setNode(WRITER, 0);
        _refuses(Alarms.NotANode.selector, WRITER);
        _report(WRITER, 7, "block");
    }

    /// L2.
    function testFuzz_a_node_reports_once_in_a_while(uint64 passed) public {
        uint64 pause = alarms.PAUSE_SECONDS();
        passed = passed % (3 * pause);
        _report(WRITER, 7, "state");
        uint64 until = uint64(block.timestamp) + pause;
        vm.assertEq(alarms.silentUntil(WRITER), until, "silence");
        _pass(passed);
        if (passed < pause) _refuses(Alarms.TooSoon.selector, uint160(WRITER), until);
        _report(WRITER, 8, "state");
    }

    function test_one_node_does_not_silence_another() public {
        vm.prank(OWNER);
        alarms.setNode(OTHER_WRITER, "other");
        _report(WRITER, 7, "file");
        _report(OTHER_WRITER, 7, "file");
    }

    function test_what_makes_no_sense_is_refused() public {
        _refuses(Alarms.ZeroWord.selector, bytes32("node"));
        _report(WRITER, 7, 0);
        _refuses(Alarms.HeightAhead.selector, block.number + 1, block.number);
        _report(WRITER, uint64(block.number + 1), "block");
        _report(WRITER, uint64(block.number), "block");
    }

    function _report(address who, uint64 height, bytes32 what) private {
        vm.prank(who);
        alarms.reportTamper(height, "hash of 7", what);
    }
}
