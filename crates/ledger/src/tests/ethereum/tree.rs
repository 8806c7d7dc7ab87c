//! A tree of blocks, each with the state after it, and its head.

use std::collections::BTreeMap;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Eip658Value, ReceiptEnvelope};
use alloy_primitives::{Address, B256, U256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use revm::database::{Cache, DbAccount};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode};

use super::fixture::Account;
use super::rules::{self, Network};
use crate::block::{Block, decode_block};
use crate::evm::machine;
use crate::execute::{Outcome, Run, difference};
use crate::state::{MemoryState, State, StateChanges};
use crate::writes::Writes;

/// The chain id of Ethereum's tests.
const CHAIN_ID: u64 = 1;
/// How far back the parent of an ommer may be.
const OMMER_GENERATIONS: usize = 7;

/// A block of the tree.
pub(super) struct Node {
    pub(super) block: Block,
    pub(super) receipts: Vec<ReceiptEnvelope>,
    pub(super) state: MemoryState,
    total_difficulty: U256,
}

pub(super) struct Tree {
    network: Network,
    nodes: BTreeMap<B256, Node>,
    pub(super) head: B256,
}

impl Tree {
    /// Over that genesis, whose state root must be the one of these accounts.
    pub(super) fn begin(network: Network, genesis: Block, accounts: &BTreeMap<Address, Account>) -> Self {
        let empty = MemoryState::new();
        let (root, changes) = write(&empty, accounts);
        assert_eq!(root, genesis.header.state_root, "the state before the first block");
        let (state, head) = (after(&empty, &changes, &genesis), genesis.header.hash_slow());
        let total_difficulty = genesis.header.difficulty;
        let node = Node { block: genesis, receipts: Vec::new(), state, total_difficulty };
        Self { network, nodes: [(head, node)].into(), head }
    }

    /// Takes a block, or says why not.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<&Node, String> {
        let block = decode_block(bytes).map_err(|error| format!("{error}: {error:?}"))?;
        let parent = self.nodes.get(&block.header.parent_hash).ok_or("no known parent")?;
        let (state, receipts) = self.execute(parent, &block)?;
        let (hash, height) = (block.header.hash_slow(), block.header.number);
        let total_difficulty = parent.total_difficulty + block.header.difficulty;
        // The greater difficulty, then the height, which decides where there is none; the first seen of equals.
        let head = &self.nodes[&self.head];
        if (total_difficulty, height) > (head.total_difficulty, head.block.header.number) {
            self.head = hash;
        }
        let node = Node { block, receipts, state, total_difficulty };
        Ok(self.nodes.entry(hash).or_insert(node))
    }

    pub(super) fn head(&self) -> &Node {
        &self.nodes[&self.head]
    }

    /// Makes the block again as `import` does, by Ethereum's rules.
    fn execute(&self, parent: &Node, block: &Block) -> Result<(MemoryState, Vec<ReceiptEnvelope>), String> {
        let (above, header) = (&parent.block.header, &block.header);
        rules::check_header(&self.network, above, header)?;
        rules::check_ommers(&self.network, &self.ancestors(parent), block)?;
        let spec = self.network.at(header.number);
        let environment = rules::environment(spec, above, header);
        let mut run = Run::new(machine(CHAIN_ID, spec, environment, above, &parent.state), header.number);
        let state = State::at(above.state_root, &parent.state);
        rules::begin(spec, header, &mut run);
        for (index, tx) in block.body.transactions.iter().enumerate() {
            let sender = tx.recover_signer().map_err(|error| format!("transaction {index}: {error}"))?;
            run.transaction(index, tx, sender).map_err(|error| reasons(&error))?;
            if !spec.is_enabled_in(SpecId::BYZANTIUM) {
                name_state(&state, &mut run);
            }
        }
        rules::end(spec, block, &mut run);
        let txs = &block.body.transactions;
        let Outcome { header: ran, receipts, changes } = run.finish(txs).map_err(|error| reasons(&error))?;
        let mut body = block.body.clone();
        body.withdrawals = spec.is_enabled_in(SpecId::SHANGHAI).then(|| body.withdrawals.unwrap_or_default());
        let made = Block::new(rules::header(spec, above, block, &ran), body);
        match difference(block, &made) {
            Some(field) => Err(format!("{field} that its execution does not give")),
            None => Ok((after(&parent.state, &changes, block), receipts)),
        }
    }

    /// The blocks below a new one as far back as ommers count.
    fn ancestors<'a>(&'a self, parent: &'a Node) -> Vec<&'a Block> {
        let below = |node: &&'a Node| self.nodes.get(&node.block.header.parent_hash);
        std::iter::successors(Some(parent), below).take(OMMER_GENERATIONS).map(|node| &node.block).collect()
    }
}

/// An error with all that lies behind it.
fn reasons(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Before Byzantium a receipt names the state root behind its transaction.
fn name_state(state: &State<'_, MemoryState>, run: &mut Run<'_, MemoryState>) {
    let cache = run.evm.ctx.journaled_state.database.cache.clone();
    let (root, _) = Writes::of(state, cache).unwrap().apply(state).unwrap();
    let last = run.receipts.last_mut().and_then(ReceiptEnvelope::as_receipt_with_bloom_mut).unwrap();
    last.receipt.status = Eip658Value::PostState(root);
}

/// The state of these accounts, as the ledger writes it.
fn write(empty: &MemoryState, accounts: &BTreeMap<Address, Account>) -> (B256, StateChanges) {
    let mut cache = Cache::default();
    for (address, account) in accounts {
        let code = Bytecode::new_raw(account.code.clone());
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { code.hash_slow() };
        let info =
            AccountInfo { balance: account.balance, nonce: account.nonce.to(), code_hash, ..AccountInfo::default() };
        let storage = account.storage.iter().map(|(key, value)| (*key, *value)).collect();
        cache.accounts.insert(*address, DbAccount { info, storage, ..DbAccount::default() });
        cache.contracts.insert(code_hash, code);
    }
    let state = State::at(EMPTY_ROOT_HASH, empty);
    Writes::of(&state, cache).unwrap().apply(&state).unwrap()
}

fn after(before: &MemoryState, changes: &StateChanges, block: &Block) -> MemoryState {
    let mut state = before.clone();
    state.apply(changes);
    state.set_block_hash(block.header.number, block.header.hash_slow());
    state
}
