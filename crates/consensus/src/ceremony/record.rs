//! What a ceremony leads to: what a node signs, what it must not forget before that, and what all signatures prove.

use blockhouse_crypto::hash::hash;
use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_ledger::resharing::{self, group_key};
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use commonware_codec::Encode;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::Sharing;
use commonware_cryptography::bls12381::primitives::variant::MinPk;

use super::message::PARTICIPANTS_MAX;
use super::plan::Plan;
use crate::keys::{Keys, is_outcome_of};
use crate::network::{POLYNOMIAL_MAX, read_sharing};

const MAGIC: Magic = *b"BHNC";
const WHAT: &str = "the record of a key ceremony";
const TRANSCRIPT: &str = "blockhouse v1 ceremony transcript";

/// What a node agreed to, and signs once that is durable together with its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The ceremony: [`Plan::id`].
    pub ceremony: [u8; 32],
    /// The attempt.
    pub attempt: [u8; 32],
    /// The hash of each dealer's log, in the order of the dealers.
    pub logs: Vec<[u8; 32]>,
    /// The public polynomial that follows from them.
    pub sharing: Sharing<MinPk>,
}

impl Agreed {
    /// The public polynomial, as the engine encodes it.
    pub fn polynomial(&self) -> Vec<u8> {
        self.sharing.encode().to_vec()
    }

    /// The hash of what was seen on the way.
    pub(super) fn transcript(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.raw(&self.attempt).list(self.logs.iter(), |encoder, log| {
            encoder.raw(log);
        });
        hash(TRANSCRIPT, encoder.as_slice())
    }

    /// What is signed.
    pub(super) fn statement(&self) -> Vec<u8> {
        statement(&self.ceremony, &self.transcript(), &self.sharing)
    }
}

fn statement(ceremony: &[u8; 32], transcript: &[u8; 32], sharing: &Sharing<MinPk>) -> Vec<u8> {
    resharing::statement(ceremony, transcript, &sharing.encode())
}

/// True if a share is the one that a polynomial has for that place.
pub(crate) fn fits(share: &Share, sharing: &Sharing<MinPk>, place: usize) -> bool {
    let is_there = share.index.get() as usize == place;
    is_there && sharing.partial_public(share.index).is_ok_and(|public| public == share.public::<MinPk>())
}

/// A key that was made.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The public polynomial; its constant is the group's key.
    pub sharing: Sharing<MinPk>,
    /// The share of this node; none if it only handed its share on.
    pub share: Option<Share>,
    /// That all participants saw it come about.
    pub attestation: Attestation,
}

impl Outcome {
    /// The group's key, compressed.
    pub fn group_key(&self) -> [u8; 48] {
        group_key(&self.sharing)
    }
}

impl Outcome {
    /// As a ledger takes it, where the key was handed on.
    pub fn posted(&self) -> resharing::Outcome {
        let Attestation { transcript, signatures } = self.attestation.clone();
        resharing::Outcome { transcript, polynomial: self.sharing.encode().to_vec(), signatures }
    }
}

/// That all participants of a ceremony signed its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The hash of the attempt and of its dealers' logs.
    pub transcript: [u8; 32],
    /// A signature of each participant, in their order.
    pub signatures: Vec<[u8; 64]>,
}

impl Attestation {
    /// True if every participant of the plan signed that this polynomial is its outcome.
    pub fn holds(&self, plan: &Plan, sharing: &Sharing<MinPk>) -> bool {
        let participants = plan.participants();
        let statement = statement(plan.id(), &self.transcript, sharing);
        let signed = |(key, signature): (&[u8; 32], &[u8; 64])| is_outcome_of(key, &statement, signature);
        participants.len() == self.signatures.len() && participants.iter().zip(&self.signatures).all(signed)
    }

    /// Writes its fields.
    pub fn write(&self, encoder: &mut Encoder) {
        encoder.raw(&self.transcript).list(self.signatures.iter(), |encoder, signature| {
            encoder.raw(signature);
        });
    }

    /// Reads its fields.
    pub fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let transcript = decoder.array()?;
        Ok(Self { transcript, signatures: decoder.list("signatures", PARTICIPANTS_MAX, Decoder::array)? })
    }
}

/// What a node keeps on disk of ceremonies: how often it began, and what it signed last. It holds no secret: the share is in the key file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// How often it began; counted up, durably, before it says anything.
    pub incarnation: u64,
    /// What it agreed to last.
    pub agreed: Option<Agreed>,
}

impl Record {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.varint(self.incarnation).option(self.agreed.as_ref(), |encoder, agreed| {
            encoder.raw(&agreed.ceremony).raw(&agreed.attempt).list(agreed.logs.iter(), |encoder, log| {
                encoder.raw(log);
            });
            encoder.bytes(&agreed.sharing.encode());
        });
        encoder.finish()
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let incarnation = decoder.varint()?;
        let agreed = decoder.option(|decoder| {
            let (ceremony, attempt) = (decoder.array()?, decoder.array()?);
            let logs = decoder.list("logs", COMMITTEE_MAX, Decoder::array)?;
            let polynomial = decoder.bytes("polynomial", POLYNOMIAL_MAX)?;
            let sharing = read_sharing(polynomial).map_err(|_| decoder.not_canonical("its polynomial is none"))?;
            Ok(Agreed { ceremony, attempt, logs, sharing })
        })?;
        decoder.finish()?;
        Ok(Self { incarnation, agreed })
    }

    /// What was agreed to in that ceremony, with the own share from these keys. A kill between the two files leaves an older word, whose
    /// share is not there: it counts for nothing.
    pub fn of(&self, plan: &Plan, keys: &Keys) -> Option<(Agreed, Option<Share>)> {
        let agreed = self.agreed.as_ref().filter(|agreed| agreed.ceremony == *plan.id())?;
        let Some(place) = plan.place_of_player(&keys.public()) else { return Some((agreed.clone(), None)) };
        let share = keys.share().filter(|share| fits(share, &agreed.sharing, place))?;
        Some((agreed.clone(), Some(share.clone())))
    }
}
