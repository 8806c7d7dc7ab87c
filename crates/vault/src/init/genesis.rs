//! The beginning of a vault's ledger: block 0, the contracts, the first writer and the first key bag.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Bytes as CallBytes, TxKind};
use blockhouse_crypto::{AccountSecret, LedgerKey};
use blockhouse_homes::{Embedded, HomeError, NodeUrl};
use blockhouse_ledger::{Fork, Genesis, Request};
use blockhouse_pipeline::key_bag::{KeyBag, SealedBag};
use blockhouse_types::Code;

use super::{InitError, Keys};
use crate::bag;
use crate::blocks::Purpose;
use crate::folder::{Config, HomeKind, LedgerEntry, SiteEntry};
use crate::ledger::{Ledger, LedgerError, WriterRecord, account};
use crate::recipients;
use crate::vault::Vault;

/// Chain ids are random and fit the numbers of JavaScript, which many tools are written in.
const CHAIN_IDS: std::ops::Range<u64> = 1 << 32..1 << 53;
/// Enough for every call of the contracts many times over; bounds what one block can cost.
const GAS_LIMIT: u64 = 60_000_000;
/// Enough for the largest contract.
const DEPLOYMENT_GAS: u64 = 10_000_000;

/// What the ledger begins with.
pub(super) fn genesis(keys: &Keys, key: &LedgerKey, time: u64) -> Genesis {
    let random: u64 = rand::random();
    Genesis {
        vault_id: keys.vault,
        chain_id: CHAIN_IDS.start + random % (CHAIN_IDS.end - CHAIN_IDS.start),
        owner: keys.identity.owner().account(),
        recovery: vec![keys.paper.recovery_account().account()],
        ledger_key: key.public(),
        time,
        gas_limit: GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: keys.recipients.hash(),
        governance: None,
    }
}

/// The host's configuration of the new vault.
pub(super) fn config(
    keys: &Keys,
    genesis: &Genesis,
    (home, urls): (HomeKind, Vec<NodeUrl>),
    (code, sites): (Code, Vec<SiteEntry>),
) -> Config {
    Config {
        version: 1,
        vault: keys.vault,
        code,
        ledger: LedgerEntry {
            home,
            urls,
            chain_id: genesis.chain_id,
            genesis: genesis.hash(),
            vault: account(genesis.vault_address()),
            access: account(genesis.access_address()),
            chain: None,
            growth: None,
        },
        recipients: recipients::to_entries(&keys.recipients),
        sites,
        finished_markings: None,
        sources: BTreeMap::new(),
        hosts: BTreeMap::new(),
        hooks: crate::folder::UserTable::default(),
        source_hooks: crate::folder::UserTable::default(),
        profiles: crate::folder::UserTable::default(),
    }
}

/// The first key bag.
pub(super) fn first_bag(keys: &Keys, config: &Config) -> Result<SealedBag, InitError> {
    Ok(bag_of(keys, config).seal(keys.vault, 1)?)
}

/// What a key bag holds at the beginning.
pub(super) fn bag_of(keys: &Keys, config: &Config) -> KeyBag {
    KeyBag {
        vault_secret: keys.vault_secret.clone(),
        owner: keys.identity.owner().clone(),
        recipients: keys.recipients.clone(),
        sites: config.sites.iter().map(bag::site_of).collect(),
        code: config.code,
        chain_id: config.ledger.chain_id,
        genesis: config.ledger.genesis,
        vault_contract: config.ledger.vault,
        access_contract: config.ledger.access,
    }
}

impl Vault {
    /// Makes the ledger's store and seals with `key` from now on.
    pub(super) async fn begin_ledger(&mut self, genesis: &Genesis, key: Arc<LedgerKey>) -> Result<(), HomeError> {
        let (path, genesis, maker) = (self.folder().ledger(), genesis.clone(), Arc::clone(&key));
        let made = tokio::task::spawn_blocking(move || Embedded::create(&path, &genesis, &maker)).await;
        made.map_err(HomeError::Stopped)??;
        self.set_home(self.embedded(Some(key), Purpose::Block));
        Ok(())
    }
}

/// Block 1: the three contracts, or those of them from the nonce `first` on, by the owner that genesis names.
pub(super) async fn deploy(
    vault: &Vault,
    genesis: &Genesis,
    owner: &AccountSecret,
    (floor_seconds, first): (u64, u64),
) -> Result<(), InitError> {
    let sign = |(nonce, input): (u64, CallBytes)| {
        let request = Request { chain_id: genesis.chain_id, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS };
        CallBytes::from(request.sign(owner).encoded_2718())
    };
    let missing = (0..).zip(genesis.deployments(floor_seconds)).filter(|(nonce, _)| *nonce >= first);
    let transactions = missing.map(sign).collect();
    let sealed = vault.home().own_copy()?.seal(transactions).await?;
    match sealed.receipts.iter().position(|receipt| !receipt.status()) {
        Some(failed) => {
            let transaction = sealed.transactions.get(failed).copied().unwrap_or_default();
            Err(LedgerError::Failed { call: "a deployment", transaction }.into())
        }
        None => Ok(()),
    }
}

/// The first writer and the first key bag.
pub(super) async fn enrol(owner: &Ledger, keys: &Keys, bag: &SealedBag) -> Result<(), InitError> {
    owner.enrol_writer(WriterRecord::first(keys.host.writer.account())).await?;
    Ok(owner.record_bag(bag.version(), SealedBag::hash(&bag.to_bytes())).await?)
}
