// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Access} from "./Access.sol";
import {NotAContract, NotEnrolled} from "./Errors.sol";
import {Governors} from "./validators/Governors.sol";
import {Change, Role, Sets, Validator} from "./validators/Sets.sol";

/// Which nodes keep a ledger network, epoch by epoch, and by which key their certificates are checked.
///
/// - **Owns** the order of changes, the key recorded for each epoch, the reports of forks. The governors and their
///   approvals, and the sets, are its parts.
/// - **Does not** check a signature of the consensus, or a certificate: the ledger's nodes do, off the chain.
///
/// # Invariants
/// - **Q1** A set changes only by a proposal that `threshold` governors approve at that moment.
/// - **Q2** An approval is for one step from one set: after any change all older proposals are void.
/// - **Q3** A key is recorded for an epoch once, by the operators of a quorum of its validators; under the threshold
///   scheme it is always the first key.
///
/// Final: no proxy, no upgrade, no self-destruct. Format: `docs/design/contracts.md`.
contract Validators is Governors, Sets {
    enum Scheme {
        /// One key of the group, kept through every resharing.
        Threshold,
        /// The keys of the members: another set, another key.
        Committee
    }

    struct Setup {
        uint64 epochLength;
        uint64 lead;
        Scheme scheme;
        bytes32 keyHash;
        address[] governors;
        uint256 threshold;
    }

    uint256 public constant MOST_EVIDENCE_BYTES = 16_384;

    /// Who is enrolled.
    Access public immutable access;
    Scheme public immutable scheme;

    /// How many proposals were carried out: part of the id of each.
    uint64 public version;
    /// The greatest epoch for which a key was recorded.
    uint64 public keyEpoch;
    mapping(uint64 epoch => bytes32) private _keys;
    mapping(uint64 epoch => mapping(bytes32 p2pKey => bytes32)) private _keyVotes;

    event Proposed(bytes32 indexed proposal, address indexed by, uint64 version, Change[] changes);
    event Enacted(bytes32 indexed proposal, uint64 indexed version, uint64 indexed epoch);
    event KeyVoted(uint64 indexed epoch, bytes32 indexed keyHash, address indexed operator);
    event KeyRecorded(uint64 indexed epoch, bytes32 keyHash);
    event ForkReported(address indexed by, bytes evidenceA, bytes evidenceB, bytes32[] signers);

    error NoChanges();
    error ZeroKeyHash();
    /// Keys are recorded for epochs whose set can no longer be amended: this one, and those before this one's plus `lead`.
    error WrongKeyEpoch(uint64 given, uint64 current);
    error KeyAlreadyRecorded(uint64 epoch, bytes32 keyHash);
    /// The threshold scheme keeps its key.
    error KeyChanged(bytes32 given, bytes32 kept);
    error NotOperator(uint64 epoch, address who);
    error EvidenceTooLong(uint256 length, uint256 most);
    /// The two pieces are one, or one is empty.
    error NoFork();
    /// Signers are named in ascending order, none twice, at least one and at most `MOST_MEMBERS`.
    error WrongSigners(uint256 index);

    constructor(Access access_, Setup memory setup, Validator[] memory first)
        Governors(setup.governors, setup.threshold)
        Sets(setup.epochLength, setup.lead, first)
    {
        require(address(access_).code.length != 0, NotAContract(address(access_)));
        require(setup.keyHash != 0, ZeroKeyHash());
        access = access_;
        scheme = setup.scheme;
        keyEpoch = epoch();
        _keys[keyEpoch] = setup.keyHash;
        emit KeyRecorded(keyEpoch, setup.keyHash);
    }

    // --- changes of the set

    /// The id of a proposal to make these changes to the newest set.
    function proposalId(Change[] calldata changes) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), version, changes));
    }

    /// Shows a proposal to the other governors, and approves it.
    function propose(Change[] calldata changes) external returns (bytes32 proposal) {
        require(changes.length != 0, NoChanges());
        proposal = proposalId(changes);
        _approve(proposal, msg.sender);
        emit Proposed(proposal, msg.sender, version, changes);
    }

    /// Carries out what enough governors approve; anyone may. What the rules of sets refuse now can be tried later.
    function enact(Change[] calldata changes) external {
        require(changes.length != 0, NoChanges());
        bytes32 proposal = proposalId(changes);
        _requireApproved(proposal);
        version += 1;
        _change(changes);
        emit Enacted(proposal, version, epoch() + lead);
    }

    // --- the key

    /// The key hash of an epoch; 0 if none was recorded.
    function keyOf(uint64 epoch_) external view returns (bytes32) {
        return _keys[epoch_];
    }

    /// Says, for every validator of this epoch that the sender operates, which key its set holds after the resharing.
    /// With a quorum the key is recorded. A node may correct itself until then.
    function recordKey(uint64 epoch_, bytes32 keyHash) external {
        uint64 current = epoch();
        require(epoch_ >= current && epoch_ < current + lead, WrongKeyEpoch(epoch_, current));
        require(_keys[epoch_] == 0, KeyAlreadyRecorded(epoch_, _keys[epoch_]));
        require(keyHash != 0, ZeroKeyHash());
        bytes32 kept = _keys[keyEpoch];
        require(scheme == Scheme.Committee || keyHash == kept, KeyChanged(keyHash, kept));

        (uint256 own, uint256 votes, uint256 count) = _vote(epoch_, keyHash);
        require(own != 0, NotOperator(epoch_, msg.sender));
        emit KeyVoted(epoch_, keyHash, msg.sender);
        if (votes < count - (count - 1) / 3) return;
        _keys[epoch_] = keyHash;
        if (epoch_ > keyEpoch) keyEpoch = epoch_;
        emit KeyRecorded(epoch_, keyHash);
    }

    // --- alarms

    /// Tells everybody that two certificates were seen that cannot both be. Whether it is so is checked off the chain.
    function reportFork(bytes calldata evidenceA, bytes calldata evidenceB, bytes32[] calldata signers) external {
        require(access.isEnrolled(msg.sender), NotEnrolled(msg.sender));
        _requireEvidence(evidenceA);
        _requireEvidence(evidenceB);
        require(keccak256(evidenceA) != keccak256(evidenceB), NoFork());
        require(signers.length != 0 && signers.length <= MOST_MEMBERS, WrongSigners(signers.length));
        for (uint256 i = 1; i < signers.length; i++) {
            require(signers[i - 1] < signers[i], WrongSigners(i));
        }
        emit ForkReported(msg.sender, evidenceA, evidenceB, signers);
    }

    // --- inside

    /// Writes the sender's word down; gives its validators, those that agree with it, and all.
    function _vote(uint64 epoch_, bytes32 keyHash) private returns (uint256 own, uint256 votes, uint256 count) {
        Validator[] memory set = _expand(_recordOf(epoch_));
        for (uint256 i = 0; i < set.length; i++) {
            if (set[i].role != Role.Validator) continue;
            count++;
            if (set[i].operator == msg.sender) {
                own++;
                _keyVotes[epoch_][set[i].p2pKey] = keyHash;
            }
            if (_keyVotes[epoch_][set[i].p2pKey] == keyHash) votes++;
        }
    }

    function _requireEvidence(bytes calldata evidence) private pure {
        require(evidence.length != 0, NoFork());
        require(evidence.length <= MOST_EVIDENCE_BYTES, EvidenceTooLong(evidence.length, MOST_EVIDENCE_BYTES));
    }
}
