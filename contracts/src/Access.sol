// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {NotWriter, OutOfRange} from "./Errors.sol";
import {Recovery} from "./access/Recovery.sol";

/// Who may act on a vault, and which key seals its ledger.
///
/// - **Owns** the owner, the writers with their predecessors. The recovery accounts and the record of handovers are its part.
/// - **Does not** decide what an account may do with a snapshot: that is `Vault` and its policies.
///
/// Final: no proxy, no upgrade, no self-destruct.
///
/// # Invariants
/// - **A1** An account is enrolled as a writer at most once; a revoked writer never comes back.
/// - **A2** There is always an owner and at least one recovery account; whoever becomes owner is made one where one is
///   enough for a handover.
///
/// Format: `docs/design/contracts.md`.
contract Access is Recovery {
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

    mapping(address => Writer) private _writers;
    address[] private _writerList;

    event WriterEnrolled(
        address indexed who, address indexed predecessor, uint64 predecessorLastBlock, bool hostStolen
    );
    event WriterRevoked(address indexed who);

    /// The account is, or was, a writer: a writer key is used once.
    error AlreadyEnrolled(address who);
    /// The predecessor was never a writer, or none is named and facts about one are.
    error UnknownPredecessor(address who, address predecessor);
    /// The predecessor's last block lies above this one: what it has yet to commit cannot count as own.
    error PredecessorAhead(address who, uint64 lastBlock, uint256 height);
    /// A vault without an owner could never change a rule again.
    error OwnerCannotRenounce(address owner);

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

    /// Always refused; ownership moves by `transferOwnership` and `acceptOwnership` alone.
    function renounceOwnership() public view override {
        revert OwnerCannotRenounce(owner());
    }

    // --- inside

    /// A2. The former owner stays a recovery account until the new one removes it.
    function _transferOwnership(address next) internal override {
        super._transferOwnership(next);
        _addOwner(next);
    }
}
