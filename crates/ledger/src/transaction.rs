//! Makes the transactions of the ledger: EIP-1559, no fee, no value.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Bytes, Signature, TxKind, U256};
use blockhouse_crypto::AccountSecret;

/// What a transaction asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The ledger's chain id.
    pub chain_id: u64,
    /// How many transactions the sender made before.
    pub nonce: u64,
    /// The contract, or the creation of one.
    pub to: TxKind,
    /// The input, or the init code.
    pub input: Bytes,
    /// How much gas it may use.
    pub gas: u64,
}

impl Request {
    /// Signs it.
    pub fn sign(self, sender: &AccountSecret) -> TxEnvelope {
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: 0,
            max_priority_fee_per_gas: 0,
            to: self.to,
            value: U256::ZERO,
            access_list: alloy_eips::eip2930::AccessList::default(),
            input: self.input,
        };
        let [rs @ .., v] = sender.sign(&tx.signature_hash().0);
        let signature = Signature::from_bytes_and_parity(&rs, v == 1);
        tx.into_signed(signature).into()
    }
}
