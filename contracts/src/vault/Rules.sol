// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "../Access.sol";
import {NotAContract, NotEnrolled, NotOwner, NotWriter, OutOfRange} from "../Errors.sol";
import {IPolicy} from "../IPolicy.sol";

/// What the owner lays down: policies, recipient sets, the key bag's version, later modules.
///
/// - **Owns** the roles at the door (`onlyOwner`, `onlyWriter`, `onlyEnrolled`) and the one place where a policy is asked.
/// - **Does not** know sessions or snapshots.
///
/// # Invariants
/// - **R1** There is always a default policy, with code, and a default recipient set that is not zero.
/// - **R2** Only a plain yes of the source's policy lets a removal pass.
/// - **R3** Bag versions rise by one.
abstract contract Rules {
    struct Module {
        address target;
        bool listed;
    }

    /// Who may act.
    Access public immutable access;
    /// 32 random bytes, never changed.
    bytes32 public immutable vaultId;

    /// The recipient set that a commit of any source may name.
    bytes32 public defaultRecipients;
    /// The policy of sources that have none of their own.
    IPolicy public defaultPolicy;
    /// Version and hash of the newest key bag; 0 before the first.
    uint32 public bagVersion;
    bytes32 public bagHash;

    mapping(bytes32 source => IPolicy) private _policies;
    mapping(bytes32 source => mapping(bytes32 set => bool)) private _approved;
    mapping(bytes32 name => Module) private _modules;
    bytes32[] private _moduleNames;

    event PolicySet(bytes32 indexed source, address policy);
    event DefaultPolicySet(address policy);
    event DefaultRecipientsSet(bytes32 set);
    event RecipientsApproved(bytes32 indexed source, bytes32 indexed set, bool approved);
    event BagRecorded(uint32 indexed version, bytes32 hash);
    event ModuleSet(bytes32 indexed name, address module);

    error ZeroVaultId();
    error ZeroRecipients(bytes32 source);
    error ZeroBag(uint32 version);
    error WrongBagVersion(uint32 given, uint32 expected);
    /// The policy did not say yes: no, a revert, or no answer at all.
    error PolicyRefused(address policy, address who, bytes32 source, bytes32 object);

    modifier onlyOwner() {
        require(msg.sender == access.owner(), NotOwner(msg.sender));
        _;
    }

    modifier onlyWriter() {
        require(access.isWriter(msg.sender), NotWriter(msg.sender));
        _;
    }

    modifier onlyEnrolled() {
        require(access.isEnrolled(msg.sender), NotEnrolled(msg.sender));
        _;
    }

    constructor(Access access_, bytes32 vaultId_, bytes32 recipients, IPolicy policy) {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        require(vaultId_ != 0, ZeroVaultId());
        access = access_;
        vaultId = vaultId_;
        _setDefaultRecipients(recipients);
        _setDefaultPolicy(policy);
    }

    // --- policies

    /// The policy that decides about this source now.
    function policyOf(bytes32 source) public view returns (IPolicy) {
        IPolicy own = _policies[source];
        return address(own) == address(0) ? defaultPolicy : own;
    }

    /// Gives a source its own policy; zero returns it to the default one.
    function setPolicy(bytes32 source, IPolicy policy) external onlyOwner {
        if (address(policy) != address(0)) _requireCode(address(policy));
        _policies[source] = policy;
        emit PolicySet(source, address(policy));
    }

    function setDefaultPolicy(IPolicy policy) external onlyOwner {
        _setDefaultPolicy(policy);
    }

    // --- recipients

    /// Whether a commit of this source may name this recipient set now: the default one, or one approved for it.
    function isApproved(bytes32 source, bytes32 set) public view returns (bool) {
        return set == defaultRecipients || _approved[source][set];
    }

    /// Replaces the default set; the former one is no longer allowed where it was not approved.
    function setDefaultRecipients(bytes32 set) external onlyOwner {
        _setDefaultRecipients(set);
    }

    function approveRecipients(bytes32 source, bytes32 set, bool approved) external onlyOwner {
        require(set != 0, ZeroRecipients(source));
        _approved[source][set] = approved;
        emit RecipientsApproved(source, set, approved);
    }

    // --- key bag

    function recordBag(uint32 version, bytes32 hash) external onlyOwner {
        require(version == bagVersion + 1, WrongBagVersion(version, bagVersion + 1));
        require(hash != 0, ZeroBag(version));
        bagVersion = version;
        bagHash = hash;
        emit BagRecorded(version, hash);
    }

    // --- modules

    /// The module of this name; zero if there is none, or no longer.
    function module(bytes32 name) external view returns (address) {
        return _modules[name].target;
    }

    /// How many names were ever given.
    function moduleCount() external view returns (uint256) {
        return _moduleNames.length;
    }

    function moduleNameAt(uint256 index) external view returns (bytes32) {
        require(index < _moduleNames.length, OutOfRange(index, _moduleNames.length));
        return _moduleNames[index];
    }

    /// Registers, replaces or (with zero) retires a module. A module has no power over this contract.
    function setModule(bytes32 name, address target) external onlyOwner {
        if (target != address(0)) _requireCode(target);
        if (!_modules[name].listed) _moduleNames.push(name);
        _modules[name] = Module({target: target, listed: true});
        emit ModuleSet(name, target);
    }

    // --- inside

    /// R2: asks the source's policy on behalf of the sender.
    ///
    /// A raw `staticcall`, so that a policy that reverts, has no code or answers nonsense is a refusal by name.
    function _requireRemovable(bytes32 source, bytes32 object, uint64 committedAt) internal view {
        address policy = address(policyOf(source));
        (bool answered, bytes memory answer) =
            policy.staticcall(abi.encodeCall(IPolicy.mayRemove, (msg.sender, source, object, committedAt)));
        bool yes = answered && answer.length == 32 && abi.decode(answer, (uint256)) == 1;
        require(yes, PolicyRefused(policy, msg.sender, source, object));
    }

    function _setDefaultPolicy(IPolicy policy) private {
        _requireCode(address(policy));
        defaultPolicy = policy;
        emit DefaultPolicySet(address(policy));
    }

    function _setDefaultRecipients(bytes32 set) private {
        require(set != 0, ZeroRecipients(0));
        defaultRecipients = set;
        emit DefaultRecipientsSet(set);
    }

    function _requireCode(address account) private view {
        require(account.code.length != 0, NotAContract(account));
    }
}
