//! A small ledger with the real contracts, for tests: every block is made, certified, encoded, decoded and imported.

use alloy_consensus::TxEnvelope;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_types::{Account, RecipientSetHash, VaultId};

use crate::block::BlockObject;
use crate::call::{Call, CallOutcome, call};
use crate::certificate::{BlockPlace, Certificate};
use crate::contracts::{Access, Vault};
use crate::execute::{Executed, build};
use crate::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS, Fork, Genesis};
use crate::replay::Replay;
use crate::state::check_whole;
use crate::time::BlockTime;
use crate::transaction::Request;

/// Seconds between the blocks of a [`World`].
pub(crate) const STEP: u64 = 60;
/// The floor of the policy that a [`World`] deploys.
pub(crate) const FLOOR: u64 = 86_400;
/// Gas for a transaction that is not a deployment.
pub(crate) const GAS: u64 = 2_000_000;

pub(crate) struct World {
    pub(crate) owner: AccountSecret,
    pub(crate) recovery: AccountSecret,
    pub(crate) writer: AccountSecret,
    pub(crate) ledger_key: LedgerKey,
    pub(crate) replay: Replay,
    pub(crate) objects: Vec<Vec<u8>>,
}

pub(crate) fn secret(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

pub(crate) fn ledger_key(byte: u8) -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([byte; 32]))
}

pub(crate) fn address(account: Account) -> Address {
    Address::new(account.to_bytes())
}

pub(crate) fn genesis(chain_id: u64) -> Genesis {
    Genesis {
        vault_id: VaultId::new([0xaa; 32]),
        chain_id,
        owner: secret(1).account(),
        recovery: vec![secret(2).account()],
        ledger_key: ledger_key(9).public(),
        time: 1_700_000_000,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new([0xbb; 32]),
        governance: None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a call reads better where it is made")]
impl World {
    /// Block 0 and nothing else.
    pub(crate) fn begin(chain_id: u64) -> Self {
        let genesis = genesis(chain_id);
        let ledger_key = ledger_key(9);
        let place = BlockPlace { chain_id, height: 0, hash: genesis.hash() };
        let certificate = Certificate::solo(&ledger_key, &place);
        let object = BlockObject { chain_id, block: genesis.block(), certificate, genesis: Some(genesis) };
        let bytes = object.encode();
        let replay = Replay::begin(&BlockObject::decode(&bytes).unwrap()).unwrap();
        let (owner, recovery, writer) = (secret(1), secret(2), secret(3));
        Self { owner, recovery, writer, ledger_key, replay, objects: vec![bytes] }
    }

    /// The contracts stand and the writer is enrolled.
    pub(crate) fn new() -> Self {
        let mut world = Self::begin(0x1_2345_6789);
        world.deploy();
        let who = address(world.writer.account());
        let enrol =
            Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
        let tx = world.to_access(&secret(1), enrol);
        world.seal_all(vec![tx]);
        world
    }

    pub(crate) fn deploy(&mut self) -> Executed {
        let deployments = self.genesis().deployments(FLOOR);
        let txs = (0..).zip(deployments).map(|(nonce, input)| {
            let chain_id = self.genesis().chain_id;
            Request { chain_id, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS }.sign(&self.owner)
        });
        let txs = txs.collect();
        self.seal_all(txs)
    }

    pub(crate) fn genesis(&self) -> &Genesis {
        self.replay.genesis()
    }

    pub(crate) fn now(&self) -> u64 {
        self.replay.head().timestamp
    }

    /// The time of the next block.
    pub(crate) fn next_time(&self) -> BlockTime {
        BlockTime::of_seconds(self.now() + STEP)
    }

    pub(crate) fn nonce(&self, sender: &AccountSecret) -> u64 {
        let record = self.replay.state().account(&address(sender.account())).unwrap();
        record.map_or(0, |record| record.nonce)
    }

    /// A signed transaction with the sender's next nonce.
    pub(crate) fn tx(&self, sender: &AccountSecret, to: TxKind, input: impl Into<Bytes>) -> TxEnvelope {
        let (chain_id, nonce) = (self.genesis().chain_id, self.nonce(sender));
        Request { chain_id, nonce, to, input: input.into(), gas: GAS }.sign(sender)
    }

    pub(crate) fn to_vault(&self, sender: &AccountSecret, call: impl SolCall) -> TxEnvelope {
        self.tx(sender, TxKind::Call(self.genesis().vault_address()), call.abi_encode())
    }

    pub(crate) fn to_access(&self, sender: &AccountSecret, call: impl SolCall) -> TxEnvelope {
        self.tx(sender, TxKind::Call(self.genesis().access_address()), call.abi_encode())
    }

    /// Makes the next block.
    pub(crate) fn build(&self, txs: Vec<TxEnvelope>) -> Executed {
        build(self.genesis(), self.replay.head(), self.replay.nodes(), txs, self.next_time()).unwrap()
    }

    /// The object of a block, certified by that key.
    pub(crate) fn object(&self, executed: &Executed, key: &LedgerKey) -> BlockObject {
        let chain_id = self.genesis().chain_id;
        let place = BlockPlace { chain_id, height: executed.block.header.number, hash: executed.hash };
        let certificate = Certificate::solo(key, &place);
        BlockObject { chain_id, block: executed.block.clone(), certificate, genesis: None }
    }

    /// Makes, certifies and imports the next block; what the import gives must be what was built.
    pub(crate) fn seal_all(&mut self, txs: Vec<TxEnvelope>) -> Executed {
        let built = self.build(txs);
        self.take(&built)
    }

    pub(crate) fn take(&mut self, built: &Executed) -> Executed {
        let bytes = self.object(built, &self.ledger_key).encode();
        let imported = self.replay.extend(&BlockObject::decode(&bytes).unwrap()).unwrap();
        assert_eq!(imported, *built);
        let (root, nodes) = (built.block.header.state_root, self.replay.nodes());
        assert_eq!(check_whole(root, nodes).unwrap(), nodes.node_count(), "nodes of another state are left");
        self.objects.push(bytes);
        imported
    }

    /// Seals one transaction, which must succeed.
    pub(crate) fn seal(&mut self, tx: TxEnvelope) -> Executed {
        let executed = self.seal_all(vec![tx]);
        assert!(executed.receipts[0].status(), "the transaction failed");
        executed
    }

    /// Reads a view of a contract at the head.
    pub(crate) fn read<C: SolCall>(&self, contract: Address, input: C) -> C::Return {
        let ask = Call::read(Address::ZERO, contract, input.abi_encode());
        let result = call(self.genesis(), self.replay.head(), self.replay.nodes(), &ask).unwrap();
        let CallOutcome::Returned(output) = result.outcome else { panic!("{:?}", result.outcome) };
        C::abi_decode_returns(&output).unwrap()
    }

    /// Opens a session and returns its id.
    pub(crate) fn open_session(&mut self) -> B256 {
        let tx = self.to_vault(&self.writer, Vault::openSessionCall { leaseSeconds: 3600 });
        let opened = self.seal(tx);
        let log = &opened.receipts[0].logs()[0];
        <Vault::SessionOpened as alloy_sol_types::SolEvent>::decode_log(log).unwrap().session
    }

    /// Opens a session and commits a snapshot.
    pub(crate) fn commit(&mut self, snapshot: B256, source: B256) -> Executed {
        let c = self.commit_data(snapshot, source);
        let tx = self.to_vault(&self.writer, Vault::commitCall { c });
        self.seal(tx)
    }

    pub(crate) fn commit_data(&mut self, snapshot: B256, source: B256) -> Vault::Commit {
        Vault::Commit {
            session: self.open_session(),
            source,
            snapshot,
            objectHash: B256::repeat_byte(0x11),
            listRoot: B256::repeat_byte(0x12),
            storedBytes: 1 << 20,
            recipients: B256::repeat_byte(0xbb),
            tags: vec![B256::repeat_byte(0x13)],
            parent: B256::ZERO,
            d: 6,
            w: 2,
            wd: 2,
            headHeight: 0,
            headHash: B256::ZERO,
        }
    }
}
