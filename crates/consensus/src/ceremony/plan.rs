//! What a ceremony is for, and who takes part.

use blockhouse_ledger::resharing::{SHARES_MAX, Step, ceremony_id, holding};
use commonware_codec::{Copying, Decode as _, Encode};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{Info, Output, Reveal};
use commonware_cryptography::bls12381::primitives::sharing::{Mode, ModeVersion};
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PublicKey;
use commonware_utils::N3f1;
use commonware_utils::ordered::Set;

use crate::keys::public_bytes;
use crate::network::{Kind, Network, NetworkError, read_sharing, validator_set};

/// Before an attempt's id, in what the key generation signs.
const ROUND: &[u8] = b"blockhouse v1 ceremony round ";

/// What a ceremony is for. Whoever has another plan is not heard.
#[derive(Debug, Clone)]
pub struct Plan {
    id: [u8; 32],
    dealers: Set<PublicKey>,
    players: Set<PublicKey>,
    participants: Set<PublicKey>,
    previous: Option<Output<MinPk, PublicKey>>,
}

/// Why there can be no such ceremony.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the network signs one by one: there is no key to hand on")]
    NoGroup,
    #[error("the network has one validator, who has the whole key: a new network needs a new one")]
    OneKey,
    #[error("a key is handed on by {needed} of its holders or more, not by {found}")]
    Dealers { found: usize, needed: usize },
    #[error("{} has no share of the key that is handed on", hex::encode(key))]
    NoHolder { key: [u8; 32] },
}

impl Plan {
    /// A new key for these validators. The subject is the hash of what they agreed on beforehand.
    pub fn generate(subject: &[u8; 32], validators: &[[u8; 32]]) -> Result<Self, PlanError> {
        let validators = validator_set(validators)?;
        Ok(Self::of(subject, validators.clone(), validators, None))
    }

    /// The key of a network, handed by these of its validators to others, who may be the same; the new ones alone can use it then. All of
    /// both must be there: so they sign that they saw the same. Who drives it keeps a new share beside the old one until the ceremony is
    /// complete, for as long the old one is what its network signs with, and what this node deals again if it begins again.
    pub fn reshare(
        subject: &[u8; 32],
        from: &Network,
        dealers: &[[u8; 32]],
        to: &[[u8; 32]],
    ) -> Result<Self, PlanError> {
        let Kind::Threshold(sharing) = from.kind() else { return Err(PlanError::NoGroup) };
        let holders = from.participants();
        if holders.len() == 1 {
            return Err(PlanError::OneKey);
        }
        let (dealers, players) = (validator_set(dealers)?, validator_set(to)?);
        if let Some(key) = dealers.iter().find(|key| holders.position(key).is_none()) {
            return Err(PlanError::NoHolder { key: public_bytes(key) });
        }
        if dealers.len() < from.quorum() {
            return Err(PlanError::Dealers { found: dealers.len(), needed: from.quorum() });
        }
        let holders: Vec<_> = holders.iter().map(public_bytes).collect();
        let previous = previous(&holders, &sharing.encode())?;
        Ok(Self::of(subject, dealers, players, Some(previous)))
    }

    /// A step of a ledger's key from one set of validators to the next.
    pub fn of_step(step: &Step) -> Result<Self, PlanError> {
        let (dealers, players) = (validator_set(&step.dealers)?, validator_set(&step.players)?);
        let previous = previous(&step.holders.voters, &step.holders.polynomial)?;
        Ok(Self::of(&step.subject, dealers, players, Some(previous)))
    }

    fn of(
        subject: &[u8; 32],
        dealers: Set<PublicKey>,
        players: Set<PublicKey>,
        previous: Option<Output<MinPk, PublicKey>>,
    ) -> Self {
        let [from, to] = [&dealers, &players].map(|keys| keys.iter().map(public_bytes).collect::<Vec<_>>());
        let before = previous.as_ref().map(Encode::encode);
        let id = ceremony_id(subject, [&from, &to], before.as_deref());
        let participants = Set::from_iter_dedup(dealers.iter().chain(players.iter()).cloned());
        Self { id, dealers, players, participants, previous }
    }

    /// What tells it from every other.
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// All who take part, ascending.
    pub fn participants(&self) -> Vec<[u8; 32]> {
        self.participants.iter().map(public_bytes).collect()
    }

    pub(super) const fn all(&self) -> &Set<PublicKey> {
        &self.participants
    }

    pub(super) const fn dealers(&self) -> &Set<PublicKey> {
        &self.dealers
    }

    pub(super) const fn players(&self) -> &Set<PublicKey> {
        &self.players
    }

    /// The place of the share of that node.
    pub(super) fn place_of_player(&self, key: &[u8; 32]) -> Option<usize> {
        self.players.iter().position(|player| public_bytes(player) == *key)
    }

    pub(super) const fn is_reshare(&self) -> bool {
        self.previous.is_some()
    }

    /// What the key generation binds all its signatures to.
    pub(super) fn info(&self, attempt: &[u8; 32]) -> Option<Info<MinPk, PublicKey>> {
        let round = [ROUND, attempt].concat();
        let (dealers, players) = (self.dealers.clone(), self.players.clone());
        let previous = self.previous.clone();
        Info::new::<N3f1>(&round, 0, previous, Mode::NonZeroCounter, Reveal::V1, dealers, players).ok()
    }
}

/// The outcome of the ceremony before, as far as the next one looks at it: the engine has no other way to make one than to read it.
fn previous(holders: &[[u8; 32]], polynomial: &[u8]) -> Result<Output<MinPk, PublicKey>, NetworkError> {
    let sharing = read_sharing(polynomial)?;
    let bytes = holding(holders, &sharing.encode());
    Output::decode_cfg(Copying(bytes.as_slice()), &(SHARES_MAX, ModeVersion::v0()))
        .map_err(|_| NetworkError::NoPolynomial)
}
