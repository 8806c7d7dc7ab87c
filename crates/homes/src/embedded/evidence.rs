//! What a receipt is made of: transaction receipts, and headers up to a certified one.

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::B256;
use blockhouse_crypto::{FileProof, LedgerKey};
use blockhouse_ledger::certificate::{BlockPlace, Certificate};
use blockhouse_ledger::fingerprint::TrustRoot;
use blockhouse_ledger::receipt::{LINKS_MAX, Link, ReceiptParts};
use blockhouse_types::{BlockHash, SnapshotId};

use super::error::HomeError;
use super::keys::LedgerKeys;
use super::{Embedded, block_object};
use crate::store::{Place, Store};

/// Proof that a transaction is on the ledger, under the ledger key in force.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The ledger, and the key in force: the certificate is by it, or by the one to which the links lead from it.
    pub root: TrustRoot,
    /// The closing blocks at which other validators followed; none but on a governed ledger.
    pub links: Vec<Link>,
    /// The header of the block that holds the transaction.
    pub header: Header,
    /// The headers from the next block to the certified one; empty if the block itself is certified.
    pub descendants: Vec<Header>,
    /// The certificate of the last of these headers.
    pub certificate: Certificate,
    /// The index of the transaction in its block.
    pub transaction_index: u64,
    /// The transaction receipts of its block.
    pub receipts: Vec<ReceiptEnvelope>,
}

impl Evidence {
    /// The evidence for the transaction at that place, with a fresh certificate if `key` is in force and the block is old.
    pub(crate) fn of(
        store: &Store,
        keys: &LedgerKeys,
        place: Place,
        key: Option<&LedgerKey>,
    ) -> Result<Self, HomeError> {
        let header = store.block(place.height)?.block.header;
        let fresh = key.filter(|key| key.public() == keys.in_force()).filter(|_| is_old(keys, place.height));
        let (descendants, certificate) = match fresh {
            Some(key) => (Vec::new(), Certificate::solo(key, &place_of(store, &header))),
            None => certified_descendants(store, keys, place.height)?,
        };
        let (key, links) = links(store, keys, place.height)?;
        Ok(Self {
            root: TrustRoot::new(store.genesis(), key),
            links,
            header,
            descendants,
            certificate,
            transaction_index: place.index as u64,
            receipts: store.receipts(place.height)?,
        })
    }

    /// The parts of the receipt of that snapshot, or of one file in it.
    pub fn receipt_parts(&self, snapshot: SnapshotId, file: Option<FileProof>) -> ReceiptParts<'_> {
        ReceiptParts {
            root: self.root,
            links: &self.links,
            header: &self.header,
            receipts: &self.receipts,
            descendants: &self.descendants,
            certificate: &self.certificate,
            snapshot,
            file,
        }
    }
}

impl Embedded {
    /// Gathers the evidence for a transaction.
    ///
    /// A block from before a handover is certified afresh if the key in force is here; otherwise the headers up to the
    /// last handover are given, whose block that key has certified.
    pub async fn evidence(&self, transaction: B256) -> Result<Evidence, HomeError> {
        let key = self.options().sealer.key().cloned();
        self.read(move |store| {
            let place = store.find_transaction(&transaction)?;
            let place = place.ok_or(HomeError::NoTransaction { hash: transaction })?;
            Evidence::of(store, &LedgerKeys::of(store)?, place, key.as_deref())
        })
        .await?
    }
}

/// The last closing blocks below `height`, and the key that certified the first of them: a receipt with them is checked by whoever knows one of the
/// keys along them. Where the ledger was handed over, they begin with the key that was named then, which certifies all before.
pub(crate) fn links(store: &Store, keys: &LedgerKeys, height: u64) -> Result<([u8; 32], Vec<Link>), HomeError> {
    let (after, first) = keys.handovers().last().map_or((0, keys.first()), |last| (last.height, last.key));
    let below = keys.successions().iter().filter(|succession| succession.height > after);
    let below = below.take_while(|succession| succession.height <= height);
    // Where validators hand one key on, nothing leads from one to another.
    let mut key = first;
    let below = below.filter(|succession| std::mem::replace(&mut key, succession.key) != succession.key);
    let below: Vec<u64> = below.map(|succession| succession.height - 1).collect();
    let Some(closing) = below.get(below.len().saturating_sub(LINKS_MAX)..).filter(|closing| !closing.is_empty()) else {
        return Ok((first, Vec::new()));
    };
    let links = closing.iter().map(|height| link_at(store, keys, *height)).collect::<Result<Vec<_>, _>>()?;
    Ok((closing.first().map_or(first, |height| keys.at(*height)), links))
}

/// The header and the certificate of a block at which the key changes, which must be by the key that was in force there. A store that began by a
/// state has these before it has the block.
pub(crate) fn link_at(store: &Store, keys: &LedgerKeys, height: u64) -> Result<Link, HomeError> {
    let kept = if store.expect_here(height).is_err() { store.link(height)? } else { None };
    let Some(link) = kept else {
        let object = block_object(store, keys, height)?;
        return Ok(Link { header: object.block.header, certificate: object.certificate });
    };
    let certified = link.certificate.verify(&keys.at(height), &place_of(store, &link.header));
    certified.map_err(|error| store.damaged(format!("link {height}: {error}")))?;
    Ok(link)
}

/// True if another key than the one in force certified that block.
fn is_old(keys: &LedgerKeys, height: u64) -> bool {
    keys.handovers().last().is_some_and(|last| height < last.height)
}

/// The headers above `height` up to the first block that is certified by the key in force, and its certificate.
fn certified_descendants(
    store: &Store,
    keys: &LedgerKeys,
    height: u64,
) -> Result<(Vec<Header>, Certificate), HomeError> {
    let certified = keys.handovers().last().map_or(height, |last| last.height.max(height));
    let headers = (height + 1..=certified).map(|height| Ok(store.block(height)?.block.header));
    let headers = headers.collect::<Result<Vec<_>, HomeError>>()?;
    Ok((headers, block_object(store, keys, certified)?.certificate))
}

fn place_of(store: &Store, header: &Header) -> BlockPlace {
    let hash = BlockHash::new(header.hash_slow().0);
    BlockPlace { chain_id: store.genesis().chain_id, height: header.number, hash }
}
