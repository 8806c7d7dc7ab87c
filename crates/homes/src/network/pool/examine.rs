//! What can be said of a transaction without the state: its form, its sender, its cost before it runs.
//!
//! - **Owns** the checks that take time (the signature) and need no pool: they run outside whatever guards the pool.
//! - **Does not** know nonces or who is enrolled.

use std::sync::Arc;

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, TxHash};
use alloy_rlp::Encodable;
use blockhouse_ledger::{Genesis, Recall, rules};

use super::limits::{OVERHEAD, TRANSACTION_MAX};
use super::refusal::Refusal;

/// What every transaction of a ledger must satisfy.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The ledger.
    pub genesis: Genesis,
    /// The well-known account whose transactions only blocks carry.
    pub system: Address,
    /// The greatest gas limit: what a block has left beside the ledger's own transaction.
    pub gas_max: u64,
    /// Where senders are kept: each transaction comes by several times.
    pub recall: Arc<Recall>,
}

/// A transaction that may stand in a block if its sender is enrolled and its nonce is the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    pub(super) tx: TxEnvelope,
    pub(super) hash: TxHash,
    pub(super) sender: Address,
    pub(super) length: usize,
}

impl Rules {
    /// Reads a transaction (EIP-2718) and examines it; only its one encoding is taken. `time` is that of the head.
    pub fn examine_bytes(&self, bytes: &[u8], time: u64) -> Result<Examined, Refusal> {
        // A transaction in a block is never shorter than its bytes: what is too long is not even read.
        if bytes.len() > TRANSACTION_MAX {
            return Err(Refusal::TooLarge { length: bytes.len(), limit: TRANSACTION_MAX });
        }
        let tx =
            TxEnvelope::decode_2718_exact(bytes).map_err(|source| Refusal::Encoding { reason: source.to_string() })?;
        if tx.encoded_2718() != bytes {
            return Err(Refusal::Encoding { reason: "not its canonical encoding".to_owned() });
        }
        self.examine(tx, time)
    }

    /// Examines a transaction; `time` is that of the head, and says which fork's rules hold.
    pub fn examine(&self, tx: TxEnvelope, time: u64) -> Result<Examined, Refusal> {
        let length = tx.length();
        if length > TRANSACTION_MAX {
            return Err(Refusal::TooLarge { length, limit: TRANSACTION_MAX });
        }
        if tx.gas_limit() > self.gas_max {
            return Err(Refusal::BlockGas { found: tx.gas_limit(), limit: self.gas_max });
        }
        let sender = rules::sender(&self.genesis, &tx, Some(&self.recall))
            .and_then(|sender| rules::check_alone(&self.genesis, time, &tx).map(|()| sender))
            .map_err(|fault| Refusal::from_fault(fault, tx.max_fee_per_gas()))?;
        if sender == self.system {
            return Err(Refusal::System { sender });
        }
        Ok(Examined { hash: *tx.tx_hash(), sender, length, tx })
    }
}

impl Examined {
    /// The transaction.
    pub const fn tx(&self) -> &TxEnvelope {
        &self.tx
    }

    /// Its hash.
    pub const fn hash(&self) -> TxHash {
        self.hash
    }

    /// Who signed it.
    pub const fn sender(&self) -> Address {
        self.sender
    }

    /// Its nonce.
    pub fn nonce(&self) -> u64 {
        self.tx.nonce()
    }

    /// Its gas limit.
    pub fn gas(&self) -> u64 {
        self.tx.gas_limit()
    }

    /// Its length in a block's list of transactions.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Its bytes as they are sent and kept (EIP-2718).
    pub fn bytes(&self) -> Vec<u8> {
        self.tx.encoded_2718()
    }

    /// What it is charged in the pool.
    pub const fn weight(&self) -> usize {
        self.length.saturating_add(OVERHEAD)
    }
}
