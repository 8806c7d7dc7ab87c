// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../src/Access.sol";
import {AnchorPoint} from "../src/AnchorPoint.sol";
import {Anchors} from "../src/Anchors.sol";
import {NotAContract, NotEnrolled, OutOfRange} from "../src/Errors.sol";
import {Fixture} from "./Fixture.sol";
import {vm} from "./Vm.sol";

contract AnchorsTest is Fixture {
    Anchors private anchors;

    function setUp() public override {
        super.setUp();
        anchors = new Anchors(access);
        vm.roll(1000);
        vm.setBlockhash(990, "hash of 990");
    }

    function test_it_needs_an_access() public {
        _refuses(NotAContract.selector, STRANGER);
        new Anchors(Access(STRANGER));
    }

    function test_an_anchor_is_listed_and_told() public {
        _expectEvent(address(anchors));
        emit Anchors.Anchored("evm", 990, "hash of 990", 1, address(0xa), "tx", WRITER, "proof");
        vm.prank(WRITER);
        anchors.record("evm", 1, address(0xa), "tx", 990, "hash of 990", "proof");
        vm.assertEq(anchors.anchorCount(), 1, "count");
        Anchors.Anchor memory found = anchors.anchorAt(0);
        vm.assertEq(found.kind, "evm", "kind");
        vm.assertEq(found.txHash, "tx", "transaction");
        vm.assertEq(found.blockHash, "hash of 990", "hash");
        vm.assertEq(found.target, address(0xa), "target");
        vm.assertEq(found.by, WRITER, "by");
        vm.assertEq(found.chainId, 1, "chain");
        vm.assertEq(found.height, 990, "height");
        vm.assertEq(found.recordedAt, block.timestamp, "time");
        _refuses(OutOfRange.selector, 1, 1);
        anchors.anchorAt(1);
    }

    function test_who_is_not_enrolled_records_nothing() public {
        _refuses(NotEnrolled.selector, STRANGER);
        vm.prank(STRANGER);
        anchors.record("evm", 1, address(0xa), "tx", 990, "hash of 990", "");
        _refuses(NotEnrolled.selector, STRANGER);
        vm.prank(STRANGER);
        anchors.cosign(990, "hash of 990", "signature");
    }

    function test_a_block_that_is_known_here_has_its_own_hash() public {
        bytes memory other =
            abi.encodeWithSelector(Anchors.OtherBlock.selector, 990, bytes32("other"), bytes32("hash of 990"));
        _refusesRecord("evm", 990, "other", "", other);
        vm.expectRevert(other);
        vm.prank(PAPER);
        anchors.cosign(990, "other", "signature");
        _refusesRecord("evm", 1000, "x", "", abi.encodeWithSelector(Anchors.BlockAhead.selector, 1000, 1000));
        _refusesRecord("evm", 700, 0, "", abi.encodeWithSelector(Anchors.ZeroBlockHash.selector, 700));
        vm.prank(WRITER);
        anchors.record("ots", 0, address(0), 0, 743, "too old to know", ""); // 257 blocks back
    }

    function test_the_whole_reach_of_known_hashes_is_checked() public {
        vm.setBlockhash(744, "hash of 744");
        _refusesRecord(
            "ots",
            744,
            "x",
            "",
            abi.encodeWithSelector(Anchors.OtherBlock.selector, 744, bytes32("x"), bytes32("hash of 744"))
        );
    }

    function test_what_is_recorded_is_bounded() public {
        _refusesRecord(0, 990, "hash of 990", "", abi.encodeWithSelector(Anchors.ZeroKind.selector));
        bytes memory error_ = abi.encodeWithSelector(Anchors.DataTooLong.selector, 8_193, 8_192);
        _refusesRecord("ots", 990, "hash of 990", new bytes(8_193), error_);
        for (uint256 length = 0; length <= 257; length += 257) {
            vm.expectRevert(abi.encodeWithSelector(Anchors.WrongSignatureLength.selector, length, 256));
            vm.prank(WRITER);
            anchors.cosign(990, "hash of 990", new bytes(length));
        }
    }

    function test_a_cosignature_is_told() public {
        _expectEvent(address(anchors));
        emit Anchors.Cosigned(990, "hash of 990", PAPER, "signature");
        vm.prank(PAPER);
        anchors.cosign(990, "hash of 990", "signature");
    }

    function _refusesRecord(bytes32 kind, uint64 height, bytes32 hash, bytes memory data, bytes memory error_) private {
        vm.expectRevert(error_);
        vm.prank(WRITER);
        anchors.record(kind, 1, address(0xa), "tx", height, hash, data);
    }
}

contract AnchorPointTest {
    address private constant A = address(0xa);
    address private constant B = address(0xb);

    AnchorPoint private point = new AnchorPoint();

    function test_an_anchor_is_told_and_kept() public {
        vm.warp(1_800_000_000);
        vm.expectEmit(true, true, true, true, address(point));
        emit AnchorPoint.Anchored("ledger", A, 7, "hash");
        _anchor(A, "ledger", 7, "hash");
        vm.assertEq(point.hashAt("ledger", A, 7), "hash", "hash");
        (uint64 height, uint64 anchoredAt) = point.latest("ledger", A);
        vm.assertEq(height, 7, "height");
        vm.assertEq(anchoredAt, 1_800_000_000, "time");
    }

    /// A storage proof names these slots: they are part of the format.
    function test_storage_is_where_the_page_says() public {
        vm.warp(1_800_000_000);
        _anchor(A, "ledger", 7, "hash");
        bytes32 slot = keccak256(abi.encode(bytes32("ledger"), uint256(0)));
        slot = keccak256(abi.encode(uint256(7), keccak256(abi.encode(A, slot))));
        vm.assertEq(vm.load(address(point), slot), "hash", "hashAt");
        slot = keccak256(abi.encode(A, keccak256(abi.encode(bytes32("ledger"), uint256(1)))));
        vm.assertEq(vm.load(address(point), slot), bytes32(uint256(1_800_000_000 << 64 | 7)), "latest");
    }

    function test_heights_rise_for_each_ledger_and_sender_by_itself() public {
        _anchor(A, "ledger", 7, "hash");
        _anchor(B, "ledger", 3, "other hash");
        _anchor(A, "other ledger", 1, "x");
        for (uint64 height = 6; height <= 7; height++) {
            vm.expectRevert(abi.encodeWithSelector(AnchorPoint.NotRising.selector, bytes32("ledger"), A, height, 7));
            _anchor(A, "ledger", height, "late");
        }
        vm.expectRevert(abi.encodeWithSelector(AnchorPoint.NotRising.selector, bytes32("new"), A, 0, 0));
        _anchor(A, "new", 0, "genesis");
        vm.expectRevert(abi.encodeWithSelector(AnchorPoint.ZeroBlockHash.selector, bytes32("new"), 9));
        _anchor(A, "new", 9, 0);
    }

    /// P1 and P2 against a model: two senders, two ledgers, any heights.
    function testFuzz_what_was_anchored_never_changes(uint64[12] calldata heights, uint8[12] calldata who) public {
        bytes32[4][13] memory hashes;
        uint64[4] memory top;
        uint64[12] memory taken;
        for (uint256 i = 0; i < 12; i++) {
            uint256 line = who[i] % 4;
            uint64 height = i % 2 == 0 ? heights[i] : heights[i] % 16;
            bytes32 hash = keccak256(abi.encode(i));
            vm.prank(_sender(line));
            (bool done,) = address(point).call(abi.encodeCall(point.anchor, (_ledger(line), height, hash)));
            vm.assertTrue(done == (height > top[line]), "taken");
            if (!done) continue;
            (top[line], taken[i], hashes[i][line]) = (height, height, hash);
        }
        for (uint256 i = 0; i < 12; i++) {
            for (uint256 line = 0; line < 4; line++) {
                if (hashes[i][line] == 0) continue;
                vm.assertEq(point.hashAt(_ledger(line), _sender(line), taken[i]), hashes[i][line], "kept");
            }
        }
        for (uint256 line = 0; line < 4; line++) {
            (uint64 height,) = point.latest(_ledger(line), _sender(line));
            vm.assertEq(height, top[line], "latest");
        }
    }

    function _anchor(address who, bytes32 ledger, uint64 height, bytes32 hash) private {
        vm.prank(who);
        point.anchor(ledger, height, hash);
    }

    function _sender(uint256 line) private pure returns (address) {
        return line % 2 == 0 ? A : B;
    }

    function _ledger(uint256 line) private pure returns (bytes32) {
        return line < 2 ? bytes32("ledger") : bytes32("other ledger");
    }
}
