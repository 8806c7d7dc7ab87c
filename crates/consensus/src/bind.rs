//! Binds the engine's two signing schemes to the ledger's certificates, both ways.

use alloy_consensus::Header;
use blockhouse_ledger::Certificate;
use blockhouse_ledger::certificate::{Committee, Finality, Threshold, Vote};
use commonware_codec::{Copying, DecodeExt, Encode};
use commonware_consensus::simplex::scheme::{bls12381_threshold::standard, ed25519};
use commonware_consensus::simplex::types::{Finalization, Proposal};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::bls12381::certificate::threshold::Certificate as GroupCertificate;
use commonware_cryptography::bls12381::primitives::group::G2;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::certificate::{Scheme as _, Signers};
use commonware_cryptography::ed25519::{PublicKey, Signature, certificate::Certificate as Signatures};
use commonware_utils::Participant;

use crate::block::Digest;
use crate::keys::{Keys, public_bytes};
use crate::network::{Kind, Network};

/// Validators that share one key.
pub type Group = standard::Scheme<PublicKey, MinPk>;
/// Validators that sign one by one.
pub type Individuals = ed25519::Scheme;

/// A signing scheme whose finalizations are certificates of the ledger.
pub trait Scheme: commonware_consensus::simplex::scheme::Scheme<Digest, PublicKey = PublicKey> {
    /// The scheme of a node of that network; `None` if the network signs in another way. It signs only if it may vote
    /// and the keys are a validator's.
    fn of(network: &Network, keys: &Keys, may_vote: bool) -> Option<Self>;

    /// The certificate of the block that the finalization is of, or of its ancestor before these descendants.
    fn certificate(&self, finalization: &Finalization<Self, Digest>, descendants: Vec<Header>) -> Option<Certificate>;

    /// The engine's form of a certificate that has no descendants.
    fn finalization(&self, certificate: &Certificate, block: Digest) -> Option<Finalization<Self, Digest>>;
}

impl Scheme for Group {
    fn of(network: &Network, keys: &Keys, may_vote: bool) -> Option<Self> {
        let Kind::Threshold(sharing) = network.kind() else { return None };
        let (namespace, participants) = (network.namespace(), network.participants().clone());
        let me = commonware_cryptography::Signer::public_key(keys.identity());
        let share = keys.share().filter(|_| may_vote && network.is_share_of(keys));
        let signer =
            share.and_then(|share| Self::signer(&namespace, participants.clone(), sharing.clone(), share.clone()));
        let member = || Self::member(&namespace, participants.clone(), sharing.clone(), &me);
        Some(
            signer.or_else(member).unwrap_or_else(|| Self::verifier(&namespace, participants.clone(), sharing.clone())),
        )
    }

    fn certificate(&self, finalization: &Finalization<Self, Digest>, descendants: Vec<Header>) -> Option<Certificate> {
        let mut threshold =
            Threshold { group_key: [0; 48], finality: finality(finalization, descendants), signature: [0; 96] };
        threshold.group_key.copy_from_slice(&self.identity().encode());
        threshold.signature.copy_from_slice(&finalization.certificate.encode());
        Some(Certificate::Threshold(threshold))
    }

    fn finalization(&self, certificate: &Certificate, block: Digest) -> Option<Finalization<Self, Digest>> {
        let Certificate::Threshold(threshold) = certificate else { return None };
        let signature = G2::decode(Copying(&threshold.signature)).ok()?;
        let certificate = GroupCertificate::new(signature);
        Some(Finalization { proposal: proposal(&threshold.finality, block)?, certificate })
    }
}

impl Scheme for Individuals {
    fn of(network: &Network, keys: &Keys, may_vote: bool) -> Option<Self> {
        let (Kind::Committee | Kind::Chartered(_)) = network.kind() else { return None };
        let (namespace, participants) = (network.namespace(), network.participants().clone());
        let me = commonware_cryptography::Signer::public_key(keys.identity());
        let signer =
            may_vote.then(|| Self::signer(&namespace, participants.clone(), keys.identity().clone())).flatten();
        let member = || Self::member(&namespace, participants.clone(), &me);
        Some(signer.or_else(member).unwrap_or_else(|| Self::verifier(&namespace, participants.clone())))
    }

    fn certificate(&self, finalization: &Finalization<Self, Digest>, descendants: Vec<Header>) -> Option<Certificate> {
        let Signatures { signers, signatures } = &finalization.certificate;
        let vote = |(signer, signature): (Participant, &commonware_codec::types::lazy::Lazy<Signature>)| {
            let mut bytes = [0; 64];
            bytes.copy_from_slice(&signature.encode());
            Vote { signer: signer.get() as usize, signature: bytes }
        };
        let votes = signers.iter().zip(signatures).map(vote).collect();
        let keys = self.participants().iter().map(public_bytes).collect();
        Some(Certificate::Committee(Committee {
            charter: None,
            keys,
            finality: finality(finalization, descendants),
            votes,
        }))
    }

    fn finalization(&self, certificate: &Certificate, block: Digest) -> Option<Finalization<Self, Digest>> {
        let Certificate::Committee(committee) = certificate else { return None };
        let count = u32::try_from(committee.keys.len()).ok()?;
        let places = committee.votes.iter().map(|vote| u32::try_from(vote.signer).ok().map(Participant::new));
        let signers = Signers::new(count, places.collect::<Option<Vec<_>>>()?).ok()?;
        let signature = |vote: &Vote| Signature::decode(Copying(&vote.signature)).ok().map(Into::into);
        let signatures = committee.votes.iter().map(signature).collect::<Option<Vec<_>>>()?;
        let certificate = Signatures { signers, signatures };
        Some(Finalization { proposal: proposal(&committee.finality, block)?, certificate })
    }
}

fn finality<S: Scheme>(finalization: &Finalization<S, Digest>, descendants: Vec<Header>) -> Finality {
    let Proposal { round, parent, .. } = &finalization.proposal;
    Finality { epoch: round.epoch().get(), view: round.view().get(), parent: parent.get(), descendants }
}

fn proposal(finality: &Finality, payload: Digest) -> Option<Proposal<Digest>> {
    let round = Round::new(Epoch::new(finality.epoch), View::new(finality.view));
    finality.descendants.is_empty().then(|| Proposal { round, parent: View::new(finality.parent), payload })
}
