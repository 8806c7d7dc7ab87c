// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {IPolicy} from "../src/IPolicy.sol";
import {OwnerAfterFloor} from "../src/OwnerAfterFloor.sol";
import {Vault} from "../src/Vault.sol";
import {vm} from "./Vm.sol";

/// One vault with an owner, a paper account and two writers.
abstract contract Fixture {
    address internal constant OWNER = address(0x1001);
    address internal constant PAPER = address(0x1002);
    address internal constant WRITER = address(0x2001);
    address internal constant OTHER_WRITER = address(0x2002);
    address internal constant STRANGER = address(0x3001);

    bytes32 internal constant VAULT_ID = "vault";
    bytes32 internal constant RECIPIENTS = "default recipients";
    bytes32 internal constant SOURCE = "source";
    bytes32 internal constant OTHER_SOURCE = "other source";
    uint64 internal constant FLOOR = 30 days;
    uint64 internal constant LEASE = 1 hours;

    Access internal access;
    OwnerAfterFloor internal policy;
    Vault internal vault;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(100);
        access = new Access(OWNER, _one(PAPER));
        policy = new OwnerAfterFloor(access, FLOOR);
        vault = new Vault(access, VAULT_ID, RECIPIENTS, policy);
        _enrol(WRITER);
        _enrol(OTHER_WRITER);
    }

    function _one(address only) internal pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = only;
    }

    function _enrol(address who) internal {
        vm.prank(OWNER);
        access.enrolWriter(who, address(0), 0, false);
    }

    function _revoke(address who) internal {
        vm.prank(OWNER);
        access.revokeWriter(who);
    }

    function _open(address who) internal returns (bytes32) {
        vm.prank(who);
        return vault.openSession(LEASE);
    }

    /// A commit that nothing is wrong with, if session and source are right.
    function _draft(bytes32 session, bytes32 source, bytes32 snapshot) internal pure returns (Vault.Commit memory c) {
        c.session = session;
        c.source = source;
        c.snapshot = snapshot;
        c.objectHash = "object";
        c.listRoot = "list";
        c.storedBytes = 5 << 20;
        c.recipients = RECIPIENTS;
        c.tags = new bytes32[](3);
        c.tags[0] = "tag 0";
        c.tags[1] = "tag 1";
        c.tags[2] = "tag 2";
        c.d = 6;
        c.w = 2;
        c.wd = 1;
        c.headHeight = 900_000;
        c.headHash = "head";
    }

    function _commitAs(address who, Vault.Commit memory c) internal {
        vm.prank(who);
        vault.commit(c);
    }

    /// Opens a session of `WRITER` and commits in it.
    function _committed(bytes32 source, bytes32 snapshot) internal returns (bytes32) {
        _commitAs(WRITER, _draft(_open(WRITER), source, snapshot));
        return snapshot;
    }

    function _setPolicy(bytes32 source, address to) internal {
        vm.prank(OWNER);
        vault.setPolicy(source, IPolicy(to));
    }

    function _pass(uint256 secondsPassed) internal {
        vm.warp(block.timestamp + secondsPassed);
        vm.roll(block.number + 1);
    }

    // Expectations: the next call is refused with this error.

    function _refuses(bytes4 error_) internal {
        vm.expectRevert(abi.encodeWithSelector(error_));
    }

    function _refuses(bytes4 error_, address who) internal {
        vm.expectRevert(abi.encodeWithSelector(error_, who));
    }

    function _refuses(bytes4 error_, bytes32 object) internal {
        vm.expectRevert(abi.encodeWithSelector(error_, object));
    }

    function _refuses(bytes4 error_, uint256 first, uint256 second) internal {
        vm.expectRevert(abi.encodeWithSelector(error_, first, second));
    }

    /// The next event of `emitter` is the one emitted after this call, in all topics and data.
    function _expectEvent(address emitter) internal {
        vm.expectEmit(true, true, true, true, emitter);
    }
}
