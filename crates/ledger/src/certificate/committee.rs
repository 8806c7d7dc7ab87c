//! The certificate of validators that sign one by one with Ed25519: it names who signed, and grows with their number.

use blockhouse_types::{DecodeError, Decoder, Encoder};
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::Verifier;
use commonware_cryptography::ed25519::{PublicKey, Signature};

use super::finality::Finality;
use super::{BlockPlace, CHARTERED, COMMITTEE, CertificateError, network_key};

/// How many validators a network may have: each is 96 bytes of every certificate.
pub const COMMITTEE_MAX: usize = 128;

/// The least number of `validators` that must agree: all but the f of n = 3f + 1 that may be faulty.
pub const fn quorum(validators: usize) -> usize {
    validators - validators.saturating_sub(1) / 3
}

/// One validator's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Its place among the keys.
    pub signer: usize,
    /// Its Ed25519 signature.
    pub signature: [u8; 64],
}

/// Signatures of a quorum of known validators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    /// The hash of the charter that names these validators: of the first that a chartered handover names, and of no others.
    pub charter: Option<[u8; 32]>,
    /// The Ed25519 keys of all validators, ascending.
    pub keys: Vec<[u8; 32]>,
    /// What was signed.
    pub finality: Finality,
    /// Who signed, ascending.
    pub votes: Vec<Vote>,
}

impl Committee {
    /// The 32 bytes that name a set of validators, whose keys ascend.
    pub fn key_of(keys: &[[u8; 32]]) -> [u8; 32] {
        network_key(COMMITTEE, keys.as_flattened())
    }

    /// The same of the validators of a charter of that hash: it commits to the charter too.
    pub fn chartered_key_of(charter: &[u8; 32], keys: &[[u8; 32]]) -> [u8; 32] {
        network_key(CHARTERED, [*charter].iter().chain(keys).copied().collect::<Vec<_>>().as_flattened())
    }

    pub(super) fn key(&self) -> [u8; 32] {
        match &self.charter {
            None => Self::key_of(&self.keys),
            Some(charter) => Self::chartered_key_of(charter, &self.keys),
        }
    }

    pub(super) fn write(&self, encoder: &mut Encoder) {
        encoder.list(self.keys.iter(), |encoder, key| {
            encoder.raw(key);
        });
        self.finality.write_place(encoder);
        let mut bitmap = vec![0_u8; self.keys.len().div_ceil(8)];
        for vote in &self.votes {
            if let Some(byte) = bitmap.get_mut(vote.signer / 8) {
                *byte |= 1 << (vote.signer % 8);
            }
        }
        encoder.raw(&bitmap);
        for vote in &self.votes {
            encoder.raw(&vote.signature);
        }
        self.finality.write_descendants(encoder);
    }

    pub(super) fn read(charter: Option<[u8; 32]>, decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let keys: Vec<[u8; 32]> = decoder.list("validators", COMMITTEE_MAX, Decoder::array)?;
        if keys.is_empty() || !keys.is_sorted_by(|a, b| a < b) {
            return Err(decoder.not_canonical("its validators do not ascend"));
        }
        let finality = Finality::read_place(decoder)?;
        let bitmap = decoder.raw(keys.len().div_ceil(8))?;
        let signers: Vec<usize> = ones(bitmap).collect();
        if signers.last().is_some_and(|last| *last >= keys.len()) {
            return Err(decoder.not_canonical("a signer is none of its validators"));
        }
        let vote = |signer| Ok(Vote { signer, signature: decoder.array()? });
        let votes = signers.into_iter().map(vote).collect::<Result<_, _>>()?;
        Ok(Self { charter, keys, finality: finality.read_descendants(decoder)?, votes })
    }

    pub(super) fn verify(&self, place: &BlockPlace) -> Result<(), CertificateError> {
        let refused = CertificateError::Signature { height: place.height, hash: place.hash };
        let (namespace, message) = self.finality.message(place)?;
        let (found, needed) = (self.votes.len(), quorum(self.keys.len()));
        if found < needed {
            return Err(CertificateError::Quorum { height: place.height, found, needed });
        }
        if !self.votes.is_sorted_by(|a, b| a.signer < b.signer) {
            return Err(refused);
        }
        let valid = |vote: &Vote| {
            let key = PublicKey::decode(Copying(self.keys.get(vote.signer)?)).ok()?;
            let signature = Signature::decode(Copying(&vote.signature)).ok()?;
            key.verify(&namespace, &message, &signature).then_some(())
        };
        self.votes.iter().try_for_each(valid).ok_or(refused)
    }
}

/// The places of the bits that are set, ascending.
fn ones(bitmap: &[u8]) -> impl Iterator<Item = usize> {
    bitmap
        .iter()
        .enumerate()
        .flat_map(|(at, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit))
}
