//! A small ledger with the real contracts, for the tests of this crate.
#![allow(dead_code, unreachable_pub, reason = "each test binary is a crate of its own and uses a part of it")]

pub mod node;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_provider::DynProvider;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_homes::{Embedded, Options, Sealed, provider};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS};
use blockhouse_ledger::transaction::Request;
use blockhouse_ledger::{Fork, Genesis};
use blockhouse_types::{RecipientSetHash, VaultId};
use tempfile::TempDir;

pub const START: u64 = 1_700_000_000;
pub const RECIPIENTS: [u8; 32] = [5; 32];

/// An account of the tests, by a number.
pub fn account(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

pub fn address(account: &AccountSecret) -> Address {
    Address::new(account.account().to_bytes())
}

pub fn ledger_key(number: u8) -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed(&Secret::new([number; 32])))
}

pub fn genesis() -> Genesis {
    Genesis {
        vault_id: VaultId::new([1; 32]),
        chain_id: (1 << 32) + 7,
        owner: account(1).account(),
        recovery: vec![account(2).account()],
        ledger_key: ledger_key(9).public(),
        time: START,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new(RECIPIENTS),
        governance: None,
    }
}

/// A ledger in a folder of its own, with a clock that the test moves.
pub struct World {
    pub folder: TempDir,
    pub clock: Arc<AtomicU64>,
    pub home: Embedded,
}

impl World {
    /// Block 0 alone.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START + 1));
        Embedded::create(&folder.path().join("ledger.redb"), &genesis(), &ledger_key(9)).unwrap();
        let home = Embedded::new(options(&folder.path().join("ledger.redb"), &clock));
        Self { folder, clock, home }
    }

    /// Block 1 with the contracts.
    pub async fn deployed() -> Self {
        let world = Self::new();
        world.deploy().await;
        world
    }

    /// Block 0 alone of another ledger.
    pub async fn other(number: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START + 1));
        let genesis = Genesis { vault_id: VaultId::new([number; 32]), chain_id: genesis().chain_id + 1, ..genesis() };
        Embedded::create(&folder.path().join("ledger.redb"), &genesis, &ledger_key(9)).unwrap();
        let home = Embedded::new(options(&folder.path().join("ledger.redb"), &clock));
        let code = genesis.deployments(3600);
        let request = |(nonce, input)| Request {
            chain_id: genesis.chain_id,
            nonce,
            to: TxKind::Create,
            input,
            gas: DEPLOYMENT_GAS,
        };
        for request in (0..).zip(code).map(request) {
            clock.fetch_add(5, Ordering::SeqCst);
            home.seal(vec![request.sign(&account(1)).encoded_2718().into()]).await.unwrap();
        }
        Self { folder, clock, home }
    }

    /// Contracts, and the writer enrolled.
    pub async fn with_writer() -> Self {
        let world = Self::deployed().await;
        let sealed = world.owner_call(3, enrol(&account(3))).await;
        assert!(sealed.receipts[0].status());
        world
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.redb")
    }

    /// Another handle, as another process would have it.
    pub fn another(&self) -> Embedded {
        Embedded::new(options(&self.path(), &self.clock))
    }

    pub fn provider(&self, sender: &AccountSecret) -> DynProvider {
        provider::sender(self.home.clone(), signer(sender))
    }

    pub fn tick(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    pub async fn deploy(&self) -> Sealed {
        let codes = genesis().deployments(3600);
        let raw = (0..).zip(codes).map(|(nonce, code)| sign(&account(1), nonce, TxKind::Create, code, DEPLOYMENT_GAS));
        let sealed = self.home.seal(raw.collect()).await.unwrap();
        assert!(sealed.receipts.iter().all(alloy_consensus::ReceiptEnvelope::status));
        sealed
    }

    /// Seals a call of `Access` by the owner.
    pub async fn owner_call(&self, nonce: u64, input: Bytes) -> Sealed {
        self.tick(5);
        let to = TxKind::Call(genesis().access_address());
        self.home.seal(vec![sign(&account(1), nonce, to, input, 1_000_000)]).await.unwrap()
    }

    /// Opens a session of the writer in a block of its own.
    pub async fn session(&self, nonce: u64) -> Sealed {
        self.tick(5);
        self.home.seal(vec![open_session(nonce)]).await.unwrap()
    }
}

pub fn options(path: &Path, clock: &Arc<AtomicU64>) -> Options {
    let clock = Arc::clone(clock);
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    Options { wait: Duration::from_secs(10), ..Options::sealer(path, clock, ledger_key(9)) }
}

pub fn signer(account: &AccountSecret) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::new(*account.secret().expose())).unwrap()
}

pub fn sign(sender: &AccountSecret, nonce: u64, to: TxKind, input: Bytes, gas: u64) -> Bytes {
    let request = Request { chain_id: genesis().chain_id, nonce, to, input, gas };
    request.sign(sender).encoded_2718().into()
}

pub fn enrol(writer: &AccountSecret) -> Bytes {
    let call = Access::enrolWriterCall {
        who: address(writer),
        predecessor: Address::ZERO,
        predecessorLastBlock: 0,
        hostStolen: false,
    };
    call.abi_encode().into()
}

pub fn open_session(nonce: u64) -> Bytes {
    let input = Vault::openSessionCall { leaseSeconds: 600 }.abi_encode();
    sign(&account(3), nonce, TxKind::Call(genesis().vault_address()), input.into(), 1_000_000)
}

/// A handover to that key on top of that block, by the recovery account.
pub fn hand_over(nonce: u64, next: [u8; 32], parent: B256) -> Bytes {
    let input = Access::handoverCall { nextKey: B256::new(next), parentHash: parent }.abi_encode();
    sign(&account(2), nonce, TxKind::Call(genesis().access_address()), input.into(), 1_000_000)
}

pub fn commit(session: B256, snapshot: u8) -> Vault::Commit {
    Vault::Commit {
        session,
        source: B256::repeat_byte(21),
        snapshot: B256::repeat_byte(snapshot),
        objectHash: B256::repeat_byte(23),
        listRoot: B256::repeat_byte(24),
        storedBytes: 1 << 20,
        recipients: B256::new(RECIPIENTS),
        tags: vec![B256::repeat_byte(25)],
        parent: B256::ZERO,
        d: 6,
        w: 2,
        wd: 1,
        headHeight: 0,
        headHash: B256::ZERO,
    }
}

/// Numbers for the choices of a test, from its seed (`SplitMix64`).
pub struct Choices(pub u64);

impl Choices {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The seed of this run: `BLOCKHOUSE_SEED`, or a fixed one. A failing test prints it.
pub fn seed() -> u64 {
    std::env::var("BLOCKHOUSE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_101)
}

/// How many rounds of a random test: the usual number, times `BLOCKHOUSE_EFFORT`.
pub fn rounds(usual: u64) -> u64 {
    let effort = std::env::var("BLOCKHOUSE_EFFORT").ok().and_then(|text| text.parse::<u64>().ok());
    usual * effort.unwrap_or(1)
}
