//! The bytes of the summary.
//!
//! Format: `docs/design/host-files.md`, section *Summary of the ledger*.

use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::Log;
use alloy_sol_types::SolEventInterface;
use blockhouse_crypto::hash;
use blockhouse_homes::{Handover, LedgerKeys, Standing};
use blockhouse_ledger::Event;
use blockhouse_ledger::contracts::Access::AccessEvents;
use blockhouse_ledger::contracts::Tags::TagsEvents;
use blockhouse_ledger::contracts::Vault::VaultEvents;
use blockhouse_types::{Account, BagHash, BlockHash, DecodeError, Decoder, Encoder, Fingerprint};

use super::{FileStamp, Summary, snapshots};
use crate::ledger::{Contracts, HistoryEntry, OF_SNAPSHOTS, WriterRecord};

const MAGIC: [u8; 4] = *b"BHLS";
const WHAT: &str = "a summary of the ledger";
/// The most handovers and writers that are kept: more are read from the ledger.
const KEYS_MAX: usize = 1 << 16;
/// The most topics of a log.
const TOPICS_MAX: usize = 4;
/// Whose log it is.
const OF_VAULT: u8 = 0;
const OF_ACCESS: u8 = 1;
const OF_TAGS: u8 = 2;

/// Logs in the order of the ledger, encoded one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    /// Appends the logs of the vault's contracts.
    pub(super) fn extend(&mut self, logs: &[Log], contracts: &Contracts) {
        let mut encoder = Encoder::new();
        let by = |log: &Log| match log.address() {
            address if address == contracts.vault => Some(OF_VAULT),
            address if address == contracts.access => Some(OF_ACCESS),
            address if Some(address) == contracts.modules.tags => Some(OF_TAGS),
            _ => None,
        };
        for (log, by) in logs.iter().filter_map(|log| Some((log, by(log)?))) {
            let (topics, data) = (log.topics(), log.inner.data.data.as_ref());
            encoder.u8(by);
            encoder.varint(log.block_number.unwrap_or_default()).varint(log.block_timestamp.unwrap_or_default());
            encoder.raw(log.transaction_hash.unwrap_or_default().as_slice());
            encoder.varint(log.log_index.unwrap_or_default());
            encoder.list(topics.iter(), |encoder, topic| {
                encoder.raw(topic.as_slice());
            });
            encoder.bytes(data);
        }
        self.0.extend_from_slice(encoder.as_slice());
    }

    /// Hands out what the logs say, in order; nothing if they are none.
    pub(super) fn read(&self, mut take: impl FnMut(HistoryEntry)) -> Option<()> {
        let mut decoder = Decoder::new(WHAT, &self.0);
        while !decoder.is_empty() {
            take(log(&mut decoder)?);
        }
        Some(())
    }
}

fn log(decoder: &mut Decoder<'_>) -> Option<HistoryEntry> {
    let by = decoder.u8().ok()?;
    let (block, time) = (decoder.varint().ok()?, decoder.varint().ok()?);
    let transaction = B256::new(decoder.array().ok()?);
    let log = decoder.varint().ok()?;
    let topics = decoder.list("topics", TOPICS_MAX, |decoder| decoder.array().map(B256::new)).ok()?;
    let data = decoder.bytes("data", usize::MAX).ok()?;
    let event = match by {
        OF_VAULT => Event::Vault(VaultEvents::decode_raw_log(&topics, data).ok()?),
        OF_ACCESS => Event::Access(AccessEvents::decode_raw_log(&topics, data).ok()?),
        OF_TAGS => Event::Tags(TagsEvents::decode_raw_log(&topics, data).ok()?),
        _ => return None,
    };
    Some(HistoryEntry { block, time, transaction, log, event })
}

/// The kinds of logs that are kept: a release that needs others makes the summary anew.
fn kinds() -> [u8; 32] {
    hash::hash_parts("blockhouse v1 ledger summary kinds", OF_SNAPSHOTS.iter().map(B256::as_slice))
}

pub(super) fn encode(summary: &Summary, genesis: BlockHash) -> Vec<u8> {
    let Summary { stamp, standing, tags, writers, bag: (version, bag), snapshots: _, logs } = summary;
    let mut encoder = Encoder::with_header(MAGIC);
    encoder.raw(genesis.as_bytes()).raw(&kinds());
    encoder.u64(stamp.device).u64(stamp.inode).u64(stamp.length);
    for (seconds, nanoseconds) in [stamp.modified, stamp.changed] {
        encoder.i64(seconds).i64(nanoseconds);
    }
    encoder.u64(standing.height).raw(standing.hash.as_slice()).u64(standing.time);
    encoder.raw(standing.fingerprint.as_bytes()).raw(&standing.keys.first());
    encoder.list(standing.keys.handovers().iter(), |encoder, handover| {
        encoder.u64(handover.height).raw(&handover.key);
    });
    encoder.option(*tags, |encoder, tags| {
        encoder.raw(tags.as_slice());
    });
    encoder.list(writers.iter(), |encoder, writer| {
        encoder.raw(writer.account.as_bytes());
        encoder.u8(u8::from(writer.active)).u8(u8::from(writer.host_stolen));
        encoder.option(writer.predecessor, |encoder, predecessor| {
            encoder.raw(predecessor.as_bytes());
        });
        encoder.u64(writer.predecessor_last_block);
    });
    encoder.u32(*version).raw(bag.as_bytes()).bytes(&logs.0);
    let check = hash::hash("blockhouse v1 ledger summary", encoder.as_slice());
    encoder.raw(&check);
    encoder.finish()
}

/// The summary of the ledger that began with that block; nothing if it is not whole, or of another one.
pub(super) fn decode(bytes: &[u8], genesis: BlockHash) -> Option<Summary> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    if hash::hash("blockhouse v1 ledger summary", body) != *check {
        return None;
    }
    read(body, genesis).ok().flatten()
}

fn read(body: &[u8], genesis: BlockHash) -> Result<Option<Summary>, DecodeError> {
    let mut decoder = Decoder::with_header(WHAT, MAGIC, body)?;
    let (ledger, made_of): ([u8; 32], [u8; 32]) = (decoder.array()?, decoder.array()?);
    if ledger != genesis.to_bytes() || made_of != kinds() {
        return Ok(None);
    }
    let stamp = FileStamp {
        device: decoder.u64()?,
        inode: decoder.u64()?,
        length: decoder.u64()?,
        modified: (decoder.i64()?, decoder.i64()?),
        changed: (decoder.i64()?, decoder.i64()?),
    };
    let (height, hash, time) = (decoder.u64()?, B256::new(decoder.array()?), decoder.u64()?);
    let (fingerprint, first) = (Fingerprint::new(decoder.array()?), decoder.array()?);
    let handovers = decoder
        .list("handovers", KEYS_MAX, |decoder| Ok(Handover { height: decoder.u64()?, key: decoder.array()? }))?;
    let standing = Standing { height, hash, time, keys: LedgerKeys::resume(first, handovers), fingerprint };
    let tags = decoder.option(|decoder| decoder.array().map(Address::new))?;
    let writers = decoder.list("writers", KEYS_MAX, writer)?;
    let bag = (decoder.u32()?, BagHash::new(decoder.array()?));
    let logs = Bytes(decoder.bytes("logs", usize::MAX)?.to_vec());
    decoder.finish()?;
    let Some(snapshots) = snapshots(&logs) else { return Ok(None) };
    Ok(Some(Summary { stamp, standing, tags, writers, bag, snapshots, logs }))
}

fn writer(decoder: &mut Decoder<'_>) -> Result<WriterRecord, DecodeError> {
    Ok(WriterRecord {
        account: Account::new(decoder.array()?),
        active: decoder.u8()? == 1,
        host_stolen: decoder.u8()? == 1,
        predecessor: decoder.option(|decoder| decoder.array().map(Account::new))?,
        predecessor_last_block: decoder.u64()?,
    })
}
