//! Targets for what a node reads: the network file, its configuration, what its peers send.

use blockhouse_homes::network::{NetworkFile, NodeConfig, decode_alarms, decode_message, encode_alarms};
use blockhouse_types::Encoder;

use super::vault::in_folder;
use crate::seeds::golden;
use crate::{Target, Verdict};

/// What all nodes of a network are given.
pub(super) const NETWORK_FILE: Target = Target {
    name: "network-file",
    decoders: &["homes/network/folder.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, NetworkFile::decode(bytes), NetworkFile::encode),
    seeds: || {
        let genesis = super::ledger::objects()[0].genesis.clone().unwrap();
        let networks = ["network-committee.bin", "network-threshold.bin"].map(|name| golden("consensus", name));
        let file = |network: Vec<u8>| {
            let network = blockhouse_consensus::Network::decode(&network).unwrap();
            NetworkFile { genesis: genesis.clone(), network }.encode()
        };
        networks.map(file).into()
    },
};

/// What the operator of a node wrote.
pub(super) const NODE_CONFIG: Target = Target {
    name: "node-config",
    decoders: &["homes/network/config.rs::load"],
    run: |bytes| {
        in_folder(|folder| {
            let path = folder.join("node.toml");
            std::fs::write(&path, bytes).unwrap();
            let read = NodeConfig::load(&path);
            if let Ok(config) = &read {
                std::fs::write(&path, config.text()).unwrap();
                assert!(
                    NodeConfig::load(&path).is_ok_and(|again| again == *config),
                    "it is not written as it was read"
                );
            }
            Verdict::of(read)
        })
    },
    seeds: || {
        let text = format!("listen = \"127.0.0.1:9650\"\n[validators]\n{} = \"a.example:9650\"\n", "07".repeat(32));
        let more = format!("{text}[rpc]\nlisten = \"0.0.0.0:8545\"\nhosts = [\"a\"]\ndebug = true\n");
        vec![text.into_bytes(), more.into_bytes()]
    },
};

/// Transactions that a peer sends.
pub(super) const GOSSIP: Target = Target {
    name: "node-gossip",
    decoders: &["homes/network/waiting.rs::decode_message"],
    run: |bytes| Verdict::of(decode_message(bytes)),
    seeds: || {
        let message = |transactions: &[&[u8]]| {
            let mut encoder = Encoder::new();
            encoder.list(transactions.iter(), |encoder, bytes| {
                encoder.bytes(bytes);
            });
            encoder.finish()
        };
        vec![message(&[]), message(&[b"one", b"another"])]
    },
};

/// What a node has yet to tell on the ledger.
pub(super) const ALARMS: Target = Target {
    name: "node-alarms",
    decoders: &["homes/network/alarms.rs::decode_alarms"],
    run: |bytes| Verdict::canonical_object(bytes, decode_alarms(bytes), |alarms| encode_alarms(alarms)),
    seeds: || {
        use blockhouse_homes::network::Alarm;
        use blockhouse_homes::store::Part;
        let block = Alarm { part: Part::Block, height: Some(7), hash: Some([7; 32].into()) };
        let file = Alarm { part: Part::File, height: None, hash: None };
        vec![encode_alarms(&[]), encode_alarms(&[block, file])]
    },
};
