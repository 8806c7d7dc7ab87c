//! The certificate of validators that share one BLS12-381 key: 96 bytes of signature, whatever their number.

use blockhouse_types::{DecodeError, Decoder, Encoder};
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::bls12381::primitives::group::{G1, G2};
use commonware_cryptography::bls12381::primitives::ops::verify_message;
use commonware_cryptography::bls12381::primitives::variant::MinPk;

use super::finality::Finality;
use super::{BlockPlace, CertificateError, THRESHOLD, network_key};

/// A point of G1, compressed.
pub const GROUP_KEY_LEN: usize = 48;
/// A point of G2, compressed.
pub const GROUP_SIGNATURE_LEN: usize = 96;

/// One signature that only a quorum of the validators could make together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// The key of the group.
    pub group_key: [u8; GROUP_KEY_LEN],
    /// What was signed.
    pub finality: Finality,
    /// The signature.
    pub signature: [u8; GROUP_SIGNATURE_LEN],
}

impl Threshold {
    /// The 32 bytes that name a group key.
    pub fn key_of(group_key: &[u8; GROUP_KEY_LEN]) -> [u8; 32] {
        network_key(THRESHOLD, group_key)
    }

    pub(super) fn key(&self) -> [u8; 32] {
        Self::key_of(&self.group_key)
    }

    pub(super) fn write(&self, encoder: &mut Encoder) {
        encoder.raw(&self.group_key);
        self.finality.write_place(encoder);
        encoder.raw(&self.signature);
        self.finality.write_descendants(encoder);
    }

    pub(super) fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let group_key = decoder.array()?;
        let finality = Finality::read_place(decoder)?;
        let signature = decoder.array()?;
        Ok(Self { group_key, finality: finality.read_descendants(decoder)?, signature })
    }

    pub(super) fn verify(&self, place: &BlockPlace) -> Result<(), CertificateError> {
        let refused = CertificateError::Signature { height: place.height, hash: place.hash };
        let (namespace, message) = self.finality.message(place)?;
        // Decoding refuses points outside the group, which `verify_message` leaves to its caller.
        let key = G1::decode(Copying(&self.group_key)).map_err(|_| refused)?;
        let signature = G2::decode(Copying(&self.signature)).map_err(|_| refused)?;
        verify_message::<MinPk>(&key, &namespace, &message, &signature).map_err(|_| refused)
    }
}
