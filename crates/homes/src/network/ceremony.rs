//! The founding of a network by several operators, each of whom keeps his key.
//!
//! - **Owns** what fits together of the enrolments that a founder was given.
//! - **Does not** make the ledger's genesis: `founding` does, for every network. It makes no key: `gathering` does.
//!
//! # Invariants
//! - **C1** No two validators of a network share a key, a name or an address.
//! - **C2** Nothing of a validator's key is needed but its enrolment, so nobody ever holds a quorum of them.

use blockhouse_consensus::{Kind, NetworkError};
use blockhouse_ledger::certificate::COMMITTEE_MAX;
use blockhouse_ledger::governance::Founder;
use blockhouse_types::Account;
use rand::CryptoRng;

use super::enrolment::{Address, Enrolment};
use super::founding::{Beginning, Governed};
use super::founding_file::FoundingFile;
use super::network_file::NetworkFile;
use super::place::Label;

/// What a network begins with whose validators enrolled.
#[derive(Debug)]
pub struct Ceremony {
    /// Who makes the first rules: the account that takes the ledger over for a vault.
    pub owner: Account,
    /// The time of block 0 in seconds.
    pub time: u64,
    /// The validators' enrolments.
    pub enrolments: Vec<Enrolment>,
    /// Blocks in an epoch, if the validators may change: by the word of as many operators as must agree on a block, where each enrolment names one.
    pub epoch_length: Option<u64>,
}

/// Why enrolments make no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    #[error("the enrolment of `{name}` is given twice")]
    Same { name: Label },
    #[error("`{first}` and `{second}` enrol one key, {}", hex::encode(key))]
    SameKey { first: Label, second: Label, key: [u8; 32] },
    #[error("two nodes are called `{name}`: those of the keys {} and {}", hex::encode(first), hex::encode(second))]
    SameName { name: Label, first: [u8; 32], second: [u8; 32] },
    #[error("`{first}` and `{second}` have the same address {address}")]
    SameAddress { first: Label, second: Label, address: Address },
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Ceremony {
    /// Makes what all nodes are given, where they sign one by one.
    pub fn found(self, random: &mut impl CryptoRng) -> Result<NetworkFile, CeremonyError> {
        let enrolments = apart_and_sorted(self.enrolments)?;
        let keys: Vec<[u8; 32]> = enrolments.iter().map(|enrolment| *enrolment.key()).collect();
        let governed = self.epoch_length.and_then(|length| by_operators(length, &enrolments));
        let file = Beginning::draw(self.owner, self.time, random).network(&keys, &Kind::Committee, governed)?;
        Ok(NetworkFile { enrolments, ..file })
    }

    /// Makes what all nodes are given who then make one key together.
    pub fn begin(self, random: &mut impl CryptoRng) -> Result<FoundingFile, CeremonyError> {
        let enrolments = apart_and_sorted(self.enrolments)?;
        if enrolments.is_empty() || enrolments.len() > COMMITTEE_MAX {
            return Err(NetworkError::Size { found: enrolments.len() }.into());
        }
        Ok(FoundingFile::draw(self.owner, self.time, (enrolments, self.epoch_length), random))
    }
}

fn apart_and_sorted(mut enrolments: Vec<Enrolment>) -> Result<Vec<Enrolment>, CeremonyError> {
    check_apart(&enrolments)?;
    enrolments.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(enrolments)
}

/// How the operators of these nodes govern; none if they cannot.
pub(super) fn by_operators(epoch_length: u64, enrolments: &[Enrolment]) -> Option<Governed> {
    Governed::by_operators(epoch_length, founders(enrolments)?)
}

/// What the ledger says of the validators; none if one names no operator.
fn founders(enrolments: &[Enrolment]) -> Option<Vec<Founder>> {
    let founder =
        |it: &Enrolment| Some(Founder { key: *it.key(), address: it.address().to_string(), operator: it.operator()? });
    enrolments.iter().map(founder).collect()
}

/// C1.
pub(super) fn check_apart(enrolments: &[Enrolment]) -> Result<(), CeremonyError> {
    for (place, first) in enrolments.iter().enumerate() {
        enrolments.iter().skip(place + 1).try_for_each(|second| apart(first, second))?;
    }
    Ok(())
}

fn apart(a: &Enrolment, b: &Enrolment) -> Result<(), CeremonyError> {
    let (first, second) = (a.name().clone(), b.name().clone());
    if a == b {
        return Err(CeremonyError::Same { name: first });
    }
    if a.key() == b.key() {
        return Err(CeremonyError::SameKey { first, second, key: *a.key() });
    }
    if first == second {
        return Err(CeremonyError::SameName { name: first, first: *a.key(), second: *b.key() });
    }
    if a.address() == b.address() {
        return Err(CeremonyError::SameAddress { first, second, address: a.address().clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use blockhouse_consensus::Keys;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn enrol(seed: u64, name: &str, address: &str) -> Enrolment {
        let keys = Keys::generate(&mut StdRng::seed_from_u64(seed));
        Enrolment::sign(&keys, name.parse().unwrap(), address.parse().unwrap(), "site=a".parse().unwrap(), None)
    }

    fn found(enrolments: Vec<Enrolment>) -> Result<NetworkFile, CeremonyError> {
        let owner = Account::new([3; 20]);
        Ceremony { owner, time: 1_700_000_000, enrolments, epoch_length: Some(64) }.found(&mut StdRng::seed_from_u64(9))
    }

    fn four() -> Vec<Enrolment> {
        ["ann", "ben", "cat", "dan"]
            .into_iter()
            .zip(1_u16..)
            .map(|(name, n)| enrol(n.into(), name, &format!("h{n}:1")))
            .collect()
    }

    #[test]
    fn a_network_is_what_its_enrolments_say_in_whatever_order() {
        let file = found(four()).unwrap();
        let mut turned = four();
        turned.reverse();
        assert_eq!(found(turned).unwrap(), file);
        assert_eq!(NetworkFile::decode(&file.encode()).unwrap(), file);
        assert!(file.is_consistent());
        let keys: Vec<[u8; 32]> = file.enrolments.iter().map(|enrolment| *enrolment.key()).collect();
        assert_eq!(file.network.validators(), keys);
        assert_eq!(file.genesis.ledger_key, file.network.key());
        assert_eq!(file.network.base().hash, file.genesis.hash());
    }

    #[test]
    fn another_validator_is_another_fingerprint() {
        let mut other = four();
        other[3] = enrol(5, "dan", "h4:1");
        assert_ne!(found(other).unwrap().fingerprint(), found(four()).unwrap().fingerprint());
    }

    /// C1.
    #[test]
    fn what_does_not_fit_together_is_named() {
        let with = |other: Enrolment| {
            let mut all = four();
            all.push(other);
            found(all).unwrap_err()
        };
        assert!(matches!(with(enrol(1, "ann", "h1:1")), CeremonyError::Same { .. }));
        assert!(matches!(with(enrol(1, "eve", "h5:1")), CeremonyError::SameKey { .. }));
        assert!(matches!(with(enrol(5, "ann", "h5:1")), CeremonyError::SameName { .. }));
        assert!(matches!(with(enrol(5, "eve", "H2:1")), CeremonyError::SameAddress { .. }));
        assert!(matches!(found(Vec::new()), Err(CeremonyError::Network(NetworkError::Size { found: 0 }))));
    }
}
