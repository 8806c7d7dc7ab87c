//! What clients hand in: the contracts of the ledger, an account for each node, then sessions of those accounts without end.
//!
//! Each node has a client that knows no other node: what a killed node had not passed on is handed in again.

use std::time::Duration;

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_sol_types::SolCall;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::Store;
use blockhouse_ledger::call::{Call, CallOutcome, call};
use blockhouse_ledger::contracts::{Access, GroupValidators, Validators, Vault};
use blockhouse_ledger::genesis::DEPLOYMENT_GAS;
use blockhouse_ledger::governance::validators_address;
use blockhouse_ledger::{Genesis, Request};
use commonware_runtime::{Clock as _, deterministic};

use crate::seat::Life;

/// How often a client looks: some times in each view.
const PAUSE: Duration = Duration::from_millis(20);
const GAS: u64 = 3_000_000;

pub(crate) fn owner() -> AccountSecret {
    account(1)
}

/// The account of a node.
pub(crate) fn writer(node: u8) -> AccountSecret {
    account(10 + node)
}

fn account(number: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([number; 32])).unwrap()
}

pub(crate) fn address(account: &AccountSecret) -> Address {
    Address::new(account.account().to_bytes())
}

/// What the clients of a run hand in.
pub(crate) struct Load {
    genesis: Genesis,
    /// The owner's, in the order of their nonces.
    first: Vec<Bytes>,
    /// An enrolled account for each node. Those of the first validators govern them.
    writers: Vec<AccountSecret>,
    /// Who goes, and who comes in its place, if anybody does.
    change: Option<([u8; 32], [u8; 32])>,
}

impl Load {
    pub(crate) fn new(genesis: &Genesis, nodes: u8, change: Option<([u8; 32], [u8; 32])>) -> Self {
        let writers: Vec<_> = (0..nodes).map(writer).collect();
        let contracts = genesis.deployments(3600).into_iter().map(|code| (TxKind::Create, code, DEPLOYMENT_GAS));
        let enrol = |writer| (TxKind::Call(genesis.access_address()), enrolment(writer), GAS);
        let all = contracts.chain(writers.iter().map(enrol));
        let sign = |(nonce, (to, input, gas))| {
            let request = Request { chain_id: genesis.chain_id, nonce, to, input, gas };
            request.sign(&owner()).encoded_2718().into()
        };
        Self { genesis: genesis.clone(), first: (0..).zip(all).map(sign).collect(), writers, change }
    }

    /// Hands in what the client of that node has, for as long as the node lives: each transaction once in a life.
    pub(crate) async fn press(&self, context: &deterministic::Context, node: usize, life: &Life) {
        let (chain, waiting) = (&life.chain, &life.waiting);
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
                    let call = self.governing(node, &head).or_else(|| posting(life)).unwrap_or_else(|| self.session());
                    let _ = waiting.submit(&self.sign(writer, due, call)).await;
                    next = due + 1;
                }
            }
            context.sleep(PAUSE).await;
        }
    }

    fn session(&self) -> (Address, Vec<u8>) {
        (self.genesis.vault_address(), Vault::openSessionCall { leaseSeconds: 600 }.abi_encode())
    }

    fn sign(&self, writer: &AccountSecret, nonce: u64, (to, input): (Address, Vec<u8>)) -> Bytes {
        let (chain_id, to) = (self.genesis.chain_id, TxKind::Call(to));
        Request { chain_id, nonce, to, input: input.into(), gas: GAS }.sign(writer).encoded_2718().into()
    }

    /// What a governor has to say, as the ledger stands: the first proposes the change, two more approve it, and the first carries it out.
    fn governing(&self, node: usize, head: &Store) -> Option<(Address, Vec<u8>)> {
        let changes = vec![self.change.map(|(old, new)| replaces(old, new))?];
        let governor = address(self.writers.get(node).filter(|_| node < 3)?);
        if ask(head, &Validators::setCountCall {})? != U256::ONE {
            return None;
        }
        let proposal = ask(head, &Validators::proposalIdCall { changes: changes.clone() })?;
        let approvals = ask(head, &Validators::approvalsCall { proposal })?.saturating_to::<u64>();
        let has_approved = ask(head, &Validators::hasApprovedCall { proposal, governor })?;
        let input = match (node, approvals, has_approved) {
            (0, 0, _) => Validators::proposeCall { changes }.abi_encode(),
            (0, 3, _) => Validators::enactCall { changes }.abi_encode(),
            (1 | 2, 1.., false) => Validators::approveCall { proposal }.abi_encode(),
            _ => return None,
        };
        Some((validators_address(), input))
    }

    /// How many transactions a ledger holds.
    pub(crate) fn recorded(&self, store: &Store) -> u64 {
        let accounts = self.writers.iter().map(address).chain([address(&owner())]);
        accounts.map(|account| nonce(store, &account)).sum()
    }
}

/// What came of a resharing, if it is to be posted.
fn posting(life: &Life) -> Option<(Address, Vec<u8>)> {
    let (from, outcome) = life.to_post.lock().unwrap().take()?;
    let call = GroupValidators::postOutcomeCall { epoch_: from, data: outcome.encode().into() };
    Some((validators_address(), call.abi_encode()))
}

fn replaces(old: [u8; 32], new: [u8; 32]) -> Validators::Change {
    let validator = Validators::Validator {
        p2pKey: B256::new(new),
        consensusKey: new.to_vec().into(),
        hint: b"h4:1".to_vec().into(),
        operator: address(&writer(4)),
        role: 0,
    };
    Validators::Change { kind: 2, member: B256::new(old), validator }
}

/// The answer of the contract; nothing while there is none.
fn ask<C: SolCall>(store: &Store, question: &C) -> Option<C::Return> {
    let read = Call::read(Address::ZERO, validators_address(), question.abi_encode());
    match call(store.genesis(), store.head().header(), store, &read).unwrap().outcome {
        CallOutcome::Returned(output) => C::abi_decode_returns(&output).ok(),
        _ => None,
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
