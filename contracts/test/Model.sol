// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import {ToldPolicy} from "./Policies.sol";
import {Vault} from "../src/Vault.sol";
import {bound, vm} from "./Vm.sol";

/// Drives a vault with arbitrary calls beside a slow and obvious model of it.
///
/// The model foretells for every call whether the vault takes it; `_expect` reverts, and with it the campaign,
/// where the vault decides otherwise. What was taken is written down for the invariants to compare.
contract Model is Fixture {
    struct ModelSession {
        bytes32 id;
        address writer;
        uint256 epoch;
        uint256 expires;
        bool ended;
    }

    struct ModelSnapshot {
        bytes32 id;
        bytes32 source;
        bytes32 parent;
        uint256 session;
        uint256 height;
        /// How many sweeps had succeeded when it was committed.
        uint256 sweepsBefore;
        bool forgotten;
    }

    struct ModelMarking {
        bytes32 source;
        bool swept;
        /// Its place among the sweeps, from 1.
        uint256 sweepNumber;
    }

    ToldPolicy internal told;
    address[] internal actors;
    bytes32[3] internal sources = [bytes32("source a"), "source b", "source c"];
    bytes32[3] internal sets = [RECIPIENTS, "set b", "set c"];

    ModelSession[] internal sessions;
    ModelSnapshot[] internal snapshots;
    ModelMarking[] internal markings;
    uint256 internal sweeps;
    bytes32 internal defaultSet = RECIPIENTS;
    mapping(address => bool) internal writes;
    mapping(address => bool) internal enrolled;
    mapping(bytes32 source => bool) internal permitted;
    mapping(bytes32 source => mapping(bytes32 set => bool)) internal approved;

    constructor() {
        setUp();
        told = new ToldPolicy();
        vm.prank(OWNER);
        vault.setDefaultPolicy(told);
        _admit(OWNER, false);
        _admit(PAPER, false);
        _admit(WRITER, true);
        _admit(OTHER_WRITER, true);
        actors.push(STRANGER);
    }

    function _admit(address who, bool writer) private {
        actors.push(who);
        enrolled[who] = true;
        writes[who] = writer;
    }

    // --- what may happen

    function pass(uint256 any) external {
        _pass(bound(any, 1, 2 hours));
    }

    function enrol(uint256 any) external {
        address who = address(uint160(0x5000 + actors.length));
        if (actors.length > 12 || any % 4 != 0) return;
        _enrol(who);
        _admit(who, true);
    }

    function revoke(uint256 who) external {
        address actor = _actor(who);
        if (who % 5 != 0) return;
        vm.prank(OWNER);
        _expect(writes[actor], address(access), abi.encodeCall(access.revokeWriter, (actor)));
        if (!writes[actor]) return;
        writes[actor] = false;
        enrolled[actor] = false;
    }

    function permit(uint256 source, bool yes) external {
        told.tell(_source(source), yes);
        permitted[_source(source)] = yes;
    }

    function approve(uint256 source, uint256 set, bool yes) external {
        bytes32 chosen = sets[set % 3];
        vm.prank(OWNER);
        vault.approveRecipients(_source(source), chosen, yes);
        approved[_source(source)][chosen] = yes;
    }

    function setDefault(uint256 set) external {
        defaultSet = sets[set % 3];
        vm.prank(OWNER);
        vault.setDefaultRecipients(defaultSet);
    }

    function open(uint256 who, uint64 lease) external {
        address actor = _actor(who);
        lease = uint64(bound(lease, 59, 3 hours));
        bool taken = writes[actor] && lease >= 60 && live() < 256;
        vm.prank(actor);
        bytes memory answer = _expect(taken, address(vault), abi.encodeCall(vault.openSession, (lease)));
        if (!taken) return;
        bytes32 id = abi.decode(answer, (bytes32));
        sessions.push(ModelSession(id, actor, markings.length, block.timestamp + lease, false));
    }

    function renew(uint256 which, uint256 who, uint64 lease) external {
        if (sessions.length == 0) return;
        ModelSession storage session = _session(which);
        address actor = _mostly(session.writer, who);
        lease = uint64(bound(lease, 59, 3 hours));
        bool taken = _usable(session, actor) && lease >= 60;
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.renewSession, (session.id, lease)));
        if (taken) session.expires = block.timestamp + lease;
    }

    function end(uint256 which, uint256 who) external {
        if (sessions.length == 0 || who % 3 != 0) return;
        ModelSession storage session = _session(which);
        (,,,, bool open_) = vault.session(session.id);
        if (!open_) return; // whether a dead one still stands in the list is not the model's to know
        address actor = _mostly(session.writer, who);
        bool taken = actor == session.writer;
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.endSession, (session.id)));
        if (taken) session.ended = true;
    }

    function commit(uint256 which, uint256 who, uint256 source, uint256 set, uint256 parent) external {
        if (sessions.length == 0) return;
        uint256 index = _index(which);
        ModelSession storage session = sessions[index];
        address actor = _mostly(session.writer, who);
        Vault.Commit memory c = _draft(session.id, _source(source), keccak256(abi.encode(snapshots.length)));
        if (who % 11 == 0 && snapshots.length > 0) c.snapshot = snapshots[which % snapshots.length].id; // a second time
        c.recipients = set % 2 == 0 ? defaultSet : sets[set % 3];
        bool parentFits = true;
        if (snapshots.length > 0 && parent % 3 != 0) {
            ModelSnapshot storage chosen = snapshots[parent % snapshots.length];
            c.parent = chosen.id;
            parentFits = chosen.source == c.source && !chosen.forgotten;
        }
        bool fresh = _find(c.snapshot) == snapshots.length;
        bool known = c.recipients == defaultSet || approved[c.source][c.recipients];
        bool taken = _usable(session, actor) && fresh && known && parentFits;
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.commit, (c)));
        if (!taken) return;
        session.ended = true;
        snapshots.push(ModelSnapshot(c.snapshot, c.source, c.parent, index, block.number, sweeps, false));
    }

    function forget(uint256 which, uint256 who) external {
        if (snapshots.length == 0) return;
        ModelSnapshot storage chosen = snapshots[which % snapshots.length];
        address actor = _actor(who);
        bool taken = enrolled[actor] && permitted[chosen.source] && !chosen.forgotten;
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.forget, (chosen.id)));
        if (taken) chosen.forgotten = true;
    }

    function mark(uint256 source, uint256 who) external {
        address actor = _actor(who);
        bytes32 chosen = _source(source);
        bool taken = enrolled[actor] && permitted[chosen];
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.mark, (chosen, "stripes", 1)));
        if (taken) markings.push(ModelMarking(chosen, false, 0));
    }

    function sweep(uint256 which, uint256 who) external {
        uint256 epoch = markings.length == 0 ? which % 2 : bound(which, 1, markings.length);
        address actor = _actor(who);
        bool taken = enrolled[actor] && epoch != 0 && epoch <= markings.length;
        if (taken) {
            ModelMarking storage marking = markings[epoch - 1];
            taken = permitted[marking.source] && !marking.swept && !_anyOlder(epoch);
        }
        vm.prank(actor);
        _expect(taken, address(vault), abi.encodeCall(vault.sweep, (uint64(epoch))));
        if (taken) markings[epoch - 1] = ModelMarking(markings[epoch - 1].source, true, ++sweeps);
    }

    // --- what must hold

    /// V1, V5, V6: what is recorded is what was taken, in the order in which it was taken, each under one source.
    function checkSnapshots() external view {
        vm.assertEq(vault.snapshotCount(), snapshots.length, "count");
        uint256[3] memory seen;
        for (uint256 i = 0; i < snapshots.length; i++) {
            ModelSnapshot storage expected = snapshots[i];
            Vault.Snapshot memory found = vault.snapshot(expected.id);
            vm.assertEq(vault.snapshotAt(i), expected.id, "order");
            vm.assertEq(found.source, expected.source, "source");
            vm.assertEq(found.block, expected.height, "height");
            vm.assertTrue(found.forgotten == expected.forgotten, "forgotten");
            vm.assertTrue(i == 0 || expected.height >= snapshots[i - 1].height, "block order");
            uint256 place = seen[_place(expected.source)]++;
            vm.assertEq(vault.snapshotOf(expected.source, place), expected.id, "order in source");
            if (found.parent == 0) continue;
            uint256 parent = _find(found.parent);
            vm.assertTrue(parent < i && snapshots[parent].source == found.source, "parent");
        }
        for (uint256 i = 0; i < 3; i++) {
            vm.assertEq(vault.snapshotCountOf(sources[i]), seen[i], "count of source");
        }
    }

    /// V4, as the reader of a swept set needs it: after the sweep of e, nothing is committed by a session that did
    /// not know e.
    function checkSweeps() external view {
        vm.assertEq(vault.epoch(), markings.length, "epoch");
        for (uint256 i = 0; i < markings.length; i++) {
            (bytes32 source,,,, bool swept) = vault.marking(uint64(i + 1));
            vm.assertEq(source, markings[i].source, "source");
            vm.assertTrue(swept == markings[i].swept, "swept");
            if (!swept) continue;
            for (uint256 j = 0; j < snapshots.length; j++) {
                bool after_ = snapshots[j].sweepsBefore >= markings[i].sweepNumber;
                vm.assertTrue(!after_ || sessions[snapshots[j].session].epoch >= i + 1, "committed past a sweep");
            }
        }
    }

    /// S1, S3: the vault and the model agree on which sessions live.
    function checkSessions() external view {
        vm.assertEq(vault.openSessionCount(), live(), "count");
        for (uint256 i = 0; i < sessions.length; i++) {
            (address writer, uint64 epoch,, uint64 expires, bool open_) = vault.session(sessions[i].id);
            vm.assertEq(writer, sessions[i].writer, "writer");
            vm.assertEq(epoch, sessions[i].epoch, "epoch");
            vm.assertEq(expires, sessions[i].expires, "expires");
            vm.assertTrue(open_ == _lives(sessions[i]), "open");
        }
    }

    function live() public view returns (uint256 count) {
        for (uint256 i = 0; i < sessions.length; i++) {
            if (_lives(sessions[i])) count++;
        }
    }

    // --- inside

    function _lives(ModelSession storage session) private view returns (bool) {
        return !session.ended && block.timestamp < session.expires && writes[session.writer];
    }

    function _usable(ModelSession storage session, address actor) private view returns (bool) {
        return _lives(session) && session.writer == actor;
    }

    function _anyOlder(uint256 epoch) private view returns (bool) {
        for (uint256 i = 0; i < sessions.length; i++) {
            if (sessions[i].epoch < epoch && _lives(sessions[i])) return true;
        }
        return false;
    }

    function _find(bytes32 id) private view returns (uint256 index) {
        while (index < snapshots.length && snapshots[index].id != id) index++;
    }

    function _place(bytes32 source) private view returns (uint256 index) {
        while (sources[index] != source) index++;
    }

    function _actor(uint256 any) private view returns (address) {
        return actors[any % actors.length];
    }

    /// The one who may, four times of five; else anyone.
    function _mostly(address right, uint256 any) private view returns (address) {
        return any % 5 == 0 ? _actor(any / 5) : right;
    }

    function _source(uint256 any) private view returns (bytes32) {
        return sources[any % 3];
    }

    /// One of the last eight sessions: older ones are rarely of interest.
    function _index(uint256 any) private view returns (uint256) {
        uint256 first = sessions.length > 8 ? sessions.length - 8 : 0;
        return bound(any, first, sessions.length - 1);
    }

    function _session(uint256 any) private view returns (ModelSession storage) {
        return sessions[_index(any)];
    }

    function _expect(bool taken, address target, bytes memory call_) private returns (bytes memory answer) {
        bool done;
        (done, answer) = target.call(call_);
        require(done == taken, taken ? "refused what it should take" : "took what it should refuse");
    }
}
