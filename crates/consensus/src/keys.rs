//! The keys of a node: who it is to its peers, and its share of the network's key.
//!
//! In a network that signs one by one the identity also signs. A key file is as secret as it gets: who has the files of
//! more than f validators can make two histories.
//!
//! Format: `docs/design/consensus.md`, section *Key file*.

use blockhouse_crypto::hash::derive;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_ledger::anchor::Cosignature;
use blockhouse_ledger::resharing::OUTCOME_NAME;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use commonware_codec::{Copying, DecodeExt, Encode};
use commonware_cryptography::bls12381::primitives::group::{Private, Share};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey, Signature};
use commonware_cryptography::{Signer, Verifier};
use commonware_math::algebra::Random;
use commonware_utils::Participant;
use rand::CryptoRng;
use zeroize::Zeroizing;

const MAGIC: Magic = *b"BHNK";
const WHAT: &str = "a node's key file";
const ACCOUNT_CONTEXT: &str = "blockhouse v1 node account";
/// What tells the signature of an enrolment from every vote and greeting.
const ENROLMENT: &[u8] = b"blockhouse v1 enrolment";

/// The secrets of one node.
#[derive(Clone)]
pub struct Keys {
    identity: PrivateKey,
    share: Option<Share>,
}

/// Why a key file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    #[error("the key file cannot be read")]
    Encoding(#[from] DecodeError),
    #[error("the {what} in the key file is not a key")]
    NoKey { what: &'static str },
}

impl Keys {
    /// A new identity, without a share.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self { identity: PrivateKey::random(rng), share: None }
    }

    /// The same identity with a share of the network's key, from [`crate::deal()`] or a [`crate::ceremony`].
    #[must_use]
    pub fn with_share(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// The same identity without a share.
    #[must_use]
    pub fn without_share(self) -> Self {
        Self { share: None, ..self }
    }

    /// What its peers know it by.
    pub fn public(&self) -> [u8; 32] {
        public_bytes(&self.identity.public_key())
    }

    /// Signs what this node says of itself to who founds a network.
    pub fn sign_enrolment(&self, statement: &[u8]) -> [u8; 64] {
        self.sign(ENROLMENT, statement)
    }

    /// Signs the outcome of a key ceremony that this node took part in.
    pub(crate) fn sign_outcome(&self, statement: &[u8]) -> [u8; 64] {
        self.sign(OUTCOME_NAME, statement)
    }

    fn sign(&self, name: &[u8], statement: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.identity.sign(name, statement).as_ref());
        bytes
    }

    /// Signs a checkpoint as a witness: what [`Cosignature::check`] takes.
    pub fn cosign(&self, statement: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.identity.sign(Cosignature::context(), statement).as_ref());
        bytes
    }

    /// True if it holds a share of a network's key.
    pub const fn has_share(&self) -> bool {
        self.share.is_some()
    }

    /// The account by which the node speaks on the ledger. It follows from the identity: there is nothing more to keep or to lose.
    pub fn account(&self) -> AccountSecret {
        let mut identity = Zeroizing::new([0; 32]);
        identity.copy_from_slice(&Zeroizing::new(self.identity.encode().to_vec()));
        let secret = derive(ACCOUNT_CONTEXT, &Secret::new(*identity), []);
        AccountSecret::try_new(&secret).expect("one of 2^128 hashes is no secret of the curve")
    }

    /// The bytes of a key file.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(&Zeroizing::new(self.identity.encode().to_vec()));
        encoder.option(self.share.as_ref(), |encoder, share| {
            let secret = Zeroizing::new(share.private.expose(Encode::encode).to_vec());
            encoder.u32(share.index.get()).raw(&secret);
        });
        Zeroizing::new(encoder.finish())
    }

    /// Reads a key file.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeysError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let identity =
            PrivateKey::decode(Copying(decoder.raw(32)?)).map_err(|_| KeysError::NoKey { what: "identity" })?;
        let share = decoder.option(|decoder| Ok((decoder.u32()?, decoder.raw(32)?)))?;
        decoder.finish()?;
        let share = share.map(|(index, secret)| {
            let private = Private::decode(Copying(secret)).map_err(|_| KeysError::NoKey { what: "share" })?;
            Ok::<_, KeysError>(Share::new(Participant::new(index), private))
        });
        Ok(Self { identity, share: share.transpose()? })
    }

    pub(crate) const fn identity(&self) -> &PrivateKey {
        &self.identity
    }

    /// Its share of a network's key, if it has one. It is as secret as the key file.
    pub const fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("public", &hex::encode(self.public())).finish_non_exhaustive()
    }
}

/// True if the node of that key signed the statement by [`Keys::sign_enrolment`].
pub fn is_enrolment_of(key: &[u8; 32], statement: &[u8], signature: &[u8; 64]) -> bool {
    is_signed(ENROLMENT, key, statement, signature)
}

/// True if the node of that key signed the statement by [`Keys::sign_outcome`].
pub(crate) fn is_outcome_of(key: &[u8; 32], statement: &[u8], signature: &[u8; 64]) -> bool {
    is_signed(OUTCOME_NAME, key, statement, signature)
}

fn is_signed(name: &[u8], key: &[u8; 32], statement: &[u8], signature: &[u8; 64]) -> bool {
    let (key, signature) = (PublicKey::decode(Copying(key)), Signature::decode(Copying(signature)));
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(name, statement, &signature))
}

/// The 32 bytes of a public key.
pub(crate) fn public_bytes(key: &PublicKey) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.as_ref());
    bytes
}
