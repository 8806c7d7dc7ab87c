// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Checkpoints of ledgers, kept on a chain outside, for whoever must show that a block was there by then.
///
/// A ledger is a 32-byte name that its users choose; each sender has its own sequence for it. A checker takes the
/// senders that he trusts for a ledger, and looks at nobody else's.
///
/// - **Owns** the hash of each anchored block, and the greatest height of each sequence.
/// - **Does not** know a ledger, check a block or have an administrator.
///
/// # Invariants
/// - **P1** Within a sequence heights rise, and what was anchored never changes.
/// - **P2** A sender writes its own sequences alone.
///
/// Format: `docs/design/contracts.md`; the order of storage is part of it.
contract AnchorPoint {
    struct Latest {
        uint64 height;
        uint64 anchoredAt;
    }

    /// Slot 0.
    mapping(bytes32 ledger => mapping(address sender => mapping(uint64 height => bytes32))) public hashAt;
    /// Slot 1.
    mapping(bytes32 ledger => mapping(address sender => Latest)) public latest;

    event Anchored(bytes32 indexed ledger, address indexed sender, uint64 indexed height, bytes32 blockHash);

    error NotRising(bytes32 ledger, address sender, uint64 height, uint64 latest);
    error ZeroBlockHash(bytes32 ledger, uint64 height);

    /// Anchors a block above all that this sender anchored of the ledger before. Block 0 needs no anchor.
    function anchor(bytes32 ledger, uint64 height, bytes32 blockHash) external {
        Latest storage last = latest[ledger][msg.sender];
        require(height > last.height, NotRising(ledger, msg.sender, height, last.height));
        require(blockHash != 0, ZeroBlockHash(ledger, height));
        hashAt[ledger][msg.sender][height] = blockHash;
        latest[ledger][msg.sender] = Latest({height: height, anchoredAt: uint64(block.timestamp)});
        emit Anchored(ledger, msg.sender, height, blockHash);
    }
}
