// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {NotAContract, NotOwner} from "../src/Errors.sol";
import {Freeze} from "../src/Freeze.sol";
import {Retention} from "../src/Retention.sol";
import {Tags} from "../src/Tags.sol";
import {Timeline} from "../src/Timeline.sol";
import {Vault} from "../src/Vault.sol";
import {Span, periodOf, yearAndMonth} from "../src/retention/Calendar.sol";
import {RetentionFixture} from "./RetentionFixture.sol";
import {vm} from "./Vm.sol";

contract RetentionTest is RetentionFixture {
    // --- rules that are none

    function test_rules_that_keep_nothing_or_count_too_much_are_refused() public {
        Retention.Rule memory rule = _last(0);
        rule.minimumAge = 1 days;
        _refuses(Retention.KeepsNothing.selector);
        new Retention(vault, timeline, freeze, tags, rule);
        rule.last = 500;
        rule.daily = 13;
        _refuses(Retention.CountsTooMany.selector, 513, 512);
        new Retention(vault, timeline, freeze, tags, rule);
        rule = _last(1);
        rule.tags = new bytes32[](17);
        _refuses(Retention.TooManyTags.selector, 17, 16);
        new Retention(vault, timeline, freeze, tags, rule);
        _refuses(NotAContract.selector, STRANGER);
        new Retention(vault, Timeline(STRANGER), freeze, tags, _last(1));
        _refuses(NotAContract.selector, STRANGER);
        new Retention(vault, timeline, Freeze(STRANGER), tags, _last(1));
    }

    function test_a_rule_is_told_as_it_was_laid_down() public {
        Retention.Rule memory rule = Retention.Rule(1, 2, 3, 4, 5, 6, 7 days, _tag("k"), 8 days);
        Retention retention = new Retention(vault, timeline, freeze, tags, rule);
        vm.assertEq(keccak256(abi.encode(retention.rule())), keccak256(abi.encode(rule)), "rule");
    }

    // --- who may what

    function test_a_writer_removes_what_the_rule_lets_go_and_nothing_else() public {
        _put(_last(2));
        bytes32 first = _commitAfter(WRITER, SOURCE, "1", 1 hours);
        bytes32 second = _commitAfter(WRITER, SOURCE, "2", 1 hours);
        bytes32 third = _commitAfter(WRITER, SOURCE, "3", 1 hours);
        vm.assertFalse(_forgetAs(WRITER, first), "the timeline knows of nothing newer yet");
        timeline.sync(SOURCE, 10);
        vm.assertFalse(_forgetAs(PAPER, first), "a recovery account is no writer");
        vm.assertFalse(_forgetAs(WRITER, third) || _forgetAs(WRITER, second), "kept");
        vm.assertTrue(_forgetAs(OTHER_WRITER, first), "any active writer cleans up");
        _revoke(OTHER_WRITER);
        _commitAfter(WRITER, SOURCE, "4", 1 hours);
        timeline.sync(SOURCE, 10);
        vm.assertFalse(_forgetAs(OTHER_WRITER, second), "revoked");
        vm.assertTrue(_forgetAs(OWNER, third), "the owner removes outside the rule");
        vm.assertFalse(_forgetAs(WRITER, second), "one of two that are left: kept again");
    }

    function test_nothing_goes_before_its_age_whoever_asks() public {
        Retention.Rule memory rule = _last(1);
        rule.minimumAge = 7 days;
        _put(rule);
        bytes32 first = _commitAfter(WRITER, SOURCE, "1", 1 hours);
        _commitAfter(WRITER, SOURCE, "2", 1 hours);
        timeline.sync(SOURCE, 10);
        _pass(7 days - 1 hours - 1);
        vm.assertFalse(_forgetAs(WRITER, first) || _forgetAs(OWNER, first), "too young");
        _pass(1);
        vm.assertTrue(_forgetAs(WRITER, first), "old enough");
    }

    /// What this is for: a stolen writer account fills the ledger with fakes and asks for the rest to go.
    function test_fakes_of_one_writer_displace_no_other_writers_snapshots() public {
        Retention.Rule memory rule = Retention.Rule(2, 3, 3, 0, 0, 0, 0, new bytes32[](0), 0);
        _put(rule);
        bytes32 good = _commitAfter(WRITER, SOURCE, "good", 1 hours);
        bytes32 better = _commitAfter(WRITER, SOURCE, "better", 1 hours);
        for (uint256 i = 0; i < 20; i++) {
            _commitAfter(OTHER_WRITER, SOURCE, keccak256(abi.encode(i)), 1 days);
        }
        timeline.sync(SOURCE, 100);
        vm.assertFalse(_forgetAs(OTHER_WRITER, good) || _forgetAs(OTHER_WRITER, better), "kept");
        vm.assertTrue(_forgetAs(OTHER_WRITER, keccak256(abi.encode(uint256(0)))), "its own it may let go");
    }

    function test_within_counts_from_the_newest_and_not_from_now() public {
        Retention.Rule memory rule = _last(0);
        rule.within = 10 days;
        _put(rule);
        bytes32 first = _commitAfter(WRITER, SOURCE, "1", 1 hours);
        bytes32 second = _commitAfter(WRITER, SOURCE, "2", 10 days - 1);
        timeline.sync(SOURCE, 10);
        _pass(400 days);
        vm.assertFalse(_forgetAs(WRITER, first), "backups stopped: nothing more goes");
        _commitAfter(WRITER, SOURCE, "3", 1);
        timeline.sync(SOURCE, 10);
        vm.assertTrue(_forgetAs(WRITER, first) && _forgetAs(WRITER, second), "now they are old");
    }

    function test_a_tag_protects_from_writers_and_only_the_owner_takes_it_away() public {
        Retention.Rule memory rule = _last(1);
        rule.tags = _tag("keep");
        _put(rule);
        vm.prank(WRITER);
        tags.add("1", _tag("keep")); // before there is such a snapshot
        _commitAfter(WRITER, SOURCE, "1", 1 hours);
        _commitAfter(WRITER, SOURCE, "2", 1 hours);
        timeline.sync(SOURCE, 10);
        vm.assertFalse(_forgetAs(WRITER, "1"), "tagged");
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        tags.remove("1", _tag("keep"));
        _refuses(Tags.NotAllowedToTag.selector, STRANGER);
        vm.prank(STRANGER);
        tags.add("1", _tag("x"));
        _expectEvent(address(tags));
        emit Tags.Untagged("1", "keep", OWNER);
        vm.prank(OWNER);
        tags.remove("1", _tag("keep"));
        vm.assertTrue(_forgetAs(WRITER, "1"), "no longer tagged");
    }

    // --- freezes

    function test_while_frozen_nothing_goes_and_a_new_rule_lifts_nothing() public {
        _put(_last(1));
        _commitAfter(WRITER, SOURCE, "1", 1 hours);
        _commitAfter(WRITER, SOURCE, "2", 1 hours);
        timeline.sync(SOURCE, 10);
        _expectEvent(address(freeze));
        emit Freeze.Frozen(OTHER_SOURCE, WRITER);
        vm.prank(WRITER);
        freeze.freeze(OTHER_SOURCE);
        vm.assertTrue(_forgetAs(WRITER, "1"), "another source is frozen");
        vm.assertFalse(_markAs(WRITER) || _markAs(OWNER), "stripes are shared: any freeze stops their removal");
        vm.prank(WRITER);
        freeze.freeze(bytes32(0));
        _put(_last(1));
        _commitAfter(WRITER, SOURCE, "3", 1 hours);
        timeline.sync(SOURCE, 10);
        vm.assertFalse(_forgetAs(WRITER, "2") || _forgetAs(OWNER, "2"), "the whole vault is frozen");
        _refuses(NotOwner.selector, WRITER);
        vm.prank(WRITER);
        freeze.unfreeze(bytes32(0));
        vm.prank(OWNER);
        freeze.unfreeze(bytes32(0));
        vm.assertTrue(_markAs(WRITER), "lifting the whole lifts every one");
        vm.assertFalse(freeze.isFrozen(OTHER_SOURCE), "also that of one source");
        vm.assertTrue(_forgetAs(WRITER, "2"), "lifted");
    }

    function test_a_freeze_is_made_once_and_lifted_once() public {
        _refuses(Freeze.NotAllowedToFreeze.selector, PAPER);
        vm.prank(PAPER);
        freeze.freeze(SOURCE);
        vm.prank(OWNER);
        freeze.freeze(SOURCE);
        vm.expectRevert(abi.encodeWithSelector(Freeze.AlreadyFrozen.selector, SOURCE, OWNER, uint64(block.timestamp)));
        vm.prank(WRITER);
        freeze.freeze(SOURCE);
        vm.prank(OWNER);
        freeze.unfreeze(SOURCE);
        vm.assertEq(freeze.frozenCount(), 0, "none");
        _refuses(Freeze.NotFrozen.selector, SOURCE);
        vm.prank(OWNER);
        freeze.unfreeze(SOURCE);
        _refuses(Freeze.NotFrozen.selector, bytes32(0));
        vm.prank(OWNER);
        freeze.unfreeze(bytes32(0));
    }

    function _markAs(address who) private returns (bool done) {
        vm.prank(who);
        (done,) = address(vault).call(abi.encodeCall(vault.mark, (bytes32(0), "stripes", 1)));
    }

    function test_stripes_are_removed_by_owner_and_writers_alone() public {
        _put(_last(type(uint32).max));
        vm.assertFalse(_markAs(PAPER) || _markAs(STRANGER), "neither");
        vm.assertTrue(_markAs(WRITER) && _markAs(OWNER), "both");
        _commitAfter(WRITER, SOURCE, "1", 1 hours);
        _commitAfter(WRITER, SOURCE, "2", 1 hours);
        timeline.sync(SOURCE, 10);
        vm.assertFalse(_forgetAs(WRITER, "1"), "all are kept");
        vm.assertTrue(_forgetAs(OWNER, "1"), "but from the owner");
    }

    // --- timeline

    function test_the_timeline_is_brought_up_in_pieces_and_drops_only_the_forgotten() public {
        _put(_last(1));
        for (uint256 i = 0; i < 7; i++) {
            _commitAfter(i % 2 == 0 ? WRITER : OTHER_WRITER, SOURCE, bytes32(i + 1), 1 hours);
        }
        vm.assertEq(timeline.sync(SOURCE, 3), 4, "left");
        vm.assertEq(timeline.sync(SOURCE, 3), 1, "left");
        vm.assertEq(timeline.sync(SOURCE, 3), 0, "left");
        vm.assertEq(timeline.newest(SOURCE, WRITER), 7, "newest");
        vm.assertEq(timeline.newest(SOURCE, OTHER_WRITER), 6, "newest");
        uint32[] memory places = new uint32[](2);
        (places[0], places[1]) = (3, 7);
        _refuses(Timeline.NotForgotten.selector, bytes32(uint256(3)));
        timeline.drop(SOURCE, places);
        vm.assertTrue(_forgetAs(OWNER, bytes32(uint256(3))) && _forgetAs(OWNER, bytes32(uint256(7))), "forgotten");
        timeline.drop(SOURCE, places);
        timeline.drop(SOURCE, places); // again: passed over
        vm.assertEq(timeline.newest(SOURCE, WRITER), 5, "newest");
        (, uint32 older) = timeline.entry(SOURCE, 5);
        vm.assertEq(older, 1, "linked past what went");
        places[0] = 8;
        vm.expectRevert(abi.encodeWithSelector(Timeline.UnknownPlace.selector, SOURCE, uint32(8)));
        timeline.drop(SOURCE, places);
    }

    /// Forgotten snapshots are skipped when a timeline is made late.
    function test_a_late_timeline_holds_no_forgotten_snapshots() public {
        _put(_last(1));
        _commitAfter(WRITER, SOURCE, "1", 1 hours);
        _commitAfter(WRITER, SOURCE, "2", 1 hours);
        vm.assertTrue(_forgetAs(OWNER, "2"), "forgotten");
        timeline.sync(SOURCE, 10);
        vm.assertEq(timeline.newest(SOURCE, WRITER), 1, "newest");
    }

    // --- work

    /// The costliest rule, over a chain as long as it counts, with as many forgotten entries that nobody dropped.
    function test_the_costliest_rule_fits_a_block() public {
        Retention.Rule memory rule = Retention.Rule(0, 0, 512, 0, 0, 0, 0, new bytes32[](0), 0);
        Retention retention = _put(rule);
        bytes32 first = _commitAfter(WRITER, SOURCE, "first", 1 days);
        for (uint256 i = 0; i < 520; i++) {
            _commitAfter(WRITER, SOURCE, bytes32(i + 1), 1 days);
        }
        while (timeline.sync(SOURCE, 200) != 0) {}
        uint256 before = gasleft();
        vm.assertFalse(retention.keeps(SOURCE, first), "512 newer days");
        vm.assertTrue(before - gasleft() < 24_000_000, "gas");
    }

    /// A usual rule over a long history of which most is forgotten.
    function test_gas_does_not_grow_with_what_was_forgotten() public {
        Retention retention = _put(Retention.Rule(1, 0, 7, 4, 12, 2, 0, new bytes32[](0), 0));
        uint256[2] memory spent;
        for (uint256 i = 0; i < 1_000; i++) {
            bytes32 id = _commitAfter(WRITER, SOURCE, bytes32(i + 1), 1 days);
            timeline.sync(SOURCE, 1);
            if (i < 40) continue;
            bytes32 old = bytes32(i + 1 - 9);
            uint256 before = gasleft();
            bool kept = retention.keeps(SOURCE, old);
            if (i == 60) spent[0] = before - gasleft();
            if (i == 990) spent[1] = before - gasleft();
            if (!kept && _forgetAs(WRITER, old)) {
                uint32[] memory places = new uint32[](1);
                places[0] = uint32(i + 1 - 9);
                timeline.drop(SOURCE, places);
            }
            vm.assertTrue(id != old, "another");
        }
        vm.assertTrue(spent[1] < spent[0] + 300_000 && spent[1] < 1_500_000, "gas");
    }

    // --- the calendar

    function test_weeks_begin_on_monday() public pure {
        uint64 monday = 4 days; // 1970-01-05
        vm.assertEq(periodOf(Span.Week, monday), periodOf(Span.Week, monday + 7 days - 1), "one week");
        vm.assertEq(periodOf(Span.Week, monday - 1) + 1, periodOf(Span.Week, monday), "the next");
    }

    /// Against counting day by day.
    function test_years_and_months_are_those_of_the_calendar() public pure {
        uint256 day = 0;
        for (uint256 year = 1970; year < 2110; year++) {
            bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            uint8[12] memory lengths = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (uint256 month = 1; month <= 12; month++) {
                _checkDay(day, year, month);
                day += lengths[month - 1];
                _checkDay(day - 1, year, month);
            }
        }
    }

    function _checkDay(uint256 day, uint256 year, uint256 month) private pure {
        (uint256 foundYear, uint256 foundMonth) = yearAndMonth(day);
        vm.assertEq(foundYear, year, "year");
        vm.assertEq(foundMonth, month, "month");
    }
}
