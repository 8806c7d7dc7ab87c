//! How the golden files were made: contracts deployed, a writer enrolled, a session opened, a snapshot committed.

use std::fs;
use std::path::Path;

use alloy_consensus::TxEnvelope;
use alloy_primitives::{B256, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, LedgerKey, Secret};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::{DEFAULT_GAS_LIMIT, DEPLOYMENT_GAS};
use blockhouse_ledger::time::BlockTime;
use blockhouse_ledger::{
    Block, BlockObject, BlockPlace, Certificate, Executed, Fork, Genesis, Receipt, ReceiptParts, Replay, Request,
    TrustRoot, block_hash, build,
};
use blockhouse_types::{RecipientSetHash, SnapshotId, VaultId};

pub(crate) const BLOCKS: usize = 5;
pub(crate) const SNAPSHOT: B256 = B256::repeat_byte(0x51);
pub(crate) const SOURCE: B256 = B256::repeat_byte(0x52);

const CHAIN_ID: u64 = (1 << 40) + 9;
const RECIPIENTS: [u8; 32] = [0xbb; 32];

fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

fn ledger_key() -> LedgerKey {
    LedgerKey::from_seed(&Secret::new([9; 32]))
}

fn genesis() -> Genesis {
    Genesis {
        vault_id: VaultId::new([0xaa; 32]),
        chain_id: CHAIN_ID,
        owner: account(1).account(),
        recovery: vec![account(2).account()],
        ledger_key: ledger_key().public(),
        time: 1_700_000_000,
        gas_limit: DEFAULT_GAS_LIMIT,
        forks: vec![(0, Fork::Shanghai)],
        recipients: RecipientSetHash::new(RECIPIENTS),
        governance: None,
    }
}

fn certified(block: Block, genesis: Option<Genesis>) -> BlockObject {
    let place = BlockPlace { chain_id: CHAIN_ID, height: block.header.number, hash: block_hash(&block.header) };
    BlockObject { chain_id: CHAIN_ID, certificate: Certificate::solo(&ledger_key(), &place), block, genesis }
}

struct Chain {
    replay: Replay,
    objects: Vec<BlockObject>,
}

impl Chain {
    fn seal(&mut self, txs: Vec<TxEnvelope>) -> Executed {
        let time = BlockTime::of_seconds(self.replay.head().timestamp + 60);
        let built = build(self.replay.genesis(), self.replay.head(), self.replay.nodes(), txs, time).unwrap();
        let object = certified(built.block.clone(), None);
        self.replay.extend(&object).unwrap();
        self.objects.push(object);
        built
    }

    fn call(&mut self, sender: &AccountSecret, nonce: u64, to: TxKind, call: &impl SolCall) -> Executed {
        let input = call.abi_encode().into();
        self.seal(vec![Request { chain_id: CHAIN_ID, nonce, to, input, gas: 2_000_000 }.sign(sender)])
    }
}

fn commit(session: B256) -> Vault::Commit {
    Vault::Commit {
        session,
        source: SOURCE,
        snapshot: SNAPSHOT,
        objectHash: B256::repeat_byte(0x11),
        listRoot: B256::repeat_byte(0x12),
        storedBytes: 1 << 20,
        recipients: B256::new(RECIPIENTS),
        tags: vec![B256::repeat_byte(0x13)],
        parent: B256::ZERO,
        d: 6,
        w: 2,
        wd: 1,
        headHeight: 0,
        headHash: B256::ZERO,
    }
}

/// Writes the golden files.
pub(crate) fn write(folder: &Path) {
    let (genesis, owner, writer) = (genesis(), account(1), account(3));
    let first = certified(genesis.block(), Some(genesis.clone()));
    let mut chain = Chain { replay: Replay::begin(&first).unwrap(), objects: vec![first] };
    let deploy = |(nonce, input)| {
        Request { chain_id: CHAIN_ID, nonce, to: TxKind::Create, input, gas: DEPLOYMENT_GAS }.sign(&owner)
    };
    let deployments: Vec<_> = (0..).zip(genesis.deployments(86_400)).map(deploy).collect();
    let owner_nonce = deployments.len() as u64;
    chain.seal(deployments);
    let (who, nobody) = (writer.account().to_bytes().into(), [0; 20].into());
    let enrol = Access::enrolWriterCall { who, predecessor: nobody, predecessorLastBlock: 0, hostStolen: false };
    chain.call(&owner, owner_nonce, TxKind::Call(genesis.access_address()), &enrol);
    let vault = TxKind::Call(genesis.vault_address());
    let opened = chain.call(&writer, 0, vault, &Vault::openSessionCall { leaseSeconds: 3600 });
    let session = opened.receipts[0].logs()[0].topics()[1];
    let made = chain.call(&writer, 1, vault, &Vault::commitCall { c: commit(session) });

    let last = chain.objects.last().unwrap();
    let parts = ReceiptParts {
        root: TrustRoot::new(&genesis, ledger_key().public()),
        links: &[],
        header: &made.block.header,
        receipts: &made.receipts,
        descendants: &[],
        certificate: &last.certificate,
        snapshot: SnapshotId::new(SNAPSHOT.0),
        file: None,
    };
    let receipt = Receipt::from_parts(&parts).unwrap();
    fs::create_dir_all(folder).unwrap();
    for (height, object) in chain.objects.iter().enumerate() {
        fs::write(folder.join(format!("block-{height}.bin")), object.encode()).unwrap();
    }
    fs::write(folder.join("receipt.json"), receipt.to_bytes()).unwrap();
    fs::write(folder.join("fingerprint.txt"), format!("{}\n", receipt.fingerprint())).unwrap();
}
