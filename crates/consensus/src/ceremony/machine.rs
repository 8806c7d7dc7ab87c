//! The part of one node in a ceremony.
//!
//! What must be durable is said by [`Ceremony::to_keep`] and [`Ceremony::outcome`]; nothing that depends on it is sent before
//! [`Ceremony::kept`] and [`Ceremony::recorded`] are called. Everything that may be lost is sent again at each tick.

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_crypto::hash::hash;
use blockhouse_types::Encoder;
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::ed25519::PublicKey;
use rand::CryptoRng;

use super::attempt::{Attempt, Heard};
use super::failure::Failure;
use super::message::{Body, Here, Message, Signed};
use super::plan::Plan;
use super::presence::{Presence, Progress};
use super::record::{Agreed, Attestation, Outcome};
use crate::keys::{Keys, is_outcome_of, public_bytes};

const ATTEMPT: &str = "blockhouse v1 ceremony attempt";

/// A message to one participant.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Who is to have it, and nobody else.
    pub to: [u8; 32],
    /// What it says.
    pub message: Message,
}

/// What this node signed, and who else did.
struct Standing {
    agreed: Agreed,
    share: Option<Share>,
    statement: Vec<u8>,
    signatures: BTreeMap<u32, [u8; 64]>,
}

/// The part of one node.
pub struct Ceremony {
    plan: Plan,
    keys: Keys,
    me: PublicKey,
    /// How often each participant began, as far as it was heard.
    incarnations: BTreeMap<PublicKey, u64>,
    presence: Presence,
    attempt: Option<Attempt>,
    /// Who said that it is in this attempt, and so in no earlier one any more.
    entered: BTreeSet<PublicKey>,
    unkept: Option<(Agreed, Option<Share>)>,
    standing: Option<Standing>,
    outcome: Option<Outcome>,
    is_recorded: bool,
    failed: Option<Failure>,
    /// What the others are told of a failure.
    parting: Vec<Body>,
}

impl Ceremony {
    /// Begins. The incarnation must be higher than any before, durably; what was agreed to before is taken up.
    pub fn new(plan: Plan, keys: Keys, incarnation: u64, agreed: Option<(Agreed, Option<Share>)>) -> Self {
        let me = commonware_cryptography::Signer::public_key(keys.identity());
        let others = plan.all().iter().filter(|key| **key != me).cloned();
        let mut this = Self {
            presence: Presence::new(others),
            incarnations: BTreeMap::from([(me.clone(), incarnation)]),
            plan,
            keys,
            me,
            attempt: None,
            entered: BTreeSet::new(),
            unkept: None,
            standing: None,
            outcome: None,
            is_recorded: false,
            failed: None,
            parting: Vec::new(),
        };
        if let Some((agreed, share)) = agreed {
            this.stand_by(agreed, share);
        }
        this
    }

    /// Takes up that the ceremony was over already: this node has its key, and is there for those that do not know yet.
    #[must_use]
    pub fn completed(mut self, attestation: &Attestation) -> Self {
        if let Some(standing) = self.standing.as_mut().filter(|own| own.agreed.transcript() == attestation.transcript) {
            standing.signatures = (0..).zip(attestation.signatures.iter().copied()).collect();
        }
        self
    }

    /// Time passes; gives what is to be sent, all that may have been lost again.
    pub fn tick(&mut self, rng: &mut impl CryptoRng) -> Vec<Outgoing> {
        self.presence.tick();
        self.advance(rng);
        self.sends()
    }

    /// What a participant sent; gives what is to be sent at once. Bytes that are no message of this ceremony change nothing.
    pub fn hear(&mut self, rng: &mut impl CryptoRng, from: &[u8; 32], bytes: &[u8]) -> Vec<Outgoing> {
        let Ok(from) = PublicKey::decode(Copying(from)) else { return Vec::new() };
        let is_other = from != self.me && self.plan.all().position(&from).is_some();
        let Some(message) = Message::decode(bytes).ok().filter(|_| is_other && self.failed.is_none()) else {
            return Vec::new();
        };
        if message.ceremony != *self.plan.id() {
            self.presence.hear_strange(&from);
            return Vec::new();
        }
        let mut replies = match self.take(rng, &from, message.body) {
            Ok(replies) => replies,
            Err(failure) => {
                self.fail(failure);
                return self.sends();
            }
        };
        if self.advance(rng) {
            replies.extend(self.sends());
        }
        replies
    }

    /// What must be durable before this node signs: what it agreed to, and its share.
    pub fn to_keep(&self) -> Option<(&Agreed, Option<&Share>)> {
        self.unkept.as_ref().map(|(agreed, share)| (agreed, share.as_ref()))
    }

    /// It is durable: the node signs, and never forgets that it did.
    pub fn kept(&mut self) {
        if let Some((agreed, share)) = self.unkept.take() {
            self.stand_by(agreed, share);
        }
    }

    /// The key, once all signed.
    pub const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The key is durable: the others are told.
    pub const fn recorded(&mut self) {
        self.is_recorded = self.outcome.is_some();
    }

    /// True once this node has the key and every other said so too.
    pub fn is_over(&self) -> bool {
        self.is_recorded && self.progress().unfinished.is_empty()
    }

    /// Why it failed; then it sends only why, for some ticks, so that the others know.
    pub const fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    /// How it stands.
    pub fn progress(&self) -> Progress {
        let others = self.plan.all().iter().filter(|key| **key != self.me);
        let awaited = others.filter(|key| self.awaits(key)).map(public_bytes).collect();
        self.presence.progress(self.outcome.is_some(), awaited)
    }

    fn awaits(&self, key: &PublicKey) -> bool {
        let Some(attempt) = &self.attempt else { return false };
        let has_agreed = self.standing.as_ref().is_some_and(|own| own.agreed.attempt == *attempt.id());
        if has_agreed { !self.has_signed(key, attempt.id()) } else { attempt.is_open_of(key, &self.plan) }
    }

    fn stand_by(&mut self, agreed: Agreed, share: Option<Share>) {
        let statement = agreed.statement();
        let own = self.keys.sign_outcome(&statement);
        let place = self.plan.all().position(&self.me).and_then(|place| u32::try_from(place).ok());
        let signatures = place.map(|place| (place, own)).into_iter().collect();
        self.standing = Some(Standing { agreed, share, statement, signatures });
    }

    fn fail(&mut self, failure: Failure) {
        if let (Failure::WrongShare { dealer }, Some(attempt)) = (&failure, &self.attempt) {
            self.parting.push(Body::Complaint { attempt: *attempt.id(), dealer: *dealer });
        }
        self.failed = Some(failure);
    }

    fn take(&mut self, rng: &mut impl CryptoRng, from: &PublicKey, body: Body) -> Result<Vec<Outgoing>, Failure> {
        let id = match &body {
            Body::Here(here) => return Ok(self.hear_here(from, here)),
            Body::Deal { attempt, .. }
            | Body::Ack { attempt, .. }
            | Body::Log { attempt, .. }
            | Body::Complaint { attempt, .. } => *attempt,
        };
        self.presence.hear(from);
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| *attempt.id() == id) else { return Ok(Vec::new()) };
        match body {
            Body::Here(_) => {}
            Body::Deal { commitment, share, .. } => {
                let ack = attempt.hear_deal(from, commitment, share)?;
                let reply = |ack| self.to(from, Body::Ack { attempt: id, ack });
                return Ok(ack.map(reply).into_iter().collect());
            }
            Body::Ack { ack, .. } => attempt.hear_ack(from, ack),
            Body::Log { log, .. } => {
                if let Heard::Two { dealer, logs } = attempt.hear_log(rng, log)? {
                    // The others are given both, so that they see it too.
                    self.parting = (*logs).map(|log| Body::Log { attempt: id, log }).into();
                    return Err(Failure::TwoLogs { dealer });
                }
            }
            Body::Complaint { dealer, .. } => return Err(Failure::Complaint { by: public_bytes(from), dealer }),
        }
        Ok(Vec::new())
    }

    fn hear_here(&mut self, from: &PublicKey, here: &Here) -> Vec<Outgoing> {
        let Here { incarnation, attempt, signed, finished } = here;
        let (incarnation, attempt) = (*incarnation, *attempt);
        let known = self.incarnations.get(from).copied();
        if known.is_some_and(|known| incarnation < known) {
            return Vec::new();
        }
        self.presence.hear(from);
        if known != Some(incarnation) {
            self.incarnations.insert(from.clone(), incarnation);
            // It forgot what it was in; whoever goes on without it never ends.
            self.attempt = None;
            self.entered.clear();
        }
        if self.attempt.as_ref().is_some_and(|own| attempt == Some(*own.id())) {
            self.entered.insert(from.clone());
        }
        if *finished {
            self.presence.finish(from);
        }
        signed.as_ref().map(|signed| self.hear_signed(from, signed)).unwrap_or_default()
    }

    /// Takes the signatures of what this node signed too. Where the logs differ, the own ones go back: they prove who dealt two.
    fn hear_signed(&mut self, from: &PublicKey, signed: &Signed) -> Vec<Outgoing> {
        let Some(standing) = self.standing.as_mut() else { return Vec::new() };
        if standing.agreed.attempt != signed.attempt {
            return Vec::new();
        }
        if standing.agreed.logs == signed.logs {
            for (place, signature) in &signed.signatures {
                let key = self.plan.all().get(*place as usize);
                let holds = |key| is_outcome_of(&public_bytes(key), &standing.statement, signature);
                if !standing.signatures.contains_key(place) && key.is_some_and(holds) {
                    standing.signatures.insert(*place, *signature);
                }
            }
            return Vec::new();
        }
        let own = standing.agreed.logs.clone();
        self.logs_that_differ(&own, signed).into_iter().map(|body| self.to(from, body)).collect()
    }

    fn logs_that_differ(&self, own: &[[u8; 32]], signed: &Signed) -> Vec<Body> {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| *attempt.id() == signed.attempt) else {
            return Vec::new();
        };
        let pairs = own.iter().zip(&signed.logs).zip(self.plan.dealers().iter());
        let differ = pairs.filter(|((own, other), _)| own != other).filter_map(|(_, dealer)| attempt.log_of(dealer));
        differ.map(|log| Body::Log { attempt: signed.attempt, log: log.clone() }).collect()
    }

    /// Goes on as far as it can; true if something is new for the others.
    fn advance(&mut self, rng: &mut impl CryptoRng) -> bool {
        match self.try_advance(rng) {
            Ok(is_new) => is_new,
            Err(failure) => {
                self.fail(failure);
                true
            }
        }
    }

    fn try_advance(&mut self, rng: &mut impl CryptoRng) -> Result<bool, Failure> {
        if self.failed.is_some() || self.outcome.is_some() {
            return Ok(false);
        }
        if let Some(standing) = self.standing.as_ref().filter(|own| own.signatures.len() == self.plan.all().len()) {
            let signatures = standing.signatures.values().copied().collect();
            let attestation = Attestation { transcript: standing.agreed.transcript(), signatures };
            let sharing = standing.agreed.sharing.clone();
            self.outcome = Some(Outcome { sharing, share: standing.share.clone(), attestation });
            self.attempt = None;
            return Ok(true);
        }
        let mut is_new = false;
        if self.attempt.is_none() && self.incarnations.len() == self.plan.all().len() {
            self.attempt = Some(Attempt::start(rng, &self.plan, &self.keys, self.attempt_id())?);
            is_new = true;
        }
        let Some(attempt) = self.attempt.as_mut() else { return Ok(is_new) };
        is_new |= attempt.close(rng)?;
        let has_agreed = self.standing.as_ref().is_some_and(|own| own.agreed.attempt == *attempt.id());
        // All others are in this attempt: what they signed before was heard, and not all signed it, or the ceremony would be over.
        let all_entered = self.entered.len() + 1 == self.plan.all().len();
        if !has_agreed && self.unkept.is_none() && all_entered && attempt.is_closed(&self.plan) {
            self.unkept = Some(attempt.reckon(rng, &self.plan)?);
        }
        Ok(is_new)
    }

    /// The attempt that everybody is in who heard the same of everybody.
    fn attempt_id(&self) -> [u8; 32] {
        let mut encoder = Encoder::new();
        encoder.raw(self.plan.id()).list(self.incarnations.iter(), |encoder, (key, incarnation)| {
            encoder.raw(key.as_ref()).u64(*incarnation);
        });
        hash(ATTEMPT, encoder.as_slice())
    }

    fn to(&self, to: &PublicKey, body: Body) -> Outgoing {
        Outgoing { to: public_bytes(to), message: Message { ceremony: *self.plan.id(), body } }
    }

    /// All that the others do not have yet, as far as this node knows.
    fn sends(&self) -> Vec<Outgoing> {
        let others = self.plan.all().iter().filter(|key| **key != self.me);
        others.flat_map(|key| self.sends_to(key).into_iter().map(|body| self.to(key, body))).collect()
    }

    fn sends_to(&self, key: &PublicKey) -> Vec<Body> {
        if self.failed.is_some() {
            return self.parting.clone();
        }
        let mut bodies = vec![self.here()];
        let Some(attempt) = self.attempt.as_ref().filter(|_| !self.presence.has_finished(key)) else { return bodies };
        let id = *attempt.id();
        bodies.extend(attempt.deal_for(key).map(|(commitment, share)| Body::Deal { attempt: id, commitment, share }));
        if !self.has_signed(key, &id) {
            bodies.extend(attempt.log_of(&self.me).map(|log| Body::Log { attempt: id, log: log.clone() }));
        }
        bodies
    }

    fn has_signed(&self, key: &PublicKey, attempt: &[u8; 32]) -> bool {
        let place = self.plan.all().position(key).and_then(|place| u32::try_from(place).ok());
        let of_it = self.standing.as_ref().filter(|standing| standing.agreed.attempt == *attempt);
        of_it.zip(place).is_some_and(|(standing, place)| standing.signatures.contains_key(&place))
    }

    fn here(&self) -> Body {
        let signed = self.standing.as_ref().map(|standing| Signed {
            attempt: standing.agreed.attempt,
            logs: standing.agreed.logs.clone(),
            signatures: standing.signatures.iter().map(|(place, signature)| (*place, *signature)).collect(),
        });
        Body::Here(Here {
            incarnation: self.incarnations.get(&self.me).copied().unwrap_or_default(),
            attempt: self.attempt.as_ref().map(|attempt| *attempt.id()),
            signed,
            finished: self.is_recorded,
        })
    }
}

impl std::fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ceremony").field("plan", &hex::encode(self.plan.id())).finish_non_exhaustive()
    }
}
