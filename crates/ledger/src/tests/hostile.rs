//! What a hostile owner may hang onto the ledger's own call: it costs what it may cost, and no block less comes.

use alloy_consensus::{TxEnvelope, TxReceipt};
use alloy_primitives::{Address, B256, Bytes, TxKind, hex};
use alloy_sol_types::{SolCall, SolEvent};

use super::gather::take;
use super::world::{FLOOR, STEP, World, address, genesis};
use crate::block::BlockObject;
use crate::contracts::{Access, Automation};
use crate::execute::Executed;
use crate::genesis::DEPLOYMENT_GAS;
use crate::replay::Replay;
use crate::system::{TICK_GAS, automation_address};
use crate::transaction::Request;

const SOURCE: B256 = B256::repeat_byte(6);
/// What a tick with one task costs at most: its stipend, and what a tick at rest takes twice over.
const TICK_MOST: u64 = 260_000;

/// `PUSH1 0 PUSH1 0 REVERT`
const REVERTS: &[u8] = &hex!("6000 6000 fd");
/// `JUMPDEST PUSH1 0 JUMP`: until there is no gas left.
const BURNS: &[u8] = &hex!("5b 6000 56");
/// `PUSH3 256000 PUSH1 0 RETURN`: as long an answer as the stipend pays for.
const RETURNS_MUCH: &[u8] = &hex!("62 03e800 6000 f3");
/// The same as the reason of a revert.
const REVERTS_WITH_MUCH: &[u8] = &hex!("62 03e800 6000 fd");
/// `CALLER SELFDESTRUCT`
const DESTROYS_ITSELF: &[u8] = &hex!("33 ff");
/// `JUMPDEST PUSH2 2048 PUSH1 0 LOG0 PUSH1 0 JUMP`: logs until there is no gas left, so none stays.
const LOGS: &[u8] = &hex!("5b 61 0800 6000 a0 6000 56");

/// Calls back whoever calls it, with the same input: `tick` enters `tick`. What it is answered is its own answer.
/// `CALLDATASIZE PUSH1 0 PUSH1 0 CALLDATACOPY; CALL(GAS, CALLER, 0, 0, CALLDATASIZE, 0, 0); PUSH1 26 JUMPI; REVERT(0, 0); JUMPDEST STOP`
const ENTERS_AGAIN: &[u8] = &hex!("36 6000 6000 37 6000 6000 36 6000 6000 33 5a f1 601a 57 6000 6000 fd 5b 00");

/// The init code that leaves this code: `PUSH1 length DUP1 PUSH1 9 RETURNDATASIZE CODECOPY RETURNDATASIZE RETURN`, and it.
fn leaving(code: &[u8]) -> Bytes {
    let length = u8::try_from(code.len()).unwrap();
    [&[0x60, length][..], &hex!("80 6009 3d 39 3d f3"), code].concat().into()
}

fn owner_calls(world: &World, call: &impl SolCall) -> TxEnvelope {
    world.tx(&world.owner, TxKind::Call(automation_address()), call.abi_encode())
}

/// The gas of the last transaction of a block.
fn gas_of_tick(executed: &Executed) -> u64 {
    let receipts = &executed.receipts;
    let before = receipts.len().checked_sub(2).map_or(0, |place| receipts[place].cumulative_gas_used());
    receipts.last().unwrap().cumulative_gas_used() - before
}

/// Another copy of the ledger takes every block, and stands where this one does.
fn expect_another_copy_agrees(world: &World) {
    let mut objects = world.objects.iter().map(|bytes| BlockObject::decode(bytes).unwrap());
    let mut replay = Replay::begin(&objects.next().unwrap()).unwrap();
    for object in objects {
        replay.extend(&object).unwrap();
    }
    assert_eq!(replay.head(), world.replay.head());
}

/// U4 and K2 in the executor: whatever the owner lists as a task, every block comes, its tick succeeds within its bounds, and the
/// transactions beside it do what they say.
#[test]
fn hostile_tasks_stop_no_block() {
    let mut world = World::new();
    take(&mut world, &[]);
    let codes = [REVERTS, BURNS, RETURNS_MUCH, REVERTS_WITH_MUCH, DESTROYS_ITSELF, LOGS, ENTERS_AGAIN].map(leaving);
    let mut tasks = Vec::new();
    for code in codes {
        let task = address(world.owner.account()).create(world.nonce(&world.owner));
        let made = world.tx(&world.owner, TxKind::Create, code);
        assert!(take(&mut world, &[made]).executed.receipts[0].status());
        let listed = owner_calls(&world, &Automation::addTaskCall { task });
        assert!(take(&mut world, &[listed]).executed.receipts[0].status());
        tasks.push(task);
    }
    // Each has its turn three times.
    let mut failing = Vec::new();
    for number in 0..3 * tasks.len() {
        let who = Address::with_last_byte(u8::try_from(number + 1).unwrap());
        let (predecessor, block) = (Address::ZERO, 0);
        let enrol = Access::enrolWriterCall { who, predecessor, predecessorLastBlock: block, hostStolen: false };
        let enrol = world.to_access(&world.owner, enrol);
        let made = take(&mut world, &[enrol]).executed;
        assert_eq!(made.receipts.len(), 2, "the owner's and the ledger's own");
        assert!(made.receipts.iter().all(TxReceipt::status), "block {number}");
        assert!(gas_of_tick(&made) < TICK_MOST, "block {number}: {}", gas_of_tick(&made));
        assert!(world.read(world.genesis().access_address(), Access::isWriterCall { who }));
        let told = made.receipts[1].logs().iter();
        failing.extend(told.filter_map(|log| Automation::TaskFailing::decode_log(log).ok()).map(|log| log.task));
    }
    // Those whose first turn came while they were listed were told then; nobody is told twice, and who answers is not.
    let is_failing = |task: Address| {
        let index = tasks.iter().position(|other| *other == task).unwrap();
        world.read(automation_address(), Automation::taskAtCall { index: alloy_primitives::U256::from(index) }).failing
    };
    let expected = [true, true, false, true, false, true, true];
    assert_eq!(tasks.iter().map(|task| is_failing(*task)).collect::<Vec<_>>(), expected);
    assert!(failing.iter().all(|task| is_failing(*task)));
    expect_another_copy_agrees(&world);
}

/// A `Vault` that answers `access()` always, everything else with 0 until a time, and from then on ends so.
///
/// `CALLDATALOAD(0) SHR 224 EQ selector JUMPI; TIMESTAMP LT time JUMPI; end; JUMPDEST MSTORE(0, access) RETURN(0, 32); JUMPDEST MSTORE(0, 0) RETURN(0, 32)`
fn turning_vault(access: Address, until: u64, end: [u8; 5]) -> Vec<u8> {
    const OF_ACCESS: u8 = 30;
    const OF_ZERO: u8 = OF_ACCESS + 30;
    let selector = crate::contracts::Vault::accessCall::SELECTOR;
    let time = u32::try_from(until).unwrap().to_be_bytes();
    [
        &hex!("6000 35 60e0 1c 63")[..],
        &selector,
        &[0x14, 0x60, OF_ACCESS, 0x57, 0x63],
        &time,
        &[0x42, 0x10, 0x60, OF_ZERO, 0x57],
        &end,
        &hex!("5b 73"),
        access.as_slice(),
        &hex!("6000 52 6020 6000 f3"),
        &hex!("5b 6000 6000 52 6020 6000 f3"),
    ]
    .concat()
}

/// The genuine contracts let no tick fail. Where the owner of a genesis put another one in the place of `Vault`, it does, in both ways there
/// are: the block has a receipt with status 0 at its end, and comes all the same, here and on every other copy.
#[test]
fn a_tick_that_fails_stops_no_block() {
    // `PUSH1 0 PUSH1 0 REVERT`, and `INVALID`, which takes all gas there is.
    for (end, burns) in [(hex!("6000 6000 fd"), false), (hex!("fe 00 00 00 00"), true)] {
        let until = genesis(0).time + 7 * STEP;
        let mut world = World::begin(0x1_2345_6789);
        let vault = leaving(&turning_vault(world.genesis().access_address(), until, end));
        let [access, policy, _] = world.genesis().deployments(FLOOR);
        let chain_id = world.genesis().chain_id;
        let made = (0..).zip([access, policy, vault]).map(|(nonce, input)| {
            Request { chain_id, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS }.sign(&world.owner)
        });
        let made: Vec<_> = made.collect();
        assert!(take(&mut world, &made).executed.receipts.iter().all(TxReceipt::status));
        assert!(take(&mut world, &[]).executed.receipts[0].status(), "Automation takes it for a vault");
        let watch = owner_calls(&world, &Automation::setBackupIntervalCall { source: SOURCE, interval: 1 });
        assert!(take(&mut world, &[watch]).executed.receipts.iter().all(TxReceipt::status));
        let told = take(&mut world, &[]).executed;
        assert_eq!(told.receipts[0].logs().len(), 1, "the source is overdue");
        assert!(Automation::BackupOverdue::decode_log(&told.receipts[0].logs()[0]).is_ok());

        while world.next_time().seconds() < until {
            take(&mut world, &[]);
        }
        for number in 0..20 {
            let who = Address::with_last_byte(number + 1);
            let add = world.to_access(&world.owner, Access::addRecoveryCall { who });
            let made = take(&mut world, &[add]).executed;
            let statuses: Vec<bool> = made.receipts.iter().map(TxReceipt::status).collect();
            // What is due again is asked for again, so each tick fails.
            assert_eq!(statuses, [true, false], "block {number}");
            assert_eq!(gas_of_tick(&made) > TICK_GAS * 9 / 10, burns, "{}", gas_of_tick(&made));
            assert!(world.read(world.genesis().access_address(), Access::isRecoveryCall(who)));
        }
        expect_another_copy_agrees(&world);
    }
}
