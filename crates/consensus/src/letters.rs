//! Letters between nodes: each is for one node alone, and comes from it over a connection that is authenticated and encrypted.
//!
//! Best effort, as gossip is: what a queue has no room for is dropped. By them the validators of a network hold a key ceremony while they go on ordering
//! blocks, together with *guests*: nodes that are no validators yet, and are let in for that.

use std::collections::BTreeMap;

use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use tokio::sync::mpsc;

use crate::ceremony::MESSAGE_MAX;
use crate::gossip::Heard;
use crate::keys::public_bytes;
use crate::peers::Guests;
use crate::tuning::GOSSIP_QUEUE;

/// Sends and receives letters while its engine runs.
#[derive(Debug)]
pub struct Post {
    outgoing: mpsc::Sender<([u8; 32], Bytes)>,
    guests: mpsc::Sender<Guests>,
    incoming: mpsc::Receiver<Heard>,
}

impl Post {
    /// Hands a letter on; false if it is too long or the queue is full.
    pub fn send(&self, to: [u8; 32], bytes: &[u8]) -> bool {
        bytes.len() <= MESSAGE_MAX && self.outgoing.try_send((to, Bytes::copy_from_slice(bytes))).is_ok()
    }

    /// Lets these nodes in from now on, beside those that the engine began with, and no others: each with where it is reached.
    pub async fn admit(&self, guests: BTreeMap<[u8; 32], String>) {
        // Whose engine ended lets nobody in.
        let _ = self.guests.send(Guests(guests)).await;
    }

    /// The next letter; `None` when the engine ended. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<Heard> {
        self.incoming.recv().await
    }
}

/// The engine's ends of the queues.
#[derive(Debug)]
pub(crate) struct Ends {
    outgoing: mpsc::Receiver<([u8; 32], Bytes)>,
    incoming: mpsc::Sender<Heard>,
}

/// The queues, and that of the guests who are let in.
pub(crate) fn queues() -> (Post, Ends, mpsc::Receiver<Guests>) {
    let (sender, outgoing) = mpsc::channel(GOSSIP_QUEUE);
    let (admit, guests) = mpsc::channel(1);
    let (incoming, receiver) = mpsc::channel(GOSSIP_QUEUE);
    (Post { outgoing: sender, guests: admit, incoming: receiver }, Ends { outgoing, incoming }, guests)
}

/// Moves letters until the network ends.
pub(crate) async fn carry(
    ends: Ends,
    (mut sender, mut receiver): (impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>),
) {
    let Ends { mut outgoing, incoming } = ends;
    loop {
        tokio::select! {
            Some((to, bytes)) = outgoing.recv() => {
                if let Ok(to) = PublicKey::decode(Copying(&to)) {
                    sender.send(Recipients::One(to), bytes, false);
                }
            }
            heard = receiver.recv() => match heard {
                Ok((from, message)) if message.len() <= MESSAGE_MAX => {
                    let bytes = Bytes::copy_from_slice(message.as_ref());
                    let _ = incoming.try_send(Heard { from: public_bytes(&from), bytes });
                }
                Ok(_) => {}
                Err(_) => return,
            },
        }
    }
}
