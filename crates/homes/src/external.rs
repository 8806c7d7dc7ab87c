//! A ledger on an outside chain: any chain of the EVM whose nodes are asked over JSON-RPC.
//!
//! - **Owns** what is final there, fees, nonces, what was sent and is not final yet, and patience with nodes.
//! - **Does not** know contracts, and keeps no block: the chain is the truth, and its nodes are believed about it.
//!
//! # Invariants
//! - **X1** Nothing is read but at a final block: the one that the chain's nodes call `finalized`, or one with so many others above
//!   it as the vault says. What was final once and is not there any more is told, and nothing goes on.
//! - **X2** A transaction is reported done only when it is in a final block.
//! - **X3** A transaction is durable in the outbox before a node gets it, with its nonce. What replaces it has the same nonce, so
//!   whatever nodes, reorgs and kills do, at most one of its forms is ever on the chain.
//! - **X4** No more is offered for gas than the vault's cap.
//! - **X5** A node is of the vault's chain, by its id and its block 0, before it is believed or gets anything.
//!
//! Page: `docs/design/ledger.md`, section *Outside chains*.

mod anchor;
mod answers;
mod ask;
mod error;
mod evidence;
mod factory;
mod fees;
mod finality;
mod key_file;
mod outbox;
mod send;
mod tend;
mod transport;
mod word;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use blockhouse_ledger::certificate::external_key;
use blockhouse_ledger::fingerprint::TrustRoot;
use blockhouse_types::BlockHash;
use serde::{Deserialize, Serialize};

use crate::embedded::{HomeError, LedgerKeys, Standing};
use crate::remote::NodeUrl;
use ask::Asker;
use outbox::OutboxFile;

pub use anchor::{AnchorChain, Anchorer, LastAnchor, Made};
pub use answers::{ChainBlock, read_block, read_evidence, read_logs};
pub use error::ExternalError;
pub use key_file::{KeyFileError, parse_account_key, read_account_key};
pub use outbox::is_outbox;
pub(crate) use transport::ExternalTransport;
pub use word::{ChainWord, Founding};

/// What a vault says about the chain that it is on: `[ledger.chain]` of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainTerms {
    /// The block below which the vault's contracts are not there yet: nothing of it is searched.
    pub since: u64,
    /// How many blocks must be above a final one; none: what the chain's nodes call `finalized`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// The most that is offered for one unit of gas, in wei.
    #[serde(default = "usual::max_fee_wei")]
    pub max_fee_wei: u64,
    /// How long a transaction is waited for until it is final.
    #[serde(default = "usual::finality_secs")]
    pub finality_secs: u64,
    /// How long one may wait for a block before it is replaced by one that offers more.
    #[serde(default = "usual::replace_secs")]
    pub replace_secs: u64,
    /// How long nodes that do not answer, or ask to be left alone, are asked again.
    #[serde(default = "usual::patience_secs")]
    pub patience_secs: u64,
}

mod usual {
    /// 500 gwei: several times what busy days on Ethereum cost.
    pub(super) const fn max_fee_wei() -> u64 {
        500_000_000_000
    }

    /// Ethereum is final after a quarter of an hour; a bad day costs more.
    pub(super) const fn finality_secs() -> u64 {
        2 * 60 * 60
    }

    /// Some blocks of a slow chain.
    pub(super) const fn replace_secs() -> u64 {
        90
    }

    /// A node restarts in less.
    pub(super) const fn patience_secs() -> u64 {
        60
    }
}

impl ChainTerms {
    /// The usual terms, for a vault whose contracts are made above that block.
    pub const fn usual(since: u64, depth: Option<u64>) -> Self {
        Self {
            since,
            depth,
            max_fee_wei: usual::max_fee_wei(),
            finality_secs: usual::finality_secs(),
            replace_secs: usual::replace_secs(),
            patience_secs: usual::patience_secs(),
        }
    }
}

/// Which chain, and what of it is the vault's.
#[derive(Debug, Clone)]
pub struct ExternalOptions {
    /// Nodes of the chain, the first one asked first.
    pub nodes: Vec<NodeUrl>,
    /// Its chain id.
    pub chain_id: u64,
    /// Its block 0.
    pub genesis: BlockHash,
    /// The contract `Vault`.
    pub vault: Address,
    /// What the vault says about the chain.
    pub terms: ChainTerms,
    /// The file of what was sent and is not final yet.
    pub outbox: PathBuf,
}

/// A ledger on an outside chain. Clones share what is known of the chain.
#[derive(Clone)]
pub struct External {
    shared: Arc<Shared>,
}

struct Shared {
    options: ExternalOptions,
    asker: Asker,
    outbox: OutboxFile,
    known: Mutex<Known>,
}

/// What this process knows of the chain.
#[derive(Debug, Default)]
struct Known {
    /// What an earlier process has seen final was looked for.
    is_ready: bool,
    /// The highest final block, and when it was asked for.
    last: Option<(ChainBlock, Instant)>,
    /// The accounts for which nothing of an earlier process is waiting any more.
    finished: BTreeSet<Address>,
}

impl External {
    /// A handle; nobody is asked yet.
    pub fn new(options: ExternalOptions) -> Result<Self, ExternalError> {
        let asker = Asker::new(options.nodes.clone(), Duration::from_secs(options.terms.patience_secs))?
            .expecting(options.chain_id, B256::new(options.genesis.to_bytes()));
        let outbox = OutboxFile::at(options.outbox.clone());
        Ok(Self { shared: Arc::new(Shared { options, asker, outbox, known: Mutex::default() }) })
    }

    /// What it was made with.
    pub fn options(&self) -> &ExternalOptions {
        &self.shared.options
    }

    /// What a vault's fingerprint is made of here.
    pub fn root(&self) -> TrustRoot {
        let ExternalOptions { chain_id, genesis, vault, .. } = self.options();
        TrustRoot::external(*chain_id, *genesis, *vault)
    }

    /// Where the ledger stands: the last final block.
    pub async fn standing(&self) -> Result<Standing, HomeError> {
        let last = self.final_block().await?;
        Ok(Standing {
            height: last.number.to(),
            hash: last.hash,
            time: last.timestamp.to(),
            keys: LedgerKeys::resume(external_key(), Vec::new(), Vec::new()),
            fingerprint: self.root().fingerprint(),
        })
    }

    /// The hash of the final block of that height; none if it is not final.
    pub async fn final_hash(&self, height: u64) -> Result<Option<BlockHash>, HomeError> {
        let last = self.final_block().await?;
        if height > last.number.to::<u64>() {
            return Ok(None);
        }
        Ok(self.asker().hash_at(height).await?.map(|hash| BlockHash::new(hash.0)))
    }

    /// The code of an account at the last final block.
    pub async fn code(&self, account: Address) -> Result<Bytes, ExternalError> {
        let last = self.final_block().await?;
        self.asker().ask_at(&last, "eth_getCode", (account, last.number)).await
    }

    /// What an account owns now, in wei.
    pub async fn balance(&self, account: Address) -> Result<U256, ExternalError> {
        self.ready().await?;
        self.asker().ask("eth_getBalance", (account, "latest")).await
    }

    /// How many transactions of an account are in blocks, final or not.
    pub(crate) async fn mined_nonce(&self, account: Address) -> Result<u64, ExternalError> {
        let nonce: U64 = self.asker().ask("eth_getTransactionCount", (account, "latest")).await?;
        Ok(nonce.to())
    }

    /// How many of them are final.
    async fn final_nonce(&self, account: Address, last: &ChainBlock) -> Result<u64, ExternalError> {
        let nonce: U64 = self.asker().ask_at(last, "eth_getTransactionCount", (account, last.number)).await?;
        Ok(nonce.to())
    }

    fn asker(&self) -> &Asker {
        &self.shared.asker
    }

    /// X1 for what an earlier process has seen, once for each process.
    pub(crate) async fn ready(&self) -> Result<(), ExternalError> {
        if self.known(|known| known.is_ready) {
            return Ok(());
        }
        if let Some((height, was)) = self.shared.outbox.read()?.settled() {
            // What is final never goes back, from one command to the next either.
            let block = self.still_there(height, was).await?;
            self.known(|known| known.last = known.last.or(Some((block, Instant::now()))));
        }
        self.known(|known| known.is_ready = true);
        Ok(())
    }

    fn known<T>(&self, take: impl FnOnce(&mut Known) -> T) -> T {
        take(&mut self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("External").field("chain_id", &self.options().chain_id).finish_non_exhaustive()
    }
}
