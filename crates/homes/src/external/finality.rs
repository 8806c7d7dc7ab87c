//! Which block of the chain is final.

use std::time::{Duration, Instant};

use alloy_primitives::B256;

use super::External;
use super::answers::{ChainBlock, TransactionPlace};
use super::ask::AskError;
use super::error::ExternalError;

/// How long the last final block is good for: a command that reads asks many questions about it.
const FRESH: Duration = Duration::from_millis(500);

impl External {
    /// The last final block (X1). It never goes back: a node that is behind is not believed about it.
    pub(crate) async fn final_block(&self) -> Result<ChainBlock, ExternalError> {
        let fresh = self.known(|known| known.last.filter(|(_, asked)| asked.elapsed() < FRESH));
        match fresh {
            Some((block, _)) => Ok(block),
            None => self.newest_final().await,
        }
    }

    /// The same, asked for now.
    pub(super) async fn newest_final(&self) -> Result<ChainBlock, ExternalError> {
        self.ready().await?;
        let found = self.named_final().await?;
        let before = self.known(|known| known.last.map(|(block, _)| block));
        if let Some(before) = before {
            if found.number < before.number {
                return Ok(before);
            }
            if self.options().terms.depth.is_some() || found.number == before.number {
                self.still_there(before.number.to(), before.hash).await?;
            }
        }
        self.known(|known| known.last = Some((found, Instant::now())));
        Ok(found)
    }

    /// True if a transaction is in a final block: its block must be the one that the chain has at that height, for a node may still
    /// tell of one that the chain has dropped.
    pub(super) async fn is_final(&self, place: &TransactionPlace, last: &ChainBlock) -> Result<bool, ExternalError> {
        if place.block_number > last.number {
            return Ok(false);
        }
        if place.block_number == last.number {
            return Ok(place.block_hash == last.hash);
        }
        Ok(self.asker().hash_at(place.block_number.to()).await? == Some(place.block_hash))
    }

    async fn named_final(&self) -> Result<ChainBlock, ExternalError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let Some(depth) = self.options().terms.depth else {
            return match self.asker().try_ask(METHOD, ("finalized", false)).await {
                Ok(Some(block)) => Ok(block),
                Ok(None) | Err(AskError::Answered(_)) => Err(ExternalError::NoFinality),
                Err(AskError::Failed(error)) => Err(error),
            };
        };
        let latest = self.asker().block("latest").await?.ok_or(ExternalError::NoFinality)?;
        let height = latest.number.to::<u64>().saturating_sub(depth);
        self.asker().block(&format!("0x{height:x}")).await?.ok_or(ExternalError::NoBlock { height })
    }

    /// Fails if a block that counted as final is not in the chain any more. Nodes that do not have it yet are behind: they are asked
    /// again, and then it is told.
    pub(super) async fn still_there(&self, height: u64, was: B256) -> Result<ChainBlock, ExternalError> {
        let started = Instant::now();
        loop {
            match self.asker().block_of_any(height).await? {
                Some(found) if found.hash == was => return Ok(found),
                Some(found) => return Err(ExternalError::Dropped { height, was, found: found.hash }),
                None if started.elapsed() >= self.asker().patience() => return Err(ExternalError::Behind { height }),
                None => tokio::time::sleep(FRESH).await,
            }
        }
    }
}
