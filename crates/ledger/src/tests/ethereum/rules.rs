//! Ethereum's own rules for blocks: what stands there in the place of B1 to B6.
//!
//! - **Owns** forks by height, the rules of headers and ommers, rewards, withdrawals, the call for the beacon's root.
//! - **Does not** run transactions or make roots: that is the ledger's own [`Run`].
//!
//! Proof of work and the difficulty that it asks for are taken as given: the files have no proofs (`"sealEngine": "NoProof"`).

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Transaction};
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE};
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B64, B256, U256};
use revm::SystemCallCommitEvm;
use revm::context::BlockEnv;
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::primitives::hardfork::SpecId;

use crate::block::Block;
use crate::execute::Run;
use crate::state::MemoryState;

const EXTRA_DATA_MAX: usize = 32;
const GAS_LIMIT_MIN: u64 = 5000;
const GAS_LIMIT_MAX: u64 = (1 << 63) - 1;
/// A gas limit differs from its parent's by less than this part of it.
const GAS_LIMIT_PART: u64 = 1024;
const ELASTICITY: u64 = 2;
const OMMERS_MAX: usize = 2;
const ETHER: u128 = 1_000_000_000_000_000_000;

/// The rules of a network, from a height on each.
pub(super) struct Network(&'static [(u64, SpecId)]);

impl Network {
    /// Those of the networks that the files name, if they are known here.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(Self(match name {
            "BerlinToLondonAt5" => &[(0, SpecId::BERLIN), (5, SpecId::LONDON)],
            "Cancun" => &[(0, SpecId::CANCUN)],
            "FrontierToHomesteadAt5" => &[(0, SpecId::FRONTIER), (5, SpecId::HOMESTEAD)],
            _ => return None,
        }))
    }

    pub(super) fn at(&self, height: u64) -> SpecId {
        self.0.iter().rev().find(|(from, _)| *from <= height).unwrap().1
    }
}

/// What a header must be above its parent, whatever its block holds.
pub(super) fn check_header(network: &Network, parent: &Header, header: &Header) -> Result<(), &'static str> {
    let spec = network.at(parent.number + 1);
    let starts_fees = spec.is_enabled_in(SpecId::LONDON) && parent.base_fee_per_gas.is_none();
    let limit = if starts_fees { parent.gas_limit * ELASTICITY } else { parent.gas_limit };
    let rules = [
        (header.number != parent.number + 1, "a number that does not follow"),
        (header.timestamp <= parent.timestamp, "a time not after its parent's"),
        (header.extra_data.len() > EXTRA_DATA_MAX, "too much extra data"),
        (header.gas_limit.abs_diff(limit) >= limit / GAS_LIMIT_PART, "a gas limit too far from its parent's"),
        (!(GAS_LIMIT_MIN..=GAS_LIMIT_MAX).contains(&header.gas_limit), "a gas limit out of bounds"),
        (header.base_fee_per_gas != base_fee(spec, parent), "another base fee"),
        (spec.is_enabled_in(SpecId::MERGE) && !header.difficulty.is_zero(), "a difficulty"),
        (spec.is_enabled_in(SpecId::MERGE) && header.ommers_hash != EMPTY_OMMER_ROOT_HASH, "ommers"),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, rule)| Err(rule))
}

fn base_fee(spec: SpecId, parent: &Header) -> Option<u64> {
    let next = || parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(INITIAL_BASE_FEE);
    spec.is_enabled_in(SpecId::LONDON).then(next)
}

fn excess_blob_gas(spec: SpecId, parent: &Header) -> Option<u64> {
    let next = || parent.next_block_excess_blob_gas(BlobParams::cancun()).unwrap_or(0);
    spec.is_enabled_in(SpecId::CANCUN).then(next)
}

/// What the ommers of a block must be. The ancestors come with their own ommers, the parent first.
pub(super) fn check_ommers(network: &Network, ancestors: &[&Block], block: &Block) -> Result<(), String> {
    let ommers = &block.body.ommers;
    if ommers.len() > OMMERS_MAX {
        return Err("too many ommers".to_owned());
    }
    let mut known: Vec<B256> = ancestors.iter().map(|block| block.header.hash_slow()).collect();
    known.extend(ancestors.iter().flat_map(|block| &block.body.ommers).map(Header::hash_slow));
    for ommer in ommers {
        // The parent itself is the parent of no ommer: that would be the block's own sibling.
        let mut above = ancestors.iter().skip(1);
        let parent = above.find(|ancestor| ancestor.header.hash_slow() == ommer.parent_hash);
        let parent = parent.ok_or("an ommer of no ancestor")?;
        check_header(network, &parent.header, ommer).map_err(|fault| format!("an ommer with {fault}"))?;
        if known.contains(&ommer.hash_slow()) {
            return Err("an ommer twice".to_owned());
        }
        known.push(ommer.hash_slow());
    }
    Ok(())
}

/// The block as the EVM sees it.
pub(super) fn environment(spec: SpecId, parent: &Header, header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: base_fee(spec, parent).unwrap_or(0),
        difficulty: header.difficulty,
        prevrandao: spec.is_enabled_in(SpecId::MERGE).then_some(header.mix_hash),
        blob_excess_gas_and_price: excess_blob_gas(spec, parent)
            .map(|excess| BlobExcessGasAndPrice::new_with_spec(excess, spec)),
        ..BlockEnv::default()
    }
}

/// What comes before the transactions.
pub(super) fn begin(spec: SpecId, header: &Header, run: &mut Run<'_, MemoryState>) {
    if spec.is_enabled_in(SpecId::CANCUN) {
        let root = header.parent_beacon_block_root.unwrap_or_default();
        run.evm.system_call_commit(BEACON_ROOTS_ADDRESS, root.0.into()).unwrap();
    }
}

/// What comes after them: withdrawals, or the rewards for proof of work.
pub(super) fn end(spec: SpecId, block: &Block, run: &mut Run<'_, MemoryState>) {
    for withdrawal in block.body.withdrawals.iter().flatten() {
        pay(run, withdrawal.address, withdrawal.amount_wei());
    }
    if spec.is_enabled_in(SpecId::MERGE) {
        return;
    }
    let ether = match spec {
        spec if spec.is_enabled_in(SpecId::PETERSBURG) => 2,
        spec if spec.is_enabled_in(SpecId::BYZANTIUM) => 3,
        _ => 5,
    };
    let (reward, ommers) = (U256::from(ether * ETHER), &block.body.ommers);
    for ommer in ommers {
        pay(run, ommer.beneficiary, reward * U256::from(ommer.number + 8 - block.header.number) / U256::from(8));
    }
    pay(run, block.header.beneficiary, reward + reward * U256::from(ommers.len()) / U256::from(32));
}

fn pay(run: &mut Run<'_, MemoryState>, who: Address, amount: U256) {
    let database = &mut run.evm.ctx.journaled_state.database;
    let mut info = database.load_account(who).unwrap().info.clone();
    info.balance += amount;
    database.insert_account_info(who, info);
}

/// The header of a block, of what its run gave, of what the rules give, and of what its maker may choose.
pub(super) fn header(spec: SpecId, parent: &Header, block: &Block, ran: &Header) -> Header {
    let (given, is_merged) = (&block.header, spec.is_enabled_in(SpecId::MERGE));
    let blob_gas = || block.body.transactions.iter().filter_map(Transaction::blob_gas_used).sum();
    let root = || given.parent_beacon_block_root.unwrap_or_default();
    Header {
        parent_hash: parent.hash_slow(),
        ommers_hash: block.body.calculate_ommers_root(),
        beneficiary: given.beneficiary,
        difficulty: if is_merged { U256::ZERO } else { given.difficulty },
        number: parent.number + 1,
        gas_limit: given.gas_limit,
        timestamp: given.timestamp,
        extra_data: given.extra_data.clone(),
        mix_hash: given.mix_hash,
        nonce: if is_merged { B64::ZERO } else { given.nonce },
        base_fee_per_gas: base_fee(spec, parent),
        withdrawals_root: block.body.calculate_withdrawals_root(),
        blob_gas_used: spec.is_enabled_in(SpecId::CANCUN).then(blob_gas),
        excess_blob_gas: excess_blob_gas(spec, parent),
        parent_beacon_block_root: spec.is_enabled_in(SpecId::CANCUN).then(root),
        ..ran.clone()
    }
}
