//! What a node found altered in its own store, told to everybody on the ledger.
//!
//! - **Owns** the file `alarms`: what is not on the ledger yet; and the transactions that bring it there.
//! - **Does not** find damage or heal it. It cannot tell before the owner enrolled the node's account and set for which node it speaks.
//!
//! # Invariants
//! - **L1** What is found is in the file before it is healed, and leaves it only when the ledger has it: a kill loses no alarm, and may tell
//!   one twice.
//!
//! Format: `docs/design/node.md`, section *Alarms*.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::contracts::{Alarms as Contract, Vault};
use blockhouse_ledger::transaction::Request;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use tokio::sync::watch;

use super::chain::Chain;
use super::clock::{Clock as _, SystemClock};
use super::folder::{FolderError, NodeFolder, io_error, write_durably};
use super::waiting::Waiting;
use crate::store::{Damage, Part, Store, StoreError};

const MAGIC: Magic = *b"BHNA";
const WHAT: &str = "a file of alarms";
/// The most alarms that are kept: who alters more than this is told of by these.
const ALARMS_MAX: usize = 16;
/// The name of the module, padded with zeros.
const MODULE: &str = "alarms";
/// Twice what a report costs.
const GAS: u64 = 150_000;
/// The longest pause between two looks: the owner may enrol this node at any time.
const LOOK: Duration = Duration::from_secs(15);
/// How much later than the contract asks for a report is made: the leader's clock may be behind.
const SLACK_SECONDS: u64 = 2;

/// One thing that was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// What it was.
    pub part: Part,
    /// The height of its block, if it belongs to one.
    pub height: Option<u64>,
    /// The hash of that block, if it was known.
    pub hash: Option<B256>,
}

const PARTS: [Part; 6] = [Part::Block, Part::Receipts, Part::Certificate, Part::Index, Part::State, Part::File];

/// The bytes of a file of alarms.
pub fn encode_alarms(alarms: &[Alarm]) -> Vec<u8> {
    let mut encoder = Encoder::with_header(MAGIC);
    encoder.list(alarms.iter(), |encoder, alarm| {
        let part = PARTS.iter().position(|part| *part == alarm.part).unwrap_or_default();
        encoder.u8(u8::try_from(part).unwrap_or_default());
        encoder.option(alarm.height, |encoder, height| {
            encoder.u64(height);
        });
        encoder.option(alarm.hash, |encoder, hash| {
            encoder.raw(hash.as_slice());
        });
    });
    encoder.finish()
}

/// Reads the bytes of a file of alarms.
pub fn decode_alarms(bytes: &[u8]) -> Result<Vec<Alarm>, DecodeError> {
    let mut decoder = Decoder::with_header(WHAT, MAGIC, bytes)?;
    let alarms = decoder.list("alarms", ALARMS_MAX, |decoder| {
        let tag = decoder.u8()?;
        let part = PARTS.get(usize::from(tag)).copied().ok_or_else(|| decoder.unknown("part", tag.into()))?;
        let height = decoder.option(Decoder::u64)?;
        let hash = decoder.option(|decoder| decoder.array().map(B256::new))?;
        Ok(Alarm { part, height, hash })
    })?;
    decoder.finish()?;
    Ok(alarms)
}

/// Writes down what is to be told; durable when this returns.
pub(super) fn note(folder: &NodeFolder, damage: &[Damage]) -> Result<(), FolderError> {
    let mut alarms = read(folder)?;
    // Where a block is known, that the file is damaged says nothing more.
    let is_named = damage.iter().any(|damage| damage.height.is_some());
    for damage in damage.iter().filter(|damage| damage.height.is_some() || !is_named) {
        let alarm = Alarm { part: damage.part, height: damage.height, hash: damage.hash };
        if alarms.len() < ALARMS_MAX && !alarms.contains(&alarm) {
            alarms.push(alarm);
        }
    }
    write_durably(&folder.alarms(), &encode_alarms(&alarms), 0o644)
}

fn read(folder: &NodeFolder) -> Result<Vec<Alarm>, FolderError> {
    let path = folder.alarms();
    match std::fs::read(&path) {
        // Who altered the store may have altered what tells of it.
        Ok(bytes) => {
            Ok(decode_alarms(&bytes).unwrap_or_else(|_| vec![Alarm { part: Part::File, height: None, hash: None }]))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error("read", &path, source)),
    }
}

/// The address of an account.
pub(super) fn address(account: &AccountSecret) -> Address {
    Address::new(account.account().to_bytes())
}

/// Who tells.
pub(super) struct Alarms {
    path: PathBuf,
    account: AccountSecret,
    alarms: Vec<Alarm>,
    untold: Arc<AtomicU64>,
    /// The transaction that is under way.
    sent: Option<B256>,
}

impl Alarms {
    /// Takes up what is in the file.
    pub(super) fn open(folder: &NodeFolder, account: &AccountSecret) -> Result<Self, FolderError> {
        let alarms = read(folder)?;
        let untold = Arc::new(AtomicU64::new(alarms.len() as u64));
        Ok(Self { path: folder.alarms(), account: account.clone(), alarms, untold, sent: None })
    }

    /// How many are not on the ledger yet.
    pub(super) fn untold(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.untold)
    }

    /// Tells one after another, as soon as the ledger takes them.
    pub(super) async fn tell(mut self, chain: Arc<Chain>, waiting: Arc<Waiting>, mut heights: watch::Receiver<u64>) {
        while let Some(alarm) = self.alarms.first().copied() {
            // What fails is tried again: with the next block, or a little later.
            let _ = self.step(&chain, &waiting, alarm).await;
            let _ = tokio::time::timeout(LOOK, heights.changed()).await;
        }
    }

    async fn step(&mut self, chain: &Chain, waiting: &Waiting, alarm: Alarm) -> Result<(), StoreError> {
        let store = chain.head();
        if let Some(hash) = self.sent {
            match outcome(&store, &hash)? {
                Some(true) => {
                    self.told();
                    return Ok(());
                }
                Some(false) => self.sent = None,
                None if waiting.pool().get(&hash).is_some() => return Ok(()),
                None => self.sent = None,
            }
        }
        let own = address(&self.account);
        let Some(contract) = contract_for(&store, own) else { return Ok(()) };
        let record = store.state().account(&own).map_err(|error| store.of_state(error))?;
        let nonce = waiting.pool().pending_nonce(&own).or(record.map(|record| record.nonce)).unwrap_or_default();
        let input = report(&store, alarm)?.abi_encode().into();
        let chain_id = store.genesis().chain_id;
        let request = Request { chain_id, nonce, to: TxKind::Call(contract), input, gas: GAS };
        let raw = request.sign(&self.account).encoded_2718();
        // A refusal is no reason to stop: the account may be enrolled with the next block.
        self.sent = waiting.submit(&raw).await.ok();
        Ok(())
    }

    /// The first one is on the ledger.
    fn told(&mut self) {
        self.sent = None;
        self.alarms.remove(0);
        // Where that fails it is told again after the next start.
        let _ = write_durably(&self.path, &encode_alarms(&self.alarms), 0o644);
        self.untold.store(self.alarms.len() as u64, Ordering::Relaxed);
    }
}

/// Whether a transaction did what it should; nothing while it is in no block.
fn outcome(store: &Store, hash: &B256) -> Result<Option<bool>, StoreError> {
    let Some(place) = store.find_transaction(hash)? else { return Ok(None) };
    let receipts = store.receipts(place.height)?;
    Ok(Some(receipts.get(place.index).is_some_and(alloy_consensus::ReceiptEnvelope::status)))
}

/// Where this account may tell something now; nothing if it may not.
fn contract_for(store: &Store, own: Address) -> Option<Address> {
    let name = B256::right_padding_from(MODULE.as_bytes());
    let contract = ask(store, store.genesis().vault_address(), &Vault::moduleCall { name })?;
    let node = ask(store, contract, &Contract::nodeOfCall { account: own })?;
    let silent_until = ask(store, contract, &Contract::silentUntilCall { account: own })?;
    let is_time = SystemClock.now() / 1000 >= silent_until.saturating_add(SLACK_SECONDS);
    (!contract.is_zero() && !node.is_zero() && is_time).then_some(contract)
}

/// The answer of a contract; nothing where there is none, or another one.
fn ask<C: SolCall>(store: &Store, to: Address, question: &C) -> Option<C::Return> {
    let read = Call::read(Address::ZERO, to, question.abi_encode());
    match call(store.genesis(), store.head().header(), store, &read).ok()?.outcome {
        CallOutcome::Returned(output) => C::abi_decode_returns(&output).ok(),
        _ => None,
    }
}

/// The words for the ledger. A hash that was not known when the damage was found is known now.
fn report(store: &Store, alarm: Alarm) -> Result<Contract::reportTamperCall, StoreError> {
    let height = alarm.height.unwrap_or_default().min(store.height());
    let hash = match (alarm.hash, alarm.height) {
        (Some(hash), _) => hash,
        (None, Some(_)) => store.hash_at(height)?.unwrap_or_default(),
        (None, None) => B256::ZERO,
    };
    let what = B256::right_padding_from(alarm.part.word().as_bytes());
    Ok(Contract::reportTamperCall { height, blockHash: hash, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(part: Part, height: Option<u64>) -> Damage {
        Damage {
            part,
            height,
            hash: height.map(|_| B256::repeat_byte(7)),
            what: "it is another one".to_owned(),
            is_unread: false,
        }
    }

    #[test]
    fn what_is_noted_is_read_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeFolder::new(folder.path());
        assert!(read(&node).unwrap().is_empty());
        note(&node, &[damage(Part::File, None)]).unwrap();
        note(&node, &[damage(Part::File, None), damage(Part::Block, Some(5)), damage(Part::State, Some(9))]).unwrap();
        let read_back: Vec<_> = read(&node).unwrap().iter().map(|alarm| (alarm.part, alarm.height)).collect();
        assert_eq!(read_back, [(Part::File, None), (Part::Block, Some(5)), (Part::State, Some(9))]);
        let many: Vec<_> = (0..99).map(|height| damage(Part::Receipts, Some(height))).collect();
        note(&node, &many).unwrap();
        assert_eq!(read(&node).unwrap().len(), ALARMS_MAX);
        std::fs::write(node.alarms(), b"altered too").unwrap();
        assert_eq!(read(&node).unwrap(), [Alarm { part: Part::File, height: None, hash: None }]);
    }
}
