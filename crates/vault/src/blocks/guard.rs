//! Asked before each sealing: do the sites know a handover that this host does not?
//!
//! A handover is durable at S−W sites before the new host seals; W+1 sites are read here. The two sets meet, so an old host that
//! comes back finds it and stops.

use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_sol_types::SolCall;
use blockhouse_homes::{BeforeSeal, Standing};
use blockhouse_ledger::BlockObject;
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::Access::handoverCall;
use blockhouse_sites::{ObjectKey, Prefix, Site, SiteName, Sites};
use futures::future::join_all;

use crate::ledger::{Ledger, account};

/// Why nothing may be sealed now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Too few sites answered to be sure.
    #[error(
        "only {read} sites could be asked whether another host has taken the ledger over, {needed} are needed to be sure"
    )]
    TooFewSites { read: usize, needed: usize },
    /// A site holds a certified block that this host could not take.
    #[error(
        "site {site} holds block {height}, certified by the key of this ledger, which this host does not have: its ledger was set back, or it is forked"
    )]
    Ahead { site: SiteName, height: u64 },
    /// Another host has the ledger now.
    #[error(
        "site {site} holds handover {number}, which this host does not know: another host has taken the ledger over"
    )]
    HandedOver { site: SiteName, number: u64 },
}

/// How many blocks above the head are looked at for one that this host should have.
const AHEAD: u64 = 1;

/// The guard over `sites`, of which at least `needed` must answer; `ledger` only reads.
pub fn guard(sites: Arc<Sites>, needed: usize, ledger: Ledger) -> BeforeSeal {
    Arc::new(move |standing| {
        let (sites, ledger) = (Arc::clone(&sites), ledger.clone());
        Box::pin(async move { check(&sites, needed, &ledger, &standing).await.map_err(Into::into) })
    })
}

async fn check(sites: &Sites, needed: usize, ledger: &Ledger, standing: &Standing) -> Result<(), GuardError> {
    let known = standing.keys.handovers().len() as u64;
    let asked = sites.up().map(async |(_, site)| (site, unknown_handover(site, ledger, known).await));
    for (_, site) in sites.up() {
        let next = standing.height + AHEAD;
        // Another process of this host may have sealed it meanwhile: then it is in the host's own ledger by now.
        if is_certified_at(site, next, standing).await && ledger.height().await.is_ok_and(|height| height < next) {
            return Err(GuardError::Ahead { site: site.name().clone(), height: next });
        }
    }
    let mut read = 0;
    for (site, answer) in join_all(asked).await {
        match answer {
            Some(Some(number)) => return Err(GuardError::HandedOver { site: site.name().clone(), number }),
            Some(None) => read += 1,
            None => {}
        }
    }
    if read < needed { Err(GuardError::TooFewSites { read, needed }) } else { Ok(()) }
}

/// True if the site holds a block of that height certified by the key in force.
async fn is_certified_at(site: &Site, height: u64, standing: &Standing) -> bool {
    for listed in site.list_all(Prefix::BlocksNear(height)).await.unwrap_or_default() {
        let ObjectKey::Block { height: found, hash } = listed.key else { continue };
        if found != height {
            continue;
        }
        let Ok(bytes) = site.get(&listed.key).await else { continue };
        let Ok(object) = BlockObject::decode(&bytes) else { continue };
        let place = BlockPlace { chain_id: object.chain_id, height, hash };
        if object.hash() == hash && object.certificate.verify(&standing.keys.in_force(), &place).is_ok() {
            return true;
        }
    }
    false
}

/// The number of a genuine handover beyond those that are known; the outer `None` if the site did not answer.
async fn unknown_handover(site: &Site, ledger: &Ledger, known: u64) -> Option<Option<u64>> {
    for listed in site.list_all(Prefix::Handovers).await.ok()? {
        let ObjectKey::Handover { number, hash } = listed.key else { continue };
        if number <= known {
            continue;
        }
        let bytes = site.get(&listed.key).await.ok()?;
        let object = BlockObject::decode(&bytes).ok().filter(|object| object.hash() == hash);
        if let Some(object) = object
            && is_genuine(&object, ledger).await?
        {
            return Some(Some(number));
        }
    }
    Some(None)
}

/// A handover is sent by a recovery account and certified by the key that it names; anything else is a stranger's file.
async fn is_genuine(object: &BlockObject, ledger: &Ledger) -> Option<bool> {
    let [transaction] = object.block.body.transactions.as_slice() else { return Some(false) };
    let Ok(call) = handoverCall::abi_decode(transaction.input()) else { return Some(false) };
    let Ok(sender) = transaction.recover_signer() else { return Some(false) };
    let header = &object.block.header;
    let place = BlockPlace { chain_id: object.chain_id, height: header.number, hash: object.hash() };
    if object.certificate.verify(&call.nextKey.0, &place).is_err() {
        return Some(false);
    }
    ledger.is_recovery(account(sender)).await.ok()
}
