//! Folders from the first key to the network, with kills between.

use std::fs;
use std::path::PathBuf;

use blockhouse_consensus::{Base, Keys, Kind, Network};
use blockhouse_types::Account;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::network::{Ceremony, Enrolment, Founding, Place, RpcConfig, Signing, SyncConfig, write_network};

struct World {
    folder: tempfile::TempDir,
}

fn config(number: u64) -> NodeConfig {
    let listen = format!("127.0.0.1:{}", 9649 + number).parse().unwrap();
    let (validators, followers, rpc) = (std::collections::BTreeMap::new(), Vec::new(), RpcConfig::default());
    let (sync, rpc_peers) = (SyncConfig::default(), Vec::new());
    NodeConfig { listen, validators, followers, rpc_peers, sync, rpc, metrics: None, anchor: None, witness: None }
}

fn fresh(number: u64) -> Keys {
    Keys::generate(&mut StdRng::seed_from_u64(number))
}

fn enrol(keys: &Keys, number: u64) -> Enrolment {
    let address = format!("127.0.0.1:{}", 9649 + number).parse().unwrap();
    Enrolment::sign(keys, format!("n{number}").parse().unwrap(), address, Place::default(), None)
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn folder(&self, number: u64) -> NodeFolder {
        NodeFolder::new(self.folder.path().join(format!("n{number}")))
    }

    /// Begins a node; its key is drawn from `seed`.
    fn prepare(&self, number: u64, seed: u64) -> Result<Enrolment, FolderError> {
        self.folder(number).prepare(fresh(seed), &config(number), |keys| enrol(keys, number))
    }

    /// The network of these nodes.
    fn found(&self, name: &str, enrolments: Vec<Enrolment>) -> PathBuf {
        let ceremony = Ceremony { owner: Account::new([3; 20]), time: 1_700_000_000, enrolments, epoch_length: None };
        let path = self.folder.path().join(name);
        write_network(&path, &ceremony.found(&mut StdRng::seed_from_u64(1)).unwrap()).unwrap();
        path
    }

    fn join(&self, number: u64, network: &Path, follows: bool) -> Result<(), JoinError> {
        Joining::plan(self.folder(number), network, follows)?.execute()
    }
}

/// What a founder could do whose file differs from what he read out: all of these have a fingerprint that anybody may name.
#[test]
fn a_network_of_one_key_or_of_another_beginning_is_not_joined() {
    let world = World::new();
    let four: Vec<Enrolment> = (1..=4).map(|number| world.prepare(number, number).unwrap()).collect();
    let honest = NetworkFile::read(&world.found("network", four.clone())).unwrap();
    let mut random = StdRng::seed_from_u64(2);
    let founding = Founding {
        owner: Account::new([3; 20]),
        time: 1_700_000_000,
        signing: Signing::Threshold,
        validators: (1..=4).map(fresh).collect(),
        governed: None,
    };
    let dealt = NetworkFile { enrolments: honest.enrolments.clone(), ..founding.found(&mut random).unwrap().file };
    let again = |epoch, base| {
        let (chain_id, validators) = (honest.network.chain_id(), honest.network.validators());
        let network = Network::try_new(chain_id, epoch, base, &validators, Kind::Committee).unwrap();
        NetworkFile { network, ..honest.clone() }
    };
    let base = honest.network.base();
    let later = again(1, base);
    let higher = again(0, Base { height: 5, ..base });
    for (name, file, is_one_key) in [("dealt", dealt, true), ("later", later, false), ("higher", higher, false)] {
        let path = world.folder.path().join(name);
        write_network(&path, &file).unwrap();
        let refused = world.join(1, &path, false).unwrap_err();
        assert!(if is_one_key {
            matches!(refused, JoinError::OneKey)
        } else {
            matches!(refused, JoinError::Inconsistent)
        });
    }
}

#[test]
fn a_node_joins_the_network_that_names_it_and_no_other() {
    let world = World::new();
    let four: Vec<Enrolment> = (1..=4).map(|number| world.prepare(number, number).unwrap()).collect();
    let network = world.found("network", four.clone());
    let planned = Joining::plan(world.folder(1), &network, false).unwrap();
    let fingerprint = planned.network().fingerprint();
    assert!(matches!(planned.expect(Fingerprint::new([0; 32])), Err(JoinError::Fingerprint { .. })));
    assert!(matches!(world.join(1, &network, true), Err(JoinError::Validator)));
    world.join(1, &network, false).unwrap();
    assert!(matches!(world.join(1, &network, false), Err(JoinError::Folder(FolderError::Exists { .. }))));
    assert!(matches!(world.prepare(1, 9), Err(FolderError::Exists { .. })));
    assert_eq!(world.folder(1).read_network().unwrap().fingerprint(), fingerprint);
    let config = NodeConfig::load(&world.folder(1).config()).unwrap();
    assert_eq!((config.validators.len(), config.followers.len()), (4, 0));

    let stranger = world.prepare(5, 5).unwrap();
    assert!(matches!(world.join(5, &network, false), Err(JoinError::NoValidator { .. })));
    world.join(5, &network, true).unwrap();
    assert_eq!(NodeConfig::load(&world.folder(5).config()).unwrap().followers, [stranger.key_text()]);

    // An older word of the same key is not what the node says now.
    let older = Enrolment::sign(&fresh(2), "n2".parse().unwrap(), "h:1".parse().unwrap(), Place::default(), None);
    let replayed = world.found("replayed", vec![four[0].clone(), older]);
    assert!(matches!(world.join(2, &replayed, false), Err(JoinError::OtherEnrolment { .. })));
    assert!(matches!(world.join(6, &network, false), Err(JoinError::Folder(FolderError::NoKey { .. }))));
}

#[test]
fn a_file_whose_parts_are_of_two_ledgers_is_refused() {
    let world = World::new();
    let own = world.prepare(1, 1).unwrap();
    let path = world.found("network", vec![own]);
    let mut file = NetworkFile::read(&path).unwrap();
    file.genesis.time += 1;
    write_network(&path, &file).unwrap();
    assert!(matches!(world.join(1, &path, false), Err(JoinError::Inconsistent)));
    file.enrolments.clear();
    file.genesis.time -= 1;
    write_network(&path, &file).unwrap();
    assert!(matches!(world.join(1, &path, false), Err(JoinError::NotEnrolled { .. })));
}

/// D1 and D3: what a kill leaves is begun again, with the same key.
#[test]
fn a_kill_at_any_file_is_made_good() {
    let world = World::new();
    let first = world.prepare(1, 1).unwrap();
    assert!(matches!(world.prepare(1, 2), Err(FolderError::Enrolled { .. })));
    let folder = world.folder(1);
    // Killed before the enrolment had its name, and before the configuration had.
    fs::rename(folder.enrolment(), folder.path().join("enrolment.new")).unwrap();
    assert_eq!(world.prepare(1, 2).unwrap(), first);
    fs::remove_file(folder.enrolment()).unwrap();
    fs::rename(folder.config(), folder.path().join("node.new")).unwrap();
    assert_eq!(world.prepare(1, 2).unwrap(), first);

    // Killed while it joined: the store is there in part, the network is not.
    let network = world.found("network", vec![first]);
    fs::write(folder.store(), "half a store").unwrap();
    fs::write(folder.path().join("network.new"), "half a file").unwrap();
    world.join(1, &network, false).unwrap();
    let store = crate::store::Store::open(&folder.store(), crate::store::Access::Read, std::time::Duration::ZERO, None);
    assert_eq!(*store.unwrap().genesis(), folder.read_network().unwrap().genesis);
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let world = World::new();
    fs::create_dir(world.folder(1).path()).unwrap();
    fs::write(world.folder(1).path().join("letter"), "x").unwrap();
    assert!(matches!(world.prepare(1, 1), Err(FolderError::NotEmpty { .. })));
    assert_eq!(fs::read_dir(world.folder(1).path()).unwrap().count(), 1);
}
