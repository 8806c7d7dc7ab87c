//! A network that takes a ledger over from who kept it before: with its whole past, under fresh keys.
//!
//! - **Owns** what such a network's file says, and the handover that begins it: its first block, above the last one of those before.
//! - **Does not** stop whoever kept the ledger: that is done before the handover is signed (`vault`, `node`).
//!
//! # Invariants
//! - **S1** A file of such a network names the handover to its own key above its own base: nothing else is left open in it.
//! - **S2** Equal keepers above an equal block make an equal file: whoever was killed half-way does the same again.
//! - **S3** The ledger key that the handover names commits to the charter: who may change the validators, and how many of them it takes.
//!
//! Format: `docs/design/node.md`, section *Taking a ledger over*.

#[cfg(test)]
pub(super) mod tests;

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{B256, Bytes, TxKind};
use blockhouse_consensus::{Base, Kind, Network};
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::handover::Handover;
use blockhouse_ledger::{Genesis, Governance, Request};
use blockhouse_types::BlockHash;

use super::ceremony::{CeremonyError, by_operators, check_apart};
use super::enrolment::Enrolment;
use super::network_file::NetworkFile;

/// The longest handover: a call of two words with the signatures of as many as it can take, and its own.
pub(super) const HANDOVER_MAX: usize = 4096;
/// The first validator set of a network, as of one that begins its ledger.
const EPOCH: u64 = 0;
/// Several times what the call takes.
const HANDOVER_GAS: u64 = 1_000_000;
/// Where a network begins whose base is not known yet: its key does not depend on it.
const NOWHERE: Base = Base { height: 0, hash: BlockHash::new([0; 32]) };

/// Who is to keep a ledger that others began.
#[derive(Debug, Clone)]
pub struct Succession {
    genesis: Genesis,
    enrolments: Vec<Enrolment>,
    epoch_length: Option<u64>,
    key: [u8; 32],
}

impl Succession {
    /// By the nodes of these enrolments, which sign one by one. Told of the blocks in an epoch, their operators may change them, if they can be
    /// governed so: as many of them as must agree on a block.
    pub fn try_new(
        genesis: Genesis,
        mut enrolments: Vec<Enrolment>,
        epoch_length: Option<u64>,
    ) -> Result<Self, CeremonyError> {
        check_apart(&enrolments)?;
        enrolments.sort_by(|a, b| a.key().cmp(b.key()));
        let epoch_length = epoch_length.filter(|length| charter(&genesis, *length, &enrolments).is_some());
        let key = network(&genesis, &enrolments, epoch_length, NOWHERE)?.key();
        Ok(Self { genesis, enrolments, epoch_length, key })
    }

    /// The ledger key that is theirs.
    pub const fn key(&self) -> [u8; 32] {
        self.key
    }

    /// What hands the ledger over to them above `base`, with the word of others.
    pub fn handover(&self, base: &Base, approvals: Vec<Bytes>) -> Handover {
        Handover { next_key: self.key, parent: B256::new(base.hash.to_bytes()), approvals }
    }

    /// The handover to them above `base`, by a recovery account that made so many transactions before, and with the word of others where it
    /// takes several.
    pub fn sign(&self, base: &Base, (account, nonce): (&AccountSecret, u64), approvals: Vec<Bytes>) -> TxEnvelope {
        let (to, input) = (TxKind::Call(self.genesis.access_address()), self.handover(base, approvals).input());
        Request { chain_id: self.genesis.chain_id, nonce, to, input, gas: HANDOVER_GAS }.sign(account)
    }

    /// Which ledger it is of.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Who keeps it then, ascending by key.
    pub fn enrolments(&self) -> &[Enrolment] {
        &self.enrolments
    }

    /// Blocks in an epoch, if they may be changed.
    pub const fn epoch_length(&self) -> Option<u64> {
        self.epoch_length
    }

    /// Who may change them, and how, if anybody may.
    pub fn charter(&self) -> Option<Governance> {
        charter(&self.genesis, self.epoch_length?, &self.enrolments)
    }

    /// What all of them are given.
    pub fn file(&self, base: Base, handover: TxEnvelope) -> Result<NetworkFile, CeremonyError> {
        let network = network(&self.genesis, &self.enrolments, self.epoch_length, base)?;
        let (genesis, enrolments) = (self.genesis.clone(), self.enrolments.clone());
        let (handover, epoch_length) = (Some(handover), self.epoch_length);
        Ok(NetworkFile { genesis, network, enrolments, made: None, handover, epoch_length })
    }
}

/// Each begins with its own epoch 0: its keys have never voted, and no vote of others counts under them.
fn network(
    genesis: &Genesis,
    enrolments: &[Enrolment],
    epoch_length: Option<u64>,
    base: Base,
) -> Result<Network, CeremonyError> {
    let keys: Vec<[u8; 32]> = enrolments.iter().map(|enrolment| *enrolment.key()).collect();
    let charter = epoch_length.and_then(|length| charter(genesis, length, enrolments));
    let kind = charter.map_or(Kind::Committee, |charter| Kind::Chartered(charter.charter_hash()));
    Ok(Network::try_new(genesis.chain_id, EPOCH, base, &keys, kind)?)
}

/// The charter of these nodes: their operators govern. None if they cannot, or if that ledger has no room for one.
pub(super) fn charter(genesis: &Genesis, epoch_length: u64, enrolments: &[Enrolment]) -> Option<Governance> {
    let charter = by_operators(epoch_length, enrolments)?.governance(&Kind::Committee);
    charter.charter_fault(genesis).is_none().then_some(charter)
}

/// S1: the transaction is a signed call that hands that ledger over to `key` above `base`. Whether its sender may is seen where it is
/// executed.
pub(super) fn hands_over(handover: &TxEnvelope, genesis: &Genesis, base: &Base, key: &[u8; 32]) -> bool {
    let Some(call) = Handover::read(handover.input()) else { return false };
    handover.chain_id() == Some(genesis.chain_id)
        && handover.to() == Some(genesis.access_address())
        && call.next_key == *key
        && call.parent.0 == base.hash.to_bytes()
        && handover.recover_signer().is_ok()
}

/// The transaction's bytes in a network file.
pub(super) fn encode(handover: &TxEnvelope) -> Vec<u8> {
    handover.encoded_2718()
}

/// Reads them; only the one encoding is taken.
pub(super) fn decode(bytes: &[u8]) -> Option<TxEnvelope> {
    let handover = TxEnvelope::decode_2718_exact(bytes).ok()?;
    (handover.encoded_2718() == bytes).then_some(handover)
}
