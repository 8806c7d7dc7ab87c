//! The network file: what all nodes of a network are given.
//!
//! - **Owns** its bytes, and what must fit together in them.
//! - **Does not** say which of several networks is the right one: people compare the fingerprint.
//!
//! # Invariants
//! - **F1** Each enrolment in it is one of its validators, and was signed by it.
//! - **F2** One that hands no ledger over is written as before there were any that do: nothing stands behind its enrolments. One without a charter is
//!   written as before there were charters.
//!
//! Format: `docs/design/node.md`, section *Data folder*.

use std::path::Path;

use alloy_consensus::TxEnvelope;
use blockhouse_consensus::ceremony::Attestation;
use blockhouse_consensus::{Kind, Network, NetworkError};
use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_ledger::genesis::{GENESIS_MAX, Genesis};
use blockhouse_ledger::{Governance, TrustRoot};
use blockhouse_types::{DecodeError, Decoder, Encoder, Fingerprint, Magic};

use super::enrolment::{ENROLMENT_MAX, Enrolment, EnrolmentError};
use super::folder::{FolderError, read_file};
use super::founding_file::FoundingFile;
use super::succession::{self, HANDOVER_MAX, charter, hands_over};
use super::survival::Survival;

const MAGIC: Magic = *b"BHNF";
const WHAT: &str = "a network file";
/// The longest network file: a genesis, and a polynomial with its validators.
const NETWORK_MAX: usize = GENESIS_MAX + 64 * 1024;
/// The same with the enrolments, and a signature of each, or a handover.
const FILE_MAX: usize = GENESIS_MAX + NETWORK_MAX + COMMITTEE_MAX * (ENROLMENT_MAX + 64) + 128 + HANDOVER_MAX;

/// What all nodes of a network are given: the ledger's genesis, and who certifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFile {
    /// What the ledger began with.
    pub genesis: Genesis,
    /// Who certifies it.
    pub network: Network,
    /// What its validators said of themselves, ascending by key; of none whose key was made for it.
    pub enrolments: Vec<Enrolment>,
    /// How they made the key by which they sign, if they made one.
    pub made: Option<Made>,
    /// What hands the ledger over to the network, if others kept it before.
    pub handover: Option<TxEnvelope>,
    /// Blocks in an epoch of a network that took the ledger over with a charter: by its operators, whom the enrolments name.
    pub epoch_length: Option<u64>,
}

/// That the validators of a network made its key together, out of a founding file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// That of the founding file.
    pub salt: [u8; 32],
    /// Every validator's word for the outcome.
    pub attestation: Attestation,
}

/// Why bytes are no network file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkFileError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
}

impl From<DecodeError> for NetworkFileError {
    fn from(error: DecodeError) -> Self {
        Self::Network(error.into())
    }
}

impl NetworkFile {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.bytes(&self.genesis.encode()).bytes(&self.network.encode());
        encoder.list(self.enrolments.iter(), |encoder, enrolment| {
            encoder.bytes(&enrolment.encode());
        });
        // Only who enrolled can have made a key, and only where there is one.
        if self.may_be_made() {
            encoder.option(self.made.as_ref(), |encoder, made| made.attestation.write(encoder.raw(&made.salt)));
        }
        if let Some(handover) = &self.handover {
            encoder.bytes(&succession::encode(handover));
        }
        if let Some(epoch_length) = self.epoch_length {
            encoder.u64(epoch_length);
        }
        encoder.finish()
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, NetworkFileError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let genesis = Genesis::decode(decoder.bytes("genesis", GENESIS_MAX)?)?;
        let bytes = decoder.bytes("network", NETWORK_MAX)?;
        let network = Network::decode(bytes)?;
        // A header flag that a reader may ignore would make a second file of the same values.
        if network.encode() != bytes {
            return Err(decoder.not_canonical("its network holds what this version does not write").into());
        }
        let enrolments =
            decoder.list("enrolments", COMMITTEE_MAX, |decoder| decoder.bytes("enrolment", ENROLMENT_MAX))?;
        let enrolments: Vec<Enrolment> = enrolments.into_iter().map(Enrolment::decode).collect::<Result<_, _>>()?;
        let validators = network.validators();
        let ascend = enrolments.array_windows().all(|[a, b]| a.key() < b.key());
        if !ascend || !enrolments.iter().all(|enrolment| validators.binary_search(enrolment.key()).is_ok()) {
            return Err(decoder.not_canonical("its enrolments are not of its validators, ascending").into());
        }
        let mut file = Self { genesis, network, enrolments, made: None, handover: None, epoch_length: None };
        if file.may_be_made() {
            file.made = decoder
                .option(|decoder| Ok(Made { salt: decoder.array()?, attestation: Attestation::read(decoder)? }))?;
        }
        if !decoder.is_empty() {
            file.handover = Some(read_handover(&mut decoder)?);
        }
        if !decoder.is_empty() {
            file.epoch_length = Some(decoder.u64()?);
        }
        decoder.finish()?;
        Ok(file)
    }

    fn may_be_made(&self) -> bool {
        !self.signs_one_by_one() && !self.enrolments.is_empty()
    }

    /// Reads a file, which must be of one ledger.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let bytes = read_file(path, FILE_MAX)?;
        let file = Self::decode(&bytes).map_err(|source| FolderError::Network { path: path.to_owned(), source })?;
        let (found, expected) = (file.network.chain_id(), file.genesis.chain_id);
        if found == expected {
            Ok(file)
        } else {
            Err(FolderError::OtherLedger { path: path.to_owned(), found, expected })
        }
    }

    /// By what people tell this ledger, under these validators, from every other: that of the vault that takes it over too.
    pub fn fingerprint(&self) -> Fingerprint {
        TrustRoot::new(&self.genesis, self.network.key()).fingerprint()
    }

    /// True if the network is the first of its ledger: begun with its block 0 and its key; or if it has what hands the ledger over to its
    /// key, above its base. The fingerprint says nothing of where a network begins, so nothing else is left open here.
    pub fn is_consistent(&self) -> bool {
        let (base, network) = (self.network.base(), &self.network);
        if let Some(handover) = &self.handover {
            let is_first = base.height > 0 && network.epoch() == 0;
            return is_first && self.has_its_charter() && hands_over(handover, &self.genesis, &base, &network.key());
        }
        let begins = (base.height, base.hash, network.epoch()) == (0, self.genesis.hash(), 0);
        begins
            && network.kind().charter().is_none()
            && self.epoch_length.is_none()
            && network.key() == self.genesis.ledger_key
    }

    /// Who keeps the ledger and who may change that, if anybody may: as its genesis says, or the charter of a network that took it over.
    pub fn governance(&self) -> Option<Governance> {
        if self.handover.is_none() {
            return self.genesis.governance.clone();
        }
        charter(&self.genesis, self.epoch_length?, &self.enrolments)
    }

    /// True if the key of its network commits to the charter that it has, or to none.
    fn has_its_charter(&self) -> bool {
        let named = self.governance().map(|charter| charter.charter_hash());
        let fits = self.enrolments.len() == self.network.validators().len() || named.is_none();
        fits && self.epoch_length.is_some() == named.is_some() && self.network.kind().charter() == named
    }

    /// True if its validators sign one by one: then its key, and so the fingerprint, commits to each of theirs. One key for all was
    /// dealt by somebody, who can keep it.
    pub const fn signs_one_by_one(&self) -> bool {
        matches!(self.network.kind(), Kind::Committee | Kind::Chartered(_))
    }

    /// The founding file out of which its validators made its key, if they did.
    pub fn founding(&self) -> Option<FoundingFile> {
        let made = self.made.as_ref()?;
        let (chain_id, owner, time) = (self.genesis.chain_id, self.genesis.owner, self.genesis.time);
        let epoch_length = self.genesis.governance.as_ref().map(|governance| governance.epoch_length);
        Some(FoundingFile { chain_id, owner, time, salt: made.salt, enrolments: self.enrolments.clone(), epoch_length })
    }

    /// True if its one key was made by its validators together, and by all of them: each signed that, and the genesis, so the fingerprint,
    /// commits to who they are. Then nobody ever had that key.
    pub fn was_made_together(&self) -> bool {
        let (Kind::Threshold(sharing), Some(made)) = (self.network.kind(), &self.made) else { return false };
        let Some(founding) = self.founding() else { return false };
        let again = founding.network(sharing.clone(), made.attestation.clone());
        again.is_ok_and(|again| again == *self)
            && founding.plan().is_ok_and(|plan| made.attestation.holds(&plan, sharing))
    }

    /// What the placement of its validators survives, if all of them enrolled.
    pub fn survival(&self) -> Option<Survival> {
        (self.enrolments.len() == self.network.validators().len()).then(|| survival(&self.enrolments))
    }
}

fn read_handover(decoder: &mut Decoder<'_>) -> Result<TxEnvelope, DecodeError> {
    let bytes = decoder.bytes("handover", HANDOVER_MAX)?;
    succession::decode(bytes)
        .ok_or_else(|| decoder.not_canonical("its handover is no transaction, or not as one is written"))
}

/// What the placement of nodes survives.
pub(super) fn survival(enrolments: &[Enrolment]) -> Survival {
    let places: Vec<_> = enrolments.iter().map(|enrolment| (enrolment.name(), enrolment.place())).collect();
    Survival::of(&places)
}
