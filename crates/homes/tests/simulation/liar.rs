//! A validator that holds a real key and keeps to no rule.

use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::wiring::Channels;
use blockhouse_consensus::{Digest, Scheme, WireBlock};
use blockhouse_homes::network::Chain;
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{Block, block_hash, encode_block};
use commonware_codec::{Decode, DecodeExt, Encode};
use commonware_consensus::simplex::elector::{Config as _, Elector, RoundRobin, RoundRobinElector};
use commonware_consensus::simplex::types::{Certificate, Finalize, Notarize, Nullify, Proposal, Vote};
use commonware_consensus::types::Round;
use commonware_consensus::{Epochable, Viewable};
use commonware_cryptography::Sha256;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock, deterministic};
use rand::RngExt;

use crate::seat::{Seat, now};
use crate::witness::{Event, Witness};

/// What a liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// Sends bytes that mean nothing, on every channel.
    Garbage,
    /// Votes twice in every view, once for a block that nobody made.
    TwoVotes,
    /// Votes as each other one does, and tells that one alone: to nobody else's knowledge it is of all opinions.
    Echo,
    /// Proposes two valid blocks when it leads, and lets each half of the others vote for one; else it is an echo.
    TwoBlocks,
    /// Proposes a block when it leads whose state root is not what its execution gives.
    WrongState,
    /// Proposes a valid block when it leads, and sends it to one other alone.
    Withheld,
}

impl Lie {
    pub(crate) const ALL: [Self; 6] =
        [Self::Garbage, Self::TwoVotes, Self::Echo, Self::TwoBlocks, Self::WrongState, Self::Withheld];

    /// Of so many seeds in a row each has its share.
    pub(crate) fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed).unwrap() % Self::ALL.len()]
    }
}

/// A validator that lies, whichever way the validators sign.
pub(crate) struct Liar<S> {
    pub(crate) lie: Lie,
    pub(crate) scheme: S,
    /// The height that the network begins above.
    pub(crate) base: u64,
    /// The other nodes, into which it looks.
    pub(crate) seats: Vec<Seat>,
    pub(crate) witness: Witness,
}

impl<S: Scheme> Liar<S> {
    pub(crate) async fn live<X, R>(self, context: deterministic::Context, ends: Channels<X, R>)
    where
        X: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        match self.lie {
            Lie::Garbage => self.garbage(context, ends).await,
            Lie::TwoVotes => self.two_votes(context, ends.votes).await,
            Lie::Echo => self.echoes(ends.votes).await,
            Lie::TwoBlocks | Lie::WrongState | Lie::Withheld => self.lead(context, ends).await,
        }
    }

    fn count(&self) {
        self.witness.count(Event::Told(self.lie), 1);
    }

    async fn garbage<X: Sender, R>(&self, mut context: deterministic::Context, ends: Channels<X, R>) {
        let mut senders = [ends.votes.0, ends.certificates.0, ends.resolver.0, ends.backfill.0, ends.blocks.0];
        loop {
            for sender in &mut senders {
                let length = context.random_range(0..600);
                let bytes: Vec<u8> = (0..length).map(|_| context.random()).collect();
                sender.send(Recipients::All, bytes, context.random());
                self.count();
            }
            context.sleep(Duration::from_millis(100)).await;
        }
    }

    async fn two_votes<X: Sender, R: Receiver>(
        &self,
        mut context: deterministic::Context,
        (mut sender, mut receiver): (X, R),
    ) {
        while let Ok((_, message)) = receiver.recv().await {
            let Ok(vote) = Vote::<S, Digest>::decode(message) else { continue };
            let other = Digest::from(context.random::<[u8; 32]>());
            let Some(false_vote) = self.vote(&vote, Some(other)) else { continue };
            for vote in [Some(false_vote), self.vote(&vote, None)].into_iter().flatten() {
                sender.send(Recipients::All, vote.encode(), true);
            }
            self.count();
        }
    }

    async fn echoes<X, R>(&self, (mut sender, mut receiver): (X, R))
    where
        X: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        while let Ok((from, message)) = receiver.recv().await {
            if let Ok(vote) = Vote::<S, Digest>::decode(message) {
                self.echo(&mut sender, from, &vote);
                self.count();
            }
        }
    }

    fn echo<X: Sender<PublicKey = PublicKey>>(&self, sender: &mut X, from: PublicKey, vote: &Vote<S, Digest>) {
        if let Some(vote) = self.vote(vote, None) {
            sender.send(Recipients::One(from), vote.encode(), true);
        }
    }

    /// The same vote as its own, or for another block if that is told, which a vote against a view has not.
    fn vote(&self, vote: &Vote<S, Digest>, other: Option<Digest>) -> Option<Vote<S, Digest>> {
        let of = |proposal: &Proposal<Digest>| {
            Proposal::new(proposal.round, proposal.parent, other.unwrap_or(proposal.payload))
        };
        match vote {
            Vote::Notarize(vote) => Notarize::sign(&self.scheme, of(&vote.proposal)).map(Vote::Notarize),
            Vote::Finalize(vote) => Finalize::sign(&self.scheme, of(&vote.proposal)).map(Vote::Finalize),
            Vote::Nullify(_) if other.is_some() => None,
            Vote::Nullify(vote) => Nullify::sign::<Digest>(&self.scheme, vote.round).map(Vote::Nullify),
        }
    }

    /// Keeps quiet until it leads, or is an echo; then proposes what no honest node would.
    async fn lead<X, R>(&self, mut context: deterministic::Context, ends: Channels<X, R>)
    where
        X: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let Channels {
            votes: (mut votes, mut heard),
            certificates: (_, mut certificates),
            blocks: (mut send, mut blocks),
            ..
        } = ends;
        let elector: RoundRobinElector<S> = RoundRobin::<Sha256>::default().build(self.scheme.participants());
        let me = self.scheme.me().and_then(|me| me.signer()).unwrap();
        let (mut known, mut led): (Vec<Arc<Block>>, _) = (Vec::new(), None);
        loop {
            // In this order: a run is the seed's alone.
            let message = tokio::select! {
                biased;
                Ok((_, message)) = certificates.recv() => message,
                Ok((_, message)) = blocks.recv() => {
                    let block = WireBlock::decode_cfg(message, &self.base);
                    known.extend(block.map(|block| Arc::clone(block.block())));
                    continue;
                }
                Ok((from, message)) = heard.recv() => {
                    match Vote::<S, Digest>::decode(message) {
                        Ok(vote) if matches!(self.lie, Lie::TwoBlocks) => self.echo(&mut votes, from, &vote),
                        _ => {}
                    }
                    continue;
                }
                else => return,
            };
            let config = self.scheme.certificate_codec_config();
            let certificate = Certificate::<S, Digest>::decode_cfg(message, &config);
            let Ok(Certificate::Notarization(notarization)) = certificate else { continue };
            let next = Round::new(notarization.epoch(), notarization.view().next());
            // Once in a view: who sees two proposals of it keeps it out.
            if elector.elect(next, ()) != me || led == Some(next) {
                continue;
            }
            let blocks = lies(&context, self.lie, &known, notarization.proposal.payload, &self.seats);
            led = Some(next).filter(|_| !blocks.is_empty()).or(led);
            for (readers, voters, block) in self.audience(&blocks) {
                let proposal = Proposal::new(next, notarization.view(), digest(block));
                let vote = Vote::Notarize(Notarize::<S, _>::sign(&self.scheme, proposal).unwrap());
                let bytes = bytes::Bytes::from(encode_block(block)).encode();
                send.send(Recipients::Some(readers), bytes, true);
                votes.send(Recipients::Some(voters), vote.encode(), context.random());
                self.count();
            }
        }
    }

    /// Who is sent each block, and the vote for it: one half of the others the first, the other half the second, if there are two.
    fn audience<'a>(&self, blocks: &'a [Block]) -> Vec<(Vec<PublicKey>, Vec<PublicKey>, &'a Block)> {
        let me = self.scheme.me().and_then(|me| me.signer()).map(|me| me.get() as usize);
        let own = me.and_then(|me| self.scheme.participants().get(me));
        let others: Vec<PublicKey> =
            self.scheme.participants().iter().filter(|key| Some(*key) != own).cloned().collect();
        let (first, rest) = others.split_at(others.len() / 2);
        match blocks {
            [one] if matches!(self.lie, Lie::Withheld) => vec![(others[..1].to_vec(), others.clone(), one)],
            [one] => vec![(others.clone(), others.clone(), one)],
            [one, two] => vec![(others.clone(), first.to_vec(), one), (others.clone(), rest.to_vec(), two)],
            _ => Vec::new(),
        }
    }
}

/// The blocks that are proposed above the block of that digest: made by execution, on the ledger of a node that knows its ancestors.
fn lies(
    context: &deterministic::Context,
    lie: Lie,
    known: &[Arc<Block>],
    parent: Digest,
    seats: &[Seat],
) -> Vec<Block> {
    let made = seats.iter().filter_map(Seat::chain).find_map(|chain| {
        let pending = ancestors(&chain, known, parent)?;
        let least = BlockTime::of(&chain.parent(&pending)).map_or(0, BlockTime::millis) + 1;
        let at = |millis| chain.propose(&pending, &[], BlockTime::of_millis(now(context).max(least) + millis));
        let mut blocks = vec![at(0).ok()?.executed.block.clone(), at(1).ok()?.executed.block.clone()];
        if !matches!(lie, Lie::TwoBlocks) {
            blocks.pop();
        }
        Some(blocks)
    });
    let mut blocks = made.unwrap_or_default();
    if matches!(lie, Lie::WrongState) {
        for block in &mut blocks {
            block.header.state_root = block.header.parent_hash;
        }
    }
    blocks
}

/// From above the head of that chain to the block of that digest, if all are known.
fn ancestors(chain: &Chain, known: &[Arc<Block>], newest: Digest) -> Option<Vec<Arc<Block>>> {
    let head = chain.head();
    let (mut pending, mut next) = (Vec::new(), newest);
    while next != Digest::from(head.head().hash().0) {
        let block = known.iter().find(|block| digest(block) == next)?;
        if block.header.number <= head.height() {
            return None;
        }
        next = Digest::from(block.header.parent_hash.0);
        pending.push(Arc::clone(block));
    }
    pending.reverse();
    Some(pending)
}

fn digest(block: &Block) -> Digest {
    Digest::from(block_hash(&block.header).to_bytes())
}
