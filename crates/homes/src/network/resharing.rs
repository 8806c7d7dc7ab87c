//! A running node takes part in handing its network's one key on to the set of validators that comes.
//!
//! Once the ledger names another set, its nodes and those that have shares hold a ceremony, by letters over the connections of the engine, while blocks
//! go on. What all of them signed is posted on the ledger; with that it counts, and the ledger says from which block on.
//!
//! - **Owns** the clock and the letters of a node's part, and the posting of what comes of it.
//! - **Does not** decide anything of it: [`Handing`] does.
//!
//! Protocol: `docs/design/consensus.md`, section *Resharing*.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use blockhouse_consensus::ceremony::Outgoing;
use blockhouse_consensus::tuning::CEREMONY_TICK;
use blockhouse_consensus::{Network, Post};
use blockhouse_ledger::contracts::GroupValidators::postOutcomeCall;
use blockhouse_ledger::governance::validators_address;
use blockhouse_ledger::resharing::Outcome;
use tokio::task::{JoinHandle, block_in_place};

use super::chain::Chain;
use super::folder::NodeFolder;
use super::handing::{HandedOn, Handing};
use super::network_file::NetworkFile;
use super::speaker::Speaker;
use crate::chain::chain;

/// Gas to post an outcome: that of the greatest sets fits.
const GAS: u64 = 16_000_000;

/// What is told of it.
pub(super) type HandingOn = Arc<Mutex<HandedOn>>;

/// What a node needs to take part.
#[derive(Clone)]
pub(super) struct Resharing {
    pub(super) folder: NodeFolder,
    pub(super) file: NetworkFile,
    pub(super) chain: Arc<Chain>,
    pub(super) speaker: Speaker,
    pub(super) told: HandingOn,
}

/// The part of the node while one engine runs.
struct Part {
    handing: Handing,
    speaker: Speaker,
    told: HandingOn,
    post: Post,
    posting: Option<JoinHandle<Option<String>>>,
    guests: BTreeMap<[u8; 32], String>,
}

impl Resharing {
    /// Takes part as long as the engine of that network runs.
    pub(super) async fn run(self, network: Arc<Network>, post: Post) {
        let Self { folder, file, chain, speaker, told } = self;
        let handing = Handing::new((folder, Arc::new(file)), chain, network, speaker.account());
        let part = Part { handing, speaker, told, post, posting: None, guests: BTreeMap::new() };
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
                    block_in_place(|| self.handing.hear(&mut rand::rng(), &heard.from, &heard.bytes))
                }
                _ = tick.tick() => {
                    let sends = block_in_place(|| self.handing.tick(&mut rand::rng()));
                    self.admit().await;
                    self.speak().await;
                    sends
                }
            };
            for Outgoing { to, message } in sends {
                self.post.send(to, &message.encode());
            }
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = self.handing.told();
        }
    }

    /// Lets those in who take part and do not vote yet.
    async fn admit(&mut self) {
        let guests = self.handing.guests();
        if guests != self.guests {
            self.post.admit(guests.clone()).await;
            self.guests = guests;
        }
    }

    /// Posts the outcome when it is this node's turn, one try after the other.
    async fn speak(&mut self) {
        if self.posting.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(posting) = self.posting.take()
        {
            self.handing.posted(posting.await.ok().flatten());
        }
        if self.posting.is_none()
            && let Some((from, outcome)) = self.handing.due()
        {
            self.posting = Some(tokio::spawn(post(self.speaker.clone(), from, outcome)));
        }
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
