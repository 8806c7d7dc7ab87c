// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// Recovery: who may hand the ledger over to another key, and how many of them it takes.
///
/// One is enough until the owner asks for more. From then on who they are, and how many it takes, changes by their own
/// word alone: an owner who could add accounts of his own would be all of them.
///
/// - **Owns** the recovery accounts, their threshold, what they sign, the record of handovers.
/// - **Does not** know what a ledger key is: the rules of the ledger do.
///
/// # Invariants
/// - **R1** 1 ≤ threshold ≤ number of recovery accounts.
/// - **R2** A handover is recorded only for a recovery account, on the parent it names, with the word of as many distinct
///   recovery accounts as the threshold says, the sender among them.
/// - **R3** While the threshold is above one, neither it nor the recovery accounts change without the word of as many.
abstract contract Recovery is Ownable2Step {
    struct Handover {
        bytes32 key;
        uint64 height;
        address by;
    }

    /// Bounds the work of whoever counts, and the length of a handover.
    uint256 public constant MOST_THRESHOLD = 16;
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant HANDOVER_TYPE = keccak256("Handover(bytes32 nextKey,bytes32 parentHash)");
    bytes32 private constant CHANGE_TYPE =
        keccak256("RecoveryChange(uint64 number,address[] added,address[] removed,uint256 threshold)");

    Handover[] private _handovers;
    /// How many it takes beside the first.
    uint256 private _more;

    /// Whether this account may hand the ledger over, alone or with others.
    mapping(address => bool) public isRecovery;
    /// How many accounts may.
    uint256 public recoveryCount;
    /// How many changes were made by `changeRecovery`: part of what is signed for the next, so that none is made twice.
    uint64 public recoveryChanges;

    event RecoveryAdded(address indexed who);
    event RecoveryRemoved(address indexed who);
    event RecoveryThresholdSet(uint256 threshold);
    event HandedOver(uint64 indexed number, bytes32 indexed nextKey, address indexed by);

    error ZeroAccount();
    error AlreadyRecovery(address who);
    error NotRecovery(address who);
    /// Without a recovery account the ledger could never be handed over.
    error LastRecovery(address who);
    error ZeroKey(address by);
    /// The handover was made for another parent: a copy on a second chain, or a late one on this.
    error WrongParent(bytes32 given, bytes32 parent);
    error UnknownHandover(uint64 number, uint64 count);
    error WrongRecoveryThreshold(uint256 threshold, uint256 count);
    /// Fewer recovery accounts than it takes have signed this.
    error TooFewRecoveries(uint256 given, uint256 needed);

    // --- what others ask

    /// How many recovery accounts must agree to a handover.
    function recoveryThreshold() public view returns (uint256) {
        return _more + 1;
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

    /// What a recovery account signs so that another one can hand the ledger over to `nextKey` above `parentHash`.
    function handoverDigest(bytes32 nextKey, bytes32 parentHash) public view returns (bytes32) {
        return _digest(keccak256(abi.encode(HANDOVER_TYPE, nextKey, parentHash)));
    }

    /// What a recovery account signs to agree to the next change of the recovery accounts.
    function recoveryChangeDigest(address[] calldata added, address[] calldata removed, uint256 threshold)
        public
        view
        returns (bytes32)
    {
        bytes32 added_ = keccak256(abi.encodePacked(added));
        bytes32 removed_ = keccak256(abi.encodePacked(removed));
        return _digest(keccak256(abi.encode(CHANGE_TYPE, recoveryChanges, added_, removed_, threshold)));
    }

    /// Whether this account may hand the ledger over so, with these signatures: for who judges a handover that stands
    /// on another chain than its own.
    function mayHandOver(address by, bytes32 nextKey, bytes32 parentHash, bytes[] calldata approvals)
        external
        view
        returns (bool)
    {
        uint256 given = _count(handoverDigest(nextKey, parentHash), by, approvals);
        return isRecovery[by] && given >= recoveryThreshold();
    }

    // --- the owner

    function addRecovery(address who) external onlyOwner {
        _requireAlone();
        _addRecovery(who);
    }

    function removeRecovery(address who) external onlyOwner {
        _requireAlone();
        _removeRecovery(who);
    }

    /// Changes the recovery accounts and how many it takes, with the word of as many as it takes before.
    function changeRecovery(
        address[] calldata added,
        address[] calldata removed,
        uint256 threshold,
        bytes[] calldata approvals
    ) external onlyOwner {
        _requireEnough(_count(recoveryChangeDigest(added, removed, threshold), msg.sender, approvals));
        recoveryChanges += 1;
        for (uint256 i = 0; i < added.length; i++) {
            _addRecovery(added[i]);
        }
        for (uint256 i = 0; i < removed.length; i++) {
            _removeRecovery(removed[i]);
        }
        bool fits = threshold != 0 && threshold <= recoveryCount && threshold <= MOST_THRESHOLD;
        require(fits, WrongRecoveryThreshold(threshold, recoveryCount));
        _more = threshold - 1;
        emit RecoveryThresholdSet(threshold);
    }

    // --- recovery accounts

    /// Names the key that seals the ledger from this block on, where one account is enough.
    ///
    /// `parentHash` ties the call to one place of one chain. The ledger's rules add that it stands alone in its
    /// block (`docs/design/ledger.md`, B5).
    function handover(bytes32 nextKey, bytes32 parentHash) external {
        require(isRecovery[msg.sender], NotRecovery(msg.sender));
        _requireAlone();
        _handOver(nextKey, parentHash);
    }

    /// The same with the signatures of others, in ascending order of their accounts.
    function handoverWith(bytes32 nextKey, bytes32 parentHash, bytes[] calldata approvals) external {
        require(isRecovery[msg.sender], NotRecovery(msg.sender));
        _requireEnough(_count(handoverDigest(nextKey, parentHash), msg.sender, approvals));
        _handOver(nextKey, parentHash);
    }

    // --- inside

    function _addRecovery(address who) internal {
        require(who != address(0), ZeroAccount());
        require(!isRecovery[who], AlreadyRecovery(who));
        isRecovery[who] = true;
        recoveryCount += 1;
        emit RecoveryAdded(who);
    }

    /// A new owner is a recovery account, where one is enough; where it takes more, their word makes him one.
    function _addOwner(address owner_) internal {
        if (_more == 0 && !isRecovery[owner_]) _addRecovery(owner_);
    }

    function _removeRecovery(address who) private {
        require(isRecovery[who], NotRecovery(who));
        require(recoveryCount > 1, LastRecovery(who));
        isRecovery[who] = false;
        recoveryCount -= 1;
        emit RecoveryRemoved(who);
    }

    function _handOver(bytes32 nextKey, bytes32 parentHash) private {
        require(nextKey != 0, ZeroKey(msg.sender));
        bytes32 parent = blockhash(block.number - 1);
        require(parentHash == parent, WrongParent(parentHash, parent));
        _handovers.push(Handover({key: nextKey, height: uint64(block.number), by: msg.sender}));
        emit HandedOver(uint64(_handovers.length), nextKey, msg.sender);
    }

    function _requireAlone() private view {
        require(_more == 0, TooFewRecoveries(1, recoveryThreshold()));
    }

    /// One alone needs nobody's word, the sender's included: the owner need be no recovery account to ask for more.
    function _requireEnough(uint256 given) private view {
        require(_more == 0 || given >= recoveryThreshold(), TooFewRecoveries(given, recoveryThreshold()));
    }

    /// How many recovery accounts agree: the sender, and whoever signed. What is no such signature, or stands out of
    /// order, counts nothing, so nobody counts twice.
    function _count(bytes32 digest, address by, bytes[] calldata approvals) private view returns (uint256 count) {
        if (isRecovery[by]) count = 1;
        address last = address(0);
        for (uint256 i = 0; i < approvals.length; i++) {
            (address signer,,) = ECDSA.tryRecoverCalldata(digest, approvals[i]);
            if (signer <= last || signer == by || !isRecovery[signer]) continue;
            last = signer;
            count++;
        }
    }

    function _digest(bytes32 message) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256("Blockhouse Access"), keccak256("1"), block.chainid, address(this))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }
}
