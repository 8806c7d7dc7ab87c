// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {NotWriter, OutOfRange} from "./Errors.sol";

/// Who may act on a vault, and which key seals its ledger.
///
/// - **Owns** the owner, the writers with their predecessors, the recovery accounts, the record of handovers.
/// - **Does not** decide what an account may do with a snapshot: that is `Vault` and its policies.
///
/// Final: no proxy, no upgrade, no self-destruct.
///
/// # Invariants
/// - **A1** An account is enrolled as a writer at most once; a revoked writer never comes back.
/// - **A2** There is always an owner and at least one recovery account; whoever becomes owner is made one.
/// - **A3** A handover is recorded only for a recovery account, and only on the parent it names.
///
/// Format: `docs/design/contracts.md`.
contract Access is Ownable2Step {
    struct Writer {
        bool active;
        /// The predecessor's host was stolen: its stripes are verified before they are reused.
        bool hostStolen;
        address predecessor;
        /// Height up to which the predecessor's commits count as this writer's own.
        uint64 predecessorLastBlock;
        uint64 enrolledAt;
        uint64 revokedAt;
    }

    struct Handover {
        bytes32 key;
        uint64 height;
        address by;
    }

    mapping(address => Writer) private _writers;
    address[] private _writerList;
    Handover[] private _handovers;

    /// Whether this account may hand the ledger over.
    mapping(address => bool) public isRecovery;
    /// How many accounts may.
    uint256 public recoveryCount;

    event WriterEnrolled(
        address indexed who, address indexed predecessor, uint64 predecessorLastBlock, bool hostStolen
    );
    event WriterRevoked(address indexed who);
    event RecoveryAdded(address indexed who);
    event RecoveryRemoved(address indexed who);
    event HandedOver(uint64 indexed number, bytes32 indexed nextKey, address indexed by);

    /// The zero address cannot be enrolled.
    error ZeroAccount();
    /// The account is, or was, a writer: a writer key is used once.
    error AlreadyEnrolled(address who);
    /// The predecessor was never a writer, or none is named and facts about one are.
    error UnknownPredecessor(address who, address predecessor);
    /// The predecessor's last block lies above this one: what it has yet to commit cannot count as own.
    error PredecessorAhead(address who, uint64 lastBlock, uint256 height);
    error AlreadyRecovery(address who);
    error NotRecovery(address who);
    /// Without a recovery account the ledger could never be handed over.
    error LastRecovery(address who);
    /// A vault without an owner could never change a rule again.
    error OwnerCannotRenounce(address owner);
    error ZeroKey(address by);
    /// The handover was made for another parent: a copy on a second chain, or a late one on this.
    error WrongParent(bytes32 given, bytes32 parent);
    error UnknownHandover(uint64 number, uint64 count);

    /// `recovery` are the recovery accounts beside the owner, which is always one.
    constructor(address initialOwner, address[] memory recovery) Ownable(initialOwner) {
        for (uint256 i = 0; i < recovery.length; i++) {
            _addRecovery(recovery[i]);
        }
    }

    // --- what others ask

    /// Whether this account may send transactions at all: owner, recovery account or active writer, and the
    /// account to which ownership has been offered, for it must be able to accept.
    function isEnrolled(address who) external view returns (bool) {
        if (who == address(0)) return false;
        return isRecovery[who] || _writers[who].active || who == owner() || who == pendingOwner();
    }

    function isWriter(address who) external view returns (bool) {
        return _writers[who].active;
    }

    /// Everything about a writer; all zero if the account never was one.
    function writer(address who) external view returns (Writer memory) {
        return _writers[who];
    }

    /// How many writers were ever enrolled.
    function writerCount() external view returns (uint256) {
        return _writerList.length;
    }

    /// The writers in order of enrolment, revoked ones included.
    function writerAt(uint256 index) external view returns (address) {
        require(index < _writerList.length, OutOfRange(index, _writerList.length));
        return _writerList[index];
    }

    function handovers() external view returns (uint64) {
        return uint64(_handovers.length);
    }

    /// The `n`-th handover; the first is 1.
    function handoverAt(uint64 n) external view returns (uint64 height, bytes32 key, address by) {
        require(n != 0 && n <= _handovers.length, UnknownHandover(n, uint64(_handovers.length)));
        Handover storage found = _handovers[n - 1];
        return (found.height, found.key, found.by);
    }

    // --- the owner

    /// Enrols a writer. `predecessor` is zero for a host that replaces none; then the other two are 0 and false.
    function enrolWriter(address who, address predecessor, uint64 predecessorLastBlock, bool hostStolen)
        external
        onlyOwner
    {
        require(who != address(0), ZeroAccount());
        require(_writers[who].enrolledAt == 0, AlreadyEnrolled(who));
        bool named = predecessor != address(0);
        bool known = named && _writers[predecessor].enrolledAt != 0;
        bool silent = !named && predecessorLastBlock == 0 && !hostStolen;
        require(known || silent, UnknownPredecessor(who, predecessor));
        require(predecessorLastBlock <= block.number, PredecessorAhead(who, predecessorLastBlock, block.number));

        _writers[who] = Writer({
            active: true,
            hostStolen: hostStolen,
            predecessor: predecessor,
            predecessorLastBlock: predecessorLastBlock,
            enrolledAt: uint64(block.timestamp),
            revokedAt: 0
        });
        _writerList.push(who);
        emit WriterEnrolled(who, predecessor, predecessorLastBlock, hostStolen);
    }

    /// Takes the writer's rights for ever. Its open sessions end with them: `Vault` asks at every use.
    function revokeWriter(address who) external onlyOwner {
        Writer storage revoked = _writers[who];
        require(revoked.active, NotWriter(who));
        revoked.active = false;
        revoked.revokedAt = uint64(block.timestamp);
        emit WriterRevoked(who);
    }

    function addRecovery(address who) external onlyOwner {
        _addRecovery(who);
    }

    function removeRecovery(address who) external onlyOwner {
        require(isRecovery[who], NotRecovery(who));
        require(recoveryCount > 1, LastRecovery(who));
        isRecovery[who] = false;
        recoveryCount -= 1;
        emit RecoveryRemoved(who);
    }

    /// Always refused; ownership moves by `transferOwnership` and `acceptOwnership` alone.
    function renounceOwnership() public view override {
        revert OwnerCannotRenounce(owner());
    }

    // --- recovery accounts

    /// Names the key that seals the ledger from this block on.
    ///
    /// `parentHash` ties the call to one place of one chain. The ledger's rules add that it stands alone in its
    /// block (`docs/design/ledger.md`, B5).
    function handover(bytes32 nextKey, bytes32 parentHash) external {
        require(isRecovery[msg.sender], NotRecovery(msg.sender));
        require(nextKey != 0, ZeroKey(msg.sender));
        bytes32 parent = blockhash(block.number - 1);
        require(parentHash == parent, WrongParent(parentHash, parent));
        _handovers.push(Handover({key: nextKey, height: uint64(block.number), by: msg.sender}));
        emit HandedOver(uint64(_handovers.length), nextKey, msg.sender);
    }

    // --- inside

    function _addRecovery(address who) private {
        require(who != address(0), ZeroAccount());
        require(!isRecovery[who], AlreadyRecovery(who));
        isRecovery[who] = true;
        recoveryCount += 1;
        emit RecoveryAdded(who);
    }

    /// A2. The former owner stays a recovery account until the new one removes it.
    function _transferOwnership(address next) internal override {
        super._transferOwnership(next);
        if (!isRecovery[next]) _addRecovery(next);
    }
}
