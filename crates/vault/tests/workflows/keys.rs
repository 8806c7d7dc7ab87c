//! Changes of recipients that were killed between any two of their steps: real sites, a real ledger, and what is left of them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::{AgeIdentity, Recipient, RecipientSet, Role};
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_sites::ObjectKey;
use blockhouse_vault::backup::{BackupError, BackupReport, back_up};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::init;
use blockhouse_vault::keys::{self, Added, KeysError};
use blockhouse_vault::progress::Progress;
use blockhouse_vault::reader;
use blockhouse_vault::recipients;
use blockhouse_vault::unlock::{Unlocked, open_bag};
use blockhouse_vault::vault::{Settings, Vault};

use crate::support::requests::{to_back_up, to_init};

/// The last step that was done before the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KilledAfter {
    BagAtSites,
    BagRecorded,
    SetApproved,
}

const KILLS: [KilledAfter; 3] = [KilledAfter::BagAtSites, KilledAfter::BagRecorded, KilledAfter::SetApproved];

struct World {
    base: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("data")).unwrap();
        fs::write(base.path().join("data/file"), "content").unwrap();
        let world = Self { base };
        let sites = (1..=3).map(|n| world.path(&format!("s{n}")));
        init(to_init(world.base.path(), sites), Settings::default()).await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    async fn open(&self) -> Vault {
        Vault::open(VaultFolder::new(self.path("vault")), Settings::default()).await.unwrap()
    }

    fn owner(&self) -> Unlocked {
        Unlocked::identity(self.path("identity"), None, None).unwrap()
    }

    async fn back_up(&self) -> Result<BackupReport, BackupError> {
        let request = to_back_up(self.path("data"));
        back_up(&self.open().await, &request, &Arc::new(Progress::new())).await
    }

    /// Does the steps of a change with another set of recipients, up to the kill.
    async fn change_until(&self, killed: KilledAfter, change: impl FnOnce(&mut Vec<Recipient>)) {
        let (vault, owner) = (self.open().await, self.owner());
        let named = vault.ledger().bag().await.unwrap();
        let mut bag = open_bag(vault.sites(), named, &owner).await.unwrap();
        let mut members = bag.recipients.members().to_vec();
        change(&mut members);
        bag.recipients = RecipientSet::try_new(members).unwrap();
        let sealed = bag.seal(vault.id(), named.0 + 1).unwrap().to_bytes();
        let hash = SealedBag::hash(&sealed);
        let key = ObjectKey::Bag { version: named.0 + 1, hash };
        for outcome in vault.sites().put_everywhere(&key, &sealed.into()).await {
            outcome.result.unwrap();
        }
        let account = vault.ledger_as(&bag.owner);
        if killed >= KilledAfter::BagRecorded {
            account.record_bag(named.0 + 1, hash).await.unwrap();
        }
        if killed >= KilledAfter::SetApproved {
            account.set_default_recipients(bag.recipients.hash()).await.unwrap();
        }
    }

    /// True if ledger, bag and host name the same recipients, and the blocks that say so are at every site.
    async fn is_settled(&self) -> bool {
        let vault = self.open().await;
        let found = keys::in_force(&vault, &self.owner()).await.unwrap();
        let of_host = recipients::of_config(vault.config()).unwrap();
        let height = usize::try_from(vault.standing().await.unwrap().height).unwrap();
        let blocks = |n: u8| fs::read_dir(self.path(&format!("s{n}/blocks/0"))).unwrap().count();
        !found.lagged() && of_host == found.recipients && (1..=3).all(|n| blocks(n) == height + 1)
    }

    /// True if the newest snapshot opens with this key.
    async fn opens(&self, reader: &AgeIdentity) -> bool {
        let vault = self.open().await;
        let newest = vault.ledger().snapshots().await.unwrap().pop().unwrap();
        reader::open(&vault, &Unlocked::Reader(Box::new(reader.clone())), newest).await.is_ok()
    }
}

fn recipient(reader: &AgeIdentity, label: &str) -> Recipient {
    reader.recipient(Role::Reader, label).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_again_finishes_what_a_kill_left_wherever_it_came() {
    for killed in KILLS {
        let (world, reader) = (World::new().await, AgeIdentity::random(&mut rand::rng()));
        world.change_until(killed, |members| members.push(recipient(&reader, "auditor"))).await;
        let between = world.back_up().await;
        let is_refused = matches!(between, Err(BackupError::NotApproved { .. }));
        assert_eq!(is_refused, killed == KilledAfter::SetApproved, "{killed:?}: {between:?}");
        let added = keys::add(&world.open().await, &world.owner(), recipient(&reader, "auditor")).await.unwrap();
        let was_begun = killed >= KilledAfter::BagRecorded;
        assert_eq!(added, if was_begun { Added::Already { label: "auditor".to_owned() } } else { Added::New });
        assert!(world.is_settled().await, "{killed:?}");
        world.back_up().await.unwrap();
        assert!(world.opens(&reader).await, "{killed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_again_finishes_what_a_kill_left_wherever_it_came() {
    for killed in KILLS {
        let (world, reader) = (World::new().await, AgeIdentity::random(&mut rand::rng()));
        keys::add(&world.open().await, &world.owner(), recipient(&reader, "auditor")).await.unwrap();
        world.change_until(killed, |members| members.retain(|member| member.role() != Role::Reader)).await;
        let removed = keys::remove(&world.open().await, &world.owner(), "auditor").await;
        // Once the bag is recorded, the key is gone; that the rest follows is what matters.
        assert_eq!(removed.is_ok(), killed == KilledAfter::BagAtSites, "{killed:?}: {removed:?}");
        assert!(world.is_settled().await, "{killed:?}");
        world.back_up().await.unwrap();
        assert!(!world.opens(&reader).await, "{killed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_the_keys_brings_ledger_and_host_to_the_bag() {
    for killed in KILLS {
        let (world, reader) = (World::new().await, AgeIdentity::random(&mut rand::rng()));
        world.change_until(killed, |members| members.push(recipient(&reader, "auditor"))).await;
        let found = keys::in_force(&world.open().await, &world.owner()).await.unwrap();
        assert_eq!(
            found.recipients.has_reader(),
            killed >= KilledAfter::BagRecorded,
            "the bag on the ledger is the truth"
        );
        assert_eq!(found.ledger_lagged, killed == KilledAfter::BagRecorded);
        assert_eq!(found.host_lagged, killed >= KilledAfter::BagRecorded);
        assert!(!keys::in_force(&world.open().await, &world.owner()).await.unwrap().lagged(), "{killed:?}");
        world.back_up().await.unwrap();
        assert_eq!(world.opens(&reader).await, killed >= KilledAfter::BagRecorded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_edited_is_brought_back() {
    let (world, reader) = (World::new().await, AgeIdentity::random(&mut rand::rng()));
    keys::add(&world.open().await, &world.owner(), recipient(&reader, "auditor")).await.unwrap();
    let config = fs::read_to_string(world.path("vault/config.toml")).unwrap();
    let stranger = AgeIdentity::random(&mut rand::rng());
    let edited = config.replace(recipient(&reader, "").public(), recipient(&stranger, "").public());
    assert_ne!(edited, config);
    fs::write(world.path("vault/config.toml"), edited).unwrap();
    assert!(matches!(world.back_up().await, Err(BackupError::NotApproved { .. })));
    assert!(keys::in_force(&world.open().await, &world.owner()).await.unwrap().host_lagged);
    let mended = fs::read_to_string(world.path("vault/config.toml")).unwrap();
    assert!(mended.contains(recipient(&reader, "").public()) && !mended.contains(recipient(&stranger, "").public()));
    world.back_up().await.unwrap();
    assert!(world.opens(&reader).await && !world.opens(&stranger).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lock_the_owner_out_or_confuse_two_keys_is_refused() {
    let (world, reader) = (World::new().await, AgeIdentity::random(&mut rand::rng()));
    let (vault, owner) = (world.open().await, world.owner());
    let added = recipient(&reader, "auditor");
    keys::add(&vault, &owner, added.clone()).await.unwrap();
    let namesake = recipient(&AgeIdentity::random(&mut rand::rng()), "auditor");
    let refused = keys::add(&vault, &owner, namesake).await.unwrap_err();
    assert!(matches!(refused, KeysError::LabelTaken { id, .. } if id == added.id()), "{refused:?}");
    for role in ["owner", "paper key"] {
        let refused = keys::remove(&vault, &owner, role).await.unwrap_err();
        assert!(matches!(refused, KeysError::OpensBag { .. }), "{refused:?}");
    }
    let nobody = keys::remove(&vault, &owner, "nobody").await.unwrap_err();
    assert!(matches!(nobody, KeysError::NoRecipient { .. }), "{nobody:?}");
    let shown: String = added.id().to_string().chars().take(12).collect();
    assert_eq!(keys::remove(&vault, &owner, &shown).await.unwrap(), added.id(), "as `key list` shows it");
    assert!(world.is_settled().await);
}
