//! The real contracts through an `alloy` provider, as `vault` uses the ledger.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_network::TransactionBuilder as _;
use alloy_primitives::{B256, U256};
use alloy_provider::Provider as _;
use alloy_rpc_client::{BatchRequest, Waiter};
use alloy_rpc_types_eth::{Filter, TransactionRequest};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_homes::{HomeError, provider};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::proof::{AccountProof, SlotProof};
use blockhouse_ledger::receipt::Receipt;
use blockhouse_ledger::state::AccountRecord;
use blockhouse_types::SnapshotId;
use support::{World, account, address, commit, genesis};

fn vault_call(input: &impl SolCall) -> TransactionRequest {
    TransactionRequest::default().with_to(genesis().vault_address()).with_input(input.abi_encode())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_committed_read_back_and_proved() {
    let world = World::deployed().await;
    let (owner, writer) = (world.provider(&account(1)), world.provider(&account(3)));

    let enrol =
        TransactionRequest::default().with_to(genesis().access_address()).with_input(support::enrol(&account(3)));
    let receipt = owner.send_transaction(enrol).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    let enrolled = &receipt.inner.logs()[0];
    assert_eq!(enrolled.log_decode::<Access::WriterEnrolled>().unwrap().inner.who, address(&account(3)));

    world.tick(30);
    let open = vault_call(&Vault::openSessionCall { leaseSeconds: 600 });
    let opened = writer.send_transaction(open).await.unwrap().get_receipt().await.unwrap();
    let session = opened.inner.logs()[0].log_decode::<Vault::SessionOpened>().unwrap().inner.session;

    world.tick(30);
    let request = vault_call(&Vault::commitCall { c: commit(session, 22) });
    let committed = writer.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(committed.status());
    assert_eq!(committed.block_number, Some(4));

    let read = vault_call(&Vault::snapshotCall { id: B256::repeat_byte(22) });
    let output = writer.call(read).await.unwrap();
    let snapshot = Vault::snapshotCall::abi_decode_returns(&output).unwrap();
    assert_eq!((snapshot.writer, snapshot.w), (address(&account(3)), 2));

    let evidence = world.home.evidence(committed.transaction_hash).await.unwrap();
    let parts = evidence.receipt_parts(SnapshotId::new([22; 32]), None);
    let receipt = Receipt::parse(&Receipt::from_parts(&parts).unwrap().to_bytes()).unwrap();
    let fingerprint = world.home.standing().await.unwrap().fingerprint;
    receipt.check(Some(fingerprint)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_receipts_and_logs_agree() {
    let world = World::with_writer().await;
    let sealed = world.session(0).await;
    let reader = provider::reader(world.home.clone());

    assert_eq!(reader.get_chain_id().await.unwrap(), genesis().chain_id);
    assert_eq!(reader.get_block_number().await.unwrap(), 3);
    let block = reader.get_block(BlockId::latest()).full().await.unwrap().unwrap();
    assert_eq!(block.header.hash, sealed.hash);
    assert_eq!(block.header.inner.hash_slow(), sealed.hash);
    let transactions = block.transactions.as_transactions().unwrap();
    assert_eq!(transactions[0].inner.signer(), address(&account(3)));
    let by_hash = reader.get_block_by_hash(sealed.hash).await.unwrap().unwrap();
    assert_eq!(by_hash.transactions.as_hashes().unwrap(), sealed.transactions);
    assert!(reader.get_block_by_number(BlockNumberOrTag::Number(4)).await.unwrap().is_none());

    let deployed = reader.get_block_receipts(BlockId::number(1)).await.unwrap().unwrap();
    let created: Vec<_> = deployed.iter().map(|receipt| receipt.contract_address.unwrap()).collect();
    let expected = [genesis().access_address(), genesis().policy_address(), genesis().vault_address()];
    assert_eq!(created, expected);
    let block_gas: u64 = deployed.iter().map(|receipt| receipt.gas_used).sum();
    let first = reader.get_block_by_number(BlockNumberOrTag::Number(1)).await.unwrap().unwrap();
    assert_eq!(block_gas, first.header.gas_used);

    let events = Filter::new().event_signature(Vault::SessionOpened::SIGNATURE_HASH).address(genesis().vault_address());
    let logs = reader.get_logs(&events.clone().from_block(0)).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].block_hash, logs[0].transaction_hash), (Some(sealed.hash), Some(sealed.transactions[0])));
    assert_eq!(reader.get_logs(&events.clone().at_block_hash(sealed.hash)).await.unwrap(), logs);
    assert!(reader.get_logs(&events.from_block(0).to_block(2)).await.unwrap().is_empty());
    let receipt = reader.get_transaction_receipt(sealed.transactions[0]).await.unwrap().unwrap();
    assert_eq!(receipt.inner.logs()[0], logs[0]);
    assert!(reader.get_transaction_receipt(B256::repeat_byte(1)).await.unwrap().is_none());
    assert!(reader.get_transaction_by_hash(B256::repeat_byte(1)).await.unwrap().is_none());
    let found = reader.get_transaction_by_hash(sealed.transactions[0]).await.unwrap().unwrap();
    assert_eq!(&found, &transactions[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_head_is_proved_and_older_state_is_kept() {
    let world = World::with_writer().await;
    let reader = provider::reader(world.home.clone());
    let (owner, access) = (address(&account(1)), genesis().access_address());

    assert_eq!(reader.get_transaction_count(owner).await.unwrap(), 4);
    assert_eq!(reader.get_balance(owner).await.unwrap(), U256::ZERO);
    assert!(reader.get_code_at(access).await.unwrap().len() > 1000);
    assert!(reader.get_code_at(owner).await.unwrap().is_empty());
    assert_eq!(reader.get_gas_price().await.unwrap(), 0);
    assert_eq!(reader.get_fee_history(10, BlockNumberOrTag::Latest, &[50.0]).await.unwrap().gas_used_ratio.len(), 3);

    let key = U256::ZERO;
    let proof = reader.get_proof(access, vec![key.into()]).await.unwrap();
    assert_eq!(proof.storage_proof[0].value, reader.get_storage_at(access, key).await.unwrap());
    assert!(!proof.storage_proof[0].value.is_zero());
    let slots = proof.storage_proof.iter().map(|slot| SlotProof { key, value: slot.value, nodes: slot.proof.clone() });
    let checked = AccountProof {
        account: access,
        record: AccountRecord {
            nonce: proof.nonce,
            balance: proof.balance,
            code_hash: proof.code_hash,
            storage_root: proof.storage_hash,
        },
        nodes: proof.account_proof.clone(),
        slots: slots.collect(),
    };
    let head = reader.get_block(BlockId::latest()).await.unwrap().unwrap();
    checked.check(head.header.state_root).unwrap();

    for (height, count) in [(0, 0), (1, 3)] {
        assert_eq!(reader.get_transaction_count(owner).block_id(BlockId::number(height)).await.unwrap(), count);
    }
    let unknown = reader.raw_request::<_, U256>("eth_newFilter".into(), ()).await.unwrap_err();
    assert_eq!(unknown.as_error_resp().unwrap().code, -32_601);
    let wrong = reader.raw_request::<_, U256>("eth_getBalance".into(), ("x",)).await.unwrap_err();
    assert_eq!(wrong.as_error_resp().unwrap().code, -32_602);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_carries_the_contracts_own_error() {
    let world = World::with_writer().await;
    let writer = world.provider(&account(3));
    let stranger = vault_call(&Vault::openSessionCall { leaseSeconds: 1 }).with_from(address(&account(3)));
    let refused = writer.call(stranger.clone()).await.unwrap_err();
    let payload = refused.as_error_resp().unwrap();
    assert_eq!(payload.code, 3);
    let decoded = payload.as_decoded_interface_error::<Vault::VaultErrors>().unwrap();
    assert!(matches!(decoded, Vault::VaultErrors::LeaseOutOfRange(_)), "{decoded:?}");
    let refused = writer.send_transaction(stranger).await.unwrap_err();
    assert!(refused.as_error_resp().unwrap().as_revert_data().is_some(), "the gas estimate already says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverting_transaction_is_sealed_when_its_gas_is_given() {
    let world = World::with_writer().await;
    let writer = world.provider(&account(3));
    let request = vault_call(&Vault::openSessionCall { leaseSeconds: 1 }).with_gas_limit(500_000);
    let receipt = writer.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(!receipt.status());
    assert_eq!(writer.get_transaction_count(address(&account(3))).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_and_nothing_is_sealed() {
    let world = World::with_writer().await;
    let stranger = world.provider(&account(77));
    let request = vault_call(&Vault::openSessionCall { leaseSeconds: 600 }).with_gas_limit(500_000);
    let refused = stranger.send_transaction(request).await.unwrap_err();
    let payload = refused.as_error_resp().unwrap();
    assert_eq!(payload.code, -32_003);
    assert!(payload.message.contains("is not enrolled"), "{}", payload.message);
    assert_eq!(stranger.get_block_number().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_taken_once() {
    let world = World::with_writer().await;
    let reader = provider::reader(world.home.clone());
    let raw = support::open_session(0);
    let hash = *reader.send_raw_transaction(&raw).await.unwrap().tx_hash();
    assert!(reader.get_transaction_receipt(hash).await.unwrap().unwrap().status());
    let refused = reader.send_raw_transaction(&raw).await.unwrap_err();
    assert_eq!(refused.as_error_resp().unwrap().code, -32_003);
    assert_eq!(reader.get_block_number().await.unwrap(), 3);
}

/// A lease is over by the time of the block that would be sealed now, though the head is older.
#[tokio::test(flavor = "multi_thread")]
async fn pending_calls_run_at_the_time_of_now() {
    let world = World::with_writer().await;
    let sealed = world.session(0).await;
    let log = &sealed.receipts[0].logs()[0];
    let session = Vault::SessionOpened::decode_log(log).unwrap().session;
    world.tick(10_000);
    let late = vault_call(&Vault::commitCall { c: commit(session, 22) }).with_from(address(&account(3)));
    let reader = provider::reader(world.home.clone());
    assert!(reader.call(late.clone()).block(BlockId::latest()).await.is_ok());
    let refused = reader.call(late).block(BlockId::pending()).await.unwrap_err();
    let decoded = refused.as_error_resp().unwrap().as_decoded_interface_error::<Vault::VaultErrors>();
    assert!(matches!(decoded, Some(Vault::VaultErrors::SessionExpired(_))), "{decoded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_home_reach_the_caller_as_they_are() {
    let world = World::with_writer().await;
    std::fs::remove_file(world.path()).unwrap();
    let failed = provider::reader(world.home.clone()).get_block_number().await.unwrap_err();
    let custom = failed.as_transport_err().unwrap().as_custom().unwrap();
    assert!(custom.downcast_ref::<HomeError>().unwrap().is_healed_by_replay());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_in_one_batch_is_sealed_in_one_block_or_not_at_all() {
    let world = World::with_writer().await;
    world.tick(5);
    let reader = provider::reader(world.home.clone());
    let before = reader.get_block_number().await.unwrap();
    let try_together = async |nonces: [u64; 3]| {
        let mut batch = BatchRequest::new(reader.client());
        let sent = nonces.map(|nonce| {
            let raw = support::open_session(nonce);
            batch.add_call::<_, B256>("eth_sendRawTransaction", &(raw,)).unwrap()
        });
        batch.send().await.unwrap();
        answers_of(sent).await
    };
    // The last one leaves a gap.
    let refused = try_together([0, 1, 7]).await;
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert_eq!(reader.get_block_number().await.unwrap(), before);

    let sent = try_together([0, 1, 2]).await;
    assert_eq!(reader.get_block_number().await.unwrap(), before + 1);
    let receipts = reader.get_block_receipts(BlockId::latest()).await.unwrap().unwrap();
    let sealed: Vec<B256> = receipts.iter().map(|receipt| receipt.transaction_hash).collect();
    assert_eq!(sent.into_iter().map(Result::unwrap).collect::<Vec<_>>(), sealed);
}

async fn answers_of(waiting: [Waiter<B256>; 3]) -> Vec<Result<B256, String>> {
    let mut done = Vec::new();
    for waiter in waiting {
        done.push(waiter.await.map_err(|error| error.to_string()));
    }
    done
}
