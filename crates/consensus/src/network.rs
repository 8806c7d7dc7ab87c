//! What all nodes of a network agree on: its chain, where it begins, who votes, and how they sign.
//!
//! Format: `docs/design/consensus.md`, section *Network*.

use blockhouse_ledger::certificate::{COMMITTEE_MAX, Committee, Threshold, namespace, quorum};
use blockhouse_ledger::resharing::group_key;
pub(crate) use blockhouse_ledger::resharing::{POLYNOMIAL_MAX, SHARES_MAX};
use blockhouse_types::{BlockHash, DecodeError, Decoder, Encoder, Magic};
use commonware_codec::{Copying, Decode, DecodeExt, Encode};
use commonware_cryptography::bls12381::primitives::sharing::{ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PublicKey;
use commonware_utils::ordered::Set;

use crate::ceremony::fits;
use crate::keys::Keys;

const MAGIC: Magic = *b"BHNW";
const WHAT: &str = "a network";
const THRESHOLD: u8 = 2;
const COMMITTEE: u8 = 3;
const CHARTERED: u8 = 4;

/// The block that a network begins above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its height on the ledger; 0 unless the network grew from an embedded ledger or from another validator set.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// How the validators sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// With shares of one BLS key; the polynomial is public.
    Threshold(Sharing<MinPk>),
    /// One by one, with their identities.
    Committee,
    /// The same by validators whom a charter of that hash names: the key in force commits to it.
    Chartered([u8; 32]),
}

/// A network as all its nodes know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    chain_id: u64,
    epoch: u64,
    base: Base,
    validators: Set<PublicKey>,
    kind: Kind,
}

/// Why something is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    #[error("the network cannot be read")]
    Encoding(#[from] DecodeError),
    #[error("a network has 1 to {COMMITTEE_MAX} validators, not {found}")]
    Size { found: usize },
    #[error("validator {key} is named twice", key = hex::encode(key))]
    Twice { key: [u8; 32] },
    #[error("{key} is no key of a validator", key = hex::encode(key))]
    NoKey { key: [u8; 32] },
    #[error("the group's polynomial cannot be read")]
    NoPolynomial,
    #[error(
        "the group's polynomial is for {required} of {total}, the network has {validators} validators and needs {needed}"
    )]
    Polynomial { required: usize, total: usize, validators: usize, needed: usize },
}

impl Kind {
    /// The public polynomial, as the engine encodes it, if there is one.
    pub fn polynomial(&self) -> Option<Vec<u8>> {
        match self {
            Self::Threshold(sharing) => Some(sharing.encode().to_vec()),
            Self::Committee | Self::Chartered(_) => None,
        }
    }

    /// The hash of the charter that names the validators, if one does.
    pub const fn charter(&self) -> Option<[u8; 32]> {
        match self {
            Self::Chartered(charter) => Some(*charter),
            Self::Committee | Self::Threshold(_) => None,
        }
    }

    /// Shares of one key, of that public polynomial.
    pub fn sharing(polynomial: &[u8]) -> Result<Self, NetworkError> {
        read_sharing(polynomial).map(Self::Threshold)
    }
}

impl Network {
    /// A network; the order in which its validators are named does not matter.
    pub fn try_new(
        chain_id: u64,
        epoch: u64,
        base: Base,
        validators: &[[u8; 32]],
        kind: Kind,
    ) -> Result<Self, NetworkError> {
        let validators = validator_set(validators)?;
        if let Kind::Threshold(sharing) = &kind {
            check_sharing(sharing, validators.len())?;
        }
        Ok(Self { chain_id, epoch, base, validators, kind })
    }

    /// The ledger's chain id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The validator set, counted from 0; a new one is a new epoch with a new base and new journals.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The block that it begins above.
    pub const fn base(&self) -> Base {
        self.base
    }

    /// How the validators sign.
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The identities of the validators, ascending.
    pub fn validators(&self) -> Vec<[u8; 32]> {
        self.validators.iter().map(crate::keys::public_bytes).collect()
    }

    /// How many validators must agree.
    pub fn quorum(&self) -> usize {
        quorum(self.validators.len())
    }

    /// The 32 bytes that are in force on the ledger while this network certifies it.
    pub fn key(&self) -> [u8; 32] {
        match &self.kind {
            Kind::Threshold(sharing) => Threshold::key_of(&group_key(sharing)),
            Kind::Committee => Committee::key_of(&self.validators()),
            Kind::Chartered(charter) => Committee::chartered_key_of(charter, &self.validators()),
        }
    }

    /// True if these keys hold the share of its key that is theirs.
    pub fn is_share_of(&self, keys: &Keys) -> bool {
        let me = commonware_cryptography::Signer::public_key(keys.identity());
        let (Kind::Threshold(sharing), Some(place)) = (&self.kind, self.validators.position(&me)) else { return false };
        keys.share().is_some_and(|share| fits(share, sharing, place))
    }

    /// True if its validators share one key.
    pub const fn shares_a_key(&self) -> bool {
        matches!(self.kind, Kind::Threshold(_))
    }

    /// The public polynomial, if its validators share one key.
    pub fn polynomial(&self) -> Option<Vec<u8>> {
        self.kind.polynomial()
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.u64(self.chain_id).varint(self.epoch).varint(self.base.height).raw(self.base.hash.as_bytes());
        encoder.list(self.validators.iter(), |encoder, key| {
            encoder.raw(key.as_ref());
        });
        match &self.kind {
            Kind::Threshold(sharing) => encoder.u8(THRESHOLD).bytes(&sharing.encode()),
            Kind::Committee => encoder.u8(COMMITTEE),
            Kind::Chartered(charter) => encoder.u8(CHARTERED).raw(charter),
        };
        encoder.finish()
    }

    /// Reads the bytes; only the one encoding is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
        let (chain_id, epoch) = (decoder.u64()?, decoder.varint()?);
        let base = Base { height: decoder.varint()?, hash: BlockHash::new(decoder.array()?) };
        let validators: Vec<[u8; 32]> = decoder.list("validators", COMMITTEE_MAX, Decoder::array)?;
        let kind = match decoder.u8()? {
            THRESHOLD => Kind::Threshold(read_sharing(decoder.bytes("polynomial", POLYNOMIAL_MAX)?)?),
            COMMITTEE => Kind::Committee,
            CHARTERED => Kind::Chartered(decoder.array()?),
            tag => return Err(decoder.unknown("kind", tag.into()).into()),
        };
        if !validators.is_sorted() {
            return Err(decoder.not_canonical("its validators do not ascend").into());
        }
        decoder.finish()?;
        Self::try_new(chain_id, epoch, base, &validators, kind)
    }

    pub(crate) const fn participants(&self) -> &Set<PublicKey> {
        &self.validators
    }

    pub(crate) fn namespace(&self) -> Vec<u8> {
        namespace(self.chain_id)
    }
}

/// Validators as the engine has them; the order in which they are named does not matter.
pub(crate) fn validator_set(validators: &[[u8; 32]]) -> Result<Set<PublicKey>, NetworkError> {
    if validators.is_empty() || validators.len() > COMMITTEE_MAX {
        return Err(NetworkError::Size { found: validators.len() });
    }
    let mut sorted = validators.to_vec();
    sorted.sort_unstable();
    if let Some([key, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        return Err(NetworkError::Twice { key: *key });
    }
    let read = |key: &[u8; 32]| PublicKey::decode(Copying(key)).map_err(|_| NetworkError::NoKey { key: *key });
    Ok(Set::from_iter_dedup(sorted.iter().map(read).collect::<Result<Vec<_>, _>>()?))
}

pub(crate) fn read_sharing(bytes: &[u8]) -> Result<Sharing<MinPk>, NetworkError> {
    Sharing::decode_cfg(Copying(bytes), &(SHARES_MAX, ModeVersion::v0())).map_err(|_| NetworkError::NoPolynomial)
}

/// The engine panics on a polynomial that does not fit its committee, so it is looked at here.
fn check_sharing(sharing: &Sharing<MinPk>, validators: usize) -> Result<(), NetworkError> {
    let (required, total, needed) = (sharing.required() as usize, sharing.total().get() as usize, quorum(validators));
    if total == validators && required == needed {
        return Ok(());
    }
    Err(NetworkError::Polynomial { required, total, validators, needed })
}
