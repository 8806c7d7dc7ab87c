// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What a policy answers. Anyone may write one; the owner chooses which one binds a source.
///
/// Both questions are asked by `staticcall`: a policy can look, and can change nothing. Anything but a plain
/// yes (a revert, no code, another length, another number) is a no.
interface IPolicy {
    /// May `who` read `object` of `source` now?
    function mayRead(address who, bytes32 source, bytes32 object) external view returns (bool);

    /// May `who` remove `object` of `source` now?
    ///
    /// `object` is a snapshot that was committed at `committedAt`, or the root of a set of stripes; then
    /// `committedAt` is 0.
    function mayRemove(address who, bytes32 source, bytes32 object, uint64 committedAt) external view returns (bool);
}
