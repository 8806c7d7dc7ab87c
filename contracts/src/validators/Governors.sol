// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// Approvals: what m of n governors said yes to.
///
/// `Access` knows one owner. Where several people must agree, they are named here; where one is enough, the list has
/// one.
///
/// - **Owns** the governors, their number, who approved which proposal.
/// - **Does not** know what a proposal says: a proposal is its 32-byte id.
///
/// # Invariants
/// - **G1** Governors and threshold never change; they are distinct accounts, and 1 ≤ threshold ≤ their number.
/// - **G2** An approval is given by the governor's own transaction, or by its EIP-712 signature over this contract's
///   domain. One that was withdrawn comes back by the governor's own transaction alone.
abstract contract Governors {
    enum Word {
        None,
        Approved,
        Withdrawn
    }

    /// Bounds the work of whoever counts.
    uint256 public constant MOST_GOVERNORS = 16;
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant APPROVAL_TYPE = keccak256("Approval(bytes32 proposal)");

    /// How many must approve.
    uint256 public immutable threshold;

    address[] private _governors;
    mapping(bytes32 proposal => mapping(address governor => Word)) private _words;

    event Approved(bytes32 indexed proposal, address indexed governor);
    event ApprovalWithdrawn(bytes32 indexed proposal, address indexed governor);

    error WrongThreshold(uint256 threshold, uint256 governors);
    error TooManyGovernors(uint256 given, uint256 most);
    error RepeatedGovernor(address who);
    error NotGovernor(address who);
    error AlreadyApproved(bytes32 proposal, address governor);
    error NotApproved(bytes32 proposal, address governor);
    error Withdrawn(bytes32 proposal, address governor);
    error TooFewApprovals(bytes32 proposal, uint256 given, uint256 needed);

    constructor(address[] memory governors_, uint256 threshold_) {
        uint256 count = governors_.length;
        require(count <= MOST_GOVERNORS, TooManyGovernors(count, MOST_GOVERNORS));
        require(threshold_ != 0 && threshold_ <= count, WrongThreshold(threshold_, count));
        for (uint256 i = 0; i < count; i++) {
            address who = governors_[i];
            require(who != address(0), NotGovernor(who));
            require(!_isGovernor(who), RepeatedGovernor(who));
            _governors.push(who);
        }
        threshold = threshold_;
    }

    // --- what others ask

    function governors() external view returns (address[] memory) {
        return _governors;
    }

    /// How many governors approve this proposal now.
    function approvals(bytes32 proposal) public view returns (uint256 count) {
        for (uint256 i = 0; i < _governors.length; i++) {
            if (_words[proposal][_governors[i]] == Word.Approved) count++;
        }
    }

    function hasApproved(bytes32 proposal, address governor) external view returns (bool) {
        return _words[proposal][governor] == Word.Approved;
    }

    /// What a governor signs to approve without a transaction of its own.
    function approvalDigest(bytes32 proposal) public view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256("Blockhouse Validators"), keccak256("1"), block.chainid, address(this))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(APPROVAL_TYPE, proposal))));
    }

    // --- governors

    function approve(bytes32 proposal) external {
        _approve(proposal, msg.sender);
    }

    /// Brings the approval of a governor that signed it; anyone may.
    function approveBySignature(bytes32 proposal, bytes calldata signature) external {
        address signer = ECDSA.recover(approvalDigest(proposal), signature);
        require(_words[proposal][signer] != Word.Withdrawn, Withdrawn(proposal, signer));
        _approve(proposal, signer);
    }

    function withdrawApproval(bytes32 proposal) external {
        require(_words[proposal][msg.sender] == Word.Approved, NotApproved(proposal, msg.sender));
        _words[proposal][msg.sender] = Word.Withdrawn;
        emit ApprovalWithdrawn(proposal, msg.sender);
    }

    // --- inside

    function _approve(bytes32 proposal, address governor) internal {
        require(_isGovernor(governor), NotGovernor(governor));
        require(_words[proposal][governor] != Word.Approved, AlreadyApproved(proposal, governor));
        _words[proposal][governor] = Word.Approved;
        emit Approved(proposal, governor);
    }

    function _requireApproved(bytes32 proposal) internal view {
        uint256 given = approvals(proposal);
        require(given >= threshold, TooFewApprovals(proposal, given, threshold));
    }

    function _isGovernor(address who) internal view returns (bool) {
        for (uint256 i = 0; i < _governors.length; i++) {
            if (_governors[i] == who) return true;
        }
        return false;
    }
}
