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

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::contracts::Alarms as Contract;
use blockhouse_ledger::transaction::Request;
use blockhouse_types::{DecodeError, Decoder, Encoder, Magic};
use tokio::sync::watch;

use super::chain::Chain;
use super::folder::{FolderError, NodeFolder, read_file, write_durably};
use super::speaker::{address, ask, module, outcome};
use super::waiting::Waiting;
use crate::store::{Damage, Part, Store, StoreError};

const MAGIC: Magic = *b"BHNA";
const WHAT: &str = "a file of alarms";
/// The most alarms that are kept: who alters more than this is told of by the last ones.
const ALARMS_MAX: usize = 16;
/// More than so many need.
const FILE_MAX: usize = 1024;
/// The name of the module.
const MODULE: &str = "alarms";
/// Who reads the file to write it, alone meanwhile: what is found is noted while what was found before is told.
static WRITER: Mutex<()> = Mutex::new(());
/// Twice what a report costs.
const GAS: u64 = 150_000;
/// The longest pause between two looks: the owner may enrol this node at any time.
const LOOK: Duration = Duration::from_secs(15);
/// How long nothing is sent, by the time of the ledger, after a report that the contract refused: the one that silences this node for so long
/// may have come between.
const REFUSED_SECONDS: u64 = 600;

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

/// Writes down what is to be told, before what was to be told already; durable when this returns.
pub(super) fn note(folder: &NodeFolder, damage: &[Damage]) -> Result<(), FolderError> {
    // Where a block is known, that the file is damaged says nothing more.
    let is_named = damage.iter().any(|damage| damage.height.is_some());
    let found = damage.iter().filter(|damage| damage.height.is_some() || !is_named);
    let found = found.map(|damage| Alarm { part: damage.part, height: damage.height, hash: damage.hash });
    change(&folder.alarms(), |earlier| {
        let mut alarms = Vec::new();
        for alarm in found.chain(earlier.iter().copied()) {
            let is_same = |known: &Alarm| (known.part, known.height) == (alarm.part, alarm.height);
            if alarms.len() < ALARMS_MAX && !alarms.iter().any(is_same) {
                alarms.push(alarm);
            }
        }
        alarms
    })
}

/// Writes what becomes of the alarms in the file, durably, if that is something else.
fn change(path: &Path, change: impl FnOnce(&[Alarm]) -> Vec<Alarm>) -> Result<(), FolderError> {
    let _alone = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = read(path)?;
    let alarms = change(&earlier);
    if alarms == earlier { Ok(()) } else { write_durably(path, &encode_alarms(&alarms), 0o644) }
}

fn read(path: &Path) -> Result<Vec<Alarm>, FolderError> {
    match read_file(path, FILE_MAX) {
        // Who altered the store may have altered what tells of it.
        Ok(bytes) => {
            Ok(decode_alarms(&bytes).unwrap_or_else(|_| vec![Alarm { part: Part::File, height: None, hash: None }]))
        }
        Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Who tells.
pub(super) struct Alarms {
    path: PathBuf,
    account: AccountSecret,
    /// The first is told next.
    due: Vec<Alarm>,
    untold: Arc<AtomicU64>,
    /// The transaction that is under way.
    sent: Option<B256>,
    /// The time of the ledger from which on the next one is sent, in seconds.
    not_before: u64,
}

impl Alarms {
    /// Takes up what is in the file.
    pub(super) fn open(folder: &NodeFolder, account: &AccountSecret) -> Result<Self, FolderError> {
        let alarms = read(&folder.alarms())?;
        let untold = Arc::new(AtomicU64::new(alarms.len() as u64));
        Ok(Self { path: folder.alarms(), account: account.clone(), due: alarms, untold, sent: None, not_before: 0 })
    }

    /// How many are not on the ledger yet.
    pub(super) fn untold(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.untold)
    }

    /// Tells one after another, as soon as the ledger takes them.
    pub(super) async fn tell(mut self, chain: Arc<Chain>, waiting: Arc<Waiting>, mut heights: watch::Receiver<u64>) {
        while let Some(alarm) = self.due.first().copied() {
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
                Some(false) => {
                    self.sent = None;
                    self.not_before = store.head().header().timestamp.saturating_add(REFUSED_SECONDS);
                }
                None if waiting.pool().get(&hash).is_some() => return Ok(()),
                None => self.sent = None,
            }
        }
        if store.head().header().timestamp < self.not_before {
            return Ok(());
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
        let told = self.due.remove(0);
        // Where that fails it is told again after the next start.
        let _ = change(&self.path, |alarms| alarms.iter().copied().filter(|alarm| *alarm != told).collect());
        self.untold.store(self.due.len() as u64, Ordering::Relaxed);
    }
}

/// Where this account may tell something in the next block; nothing if it may not. The time is the ledger's, as the contract sees it.
fn contract_for(store: &Store, own: Address) -> Option<Address> {
    let contract = module(store, MODULE)?;
    let node = ask(store, contract, &Contract::nodeOfCall { account: own })?;
    let silent_until = ask(store, contract, &Contract::silentUntilCall { account: own })?;
    let is_time = store.head().header().timestamp >= silent_until;
    (!node.is_zero() && is_time).then_some(contract)
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
    fn what_is_noted_is_read_the_last_first_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeFolder::new(folder.path());
        let noted = || read(&node.alarms()).unwrap();
        assert!(noted().is_empty());
        note(&node, &[damage(Part::File, None)]).unwrap();
        note(&node, &[damage(Part::File, None), damage(Part::Block, Some(5)), damage(Part::State, Some(9))]).unwrap();
        let parts: Vec<_> = noted().iter().map(|alarm| (alarm.part, alarm.height)).collect();
        assert_eq!(parts, [(Part::Block, Some(5)), (Part::State, Some(9)), (Part::File, None)]);
        let many: Vec<_> = (0..99).map(|height| damage(Part::Receipts, Some(height))).collect();
        note(&node, &many).unwrap();
        assert_eq!(noted().len(), ALARMS_MAX);
        // What somebody planted hides nothing.
        note(&node, &[damage(Part::Block, Some(7))]).unwrap();
        assert_eq!((noted().len(), noted()[0].height), (ALARMS_MAX, Some(7)));
        assert!(encode_alarms(&noted()).len() <= FILE_MAX);
        for bytes in [b"altered too".to_vec(), vec![0; 1 << 20]] {
            std::fs::write(node.alarms(), bytes).unwrap();
            assert_eq!(noted(), [Alarm { part: Part::File, height: None, hash: None }]);
        }
    }

    /// L1: what is found while another alarm is told stays.
    #[test]
    fn what_is_told_is_all_that_leaves_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeFolder::new(folder.path());
        note(&node, &[damage(Part::Block, Some(5))]).unwrap();
        let mut alarms =
            Alarms::open(&node, &AccountSecret::try_new(&blockhouse_crypto::Secret::new([1; 32])).unwrap()).unwrap();
        note(&node, &[damage(Part::State, Some(9))]).unwrap();
        alarms.told();
        let left: Vec<_> = read(&node.alarms()).unwrap().iter().map(|alarm| alarm.part).collect();
        assert_eq!((left, alarms.untold().load(Ordering::Relaxed)), (vec![Part::State], 0));
    }
}
