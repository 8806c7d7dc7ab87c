//! The golden files of key ceremonies, version 1: every kind of message, and a record.
//!
//! `BLOCKHOUSE_MAKE_GOLDEN=1` writes them where they are missing, and never over what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;

use blockhouse_consensus::ceremony::{Agreed, Body, Ceremony, Here, Message, Plan, Record, Signed};
use blockhouse_consensus::{Keys, Kind, Network};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const KINDS: [&str; 5] = ["here", "deal", "ack", "log", "complaint"];

fn golden(name: &str, made: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
        std::fs::write(&path, made()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn kind(message: &Message) -> &'static str {
    match message.body {
        Body::Here(_) => "here",
        Body::Deal { .. } => "deal",
        Body::Ack { .. } => "ack",
        Body::Log { .. } => "log",
        Body::Complaint { .. } => "complaint",
    }
}

/// What two nodes say to each other until they have a key, and what they would say of a wrong share and of signatures.
fn said() -> Vec<Message> {
    let mut random = StdRng::seed_from_u64(1);
    let mut keys: Vec<Keys> = (0..2).map(|_| Keys::generate(&mut random)).collect();
    keys.sort_by_key(Keys::public);
    let plan = Plan::generate(&[7; 32], &[keys[0].public(), keys[1].public()]).unwrap();
    let mut nodes: Vec<Ceremony> = keys.iter().map(|keys| Ceremony::new(plan.clone(), keys.clone(), 1, None)).collect();
    let signed = Signed { attempt: [1; 32], logs: vec![[2; 32]], signatures: vec![(0, [3; 64]), (7, [4; 64])] };
    let here = Here { incarnation: 300, attempt: Some([1; 32]), signed: Some(signed), finished: true };
    let bodies = [Body::Here(here), Body::Complaint { attempt: [1; 32], dealer: [2; 32] }];
    let mut said: Vec<Message> = bodies.map(|body| Message { ceremony: [5; 32], body }).into();
    for _ in 0..6 {
        for node in 0..2 {
            for outgoing in nodes[node].tick(&mut random) {
                let bytes = outgoing.message.encode();
                let answers = nodes[1 - node].hear(&mut random, &keys[node].public(), &bytes);
                said.push(outgoing.message);
                for answer in answers {
                    let bytes = answer.message.encode();
                    nodes[node].hear(&mut random, &keys[1 - node].public(), &bytes);
                    said.push(answer.message);
                }
                nodes.iter_mut().for_each(Ceremony::kept);
            }
        }
    }
    said
}

#[test]
fn golden_messages_hold() {
    for name in KINDS {
        let first = || said().iter().find(|message| kind(message) == name).unwrap().encode().to_vec();
        let bytes = golden(&format!("ceremony-{name}.bin"), first);
        let read = Message::decode(&bytes).unwrap();
        assert!(*read.encode() == bytes, "{name} is written in another way");
        assert_eq!(kind(&read), name);
        for at in 0..bytes.len() {
            assert!(Message::decode(&bytes[..at]).is_err(), "{name} cut at {at}");
        }
    }
}

#[test]
fn a_golden_record_holds() {
    let bytes = golden("ceremony-record.bin", || {
        let network = golden("network-threshold.bin", || unreachable!("it is there"));
        let Kind::Threshold(sharing) = Network::decode(&network).unwrap().kind().clone() else { panic!("one key") };
        let agreed = Agreed { ceremony: [1; 32], attempt: [2; 32], logs: vec![[3; 32], [4; 32]], sharing };
        Record { incarnation: 5, agreed: Some(agreed) }.encode()
    });
    let read = Record::decode(&bytes).unwrap();
    assert!(read.encode() == bytes, "the record is written in another way");
    assert_eq!((read.incarnation, read.agreed.unwrap().logs), (5, vec![[3; 32], [4; 32]]));
}
