//! Anchor files: of all that stands in `Anchors`, the earliest of each kind that covers a block.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use blockhouse_homes::attest::{headers, place_at};
use blockhouse_ledger::anchor::{
    ATTESTATIONS_MAX, AnchorFile, Attestation, AttestationKind, Attested, AttestedBy, OtsAttestation,
};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::Anchors::AnchorsEvents;
use blockhouse_types::BlockHash;

use super::AnchorError;
use crate::vault::Vault;

/// The most headers between a block and one that was attested: some 600 bytes each, twice that in hexadecimal.
pub const HEADERS_MAX: u64 = 8_192;

/// The most attestations that one account recorded: who records what is none leaves room for the others.
const BY_ONE_MAX: usize = 8;

/// Who attested a block: of each the earliest attestation that one account recorded counts. Nothing here tells whether an outside block is on
/// its chain, so what one account records hides nothing of another's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Chain(u64, BlockHash),
    Bitcoin,
    Witness([u8; 32]),
}

/// What proves of a block of the ledger that others outside saw it, or one that follows it.
pub async fn anchor_file(vault: &Vault, height: u64) -> Result<AnchorFile, AnchorError> {
    let own = vault.home().own_copy()?;
    let records = vault.ledger().anchor_records().await?;
    let none = || AnchorError::NotAnchored { height };
    let mut said: Vec<Said> = records.into_iter().filter_map(|record| attestation_of(record.event)).collect();
    said.retain(|said| (height..=height.saturating_add(HEADERS_MAX)).contains(&said.attestation.height));
    said.sort_by_key(|said| said.attestation.height);
    let file = own
        .read(move |store| {
            let Some(first) = place_at(store, height)? else { return Ok(None) };
            let genesis = store.genesis().hash();
            let mut chosen: BTreeMap<(Address, Whose), Attestation> = BTreeMap::new();
            for Said { by, attestation, hash } in said {
                let Some(place) = place_at(store, attestation.height)?.filter(|place| place.hash == hash) else {
                    continue;
                };
                let Some(whose) = whose(genesis, &place, &attestation) else { continue };
                let of_one = chosen.keys().filter(|(other, _)| *other == by).count();
                if chosen.len() < ATTESTATIONS_MAX && of_one < BY_ONE_MAX {
                    chosen.entry((by, whose)).or_insert(attestation);
                }
            }
            let mut chosen: Vec<Attestation> = chosen.into_values().collect();
            chosen.sort_by_key(|attestation| attestation.height);
            let Some(last) = chosen.last() else { return Ok(None) };
            let headers = headers(store, height, last.height)?;
            Ok::<_, AnchorError>(Some(AnchorFile::new(genesis, &first, &headers, chosen)))
        })
        .await??;
    file.ok_or_else(none)
}

/// What a record of `Anchors` says.
struct Said {
    /// Who recorded it.
    by: Address,
    attestation: Attestation,
    /// The block's hash.
    hash: BlockHash,
}

fn attestation_of(event: AnchorsEvents) -> Option<Said> {
    let (by, height, kind, hash, data) = match event {
        AnchorsEvents::Anchored(event) => {
            let kind =
                [AttestationKind::Evm, AttestationKind::Ots].into_iter().find(|kind| kind.word() == event.kind)?;
            (event.by, event.height, kind, event.blockHash, event.data)
        }
        AnchorsEvents::Cosigned(event) => {
            (event.by, event.height, AttestationKind::Witness, event.blockHash, event.signature)
        }
    };
    let hash: B256 = hash;
    Some(Said { by, attestation: Attestation { height, kind, data }, hash: BlockHash::new(hash.0) })
}

/// Whose attestation it is, if it proves anything: H2.
fn whose(genesis: BlockHash, place: &BlockPlace, attestation: &Attestation) -> Option<Whose> {
    let alone = AnchorFile::new(genesis, place, &[], vec![attestation.clone()]);
    let Attested { by, .. } = alone.check(genesis, place).ok()?.pop()?;
    match by {
        AttestedBy::Chain(on_chain) => Some(Whose::Chain(on_chain.chain_id, on_chain.genesis)),
        // A calendar's promise is worth nothing to a stranger.
        AttestedBy::Ots(claims) => {
            let is_kept = claims.iter().any(|claim| matches!(claim.by, OtsAttestation::Bitcoin { .. }));
            is_kept.then_some(Whose::Bitcoin)
        }
        AttestedBy::Witness { key, .. } => Some(Whose::Witness(key)),
        _ => None,
    }
}
