//! The embedded ledger behind a server: each transaction is sealed at once, so nothing ever waits in a pool.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use tokio::sync::{broadcast, watch};

use super::{Backend, PoolStatus, Pooled, Refused, Syncing};
use crate::chain::chain;
use crate::embedded::{Embedded, HomeError};
use crate::store::Store;

/// How many hashes of transactions are kept for those who listen; who is slower misses some.
const ARRIVALS: usize = 1024;
/// How often [`EmbeddedBackend::follow`] looks for blocks that other processes sealed. Blocks are seconds apart.
const FOLLOW: Duration = Duration::from_millis(500);

/// An [`Embedded`] home as a server sees it.
#[derive(Debug, Clone)]
pub struct EmbeddedBackend {
    home: Embedded,
    heads: Arc<watch::Sender<u64>>,
    arrivals: broadcast::Sender<B256>,
}

impl EmbeddedBackend {
    /// That home; its head is read once, to begin with.
    pub async fn open(home: Embedded) -> Result<Self, HomeError> {
        let height = home.read(Store::height).await?;
        Ok(Self { home, heads: Arc::new(watch::channel(height).0), arrivals: broadcast::channel(ARRIVALS).0 })
    }

    /// Announces blocks that other processes of this host seal. Runs until it is dropped.
    pub async fn follow(&self) {
        loop {
            tokio::time::sleep(FOLLOW).await;
            // A store that is busy now is asked again.
            if let Ok(height) = self.home.read(Store::height).await {
                self.announce(height);
            }
        }
    }

    fn announce(&self, height: u64) {
        self.heads.send_if_modified(|known| {
            let rises = height > *known;
            *known = height.max(*known);
            rises
        });
    }
}

impl Backend for EmbeddedBackend {
    async fn read<T, F>(&self, read: F) -> Result<T, HomeError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> T + Send + 'static,
    {
        self.home.read(read).await
    }

    async fn submit(&self, raw: Bytes) -> Result<B256, Refused> {
        let sealed = self.home.seal(vec![raw]).await.map_err(|error| match error {
            HomeError::Transaction { .. } | HomeError::Build(_) => Refused::Transaction { why: chain(&error) },
            other => Refused::Home(other),
        })?;
        let empty = || Refused::Transaction { why: "the sealed block is empty".to_owned() };
        let hash = sealed.transactions.first().copied().ok_or_else(empty)?;
        // Nobody may be listening.
        let _ = self.arrivals.send(hash);
        self.announce(sealed.height);
        Ok(hash)
    }

    fn now(&self) -> u64 {
        self.home.now()
    }

    fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    fn arrivals(&self) -> broadcast::Receiver<B256> {
        self.arrivals.subscribe()
    }

    fn next_nonce(&self, _: &Address) -> Option<u64> {
        None
    }

    fn find_pooled(&self, _: &B256) -> Option<Pooled> {
        None
    }

    fn pooled(&self) -> Vec<Pooled> {
        Vec::new()
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::default()
    }

    fn peers(&self) -> u64 {
        0
    }

    fn syncing(&self) -> Option<Syncing> {
        None
    }
}
