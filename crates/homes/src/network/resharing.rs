//! A node takes part in handing its network's one key on to the set of validators that comes.
//!
//! Once the ledger names another set, its nodes and those that have shares hold a ceremony, by letters over the connections of the engine, while blocks
//! go on. What all of them signed is posted on the ledger; with that it counts, and the ledger says from which block on.
//!
//! - **Owns** when a ceremony is held, what is durable before the node signs, and what its operator is told.
//! - **Does not** run the protocol, nor say when a set takes over: `consensus` and `ledger` do.
//!
//! # Invariants
//! - **R1** The count of beginnings is durable before the node says a word; the new share, beside the one in force, and then what it agreed to, before
//!   it signs.
//! - **R2** Nothing here stops the ordering of blocks: what fails is told, and tried again.
//!
//! Protocol: `docs/design/consensus.md`, section *Resharing*.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{U64, hex};
use blockhouse_consensus::ceremony::{Ceremony, Outgoing, Plan, PlanError, Record};
use blockhouse_consensus::tuning::{CEREMONY_PARTING, CEREMONY_TICK};
use blockhouse_consensus::{Keys, Network, Post};
use blockhouse_ledger::contracts::GroupValidators::postOutcomeCall;
use blockhouse_ledger::governance::validators_address;
use blockhouse_ledger::resharing::{Coming, Outcome, coming};
use tokio::task::JoinHandle;

use super::chain::{Chain, ChainError};
use super::folder::{FolderError, NodeFolder};
use super::network_file::NetworkFile;
use super::speaker::Speaker;
use super::tenure::held;
use crate::chain::chain;
use crate::rpc::{MadeOutcome, ResharingStatus};
use crate::store::Store;

/// Gas to post an outcome: that of the greatest sets fits.
const GAS: u64 = 16_000_000;
/// Ticks between two looks at the ledger, if it has a new block.
const LOOK: u32 = 2;
/// Ticks that each participant waits for those before it to post the outcome: any one is enough.
const TURN: u32 = 12;
/// Ticks after which what failed is tried again.
const AGAIN: u32 = 40;

/// Why a node takes no part in a resharing at the moment.
#[derive(Debug, thiserror::Error)]
enum ReshareError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("there can be no ceremony for the set that comes")]
    Plan(#[from] PlanError),
}

/// What is told of it; nothing while nothing is to be handed on.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How it stands.
    pub(super) status: Option<ResharingStatus>,
    /// What all signed, until it stands on the ledger.
    pub(super) outcome: Option<MadeOutcome>,
}

pub(super) type HandingOn = Arc<Mutex<Told>>;

/// What a node needs to take part.
#[derive(Clone)]
pub(super) struct Resharing {
    pub(super) folder: NodeFolder,
    pub(super) file: NetworkFile,
    pub(super) chain: Arc<Chain>,
    pub(super) speaker: Speaker,
    pub(super) told: HandingOn,
}

/// A ceremony that this node takes part in.
struct Session {
    plan: Plan,
    coming: Coming,
    keys: Keys,
    record: Record,
    ceremony: Ceremony,
    /// Ticks since all signed, and since it failed.
    complete: u32,
    failed: u32,
}

/// The part of the node while one engine runs.
struct Part {
    with: Resharing,
    network: Arc<Network>,
    post: Post,
    coming: Option<Coming>,
    session: Option<Session>,
    posting: Option<JoinHandle<Option<String>>>,
    /// Why the last try failed.
    trouble: Option<String>,
    guests: BTreeMap<[u8; 32], String>,
    /// The head at the last look.
    looked: Option<u64>,
    is_settled: bool,
    ticks: u32,
    /// Nothing is begun before this tick.
    pause: u32,
}

impl Resharing {
    /// Takes part as long as the engine of that network runs.
    pub(super) async fn run(self, network: Arc<Network>, post: Post) {
        let part = Part {
            with: self,
            network,
            post,
            coming: None,
            session: None,
            posting: None,
            trouble: None,
            guests: BTreeMap::new(),
            looked: None,
            is_settled: false,
            ticks: 0,
            pause: 0,
        };
        Box::pin(part.run()).await;
    }
}

impl Part {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(CEREMONY_TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let sends = tokio::select! {
                heard = self.post.recv() => {
                    let Some(heard) = heard else { return };
                    self.session.as_mut().map(|it| it.ceremony.hear(&mut rand::rng(), &heard.from, &heard.bytes))
                }
                _ = tick.tick() => {
                    self.ticks = self.ticks.saturating_add(1);
                    let done = tokio::task::block_in_place(|| self.look());
                    self.note(done);
                    self.admit().await;
                    self.speak().await;
                    self.session.as_mut().map(|session| session.ceremony.tick(&mut rand::rng()))
                }
            };
            // R1: what they say rests on what is durable now.
            let kept = tokio::task::block_in_place(|| self.keep());
            self.note(kept);
            for Outgoing { to, message } in sends.unwrap_or_default() {
                self.post.send(to, &message.encode());
            }
            self.tell();
        }
    }

    /// R2.
    fn note(&mut self, done: Result<(), ReshareError>) {
        if let Err(error) = done {
            self.fail(chain(&error));
        }
    }

    fn fail(&mut self, why: String) {
        self.trouble = Some(why);
        self.session = None;
        self.pause = self.ticks.saturating_add(AGAIN);
    }

    /// Looks what the ledger says, and begins or ends a ceremony by that.
    fn look(&mut self) -> Result<(), ReshareError> {
        let head = self.with.chain.head();
        if self.ticks.is_multiple_of(LOOK) && self.looked != Some(head.height()) {
            let found = coming(head.genesis(), head.head().header(), &head);
            self.coming = found.map_err(|error| ChainError::of_call(&head, error))?;
            self.looked = Some(head.height());
            if !self.is_settled && head.height() > self.network.base().height {
                // The tenure has begun, and that is final: what is left of those before is erased. R2: what cannot be is tried above the next block.
                match self.settle(&head) {
                    Ok(()) => self.is_settled = true,
                    Err(error) => self.trouble = Some(chain(&error)),
                }
            }
        }
        let open = self.coming.as_ref().filter(|coming| coming.takes_over.is_none());
        let id = open.map(|coming| coming.step.ceremony());
        if self.session.as_ref().is_some_and(|session| Some(*session.plan.id()) != id) {
            self.session = None;
        }
        let Some(coming) = open.cloned() else {
            self.trouble = None;
            return Ok(());
        };
        if self.session.is_none() && self.ticks >= self.pause {
            self.session = self.begin(coming)?;
            if self.session.is_none() {
                // Whoever takes no part looks again some time later.
                self.pause = self.ticks.saturating_add(AGAIN);
            }
        }
        Ok(())
    }

    fn settle(&self, head: &Store) -> Result<(), ReshareError> {
        Ok(self.with.folder.settle_shares(&held(head, &self.with.file)?)?)
    }

    /// Begins, if this node is a participant. R1.
    fn begin(&self, coming: Coming) -> Result<Option<Session>, ReshareError> {
        // Above a closing block the word is with the next engine, which has the shares of that tenure.
        if self.network.polynomial().as_ref() != Some(&coming.step.holders.polynomial) {
            return Ok(None);
        }
        let keys = self.with.folder.keys_for(&self.network)?;
        let is_dealer = coming.step.dealers.contains(&keys.public());
        let takes_part = coming.step.participants().contains(&keys.public());
        // A dealer without its share has nothing to hand on: the others wait for it by name.
        if !takes_part || (is_dealer && !self.network.is_share_of(&keys)) {
            return Ok(None);
        }
        let plan = Plan::of_step(&coming.step)?;
        let mut record = self.with.folder.read_resharing()?;
        record.incarnation = record.incarnation.saturating_add(1);
        self.with.folder.write_resharing(&record)?;
        let polynomial = record.agreed.as_ref().map(blockhouse_consensus::ceremony::Agreed::polynomial);
        let kept = polynomial.map(|it| self.with.folder.kept_share(&keys, &it)).transpose()?.flatten();
        let agreed = record.of(&plan, kept.as_ref().unwrap_or(&keys));
        let ceremony = Ceremony::new(plan.clone(), keys.clone(), record.incarnation, agreed);
        Ok(Some(Session { plan, coming, keys, record, ceremony, complete: 0, failed: 0 }))
    }

    /// Makes durable what must be before this node signs.
    fn keep(&mut self) -> Result<(), ReshareError> {
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let Some((agreed, share)) = session.ceremony.to_keep() else { return Ok(()) };
        if let Some(share) = share {
            let from = &session.coming.step.holders.polynomial;
            self.with.folder.keep_share(&session.keys, share, from, &agreed.polynomial())?;
        }
        session.record.agreed = Some(agreed.clone());
        self.with.folder.write_resharing(&session.record)?;
        session.ceremony.kept();
        Ok(())
    }

    /// Lets those in who take part and do not vote yet.
    async fn admit(&mut self) {
        let validators = self.network.validators();
        let mut guests = BTreeMap::new();
        if let Some(coming) = &self.coming {
            let participants = coming.step.participants();
            for member in coming.members.iter().filter(|member| participants.contains(&member.key)) {
                if validators.binary_search(&member.key).is_err() {
                    guests.insert(member.key, member.address.clone());
                }
            }
        }
        if guests != self.guests {
            self.post.admit(guests.clone()).await;
            self.guests = guests;
        }
    }

    /// Posts the outcome once all signed it, each participant in its turn until it stands on the ledger.
    async fn speak(&mut self) {
        if self.posting.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(posting) = self.posting.take()
        {
            self.trouble = posting.await.ok().flatten();
            self.pause = self.ticks.saturating_add(AGAIN);
        }
        let Some(session) = self.session.as_mut() else { return };
        if let Some(failure) = session.ceremony.failure() {
            session.failed += 1;
            if session.failed > CEREMONY_PARTING {
                let why = failure.tell(|key| name_of(&self.with.file, &session.coming, key));
                self.fail(why);
            }
            return;
        }
        let Some(outcome) = session.ceremony.outcome().map(blockhouse_consensus::ceremony::Outcome::posted) else {
            return;
        };
        session.ceremony.recorded();
        session.complete = session.complete.saturating_add(1);
        let place = session.coming.step.players.binary_search(&session.keys.public()).ok();
        let Some(turn) = place.and_then(|place| u32::try_from(place).ok()) else { return };
        let is_due = session.complete > turn.saturating_mul(TURN) && self.ticks >= self.pause;
        if self.posting.is_none() && is_due {
            if !session.coming.is_operator(&self.with.speaker.account()) {
                // Those who may post it do; `tell` says that somebody has to.
                return;
            }
            let (speaker, from) = (self.with.speaker.clone(), session.coming.from);
            self.posting = Some(tokio::spawn(post(speaker, from, outcome)));
        }
    }

    /// What all signed, in the form in which it is posted.
    fn made(&self) -> Option<MadeOutcome> {
        let session = self.session.as_ref()?;
        let outcome = session.ceremony.outcome()?.posted().encode();
        Some(MadeOutcome { from: U64::from(session.coming.from), outcome: outcome.into() })
    }

    /// What the operator is told.
    fn tell(&self) {
        let (file, account, outcome) = (&self.with.file, self.with.speaker.account(), self.made());
        let status = self.coming.as_ref().map(|coming| {
            let progress = self.session.as_ref().map(|session| session.ceremony.progress()).unwrap_or_default();
            let name = |key: &[u8; 32]| name_of(file, coming, key);
            let awaited = progress.awaited.iter().filter(|key| !progress.absent.contains(key));
            ResharingStatus {
                from: coming.from,
                takes_over: coming.takes_over,
                absent: progress.absent.iter().map(name).collect(),
                awaited: awaited.map(name).collect(),
                complete: progress.complete,
                to_post: outcome.is_some() && !coming.is_operator(&account),
                trouble: self.trouble.clone(),
            }
        });
        *self.with.told.lock().unwrap_or_else(PoisonError::into_inner) = Told { status, outcome };
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(posting) = self.posting.take() {
            posting.abort();
        }
    }
}

/// Gives why it was not posted.
async fn post(mut speaker: Speaker, from: u64, outcome: Outcome) -> Option<String> {
    let call = postOutcomeCall { epoch_: from, data: outcome.encode().into() };
    speaker.say(validators_address(), &call, GAS).await.err().map(|error| chain(&error))
}

/// What a node is called, and where it is.
fn name_of(file: &NetworkFile, coming: &Coming, key: &[u8; 32]) -> String {
    let enrolment = file.enrolments.iter().find(|enrolment| enrolment.key() == key);
    let name = enrolment.map_or_else(|| hex::encode(key), |enrolment| format!("`{}`", enrolment.name()));
    let member = coming.members.iter().find(|member| member.key == *key);
    match member {
        Some(member) => format!("{name} ({})", member.address),
        None => name,
    }
}
