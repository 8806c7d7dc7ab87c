//! What an anchor file adds to a receipt: that its block was there before others outside saw it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::Context;
use blockhouse_homes::NodeUrl;
use blockhouse_ledger::anchor::{
    AnchorFile, Attested, AttestedBy, BITCOIN_HEADER_LEN, BitcoinHeader, OnChain, OtsAttestation,
};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::receipt::{Checked, Receipt, Vouched};
use blockhouse_types::BlockHash;
use serde_json::{Value, json};

use super::{ask, read};
use crate::failure::Refusal;
use crate::text;

/// Whom the checker believes.
pub(super) struct Means {
    pub(super) rpc: Option<NodeUrl>,
    pub(super) block: Option<BlockHash>,
    pub(super) bitcoin: Option<OsString>,
    pub(super) witnesses: Vec<WitnessKey>,
}

/// The public key of a node, as its operator reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WitnessKey([u8; 32]);

/// Reads a key as it is typed.
pub(super) fn witness_key(text: &str) -> Result<WitnessKey, &'static str> {
    let mut key = [0; 32];
    match hex::decode_to_slice(text, &mut key) {
        Ok(()) => Ok(WitnessKey(key)),
        Err(_) => Err("the public key of a node has 64 hex digits"),
    }
}

/// What was shown.
pub(super) struct Anchored {
    block: BlockPlace,
    by: Shown,
}

enum Shown {
    Chain { on_chain: OnChain, is_final: Option<bool>, trusted: String },
    Bitcoin { height: u64, header: BitcoinHeader },
    Witness { key: String, time: u64 },
}

/// Checks an anchor file for a receipt that is good by itself. At least one of its attestations must come from somebody who is believed,
/// and all that the checker asks for must be there.
pub(super) async fn shown_by(
    path: &Path,
    receipt: &Receipt,
    checked: &Checked,
    means: Means,
) -> anyhow::Result<Vec<Anchored>> {
    if checked.vouched == Vouched::ByChain {
        let hint = "leave out --anchor: the receipt's block is on an outside chain itself";
        return Err(Refusal::usage("a receipt of an outside chain needs no anchor", hint).into());
    }
    let failed = || format!("{} is no anchor of this receipt", path.display());
    let file = AnchorFile::parse(&read(path)?).with_context(failed)?;
    let place = BlockPlace { chain_id: checked.chain_id, height: checked.height, hash: checked.block };
    let attested = file.check(receipt.genesis(), &place).with_context(failed)?;
    let mut shown = witnesses(&attested, &means.witnesses)?;
    if let Some(given) = &means.bitcoin {
        shown.push(bitcoin(&attested, &read_header(given)?)?);
    }
    shown.extend(chains(&attested, means, !shown.is_empty()).await?);
    Ok(shown)
}

fn witnesses(attested: &[Attested], asked: &[WitnessKey]) -> anyhow::Result<Vec<Anchored>> {
    let mut shown: Vec<Anchored> = Vec::new();
    for WitnessKey(key) in asked {
        let found = attested.iter().find_map(|attested| match &attested.by {
            AttestedBy::Witness { key: by, time } if by == key => Some((attested.block, *time)),
            _ => None,
        });
        let key = hex::encode(key);
        let (block, time) = found.ok_or_else(|| Refusal::NotCosigned { key: key.clone() })?;
        shown.push(Anchored { block, by: Shown::Witness { key, time } });
    }
    Ok(shown)
}

/// A header as it was given.
fn read_header(given: &OsStr) -> anyhow::Result<BitcoinHeader> {
    let is_hex = given.len() == 2 * BITCOIN_HEADER_LEN && given.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    let bytes = if is_hex { given.as_encoded_bytes().to_vec() } else { read(Path::new(given))? };
    let text = bytes.trim_ascii();
    let bytes = if text.len() == 2 * BITCOIN_HEADER_LEN { hex::decode(text).unwrap_or_default() } else { bytes };
    Ok(BitcoinHeader::decode(&bytes)?)
}

/// What that block of Bitcoin holds.
fn bitcoin(attested: &[Attested], header: &BitcoinHeader) -> anyhow::Result<Anchored> {
    let found = attested.iter().find_map(|attested| match &attested.by {
        AttestedBy::Ots(claims) => claims.iter().find_map(|claim| match claim.by {
            OtsAttestation::Bitcoin { height } if claim.message == header.merkle_root => {
                Some(Anchored { block: attested.block, by: Shown::Bitcoin { height, header: *header } })
            }
            _ => None,
        }),
        _ => None,
    });
    Ok(found.ok_or_else(|| Refusal::OtherRoot { hash: hex::encode(header.hash) })?)
}

/// What outside chains say, as far as somebody is asked; nobody need be if witnesses are believed.
async fn chains(attested: &[Attested], means: Means, is_witnessed: bool) -> anyhow::Result<Vec<Anchored>> {
    let on_chains = attested.iter().filter_map(|attested| match &attested.by {
        AttestedBy::Chain(on_chain) => Some((attested.block, on_chain.clone())),
        _ => None,
    });
    let on_chains: Vec<(BlockPlace, OnChain)> = on_chains.collect();
    let Some((_, first)) = on_chains.first() else {
        let hint = "give the header of the Bitcoin block with --bitcoin-header, or name a witness that you know with --witness KEY";
        let is_asked = means.rpc.is_some() || means.block.is_some();
        return match (is_witnessed, is_asked) {
            (true, false) => Ok(Vec::new()),
            _ => Err(Refusal::usage("the anchor file has no anchor on an outside chain", hint).into()),
        };
    };
    let (height, hash) = (first.height, first.block);
    if let Some(given) = means.block {
        let found = on_chains.into_iter().find(|(_, on_chain)| on_chain.block == given);
        let (block, on_chain) = found.ok_or(Refusal::OtherBlock { height, hash, found: given })?;
        let trusted = format!("whoever said that block {} of chain {} is {given}", on_chain.height, on_chain.chain_id);
        return Ok(vec![Anchored { block, by: Shown::Chain { on_chain, is_final: None, trusted } }]);
    }
    let Some(url) = means.rpc else {
        let refused = Refusal::AnchorNotVouched { chain: first.chain_id, height, hash };
        return if is_witnessed { Ok(Vec::new()) } else { Err(refused.into()) };
    };
    // One that is on the chain is enough: whoever is enrolled may have recorded others. If none is, the error is of the first that is of the
    // node's chain.
    let mut refused: Option<anyhow::Error> = None;
    for (block, on_chain) in on_chains {
        let OnChain { chain_id, genesis, height, block: hash, .. } = on_chain;
        match ask(url.clone(), (chain_id, genesis), (height, hash)).await {
            Ok(is_final) => {
                let trusted =
                    format!("the node at {url}, which says that block {height} of chain {chain_id} is {hash}");
                return Ok(vec![Anchored { block, by: Shown::Chain { on_chain, is_final, trusted } }]);
            }
            Err(error) => {
                if refused.as_ref().is_none_or(is_of_another) {
                    refused = Some(error);
                }
            }
        }
    }
    refused.map_or_else(|| Ok(Vec::new()), Err)
}

fn is_of_another(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Refusal::OtherChain { .. }))
}

impl Anchored {
    /// What it proves, for people.
    pub(super) fn line(&self) -> String {
        let height = self.block.height;
        match &self.by {
            Shown::Chain { on_chain, is_final, trusted } => {
                let (time, outside, chain) = (text::moment(on_chain.time), on_chain.height, on_chain.chain_id);
                let word = if *is_final == Some(true) { " and final" } else { ". Nobody said whether it is final" };
                format!(
                    "anchored: it was there before {time}, the time of block {outside} of chain {chain}, which holds block {height} of the ledger\ntrusted: {trusted}{word}"
                )
            }
            Shown::Bitcoin { height: bitcoin, header } => {
                let (time, hash) = (text::moment(header.time.into()), hex::encode(header.hash));
                format!(
                    "anchored: it was there before {time}, give or take two hours, the time of a Bitcoin block which holds block {height} of the ledger\ntrusted: whoever said that block {bitcoin} of Bitcoin is {hash}"
                )
            }
            Shown::Witness { key, time } => {
                format!(
                    "cosigned: the witness {key} knew block {height} of the ledger as final at {}, by its clock",
                    text::moment(*time)
                )
            }
        }
    }

    /// The same as a record.
    pub(super) fn record(&self) -> Value {
        let (height, hash) = (self.block.height, self.block.hash);
        match &self.by {
            Shown::Chain { on_chain, is_final, trusted } => json!({
                "kind": "evm", "height": height, "block_hash": hash, "time": on_chain.time, "chain": on_chain.chain_id,
                "outside_block": on_chain.height, "outside_hash": on_chain.block,
                "sender": format!("{:x}", on_chain.sender), "final": is_final, "trusted": trusted,
            }),
            Shown::Bitcoin { height: bitcoin, header } => json!({
                "kind": "ots", "height": height, "block_hash": hash, "time": header.time, "outside_block": bitcoin,
                "outside_hash": hex::encode(header.hash),
            }),
            Shown::Witness { key, time } => json!({
                "kind": "witness", "height": height, "block_hash": hash, "time": time, "witness": key,
            }),
        }
    }
}
