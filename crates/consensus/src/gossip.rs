//! Bytes between nodes, beside the blocks: the way of transactions.
//!
//! Best effort: what a queue has no room for, or what exceeds the rate of its channel, is dropped and counted by nobody.
//! The application repeats what matters. A message says which node sent it, and nothing about who made what is in it.

use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use tokio::sync::mpsc;

use crate::keys::public_bytes;
use crate::tuning::{GOSSIP_MAX, GOSSIP_QUEUE};

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The peer's identity.
    pub from: [u8; 32],
    /// What it sent, at most [`GOSSIP_MAX`] bytes.
    pub bytes: Bytes,
}

/// Sends to all connected peers.
#[derive(Debug, Clone)]
pub struct Gossip(mpsc::Sender<Bytes>);

impl Gossip {
    /// Hands a message on; false if it is too long or the queue is full.
    pub fn send(&self, bytes: Bytes) -> bool {
        bytes.len() <= GOSSIP_MAX && self.0.try_send(bytes).is_ok()
    }
}

/// Receives what peers sent.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Heard>);

impl Inbox {
    /// The next message; `None` when the engine ended. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Heard> {
        self.0.recv().await
    }
}

/// The engine's ends of the two queues.
#[derive(Debug)]
pub(crate) struct Ends {
    outgoing: mpsc::Receiver<Bytes>,
    incoming: mpsc::Sender<Heard>,
}

/// The two queues.
pub(crate) fn queues() -> (Gossip, Inbox, Ends) {
    let (sender, outgoing) = mpsc::channel(GOSSIP_QUEUE);
    let (incoming, receiver) = mpsc::channel(GOSSIP_QUEUE);
    (Gossip(sender), Inbox(receiver), Ends { outgoing, incoming })
}

/// Moves messages until the network or the handle ends.
pub(crate) async fn carry(
    ends: Ends,
    (mut sender, mut receiver): (impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>),
) {
    let Ends { mut outgoing, incoming } = ends;
    let send = async {
        while let Some(bytes) = outgoing.recv().await {
            sender.send(Recipients::All, bytes, false);
        }
        // No handle sends any more; receiving goes on.
        std::future::pending::<()>().await;
    };
    let receive = async {
        while let Ok((from, message)) = receiver.recv().await {
            // Longer messages are a block's right, not gossip's.
            if message.len() <= GOSSIP_MAX {
                let _ = incoming
                    .try_send(Heard { from: public_bytes(&from), bytes: Bytes::copy_from_slice(message.as_ref()) });
            }
        }
    };
    futures::pin_mut!(send, receive);
    futures::future::select(send, receive).await;
}
