//! A vault whose contracts stand on an outside chain.
//!
//! - **Owns** the order of the steps, and what of it an earlier try has done.
//! - **Does not** pay: the accounts that do are named, and somebody funds them.
//!
//! # Invariants
//! - **E1** The chain is asked before a file is written. The owner's files, the host's secrets and the note of what was begun are
//!   durable before the first transaction; from there on nothing is taken back, for money may be on these accounts.
//! - **E2** Each step looks first whether it is done. So the same command with the same files goes on wherever it was killed.
//! - **E3** A vault in which a snapshot was recorded is never founded again: its key bag would be replaced.
//!
//! Page: `docs/design/ledger.md`, section *Outside chains*.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes as InitCode, U256, keccak256};
use alloy_sol_types::{SolCall, SolConstructor};
use blockhouse_crypto::hash::hash;
use blockhouse_homes::external::Founding;
use blockhouse_homes::{ChainTerms, External, ExternalOptions};
use blockhouse_ledger::contracts::{Access, OwnerAfterFloor, Vault as VaultContract};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_pipeline::placement::survey;
use blockhouse_sites::{ObjectKey, SiteSpec};
use blockhouse_types::{Account, BlockHash, Code, VaultId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::claim::Files;
use super::{
    InitError, InitReport, Keys, MadeSites, OnChain, OwnersFile, distinct, finish, genesis, make_sites, undeclared,
};
use crate::folder::{Config, HomeKind, LedgerEntry, Unfinished, VaultFolder, write_durably};
use crate::ledger::{account, address};
use crate::publish::Publication;
use crate::vault::{Settings, Vault, external_of};

/// Gas for the contracts, the writer and the key bag, and what is left of it once the contracts stand: what a beginning costs on
/// Ethereum, and a third more.
const FOUNDING_GAS: u64 = 9_000_000;
const CLOSING_GAS: u64 = 800_000;
/// Gas for a writer's first backups.
const WRITER_GAS: u64 = 1_500_000;
const SALT: &str = "blockhouse v1 external salt";

/// What was begun, for the next try. It is in the vault folder until there is a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    vault: VaultId,
    chain_id: u64,
    genesis: BlockHash,
    /// The chain's newest block before anything was sent.
    since: u64,
}

/// True if these bytes are the note of what was begun.
pub fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| toml::from_str::<Begun>(text).is_ok())
}

/// An account that cannot pay for what it has to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poor {
    /// Whose it is: `owner` or `writer`.
    pub role: &'static str,
    /// The account.
    pub account: Account,
    /// What it has, in wei.
    pub has: U256,
    /// What it should have.
    pub needs: U256,
}

impl std::fmt::Display for Poor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { role, account, has, needs } = self;
        write!(f, "the {role} 0x{account} has {has} wei and needs {needs}")
    }
}

/// Makes a vault on an outside chain.
pub(super) async fn found(
    (folder, settings): (VaultFolder, Settings),
    files: Files,
    (sites, code, floor_seconds): (Vec<SiteSpec>, Option<Code>, u64),
    place: OnChain,
) -> Result<InitReport, InitError> {
    if folder.exists() {
        return Err(InitError::Exists { folder: folder.root().to_owned() });
    }
    let code = code.unwrap_or_else(|| Code::default_for(sites.len()));
    let specs = distinct(sites)?;
    survey(code, &undeclared(&specs))?;
    let chain = Founding::ask(place.nodes.clone(), place.depth).await?;
    if chain.is_network {
        return Err(InitError::IsNetwork);
    }
    let failed = |source| InitError::Folder { folder: folder.root().to_owned(), source };
    let busy = || InitError::Busy { folder: folder.root().to_owned() };
    let mut unfinished = Unfinished::begin(&folder).map_err(failed)?.ok_or_else(busy)?;
    let begun = begin(&folder, &chain)?;
    let (mut keys, written) = files.keys(begun.vault)?;
    keep_writer(&folder, &mut keys)?;
    write_durably(&folder.secrets(), 0o600, &keys.host.to_bytes())?;
    // E1.
    unfinished.stay();
    written.into_iter().for_each(OwnersFile::keep);
    let founder = Founder { folder: &folder, keys: &keys, begun: &begun, place: &place, floor_seconds };
    // S2: what an earlier try sent is done before anything is looked at.
    founder.chain()?.finish_waiting(keys.identity.owner()).await?;
    let (external, contracts) = founder.contracts().await?;
    let mut marked = Vec::new();
    let made = make_sites(keys.vault, specs, (&mut marked, true)).await.map_err(|error| {
        if marked.is_empty() { error } else { InitError::Marked { places: marked, source: Box::new(error) } }
    })?;
    let MadeSites { sites, entries, probes } = made;
    external.create(keys.identity.owner(), (contracts.factory, contracts.salt), &contracts.codes).await?;
    let config = founder.config(&contracts, (code, entries));
    let mut vault = Vault::assemble(folder.clone(), config, Arc::new(sites), settings);
    let home = external_of(&folder, vault.config())?.ok_or(InitError::IsNetwork)?;
    vault.set_home(home);
    enrol(&vault, &keys).await?;
    let report = finish(&vault, code, (keys.paper, probes)).await?;
    // There is a vault: what is left of this file would only be in the way of nobody.
    let _ = std::fs::remove_file(folder.founding());
    Ok(report)
}

/// What an earlier try has begun, else a new beginning, durable.
fn begin(folder: &VaultFolder, chain: &Founding) -> Result<Begun, InitError> {
    let path = folder.founding();
    let new = Begun {
        vault: VaultId::new(rand::random()),
        chain_id: chain.chain_id,
        genesis: chain.genesis,
        since: chain.height,
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = toml::to_string(&new).expect("a few plain values are TOML");
            write_durably(&path, 0o600, text.as_bytes())?;
            return Ok(new);
        }
        Err(source) => return Err(InitError::Folder { folder: folder.root().to_owned(), source }),
    };
    let left: Begun = toml::from_str(&text).map_err(|_| InitError::NotTakenUp { path: path.clone(), source: None })?;
    if (left.chain_id, left.genesis) != (new.chain_id, new.genesis) {
        return Err(InitError::OtherLedger { expected: left.genesis, found: new.genesis });
    }
    Ok(left)
}

/// The writer's account of an earlier try stays: it may have been funded.
fn keep_writer(folder: &VaultFolder, keys: &mut Keys) -> Result<(), InitError> {
    let path = folder.secrets();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(InitError::Folder { folder: folder.root().to_owned(), source }),
    };
    let refused = || InitError::NotTakenUp { path: path.clone(), source: None };
    let left = HostSecrets::from_bytes(&bytes).map_err(|_| refused())?;
    if left.vault != keys.vault {
        return Err(refused());
    }
    keys.host.write = keys.vault_secret.write_secrets(left.writer.account());
    (keys.host.writer, keys.host.ledger_seed) = (left.writer, left.ledger_seed);
    Ok(())
}

/// Whoever makes the contracts.
struct Founder<'a> {
    folder: &'a VaultFolder,
    keys: &'a Keys,
    begun: &'a Begun,
    place: &'a OnChain,
    floor_seconds: u64,
}

/// Where the contracts will stand, and what makes them.
struct Contracts {
    factory: Address,
    salt: B256,
    access: Address,
    vault: Address,
    codes: [InitCode; 3],
}

impl Founder<'_> {
    fn terms(&self) -> ChainTerms {
        let usual = ChainTerms::usual(self.begun.since, self.place.depth);
        ChainTerms { max_fee_wei: self.place.max_fee_wei.unwrap_or(usual.max_fee_wei), ..usual }
    }

    /// The chain as it is known before the vault's address is.
    fn chain(&self) -> Result<External, InitError> {
        let options = ExternalOptions {
            nodes: self.place.nodes.clone(),
            chain_id: self.begun.chain_id,
            genesis: self.begun.genesis,
            vault: Address::ZERO,
            terms: self.terms(),
            outbox: self.folder.outbox(),
        };
        Ok(External::new(options)?)
    }

    /// The addresses follow from the vault's id and its keys, and from the factory; the accounts must be able to pay for them.
    async fn contracts(&self) -> Result<(External, Contracts), InitError> {
        let (chain, owner) = (self.chain()?, self.keys.identity.owner());
        let Some(factory) = chain.find_factory(owner).await? else {
            self.refuse_if_poor(&chain, FOUNDING_GAS).await?;
            let contracts = self.contracts_by(chain.factory(owner).await?);
            return Ok((chain, contracts));
        };
        let contracts = self.contracts_by(factory);
        let stands = !chain.code(contracts.vault).await?.is_empty();
        self.refuse_if_poor(&chain, if stands { CLOSING_GAS } else { FOUNDING_GAS }).await?;
        Ok((chain, contracts))
    }

    fn contracts_by(&self, factory: Address) -> Contracts {
        let salt = B256::new(hash(SALT, self.begun.vault.as_bytes()));
        let at = |code: &InitCode| factory.create2(salt, keccak256(code));
        let code = |bytecode: &InitCode, arguments: Vec<u8>| InitCode::from([&bytecode[..], &arguments].concat());
        let paper = self.keys.paper.recovery_account().account();
        let access = Access::constructorCall {
            initialOwner: address(self.keys.identity.owner().account()),
            recovery: vec![address(paper)],
        };
        let access = code(&Access::BYTECODE, access.abi_encode());
        let policy =
            OwnerAfterFloor::constructorCall { access_: at(&access), floorSeconds_: self.floor_seconds }.abi_encode();
        let policy = code(&OwnerAfterFloor::BYTECODE, policy);
        let vault = VaultContract::constructorCall {
            access_: at(&access),
            vaultId_: B256::new(self.begun.vault.to_bytes()),
            defaultRecipients_: B256::new(self.keys.recipients.hash().to_bytes()),
            defaultPolicy_: at(&policy),
        };
        let vault = code(&VaultContract::BYTECODE, vault.abi_encode());
        Contracts { factory, salt, access: at(&access), vault: at(&vault), codes: [access, policy, vault] }
    }

    async fn refuse_if_poor(&self, chain: &External, gas: u64) -> Result<(), InitError> {
        let (owner, writer) = (self.keys.identity.owner().account(), self.keys.host.writer.account());
        let mut poor = Vec::new();
        for (role, account, gas) in [("owner", owner, gas), ("writer", writer, WRITER_GAS)] {
            let (needs, has) = (chain.price_of(gas).await?, chain.balance(address(account)).await?);
            if has < needs {
                poor.push(Poor { role, account, has, needs });
            }
        }
        if poor.is_empty() { Ok(()) } else { Err(InitError::Funds { poor }) }
    }

    fn config(&self, contracts: &Contracts, (code, sites): (Code, Vec<crate::folder::SiteEntry>)) -> Config {
        Config {
            version: 1,
            vault: self.keys.vault,
            code,
            ledger: LedgerEntry {
                home: HomeKind::External,
                urls: self.place.nodes.clone(),
                chain_id: self.begun.chain_id,
                genesis: self.begun.genesis,
                vault: account(contracts.vault),
                access: account(contracts.access),
                chain: Some(self.terms()),
                growth: None,
            },
            recipients: crate::recipients::to_entries(&self.keys.recipients),
            sites,
            finished_markings: None,
            sources: BTreeMap::new(),
            hosts: BTreeMap::new(),
            hooks: crate::folder::UserTable::default(),
            source_hooks: crate::folder::UserTable::default(),
            profiles: crate::folder::UserTable::default(),
        }
    }
}

/// The writer and the first key bag, which is at the sites before the ledger names it.
async fn enrol(vault: &Vault, keys: &Keys) -> Result<(), InitError> {
    let owner = vault.ledger_as(keys.identity.owner());
    match owner.snapshot_count().await? {
        0 => {}
        snapshots => return Err(InitError::InUse { snapshots }),
    }
    let version = owner.bag().await?.0 + 1;
    let bag = genesis::bag_of(keys, vault.config()).seal(keys.vault, version)?.to_bytes();
    let hash = SealedBag::hash(&bag);
    let mut published = Publication::begin(vault.sites());
    published.put(vault.sites(), &ObjectKey::Bag { version, hash }, Bytes::from(bag)).await;
    published.require("the key bag", vault.config().sites.len())?;
    let (writer, mut calls) = (keys.host.writer.account(), Vec::new());
    let (at_access, at_vault) = (vault.config().ledger.access, vault.config().ledger.vault);
    let writers = owner.writers().await?;
    for old in writers.iter().filter(|old| old.active && old.account != writer) {
        calls.push((at_access, Access::revokeWriterCall { who: address(old.account) }.abi_encode().into()));
    }
    if !writers.iter().any(|known| known.account == writer) {
        let who = address(writer);
        let call =
            Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
        calls.push((at_access, call.abi_encode().into()));
    }
    let call = VaultContract::recordBagCall { version, hash: B256::new(hash.to_bytes()) };
    calls.push((at_vault, call.abi_encode().into()));
    Ok(owner.send_all(keys.identity.owner(), calls).await?)
}
