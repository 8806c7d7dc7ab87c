//! Real blocks, whose states are known from their execution in memory: each that is kept is read whole, every node of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy_trie::Nibbles;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_ledger::block::BlockObject;
use blockhouse_ledger::certificate::Certificate;
use blockhouse_ledger::execute::{Executed, build};
use blockhouse_ledger::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS};
use blockhouse_ledger::state::{MemoryState, StatePlace, StateTrie, check_whole};
use blockhouse_ledger::{BlockTime, Fork, Genesis, Request};
use blockhouse_types::{Encoder, RecipientSetHash, VaultId};
use tempfile::TempDir;

use super::super::file::Durability;
use super::super::{Access, Past, StatePart, Store, StoreError};
use super::*;

/// More blocks than states are kept of.
const BLOCKS: u64 = 140;
/// The block in which a contract with slots is destroyed.
const DESTROYED: u64 = 70;

/// With 64 bytes of input it sets a slot to a value, without any it destroys itself.
const CONTRACT: [u8; 25] = hex!("6f3615600d5760203560003555005b33ff60005260106010f3");

struct Truth {
    genesis: Genesis,
    certificate: Certificate,
    /// From block 1 on.
    blocks: Vec<Arc<Executed>>,
    /// How many nodes the state after each block has, from block 0 on.
    nodes: Vec<usize>,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(|| {
    let owner = AccountSecret::try_new(&Secret::new([1; 32])).unwrap();
    let genesis = Genesis {
        vault_id: VaultId::new([1; 32]),
        chain_id: (1 << 32) + 7,
        owner: owner.account(),
        recovery: Vec::new(),
        ledger_key: [9; 32],
        time: 1_700_000_000,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([5; 32]),
        governance: None,
    };
    let sender = Address::new(owner.account().to_bytes());
    let (mut state, mut parent, mut nonce) = (MemoryState::new(), genesis.block().header, 0);
    state.set_block_hash(0, B256::new(genesis.hash().to_bytes()));
    let (mut blocks, mut nodes, mut contract) = (Vec::new(), vec![0], Address::ZERO);
    for height in 1..=BLOCKS {
        let mut wanted: Vec<(TxKind, Bytes)> = Vec::new();
        match height {
            1 => wanted.extend(genesis.deployments(0).into_iter().map(|input| (TxKind::Create, input))),
            2 => wanted.push((TxKind::Create, CONTRACT.into())),
            DESTROYED => {
                wanted.push((TxKind::Call(contract), Bytes::new()));
                wanted.push((TxKind::Create, CONTRACT.into()));
            }
            // Every third value is zero, so that nodes go away too.
            _ => wanted.extend((0..3).map(|place| {
                let key = U256::from((height * 7 + place * 5) % 23);
                let value = U256::from(if (height + place) % 3 == 0 { 0 } else { height });
                (TxKind::Call(contract), [key.to_be_bytes::<32>(), value.to_be_bytes::<32>()].concat().into())
            })),
        }
        if height == 2 || height == DESTROYED {
            contract = sender.create(nonce + wanted.len() as u64 - 1);
        }
        let signed = (nonce..).zip(wanted).map(|(nonce, (to, input))| {
            Request { chain_id: genesis.chain_id, nonce, to, input, gas: DEPLOYMENT_GAS }.sign(&owner)
        });
        let signed: Vec<_> = signed.collect();
        nonce += signed.len() as u64;
        let executed = build(&genesis, &parent, &state, signed, BlockTime::of_seconds(genesis.time + height)).unwrap();
        assert!(executed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status), "block {height}");
        state.apply(&executed.changes);
        state.set_block_hash(height, B256::new(executed.hash.to_bytes()));
        parent = executed.block.header.clone();
        nodes.push(state.node_count());
        blocks.push(Arc::new(executed));
    }
    Truth { certificate: Certificate::Genesis { key: genesis.ledger_key }, genesis, blocks, nodes }
});

fn executed(height: u64) -> &'static Arc<Executed> {
    &TRUTH.blocks[usize::try_from(height).unwrap() - 1]
}

fn open(path: &Path) -> Store {
    Store::open(path, Access::Write, Duration::ZERO, None).unwrap()
}

/// A store with blocks up to that height.
fn store(height: u64) -> (TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    Store::create(&path, &TRUTH.genesis, &TRUTH.certificate).unwrap();
    let mut store = open(&path);
    append(&mut store, height);
    store.sync().unwrap();
    (folder, path, store)
}

/// Goes on up to that height; what is appended may be lost.
fn append(store: &mut Store, to: u64) {
    for height in store.height() + 1..=to {
        store.append_unsynced(executed(height), &TRUTH.certificate).unwrap();
    }
}

fn read_whole(store: &Store, height: u64) -> Result<(), StoreError> {
    let at = store.state_at(height)?.unwrap_or_else(|| panic!("the state of block {height} is not kept"));
    assert_eq!(at.header().number, height);
    let nodes = check_whole(at.header().state_root, &at).map_err(|error| at.failed(error))?;
    assert_eq!(nodes, TRUTH.nodes[usize::try_from(height).unwrap()], "block {height}");
    Ok(())
}

/// The states from that height on are kept, whole, and no others.
fn expect_states(store: &Store, from: u64) {
    let head = store.height();
    assert_eq!(store.states_from(), from, "head {head}");
    for height in (from..=head).filter(|height| height - from < 3 || height % 13 == 0 || head - height < 3) {
        read_whole(store, height).unwrap();
    }
    assert!(store.state_at(head + 1).unwrap().is_none());
    assert!(from == 0 || store.state_at(from - 1).unwrap().is_none());
}

/// The heights of which there are records.
fn records(store: &Store) -> Vec<u64> {
    let heights = store.file.read(|transaction| {
        let Some(rows) = open_rows(transaction)? else { return Ok(Vec::new()) };
        rows.iter()?.map(|row| Ok(row?.0.value())).collect()
    });
    heights.unwrap()
}

/// Changes rows as whoever has the file could; the store is opened anew.
fn alter(store: Store, path: &Path, change: impl FnOnce(&WriteTransaction) -> Result<(), Fault>) -> Store {
    store.file.write(Durability::Immediate, change).unwrap();
    drop(store);
    open(path)
}

#[test]
fn the_last_states_are_read_whole_and_those_before_are_gone() {
    let (_folder, path, mut store) = store(3);
    expect_states(&store, 0);
    append(&mut store, RECORDS_MAX);
    expect_states(&store, 0);
    append(&mut store, BLOCKS);
    expect_states(&store, BLOCKS - RECORDS_MAX);
    assert_eq!(records(&store), (BLOCKS - RECORDS_MAX + 1..=BLOCKS).collect::<Vec<_>>());
    store.sync().unwrap();
    drop(store);
    for access in [Access::Read, Access::Watched] {
        expect_states(&Store::open(&path, access, Duration::ZERO, None).unwrap(), BLOCKS - RECORDS_MAX);
    }
}

/// A view of an earlier head goes on to answer as it did, beside one of the newest that shares what was read last.
#[test]
fn a_store_that_stays_at_its_head_reads_the_same_states() {
    let (_folder, _path, mut store) = store(75);
    let earlier = store.clone();
    append(&mut store, 80);
    for height in [60, DESTROYED - 1, DESTROYED, 74] {
        for store in [&store, &earlier, &store] {
            read_whole(store, height).unwrap();
        }
    }
    read_whole(&earlier, 75).unwrap();
    assert!(earlier.state_at(76).unwrap().is_none());
}

/// U2: whatever the way of appending.
#[test]
fn a_kill_leaves_blocks_with_their_records() {
    let (folder, path, mut store) = store(0);
    let mut copies = 0;
    let mut expect_after_kill = |head: u64| {
        copies += 1;
        let copy = folder.path().join(format!("copy-{copies}"));
        // Closing the file itself would make all of it durable.
        std::fs::copy(&path, &copy).unwrap();
        let mut store = open(&copy);
        assert_eq!((store.height(), records(&store)), (head, (1..=head).collect()));
        expect_states(&store, 0);
        append(&mut store, head + 2);
        expect_states(&store, 0);
    };
    store.append(executed(1), &TRUTH.certificate).unwrap();
    expect_after_kill(1);
    append(&mut store, 4);
    expect_after_kill(1);
    store.sync().unwrap();
    expect_after_kill(4);
    let run: Vec<_> = (5..=9).map(|height| (Arc::clone(executed(height)), TRUTH.certificate.clone())).collect();
    store.append_all(&run).unwrap();
    expect_after_kill(9);
}

/// U1: what an earlier version leaves, which writes blocks and knows no records.
#[test]
fn where_an_earlier_version_wrote_blocks_states_begin_anew() {
    let (_folder, path, mut store) = store(6);
    let mark = store.file.read(|transaction| Mark::read(&transaction.open_table(META)?)).unwrap().unwrap();
    append(&mut store, 9);
    store.sync().unwrap();
    let mut store = alter(store, &path, |transaction| {
        transaction.open_table(META)?.insert(MARK, mark.encode().as_slice())?;
        transaction.open_table(UNDO)?.retain(|height, _| height <= 6)?;
        Ok(())
    });
    expect_states(&store, 9);
    append(&mut store, 12);
    expect_states(&store, 9);
    assert_eq!(records(&store), [10, 11, 12]);

    // One that never knew them.
    store.sync().unwrap();
    let mut store = alter(store, &path, |transaction| {
        transaction.open_table(META)?.remove(MARK)?;
        transaction.delete_table(UNDO)?;
        Ok(())
    });
    expect_states(&store, 12);
    append(&mut store, 14);
    expect_states(&store, 12);
}

#[test]
fn a_store_that_begins_by_a_state_keeps_those_above() {
    const BEGIN: u64 = 20;
    let (folder, _path, old) = store(BEGIN);
    let past = |height: u64| {
        let Executed { block, receipts, .. } = &**executed(height);
        let (chain_id, certificate) = (TRUTH.genesis.chain_id, TRUTH.certificate.clone());
        let object = BlockObject { chain_id, block: block.clone(), certificate, genesis: None };
        Past { object, receipts: receipts.clone() }
    };
    let past: Vec<_> = (1..=BEGIN).rev().map(past).collect();
    let path = folder.path().join("synced");
    Store::begin_at(&path, &TRUTH.genesis, &past, &[]).unwrap();
    let (mut new, mut next) = (open(&path), Some(StatePlace::default()));
    while let Some(place) = next {
        let piece = StatePart::read_some(&old, place, 1).unwrap();
        new.put_state(&piece.take(old.head().header().state_root, place, &new).unwrap()).unwrap();
        next = piece.next();
    }
    new.sync().unwrap();
    expect_states(&new, BEGIN);
    assert!(records(&new).is_empty());
    append(&mut new, BEGIN + 5);
    expect_states(&new, BEGIN);
}

/// Another record of block 8.
fn put(rows: &mut Table<'_, u64, &'static [u8]>, record: &[u8]) -> Result<(), Fault> {
    rows.insert(8, record).map(drop).map_err(Fault::from)
}

#[test]
fn an_altered_record_ends_with_an_error_and_spoils_no_later_state() {
    type Alteration<'a> = &'a dyn Fn(&mut Table<'_, u64, &'static [u8]>) -> Result<(), Fault>;
    let altered = |change: Alteration<'_>| {
        let (_folder, path, store) = store(12);
        let store = alter(store, &path, |transaction| change(&mut transaction.open_table(UNDO)?));
        assert_eq!(store.states_from(), 0);
        for height in 8..=12 {
            read_whole(&store, height).unwrap();
        }
        let error = read_whole(&store, 7).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        // As before, the ledger itself is sound, and goes on.
        check_whole(store.head().header().state_root, &store).unwrap();
        error.to_string()
    };
    let record = |height: u64| {
        let (_folder, _path, store) = store(12);
        store.read(|rows| rows.undo(height, &mut { BYTES_MAX })).unwrap()
    };
    let missing = altered(&|rows| rows.remove(8).map(drop).map_err(Fault::from));
    assert!(missing.contains("undo record 8 is missing"), "{missing}");
    let garbage = altered(&|rows| put(rows, b"garbage"));
    assert!(garbage.contains("undo record 8: an undo record"), "{garbage}");
    let other = record(9).encode();
    let other = altered(&|rows| put(rows, &other));
    assert!(other.contains("the state of block 7 cannot be read with the undo records above it"), "{other}");
    // Each node in turn is another one, or left out.
    let right = record(8);
    for place in 0..right.nodes.len() {
        let mut flipped = right.clone();
        let Some(node) = &mut flipped.nodes[place].1 else { continue };
        let mut bytes = node.to_vec();
        bytes[0] ^= 1;
        *node = bytes.into();
        let mut shorter = right.clone();
        shorter.nodes.remove(place);
        for record in [flipped, shorter] {
            altered(&|rows| put(rows, &record.encode()));
        }
    }
}

/// Where the mark says less than there is, nothing was pruned for it: what is read has the same bound.
#[test]
fn records_that_are_longer_than_they_may_be_are_not_loaded() {
    let (_folder, path, store) = store(12);
    let record = store.read(|rows| rows.undo(8, &mut { BYTES_MAX })).unwrap();
    let nodes = record.nodes.into_iter().map(|(place, _)| (place, Some(vec![7_u8; 1024].into())));
    let long = UndoRecord { nodes: nodes.collect() }.encode();
    let store = alter(store, &path, |transaction| put(&mut transaction.open_table(UNDO)?, &long));
    let mut rooms = [long.len() - 1, long.len(), long.len() + 1];
    let read = rooms.each_mut().map(|room| store.read(|rows| rows.undo(8, room)).is_ok());
    assert_eq!((read, rooms), ([false, true, true], [long.len() - 1, 0, 1]));
}

#[test]
fn an_impossible_mark_is_none() {
    for mark in [
        Mark { from: 5, to: 4, bytes: 0 },
        Mark { from: 0, to: RECORDS_MAX + 1, bytes: 0 },
        Mark { from: 0, to: u64::MAX, bytes: u64::MAX },
    ] {
        assert_eq!(Mark::decode(&mark.encode()), None);
    }
    let mark = Mark { from: 3, to: 3 + RECORDS_MAX, bytes: u64::MAX };
    assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    assert_eq!(Mark::decode(&mark.encode()[1..]), None);
}

/// U2: by their length too.
#[test]
fn long_records_leave_less_room_and_one_that_is_too_long_none() {
    let (_folder, _path, store) = store(0);
    let write_one = |height: u64, nodes: u64| {
        let mut undoing = Undoing::of(usize::try_from(nodes).unwrap());
        for number in 0..nodes {
            let path = Nibbles::unpack(B256::from(U256::from(number)));
            undoing.note(&StateTrie::Accounts, &path, Some(&[7; 1024]));
        }
        store.file.write(Durability::None, |transaction| write(transaction, height, undoing)).unwrap();
        store.file.read(|transaction| Mark::read(&transaction.open_table(META)?)).unwrap().unwrap()
    };
    // Some 6 MiB each.
    for (height, from) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
        let mark = write_one(height, 5500);
        assert_eq!((mark.from, mark.to), (from, height));
        assert!(mark.bytes <= BYTES_MAX as u64);
        assert_eq!(records(&store), (from + 1..=height).collect::<Vec<_>>());
    }
    assert_eq!(write_one(5, 16_000), Mark::at(5));
    assert!(records(&store).is_empty());
    let mark = write_one(6, 1);
    assert_eq!((mark.from, mark.to, records(&store)), (5, 6, vec![6]));
}

#[test]
fn a_record_has_one_form() {
    let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
    let (path, node) = (Nibbles::from_nibbles([1, 15]), Some(&b"a node"[..]));
    let mut undoing = Undoing::of(5);
    undoing.note(&StateTrie::Accounts, &Nibbles::new(), node);
    undoing.note(&StateTrie::Accounts, &path, None);
    undoing.note(&StateTrie::Slots(one), &Nibbles::new(), node);
    undoing.note(&StateTrie::Slots(one), &path, None);
    undoing.note(&StateTrie::Slots(two), &path, node);
    let bytes = Bytes::from(undoing.finish().unwrap());
    assert_eq!(UndoRecord::decode(&bytes).unwrap().encode(), bytes);
    for end in 0..bytes.len() {
        assert!(UndoRecord::decode(&bytes.slice(..end)).is_err(), "{end} bytes");
    }
    let refused = |write: &dyn Fn(&mut Encoder)| {
        let mut encoder = Encoder::with_header(*b"BHUR");
        encoder.count(2);
        write(&mut encoder);
        UndoRecord::decode(&encoder.finish().into()).unwrap_err().to_string()
    };
    let said = [
        refused(&|encoder| {
            encoder.u8(0).bytes(&[1]).bytes(&[]).u8(0).bytes(&[1]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(1).raw(&[1; 32]).bytes(&[1]).bytes(&[]).u8(0).bytes(&[2]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(1).raw(&[1; 32]).bytes(&[1]).bytes(&[]);
            encoder.u8(1).raw(&[1; 32]).bytes(&[2]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(0).bytes(&[1]).bytes(&[]).u8(2).bytes(&[2]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(3).bytes(&[1]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(0).bytes(&[16]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(0).bytes(&[1; 65]).bytes(&[]);
        }),
        refused(&|encoder| {
            encoder.u8(0).bytes(&[1]).bytes(&[7; 1025]);
        }),
    ];
    for (words, expected) in said.iter().zip([
        "not in order",
        "not in order",
        "named twice",
        "unknown kind of node: 2",
        "unknown kind of node: 3",
        "not of nibbles",
        "path = 65",
        "node = 1025",
    ]) {
        assert!(words.contains(expected), "{words}");
    }
}
