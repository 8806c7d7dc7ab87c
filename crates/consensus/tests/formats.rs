//! The files of a network and of a node's keys: one encoding each, frozen.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use blockhouse_consensus::{Dealt, Keys, Kind, Network, NetworkError};

use support::{CHAIN, base, committee, identities, threshold};

/// Golden bytes: `BLOCKHOUSE_MAKE_GOLDEN=1` writes them where they are missing, and never over what is there.
fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(&path).unwrap()
}

#[test]
fn golden_networks_and_keys_hold() {
    for (name, dealt) in [("committee", committee(40, 4)), ("threshold", threshold(40, 4))] {
        let bytes = golden(&format!("network-{name}.bin"), &dealt.network.encode());
        assert_eq!(bytes, dealt.network.encode());
        assert_eq!(Network::decode(&bytes).unwrap(), dealt.network);
        let keys = dealt.keys[0].encode();
        let bytes = golden(&format!("keys-{name}.bin"), &keys);
        assert_eq!(bytes, *keys);
        let read = Keys::decode(&bytes).unwrap();
        assert_eq!((read.public(), read.has_share()), (dealt.keys[0].public(), name == "threshold"));
        assert_eq!(read.encode(), keys);
    }
}

#[test]
fn changed_files_are_refused_or_mean_something_else() {
    let Dealt { network, keys } = threshold(41, 4);
    let (network, keys) = (network.encode(), keys[0].encode());
    for at in 0..network.len() {
        let mut changed = network.clone();
        changed[at] ^= 1;
        // Byte 6 holds flags that a reader may ignore.
        if let (Ok(read), true) = (Network::decode(&changed), at != 6) {
            assert_eq!(read.encode(), changed, "byte {at} has two encodings");
        }
        assert!(Network::decode(&network[..at]).is_err());
    }
    for at in 0..keys.len() {
        assert!(Keys::decode(&keys[..at]).is_err());
    }
}

#[test]
fn a_network_is_made_of_what_fits() {
    let validators: Vec<[u8; 32]> = identities(42, 4).iter().map(Keys::public).collect();
    let of = |validators: &[[u8; 32]], kind| Network::try_new(CHAIN, 0, base(), validators, kind);
    let mut turned = validators.clone();
    turned.reverse();
    assert_eq!(of(&turned, Kind::Committee).unwrap(), of(&validators, Kind::Committee).unwrap());
    assert_eq!(of(&[], Kind::Committee), Err(NetworkError::Size { found: 0 }));
    turned.push(validators[0]);
    assert_eq!(of(&turned, Kind::Committee), Err(NetworkError::Twice { key: validators[0] }));
    assert_eq!(of(&[[2; 32]; 1], Kind::Committee), Err(NetworkError::NoKey { key: [2; 32] }));
    let foreign = threshold(43, 7).network;
    let refused = of(&validators, foreign.kind().clone());
    assert_eq!(refused, Err(NetworkError::Polynomial { required: 5, total: 7, validators: 4, needed: 3 }));
    let quorums = [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7)];
    for (count, quorum) in quorums {
        let validators: Vec<[u8; 32]> = identities(44, count).iter().map(Keys::public).collect();
        assert_eq!(of(&validators, Kind::Committee).unwrap().quorum(), quorum);
    }
}

/// The charter's hash is part of the bytes and of the key; who votes, and what they sign, is the same.
#[test]
fn a_chartered_network_commits_to_its_charter() {
    let validators: Vec<[u8; 32]> = identities(42, 4).iter().map(Keys::public).collect();
    let of = |kind| Network::try_new(CHAIN, 0, base(), &validators, kind).unwrap();
    let (plain, one, other) = (of(Kind::Committee), of(Kind::Chartered([7; 32])), of(Kind::Chartered([8; 32])));
    for network in [&plain, &one, &other] {
        assert_eq!(Network::decode(&network.encode()).unwrap(), *network);
        assert!((network.quorum(), network.shares_a_key(), network.polynomial()) == (3, false, None));
    }
    assert!(plain.key() != one.key() && one.key() != other.key());
    let bytes = one.encode();
    assert_eq!(bytes[..plain.encode().len() - 1], plain.encode()[..plain.encode().len() - 1]);
    assert!(Network::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn nothing_of_a_key_is_printed() {
    let keys = threshold(45, 4).keys.remove(0);
    let text = format!("{keys:?}");
    assert!(text.contains(&hex::encode(keys.public())));
    let secret = hex::encode(&keys.encode()[8..40]);
    assert!(!text.contains(&secret));
}
