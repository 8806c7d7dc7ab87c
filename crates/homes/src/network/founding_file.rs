//! The founding file: what the validators of a network agree on before they make its key together.
//!
//! - **Owns** its bytes, its hash, and what network follows from it once there is a key.
//! - **Does not** make the key: `gathering` does.
//!
//! # Invariants
//! - **G1** One founding has one encoding; its hash commits to every validator's enrolment, and is the vault id of the ledger.
//! - **G2** A founding and an outcome give one network file, the same at all nodes.
//!
//! Format: `docs/design/node.md`, section *Founding file*.

use std::path::Path;

use blockhouse_consensus::ceremony::{Attestation, Outcome, Plan, PlanError};
use blockhouse_consensus::{Kind, NetworkError};
use blockhouse_crypto::hash::hash;
use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_ledger::genesis::Genesis;
use blockhouse_types::{Account, DecodeError, Decoder, Encoder, Fingerprint, Magic};
use rand::CryptoRng;

use super::ceremony::{by_operators, check_apart};
use super::enrolment::{ENROLMENT_MAX, Enrolment, EnrolmentError};
use super::folder::{FolderError, read_file};
use super::founding::{Beginning, Governed};
use super::network_file::{Made, NetworkFile, survival};
use super::survival::Survival;

const MAGIC: Magic = *b"BHFO";
const WHAT: &str = "a founding file";
const CONTEXT: &str = "blockhouse v1 founding";
const FILE_MAX: usize = 128 + COMMITTEE_MAX * (ENROLMENT_MAX + 4);

/// What the validators agree on beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingFile {
    /// The chain id of the ledger.
    pub chain_id: u64,
    /// Who makes the first rules.
    pub owner: Account,
    /// The time of block 0 in seconds.
    pub time: u64,
    /// What tells it from every other of the same validators.
    pub salt: [u8; 32],
    /// What its validators said of themselves, ascending by key.
    pub enrolments: Vec<Enrolment>,
    /// Blocks in an epoch, if the validators may change by the word of their operators.
    pub epoch_length: Option<u64>,
}

/// Why bytes are no founding file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoundingError {
    #[error("the founding file cannot be read")]
    Encoding(#[from] DecodeError),
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
}

impl FoundingFile {
    /// One that no other is; the enrolments ascend by key.
    pub(super) fn draw(
        owner: Account,
        time: u64,
        (enrolments, epoch_length): (Vec<Enrolment>, Option<u64>),
        random: &mut impl CryptoRng,
    ) -> Self {
        let (chain_id, salt) = Beginning::draw(owner, time, random).into_parts();
        let epoch_length = epoch_length.filter(|length| by_operators(*length, &enrolments).is_some());
        Self { chain_id, owner, time, salt, enrolments, epoch_length }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.u64(self.chain_id).raw(self.owner.as_bytes()).u64(self.time).raw(&self.salt);
        encoder.list(self.enrolments.iter(), |encoder, enrolment| {
            encoder.bytes(&enrolment.encode());
        });
        // One whose validators stay is written as before there were others.
        if let Some(length) = self.epoch_length {
            encoder.u64(length);
        }
        encoder.finish()
    }

    /// Reads the bytes. See G1.
    pub fn decode(bytes: &[u8]) -> Result<Self, FoundingError> {
        let mut decoder = Decoder::with_bare_header(WHAT, MAGIC, bytes)?;
        let (chain_id, owner, time) = (decoder.u64()?, Account::new(decoder.array()?), decoder.u64()?);
        let salt = decoder.array()?;
        let enrolments =
            decoder.list("enrolments", COMMITTEE_MAX, |decoder| decoder.bytes("enrolment", ENROLMENT_MAX))?;
        let enrolments: Vec<Enrolment> = enrolments.into_iter().map(Enrolment::decode).collect::<Result<_, _>>()?;
        if enrolments.is_empty() || !enrolments.array_windows().all(|[a, b]| a.key() < b.key()) {
            return Err(decoder.not_canonical("its enrolments do not ascend, or there are none").into());
        }
        if check_apart(&enrolments).is_err() {
            return Err(decoder.not_canonical("two of its enrolments share a name or an address").into());
        }
        let epoch_length = if decoder.is_empty() { None } else { Some(decoder.u64()?) };
        let read = Self { chain_id, owner, time, salt, enrolments, epoch_length };
        if read.governed().is_some() != epoch_length.is_some() {
            return Err(decoder.not_canonical("its validators cannot be governed by their operators").into());
        }
        // With whatever key: so no ceremony is held for a ledger that cannot be.
        let begun = read.beginning().network(&read.validators(), &Kind::Committee, read.governed());
        if !begun.is_ok_and(|begun| Genesis::decode(&begun.genesis.encode()).is_ok()) {
            return Err(decoder.not_canonical("no ledger begins so").into());
        }
        decoder.finish()?;
        Ok(read)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let bytes = read_file(path, FILE_MAX)?;
        Self::decode(&bytes).map_err(|source| FolderError::Founding { path: path.to_owned(), source })
    }

    /// True if a file begins as one.
    pub fn is_at(path: &Path) -> bool {
        read_file(path, MAGIC.len()).is_ok_and(|bytes| bytes.starts_with(&MAGIC))
    }

    /// What people compare before the key is made. See G1.
    pub fn hash(&self) -> Fingerprint {
        Fingerprint::new(hash(CONTEXT, &self.encode()))
    }

    /// The keys of its validators, ascending.
    pub fn validators(&self) -> Vec<[u8; 32]> {
        self.enrolments.iter().map(|enrolment| *enrolment.key()).collect()
    }

    /// What a validator is called.
    pub fn name_of(&self, key: &[u8; 32]) -> String {
        let enrolment = self.enrolments.iter().find(|enrolment| enrolment.key() == key);
        enrolment.map_or_else(|| hex::encode(key), |enrolment| enrolment.name().to_string())
    }

    /// The ceremony that makes the key.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        Plan::generate(&self.hash().to_bytes(), &self.validators())
    }

    /// What the placement of its validators survives.
    pub fn survival(&self) -> Survival {
        survival(&self.enrolments)
    }

    /// The network of the key that was made. See G2.
    pub fn complete(&self, outcome: &Outcome) -> Result<NetworkFile, NetworkError> {
        self.network(outcome.sharing.clone(), outcome.attestation.clone())
    }

    fn governed(&self) -> Option<Governed> {
        by_operators(self.epoch_length?, &self.enrolments)
    }

    fn beginning(&self) -> Beginning {
        Beginning::of(self.owner, self.time, self.chain_id, self.hash().to_bytes())
    }

    pub(super) fn network(
        &self,
        sharing: blockhouse_consensus::ceremony::Sharing,
        attestation: Attestation,
    ) -> Result<NetworkFile, NetworkError> {
        let file = self.beginning().network(&self.validators(), &Kind::Threshold(sharing), self.governed())?;
        Ok(NetworkFile {
            epoch_length: None,
            enrolments: self.enrolments.clone(),
            made: Some(Made { salt: self.salt, attestation }),
            handover: None,
            ..file
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::network::{Ceremony, Keys, Place};

    fn founding(seed: u64) -> FoundingFile {
        let enrol = |number: u64| {
            let keys = Keys::generate(&mut StdRng::seed_from_u64(number));
            let address = format!("h{number}:1").parse().unwrap();
            Enrolment::sign(&keys, format!("n{number}").parse().unwrap(), address, Place::default(), None)
        };
        let enrolments = (1..=4).map(enrol).collect();
        let ceremony = Ceremony { owner: Account::new([3; 20]), time: 1_700_000_000, enrolments, epoch_length: None };
        ceremony.begin(&mut StdRng::seed_from_u64(seed)).unwrap()
    }

    /// G1.
    #[test]
    fn a_founding_comes_back_and_every_byte_of_it_counts() {
        let (file, bytes) = (founding(1), founding(1).encode());
        assert_eq!(FoundingFile::decode(&bytes).unwrap(), file);
        assert_ne!(founding(2).hash(), file.hash());
        for at in 0..bytes.len() {
            assert!(FoundingFile::decode(&bytes[..at]).is_err());
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(
                FoundingFile::decode(&altered).is_ok_and(|read| read.hash() == file.hash()).eq(&false),
                "byte {at}"
            );
        }
    }

    /// `BLOCKHOUSE_MAKE_GOLDEN=1` writes it where it is missing, and never over what is there.
    #[test]
    fn a_golden_founding_holds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/founding.bin");
        if !path.exists() && std::env::var_os("BLOCKHOUSE_MAKE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, founding(1).encode()).unwrap();
        }
        let read = FoundingFile::read(&path).unwrap();
        assert!(read.encode() == std::fs::read(&path).unwrap(), "the founding is written in another way");
        assert_eq!((read.time, read.enrolments.len()), (1_700_000_000, 4));
    }

    #[test]
    fn a_key_that_was_dealt_was_not_made_together() {
        let file = founding(1);
        let keys: Vec<Keys> = (1..=4).map(|number| Keys::generate(&mut StdRng::seed_from_u64(number))).collect();
        let base = blockhouse_consensus::Base { height: 0, hash: blockhouse_types::BlockHash::new([0; 32]) };
        let dealt =
            blockhouse_consensus::deal(&mut StdRng::seed_from_u64(5), file.chain_id, 0, base, keys).unwrap().network;
        let Kind::Threshold(sharing) = dealt.kind() else { panic!("it has one key") };
        // Whoever dealt it can make everything but the others' signatures.
        let attestation = Attestation { transcript: [0; 32], signatures: vec![[0; 64]; 4] };
        let network = file.network(sharing.clone(), attestation).unwrap();
        assert!(network.is_consistent() && !network.was_made_together());
        assert_eq!(network.founding(), Some(file));
        assert_eq!(NetworkFile::decode(&network.encode()).unwrap(), network);
    }
}
