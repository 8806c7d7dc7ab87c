//! Gives final blocks to the application, each with its certificate, and lets the engine forget them.
//!
//! # Invariants
//! - **D1** A block is acknowledged only after the application made it durable: several at once, for each time costs a wait for the disk.
//! - **D2** The application gets the block above its standing and no other: what the engine gives again is skipped, what
//!   the application lost is read from the engine's archive first.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockhouse_ledger::certificate::DESCENDANTS_MAX;
use blockhouse_ledger::{Block, Certificate};
use blockhouse_types::limits::CERTIFICATE_MAX;
use commonware_actor::Feedback;
use commonware_consensus::marshal::Update;
use commonware_consensus::marshal::core::Mailbox;
use commonware_consensus::marshal::standard::Standard;
use commonware_consensus::types::Height;
use commonware_consensus::{Heightable, Reporter};
use commonware_cryptography::{Digested, Digestible};
use commonware_runtime::Clock;
use commonware_utils::Acknowledgement;
use commonware_utils::acknowledgement::Exact;
use futures::future::{Either, select};
use tokio::sync::mpsc;

use crate::application::Erased;
use crate::bind::Scheme;
use crate::block::WireBlock;
use crate::engine::EngineError;
use crate::status::Counts;
use crate::tuning::{CERTIFICATE_DEADLINE, PENDING_ACKS, RECHECK, SECTION, SYNC_AFTER, SYNC_BLOCKS};

/// The engine's end of the queue of final blocks.
#[derive(Clone)]
pub(crate) struct Delivery {
    queue: mpsc::Sender<(Digested<WireBlock>, Exact)>,
    counts: Arc<Counts>,
    base: u64,
}

/// The other end.
pub(crate) type Queue = mpsc::Receiver<(Digested<WireBlock>, Exact)>;

impl Delivery {
    /// A queue for all blocks that the engine gives before an acknowledgement.
    pub(crate) fn new(counts: Arc<Counts>, base: u64) -> (Self, Queue) {
        let (queue, receiver) = mpsc::channel(PENDING_ACKS.get() * 2);
        (Self { queue, counts, base }, receiver)
    }
}

impl Reporter for Delivery {
    type Activity = Update<WireBlock>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Tip(_, height, _) => {
                self.counts.tip.fetch_max(self.base + height.get(), Ordering::Relaxed);
                Feedback::Ok
            }
            Update::Block(block, acknowledgement) => match self.queue.try_send((block, acknowledgement)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
        }
    }
}

/// Who takes final blocks to the application.
pub(crate) struct Courier<E, S: Scheme> {
    pub(crate) clock: E,
    pub(crate) application: Arc<dyn Erased>,
    pub(crate) marshal: Mailbox<S, Standard<WireBlock>>,
    pub(crate) scheme: S,
    /// The charter that names who signs, if one does.
    pub(crate) charter: Option<[u8; 32]>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) base: u64,
    /// How many blocks below the standing are kept; all, if not told.
    pub(crate) keep: Option<u64>,
}

impl<E: Clock, S: Scheme> Courier<E, S> {
    /// Delivers until something fails; ends without an error when the engine does.
    pub(crate) async fn run(self, mut queue: Queue) -> Result<(), EngineError> {
        self.catch_up().await?;
        let mut owed = Owed::default();
        loop {
            match self.next(&mut queue, owed.due.as_mut()).await {
                Next::Block(block, acknowledgement) => {
                    let block = block.inner().block();
                    self.deliver(block).await?;
                    owed.due.get_or_insert_with(|| Box::pin(self.clock.sleep(SYNC_AFTER)));
                    owed.blocks.push((block.header.number, acknowledgement));
                    if owed.blocks.len() >= SYNC_BLOCKS || self.application.last_block() == Some(block.header.number) {
                        self.settle(&mut owed).await?;
                    }
                }
                Next::Due => self.settle(&mut owed).await?,
                Next::End => return self.settle(&mut owed).await,
            }
        }
    }

    /// The next block, or that those before it are due to be made durable.
    async fn next(&self, queue: &mut Queue, due: Option<&mut Timer>) -> Next {
        let block = async { queue.recv().await.map_or(Next::End, |(block, owed)| Next::Block(block, owed)) };
        let Some(due) = due else { return block.await };
        match select(Box::pin(block), due).await {
            Either::Left((next, _)) => next,
            Either::Right(_) => Next::Due,
        }
    }

    /// Has the application make its blocks durable, and acknowledges them (D1).
    async fn settle(&self, owed: &mut Owed) -> Result<(), EngineError> {
        let Owed { blocks, .. } = std::mem::take(owed);
        if !blocks.is_empty() {
            self.application.sync().await?;
        }
        for (height, acknowledgement) in blocks {
            acknowledgement.acknowledge();
            self.prune(height);
        }
        Ok(())
    }

    /// Lets the engine forget old blocks, once for each section of its archive.
    fn prune(&self, height: u64) {
        let kept = self.keep.and_then(|keep| height.checked_sub(self.base)?.checked_sub(keep));
        if let Some(below) = kept.filter(|below| *below % SECTION == 0) {
            self.marshal.prune(Height::new(below));
        }
    }

    /// Gives the application what the engine calls processed and the application has lost.
    async fn catch_up(&self) -> Result<(), EngineError> {
        let standing = self.application.standing().height;
        self.counts.height.fetch_max(standing, Ordering::Relaxed);
        let Some(processed) = self.marshal.get_processed().await else { return Ok(()) };
        for height in standing + 1..=self.base + processed.height().get() {
            let Some(block) = self.stored(height).await else {
                return Err(EngineError::Behind { standing, missing: height });
            };
            self.deliver(block.block()).await?;
            if (height - standing).is_multiple_of(SYNC_BLOCKS as u64) {
                self.application.sync().await?;
            }
        }
        self.application.sync().await?;
        Ok(())
    }

    async fn deliver(&self, block: &Arc<Block>) -> Result<(), EngineError> {
        let height = block.header.number;
        let standing = self.application.standing().height;
        if height <= standing {
            return Ok(());
        }
        if height != standing + 1 {
            return Err(EngineError::Gap { standing, found: height });
        }
        let certificate = self.certificate(block).await?;
        self.application.finalize(Arc::clone(block), certificate).await?;
        self.counts.height.fetch_max(height, Ordering::Relaxed);
        Ok(())
    }

    /// What vouches for a final block: its own finalization, or that of its first descendant that has one.
    async fn certificate(&self, block: &Arc<Block>) -> Result<Certificate, EngineError> {
        let height = block.header.number;
        let deadline = self.clock.current() + CERTIFICATE_DEADLINE;
        loop {
            match self.look(block).await {
                Look::Found(certificate) if certificate.encode().len() <= CERTIFICATE_MAX => return Ok(certificate),
                Look::Found(_) | Look::TooFar => return Err(EngineError::TooFar { height }),
                Look::NotYet if self.clock.current() >= deadline => return Err(EngineError::NoCertificate { height }),
                Look::NotYet => self.clock.sleep(RECHECK).await,
            }
        }
    }

    async fn look(&self, block: &Arc<Block>) -> Look {
        let mut last = blockhouse_ledger::block_hash(&block.header);
        let mut descendants = Vec::new();
        for height in block.header.number..=block.header.number + DESCENDANTS_MAX as u64 {
            if height > block.header.number {
                let Some(next) = self.stored(height).await else { return Look::NotYet };
                if next.block().header.parent_hash.0 != last.to_bytes() {
                    return Look::NotYet;
                }
                last = blockhouse_ledger::block_hash(&next.block().header);
                descendants.push(next.block().header.clone());
            }
            let found = self.marshal.get_finalization(self.engine_height(height)).await;
            let found = found.filter(|found| found.proposal.payload == crate::block::digest(&last));
            if let Some(found) = found {
                let certificate = self.scheme.certificate(&found, descendants);
                return certificate.map_or(Look::NotYet, |certificate| Look::Found(certificate.under(self.charter)));
            }
        }
        Look::TooFar
    }

    async fn stored(&self, height: u64) -> Option<WireBlock> {
        let height = self.engine_height(height);
        let block = self.marshal.get_block(height).await?;
        debug_assert_eq!(block.height(), height, "block {} at another height", block.digest());
        Some(block.inner().clone())
    }

    const fn engine_height(&self, height: u64) -> Height {
        Height::new(height - self.base)
    }
}

/// It does not go by the hands of a clock: that may be set back.
type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The blocks that the application recorded and the engine was not told of.
#[derive(Default)]
struct Owed {
    blocks: Vec<(u64, Exact)>,
    /// Ends when they are to be durable.
    due: Option<Timer>,
}

/// What a courier does next.
enum Next {
    Block(Digested<WireBlock>, Exact),
    Due,
    End,
}

/// What a search for a certificate ended with.
enum Look {
    Found(Certificate),
    NotYet,
    TooFar,
}
