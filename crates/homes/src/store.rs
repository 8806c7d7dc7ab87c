//! The durable block store of the embedded ledger: blocks, certificates, transaction receipts, the head's state, and how to get back to the
//! states of the last blocks before.
//!
//! - **Owns** the file `ledger.redb`: its tables, its lock, its checks.
//! - **Does not** execute blocks or judge certificates: what it appends was executed by `blockhouse-ledger`.
//!
//! # Invariants
//! - **E1** Nothing is returned that the head does not commit to: blocks by their hashes, receipts by the receipts
//!   root, the state by the state root, code by its hash. Anything else is [`StoreError::Damaged`].
//! - **D1** One block is one transaction of redb: a kill leaves it whole or not at all. It is durable when [`Store::append`] returns; after
//!   [`Store::append_unsynced`] once [`Store::sync`] has: until then a kill undoes it, with all that was appended since the last sync.
//!
//! Format: `docs/design/ledger.md`, section *Store*.

mod append;
mod beside;
mod error;
mod event_index;
#[cfg(feature = "node")]
mod examine;
mod file;
mod head;
mod heir;
mod links;
#[cfg(feature = "node")]
mod mend;
mod node_key;
#[cfg(feature = "node")]
mod pages;
#[cfg(feature = "node")]
mod past;
mod receipt_rows;
mod rehearsal;
#[cfg(feature = "node")]
mod salvage;
mod state_at;
#[cfg(feature = "node")]
mod state_part;
mod tables;
mod undo;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use blockhouse_ledger::block::{Block, decode_block, encode_block};
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::genesis::Genesis;
use blockhouse_ledger::state::{MemoryState, State, StateChanges, StateError, StateNodes, StateTrie};

use error::Fault;
use file::StoreFile;
use head::{BLOCK_HASHES, read_header};
use receipt_rows::{decode_receipts, encode_receipts};
use state_at::LastRead;
use tables::{BlockRows, Rows};

use crate::chain::chain;

#[cfg(feature = "node")]
pub(crate) use beside::{Beside, name_new, remove_leftovers, suffixed, sync_folder_of};
pub(crate) use beside::{beside, folder_of, keep, sync_folder};
pub use error::StoreError;
pub use event_index::{EventKey, EventPlace, Order, Sought, Wanted};
#[cfg(feature = "node")]
pub use examine::{Damage, Part};
pub use file::Access;
pub use head::Head;
#[cfg(feature = "node")]
pub use pages::PagePlace;
#[cfg(feature = "node")]
pub(crate) use past::Past;
#[cfg(feature = "node")]
pub(crate) use salvage::Salvage;
pub use state_at::StateAt;
#[cfg(feature = "node")]
pub use state_part::{PartError, StatePart};
pub use undo::UndoRecord;

/// How long a store waits for another process before it gives up.
pub const WAIT: Duration = Duration::from_secs(10);

/// A block that the head commits to.
#[derive(Debug, Clone)]
pub struct StoredBlock {
    /// Its hash.
    pub hash: B256,
    /// The block, its transactions checked against its header.
    pub block: Block,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The height of its block.
    pub height: u64,
    /// Its index in the block.
    pub index: usize,
}

/// What this process knows of a store that it had open before.
#[derive(Debug, Clone)]
pub struct Known {
    head: Arc<Head>,
    /// It was opened to write, so all pages of the file were checked.
    written: bool,
}

/// An open store, at the head that it had when it was opened, or after its own last block. Keep it open no longer than one request
/// takes: other processes wait for it. A clone stays at its head while the store it comes from goes on.
#[derive(Debug, Clone)]
pub struct Store {
    // Before the file, so that it is closed after them.
    rows: Arc<Rows>,
    /// The same after the last durable transaction: what is on the disk is not written over while this is held.
    durable: Arc<Rows>,
    head: Arc<Head>,
    file: Arc<StoreFile>,
    written: bool,
    misses: Misses,
    last_read: LastRead,
}

/// What it means that an index of hints does not have a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misses {
    /// Nothing, before all blocks were searched: a damaged index must not make a sealed transaction look unsent.
    Searched,
    /// That it is not there.
    Believed,
}

impl Store {
    /// Makes a new store that holds block 0 alone. Fails if there is a file at `path`.
    pub fn create(path: &Path, genesis: &Genesis, certificate: &Certificate) -> Result<(), StoreError> {
        let block = encode_block(&genesis.block());
        let (certificate, receipts) = (certificate.encode(), encode_receipts(&[]));
        let changes = StateChanges::default();
        let rows = BlockRows {
            height: 0,
            hash: B256::new(genesis.hash().to_bytes()),
            block: &block,
            certificate: &certificate,
            receipts: &receipts,
            outcomes: &[],
            transactions: &[],
            changes: &changes,
        };
        StoreFile::create(path, |transaction| {
            tables::write_genesis(transaction, &genesis.encode())?;
            tables::write_block(transaction, &rows)
        })
    }

    /// Opens and checks a store; waits up to `wait` while another process holds it.
    ///
    /// With what is `known` from before, a state is not read again while it is that of the head, and the pages of the
    /// file are not checked again before the next write.
    pub fn open(path: &Path, access: Access, wait: Duration, known: Option<Known>) -> Result<Self, StoreError> {
        let checked = known.as_ref().is_some_and(|known| known.written);
        let file = StoreFile::open(path, access, wait, checked)?;
        let rows = file.read(Rows::open)?;
        let head = file.guard("read", || match known {
            Some(Known { head, .. }) if rows.head()? == (head.height(), head.hash()) => Ok(head),
            known => Head::check(&rows, known.as_ref().map(|known| known.head.as_ref())).map(Arc::new),
        })?;
        let rows = Arc::new(rows);
        Ok(Self {
            durable: Arc::clone(&rows),
            rows,
            head,
            file: Arc::new(file),
            written: checked || access == Access::Write,
            misses: Misses::Searched,
            last_read: LastRead::default(),
        })
    }

    /// Height and hash of the head as the file names them, and nothing checked: to compare with what was checked before.
    pub fn peek(path: &Path, wait: Duration) -> Result<(u64, B256), StoreError> {
        StoreFile::open(path, Access::Read, wait, false)?.read(|transaction| Rows::open(transaction)?.head())
    }

    /// Goes on comparing the pages of a file that is open to write with their checksums, from that place on, for so many bytes; gives the next
    /// place, or nothing at the end. What is written meanwhile may be passed over.
    #[cfg(feature = "node")]
    pub fn compare_pages(&self, place: &PagePlace, bytes: usize) -> Result<Option<PagePlace>, StoreError> {
        // `durable` is the view that must be held meanwhile.
        self.file.compare_pages(place, bytes)
    }

    /// This store, where a hash that an index does not have is taken as not there. Anybody may ask a node for any hash, all day long; who is
    /// told of a sealed transaction that it is not there sends it again, and is told that its nonce is used.
    #[cfg(feature = "node")]
    #[must_use]
    pub(crate) fn believing_misses(self) -> Self {
        Self { misses: Misses::Believed, ..self }
    }

    /// What there is to know when it is opened again.
    pub fn known(&self) -> Known {
        Known { head: Arc::clone(&self.head), written: self.written }
    }

    /// The checked head; stays valid after the store is closed.
    pub const fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// Height of the last block.
    pub fn height(&self) -> u64 {
        self.head.height()
    }

    /// What the ledger began with.
    pub fn genesis(&self) -> &Genesis {
        self.head.genesis()
    }

    /// The state after the last block. What is read of it is checked on the way (E1).
    pub fn state(&self) -> State<'_, Self> {
        State::at(self.head.header().state_root, self)
    }

    /// All that is kept of the state, read into memory to stay when the store is closed.
    pub fn memory(&self) -> Result<MemoryState, StoreError> {
        let mut memory = self.read(Rows::state)?;
        for height in self.height().saturating_sub(BLOCK_HASHES)..=self.height() {
            memory.set_block_hash(height, self.known_hash(height)?);
        }
        Ok(memory)
    }

    /// The hash of the block of that height; none above the head. What was not linked to the head yet is now.
    pub fn hash_at(&self, height: u64) -> Result<Option<B256>, StoreError> {
        if height > self.height() {
            return Ok(None);
        }
        if height == 0 && self.bottom() > 0 {
            // Whether the blocks above it lead down to it is seen when the last of them is fetched.
            return Ok(Some(B256::new(self.genesis().hash().to_bytes())));
        }
        self.expect_here(height)?;
        match self.head.linked(height) {
            Some(hash) => Ok(Some(hash)),
            None => self.read(|rows| self.head.link(rows, height)).map(Some),
        }
    }

    /// The block of that height, which must not be above the head.
    pub fn block(&self, height: u64) -> Result<StoredBlock, StoreError> {
        let hash = self.known_hash(height)?;
        self.read(|rows| rows.block(height, |bytes| checked_block(height, hash, bytes)))
    }

    /// The header alone of the block of that height: its transactions are not looked at.
    pub fn header(&self, height: u64) -> Result<Header, StoreError> {
        let hash = self.known_hash(height)?;
        self.read(|rows| read_header(rows, height, hash))
    }

    /// The transaction receipts of the block of that height, in order.
    pub fn receipts(&self, height: u64) -> Result<Vec<ReceiptEnvelope>, StoreError> {
        self.receipts_of(&self.block(height)?)
    }

    /// The transaction receipts of a block that was read from here.
    pub fn receipts_of(&self, stored: &StoredBlock) -> Result<Vec<ReceiptEnvelope>, StoreError> {
        let Header { number: height, receipts_root: root, .. } = stored.block.header;
        self.read(|rows| rows.receipts(height, |bytes| checked_receipts(height, root, bytes)))
    }

    /// The certificate of that height. It stands outside the block hash: who uses it judges it.
    pub fn certificate(&self, height: u64) -> Result<Certificate, StoreError> {
        self.expect_here(height)?;
        self.read(|rows| {
            rows.certificate(height, |bytes| {
                Certificate::decode(bytes).map_err(|error| Fault::damaged(format!("certificate {height}: {error}")))
            })
        })
    }

    /// The height of that block, if the chain has it. As for transactions, a miss is believed only after a search.
    pub fn find_block(&self, hash: &B256) -> Result<Option<u64>, StoreError> {
        let hint = self.read(|rows| rows.height(hash))?;
        if let Some(height) = hint
            && self.hash_at(height)? == Some(*hash)
        {
            return Ok(hint);
        }
        if self.misses == Misses::Believed {
            return Ok(None);
        }
        for height in (0..=self.height()).rev() {
            if self.hash_at(height)? == Some(*hash) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    /// The place of that transaction, if the chain has it.
    ///
    /// The index on disk is a hint. A hit is checked; a miss is believed only after all blocks were searched, since a
    /// damaged index must not make a sealed transaction look unsent.
    pub fn find_transaction(&self, hash: &B256) -> Result<Option<Place>, StoreError> {
        let hint = self.read(|rows| rows.transaction(hash))?;
        if let Some(height) = hint.filter(|height| *height <= self.height())
            && let Some(place) = self.find_in(height, hash)?
        {
            return Ok(Some(place));
        }
        if self.misses == Misses::Believed {
            return Ok(None);
        }
        for height in (0..=self.height()).rev() {
            if let Some(place) = self.find_in(height, hash)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The height of the first block that is not in the index of events: the head's next one, unless an earlier version wrote to the store.
    pub fn indexed_events(&self) -> u64 {
        self.rows.indexed()
    }

    /// The next place from `from` on, itself included and in the order given, below [`Self::indexed_events`], whose log may have
    /// what is wanted: a hint, to be checked with the log. That there is none is believed. Each look-up takes one of `work`.
    pub fn seek_event(
        &self,
        wanted: &Wanted,
        (from, order): (EventPlace, Order),
        work: &mut u64,
    ) -> Result<Sought, StoreError> {
        self.read(|rows| rows.seek_event(wanted, (from, order), work))
    }

    /// True if what an index does not have is taken as not there.
    pub(crate) fn believes_misses(&self) -> bool {
        self.misses == Misses::Believed
    }

    /// The path it was opened under.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Why the state could not be read: the store failed, or what it holds is not under the head.
    pub(crate) fn of_state(&self, error: StateError<StoreError>) -> StoreError {
        match error {
            StateError::View(error) => error,
            other => self.damaged(chain(&other)),
        }
    }

    /// This store is damaged, in these words.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> StoreError {
        self.file.damaged(what)
    }

    /// The lowest height above block 0 from which on all blocks are here: of a store that began by a state, until the others are fetched; 0
    /// if all are.
    pub fn bottom(&self) -> u64 {
        self.rows.bottom()
    }

    /// Refuses a block that is not here yet.
    pub(crate) fn expect_here(&self, height: u64) -> Result<(), StoreError> {
        let bottom = self.bottom();
        if height > 0 && height < bottom { Err(StoreError::NotHere { height, bottom }) } else { Ok(()) }
    }

    fn known_hash(&self, height: u64) -> Result<B256, StoreError> {
        self.hash_at(height)?.ok_or_else(|| self.damaged(format!("block {height} is above the head")))
    }

    fn read<T>(&self, read: impl FnOnce(&Rows) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.file.guard("read", || read(&self.rows))
    }

    fn find_in(&self, height: u64, hash: &B256) -> Result<Option<Place>, StoreError> {
        let stored = self.block(height)?;
        let index = stored.block.body.transactions.iter().position(|transaction| transaction.tx_hash() == hash);
        Ok(index.map(|index| Place { height, index }))
    }
}

/// What the file keeps of the state, nothing of it checked.
impl StateNodes for Store {
    type Error = StoreError;

    fn node(&self, trie: &StateTrie, path: &Nibbles) -> Result<Option<Bytes>, StoreError> {
        self.read(|rows| rows.node(trie, path))
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        self.read(|rows| rows.code(hash))
    }

    fn block_hash(&self, height: u64) -> Result<Option<B256>, StoreError> {
        self.hash_at(height)
    }
}

fn checked_block(height: u64, hash: B256, bytes: &[u8]) -> Result<StoredBlock, Fault> {
    let block = decode_block(bytes).map_err(|error| Fault::damaged(format!("block {height}: {error}")))?;
    let transactions = calculate_transaction_root(&block.body.transactions);
    let whole = block.body.ommers.is_empty()
        && block.header.hash_slow() == hash
        && block.header.transactions_root == transactions
        && block.body.withdrawals.as_ref().is_none_or(|withdrawals| withdrawals.is_empty());
    if whole { Ok(StoredBlock { hash, block }) } else { Err(Fault::damaged(format!("block {height} is another one"))) }
}

fn checked_receipts(height: u64, root: B256, bytes: &[u8]) -> Result<Vec<ReceiptEnvelope>, Fault> {
    let receipts =
        decode_receipts(bytes).map_err(|error| Fault::damaged(format!("the receipts of block {height}: {error}")))?;
    if calculate_receipt_root(&receipts) != root {
        return Err(Fault::damaged(format!("the receipts of block {height} do not give its receipts root")));
    }
    Ok(receipts)
}
