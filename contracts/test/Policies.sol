// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPolicy} from "../src/IPolicy.sol";
import {Vault} from "../src/Vault.sol";

/// Says what it was told to say about a source.
contract ToldPolicy is IPolicy {
    mapping(bytes32 source => bool) public allowed;

    function tell(bytes32 source, bool yes) external {
        allowed[source] = yes;
    }

    function mayRead(address, bytes32 source, bytes32) external view returns (bool) {
        return allowed[source];
    }

    function mayRemove(address, bytes32 source, bytes32, uint64) external view returns (bool) {
        return allowed[source];
    }
}

/// Says yes to exactly one question.
contract ExactPolicy is IPolicy {
    bytes32 private immutable _question;

    constructor(address who, bytes32 source, bytes32 object, uint64 committedAt) {
        _question = keccak256(abi.encode(who, source, object, committedAt));
    }

    function mayRead(address, bytes32, bytes32) external pure returns (bool) {
        return false;
    }

    function mayRemove(address who, bytes32 source, bytes32 object, uint64 committedAt) external view returns (bool) {
        return keccak256(abi.encode(who, source, object, committedAt)) == _question;
    }
}

/// Reverts, with a reason that looks like an answer.
contract RevertingPolicy {
    fallback() external {
        assembly {
            mstore(0, 1)
            revert(0, 32)
        }
    }
}

/// Burns all gas it is given.
contract BurningPolicy {
    fallback() external {
        assembly { invalid() }
    }
}

/// Answers `length` bytes, the first word being `word`.
contract RawPolicy {
    uint256 private immutable _word;
    uint256 private immutable _length;

    constructor(uint256 word, uint256 length) {
        _word = word;
        _length = length;
    }

    fallback() external {
        uint256 word = _word;
        uint256 length = _length;
        assembly {
            mstore(0, word)
            return(0, length)
        }
    }
}

/// Uses the question to call back: says yes if any change went through.
contract ReenteringPolicy {
    Vault private immutable _vault;
    bytes private _call;

    constructor(Vault vault) {
        _vault = vault;
    }

    function prepare(bytes calldata call_) external {
        _call = call_;
    }

    function mayRemove(address, bytes32, bytes32, uint64) external returns (bool changed) {
        (changed,) = address(_vault).call(_call);
    }
}
