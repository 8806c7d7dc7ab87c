// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, NotEnrolled, OutOfRange} from "./Errors.sol";

/// What others outside know of this ledger: checkpoints anchored on other chains, and cosigned by witnesses.
///
/// - **Owns** the list of anchors. Their data and the cosignatures stand in events alone.
/// - **Does not** know whether an anchor is there or a signature is right: who relies on one checks it, off the chain.
///
/// # Invariants
/// - **C1** Only enrolled accounts record, and only blocks below this one.
/// - **C2** A block of the last 256 is recorded with the hash it has on this chain, and no other.
///
/// Format: `docs/design/contracts.md`.
contract Anchors {
    struct Anchor {
        /// How it was anchored: "evm", "ots", …
        bytes32 kind;
        /// The transaction that did it, where there is one.
        bytes32 txHash;
        bytes32 blockHash;
        /// The contract that took it, where there is one, on the chain of this id.
        address target;
        uint64 chainId;
        address by;
        uint64 height;
        uint64 recordedAt;
    }

    uint256 public constant MOST_DATA_BYTES = 8_192;
    uint256 public constant MOST_SIGNATURE_BYTES = 256;
    /// How far back the EVM knows block hashes.
    uint256 private constant KNOWN_HASHES = 256;

    /// Who is enrolled.
    Access public immutable access;

    Anchor[] private _anchors;

    event Anchored(
        bytes32 indexed kind,
        uint64 indexed height,
        bytes32 indexed blockHash,
        uint64 chainId,
        address target,
        bytes32 txHash,
        address by,
        bytes data
    );
    event Cosigned(uint64 indexed height, bytes32 indexed blockHash, address indexed by, bytes signature);

    error ZeroKind();
    error ZeroBlockHash(uint64 height);
    error BlockAhead(uint64 height, uint256 current);
    /// The block of this height has another hash here.
    error OtherBlock(uint64 height, bytes32 given, bytes32 actual);
    error DataTooLong(uint256 length, uint256 most);
    error WrongSignatureLength(uint256 length, uint256 most);

    modifier onlyEnrolled() {
        require(access.isEnrolled(msg.sender), NotEnrolled(msg.sender));
        _;
    }

    constructor(Access access_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
    }

    function anchorCount() external view returns (uint256) {
        return _anchors.length;
    }

    /// The anchors in the order in which they were recorded.
    function anchorAt(uint256 index) external view returns (Anchor memory) {
        require(index < _anchors.length, OutOfRange(index, _anchors.length));
        return _anchors[index];
    }

    /// Records that a checkpoint of this ledger was anchored outside. `data` is what a checker needs beside it.
    function record(
        bytes32 kind,
        uint64 chainId,
        address target,
        bytes32 txHash,
        uint64 height,
        bytes32 blockHash,
        bytes calldata data
    ) external onlyEnrolled {
        require(kind != 0, ZeroKind());
        require(data.length <= MOST_DATA_BYTES, DataTooLong(data.length, MOST_DATA_BYTES));
        _requireBlock(height, blockHash);
        _anchors.push(
            Anchor({
                kind: kind,
                txHash: txHash,
                blockHash: blockHash,
                target: target,
                chainId: chainId,
                by: msg.sender,
                height: height,
                recordedAt: uint64(block.timestamp)
            })
        );
        emit Anchored(kind, height, blockHash, chainId, target, txHash, msg.sender, data);
    }

    /// A witness's signature over a checkpoint that it followed this ledger to.
    function cosign(uint64 height, bytes32 blockHash, bytes calldata signature) external onlyEnrolled {
        uint256 length = signature.length;
        require(length != 0 && length <= MOST_SIGNATURE_BYTES, WrongSignatureLength(length, MOST_SIGNATURE_BYTES));
        _requireBlock(height, blockHash);
        emit Cosigned(height, blockHash, msg.sender, signature);
    }

    /// C1 and C2.
    function _requireBlock(uint64 height, bytes32 blockHash) private view {
        require(height < block.number, BlockAhead(height, block.number));
        require(blockHash != 0, ZeroBlockHash(height));
        if (block.number - height > KNOWN_HASHES) return;
        bytes32 actual = blockhash(height);
        require(blockHash == actual, OtherBlock(height, blockHash, actual));
    }
}
