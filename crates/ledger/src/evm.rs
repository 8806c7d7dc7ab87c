//! The EVM over a state view: its rules, its block, its reads.
//!
//! - **Owns** the adapter between [`StateView`] and `revm`, and how a fork becomes a configuration.
//! - **Does not** decide which transactions may run.
//!
//! # Invariants
//! - **E1** Code is compared with its hash before it runs: a damaged store stops execution, it never bends it.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256, keccak256};
use revm::context::{BlockEnv, CfgEnv, Journal, TxEnv};
use revm::database::{AccountState, Cache, CacheDB};
use revm::database_interface::DBErrorMarker;
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, DatabaseRef, MainBuilder, MainContext, MainnetEvm};

use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};

use crate::genesis::Genesis;
use crate::state::{AccountRecord, StateChanges, StateView};

/// A state that could not be read, or is not what it says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError<E: std::error::Error + 'static> {
    #[error("could not read the state")]
    State(#[source] E),
    #[error("the state does not know the hash of block {height}")]
    BlockHash { height: u64 },
    #[error("the state holds other code under the hash {hash}")]
    Code { hash: B256 },
}

impl<E: std::error::Error + Send + Sync + 'static> DBErrorMarker for ViewError<E> {}

/// `revm`'s view of the state after a block.
pub(crate) struct View<'a, S> {
    state: &'a S,
    head: u64,
    head_hash: B256,
}

impl<S: StateView> DatabaseRef for View<'_, S> {
    type Error = ViewError<S::Error>;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Self::Error> {
        let record = self.state.account(&address).map_err(ViewError::State)?;
        Ok(record.map(|AccountRecord { nonce, balance, code_hash, .. }| AccountInfo {
            nonce,
            balance,
            code_hash,
            code: None,
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Self::Error> {
        if hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let code = self.state.code(&hash).map_err(ViewError::State)?;
        if keccak256(&code) != hash {
            return Err(ViewError::Code { hash });
        }
        Ok(Bytecode::new_legacy(code))
    }

    fn storage_ref(&self, address: Address, key: U256) -> Result<U256, Self::Error> {
        self.state.slot(&address, &key).map_err(ViewError::State)
    }

    fn block_hash_ref(&self, height: u64) -> Result<B256, Self::Error> {
        if height == self.head {
            return Ok(self.head_hash);
        }
        self.state.block_hash(height).map_err(ViewError::State)?.ok_or(ViewError::BlockHash { height })
    }
}

/// The database of one block: changes of its transactions above the parent's state.
pub(crate) type BlockDatabase<'a, S> = CacheDB<View<'a, S>>;

/// An EVM over one block.
pub(crate) type BlockEvm<'a, S> =
    MainnetEvm<Context<BlockEnv, TxEnv, CfgEnv, BlockDatabase<'a, S>, Journal<BlockDatabase<'a, S>>, ()>>;

/// The EVM for a block of that height and time, above the state after `head`.
pub(crate) fn evm<'a, S: StateView>(
    genesis: &Genesis,
    head: &Header,
    state: &'a S,
    height: u64,
    time: u64,
) -> BlockEvm<'a, S> {
    let view = View { state, head: head.number, head_hash: head.hash_slow() };
    Context::mainnet()
        .modify_cfg_chained(|cfg| {
            cfg.chain_id = genesis.chain_id;
            cfg.set_spec_and_mainnet_gas_params(genesis.fork_at(time).spec());
        })
        .modify_block_chained(|block| {
            *block = BlockEnv {
                number: U256::from(height),
                timestamp: U256::from(time),
                gas_limit: genesis.gas_limit,
                basefee: 0,
                beneficiary: Address::ZERO,
                difficulty: U256::ZERO,
                prevrandao: Some(B256::ZERO),
                blob_excess_gas_and_price: None,
                ..BlockEnv::default()
            };
        })
        .with_db(CacheDB::new(view))
        .build_mainnet()
}

/// What the executed transactions changed against the parent's state. Storage roots are still the old ones.
pub(crate) fn changes<S: StateView>(state: &S, cache: Cache) -> Result<StateChanges, S::Error> {
    let mut changes = StateChanges::default();
    for (address, account) in cache.accounts {
        let before = state.account(&address)?;
        let mut slots = std::collections::BTreeMap::new();
        let emptied = matches!(account.account_state, AccountState::StorageCleared | AccountState::NotExisting);
        if emptied && before.is_some() {
            slots.extend(state.slots(&address)?.into_iter().map(|(key, _)| (key, U256::ZERO)));
        }
        let exists = account.account_state != AccountState::NotExisting && !account.info.is_empty();
        if exists {
            slots.extend(account.storage);
        }
        for (key, value) in slots {
            if state.slot(&address, &key)? != value {
                changes.slots.insert((address, key), value);
            }
        }
        let after = exists.then(|| AccountRecord {
            nonce: account.info.nonce,
            balance: account.info.balance,
            code_hash: account.info.code_hash,
            storage_root: before.map_or(EMPTY_ROOT_HASH, |record| record.storage_root),
        });
        let touched = changes.slots.range((address, U256::ZERO)..=(address, U256::MAX)).next().is_some();
        if after != before || touched {
            changes.accounts.insert(address, after);
        }
        let hash = account.info.code_hash;
        if exists && hash != KECCAK_EMPTY && before.is_none_or(|record| record.code_hash != hash) {
            changes.codes.extend(cache.contracts.get(&hash).map(|code| (hash, code.original_bytes())));
        }
    }
    Ok(changes)
}
