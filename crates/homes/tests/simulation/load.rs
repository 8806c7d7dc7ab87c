//! What clients hand in: the contracts of the ledger, an account for each node, then sessions of those accounts without end.
//!
//! Each node has a client that knows no other node: what a killed node had not passed on is handed in again.

use std::time::Duration;

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, TxKind};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::Store;
use blockhouse_homes::network::{Chain, Waiting};
use blockhouse_ledger::contracts::{Access, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::{Genesis, Request};
use commonware_runtime::{Clock as _, deterministic};

/// How often a client looks: some times in each view.
const PAUSE: Duration = Duration::from_millis(20);
const GAS: u64 = 1_000_000;

pub(crate) fn owner() -> AccountSecret {
    account(1)
}

fn account(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

fn address(account: &AccountSecret) -> Address {
    Address::new(account.account().to_bytes())
}

/// What the clients of a run hand in.
pub(crate) struct Load {
    genesis: Genesis,
    /// The owner's, in the order of their nonces.
    first: Vec<Bytes>,
    /// An enrolled account for each node.
    writers: Vec<AccountSecret>,
}

impl Load {
    pub(crate) fn new(genesis: &Genesis, nodes: u8) -> Self {
        let writers: Vec<_> = (0..nodes).map(|node| account(10 + node)).collect();
        let contracts = genesis.deployments(3600).into_iter().map(|code| (TxKind::Create, code, DEPLOYMENT_GAS));
        let enrol = |writer| (TxKind::Call(genesis.access_address()), enrolment(writer), GAS);
        let all = contracts.chain(writers.iter().map(enrol));
        let sign = |(nonce, (to, input, gas))| {
            let request = Request { chain_id: genesis.chain_id, nonce, to, input, gas };
            request.sign(&owner()).encoded_2718().into()
        };
        Self { genesis: genesis.clone(), first: (0..).zip(all).map(sign).collect(), writers }
    }

    /// Hands in what the client of that node has, for as long as the node lives: each transaction once in a life.
    pub(crate) async fn press(&self, context: &deterministic::Context, node: usize, chain: &Chain, waiting: &Waiting) {
        let (mut first, mut next) = (0, 0);
        loop {
            let head = chain.head();
            let done = usize::try_from(nonce(&head, &address(&owner()))).unwrap();
            for transaction in &self.first[first.max(done)..] {
                // What another client handed in, and is done by now, is refused.
                let _ = waiting.submit(transaction).await;
            }
            first = self.first.len();
            if done == self.first.len() {
                let writer = &self.writers[node];
                let due = nonce(&head, &address(writer));
                if due >= next {
                    // What the life before handed in is known already.
                    let _ = waiting.submit(&self.session(writer, due)).await;
                    next = due + 1;
                }
            }
            context.sleep(PAUSE).await;
        }
    }

    fn session(&self, writer: &AccountSecret, nonce: u64) -> Bytes {
        let input = Vault::openSessionCall { leaseSeconds: 600 }.abi_encode();
        let (chain_id, to) = (self.genesis.chain_id, TxKind::Call(self.genesis.vault_address()));
        Request { chain_id, nonce, to, input: input.into(), gas: GAS }.sign(writer).encoded_2718().into()
    }

    /// How many transactions a ledger holds.
    pub(crate) fn recorded(&self, store: &Store) -> u64 {
        let accounts = self.writers.iter().map(address).chain([address(&owner())]);
        accounts.map(|account| nonce(store, &account)).sum()
    }
}

fn nonce(store: &Store, account: &Address) -> u64 {
    store.state().account(account).unwrap().map_or(0, |record| record.nonce)
}

fn enrolment(writer: &AccountSecret) -> Bytes {
    let who = address(writer);
    let call = Access::enrolWriterCall { who, predecessor: Address::ZERO, predecessorLastBlock: 0, hostStolen: false };
    call.abi_encode().into()
}
