//! A validator that holds a real key and keeps to no rule.

use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::wiring::Channels;
use blockhouse_consensus::{Digest, Keys, Network, Scheme, WireBlock};
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

use crate::support::block;

/// What a liar does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// Sends bytes that mean nothing, on every channel.
    Garbage,
    /// Votes twice in every view, once for a block that nobody made.
    TwoVotes,
    /// Proposes two blocks when it leads, and shows each to a part of the others.
    TwoBlocks,
}

type Turns = <RoundRobin<Sha256> as elector::Config<ed25519::Scheme>>::Elector;

pub(crate) async fn lie<S, R>(
    context: deterministic::Context,
    lie: Lie,
    network: Network,
    keys: Keys,
    ends: Channels<S, R>,
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let scheme = <ed25519::Scheme as Scheme>::of(&network, &keys, true).unwrap();
    match lie {
        Lie::Garbage => garbage(context, ends).await,
        Lie::TwoVotes => two_votes(context, &scheme, ends.votes).await,
        Lie::TwoBlocks => two_blocks(context, &scheme, &network, ends).await,
    }
}

async fn garbage<S: Sender, R>(mut context: deterministic::Context, ends: Channels<S, R>) {
    let mut senders = [ends.votes.0, ends.certificates.0, ends.resolver.0, ends.backfill.0, ends.blocks.0];
    loop {
        for sender in &mut senders {
            let length = context.random_range(0..600);
            let bytes: Vec<u8> = (0..length).map(|_| context.random()).collect();
            sender.send(Recipients::All, bytes, context.random());
        }
        context.sleep(Duration::from_millis(100)).await;
    }
}

async fn two_votes<S: Sender, R: Receiver>(
    mut context: deterministic::Context,
    scheme: &ed25519::Scheme,
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
                Vote::Finalize(Finalize::sign(scheme, proposal).unwrap())
            } else {
                Vote::Notarize(Notarize::sign(scheme, proposal).unwrap())
            };
            sender.send(Recipients::All, vote.encode(), true);
        }
    }
}

async fn two_blocks<S, R>(
    mut context: deterministic::Context,
    scheme: &ed25519::Scheme,
    network: &Network,
    ends: Channels<S, R>,
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let Channels { votes: (mut votes, _), certificates: (_, mut certificates), blocks: (mut send, mut blocks), .. } =
        ends;
    let elector: Turns = RoundRobin::<Sha256>::default().build(scheme.participants());
    let me = scheme.me().and_then(|me| me.signer()).unwrap();
    let others: Vec<PublicKey> = scheme
        .participants()
        .iter()
        .filter(|key| Some(*key) != scheme.participants().get(me.get() as usize))
        .cloned()
        .collect();
    let mut known: Vec<Arc<WireBlock>> = Vec::new();
    loop {
        let message = tokio::select! {
            Ok((_, message)) = certificates.recv() => message,
            Ok((_, message)) = blocks.recv() => {
                known.extend(WireBlock::decode_cfg(message, &network.base().height).map(Arc::new));
                continue;
            }
            else => return,
        };
        let Ok(certificate) =
            Certificate::<ed25519::Scheme, Digest>::decode_cfg(message, &scheme.certificate_codec_config())
        else {
            continue;
        };
        let Certificate::Notarization(notarization) = certificate else { continue };
        let next = Round::new(notarization.epoch(), notarization.view().next());
        let payload = notarization.proposal.payload;
        let parent = known.iter().find(|block| commonware_cryptography::Digestible::digest(block.as_ref()) == payload);
        let (Some(parent), true) = (parent, elector.elect(next, ()) == me) else { continue };
        let header = parent.block().header.clone();
        for (peer, mark) in others.iter().zip([1_u8, 2, 2]) {
            let twin = block(Some(&header), header.number + 1, &[9, mark, context.random()]);
            let bytes = blockhouse_ledger::encode_block(&twin);
            let digest = Digest::from(blockhouse_ledger::block_hash(&twin.header).to_bytes());
            send.send(Recipients::All, bytes::Bytes::from(bytes).encode(), true);
            let proposal = Proposal::new(next, notarization.view(), digest);
            let vote = Vote::Notarize(Notarize::<ed25519::Scheme, _>::sign(scheme, proposal).unwrap());
            votes.send(Recipients::One(peer.clone()), vote.encode(), true);
        }
    }
}
