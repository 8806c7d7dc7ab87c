use std::path::Path;

use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::{Block, Certificate, Request};
use blockhouse_sites::SiteSpec;

use super::super::Chain;
use super::*;
use crate::folder::VaultFolder;
use crate::init::{InitRequest, init};
use crate::vault::{Settings, Vault};

/// A vault over one site, without a snapshot.
async fn vault(base: &Path) -> Vault {
    let folder = VaultFolder::new(base.join("vault"));
    let request = InitRequest {
        folder: folder.clone(),
        identity_out: base.join("identity"),
        paper_out: Some(base.join("paper")),
        passphrase: None,
        sites: vec![SiteSpec::parse(base.join("site").to_str().unwrap(), Path::new("/")).unwrap()],
        code: None,
        floor_seconds: 0,
        ledger: None,
    };
    init(request, Settings::default()).await.unwrap();
    Vault::open(folder, Settings::default()).await.unwrap()
}

/// G4. What was seen: a block file that could not be read was taken for none, and its site still counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_a_block_that_cannot_be_read_counts_as_unread() {
    let base = tempfile::tempdir().unwrap();
    let vault = vault(base.path()).await;
    let guard = vault.guard(Purpose::Block);
    let own = guard.own(0).await.unwrap();
    let (_, site) = vault.sites().up().next().unwrap();
    let mut answer = ask(site, own.height).await.unwrap();
    assert!(guard.check_blocks(&answer, &own).await.unwrap());
    // It is listed, and cannot be read.
    let at = |height, hash| Listed { key: ObjectKey::Block { height, hash: BlockHash::new([hash; 32]) }, length: 9 };
    answer.blocks.push(at(own.height + 1, 1));
    assert!(!guard.check_blocks(&answer, &own).await.unwrap());
}

/// A handover that anybody can make: sent by an account of his own, certified by the key that it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_handover_is_dropped_before_the_state_is_copied() {
    let base = tempfile::tempdir().unwrap();
    let vault = vault(base.path()).await;
    let replay = vault.home().own_copy().unwrap().replay().await.unwrap();
    let key = LedgerKey::from_seed(&Secret::new([7; 32]));
    let made_by = |account: &AccountSecret, key: &LedgerKey| {
        let parent = replay.head();
        let call = Handover { next_key: key.public(), parent: parent.hash_slow(), approvals: Vec::new() };
        let request = Request {
            chain_id: replay.genesis().chain_id,
            nonce: 0,
            to: alloy_primitives::TxKind::Call(replay.genesis().access_address()),
            input: call.input(),
            gas: 1_000_000,
        };
        let mut block = Block::default();
        block.header.number = parent.number + 1;
        block.header.parent_hash = parent.hash_slow();
        block.body.transactions = vec![request.sign(account)];
        let place = BlockPlace {
            chain_id: replay.genesis().chain_id,
            height: block.header.number,
            hash: blockhouse_ledger::block_hash(&block.header),
        };
        let certificate = Certificate::solo(key, &place);
        BlockObject { chain_id: place.chain_id, block, certificate, genesis: None }
    };
    let chain = Chain::above(replay.clone());
    let stranger = AccountSecret::random(&mut rand::rng());
    assert!(!chain.fits(&made_by(&stranger, &key)));
    let owner = crate::unlock::Unlocked::identity(base.path().join("identity"), None, None).unwrap();
    let owner = owner.recovery_account().unwrap();
    assert!(chain.fits(&made_by(&owner, &key)), "a recovery account's goes on to be executed");
    let own = LedgerKey::from_seed(&vault.secrets().unwrap().ledger_seed);
    assert!(chain.fits(&made_by(&stranger, &own)), "as does whatever the key in force certified");
}
