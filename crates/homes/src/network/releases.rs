//! Which releases the other nodes run, as they say.
//!
//! - **Owns** the question to the nodes in `rpc_peers`, at the start and again and again, and what each said last.
//! - **Does not** act on it: what a release may do to the ledger stands in the genesis, and this is for operators who upgrade one node after
//!   another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::remote::Remote;
use crate::rpc::OtherRelease;

/// Between two questions.
const LOOK: Duration = Duration::from_secs(20);

/// What the others said last.
#[derive(Debug, Clone, Default)]
pub(super) struct Releases(Arc<Mutex<Vec<OtherRelease>>>);

impl Releases {
    /// What each said, in the order in which they are named.
    pub(super) fn read(&self) -> Vec<OtherRelease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what those said who are not asked any more.
    fn keep(&self, peers: Option<&Remote>) {
        let asked: Vec<String> = peers.iter().flat_map(|peers| peers.nodes()).map(ToString::to_string).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| asked.contains(&other.rpc));
    }

    fn note(&self, said: OtherRelease) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter_mut().find(|other| other.rpc == said.rpc) {
            Some(other) => *other = said,
            None => known.push(said),
        }
    }
}

/// Asks until it is dropped. Of a node that does not answer what it said before stays: that it is down is seen elsewhere.
pub(super) async fn watch(peers: Option<Remote>, own: [u8; 32], told: Releases) {
    told.keep(peers.as_ref());
    let Some(peers) = peers else { return };
    loop {
        for node in peers.nodes() {
            // An operator may name his own node among the others.
            if let Ok(said) = peers.release(node).await
                && said.key.0 != own
            {
                told.note(OtherRelease { rpc: node.to_string(), version: said.version, rules: said.rules });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
