//! Leaving the ledger to another key: the host that sealed it seals no more, before anybody else may.
//!
//! # Invariants
//! - **V1** Once [`Embedded::leave_to`] has returned, no process of this host adds a block of its own to this store, whenever it began: each
//!   looks for the mark while it holds the store alone, as the mark was written.
//! - **V2** A copy holds what this store holds: each block is executed and its certificate checked there, as one of a stranger is.

use std::sync::Arc;

use alloy_primitives::Address;
use blockhouse_crypto::LedgerKey;

use super::error::HomeError;
use super::keys::LedgerKeys;
use super::{Embedded, Standing, standing_of};
use crate::store::{Access, Store};

/// How many blocks are copied at once: they are durable together.
const RUN: usize = 1024;

impl Embedded {
    /// Seals nothing any more: the ledger is left to `heir`, above the block at which it then stands. Only whoever seals can leave it, after
    /// the guard agreed as to a block; done again it may name another heir.
    pub async fn leave_to(&self, heir: [u8; 32]) -> Result<Standing, HomeError> {
        let key = self.shared.options.sealer.key().cloned().ok_or(HomeError::NoKey)?;
        if let Some(guard) = &self.shared.options.before_seal {
            let standing = self.read(standing_of).await??;
            let height = standing.height;
            guard(standing).await.map_err(|source| HomeError::Guard { height, source })?;
        }
        self.blocking(move |home| home.with_store(Access::Write, |store| leave(store, &key, &heir))).await
    }

    /// The key that the ledger was left to, if it was.
    pub async fn heir(&self) -> Result<Option<[u8; 32]>, HomeError> {
        Ok(self.read(Store::heir).await??)
    }

    /// How many transactions an account has made up to the last block here, whatever it has handed to nodes since.
    pub async fn nonce(&self, account: Address) -> Result<u64, HomeError> {
        let nonce = move |store: &Store| {
            let record = store.state().account(&account).map_err(|error| store.of_state(error))?;
            Ok::<_, HomeError>(record.map_or(0, |record| record.nonce))
        };
        self.read(nonce).await?
    }

    /// Brings another store of this ledger up to this one, or makes it (V2).
    pub async fn copy_into(&self, other: &Self) -> Result<(), HomeError> {
        match other.read(Store::height).await {
            Ok(_) => {}
            Err(error) if error.is_healed_by_replay() => {
                other.rebuild_from(self.block_objects(0, 1).await?).await?;
            }
            Err(error) => return Err(error),
        }
        loop {
            let next = other.read(Store::height).await? + 1;
            let run = self.block_objects(next, RUN).await?;
            if run.is_empty() {
                return Ok(());
            }
            other.import_run(run).await?;
        }
    }
}

fn leave(store: &mut Store, key: &Arc<LedgerKey>, heir: &[u8; 32]) -> Result<Standing, HomeError> {
    let (in_force, own) = (LedgerKeys::of(store)?.in_force(), key.public());
    if in_force != own {
        return Err(HomeError::HandedOver { in_force, own });
    }
    store.leave_to(heir)?;
    standing_of(store)
}
