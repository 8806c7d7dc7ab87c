//! What the pool remembers of senders and peers, each in bounded space.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::Address;

use super::limits::{PEERS_MAX, STANDINGS_MAX};
use super::refusal::Refusal;

/// How an account stands at the last final block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many transactions of it are final.
    pub nonce: u64,
    /// True if it may send.
    pub enrolled: bool,
}

/// The standings that were asked for since the last head.
#[derive(Debug, Default)]
pub(super) struct Standings(HashMap<Address, Standing>);

impl Standings {
    /// How this account stands: asked once a head.
    pub(super) fn get<E>(
        &mut self,
        sender: &Address,
        ask: impl FnOnce(&Address) -> Result<Standing, E>,
    ) -> Result<Standing, E> {
        if let Some(known) = self.0.get(sender) {
            return Ok(*known);
        }
        let standing = ask(sender)?;
        // Anybody can make accounts that are not enrolled: when there are too many, all are asked for again.
        if self.0.len() >= STANDINGS_MAX {
            self.0.clear();
        }
        self.0.insert(*sender, standing);
        Ok(standing)
    }

    /// What is final has changed.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// A peer: the public key by which the nodes know it.
pub type PeerId = [u8; 32];

/// What a peer sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerRecord {
    /// Transactions that were added.
    pub added: u64,
    /// Those that no honest node sends, whatever its head is.
    pub invalid: u64,
    /// Those of senders that are not enrolled here: in numbers, a peer that lets strangers through.
    pub strangers: u64,
}

/// What each peer sent.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PeerId, PeerRecord>);

impl Peers {
    pub(super) fn added(&mut self, peer: PeerId) {
        self.count(peer, |record| &mut record.added);
    }

    pub(super) fn refused(&mut self, peer: PeerId, refusal: &Refusal) {
        if refusal.is_lasting() {
            self.count(peer, |record| &mut record.invalid);
        } else if matches!(refusal, Refusal::NotEnrolled { .. }) {
            self.count(peer, |record| &mut record.strangers);
        }
    }

    pub(super) fn record(&self, peer: &PeerId) -> PeerRecord {
        self.0.get(peer).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&PeerId, &PeerRecord)> {
        self.0.iter()
    }

    fn count(&mut self, peer: PeerId, field: impl FnOnce(&mut PeerRecord) -> &mut u64) {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            let harmless = self.0.iter().min_by_key(|(_, record)| (record.invalid, record.strangers));
            if let Some(harmless) = harmless.map(|(peer, _)| *peer) {
                self.0.remove(&harmless);
            }
        }
        let count = field(self.0.entry(peer).or_default());
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{PEERS_MAX, Peers, STANDINGS_MAX, Standing, Standings};
    use crate::network::pool::Refusal;
    use alloy_primitives::{Address, U256};
    use std::convert::Infallible;

    fn address(number: usize) -> Address {
        Address::from_word(U256::from(number).into())
    }

    #[test]
    fn a_sender_is_asked_for_once_a_head_and_memory_is_bounded() {
        let mut standings = Standings::default();
        let mut asked = 0;
        let mut ask = |standings: &mut Standings, number| {
            let standing = standings.get(&address(number), |_| {
                asked += 1;
                Ok::<_, Infallible>(Standing { nonce: number as u64, enrolled: true })
            });
            assert_eq!(standing.unwrap().nonce, number as u64);
            asked
        };
        assert_eq!([7, 7, 8, 7].map(|number| ask(&mut standings, number)), [1, 1, 2, 2]);
        standings.forget();
        assert_eq!(ask(&mut standings, 7), 3);
        for number in 0..2 * STANDINGS_MAX {
            ask(&mut standings, number);
        }
        assert!(standings.0.len() <= STANDINGS_MAX);
        assert!(standings.get(&address(1), |_| Err("no state")).is_err(), "an error is not remembered");
        assert!(standings.get(&address(1), |_| Ok::<_, &str>(Standing { nonce: 0, enrolled: false })).is_ok());
    }

    #[test]
    fn peers_are_counted_and_the_worst_are_remembered() {
        let mut peers = Peers::default();
        let peer = |number: usize| {
            let mut peer = [0; 32];
            peer[..8].copy_from_slice(&(number as u64).to_be_bytes());
            peer
        };
        peers.refused(peer(5), &Refusal::Value);
        peers.refused(peer(5), &Refusal::NotEnrolled { sender: address(1) });
        peers.refused(peer(5), &Refusal::NonceTooLow { found: 1, next: 2 });
        (10..2 * PEERS_MAX).for_each(|number| peers.added(peer(number)));
        assert_eq!(peers.0.len(), PEERS_MAX);
        let record = peers.record(&peer(5));
        assert_eq!((record.added, record.invalid, record.strangers), (0, 1, 1));
    }
}
