//! A validator that holds a real key and keeps to no rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blockhouse_consensus::wiring::Channels;
use blockhouse_consensus::{Digest, WireBlock};
use blockhouse_homes::network::Chain;
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{Block, block_hash, encode_block};
use commonware_codec::{Decode, DecodeExt, Encode};
use commonware_consensus::simplex::elector::{self, Config as _, Elector, RoundRobin};
use commonware_consensus::simplex::scheme::ed25519;
use commonware_consensus::simplex::types::{Certificate, Finalize, Notarize, Proposal, Vote};
use commonware_consensus::types::Round;
use commonware_consensus::{Epochable, Viewable};
use commonware_cryptography::Sha256;
use commonware_cryptography::certificate::{Scheme as _, Verifier};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock, deterministic};
use rand::RngExt;

use crate::seat::{Seat, now};

/// What a liar does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// Sends bytes that mean nothing, on every channel.
    Garbage,
    /// Votes twice in every view, once for a block that nobody made.
    TwoVotes,
    /// Proposes two valid blocks when it leads, and shows each to a part of the others.
    TwoBlocks,
    /// Proposes a block when it leads whose state root is not what its execution gives.
    WrongState,
    /// Proposes a valid block when it leads, and sends it to one other alone.
    Withheld,
}

type Turns = <RoundRobin<Sha256> as elector::Config<ed25519::Scheme>>::Elector;

/// A validator that lies.
pub(crate) struct Liar {
    pub(crate) lie: Lie,
    pub(crate) scheme: ed25519::Scheme,
    /// The height that the network begins above.
    pub(crate) base: u64,
    /// The other nodes, into which it looks.
    pub(crate) seats: Vec<Seat>,
    pub(crate) told: Arc<AtomicU64>,
}

impl Liar {
    pub(crate) async fn live<S, R>(self, context: deterministic::Context, ends: Channels<S, R>)
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        match self.lie {
            Lie::Garbage => self.garbage(context, ends).await,
            Lie::TwoVotes => self.two_votes(context, ends.votes).await,
            Lie::TwoBlocks | Lie::WrongState | Lie::Withheld => self.lead(context, ends).await,
        }
    }

    fn count(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    async fn garbage<S: Sender, R>(&self, mut context: deterministic::Context, ends: Channels<S, R>) {
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

    async fn two_votes<S: Sender, R: Receiver>(
        &self,
        mut context: deterministic::Context,
        (mut sender, mut receiver): (S, R),
    ) {
        while let Ok((_, message)) = receiver.recv().await {
            let Ok(vote) = Vote::<ed25519::Scheme, Digest>::decode(message) else { continue };
            let (proposal, is_final) = match vote {
                Vote::Notarize(vote) => (vote.proposal, false),
                Vote::Finalize(vote) => (vote.proposal, true),
                Vote::Nullify(_) => continue,
            };
            let other = Proposal::new(proposal.round, proposal.parent, Digest::from(context.random::<[u8; 32]>()));
            for proposal in [other, proposal] {
                let vote = if is_final {
                    Vote::Finalize(Finalize::sign(&self.scheme, proposal).unwrap())
                } else {
                    Vote::Notarize(Notarize::sign(&self.scheme, proposal).unwrap())
                };
                sender.send(Recipients::All, vote.encode(), true);
            }
            self.count();
        }
    }

    /// Keeps quiet until it leads, then proposes what no honest node would.
    async fn lead<S, R>(&self, mut context: deterministic::Context, ends: Channels<S, R>)
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let Channels {
            votes: (mut votes, _), certificates: (_, mut certificates), blocks: (mut send, mut blocks), ..
        } = ends;
        let elector: Turns = RoundRobin::<Sha256>::default().build(self.scheme.participants());
        let me = self.scheme.me().and_then(|me| me.signer()).unwrap();
        let mut known: Vec<Arc<Block>> = Vec::new();
        loop {
            let message = tokio::select! {
                Ok((_, message)) = certificates.recv() => message,
                Ok((_, message)) = blocks.recv() => {
                    let block = WireBlock::decode_cfg(message, &self.base);
                    known.extend(block.map(|block| Arc::clone(block.block())));
                    continue;
                }
                else => return,
            };
            let config = self.scheme.certificate_codec_config();
            let certificate = Certificate::<ed25519::Scheme, Digest>::decode_cfg(message, &config);
            let Ok(Certificate::Notarization(notarization)) = certificate else { continue };
            let next = Round::new(notarization.epoch(), notarization.view().next());
            if elector.elect(next, ()) != me {
                continue;
            }
            let blocks = lies(&context, self.lie, &known, notarization.proposal.payload, &self.seats);
            for (readers, voters, block) in self.audience(&blocks) {
                let proposal = Proposal::new(next, notarization.view(), digest(block));
                let vote = Vote::Notarize(Notarize::<ed25519::Scheme, _>::sign(&self.scheme, proposal).unwrap());
                let bytes = bytes::Bytes::from(encode_block(block)).encode();
                send.send(Recipients::Some(readers), bytes, true);
                votes.send(Recipients::Some(voters), vote.encode(), context.random());
                self.count();
            }
        }
    }

    /// Who is sent each block, and the vote for it: one validator the first, the others the second, if there are two.
    fn audience<'a>(&self, blocks: &'a [Block]) -> Vec<(Vec<PublicKey>, Vec<PublicKey>, &'a Block)> {
        let me = self.scheme.me().and_then(|me| me.signer()).map(|me| me.get() as usize);
        let own = me.and_then(|me| self.scheme.participants().get(me));
        let others: Vec<PublicKey> =
            self.scheme.participants().iter().filter(|key| Some(*key) != own).cloned().collect();
        let (first, rest) = others.split_at(1);
        match blocks {
            [one] if matches!(self.lie, Lie::Withheld) => vec![(first.to_vec(), others.clone(), one)],
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
