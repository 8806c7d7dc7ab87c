// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Model} from "./Model.sol";

/// V1 to V6 under arbitrary sequences of calls. V2 and V3 are in what `Model` foretells: a commit with other
/// recipients, or a removal against the policy, that the vault took would revert the call and fail the campaign.
contract InvariantsTest {
    Model private model;

    function setUp() public {
        model = new Model();
    }

    /// The one contract that forge calls, and its calls: what changes something.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(model);
    }

    struct Selectors {
        address target;
        bytes4[] selectors;
    }

    function targetSelectors() external view returns (Selectors[] memory targets) {
        bytes4[13] memory chosen = [
            Model.pass.selector,
            Model.enrol.selector,
            Model.revoke.selector,
            Model.permit.selector,
            Model.approve.selector,
            Model.setDefault.selector,
            Model.open.selector,
            Model.renew.selector,
            Model.end.selector,
            Model.commit.selector,
            Model.forget.selector,
            Model.mark.selector,
            Model.sweep.selector
        ];
        targets = new Selectors[](1);
        targets[0].target = address(model);
        // Opening and committing are drawn twice: the rest needs something to act on.
        targets[0].selectors = new bytes4[](chosen.length + 2);
        for (uint256 i = 0; i < chosen.length; i++) {
            targets[0].selectors[i] = chosen[i];
        }
        targets[0].selectors[chosen.length] = Model.open.selector;
        targets[0].selectors[chosen.length + 1] = Model.commit.selector;
    }

    function invariant_vault_is_as_the_model_foretells() public view {
        model.checkSnapshots();
        model.checkSweeps();
        model.checkSessions();
    }
}
