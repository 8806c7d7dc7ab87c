//! A simulated node takes part in handing its network's one key on: the node's own part in it, with simulated time and letters.

use std::sync::Arc;

use blockhouse_consensus::Network;
use blockhouse_consensus::ceremony::Outgoing;
use blockhouse_consensus::tuning::CEREMONY_TICK;
use blockhouse_homes::network::Handing;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock as _, deterministic};

use crate::load::address;
use crate::seat::Life;

impl Life {
    /// Takes part for as long as the engine of that network runs. What is due is posted by the node's client, as its account's other calls are.
    pub(crate) async fn hand_on<S, R>(
        &self,
        mut context: deterministic::Context,
        network: Network,
        (mut sender, mut receiver): (S, R),
    ) where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let (of, account) = (self.seat.of(), address(&self.seat.account()));
        let mut handing = Handing::new(of, Arc::clone(&self.chain), Arc::new(network), account);
        let mut next = context.current() + CEREMONY_TICK;
        loop {
            let tick = context.sleep_until(next);
            // In this order: a run is the seed's alone.
            let heard = tokio::select! {
                biased;
                Ok((from, message)) = receiver.recv() => Some((from, message)),
                () = tick => None,
            };
            let sends = if let Some((from, message)) = heard {
                let from = from.as_ref().try_into().unwrap();
                handing.hear(&mut context, &from, message.as_ref())
            } else {
                next += CEREMONY_TICK;
                let sends = handing.tick(&mut context);
                if let Some(due) = handing.due() {
                    self.to_post.lock().unwrap().replace(due);
                    handing.posted(None);
                }
                sends
            };
            for Outgoing { to, message } in sends {
                let to = PublicKey::decode(Copying(&to)).unwrap();
                sender.send(Recipients::One(to), bytes::Bytes::copy_from_slice(&message.encode()), false);
            }
        }
    }
}
