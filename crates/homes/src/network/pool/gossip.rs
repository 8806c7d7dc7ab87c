//! Which of this node's own transactions are to be sent to its peers, and when again.
//!
//! What a peer sent is not passed on: every node is connected with every other, and who handed a transaction in sends
//! it until it is final.

use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::examine::Examined;
use super::limits::{GOSSIP_BYTES_MAX, GOSSIP_COUNT_MAX, GOSSIP_PAUSE_MAX, GOSSIP_PAUSE_MIN};

impl Pool {
    /// What is to be sent to all peers now: at most [`GOSSIP_COUNT_MAX`], of at most [`GOSSIP_BYTES_MAX`] together. What
    /// is given counts as sent, and is due again after a pause that doubles each time.
    pub fn due_gossip(&mut self, now: Duration) -> Vec<Arc<Examined>> {
        let mut given = Vec::new();
        let mut bytes = 0_usize;
        while let Some((due, sender, nonce)) = self.by_due.first().copied()
            && due <= now
            && given.len() < GOSSIP_COUNT_MAX
        {
            let Some(held) = self.accounts.get_mut(&sender).and_then(|account| account.get_mut(nonce)) else { break };
            bytes = bytes.saturating_add(held.tx.length());
            if bytes > GOSSIP_BYTES_MAX && !given.is_empty() {
                break;
            }
            held.due = now.saturating_add(pause(held.sent));
            held.sent = held.sent.saturating_add(1);
            given.push(Arc::clone(&held.tx));
            let again = (held.due, sender, nonce);
            self.by_due.remove(&(due, sender, nonce));
            self.by_due.insert(again);
        }
        given
    }

    /// When [`Pool::due_gossip`] has something to give next.
    pub fn next_gossip(&self) -> Option<Duration> {
        self.by_due.first().map(|(due, _, _)| *due)
    }
}

/// The pause after a transaction was sent for the time after `sent` times.
fn pause(sent: u32) -> Duration {
    let factor = 1_u32.checked_shl(sent).unwrap_or(u32::MAX);
    GOSSIP_PAUSE_MIN.saturating_mul(factor).min(GOSSIP_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::{GOSSIP_PAUSE_MAX, GOSSIP_PAUSE_MIN, pause};

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!([0, 1, 2].map(pause), [1, 2, 4].map(|factor| GOSSIP_PAUSE_MIN * factor));
        assert_eq!([7, 31, 32, u32::MAX].map(pause), [GOSSIP_PAUSE_MAX; 4]);
    }
}
