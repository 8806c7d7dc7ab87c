// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Retention} from "../src/Retention.sol";
import {yearAndMonth} from "../src/retention/Calendar.sol";
import {RetentionFixture} from "./RetentionFixture.sol";
import {bound, vm} from "./Vm.sol";

/// The rule of retention beside a slow and obvious model of it, over random histories of two writers and two sources.
contract RetentionModelTest is RetentionFixture {
    struct Known {
        bytes32 id;
        bytes32 source;
        address writer;
        uint64 time;
        bool forgotten;
    }

    Known[] private known;
    uint256 private random;

    function testFuzz_the_contract_keeps_what_the_model_keeps(uint256 seed) public {
        random = seed;
        Retention.Rule memory rule = _rule();
        Retention retention = _put(rule);
        uint256 steps = 8 + _next(25);
        for (uint256 i = 0; i < steps; i++) {
            if (_next(4) == 0 && known.length > 0) _forgetAny();
            else _commitAny(i);
            if (_next(3) == 0) timeline.sync(_sourceOf(_next(2)), uint32(1 + _next(4)));
            if (_next(3) == 0) _dropSome();
        }
        // R3: with whatever the timeline lacks or has too much of, it keeps no less.
        for (uint256 i = 0; i < known.length; i++) {
            if (known[i].forgotten) continue;
            bool kept = retention.keeps(known[i].source, known[i].id);
            vm.assertTrue(kept || !_keeps(rule, known[i]), "lets go what the model keeps");
        }
        timeline.sync(SOURCE, 1000);
        timeline.sync(OTHER_SOURCE, 1000);
        for (uint256 i = 0; i < known.length; i++) {
            if (known[i].forgotten) continue;
            bool kept = retention.keeps(known[i].source, known[i].id);
            vm.assertTrue(kept == _keeps(rule, known[i]), kept ? "keeps too much" : "keeps too little");
            bool may = retention.mayRemove(WRITER, known[i].source, known[i].id, known[i].time);
            vm.assertTrue(may == (!kept && block.timestamp >= known[i].time + rule.minimumAge), "writer");
        }
    }

    // --- the model: each snapshot by itself, all others compared with it

    function _keeps(Retention.Rule memory rule, Known memory asked) private view returns (bool) {
        uint64 newestTime = 0;
        uint256 newer = 0;
        for (uint256 i = 0; i < known.length; i++) {
            if (!_isNewer(known[i], asked)) continue;
            newer++;
            if (known[i].time > newestTime) newestTime = known[i].time;
        }
        if (newer == 0 || newer < rule.last) return true;
        if (newestTime < asked.time + rule.within) return true;
        for (uint256 i = 0; i < rule.tags.length; i++) {
            if (tags.has(asked.id, rule.tags[i])) return true;
        }
        return _keptBy(rule.hourly, 0, asked) || _keptBy(rule.daily, 1, asked) || _keptBy(rule.weekly, 2, asked)
            || _keptBy(rule.monthly, 3, asked) || _keptBy(rule.yearly, 4, asked);
    }

    function _isNewer(Known memory other, Known memory asked) private pure returns (bool) {
        return !other.forgotten && other.source == asked.source && other.writer == asked.writer
            && other.time > asked.time;
    }

    /// No newer one in its period, and fewer than `count` periods with newer ones.
    function _keptBy(uint32 count, uint256 span, Known memory asked) private view returns (bool) {
        uint256[] memory seen = new uint256[](known.length);
        uint256 distinct = 0;
        for (uint256 i = 0; i < known.length; i++) {
            if (!_isNewer(known[i], asked)) continue;
            uint256 period = _period(span, known[i].time);
            if (period == _period(span, asked.time)) return false;
            bool isNew = true;
            for (uint256 j = 0; j < distinct; j++) {
                if (seen[j] == period) isNew = false;
            }
            if (isNew) seen[distinct++] = period;
        }
        return distinct < count;
    }

    function _period(uint256 span, uint64 time) private pure returns (uint256) {
        if (span == 0) return time / 3600;
        if (span == 1) return time / 86400;
        if (span == 2) return (time - 4 days) / 604800; // 1970-01-05 was a Monday
        (uint256 year, uint256 month) = yearAndMonth(time / 86400);
        return span == 3 ? year * 100 + month : year;
    }

    // --- what happens

    function _rule() private returns (Retention.Rule memory rule) {
        rule.last = uint32(_next(4));
        rule.hourly = uint32(_some(4));
        rule.daily = uint32(_some(5));
        rule.weekly = uint32(_some(4));
        rule.monthly = uint32(_some(4));
        rule.yearly = uint32(_some(3));
        rule.within = uint64(_some(40) * 1 days);
        rule.minimumAge = uint64(_some(20) * 1 days);
        rule.tags = _tag("tag");
    }

    function _commitAny(uint256 number) private {
        uint256[6] memory gaps = [uint256(0), 20 minutes, 3 hours, 1 days, 9 days, 100 days];
        uint256 gap = gaps[_next(6)];
        gap = gap == 0 ? 0 : bound(_next(type(uint256).max), gap / 2, gap * 2);
        (address who, bytes32 source) = (_next(3) == 0 ? OTHER_WRITER : WRITER, _sourceOf(_next(4) / 3));
        bytes32 id = keccak256(abi.encode(number));
        _commitAfter(who, source, id, gap);
        known.push(Known(id, source, who, uint64(block.timestamp), false));
        if (_next(6) != 0) return;
        vm.prank(WRITER);
        tags.add(id, _tag("tag"));
    }

    function _forgetAny() private {
        Known storage chosen = known[_next(known.length)];
        if (_forgetAs(_next(2) == 0 ? OWNER : WRITER, chosen.id)) chosen.forgotten = true;
    }

    function _dropSome() private {
        bytes32 source = _sourceOf(_next(2));
        uint32 count = timeline.imported(source);
        if (count == 0) return;
        uint32[] memory places = new uint32[](1);
        places[0] = uint32(1 + _next(count));
        (bool done,) = address(timeline).call(abi.encodeCall(timeline.drop, (source, places)));
        bool forgotten = vault.snapshot(vault.snapshotOf(source, places[0] - 1)).forgotten;
        (uint64 time,) = timeline.entry(source, places[0]);
        vm.assertTrue(done ? time == 0 || !forgotten : !forgotten, "drops the forgotten and nothing else");
    }

    function _sourceOf(uint256 number) private pure returns (bytes32) {
        return number == 0 ? SOURCE : OTHER_SOURCE;
    }

    function _some(uint256 most) private returns (uint256) {
        return _next(2) == 0 ? 0 : _next(most);
    }

    function _next(uint256 below) private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return random % below;
    }
}
