//! Recovery of a vault on an outside chain: the sites give the key bag, the chain all else.
//!
//! - **Owns** the way from a bag to the chain's word for the bag in force, and the new writer.
//! - **Does not** hand anything over: no host seals such a ledger. The old writer is revoked, and the contracts refuse it from then on.
//!
//! # Invariants
//! - **O1** A bag counts only if the chain's contract names it. Which contract that is the fingerprint says, or, without one, a bag
//!   that holds the owner's own account.

use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::{ChainTerms, NodeUrl};
use blockhouse_ledger::{Receipt, TrustRoot};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::KeyBag;
use blockhouse_sites::Sites;
use blockhouse_types::VaultId;

use super::bags::{Opened, STEPS, open_all, open_sites};
use super::{RecoverError, RecoverReport, RecoverRequest, take_over};
use crate::folder::{Config, HomeKind, write_durably};
use crate::ledger::address;
use crate::unlock::{Unlocked, open_bag};
use crate::vault::{Settings, Vault, external_of};

/// The chain that the vault is on, as the recovery sheet has it.
#[derive(Debug, Clone)]
pub struct ChainPlace {
    /// Nodes of it.
    pub nodes: Vec<NodeUrl>,
    /// The block below which the contracts are not there yet.
    pub since: u64,
    /// How many blocks must be above a final one; none: what the nodes call final.
    pub depth: Option<u64>,
}

/// Recovers a vault on an outside chain.
pub(super) async fn recover(
    request: RecoverRequest,
    place: ChainPlace,
    unlocked: &Unlocked,
    settings: Settings,
) -> Result<RecoverReport, RecoverError> {
    let given = super::open_given(&request.sites).await?;
    let id = super::vault_of(&given)?;
    let found = find(&request, &place, (&given, id), unlocked).await?;
    let (unfinished, set_aside) = take_over::begin_folder(&request.folder)?;
    let mut vault = Vault::assemble(request.folder.clone(), found.config, found.sites, settings);
    vault.set_home(external_of(vault.folder(), vault.config())?.ok_or(RecoverError::BagNotNamed)?);
    if let Some(bytes) = &request.expect {
        expect(&vault, bytes).await?;
    }
    if !request.read_only {
        be_writer(&mut vault, &found.bag, request.host_stolen).await?;
    }
    take_over::finish(&mut vault, unlocked).await?;
    let fingerprint = vault.standing().await?.fingerprint;
    let snapshots = vault.ledger().snapshots().await?.iter().filter(|record| !record.forgotten).count() as u64;
    unfinished.keep();
    Ok(RecoverReport {
        vault: id,
        before: fingerprint,
        after: fingerprint,
        chains: Vec::new(),
        down: vault.sites().down().map(|(member, _)| member.name().clone()).collect(),
        snapshots,
        left_out: Vec::new(),
        set_aside,
    })
}

struct Found {
    sites: Arc<Sites>,
    config: Config,
    bag: KeyBag,
}

/// The bag in force, by the newest one at the sites that leads to it.
async fn find(
    request: &RecoverRequest,
    place: &ChainPlace,
    (given, id): (&Sites, VaultId),
    unlocked: &Unlocked,
) -> Result<Found, RecoverError> {
    let mut refused = None;
    for Opened { mut hash, mut bag } in open_all(given, id, unlocked).await? {
        if let Some(asked) = request.fingerprint
            && TrustRoot::external(bag.chain_id, bag.genesis, address(bag.vault_contract)).fingerprint() != asked
        {
            refused = Some(RecoverError::OtherFingerprint { asked, chains: Vec::new() });
            continue;
        }
        for _ in 0..STEPS {
            let (sites, mut config) = open_sites(&bag, given).await?;
            config.ledger.home = HomeKind::External;
            config.ledger.urls.clone_from(&place.nodes);
            config.ledger.chain = Some(ChainTerms::usual(place.since, place.depth));
            let mut vault =
                Vault::assemble(request.folder.clone(), config.clone(), Arc::clone(&sites), Settings::default());
            vault.set_home(external_of(&request.folder, &config)?.ok_or(RecoverError::BagNotNamed)?);
            let named = vault.ledger().bag().await?;
            if named.1 == hash {
                return Ok(Found { sites, config, bag });
            }
            let opened = open_bag(&sites, named, unlocked).await;
            bag = opened.map_err(|source| RecoverError::OldBag { version: named.0, source })?;
            hash = named.1;
        }
    }
    Err(refused.unwrap_or(RecoverError::NoBag { tried: STEPS, source: None }))
}

/// The receipt's snapshot must be on the chain, in the block that the receipt names.
async fn expect(vault: &Vault, bytes: &[u8]) -> Result<(), RecoverError> {
    let fingerprint = vault.standing().await?.fingerprint;
    let checked =
        Receipt::parse(bytes)?.check(Some(fingerprint)).map_err(|error| RecoverError::ExpectCheck(Box::new(error)))?;
    let records = vault.ledger().snapshots().await?;
    if records.iter().any(|record| record.id == checked.snapshot && record.block == checked.height) {
        return Ok(());
    }
    Err(RecoverError::NotInChain { height: checked.height, block: checked.block })
}

/// Makes this host the vault's only writer. Its secrets are durable before the chain knows its account.
async fn be_writer(vault: &mut Vault, bag: &KeyBag, host_stolen: bool) -> Result<(), RecoverError> {
    let writer = AccountSecret::random(&mut rand::rng());
    let first = take_over::first_of(&vault.ledger().writers().await?);
    let secrets = HostSecrets {
        vault: vault.id(),
        write: bag.vault_secret.write_secrets(first.unwrap_or_else(|| writer.account())),
        writer: writer.clone(),
        ledger_seed: Secret::random(&mut rand::rng()),
    };
    write_durably(&vault.folder().secrets(), 0o600, &secrets.to_bytes())?;
    let height = vault.standing().await?.height;
    take_over::enrol(vault, bag, &writer, height, host_stolen).await?;
    vault.set_secrets(secrets);
    Ok(())
}
