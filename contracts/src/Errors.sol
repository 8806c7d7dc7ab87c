// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Refusals that more than one contract gives. Each names the object that was refused.

/// The sender is not the owner that `Access` names.
error NotOwner(address who);
/// The account is not an active writer.
error NotWriter(address who);
/// The account is neither owner, recovery account nor active writer.
error NotEnrolled(address who);
/// There is no code at this address, so it can neither answer nor act.
error NotAContract(address account);
/// A list of `count` entries has none at `index`.
error OutOfRange(uint256 index, uint256 count);
