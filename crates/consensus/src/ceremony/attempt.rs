//! One attempt: every dealer deals one polynomial, every player answers, every dealer publishes its log.

use std::collections::BTreeMap;

use blockhouse_crypto::hash::hash;
use commonware_codec::Encode;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    Dealer, DealerLog, DealerLogSummary, DealerMessageError, DealerPrivMsg, DealerPubMsg, Failure as Unusable, Info,
    Logs, Player, PlayerAck, SignedDealerLog, observe,
};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_parallel::Sequential;
use commonware_utils::N3f1;
use commonware_utils::ordered::Set;
use rand::CryptoRng;

use super::failure::Failure;
use super::plan::Plan;
use super::record::Agreed;
use crate::keys::{Keys, public_bytes};

const LOG: &str = "blockhouse v1 ceremony log";

pub(super) type SignedLog = SignedDealerLog<MinPk, PublicKey>;
type Log = DealerLog<MinPk, PublicKey>;

/// A log that was checked, and what its dealer signed of it.
struct Checked {
    log: Log,
    signed: SignedLog,
}

/// The part of this node in one attempt.
pub(super) struct Attempt {
    id: [u8; 32],
    info: Info<MinPk, PublicKey>,
    /// Until its log is made.
    dealer: Option<Dealer<MinPk, PrivateKey>>,
    commitment: Option<DealerPubMsg<MinPk>>,
    /// The shares of players that did not answer yet: only for being sent again.
    unanswered: BTreeMap<PublicKey, DealerPrivMsg>,
    /// Until the outcome is reckoned.
    player: Option<Player<MinPk, PrivateKey>>,
    acks: BTreeMap<PublicKey, PlayerAck<PublicKey>>,
    logs: BTreeMap<PublicKey, Checked>,
    dealers: Set<PublicKey>,
}

/// What to answer to a log.
pub(super) enum Heard {
    /// Nothing.
    Known,
    /// It was new.
    New,
    /// Its dealer signed another one too; these are the two.
    Two { dealer: [u8; 32], logs: Box<[SignedLog; 2]> },
}

impl Attempt {
    /// Begins with a fresh polynomial.
    pub(super) fn start(rng: &mut impl CryptoRng, plan: &Plan, keys: &Keys, id: [u8; 32]) -> Result<Self, Failure> {
        let unfit = |reason: &dyn std::fmt::Display| Failure::NoKey { reason: reason.to_string() };
        let info = plan.info(&id).ok_or_else(|| unfit(&"its participants do not fit"))?;
        let me = commonware_cryptography::Signer::public_key(keys.identity());
        let mut this = Self {
            id,
            dealer: None,
            commitment: None,
            unanswered: BTreeMap::new(),
            player: None,
            acks: BTreeMap::new(),
            logs: BTreeMap::new(),
            dealers: plan.dealers().clone(),
            info: info.clone(),
        };
        if plan.players().position(&me).is_some() {
            let player = Player::new(info.clone(), keys.identity().clone());
            this.player = Some(player.map_err(|error| unfit(&error))?);
        }
        if plan.dealers().position(&me).is_some() {
            let share = keys.share().filter(|_| plan.is_reshare()).cloned();
            let started = Dealer::start::<N3f1>(&mut *rng, info, keys.identity().clone(), share);
            let (dealer, commitment, shares) = started.map_err(|error| unfit(&error))?;
            this.dealer = Some(dealer);
            this.unanswered = shares.into_iter().collect();
            this.commitment = Some(commitment.clone());
            if let Some(share) = this.unanswered.get(&me).cloned() {
                let ack = this.hear_deal(&me, commitment, share)?;
                if let Some(ack) = ack {
                    this.hear_ack(&me, ack);
                }
            }
        }
        Ok(this)
    }

    pub(super) const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// What a player has not answered yet.
    pub(super) fn deal_for(&self, player: &PublicKey) -> Option<(DealerPubMsg<MinPk>, DealerPrivMsg)> {
        let share = self.unanswered.get(player)?;
        Some((self.commitment.clone()?, share.clone()))
    }

    /// The log of a dealer, as it signed it.
    pub(super) fn log_of(&self, dealer: &PublicKey) -> Option<&SignedLog> {
        self.logs.get(dealer).map(|checked| &checked.signed)
    }

    /// A dealing for this node; gives the answer.
    pub(super) fn hear_deal(
        &mut self,
        dealer: &PublicKey,
        commitment: DealerPubMsg<MinPk>,
        share: DealerPrivMsg,
    ) -> Result<Option<PlayerAck<PublicKey>>, Failure> {
        let Some(player) = self.player.as_mut() else { return Ok(self.acks.get(dealer).cloned()) };
        match player.dealer_message::<N3f1>(dealer.clone(), commitment, share) {
            Ok(Some(ack)) => {
                self.acks.insert(dealer.clone(), ack);
            }
            // It was answered before; the answer was lost.
            Ok(None) | Err(DealerMessageError::UnexpectedDealer) => {}
            Err(_) => return Err(Failure::WrongShare { dealer: public_bytes(dealer) }),
        }
        Ok(self.acks.get(dealer).cloned())
    }

    /// A player's answer. One that does not hold is as none: the player may have answered another dealing of a dealer that sent two.
    pub(super) fn hear_ack(&mut self, player: &PublicKey, ack: PlayerAck<PublicKey>) {
        let Some(dealer) = self.dealer.as_mut() else { return };
        if dealer.receive_player_ack(player.clone(), ack).is_ok() {
            self.unanswered.remove(player);
        }
    }

    /// Makes the own log once all players answered, and never before: so it reveals nothing. True if it was made.
    pub(super) fn close(&mut self, rng: &mut impl CryptoRng) -> Result<bool, Failure> {
        if !self.unanswered.is_empty() {
            return Ok(false);
        }
        let Some(dealer) = self.dealer.take() else { return Ok(false) };
        self.hear_log(rng, dealer.finalize::<N3f1>()).map(|_| true)
    }

    /// A dealer's log, from whomever: its signature says whose it is.
    pub(super) fn hear_log(&mut self, rng: &mut impl CryptoRng, signed: SignedLog) -> Result<Heard, Failure> {
        let Some((dealer, log)) = signed.clone().check(&self.info) else { return Ok(Heard::Known) };
        // The engine takes the signature of any key: only dealers have logs, and so there are never more than dealers.
        if self.dealers.position(&dealer).is_none() {
            return Ok(Heard::Known);
        }
        if let Some(known) = self.logs.get(&dealer) {
            if known.log == log {
                return Ok(Heard::Known);
            }
            let logs = Box::new([known.signed.clone(), signed]);
            return Ok(Heard::Two { dealer: public_bytes(&dealer), logs });
        }
        let name = public_bytes(&dealer);
        match log.summary() {
            DealerLogSummary::Ok { reveals, .. } if reveals.is_empty() => {}
            _ => return Err(Failure::Reveals { dealer: name }),
        }
        if let Some(reason) = self.fault(rng, &dealer, &log) {
            return Err(Failure::WrongLog { dealer: name, reason });
        }
        self.logs.insert(dealer, Checked { log, signed });
        Ok(Heard::New)
    }

    /// Why a log does not hold. The engine looks at as many logs as it needs, and here none may be wrong.
    fn fault(&self, rng: &mut impl CryptoRng, dealer: &PublicKey, log: &Log) -> Option<String> {
        let mut alone = Logs::<MinPk, PublicKey, N3f1>::new(self.info.clone());
        alone.record(dealer.clone(), log.clone());
        match observe(rng, alone, &Sequential) {
            Ok(_) => None,
            Err(Unusable::InsufficientLogs { faults, unavailable, .. }) => match faults.get_value(dealer) {
                Some(fault) => Some(fault.to_string()),
                None => unavailable.position(dealer).map(|_| "it is of no dealer, or says nothing".to_owned()),
            },
        }
    }

    /// Of whom an answer or a log is not there.
    pub(super) fn is_open_of(&self, key: &PublicKey, plan: &Plan) -> bool {
        let is_silent = plan.dealers().position(key).is_some() && !self.logs.contains_key(key);
        is_silent || self.unanswered.contains_key(key)
    }

    /// True once the log of every dealer is there.
    pub(super) fn is_closed(&self, plan: &Plan) -> bool {
        self.logs.len() == plan.dealers().len()
    }

    /// The outcome of all logs, and the own share of it.
    pub(super) fn reckon(&mut self, rng: &mut impl CryptoRng, plan: &Plan) -> Result<(Agreed, Option<Share>), Failure> {
        let mut logs = Logs::<MinPk, PublicKey, N3f1>::new(self.info.clone());
        for (dealer, checked) in &self.logs {
            logs.record(dealer.clone(), checked.log.clone());
        }
        let failed = |error: &dyn std::fmt::Display| Failure::NoKey { reason: error.to_string() };
        let (output, share) = match self.player.take() {
            Some(player) => {
                let made = player.finalize::<N3f1>(rng, logs, &Sequential);
                made.map(|(output, share)| (output, Some(share))).map_err(|error| failed(&error))?
            }
            None => (observe(rng, logs, &Sequential).map_err(|error| failed(&error))?, None),
        };
        if !output.revealed().is_empty() {
            return Err(failed(&"shares were revealed"));
        }
        let hashes = self.logs.values().map(|checked| hash(LOG, &checked.log.encode())).collect();
        let (ceremony, attempt) = (*plan.id(), self.id);
        Ok((Agreed { ceremony, attempt, logs: hashes, sharing: output.public().clone() }, share))
    }
}
