// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, NotEnrolled, NotOwner} from "./Errors.sol";

/// What the ledger's nodes have to tell everybody: that a node found its own copy of the ledger altered.
///
/// - **Owns** which account speaks for which node, and how often.
/// - **Does not** know whether it is so: a node tells what it saw on its own disk, and nobody else can see that.
///
/// # Invariants
/// - **L1** A report names the node that the owner set for its sender; who was set for none, or is not enrolled, reports nothing.
/// - **L2** An account reports at most once in `PAUSE_SECONDS`: a node that is altered again and again fills no ledger.
///
/// Final: no proxy, no upgrade, no self-destruct. Format: `docs/design/contracts.md`.
contract Alarms {
    uint64 public constant PAUSE_SECONDS = 600;

    /// Who is enrolled, and who is the owner.
    Access public immutable access;

    /// The node for which an account speaks: its public key among nodes.
    mapping(address account => bytes32) public nodeOf;
    /// When an account may report again.
    mapping(address account => uint64) public silentUntil;

    /// A node of 0: the account speaks for none any more.
    event NodeSet(address indexed account, bytes32 indexed node);
    /// `what` is a short text padded with zeros: "block", "receipts", "certificate", "index", "state", "file". A block hash of 0 was not
    /// known; of "file" the height is 0 too.
    event TamperReported(
        bytes32 indexed node, uint64 indexed height, address indexed by, bytes32 blockHash, bytes32 what
    );

    /// The zero address speaks for no node.
    error ZeroSpeaker(bytes32 node);
    /// The owner set no node for this account.
    error NotANode(address who);
    /// A report without a word about what was altered.
    error ZeroWord(bytes32 node);
    error HeightAhead(uint64 height, uint256 current);
    /// This account reported a moment ago.
    error TooSoon(address who, uint64 silentUntil);

    constructor(Access access_) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        access = access_;
    }

    /// Sets for which node an account speaks; 0 ends it.
    function setNode(address account, bytes32 node) external {
        require(msg.sender == access.owner(), NotOwner(msg.sender));
        require(account != address(0), ZeroSpeaker(node));
        nodeOf[account] = node;
        emit NodeSet(account, node);
    }

    /// Tells that the sender's node found its copy of the ledger altered there.
    function reportTamper(uint64 height, bytes32 blockHash, bytes32 what) external {
        require(access.isEnrolled(msg.sender), NotEnrolled(msg.sender));
        bytes32 node = nodeOf[msg.sender];
        require(node != 0, NotANode(msg.sender));
        require(what != 0, ZeroWord(node));
        require(height <= block.number, HeightAhead(height, block.number));
        uint64 until = silentUntil[msg.sender];
        require(block.timestamp >= until, TooSoon(msg.sender, until));
        silentUntil[msg.sender] = uint64(block.timestamp) + PAUSE_SECONDS;
        emit TamperReported(node, height, msg.sender, blockHash, what);
    }
}
