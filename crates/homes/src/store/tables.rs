//! The tables of the store and the bytes of their rows.
//!
//! Format: `docs/design/ledger.md`, section *Store of home 1*.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use blockhouse_ledger::state::{AccountRecord, StateChanges};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::error::Fault;

/// The version of this layout; another one is refused.
const FORMAT: &[u8] = &[1];

/// `format`, `genesis`, `head`.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Height to block in RLP.
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height to certificate.
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
/// Height to the list of the block's transaction receipts.
const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
/// Transaction hash to height: a hint, checked against the block.
const TRANSACTIONS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("transactions");
/// Address to `nonce u64 │ balance │ code hash │ storage root`.
const ACCOUNTS: TableDefinition<'_, &[u8; 20], &[u8; ACCOUNT_LEN]> = TableDefinition::new("accounts");
/// `address │ slot` to value; a slot of value zero has no row.
const SLOTS: TableDefinition<'_, &[u8; SLOT_KEY_LEN], &[u8; 32]> = TableDefinition::new("slots");
/// Code hash to code.
const CODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("codes");

const ACCOUNT_LEN: usize = 8 + 3 * 32;
const SLOT_KEY_LEN: usize = 20 + 32;
const HEAD_LEN: usize = 8 + 32;

/// One block and all that came with it, as rows.
#[derive(Debug)]
pub(super) struct BlockRows<'a> {
    pub(super) height: u64,
    pub(super) hash: B256,
    pub(super) block: &'a [u8],
    pub(super) certificate: &'a [u8],
    pub(super) receipts: &'a [u8],
    pub(super) transactions: &'a [B256],
    pub(super) changes: &'a StateChanges,
}

/// Writes what only a new store gets.
pub(super) fn write_genesis(transaction: &WriteTransaction, genesis: &[u8]) -> Result<(), Fault> {
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("genesis", genesis)?;
    }
    // Readers open every table: all are there from the start.
    transaction.open_table(TRANSACTIONS)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(SLOTS)?;
    transaction.open_table(CODES)?;
    Ok(())
}

/// Writes one block, its receipts, its changes of the state, and makes it the head.
pub(super) fn write_block(transaction: &WriteTransaction, rows: &BlockRows<'_>) -> Result<(), Fault> {
    transaction.open_table(BLOCKS)?.insert(rows.height, rows.block)?;
    transaction.open_table(CERTIFICATES)?.insert(rows.height, rows.certificate)?;
    transaction.open_table(RECEIPTS)?.insert(rows.height, rows.receipts)?;
    {
        let mut transactions = transaction.open_table(TRANSACTIONS)?;
        for hash in rows.transactions {
            transactions.insert(&hash.0, rows.height)?;
        }
    }
    write_changes(transaction, rows.changes)?;
    transaction.open_table(META)?.insert("head", head_row(rows.height, rows.hash).as_slice())?;
    Ok(())
}

fn write_changes(transaction: &WriteTransaction, changes: &StateChanges) -> Result<(), Fault> {
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    for (address, record) in &changes.accounts {
        match record {
            Some(record) => accounts.insert(&address.0.0, &account_row(record))?,
            None => accounts.remove(&address.0.0)?,
        };
    }
    let mut slots = transaction.open_table(SLOTS)?;
    for ((address, slot), value) in &changes.slots {
        let key = slot_key(address, slot);
        if value.is_zero() {
            slots.remove(&key)?;
        } else {
            slots.insert(&key, &value.to_be_bytes())?;
        }
    }
    let mut codes = transaction.open_table(CODES)?;
    for (hash, code) in &changes.codes {
        codes.insert(&hash.0, code.as_ref())?;
    }
    Ok(())
}

/// The object of genesis, after the version of the layout was checked.
pub(super) fn read_genesis(transaction: &ReadTransaction) -> Result<Vec<u8>, Fault> {
    let format = read_meta(transaction, "format")?;
    if format != FORMAT {
        return Err(Fault::damaged(format!("its layout has the unknown version {format:?}")));
    }
    read_meta(transaction, "genesis")
}

/// Height and hash of the head.
pub(super) fn read_head(transaction: &ReadTransaction) -> Result<(u64, B256), Fault> {
    let row = read_meta(transaction, "head")?;
    let row: [u8; HEAD_LEN] = row.try_into().map_err(|_| Fault::damaged("the row of its head has a wrong length"))?;
    let (height, hash) = row.split_first_chunk::<8>().ok_or_else(|| Fault::damaged("the row of its head is short"))?;
    Ok((u64::from_le_bytes(*height), B256::from_slice(hash)))
}

/// The block of that height, in RLP.
pub(super) fn read_block(transaction: &ReadTransaction, height: u64) -> Result<Vec<u8>, Fault> {
    read_at(transaction, BLOCKS, "block", height)
}

/// The certificate of that height.
pub(super) fn read_certificate(transaction: &ReadTransaction, height: u64) -> Result<Vec<u8>, Fault> {
    read_at(transaction, CERTIFICATES, "certificate", height)
}

/// The transaction receipts of that height.
pub(super) fn read_receipts(transaction: &ReadTransaction, height: u64) -> Result<Vec<u8>, Fault> {
    read_at(transaction, RECEIPTS, "receipts", height)
}

/// Where that transaction may be.
pub(super) fn read_transaction(transaction: &ReadTransaction, hash: &B256) -> Result<Option<u64>, Fault> {
    Ok(transaction.open_table(TRANSACTIONS)?.get(&hash.0)?.map(|height| height.value()))
}

/// All rows of the state, as they are; the caller compares their root.
pub(super) fn read_state(transaction: &ReadTransaction) -> Result<StateChanges, Fault> {
    let mut rows = StateChanges::default();
    for row in transaction.open_table(ACCOUNTS)?.iter()? {
        let (address, record) = row?;
        rows.accounts.insert(Address::from(*address.value()), Some(account_of(record.value())));
    }
    for row in transaction.open_table(SLOTS)?.iter()? {
        let (key, value) = row?;
        rows.slots.insert(slot_of(key.value()), U256::from_be_bytes(*value.value()));
    }
    for row in transaction.open_table(CODES)?.iter()? {
        let (hash, code) = row?;
        let (hash, code) = (B256::from(*hash.value()), Bytes::copy_from_slice(code.value()));
        if keccak256(&code) != hash {
            return Err(Fault::damaged(format!("the code {hash} has another hash")));
        }
        rows.codes.insert(hash, code);
    }
    Ok(rows)
}

fn read_meta(transaction: &ReadTransaction, name: &str) -> Result<Vec<u8>, Fault> {
    let row = transaction.open_table(META)?.get(name)?;
    row.map(|row| row.value().to_vec()).ok_or_else(|| Fault::damaged(format!("the row `{name}` is missing")))
}

fn read_at(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    what: &str,
    height: u64,
) -> Result<Vec<u8>, Fault> {
    let row = transaction.open_table(table)?.get(height)?;
    row.map(|row| row.value().to_vec()).ok_or_else(|| Fault::damaged(format!("{what} {height} is missing")))
}

fn head_row(height: u64, hash: B256) -> [u8; HEAD_LEN] {
    let mut row = [0; HEAD_LEN];
    let (left, right) = row.split_at_mut(8);
    left.copy_from_slice(&height.to_le_bytes());
    right.copy_from_slice(hash.as_slice());
    row
}

fn account_row(record: &AccountRecord) -> [u8; ACCOUNT_LEN] {
    let mut row = [0; ACCOUNT_LEN];
    let (nonce, rest) = row.split_at_mut(8);
    let (balance, rest) = rest.split_at_mut(32);
    let (code, root) = rest.split_at_mut(32);
    nonce.copy_from_slice(&record.nonce.to_le_bytes());
    balance.copy_from_slice(&record.balance.to_be_bytes::<32>());
    code.copy_from_slice(record.code_hash.as_slice());
    root.copy_from_slice(record.storage_root.as_slice());
    row
}

fn account_of(row: &[u8; ACCOUNT_LEN]) -> AccountRecord {
    let (nonce, rest) = row.split_at(8);
    let (balance, rest) = rest.split_at(32);
    let (code, root) = rest.split_at(32);
    let mut number = [0; 8];
    number.copy_from_slice(nonce);
    AccountRecord {
        nonce: u64::from_le_bytes(number),
        balance: U256::from_be_slice(balance),
        code_hash: B256::from_slice(code),
        storage_root: B256::from_slice(root),
    }
}

fn slot_key(address: &Address, slot: &U256) -> [u8; SLOT_KEY_LEN] {
    let mut key = [0; SLOT_KEY_LEN];
    let (left, right) = key.split_at_mut(20);
    left.copy_from_slice(address.as_slice());
    right.copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

fn slot_of(key: &[u8; SLOT_KEY_LEN]) -> (Address, U256) {
    let (address, slot) = key.split_at(20);
    (Address::from_slice(address), U256::from_be_slice(slot))
}
