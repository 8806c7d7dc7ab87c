//! The part of a node in handing its network's one key on, without clock, wire or account: who drives it brings ticks and letters, and posts what comes of it.
//!
//! - **Owns** when a ceremony is held, what is durable before the node signs, whose turn it is to post, and what the operator is told.
//! - **Does not** run the protocol, nor say when a set takes over: `consensus` and `ledger` do. It waits for nothing.
//!
//! # Invariants
//! - **R1** The count of beginnings is durable before the node says a word; the new share, beside the one in force, and then what it agreed to, before
//!   it signs.
//! - **R2** Nothing here stops the ordering of blocks: what fails is told, and tried again.
//!
//! Protocol: `docs/design/consensus.md`, section *Resharing*.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, U64, hex};
use blockhouse_consensus::ceremony::{Agreed, Ceremony, Outgoing, Plan, PlanError, Record};
use blockhouse_consensus::tuning::CEREMONY_PARTING;
use blockhouse_consensus::{Keys, Network};
use blockhouse_ledger::resharing::{Coming, Outcome, coming};
use rand::CryptoRng;

use super::chain::{Chain, ChainError};
use super::folder::{FolderError, NodeFolder};
use super::network_file::NetworkFile;
use super::tenure::held;
use crate::chain::chain;
use crate::rpc::{MadeOutcome, ResharingStatus};
use crate::store::Store;

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
pub struct HandedOn {
    /// How it stands.
    pub status: Option<ResharingStatus>,
    /// What all signed, until it stands on the ledger.
    pub outcome: Option<MadeOutcome>,
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

/// A node's part while one engine runs.
pub struct Handing {
    folder: NodeFolder,
    file: Arc<NetworkFile>,
    chain: Arc<Chain>,
    network: Arc<Network>,
    /// By which the node would post an outcome.
    account: Address,
    coming: Option<Coming>,
    session: Option<Session>,
    /// Why the last try failed.
    trouble: Option<String>,
    /// The head at the last look.
    looked: Option<u64>,
    is_settled: bool,
    ticks: u32,
    /// Nothing is begun before this tick.
    pause: u32,
}

impl Handing {
    /// Of a node with that folder, in the tenure of that network.
    pub fn new(
        (folder, file): (NodeFolder, Arc<NetworkFile>),
        chain: Arc<Chain>,
        network: Arc<Network>,
        account: Address,
    ) -> Self {
        Self {
            folder,
            file,
            chain,
            network,
            account,
            coming: None,
            session: None,
            trouble: None,
            looked: None,
            is_settled: false,
            ticks: 0,
            pause: 0,
        }
    }

    /// A letter came; gives what is to be sent. R1: what it says rests on what is durable now.
    pub fn hear(&mut self, random: &mut impl CryptoRng, from: &[u8; 32], bytes: &[u8]) -> Vec<Outgoing> {
        let sends = self.session.as_mut().map(|it| it.ceremony.hear(random, from, bytes));
        let kept = self.keep();
        self.note(kept);
        sends.unwrap_or_default()
    }

    /// Time passes, by `CEREMONY_TICK`; gives what is to be sent. R1 likewise.
    pub fn tick(&mut self, random: &mut impl CryptoRng) -> Vec<Outgoing> {
        self.ticks = self.ticks.saturating_add(1);
        let looked = self.look();
        self.note(looked);
        self.count();
        let sends = self.session.as_mut().map(|session| session.ceremony.tick(random));
        let kept = self.keep();
        self.note(kept);
        sends.unwrap_or_default()
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
        let head = self.chain.head();
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
        Ok(self.folder.settle_shares(&held(head, &self.file)?)?)
    }

    /// Begins, if this node is a participant. R1.
    fn begin(&self, coming: Coming) -> Result<Option<Session>, ReshareError> {
        // Above a closing block the word is with the next engine, which has the shares of that tenure.
        if self.network.polynomial().as_ref() != Some(&coming.step.holders.polynomial) {
            return Ok(None);
        }
        let keys = self.folder.keys_for(&self.network)?;
        let is_dealer = coming.step.dealers.contains(&keys.public());
        let takes_part = coming.step.participants().contains(&keys.public());
        // A dealer without its share has nothing to hand on: the others wait for it by name.
        if !takes_part || (is_dealer && !self.network.is_share_of(&keys)) {
            return Ok(None);
        }
        let plan = Plan::of_step(&coming.step)?;
        let mut record = self.folder.read_resharing()?;
        record.incarnation = record.incarnation.saturating_add(1);
        self.folder.write_resharing(&record)?;
        let polynomial = record.agreed.as_ref().map(Agreed::polynomial);
        let kept = polynomial.map(|it| self.folder.kept_share(&keys, &it)).transpose()?.flatten();
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
            self.folder.keep_share(&session.keys, share, from, &agreed.polynomial())?;
        }
        session.record.agreed = Some(agreed.clone());
        self.folder.write_resharing(&session.record)?;
        session.ceremony.kept();
        Ok(())
    }

    /// Those who take part and do not vote yet, with where they are: they are let in.
    pub fn guests(&self) -> BTreeMap<[u8; 32], String> {
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
        guests
    }

    /// Counts since when all signed, or since when it failed.
    fn count(&mut self) {
        let Some(session) = self.session.as_mut() else { return };
        if let Some(failure) = session.ceremony.failure() {
            session.failed += 1;
            if session.failed > CEREMONY_PARTING {
                let why = failure.tell(|key| name_of(&self.file, &session.coming, key));
                self.fail(why);
            }
        } else if session.ceremony.outcome().is_some() {
            session.ceremony.recorded();
            session.complete = session.complete.saturating_add(1);
        }
    }

    /// What is to be posted for the set of which epoch, if it is this node's turn: each participant has one until it stands on the ledger. Those who
    /// may not post it wait for the others; [`Self::told`] says that somebody has to.
    pub fn due(&self) -> Option<(u64, Outcome)> {
        let session = self.session.as_ref()?;
        let outcome = session.ceremony.outcome()?.posted();
        let place = session.coming.step.players.binary_search(&session.keys.public()).ok()?;
        let turn = u32::try_from(place).ok()?;
        let is_due = session.complete > turn.saturating_mul(TURN) && self.ticks >= self.pause;
        (is_due && session.coming.is_operator(&self.account)).then_some((session.coming.from, outcome))
    }

    /// It was posted, or was not for that reason: it is due again after a while, if it does not stand there then.
    pub fn posted(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
        self.pause = self.ticks.saturating_add(AGAIN);
    }

    /// What all signed, in the form in which it is posted.
    fn made(&self) -> Option<MadeOutcome> {
        let session = self.session.as_ref()?;
        let outcome = session.ceremony.outcome()?.posted().encode();
        Some(MadeOutcome { from: U64::from(session.coming.from), outcome: outcome.into() })
    }

    /// What the operator is told.
    pub fn told(&self) -> HandedOn {
        let outcome = self.made();
        let status = self.coming.as_ref().map(|coming| {
            let progress = self.session.as_ref().map(|session| session.ceremony.progress()).unwrap_or_default();
            let name = |key: &[u8; 32]| name_of(&self.file, coming, key);
            let awaited = progress.awaited.iter().filter(|key| !progress.absent.contains(key));
            ResharingStatus {
                from: coming.from,
                takes_over: coming.takes_over,
                absent: progress.absent.iter().map(name).collect(),
                awaited: awaited.map(name).collect(),
                complete: progress.complete,
                to_post: outcome.is_some() && !coming.is_operator(&self.account),
                trouble: self.trouble.clone(),
            }
        });
        HandedOn { status, outcome }
    }
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
