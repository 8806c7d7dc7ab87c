//! Deals a network's key where all its keys are made in one place.
//!
//! Whoever runs this has had the whole key in memory for a moment: fit for `node local`, and for networks whose one
//! operator makes all nodes anyway. Operators who do not trust each other make the key together instead.

use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::PublicKey;
use commonware_utils::N3f1;
use commonware_utils::ordered::Set;
use rand::CryptoRng;

use crate::keys::Keys;
use crate::network::{Base, Kind, Network, NetworkError};

/// A network and the keys of its validators.
#[derive(Debug)]
pub struct Dealt {
    /// What all nodes know.
    pub network: Network,
    /// The keys, in the order in which the identities were given.
    pub keys: Vec<Keys>,
}

/// Deals a fresh group key to these identities.
pub fn deal(
    rng: &mut impl CryptoRng,
    chain_id: u64,
    epoch: u64,
    base: Base,
    identities: Vec<Keys>,
) -> Result<Dealt, NetworkError> {
    let validators: Vec<[u8; 32]> = identities.iter().map(Keys::public).collect();
    let plain = Network::try_new(chain_id, epoch, base, &validators, Kind::Committee)?;
    let players: Set<PublicKey> = plain.participants().clone();
    let dealt = feldman_desmedt::deal::<MinPk, _, N3f1>(rng, Mode::NonZeroCounter, players);
    let (output, shares) = dealt.map_err(|_| NetworkError::Size { found: validators.len() })?;
    let network = Network::try_new(chain_id, epoch, base, &validators, Kind::Threshold(output.public().clone()))?;
    let with_share = |keys: Keys| {
        let share: Option<&Share> = shares.get_value(&commonware_cryptography::Signer::public_key(keys.identity()));
        share.map(|share| keys.clone().with_share(share.clone())).unwrap_or(keys)
    };
    Ok(Dealt { network, keys: identities.into_iter().map(with_share).collect() })
}
