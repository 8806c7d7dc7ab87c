//! Targets for what a node and its founder read: enrolments, the network file, its configuration, what its peers send.

use blockhouse_consensus::ceremony::{Attestation, Outcome};
use blockhouse_consensus::{Base, Keys, Kind, deal};
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::network::{
    Address, Ceremony, Enrolment, FoundingFile, Label, NetworkFile, NodeConfig, Place, ProposalId, RecoveryProposal,
    Succession, Word, decode_alarms, decode_message, encode_alarms,
};
use blockhouse_homes::store::{StatePart, UndoRecord};
use blockhouse_ledger::handover::RecoveryChange;
use blockhouse_types::{Account, BlockHash, Encoder};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::vault::in_folder;
use crate::seeds::golden;
use crate::{Target, Verdict};

/// What the operator of another node sends.
pub(super) const ENROLMENT: Target = Target {
    name: "enrolment",
    decoders: &["homes/network/enrolment.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, Enrolment::decode(bytes), Enrolment::encode),
    seeds: || enrolments().iter().map(Enrolment::encode).collect(),
};

/// Names, places and addresses of nodes, as they are typed and as enrolments hold them, and the names of proposals.
pub(super) const PLACE: Target = Target {
    name: "node-place",
    decoders: &[
        "homes/network/place.rs::from_str",
        "homes/network/enrolment.rs::from_str",
        "homes/network/governing.rs::from_str",
    ],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        let (label, place, address) = (text.parse::<Label>(), text.parse::<Place>(), text.parse::<Address>());
        if let Ok(address) = &address {
            assert!(address.as_str().parse().as_ref() == Ok(address), "an address has two ways to be written");
        }
        let proposal = text.parse::<ProposalId>();
        if let Ok(proposal) = &proposal {
            assert!(proposal.to_string().parse().as_ref() == Ok(proposal), "a proposal is not named as it is written");
        }
        if label.is_ok() || place.is_ok() || address.is_ok() || proposal.is_ok() {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }
    },
    seeds: || ["ann", "site=fra,provider=acme,region=eu", "A.example:9650", "[::1]:9650"].map(Into::into).into(),
};

fn enrolments() -> Vec<Enrolment> {
    let enrol = |number: u8, place: &str, operator| {
        let keys = Keys::generate(&mut StdRng::seed_from_u64(number.into()));
        let (name, address) =
            (format!("n{number}").parse().unwrap(), format!("h{number}.example:9650").parse().unwrap());
        Enrolment::sign(&keys, name, address, place.parse().unwrap(), operator)
    };
    vec![enrol(1, "site=fra,provider=acme,region=eu", Some(Account::new([7; 20]))), enrol(2, "site=ams", None)]
}

/// A network file as a key ceremony leaves it, but for the signatures.
fn made_together() -> NetworkFile {
    let ceremony =
        Ceremony { owner: Account::new([3; 20]), time: 1_700_000_000, enrolments: enrolments(), epoch_length: None };
    let founding = ceremony.begin(&mut StdRng::seed_from_u64(1)).unwrap();
    let keys = (1..=2).map(|number| Keys::generate(&mut StdRng::seed_from_u64(number))).collect();
    let base = Base { height: 0, hash: BlockHash::new([0; 32]) };
    let network = deal(&mut StdRng::seed_from_u64(2), founding.chain_id, 0, base, keys).unwrap().network;
    let Kind::Threshold(sharing) = network.kind().clone() else { unreachable!("a key was dealt") };
    let attestation = Attestation { transcript: [1; 32], signatures: vec![[2; 64], [3; 64]] };
    founding.complete(&Outcome { sharing, share: None, attestation }).unwrap()
}

/// What all nodes of a network are given.
pub(super) const NETWORK_FILE: Target = Target {
    name: "network-file",
    decoders: &["homes/network/network_file.rs::decode", "homes/network/succession.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, NetworkFile::decode(bytes), NetworkFile::encode),
    seeds: || {
        let genesis = super::ledger::objects()[0].genesis.clone().unwrap();
        let networks = ["network-committee.bin", "network-threshold.bin"].map(|name| golden("consensus", name));
        let file = |network: Vec<u8>| {
            let network = blockhouse_consensus::Network::decode(&network).unwrap();
            let (genesis, enrolments) = (genesis.clone(), Vec::new());
            NetworkFile { genesis, network, enrolments, made: None, handover: None, epoch_length: None }.encode()
        };
        let ceremony = Ceremony {
            owner: Account::new([3; 20]),
            time: 1_700_000_000,
            enrolments: enrolments(),
            epoch_length: Some(64),
        };
        let founded = ceremony.found(&mut StdRng::seed_from_u64(1)).unwrap();
        let base = Base { height: 7, hash: BlockHash::new([9; 32]) };
        let account = AccountSecret::try_new(&Secret::new([1; 32])).unwrap();
        let grown = [None, Some(64)].map(|epoch_length| {
            let succession = Succession::try_new(genesis.clone(), enrolments(), epoch_length).unwrap();
            succession.file(base, succession.sign(&base, (&account, 5), Vec::new())).unwrap().encode()
        });
        networks.map(file).into_iter().chain([founded.encode(), made_together().encode()]).chain(grown).collect()
    },
};

/// What recovery accounts agree to together.
pub(super) const PROPOSAL: Target = Target {
    name: "recovery-proposal",
    decoders: &["homes/network/proposal.rs::decode"],
    run: |bytes| {
        let proposal = Verdict::canonical(bytes, RecoveryProposal::decode(bytes), RecoveryProposal::encode);
        let word = Verdict::canonical(bytes, Word::decode(bytes), Word::encode);
        if proposal == Verdict::Accepted { proposal } else { word }
    },
    seeds: || {
        let genesis = super::ledger::objects()[0].genesis.clone().unwrap();
        let [handover, chartered] = [None, Some(64)].map(|epoch_length| {
            let succession = Succession::try_new(genesis.clone(), enrolments(), epoch_length).unwrap();
            RecoveryProposal::Handover { succession, base: Base { height: 7, hash: BlockHash::new([9; 32]) } }
        });
        let (added, removed) = (vec![Account::new([1; 20]), Account::new([2; 20])], vec![Account::new([3; 20])]);
        let change =
            RecoveryProposal::Change { genesis, change: RecoveryChange { number: 1, added, removed, threshold: 2 } };
        let word = change.sign(&AccountSecret::try_new(&Secret::new([1; 32])).unwrap());
        vec![handover.encode(), chartered.encode(), change.encode(), word.encode()]
    },
};

/// What the validators agree on before they make their key.
pub(super) const FOUNDING_FILE: Target = Target {
    name: "founding-file",
    decoders: &["homes/network/founding_file.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, FoundingFile::decode(bytes), FoundingFile::encode),
    seeds: || {
        let ceremony = Ceremony {
            owner: Account::new([3; 20]),
            time: 1_700_000_000,
            enrolments: enrolments(),
            epoch_length: None,
        };
        vec![ceremony.begin(&mut StdRng::seed_from_u64(1)).unwrap().encode()]
    },
};

/// What the operator of a node wrote.
pub(super) const NODE_CONFIG: Target = Target {
    name: "node-config",
    decoders: &["homes/network/config.rs::load", "homes/network/config.rs::parse"],
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
        let anchor = format!("{text}[anchor]\nurls = [\"http://a\"]\nkey_file = \"payer\"\ndepth = 3\n");
        vec![text.into_bytes(), more.into_bytes(), anchor.into_bytes()]
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

/// A part of a state that another node gives.
pub(super) const STATE_PART: Target = Target {
    name: "state-part",
    decoders: &["homes/store/state_part.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, StatePart::decode(bytes), StatePart::encode),
    seeds: || {
        let mut encoder = Encoder::with_header(*b"BHSP");
        let paths: [(Option<u8>, &[u8]); 3] = [(None, &[]), (None, &[1, 15]), (Some(7), &[3])];
        encoder.list(paths.into_iter(), |encoder, (account, path)| {
            encoder.option(account, |encoder, account| {
                encoder.raw(&[account; 32]);
            });
            encoder.bytes(path).bytes(b"a node");
        });
        encoder.list([b"code"].into_iter(), |encoder, code| {
            encoder.bytes(code);
        });
        encoder.option(Some(()), |encoder, ()| {
            encoder.raw(&[8; 64]);
        });
        vec![StatePart::default().encode(), encoder.finish()]
    },
};

/// What a store keeps of a block, to go back to the state before it: a fault of the disk may have changed it.
pub(super) const UNDO_RECORD: Target = Target {
    name: "undo-record",
    decoders: &["homes/store/undo/record.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, UndoRecord::decode(&bytes.to_vec().into()), UndoRecord::encode),
    seeds: || {
        let mut encoder = Encoder::with_header(*b"BHUR");
        encoder.count(4);
        encoder.u8(0).bytes(&[]).bytes(b"a node");
        encoder.u8(0).bytes(&[1, 15]).bytes(&[]);
        encoder.u8(1).raw(&[7; 32]).bytes(&[3]).bytes(b"a node");
        encoder.u8(2).bytes(&[3, 1]).bytes(&[]);
        vec![UndoRecord::default().encode(), encoder.finish()]
    },
};
