//! A target for the file of the embedded ledger: what a fault of the disk may have made of it.

use std::panic::set_hook;
use std::path::Path;
use std::sync::{LazyLock, Once};
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::Address;
use blockhouse_homes::store::{Access, PagePlace};
use blockhouse_homes::{Store, StoreError};
use blockhouse_ledger::{AccountRecord, BlockObject, Replay};

use super::ledger::objects;
use super::vault::in_folder;
use crate::{Target, Verdict};

/// The store of a small ledger with damage in it. The file is far longer than inputs are, and most of it is free; so an input is
/// a list of damages: `place: u32 │ length: u8 │ bytes`, the place counted over the bytes that hold something.
pub(super) const LEDGER_STORE: Target = Target {
    name: "ledger-store",
    decoders: &[
        "homes/store.rs::open",
        "homes/store/file.rs::open",
        "homes/store/pages.rs::open",
        "homes/store/pages/page.rs::decode",
        "homes/store/receipt_rows.rs::decode_receipts",
    ],
    run: |input| {
        quiet_about_redb();
        let mut bytes = TRUTH.bytes.clone();
        for (place, damage) in damages(input) {
            for (at, byte) in TRUTH.used.iter().skip(place).zip(damage) {
                bytes[*at] = *byte;
            }
        }
        in_folder(|folder| {
            let path = folder.join("ledger.redb");
            let verdicts = [Access::Read, Access::Write, Access::Watched].map(|access| {
                std::fs::write(&path, &bytes).unwrap();
                read(&path, access)
            });
            if verdicts.contains(&Verdict::Refused) { Verdict::Refused } else { Verdict::Accepted }
        })
    },
    // Damages that change nothing.
    seeds: || {
        let same = |place: usize| {
            let head = u32::try_from(place).unwrap().to_le_bytes();
            let bytes: Vec<u8> = TRUTH.used.iter().skip(place).take(8).map(|at| TRUTH.bytes[*at]).collect();
            [&head[..], &[8], &bytes].concat()
        };
        let middle = TRUTH.used.len() / 2;
        vec![Vec::new(), same(0), same(middle), [same(64), same(middle / 2), same(middle * 3 / 2)].concat()]
    },
};

/// What the undamaged store says.
struct Truth {
    bytes: Vec<u8>,
    /// The places of bytes that hold something.
    used: Vec<usize>,
    receipts: Vec<Vec<ReceiptEnvelope>>,
    /// What stands in the owner's account after each block.
    owner: Vec<Option<AccountRecord>>,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(|| {
    in_folder(|folder| {
        let path = folder.join("ledger.redb");
        let (first, later) = objects().split_first().unwrap();
        Store::create(&path, first.genesis.as_ref().unwrap(), &first.certificate).unwrap();
        let mut replay = Replay::begin(first).unwrap();
        let (mut receipts, mut owner) = (vec![Vec::new()], vec![None]);
        for object in later {
            let executed = replay.extend(object).unwrap();
            let mut store = Store::open(&path, Access::Write, Duration::ZERO, None).unwrap();
            store.append(&executed, &object.certificate).unwrap();
            receipts.push(executed.receipts);
            owner.push(store.state().account(&owner_of(&store)).unwrap());
        }
        let bytes = std::fs::read(&path).unwrap();
        let used = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        Truth { bytes, used, receipts, owner }
    })
});

/// The bytes of the undamaged store.
pub(super) fn undamaged() -> &'static [u8] {
    &TRUTH.bytes
}

fn damages(mut input: &[u8]) -> Vec<(usize, &[u8])> {
    let mut damages = Vec::new();
    while let Some((place, rest)) = input.split_first_chunk::<4>() {
        let Some((length, rest)) = rest.split_first() else { break };
        let (damage, rest) = rest.split_at(rest.len().min((*length).into()));
        damages.push((u32::from_le_bytes(*place) as usize % TRUTH.used.len(), damage));
        input = rest;
    }
    damages
}

/// Whatever a store gives is true of the ledger up to its head; all else is damage and said to be.
fn read(path: &Path, access: Access) -> Verdict {
    let result = Store::open(path, access, Duration::ZERO, None).and_then(|store| {
        for (object, receipts) in objects().iter().zip(&TRUTH.receipts).take(below(store.height())) {
            check(&store, object, receipts)?;
        }
        for (height, owner) in (0..=store.height()).zip(&TRUTH.owner) {
            check_state(&store, height, owner.as_ref())?;
        }
        let mut place = Some(PagePlace::default());
        while let Some(from) = place {
            place = store.compare_pages(&from, 1)?;
        }
        Ok(())
    });
    if let Err(error) = &result {
        assert!(matches!(error, StoreError::Damaged { .. }), "another error than damage: {error:?}");
    }
    Verdict::of(result)
}

fn below(height: u64) -> usize {
    let count = usize::try_from(height).unwrap() + 1;
    assert!(count <= objects().len(), "a store with more blocks than were sealed");
    count
}

fn check(store: &Store, object: &BlockObject, receipts: &[ReceiptEnvelope]) -> Result<(), StoreError> {
    let height = object.block.header.number;
    assert!(store.block(height)?.block == object.block, "another block {height}");
    assert!(store.receipts(height)? == receipts, "other receipts of block {height}");
    for (index, transaction) in object.block.body.transactions.iter().enumerate() {
        let found = store.find_transaction(transaction.tx_hash())?.expect("a sealed transaction is never missed");
        assert_eq!((found.height, found.index), (height, index));
    }
    store.certificate(height).map(drop)
}

fn owner_of(store: &Store) -> Address {
    Address::new(store.genesis().owner.to_bytes())
}

/// The state after a block, if it is kept, is what it was; where it cannot be read it is not another one.
fn check_state(store: &Store, height: u64, owner: Option<&AccountRecord>) -> Result<(), StoreError> {
    let Some(at) = store.state_at(height)? else { return Ok(()) };
    let found = at.state().account(&owner_of(store));
    assert!(found.is_err() || found.is_ok_and(|found| found.as_ref() == owner), "another state after block {height}");
    Ok(())
}

/// redb's panics are contained, so their reports are noise here; all others are not.
fn quiet_about_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|at| at.file().contains("redb-")) {
                usual(panic);
            }
        }));
    });
}
