//! What becomes of a node that failed over a sound store.

use rand::SeedableRng as _;

use super::*;
use crate::network::{Founding, Keys, RpcConfig, Signing, SyncConfig};

/// The folder of a network of one node.
fn alone() -> (tempfile::TempDir, NodeFolder) {
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let validators = vec![Keys::generate(&mut random)];
    let owner = blockhouse_types::Account::new([3; 20]);
    let founding = Founding { owner, time: 1_700_000_000, signing: Signing::Threshold, validators, governed: None };
    let founded = founding.found(&mut random).unwrap();
    let [listen, rpc] = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let [listen, rpc] = [listen, rpc].map(|listener| listener.local_addr().unwrap());
    let config = NodeConfig {
        listen,
        validators: [(NodeConfig::name_of(&founded.keys[0]), listen.to_string())].into(),
        followers: Vec::new(),
        rpc_peers: Vec::new(),
        sync: SyncConfig::default(),
        rpc: RpcConfig { listen: rpc, ..RpcConfig::default() },
        metrics: None,
        anchor: None,
        witness: None,
    };
    let place = tempfile::tempdir().unwrap();
    let folder = NodeFolder::new(place.path().join("node"));
    folder.create(&founded.file, &founded.keys[0], &config).unwrap();
    (place, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_failed_over_a_sound_store_says_so_and_may_start_again() {
    let (_place, folder) = alone();
    let mut parts = parts(&folder).unwrap();
    for _ in 0..2 {
        let store = sound_store(&folder, &mut parts, None, &mut |_: Told<'_>| {}).await.unwrap();
        let mut node = Node::start(&folder, &parts, store).await.unwrap();
        assert!(node.failure().is_none());
        node.fail("a bit in memory");
        let news = tokio::time::timeout(Duration::from_mins(2), node.news()).await.unwrap();
        assert!(matches!(news, News::Sound), "{news:?}");
        assert_eq!(node.failure().as_deref(), Some("a bit in memory"));
        node.stop().await;
    }
}

#[test]
fn a_node_that_fails_again_and_again_ends() {
    let mut in_a_row = InARow::default();
    let mut note = |ran| in_a_row.note(ran, Some("why".to_owned()));
    for _ in 0..HEALS_MAX {
        note(Duration::ZERO).unwrap();
    }
    note(SOUND_RUN).unwrap();
    for _ in 1..HEALS_MAX {
        note(Duration::ZERO).unwrap();
    }
    let ended = note(Duration::ZERO).unwrap_err();
    assert!(ended.to_string().contains("why"), "{ended}");
}
