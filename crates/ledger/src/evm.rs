//! The EVM over a state: its rules, its block, its reads.
//!
//! - **Owns** the adapter between [`State`] and `revm`, and how a fork becomes a configuration.
//! - **Does not** decide which transactions may run.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256};
use revm::context::{BlockEnv, CfgEnv, Journal, TxEnv};
use revm::database::CacheDB;
use revm::database_interface::DBErrorMarker;
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, DatabaseRef, MainBuilder, MainContext, MainnetEvm};

use crate::genesis::Genesis;
use crate::state::{AccountRecord, State, StateError, StateNodes};

/// A state that execution could not go on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError<E: std::error::Error + 'static> {
    #[error("could not read the state")]
    State(#[from] StateError<E>),
    #[error("the state does not know the hash of block {height}")]
    BlockHash { height: u64 },
}

impl<E: std::error::Error + Send + Sync + 'static> DBErrorMarker for ViewError<E> {}

/// `revm`'s view of the state after a block.
pub(crate) struct View<'a, N> {
    pub(crate) state: State<'a, N>,
    head: u64,
    head_hash: B256,
}

impl<N: StateNodes> DatabaseRef for View<'_, N> {
    type Error = ViewError<N::Error>;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Self::Error> {
        let record = self.state.account(&address)?;
        Ok(record.map(|AccountRecord { nonce, balance, code_hash, .. }| AccountInfo {
            nonce,
            balance,
            code_hash,
            code: None,
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Self::Error> {
        let recall = self.state.nodes().recall();
        if let Some(code) = recall.and_then(|recall| recall.code(&hash)) {
            return Ok(code);
        }
        let code = Bytecode::new_legacy(self.state.code(&hash)?);
        if let Some(recall) = recall {
            recall.keep_code(hash, &code);
        }
        Ok(code)
    }

    fn storage_ref(&self, address: Address, key: U256) -> Result<U256, Self::Error> {
        Ok(self.state.slot(&address, &key)?)
    }

    fn block_hash_ref(&self, height: u64) -> Result<B256, Self::Error> {
        if height == self.head {
            return Ok(self.head_hash);
        }
        self.state.block_hash(height)?.ok_or(ViewError::BlockHash { height })
    }
}

/// The database of one block: changes of its transactions above the parent's state.
pub(crate) type BlockDatabase<'a, N> = CacheDB<View<'a, N>>;

/// An EVM over one block.
pub(crate) type BlockEvm<'a, N> =
    MainnetEvm<Context<BlockEnv, TxEnv, CfgEnv, BlockDatabase<'a, N>, Journal<BlockDatabase<'a, N>>, ()>>;

/// The EVM for a block of this ledger of that height and time, above the state after `head`.
pub(crate) fn evm<'a, N: StateNodes>(
    genesis: &Genesis,
    head: &Header,
    nodes: &'a N,
    height: u64,
    time: u64,
) -> BlockEvm<'a, N> {
    let block = BlockEnv {
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
    machine(genesis.chain_id, genesis.fork_at(time).spec(), block, head, nodes)
}

/// The EVM for any block of a chain with those rules, above the state after `head`.
pub(crate) fn machine<'a, N: StateNodes>(
    chain_id: u64,
    spec: SpecId,
    block: BlockEnv,
    head: &Header,
    nodes: &'a N,
) -> BlockEvm<'a, N> {
    let state = State::at(head.state_root, nodes);
    let view = View { state, head: head.number, head_hash: head.hash_slow() };
    Context::mainnet()
        .modify_cfg_chained(|cfg| {
            cfg.chain_id = chain_id;
            cfg.set_spec_and_mainnet_gas_params(spec);
        })
        .modify_block_chained(|place| *place = block)
        .with_db(CacheDB::new(view))
        .build_mainnet()
}
