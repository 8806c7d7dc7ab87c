//! Who attacks the ledger at the sites, or uses it twice: what he leaves there is refused, and never hides what is genuine.

use std::fs;
use std::sync::Arc;

use blockhouse_crypto::{LedgerKey, Secret};
use blockhouse_homes::forks::ForkFolder;
use blockhouse_ledger::{BlockObject, BlockPlace, Certificate};
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_sites::ObjectKey;
use blockhouse_types::{BlockHash, Code};
use blockhouse_vault::recover::{ChainState, RecoverError};
use blockhouse_vault::unlock::{Unlocked, open_bag};
use blockhouse_vault::vault::{OpenError, OpenWarning, Settings, Vault};

use crate::support::{Thief, World, certified, key_number, merge};

/// Both sides of a double recovery are refused until the owner says which fingerprint is the vault's; then that one goes on for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_rival_recovery_stops_both_until_the_owner_chooses() {
    let world = World::with_backup().await;
    // Two hosts recover while neither sees what the other writes: each has a copy of the sites.
    world.copy_sites("copy");
    let one = world.recover(world.request("one", &world.specs())).await.unwrap();
    let other = world.recover(world.request("other", &world.specs_in("copy"))).await.unwrap();
    assert_ne!(one.after, other.after);
    merge(&world.path("copy"), &world.path("sites"));
    merge(&world.path("sites"), &world.path("copy"));
    for host in ["one", "other"] {
        let refused = world.try_back_up(host).await.unwrap_err();
        assert!(refused.contains("Rival") && refused.contains("number: 1"), "{host}: {refused}");
    }
    let open = world.recover(world.request("new", &world.specs())).await.unwrap_err();
    let RecoverError::Fork { chains, .. } = open else { panic!("{open:?}") };
    for side in [one.after, other.after] {
        assert!(chains.iter().any(|chain| chain.fingerprint == Some(side)), "the sides are told: {chains:?}");
    }

    let mut request = world.request("new", &world.specs());
    request.fingerprint = Some(other.after);
    let chosen = world.recover(request).await.unwrap();
    assert_eq!(chosen.before, other.after);
    assert!(chosen.chains.iter().any(|chain| chain.state == ChainState::Other), "{:?}", chosen.chains);
    world.try_back_up("new").await.unwrap();
    merge(&world.path("sites"), &world.path("copy"));
    for host in ["one", "other"] {
        let refused = world.try_back_up(host).await.unwrap_err();
        assert!(refused.contains("HandedOver"), "{host}: {refused}");
    }
    world.try_back_up("new").await.unwrap();
}

/// Two recoveries on the same sites at the same time: never two hosts that both may back up.
#[tokio::test(flavor = "multi_thread")]
async fn two_recoveries_at_once_leave_at_most_one_living_host() {
    let world = World::with_backup().await;
    let specs = world.specs();
    let (one, other) =
        tokio::join!(world.recover(world.request("one", &specs)), world.recover(world.request("other", &specs)));
    let mut living = 0;
    for (host, made) in [("one", one.is_ok()), ("other", other.is_ok())] {
        living += u32::from(made && world.try_back_up(host).await.is_ok());
    }
    assert!(living <= 1, "{one:?} {other:?}");
    if living == 0 {
        // Each saw the other: the owner's word ends it.
        let open = world.recover(world.request("new", &specs)).await;
        let Err(RecoverError::Fork { chains, .. }) = open else {
            open.unwrap();
            return world.try_back_up("new").await.unwrap();
        };
        let mut request = world.request("new", &specs);
        request.fingerprint = chains[0].fingerprint;
        world.recover(request).await.unwrap();
        world.try_back_up("new").await.unwrap();
    }
}

/// Only a genuine handover stops a host: not bytes, not its own under other numbers, not a copied transaction, not a stranger's.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_look_like_handovers_stop_nothing() {
    let world = World::with_backup().await;
    let thief = Thief::of(&world).await;
    world.recover(world.request("new", &world.specs())).await.unwrap();
    let vault = world.open_at("new").await;
    let standing = vault.standing().await.unwrap();
    let at = standing.keys.handovers()[0].height;
    let genuine = vault.home().own_copy().unwrap().block_objects(at, 1).await.unwrap().remove(0);
    let above = vault.home().own_copy().unwrap().block_objects(standing.height, 1).await.unwrap().remove(0);

    let mut copies = vec![genuine.clone()];
    for key in [&thief.key, &key_number(77)] {
        copies.push(thief.copied(&genuine, &genuine.block.header.parent_hash.0, key));
        copies.push(thief.copied(&genuine, &above.hash().to_bytes(), key));
        copies.push(thief.handover(&genuine.block.header, key));
        copies.push(thief.handover(&above.block.header, key));
    }
    for number in [1_u8, 2, 3, 90] {
        let hash = BlockHash::new([number; 32]);
        let number = u64::from(number);
        for object in &copies {
            world.plant(&ObjectKey::Handover { number, hash: object.hash() }, &object.encode());
        }
        world.plant(&ObjectKey::Handover { number, hash }, b"no block at all");
    }
    world.try_back_up("new").await.unwrap();
}

/// Blocks of strangers beside the real ones, at every height and every site: healing, following and recovering pass them over.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_strangers_hide_nothing() {
    let world = World::with_backup().await;
    let before = fs::read(world.path("vault/ledger.redb")).unwrap();
    let behind = world.open().await.standing().await.unwrap();
    world.try_back_up("vault").await.unwrap();
    let vault = world.open().await;
    let standing = vault.standing().await.unwrap();
    assert!(standing.height > behind.height + 1);
    let thief = Thief::of(&world).await;
    let foreign =
        World::with_backup().await.open().await.home().own_copy().unwrap().block_objects(0, 1).await.unwrap().remove(0);
    for object in vault.home().own_copy().unwrap().block_objects(0, usize::MAX).await.unwrap() {
        let height = object.block.header.number;
        world.plant(&ObjectKey::Block { height, hash: foreign.hash() }, &foreign.encode());
        for number in 0..6_u8 {
            world.plant(&ObjectKey::Block { height, hash: BlockHash::new([number; 32]) }, b"not a block");
            if height > 0 {
                let stranger = key_number(60 + number);
                let forged = thief.sibling(&object, u64::from(number) + 1, &stranger);
                world.plant(&ObjectKey::Block { height, hash: forged.hash() }, &forged.encode());
                let parent = vault.home().own_copy().unwrap().block_objects(height - 1, 1).await.unwrap().remove(0);
                let forged = thief.handover(&parent.block.header, &stranger);
                world.plant(&ObjectKey::Block { height, hash: forged.hash() }, &forged.encode());
            }
        }
    }

    fs::remove_file(world.path("vault/ledger.redb")).unwrap();
    let healed = world.open().await;
    assert_eq!(healed.standing().await.unwrap(), standing, "healed: {:?}", healed.warnings());
    fs::write(world.path("vault/ledger.redb"), &before).unwrap();
    let followed = world.open().await;
    assert_eq!(followed.standing().await.unwrap(), standing, "followed: {:?}", followed.warnings());
    world.try_back_up("vault").await.unwrap();
    let height = world.open().await.standing().await.unwrap().height;
    let report = world.recover(world.request("new", &world.specs()[..1])).await.unwrap();
    assert!(report.chains.iter().all(|chain| chain.height == height && chain.state == ChainState::Same));
    world.try_back_up("new").await.unwrap();
}

/// A ledger file from before a backup is brought up to the sites, or seals nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_set_back_seals_no_fork() {
    let world = World::with_backup().await;
    let before = fs::read(world.path("vault/ledger.redb")).unwrap();
    let old = world.open().await.standing().await.unwrap();
    world.try_back_up("vault").await.unwrap();
    let standing = world.open().await.standing().await.unwrap();
    let set_back = || fs::write(world.path("vault/ledger.redb"), &before).unwrap();

    set_back();
    let vault = world.open().await;
    assert!(vault.warnings().iter().any(|warning| matches!(warning, OpenWarning::Followed { .. })));
    assert_eq!(vault.standing().await.unwrap(), standing);

    // The next block is at no site any more, a later one is at one of them.
    let next = world.take_blocks(|height| height == old.height + 1);
    let last = world.take_blocks_of(&["s1", "s2"], |height| height > old.height);
    set_back();
    assert_eq!(world.open().await.standing().await.unwrap().height, old.height);
    let held = world.blocks();
    for settings in [Settings::default(), Settings { accept_risk: true, ..Settings::default() }] {
        let refused = world.try_back_up_with("vault", settings).await.unwrap_err();
        assert!(refused.contains("Ahead"), "{refused}");
    }
    assert_eq!(world.blocks(), held, "nothing was sealed and copied");

    // No site holds anything of it: what is sealed now is a fork, found when the blocks are back.
    let hidden = world.take_blocks(|height| height > old.height);
    world.try_back_up("vault").await.unwrap();
    for taken in [next, last, hidden] {
        crate::support::give_back(taken);
    }
    let held = world.blocks();
    let refused = world.try_back_up("vault").await.unwrap_err();
    assert!(refused.contains("Forked"), "{refused}");
    assert_eq!(world.blocks(), held);

    // One key certified both sides: a receipt tells which one is meant, and a handover ends it.
    let open = world.recover(world.request("new", &world.specs())).await.unwrap_err();
    assert!(matches!(open, RecoverError::Fork { height, .. } if height > old.height), "{open:?}");
    let forks = ForkFolder::beside(&world.request("new", &world.specs()).folder.ledger()).all().unwrap();
    assert!(!forks.is_empty() && forks.iter().all(|fork| fork.proved.height > old.height), "{forks:?}");
    let mut request = world.request("new", &world.specs());
    request.expect = Some(world.receipt("vault").await);
    let report = world.recover(request).await.unwrap();
    assert_eq!(report.snapshots, 2);
    world.try_back_up("new").await.unwrap();
}

/// The thief of the host seals any number of blocks and forges handovers. Whoever recovered before him is not outdone.
#[tokio::test(flavor = "multi_thread")]
async fn handovers_made_with_a_stolen_sealing_key_never_win() {
    let world = World::with_backup().await;
    let thief = Thief::of(&world).await;
    let first = world.recover(world.request("new", &world.specs())).await.unwrap();
    let vault = world.open_at("new").await;
    let standing = vault.standing().await.unwrap();
    let at = standing.keys.handovers()[0].height;
    let genuine = vault.home().own_copy().unwrap().block_objects(at, 1).await.unwrap().remove(0);

    let mut forged = thief.chain(20).await;
    assert!(forged.last().unwrap().block.header.number > standing.height + 10, "it is the higher one by far");
    let mut parent = forged.last().unwrap().block.header.clone();
    for number in 0..4 {
        let handover = thief.handover(&parent, &key_number(70 + number));
        parent = handover.block.header.clone();
        forged.push(handover);
    }
    for key in [&thief.key, &key_number(70)] {
        forged.push(thief.copied(&genuine, &genuine.block.header.parent_hash.0, key));
        forged.push(thief.copied(&genuine, &forged[3].hash().to_bytes(), key));
    }
    for (number, object) in (1..).zip(&forged) {
        let (height, hash) = (object.block.header.number, object.hash());
        world.plant(&ObjectKey::Block { height, hash }, &object.encode());
        world.plant(&ObjectKey::Handover { number, hash }, &object.encode());
    }

    world.try_back_up("new").await.unwrap();
    let snapshots = world.open_at("new").await.ledger().snapshots().await.unwrap().len() as u64;
    for (host, sites) in [("again", 1), ("and again", 3)] {
        let report = world.recover(world.request(host, &world.specs()[..sites])).await.unwrap();
        assert_eq!(report.snapshots, snapshots);
        assert!(report.chains.iter().any(|chain| matches!(chain.state, ChainState::Fork { .. })), "it is told");
        let vault = world.open_at(host).await;
        assert_eq!(
            vault.home().own_copy().unwrap().block_objects(at, 1).await.unwrap(),
            std::slice::from_ref(&genuine)
        );
        assert!(vault.standing().await.unwrap().keys.handovers().len() >= 2);
    }
    let mut anchored = world.request("anchored", &world.specs());
    anchored.fingerprint = Some(first.after);
    world.recover(anchored).await.unwrap();
    world.try_back_up("anchored").await.unwrap();
}

/// With the paper key alone a forged vault opens: whoever knows the recipients can seal a bag to them. The fingerprint tells it.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_vault_is_told_by_the_fingerprint() {
    let (world, forger) = (World::with_backup().await, World::with_backup().await);
    let fingerprint = world.open().await.standing().await.unwrap().fingerprint;
    let bag = forger.bag().await;
    let vault = forger.open().await;
    let false_bag = forger.seal_for(bag, &world).await;
    let hash = SealedBag::hash(&false_bag);
    forger.plant(&ObjectKey::Bag { version: 2, hash }, &false_bag);
    vault.ledger_as(&forger.owner()).record_bag(2, hash).await.unwrap();
    blockhouse_vault::blocks::copy_all(&vault).await.unwrap();

    let mut request = world.request("rehearsal", &forger.specs());
    request.read_only = true;
    let paper = Unlocked::paper(world.path("paper")).unwrap();
    let report = blockhouse_vault::recover::recover(request, &paper, Settings::default()).await.unwrap();
    assert_ne!(report.before, fingerprint, "without an anchor nothing tells it");

    let mut request = world.request("new", &forger.specs());
    request.fingerprint = Some(fingerprint);
    let refused = blockhouse_vault::recover::recover(request, &paper, Settings::default()).await.unwrap_err();
    let RecoverError::OtherFingerprint { asked, chains } = refused else { panic!("{refused:?}") };
    assert_eq!(asked, fingerprint);
    assert!(chains.iter().all(|chain| chain.state == ChainState::Other), "{chains:?}");
    assert!(!world.path("new").exists());
}

/// A bag of a stranger at a true site may lead to the true chain; sites and code are those of the bag that the ledger names.
#[tokio::test(flavor = "multi_thread")]
async fn sites_and_code_come_from_the_bag_that_the_ledger_names() {
    let world = World::with_backup().await;
    let fingerprint = world.open().await.standing().await.unwrap().fingerprint;
    let mut bag = world.bag().await;
    bag.sites.truncate(1);
    bag.code = Code::try_new(1, 0).unwrap();
    let forged = bag.seal(world.open().await.id(), 99).unwrap().to_bytes();
    world.plant(&ObjectKey::Bag { version: 99, hash: SealedBag::hash(&forged) }, &forged);
    let mut request = world.request("new", &world.specs()[..1]);
    request.fingerprint = Some(fingerprint);
    let paper = Unlocked::paper(world.path("paper")).unwrap();
    blockhouse_vault::recover::recover(request, &paper, Settings::default()).await.unwrap();
    let recovered = world.open_at("new").await;
    assert_eq!(recovered.config().sites.len(), 3);
    assert_eq!(recovered.config().code, world.open().await.config().code);
    let named = recovered.ledger().bag().await.unwrap();
    assert_eq!(named.0, 1);
    open_bag(recovered.sites(), named, &paper).await.unwrap();
}

/// What a site must not be asked for with `--accept-risk`: nothing at all. One always answers.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_site_nothing_is_sealed_whatever_is_accepted() {
    let world = World::with_backup().await;
    let settings = Settings { accept_risk: true, ..Settings::default() };
    fs::rename(world.path("sites"), world.path("away")).unwrap();
    let vault = Vault::open(world.folder("vault"), settings.clone()).await.unwrap();
    let owner = vault.ledger_as(&world.owner());
    let refused = format!("{:?}", owner.set_default_recipients(blockhouse_types::RecipientSetHash::new([1; 32])).await);
    assert!(refused.contains("TooFewSites { read: 0, needed: 1 }"), "{refused}");
}

/// A damaged ledger and sites that serve two of equal standing: nothing is guessed.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_not_healed_by_chance() {
    let world = World::with_backup().await;
    world.copy_sites("copy");
    world.recover(world.request("one", &world.specs())).await.unwrap();
    world.recover(world.request("other", &world.specs_in("copy"))).await.unwrap();
    merge(&world.path("copy"), &world.path("sites"));
    // The old host has neither key; the new one has its own, and heals to what it did itself.
    let height = world.open_at("one").await.standing().await.unwrap();
    fs::remove_file(world.path("one/ledger.redb")).unwrap();
    assert_eq!(world.open_at("one").await.standing().await.unwrap(), height);
    fs::remove_file(world.path("vault/ledger.redb")).unwrap();
    let refused = Vault::open(world.folder("vault"), Settings::default()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Forked { .. }), "{refused:?}");
}

/// Certified as the helper says, so that what is refused is refused for the reason meant.
#[test]
fn the_forged_objects_of_these_tests_are_well_formed() {
    let key = LedgerKey::from_seed(&Secret::new([1; 32]));
    let object = certified(7, blockhouse_ledger::Block::default(), &key);
    let place = BlockPlace { chain_id: 7, height: 0, hash: object.hash() };
    assert_eq!(object.certificate, Certificate::solo(&key, &place));
    let _: &BlockObject = &object;
    let _: Arc<LedgerKey> = key_number(3);
}
