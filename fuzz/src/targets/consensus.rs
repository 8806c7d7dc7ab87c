//! Targets for what a node of a network reads: the network's own file and the key file.

use blockhouse_consensus::{Keys, Network};

use crate::seeds::golden;
use crate::{Target, Verdict};

/// What all nodes of a network agree on.
pub(super) const NETWORK: Target = Target {
    name: "network",
    decoders: &["consensus/network.rs::decode"],
    run: |bytes| {
        let result = Network::decode(bytes);
        if let Ok(network) = &result {
            assert!(network.quorum() <= network.validators().len() && network.quorum() > 0);
            network.key();
        }
        Verdict::canonical_object(bytes, result, Network::encode)
    },
    seeds: || ["network-committee.bin", "network-threshold.bin"].map(|name| golden("consensus", name)).into(),
};

/// The keys of a node.
pub(super) const NODE_KEYS: Target = Target {
    name: "node-keys",
    decoders: &["consensus/keys.rs::decode"],
    run: |bytes| {
        let result = Keys::decode(bytes);
        if let Ok(keys) = &result {
            keys.public();
        }
        Verdict::canonical_object(bytes, result, |keys| keys.encode().to_vec())
    },
    seeds: || ["keys-committee.bin", "keys-threshold.bin"].map(|name| golden("consensus", name)).into(),
};
