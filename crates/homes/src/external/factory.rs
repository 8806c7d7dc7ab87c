//! Contracts at addresses that are known before they are there.
//!
//! - **Owns** the factory: the one that most chains have, else one of the owner's own of the same code.
//! - **Does not** know what it creates.

use alloy_primitives::{Address, B256, Bytes, address, hex, keccak256};
use blockhouse_crypto::AccountSecret;

use super::External;
use super::send::Wish;
use crate::embedded::HomeError;
use crate::rpc::Fault;

/// The deterministic deployment proxy: salt and init code in, `CREATE2` out. It belongs to nobody.
const FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
/// Its code.
const RUNTIME: [u8; 69] = hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);
/// What puts that code somewhere.
const INIT: [u8; 14] = hex!("604580600e600039806000f350fe");
/// How many transactions of the owner are searched for a factory of his own: he made it with the first one.
const SEARCHED: u64 = 32;

impl External {
    /// A factory on the chain, final; made by the owner if there is none.
    pub async fn factory(&self, owner: &AccountSecret) -> Result<Address, HomeError> {
        if let Some(found) = self.find_factory(owner).await? {
            return Ok(found);
        }
        // One that is made now would not be found again.
        let account = Address::new(owner.account().to_bytes());
        if self.mined_nonce(account).await? >= SEARCHED {
            return Err(super::ExternalError::NoFactory { account }.into());
        }
        let input = Bytes::from([&INIT[..], &RUNTIME[..]].concat());
        self.send(owner, vec![Wish { input, ..Wish::default() }]).await.map_err(of_fault)?;
        self.find_factory(owner).await?.ok_or(HomeError::NoBlocks)
    }

    /// The factory that is there, if one is.
    pub async fn find_factory(&self, owner: &AccountSecret) -> Result<Option<Address>, HomeError> {
        let account = Address::new(owner.account().to_bytes());
        let own = (0..self.mined_nonce(account).await?.min(SEARCHED)).map(|nonce| account.create(nonce));
        for candidate in std::iter::once(FACTORY).chain(own) {
            if self.code(candidate).await?[..] == RUNTIME[..] {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Creates what is not there yet of these, one after another; final when it ends.
    pub async fn create(
        &self,
        owner: &AccountSecret,
        (factory, salt): (Address, B256),
        codes: &[Bytes],
    ) -> Result<(), HomeError> {
        let mut wishes = Vec::new();
        for code in codes {
            if self.code(factory.create2(salt, keccak256(code))).await?.is_empty() {
                let input = Bytes::from([&salt[..], &code[..]].concat());
                wishes.push(Wish { to: Some(factory), input, ..Wish::default() });
            }
        }
        self.send(owner, wishes).await.map_err(of_fault)?;
        Ok(())
    }
}

/// A refusal of the chain as an error.
pub(super) fn of_fault(fault: Fault) -> HomeError {
    match fault {
        Fault::Home(error) => error,
        Fault::Protocol(error) => super::ExternalError::Refused {
            method: "eth_sendRawTransaction",
            code: error.code,
            message: crate::remote::client::one_line(&error.message),
        }
        .into(),
    }
}
