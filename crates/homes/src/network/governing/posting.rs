//! Posting the outcome of a resharing by an account that is kept apart from every node.
//!
//! The contract takes outcomes from operators of the coming set alone; whether one counts the ledger's nodes judge, by the signatures of all who took
//! part. So whoever brings it to the ledger need not be trusted, and any operator can, with what any node of the set hands out.
//!
//! - **Owns** what is asked of a node for that, what of it is checked before an account is used, and the call.
//! - **Does not** check the signatures: that takes the polynomial in force, which only the state of the ledger has. Nodes do, and pass over what does
//!   not hold. Each account posts once for a set, so an operator who asks a node that lies may have nothing more to say: then another one posts.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::SolCall;
use blockhouse_crypto::AccountSecret;
use blockhouse_ledger::certificate::quorum;
use blockhouse_ledger::contracts::GroupValidators::postOutcomeCall;
use blockhouse_ledger::contracts::Validators::setOfCall;
use blockhouse_ledger::governance::validators_address;
use blockhouse_ledger::resharing::{Group, Outcome, read_polynomial};
use blockhouse_ledger::{Genesis, Member};

use super::{Governing, GoverningError};
use crate::chain::chain;
use crate::rpc::MadeOutcome;

/// What is to be posted.
#[derive(Debug, Clone)]
pub struct Posting {
    from: u64,
    members: Vec<Member>,
    call: postOutcomeCall,
}

impl Posting {
    /// Of what a node says that it has, for a set with these members.
    fn read(genesis: &Genesis, made: &MadeOutcome, members: Vec<Member>) -> Result<Self, String> {
        let outcome = Outcome::decode(&made.outcome).map_err(|error| chain(&error))?;
        let mut voters: Vec<_> = members.iter().filter(|member| member.votes).map(|member| member.key).collect();
        voters.sort_unstable();
        let count = voters.len();
        let group = Group { voters, polynomial: outcome.polynomial };
        let read = read_polynomial(&group.polynomial).ok_or("its polynomial is none")?;
        if group.key() != Some(genesis.ledger_key) {
            return Err("its polynomial is one of another key".to_owned());
        }
        if (read.required() as usize, read.total().get() as usize) != (quorum(count), count) {
            return Err("its polynomial is one of another set".to_owned());
        }
        let from = made.from.to();
        Ok(Self { from, members, call: postOutcomeCall { epoch_: from, data: made.outcome.clone() } })
    }

    /// The epoch from which on the ledger names the set.
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// The contract that takes it.
    pub fn to() -> Address {
        validators_address()
    }

    /// The data of the transaction that posts it.
    pub fn data(&self) -> Bytes {
        self.call.abi_encode().into()
    }

    /// Who may post it.
    pub fn operators(&self) -> Vec<Address> {
        let mut operators: Vec<_> =
            self.members.iter().filter(|member| member.votes).map(|member| member.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        operators
    }
}

impl Governing {
    /// The outcome that the nodes which are asked have, and the ledger does not.
    pub async fn posting(&self) -> Result<Posting, GoverningError> {
        let made = self.remote.made_outcome().await?.ok_or(GoverningError::NothingToPost)?;
        let members = self.ask(&setOfCall { epoch_: made.from.to() }).await?;
        let members = members.into_iter().map(Member::from).collect();
        Posting::read(&self.genesis, &made, members).map_err(|why| GoverningError::NoOutcome { why })
    }

    /// Posts it, and waits until that is final.
    pub async fn post(&self, who: &AccountSecret, posting: &Posting) -> Result<(), GoverningError> {
        self.send(who, &posting.call).await
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U64;
    use blockhouse_crypto::Secret;
    use blockhouse_types::{RecipientSetHash, VaultId};

    use super::*;

    fn genesis() -> Genesis {
        let owner = AccountSecret::try_new(&Secret::new([1; 32])).unwrap().account();
        Genesis {
            vault_id: VaultId::new([1; 32]),
            chain_id: blockhouse_ledger::genesis::CHAIN_ID_MIN,
            owner,
            recovery: Vec::new(),
            ledger_key: [7; 32],
            time: 1,
            gas_limit: blockhouse_ledger::genesis::DEFAULT_GAS_LIMIT,
            forks: vec![(0, blockhouse_ledger::Fork::NEWEST)],
            recipients: RecipientSetHash::new([3; 32]),
            governance: None,
        }
    }

    /// What would only use an operator's one word up is not posted.
    #[test]
    fn what_a_node_makes_up_is_not_posted() {
        let read = |outcome: Vec<u8>| {
            let made = MadeOutcome { from: U64::from(3), outcome: outcome.into() };
            Posting::read(&genesis(), &made, Vec::new()).unwrap_err()
        };
        assert!(read(vec![1, 2, 3]).contains("the outcome of a resharing"));
        let empty = Outcome { transcript: [0; 32], polynomial: vec![1, 2], signatures: Vec::new() };
        assert_eq!(read(empty.encode()), "its polynomial is none");
    }
}
