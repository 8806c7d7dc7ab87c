//! Recovery of a vault on an outside chain: the sites give the key bag, the chain all else.
//!
//! - **Owns** the way from a bag to the chain's word for the bag in force, and the new writer.
//! - **Does not** hand anything over: no host seals such a ledger. The old writer is revoked, and the contracts refuse it from then on.
//!
//! # Invariants
//! - **O1** A bag counts only if the chain's contract names it. Which contract that is the fingerprint says, or, without one, a bag
//!   that holds the owner's own account.
//! - **O2** From the first transaction on nothing is taken back: the new writer may be on the chain, and its account may have been
//!   funded. The same command goes on with the secrets and the outbox that an earlier try left.

use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::{ChainTerms, External, NodeUrl};
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
    /// The most that is offered for one unit of gas, in wei; none: what is usual.
    pub max_fee_wei: Option<u64>,
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
    let mut vault = Vault::assemble(request.folder.clone(), found.config, found.sites, settings);
    let chain = external_of(vault.folder(), vault.config())?.ok_or(RecoverError::BagNotNamed)?;
    vault.set_home(chain.clone());
    if let Some(bytes) = &request.expect {
        expect(&vault, &chain, bytes).await?;
    }
    let left = if request.read_only { None } else { left_by_an_earlier_try(&vault, request.host_stolen).await? };
    let (mut unfinished, set_aside) = take_over::begin_folder(&request.folder, left.is_some())?;
    if !request.read_only {
        // O2.
        unfinished.stay();
        chain.finish_waiting(&found.bag.owner).await?;
        be_writer(&mut vault, &found.bag, left, request.host_stolen).await?;
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
            let usual = ChainTerms::usual(place.since, place.depth);
            let max_fee_wei = place.max_fee_wei.unwrap_or(usual.max_fee_wei);
            config.ledger.chain = Some(ChainTerms { max_fee_wei, ..usual });
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
async fn expect(vault: &Vault, chain: &External, bytes: &[u8]) -> Result<(), RecoverError> {
    let fingerprint = vault.standing().await?.fingerprint;
    let checked =
        Receipt::parse(bytes)?.check(Some(fingerprint)).map_err(|error| RecoverError::ExpectCheck(Box::new(error)))?;
    let absent = || RecoverError::NotInChain { height: checked.height, block: checked.block };
    // The same snapshot in another block of that height is another chain's.
    if chain.final_hash(checked.height).await? != Some(checked.block) {
        return Err(absent());
    }
    let records = vault.ledger().snapshots().await?;
    if records.iter().any(|record| record.id == checked.snapshot && record.block == checked.height) {
        return Ok(());
    }
    Err(absent())
}

/// The secrets that an earlier try left in the folder, if the chain does not know their writer yet, or knows it as one that may write.
/// What a stolen host wrote is not taken up.
async fn left_by_an_earlier_try(vault: &Vault, host_stolen: bool) -> Result<Option<HostSecrets>, RecoverError> {
    let Ok(bytes) = std::fs::read(vault.folder().secrets()).map(zeroize::Zeroizing::new) else { return Ok(None) };
    let Ok(left) = HostSecrets::from_bytes(&bytes) else { return Ok(None) };
    let writers = vault.ledger().writers().await?;
    let known = writers.iter().find(|writer| writer.account == left.writer.account());
    let is_usable = known.is_none_or(|writer| writer.active && (writer.host_stolen || !host_stolen));
    Ok((left.vault == vault.id() && is_usable).then_some(left))
}

/// Makes this host the vault's only writer. Its secrets are durable before the chain knows its account.
async fn be_writer(
    vault: &mut Vault,
    bag: &KeyBag,
    left: Option<HostSecrets>,
    host_stolen: bool,
) -> Result<(), RecoverError> {
    let writers = vault.ledger().writers().await?;
    let first = take_over::first_of(&writers);
    let (writer, ledger_seed) = match left {
        Some(left) => (left.writer, left.ledger_seed),
        None => (AccountSecret::random(&mut rand::rng()), Secret::random(&mut rand::rng())),
    };
    let secrets = HostSecrets {
        vault: vault.id(),
        write: bag.vault_secret.write_secrets(first.unwrap_or_else(|| writer.account())),
        writer: writer.clone(),
        ledger_seed,
    };
    write_durably(&vault.folder().secrets(), 0o600, &secrets.to_bytes())?;
    if writers.iter().any(|known| known.account == writer.account()) {
        // An earlier try got so far.
        let owner = vault.ledger_as(&bag.owner);
        for old in writers.iter().filter(|old| old.active && old.account != writer.account()) {
            owner.revoke_writer(old.account).await?;
        }
    } else {
        let height = vault.standing().await?.height;
        take_over::enrol(vault, bag, &writer, height, host_stolen).await?;
    }
    vault.set_secrets(secrets);
    Ok(())
}
