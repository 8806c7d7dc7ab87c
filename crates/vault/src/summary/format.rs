//! The bytes of the summary.
//!
//! Format: `docs/design/host-files.md`, section *Summary of the ledger*.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use blockhouse_crypto::hash;
use blockhouse_homes::{Handover, LedgerKeys, Standing};
use blockhouse_types::{
    Account, BagHash, BlockHash, DecodeError, Decoder, Durability, Encoder, Fingerprint, SnapshotId, SourceId,
};

use super::{FileStamp, Summary};
use crate::ledger::{Commit, EarlyTags, OF_SNAPSHOTS, SnapshotRecord, VerifyRecord, WriterRecord};

const MAGIC: [u8; 4] = *b"BHL2";
const WHAT: &str = "a summary of the ledger";
/// What the whole of it is hashed under. Another layout, or records that are made of the same events in another way, need another
/// one: then what an earlier release wrote is made anew.
const CONTEXT: &str = "blockhouse v3 ledger summary";
/// The most handovers and writers that are kept: more are read from the ledger.
const KEYS_MAX: usize = 1 << 16;
/// As many as the bytes hold: snapshots and their tags.
const ALL: usize = usize::MAX;

/// The kinds of events that records are made of: a release that reads others makes the summary anew.
fn kinds() -> [u8; 32] {
    hash::hash_parts("blockhouse v1 ledger summary kinds", OF_SNAPSHOTS.iter().map(B256::as_slice))
}

pub(super) fn encode(summary: &Summary, genesis: BlockHash) -> Vec<u8> {
    let Summary { stamp, standing, tags, writers, bag: (version, bag), snapshots, early } = summary;
    let mut encoder = Encoder::with_header(MAGIC);
    encoder.raw(genesis.as_bytes()).raw(&kinds());
    encoder.u64(stamp.device).u64(stamp.inode).u64(stamp.length);
    for (seconds, nanoseconds) in [stamp.modified, stamp.changed] {
        encoder.i64(seconds).i64(nanoseconds);
    }
    encoder.u64(standing.height).raw(standing.hash.as_slice()).u64(standing.time);
    encoder.raw(standing.fingerprint.as_bytes()).raw(&standing.keys.first());
    for changes in [standing.keys.handovers(), standing.keys.successions()] {
        encoder.list(changes.iter(), |encoder, change| {
            encoder.u64(change.height).raw(&change.key);
        });
    }
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
    encoder.u32(*version).raw(bag.as_bytes());
    encoder.list(snapshots.iter(), write_snapshot);
    encoder.list(early.iter(), |encoder, (snapshot, tags)| {
        encoder.raw(snapshot.as_slice());
        write_tags(encoder, tags.iter());
    });
    let check = hash::hash(CONTEXT, encoder.as_slice());
    encoder.raw(&check);
    encoder.finish()
}

/// What a commit says of its snapshot and source is what its event says of them, and is kept once.
fn write_snapshot(encoder: &mut Encoder, record: &SnapshotRecord) {
    let SnapshotRecord { id, source, writer, commit, transaction, tags, durability, .. } = record;
    encoder.raw(id.as_bytes()).raw(source.as_bytes()).raw(writer.as_bytes());
    for word in [&commit.session, &commit.objectHash, &commit.listRoot, &commit.recipients, &commit.parent] {
        encoder.raw(word.as_slice());
    }
    encoder.u64(commit.storedBytes).u16(commit.d).u16(commit.w).u16(commit.wd);
    encoder.u64(commit.headHeight).raw(commit.headHash.as_slice());
    write_tags(encoder, commit.tags.iter());
    encoder.u64(record.block).u64(record.time).raw(transaction.as_slice());
    encoder.u16(durability.d).u16(durability.w).u16(durability.wd);
    write_tags(encoder, tags.iter());
    encoder.option(record.forgotten_in, |encoder, block| {
        encoder.u64(block);
    });
    encoder.option(record.verified, |encoder, (time, verify)| {
        encoder.u64(time).u16(verify.data_basis_points).u32(verify.missing).u32(verify.damaged);
        encoder.u8(u8::from(verify.ok));
    });
}

fn write_tags<'a>(encoder: &mut Encoder, tags: impl ExactSizeIterator<Item = &'a B256>) {
    encoder.list(tags, |encoder, tag| {
        encoder.raw(tag.as_slice());
    });
}

/// The summary of the ledger that began with that block; nothing if it is not whole, or of another one.
pub(super) fn decode(bytes: &[u8], genesis: BlockHash) -> Option<Summary> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    if hash::hash(CONTEXT, body) != *check {
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
    let mut changes =
        |what| decoder.list(what, KEYS_MAX, |decoder| Ok(Handover { height: decoder.u64()?, key: decoder.array()? }));
    let keys = LedgerKeys::resume(first, changes("handovers")?, changes("successions")?);
    let standing = Standing { height, hash, time, keys, fingerprint };
    let tags = decoder.option(|decoder| decoder.array().map(Address::new))?;
    let writers = decoder.list("writers", KEYS_MAX, writer)?;
    let bag = (decoder.u32()?, BagHash::new(decoder.array()?));
    let snapshots = Arc::new(decoder.list("snapshots", ALL, snapshot)?);
    let early: EarlyTags = decoder.list("early tags", ALL, early_tags)?.into_iter().collect();
    decoder.finish()?;
    Ok(Some(Summary { stamp, standing, tags, writers, bag, snapshots, early }))
}

fn snapshot(decoder: &mut Decoder<'_>) -> Result<SnapshotRecord, DecodeError> {
    let (id, source) = (SnapshotId::new(decoder.array()?), SourceId::new(decoder.array()?));
    let writer = Account::new(decoder.array()?);
    // Fields are read in the order of these lines.
    let commit = Commit {
        source: B256::new(source.to_bytes()),
        snapshot: B256::new(id.to_bytes()),
        session: word(decoder)?,
        objectHash: word(decoder)?,
        listRoot: word(decoder)?,
        recipients: word(decoder)?,
        parent: word(decoder)?,
        storedBytes: decoder.u64()?,
        d: decoder.u16()?,
        w: decoder.u16()?,
        wd: decoder.u16()?,
        headHeight: decoder.u64()?,
        headHash: word(decoder)?,
        tags: decoder.list("tags", ALL, word)?,
    };
    let (block, time, transaction) = (decoder.u64()?, decoder.u64()?, word(decoder)?);
    let durability = Durability { d: decoder.u16()?, w: decoder.u16()?, wd: decoder.u16()? };
    let tags = tag_set(decoder)?;
    let forgotten_in = decoder.option(Decoder::u64)?;
    let verified = decoder.option(verification)?;
    let forgotten = forgotten_in.is_some();
    Ok(SnapshotRecord {
        id,
        source,
        writer,
        commit,
        block,
        time,
        transaction,
        forgotten,
        forgotten_in,
        tags,
        durability,
        verified,
    })
}

fn verification(decoder: &mut Decoder<'_>) -> Result<(u64, VerifyRecord), DecodeError> {
    let time = decoder.u64()?;
    let data_basis_points = decoder.u16()?;
    let (missing, damaged, ok) = (decoder.u32()?, decoder.u32()?, decoder.u8()? == 1);
    Ok((time, VerifyRecord { data_basis_points, missing, damaged, ok }))
}

fn early_tags(decoder: &mut Decoder<'_>) -> Result<(B256, BTreeSet<B256>), DecodeError> {
    Ok((word(decoder)?, tag_set(decoder)?))
}

fn tag_set(decoder: &mut Decoder<'_>) -> Result<BTreeSet<B256>, DecodeError> {
    Ok(decoder.list("tags", ALL, word)?.into_iter().collect())
}

fn word(decoder: &mut Decoder<'_>) -> Result<B256, DecodeError> {
    decoder.array().map(B256::new)
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

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: BlockHash = BlockHash::new([1; 32]);

    /// A record of which every field differs from the same field of another number's.
    fn record(number: u8) -> SnapshotRecord {
        let (id, source, wide) = (B256::repeat_byte(number), B256::repeat_byte(number | 0x40), u16::from(number));
        let tag = |of: u8| B256::repeat_byte(of | 0x80);
        let commit = Commit {
            session: B256::repeat_byte(number + 1),
            source,
            snapshot: id,
            objectHash: B256::repeat_byte(number + 2),
            listRoot: B256::repeat_byte(number + 3),
            storedBytes: u64::from(number) << 40,
            recipients: B256::repeat_byte(number + 4),
            tags: (0..number).map(tag).collect(),
            parent: B256::repeat_byte(number + 5),
            d: wide + 1,
            w: wide + 2,
            wd: wide + 3,
            headHeight: u64::from(number) << 20,
            headHash: B256::repeat_byte(number + 6),
        };
        let verify = VerifyRecord {
            data_basis_points: wide + 7,
            missing: u32::from(number) + 8,
            damaged: u32::from(number) + 9,
            ok: number.is_multiple_of(2),
        };
        SnapshotRecord {
            id: SnapshotId::new(id.0),
            source: SourceId::new(source.0),
            writer: Account::new([number; 20]),
            commit,
            block: u64::from(number) + 10,
            time: u64::from(number) + 11,
            transaction: B256::repeat_byte(number + 7),
            forgotten: number == 2,
            forgotten_in: (number == 2).then_some(12),
            tags: (1..=number).map(tag).collect(),
            durability: Durability { d: wide + 4, w: wide + 5, wd: wide + 6 },
            verified: (number > 0).then_some((13, verify)),
        }
    }

    fn summary() -> Summary {
        let handovers = vec![Handover { height: 3, key: [4; 32] }];
        let keys = LedgerKeys::resume([5; 32], handovers.clone(), handovers);
        let fingerprint = Fingerprint::new([6; 32]);
        let writer = WriterRecord {
            account: Account::new([7; 20]),
            active: true,
            host_stolen: false,
            predecessor: Some(Account::new([8; 20])),
            predecessor_last_block: 9,
        };
        Summary {
            stamp: FileStamp { device: 1, inode: 2, length: 3, modified: (4, 5), changed: (-6, 7) },
            standing: Standing { height: 10, hash: B256::repeat_byte(11), time: 12, keys, fingerprint },
            tags: Some(Address::repeat_byte(13)),
            writers: vec![writer],
            bag: (14, BagHash::new([15; 32])),
            snapshots: Arc::new((0..4).map(record).collect()),
            early: EarlyTags::from([(B256::repeat_byte(16), BTreeSet::from([B256::repeat_byte(17)]))]),
        }
    }

    #[test]
    fn what_was_kept_is_read_as_it_was() {
        let summary = summary();
        let read = decode(&encode(&summary, GENESIS), GENESIS).unwrap();
        assert_eq!(format!("{read:?}"), format!("{summary:?}"));
    }

    #[test]
    fn nothing_is_read_where_a_bit_changed_or_of_another_ledger() {
        let good = encode(&summary(), GENESIS);
        assert!(decode(&good, BlockHash::new([2; 32])).is_none());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(decode(&bad, GENESIS).is_none(), "byte {at}");
            assert!(decode(&good[..at], GENESIS).is_none(), "the first {at} bytes");
        }
    }
}
