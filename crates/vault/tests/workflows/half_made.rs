//! Making a vault, or bringing one back, that fails half-way: nothing is left that stops the next try, and what is left is named.

use std::fs;

use blockhouse_vault::init::{InitError, init};
use blockhouse_vault::recover::RecoverError;
use blockhouse_vault::vault::Settings;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_fails_names_the_folders_that_it_marked() {
    let world = World::empty();
    fs::create_dir(world.path("sites/s3")).unwrap();
    fs::write(world.path("sites/s3/photo"), b"in use").unwrap();
    let request = world.init_request();
    let refused = init(request, Settings::default()).await.unwrap_err();
    let text = refused.to_string();
    let InitError::Marked { places, source } = refused else { panic!("{refused:?}") };
    let folders: Vec<std::path::PathBuf> = places.into_iter().map(Into::into).collect();
    assert!(matches!(*source, InitError::Site { .. }), "{source:?}");
    assert_eq!(folders, [world.path("sites/s1"), world.path("sites/s2")]);
    assert!(folders.iter().all(|folder| text.contains(folder.to_str().unwrap())), "{text}");
    for gone in ["vault", "identity", "paper"] {
        assert!(!world.path(gone).exists(), "{gone} is left");
    }

    assert_eq!(fs::read(world.path("sites/s3/photo")).unwrap(), b"in use");

    // As the error says: those folders are emptied, the third is free, and the same command works.
    for folder in &folders {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::remove_file(world.path("sites/s3/photo")).unwrap();
    let request = world.init_request();
    init(request, Settings::default()).await.unwrap();
    world.try_back_up("vault").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_init_left_is_named_and_not_overwritten() {
    let world = World::empty();
    fs::create_dir(world.path("vault")).unwrap();
    fs::write(world.path("vault/secrets"), b"of some vault").unwrap();
    let refused = init(world.init_request(), Settings::default()).await.unwrap_err();
    assert!(refused.to_string().contains(world.path("vault/secrets").to_str().unwrap()), "{refused}");
    assert!(matches!(refused, InitError::Leftovers { .. }));
    assert_eq!(fs::read(world.path("vault/secrets")).unwrap(), b"of some vault");
    assert!(!world.path("identity").exists() && !world.path("sites/s1").exists());
    fs::remove_file(world.path("vault/secrets")).unwrap();
    init(world.init_request(), Settings::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_fails_can_be_tried_again_in_the_same_folder() {
    let world = World::with_backup().await;
    for site in ["s2", "s3"] {
        fs::rename(world.path("sites").join(site), world.path(site)).unwrap();
    }
    let refused = world.recover(world.request("new", &world.specs()[..1])).await.unwrap_err();
    assert!(matches!(refused, RecoverError::TooFewSites { needed: 2, .. }), "{refused:?}");
    assert!(!world.path("new").exists(), "nothing is left");
    for site in ["s2", "s3"] {
        fs::rename(world.path(site), world.path("sites").join(site)).unwrap();
    }
    // What a killed one leaves: a ledger and secrets without a configuration. They are kept, and do not stand in the way.
    fs::create_dir(world.path("new")).unwrap();
    for name in ["ledger.redb", "secrets"] {
        fs::copy(world.path("vault").join(name), world.path("new").join(name)).unwrap();
    }
    world.recover(world.request("new", &world.specs()[..1])).await.unwrap();
    world.try_back_up("new").await.unwrap();
    let kept = |name: &str| fs::read(world.path("new").join(format!("{name}.old-1"))).unwrap();
    assert_eq!(kept("secrets"), fs::read(world.path("vault/secrets")).unwrap());
    assert!(!kept("ledger.redb").is_empty());
}

/// Two at once in one folder: the second touches nothing of what the first makes.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_in_one_folder_the_loser_takes_nothing_from_the_winner() {
    let world = World::empty();
    let (one, other) = tokio::join!(
        tokio::spawn(init(world.init_request(), Settings::default())),
        tokio::spawn(init(world.init_request(), Settings::default()))
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(u8::from(one.is_ok()) + u8::from(other.is_ok()), 1, "{one:?} {other:?}");
    let refused = one.err().or(other.err()).unwrap();
    assert!(matches!(refused, InitError::Busy { .. } | InitError::Exists { .. }), "{refused:?}");
    world.try_back_up("vault").await.unwrap();
    assert!(world.unlocked().recovery_account().is_some(), "the identity is the winner's");
    assert_eq!(world.bag().await.sites.len(), 3);
}
