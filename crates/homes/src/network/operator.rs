//! What a node is told of the others while it runs: by its operator in `node.toml`, and by the ledger.
//!
//! - **Owns** when the file is read again, which of its keys count at once, and when the engine is told who its peers are.
//! - **Does not** start an engine: `tenure` does, with what is told at that moment.
//!
//! `validators`, `followers` and `rpc_peers` count within some seconds, all other keys at the next start.
//!
//! # Invariants
//! - **O1** A file that is no configuration changes nothing, and is told of: what was read before holds.
//! - **O2** Who votes is never changed here: an engine is told where its validators are, and whom it serves besides.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_consensus::Handle;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use super::backend::NodeBackend;
use super::chain::Chain;
use super::config::NodeConfig;
use super::follow::follow;
use super::forks::{Eye, Lookout};
use super::heal::Healer;
use super::node::{News, heal};
use super::orderer::Orderer;
use super::outdone;
use super::releases::{self, Releases};
use super::sync::{self, Trouble};
use super::tenure::Engines;
use crate::remote::{NodeUrl, Remote};
use crate::store::EventPlace;

/// How often the file is looked at. It counts when two looks in a row show the same: who writes it is not done at once.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the file again and again while the node runs.
pub(super) async fn read_again(path: PathBuf, told: Arc<watch::Sender<NodeConfig>>, news: mpsc::Sender<News>) {
    let read = || std::fs::read(&path).ok();
    // What was written since the node read it is found by the first two looks.
    let (mut counts, mut seen) = (None, None);
    loop {
        tokio::time::sleep(LOOK).await;
        let found = read();
        let is_still = found == seen;
        seen.clone_from(&found);
        if !is_still || found == counts {
            continue;
        }
        let Some(bytes) = found else { continue };
        // These bytes, and not what stands there by now.
        let config = NodeConfig::parse(&path, &String::from_utf8_lossy(&bytes));
        counts = Some(bytes);
        match config {
            Ok(config) => take(&told, config),
            Err(error) => {
                // Who is told went away only with the node.
                let _ = news.send(News::Misread(error)).await;
            }
        }
    }
}

/// Takes over what counts at once.
fn take(told: &watch::Sender<NodeConfig>, new: NodeConfig) {
    told.send_if_modified(|old| {
        let NodeConfig { validators, followers, rpc_peers, .. } = new;
        let next = NodeConfig { validators, followers, rpc_peers, ..old.clone() };
        let is_other = next != *old;
        *old = next;
        is_other
    });
}

/// Tells a running engine who its peers are, whenever the operator or the ledger says otherwise. On the ledger that changes with an epoch.
pub(super) async fn introduce(engines: Engines, engine: Arc<Handle>) {
    let (mut told, mut heights) = (engines.told.subscribe(), engines.orderer.heights());
    let (mut last, mut epoch) = (None, engines.epoch());
    loop {
        // What does not fit, or names no key, holds up nothing: what was told before does.
        if let Some(peers) = engines.peers_now().ok().flatten().filter(|peers| Some(peers) != last.as_ref()) {
            let _ = engine.tell_peers(&peers.0, &peers.1);
            last = Some(peers);
        }
        loop {
            // Both end with the node alone.
            tokio::select! {
                _ = told.changed() => break,
                _ = heights.changed() => {}
            }
            if engines.epoch() != epoch {
                epoch = engines.epoch();
                break;
            }
        }
    }
}

/// What asks other nodes on behalf of a running node.
pub(super) struct Asking {
    pub(super) chain: Arc<Chain>,
    pub(super) orderer: Arc<Orderer>,
    pub(super) trouble: Trouble,
    pub(super) backend: NodeBackend,
    pub(super) healer: Healer,
    /// The node's, and that of its network's certificates.
    pub(super) keys: ([u8; 32], [u8; 32]),
    pub(super) releases: Releases,
    pub(super) eye: Arc<Eye>,
    pub(super) teller: mpsc::Sender<News>,
    /// What runs: whoever stops the node waits for its end too.
    pub(super) tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Asking {
    /// Asks the nodes in `rpc_peers`; others, once the operator names others. `known` are those that the node asked before it took part.
    pub(super) async fn keep_on(self, told: Arc<watch::Sender<NodeConfig>>, mut known: Option<Remote>) {
        let mut told = told.subscribe();
        loop {
            let urls = told.borrow_and_update().rpc_peers.clone();
            self.begin(peers_at(&urls, known.take())).await;
            loop {
                if told.changed().await.is_err() {
                    return;
                }
                if told.borrow_and_update().rpc_peers != urls {
                    break;
                }
            }
        }
    }

    /// Ends what runs, which stands that: what it had not finished is done by the next one. No URL is nobody to be asked.
    async fn begin(&self, peers: Option<Remote>) {
        let mut tasks = self.tasks.lock().await;
        tasks.shutdown().await;
        let (chain, orderer) = (&self.chain, &self.orderer);
        if let Some(peers) = peers.clone() {
            if chain.is_governed() {
                tasks.spawn(follow(Arc::clone(chain), Arc::clone(orderer), peers.clone()));
            }
            tasks.spawn(sync::fill(Arc::clone(chain), Arc::clone(orderer), peers, self.trouble.clone()));
        }
        let (backend, teller) = (&self.backend, &self.teller);
        let (own, network) = self.keys;
        tasks.spawn(releases::watch(peers.clone(), own, self.releases.clone()));
        let bottom = chain.head().bottom();
        let place = EventPlace::first_of(bottom);
        let (eye, own_chain) = (Arc::clone(&self.eye), Arc::clone(chain));
        let news = teller.clone();
        tasks.spawn(Lookout { eye, chain: own_chain, peers: peers.clone(), place, bottom, news }.run());
        tasks.spawn(outdone::watch(backend.clone(), network, peers.clone(), teller.clone()));
        tasks.spawn(heal(backend.clone(), self.healer.clone().asking(peers), teller.clone()));
    }
}

/// The nodes at these URLs; `known` if it is of the same, for it knows which of them answered last, and so which was left. No URL is nobody.
fn peers_at(urls: &[NodeUrl], known: Option<Remote>) -> Option<Remote> {
    known.filter(|known| known.nodes() == urls).or_else(|| Remote::new(urls.to_owned()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answered_last_is_asked_first_while_the_nodes_are_the_same() {
        let [one, other] = ["http://h:1", "http://h:2"].map(|url| url.parse::<NodeUrl>().unwrap());
        let both = [one.clone(), other.clone()];
        let known = Remote::new(both.to_vec()).unwrap();
        known.prefer(&other);
        let first = |urls: &[NodeUrl], known| peers_at(urls, known).unwrap().in_turn().next().cloned().unwrap();
        assert_eq!(first(&both, Some(known.clone())), other);
        assert_eq!(first(&both, None), one);
        assert_eq!(first(&both[..1], Some(known.clone())), one);
        assert!(peers_at(&[], Some(known)).is_none());
    }

    fn text(peers: &str) -> String {
        format!("listen = \"127.0.0.1:1\"\n{peers}\n[validators]\n")
    }

    /// O1, and what counts at once.
    #[tokio::test]
    async fn a_file_counts_when_it_is_written_and_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: String| std::fs::write(file.path(), text).unwrap();
        write(text(""));
        let told = Arc::new(watch::channel(NodeConfig::load(file.path()).unwrap()).0);
        let (teller, mut news) = mpsc::channel(1);
        let _reading = tokio::spawn(read_again(file.path().to_owned(), Arc::clone(&told), teller));
        let mut changes = told.subscribe();
        // Broken, then right.
        write(text("rpc_peers = [\"ftp"));
        assert!(matches!(news.recv().await, Some(News::Misread(_))));
        assert!(!changes.has_changed().unwrap());
        let key = hex::encode([7; 32]);
        write(
            text(&format!("followers = [\"{key}\"]\nrpc_peers = [\"http://h:1\"]"))
                .replace("127.0.0.1:1", "127.0.0.1:2"),
        );
        changes.changed().await.unwrap();
        let now = told.borrow().clone();
        assert_eq!((now.followers, now.rpc_peers.len()), (vec![key], 1));
        assert_eq!(now.listen.port(), 1, "where it listens counts at the next start");
    }
}
