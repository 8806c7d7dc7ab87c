//! The engine's side of the door: turns its questions into those of an [`crate::Application`].

use std::marker::PhantomData;
use std::sync::Arc;

use blockhouse_ledger::{Block, block_hash};
use commonware_consensus::Heightable;
use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::types::Context;
use commonware_cryptography::Digested;
use commonware_cryptography::ed25519::PublicKey;
use commonware_runtime::Clock;
use futures::StreamExt;

use crate::application::Erased;
use crate::bind::Scheme;
use crate::block::{Digest, WireBlock};
use crate::tuning::{PENDING_MAX, RECHECK};

/// An application as the engine sees it.
pub(crate) struct Door<S> {
    application: Arc<dyn Erased>,
    base: u64,
    scheme: PhantomData<fn() -> S>,
}

impl<S> Clone for Door<S> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.application), self.base)
    }
}

impl<S> Door<S> {
    pub(crate) const fn new(application: Arc<dyn Erased>, base: u64) -> Self {
        Self { application, base, scheme: PhantomData }
    }

    /// The blocks above the standing up to the first of the ancestry, oldest first. Waits while the node is far behind:
    /// what is final among them is delivered meanwhile.
    async fn pending(&self, clock: &impl Clock, mut ancestry: impl Ancestry<WireBlock>) -> Option<Vec<Arc<Block>>> {
        let mut next = ancestry.next().await?;
        let newest = self.base + next.height().get();
        while newest > self.application.standing().height.saturating_add(PENDING_MAX) {
            clock.sleep(RECHECK).await;
        }
        let standing = self.application.standing().height;
        let mut pending = Vec::new();
        while self.base + next.height().get() > standing {
            pending.push(Arc::clone(next.inner().block()));
            next = ancestry.next().await?;
        }
        pending.reverse();
        Some(pending)
    }

    /// The block as the engine carries it, if it is a child of that parent.
    fn wire(&self, block: Block, parent: &Digested<WireBlock>) -> Option<Digested<WireBlock>> {
        let header = &parent.inner().block().header;
        let follows = header.number.checked_add(1) == Some(block.header.number)
            && block.header.parent_hash.0 == block_hash(header).to_bytes();
        if !follows {
            return None;
        }
        WireBlock::new(Arc::new(block), self.base).map(WireBlock::digested)
    }
}

impl<E: Clock, S: Scheme> commonware_consensus::Application<E> for Door<S> {
    type SigningScheme = S;
    type Context = Context<Digest, PublicKey>;
    type Block = WireBlock;
    type Input = ();

    async fn propose(
        &mut self,
        (clock, _): (E, Self::Context),
        ancestry: impl Ancestry<WireBlock>,
        (): (),
    ) -> Option<Digested<WireBlock>> {
        let parent = ancestry.clone().next().await?;
        let pending = self.pending(&clock, ancestry).await?;
        let block = self.application.propose(pending).await?;
        self.wire(block, &parent)
    }

    async fn verify(&mut self, (clock, _): (E, Self::Context), mut ancestry: impl Ancestry<WireBlock>) -> bool {
        let Some(block) = ancestry.next().await else { return std::future::pending().await };
        // The ancestry ends early only when the engine does: no verdict then.
        let Some(pending) = self.pending(&clock, ancestry).await else { return std::future::pending().await };
        self.application.verify(pending, Arc::clone(block.inner().block())).await
    }
}
