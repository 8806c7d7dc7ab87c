//! Targets for what a node of a network reads: the network's own file and the key file.

use std::sync::LazyLock;

use blockhouse_consensus::ceremony::{Body, Ceremony, Here, Message, Outgoing, Plan, Record, Signed};
use blockhouse_consensus::{Keys, Network};
use blockhouse_ledger::resharing;
use rand::SeedableRng;
use rand::rngs::StdRng;

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

/// What a participant of a key ceremony sends.
pub(super) const CEREMONY_MESSAGE: Target = Target {
    name: "ceremony-message",
    decoders: &["consensus/ceremony/message.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, Message::decode(bytes), |message| message.encode().to_vec()),
    seeds: || {
        let signed = Signed { attempt: [1; 32], logs: vec![[2; 32]], signatures: vec![(0, [3; 64]), (7, [4; 64])] };
        let here = Body::Here(Here { incarnation: 300, attempt: Some([1; 32]), signed: Some(signed), finished: true });
        let complaint = Body::Complaint { attempt: [1; 32], dealer: [2; 32] };
        let of = |body| Message { ceremony: [5; 32], body }.encode().to_vec();
        // A whole ceremony of two: every kind of message.
        let mut all = vec![of(here), of(complaint)];
        all.extend(ceremony_of_two());
        all
    },
};

fn ceremony_of_two() -> Vec<Vec<u8>> {
    let mut random = StdRng::seed_from_u64(1);
    let mut keys: Vec<Keys> = (0..2).map(|_| Keys::generate(&mut random)).collect();
    keys.sort_by_key(Keys::public);
    let plan = Plan::generate(&[7; 32], &[keys[0].public(), keys[1].public()]).unwrap();
    let mut nodes: Vec<Ceremony> = keys.iter().map(|keys| Ceremony::new(plan.clone(), keys.clone(), 1, None)).collect();
    let mut sent = Vec::new();
    for _ in 0..6 {
        for node in 0..2 {
            let outgoing: Vec<Outgoing> = nodes[node].tick(&mut random);
            for message in outgoing {
                let bytes = message.message.encode().to_vec();
                let answers = nodes[1 - node].hear(&mut random, &keys[node].public(), &bytes);
                sent.push(bytes);
                for answer in answers {
                    let bytes = answer.message.encode().to_vec();
                    nodes[node].hear(&mut random, &keys[1 - node].public(), &bytes);
                    sent.push(bytes);
                }
                nodes.iter_mut().for_each(Ceremony::kept);
            }
        }
    }
    sent.sort();
    sent.dedup();
    sent.truncate(24);
    sent
}

/// What anybody of a set may post as the outcome of a resharing.
pub(super) const RESHARING_OUTCOME: Target = Target {
    name: "resharing-outcome",
    decoders: &["ledger/resharing.rs::decode"],
    run: |bytes| {
        let result = resharing::Outcome::decode(bytes);
        if let Ok(outcome) = &result {
            outcome.holds(&STEP);
        }
        Verdict::canonical(bytes, result, resharing::Outcome::encode)
    },
    seeds: || {
        let polynomial = STEP.holders.polynomial.clone();
        vec![resharing::Outcome { transcript: [1; 32], polynomial, signatures: vec![[2; 64]; 4] }.encode()]
    },
};

/// To the same validators.
static STEP: LazyLock<resharing::Step> = LazyLock::new(|| {
    let network = Network::decode(&golden("consensus", "network-threshold.bin")).unwrap();
    let (voters, polynomial) = (network.validators(), network.polynomial().unwrap());
    let holders = resharing::Group { voters: voters.clone(), polynomial };
    resharing::Step { subject: [3; 32], holders, dealers: voters.clone(), players: voters }
});

/// What a node keeps of key ceremonies.
pub(super) const CEREMONY_RECORD: Target = Target {
    name: "ceremony-record",
    decoders: &["consensus/ceremony/record.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, Record::decode(bytes), Record::encode),
    seeds: || {
        use blockhouse_consensus::Kind;
        use blockhouse_consensus::ceremony::Agreed;
        let network = Network::decode(&golden("consensus", "network-threshold.bin")).unwrap();
        let Kind::Threshold(sharing) = network.kind().clone() else { return Vec::new() };
        let agreed = Agreed { ceremony: [1; 32], attempt: [2; 32], logs: vec![[3; 32], [4; 32]], sharing };
        [None, Some(agreed)].map(|agreed| Record { incarnation: 5, agreed }.encode()).into()
    },
};
