// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Freeze} from "../src/Freeze.sol";
import {IPolicy} from "../src/IPolicy.sol";
import {Retention} from "../src/Retention.sol";
import {Tags} from "../src/Tags.sol";
import {Timeline} from "../src/Timeline.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

/// A vault with everything that a rule of retention consults.
abstract contract RetentionFixture is Fixture {
    Timeline internal timeline;
    Freeze internal freeze;
    Tags internal tags;

    function setUp() public virtual override {
        super.setUp();
        timeline = new Timeline(vault);
        freeze = new Freeze(access);
        tags = new Tags(access);
    }

    function _put(Retention.Rule memory rule) internal returns (Retention retention) {
        retention = new Retention(vault, timeline, freeze, tags, rule);
        vm.prank(OWNER);
        vault.setDefaultPolicy(IPolicy(address(retention)));
    }

    function _last(uint32 count) internal pure returns (Retention.Rule memory rule) {
        rule.last = count;
        rule.tags = new bytes32[](0);
    }

    /// A commit by `who`, `seconds_` after the last block.
    function _commitAfter(address who, bytes32 source, bytes32 id, uint256 seconds_) internal returns (bytes32) {
        if (seconds_ != 0) _pass(seconds_);
        _commitAs(who, _draft(_open(who), source, id));
        return id;
    }

    function _forgetAs(address who, bytes32 id) internal returns (bool done) {
        vm.prank(who);
        (done,) = address(vault).call(abi.encodeCall(vault.forget, (id)));
    }

    function _tag(bytes32 tag) internal pure returns (bytes32[] memory list) {
        list = new bytes32[](1);
        list[0] = tag;
    }
}
