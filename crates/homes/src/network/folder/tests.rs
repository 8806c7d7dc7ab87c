//! What a new folder says of its key.

use std::collections::BTreeMap;
use std::fs;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::network::{Place, RpcConfig, SyncConfig};

fn fresh(number: u64) -> Keys {
    Keys::generate(&mut StdRng::seed_from_u64(number))
}

fn prepare(folder: &NodeFolder, number: u64) {
    let config = NodeConfig {
        listen: "127.0.0.1:9650".parse().unwrap(),
        validators: BTreeMap::new(),
        followers: Vec::new(),
        rpc_peers: Vec::new(),
        sync: SyncConfig::default(),
        rpc: RpcConfig::default(),
        metrics: None,
        anchor: None,
        witness: None,
    };
    let enrol = |keys: &Keys| {
        Enrolment::sign(keys, "n1".parse().unwrap(), "127.0.0.1:9650".parse().unwrap(), Place::default(), None)
    };
    folder.prepare(fresh(number), &config, enrol).unwrap();
}

/// D4: that it never voted is said of a key that was drawn just now, and of no other.
#[test]
fn a_key_that_was_there_before_is_not_said_to_be_new() {
    let place = tempfile::tempdir().unwrap();
    let folder = NodeFolder::new(place.path().join("n1"));
    prepare(&folder, 1);
    assert!(folder.remembers_votes().unwrap());
    // Killed before the enrolment was there: begun again with the key that is.
    fs::remove_file(folder.enrolment()).unwrap();
    prepare(&folder, 2);
    assert_eq!(folder.read_keys().unwrap().public(), fresh(1).public());
    assert!(folder.remembers_votes().unwrap());
    // Killed before the key was there: the next one is another.
    fs::remove_file(folder.enrolment()).unwrap();
    fs::remove_file(folder.keys()).unwrap();
    prepare(&folder, 2);
    assert_eq!(folder.read_keys().unwrap().public(), fresh(2).public());
    assert!(folder.remembers_votes().unwrap());
    // Put back without the engine's folder, and begun again.
    fs::remove_dir_all(folder.engine()).unwrap();
    fs::remove_file(folder.enrolment()).unwrap();
    prepare(&folder, 3);
    assert!(!folder.remembers_votes().unwrap());
}
