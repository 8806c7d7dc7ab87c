//! The vault's fingerprint: the one value that a reader must get by another way.
//!
//! Format: `docs/design/ledger.md`, section *Fingerprint*.

use alloy_primitives::Address;
use blockhouse_crypto::hash::hash;
use blockhouse_types::{BlockHash, Encoder, Fingerprint};

use crate::certificate::external_key;
use crate::genesis::Genesis;

const CONTEXT: &str = "blockhouse v1 fingerprint";
const FORMAT: u32 = 1;

/// What a fingerprint commits to. A handover changes the key, and so the fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustRoot {
    /// The ledger's chain id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub genesis: BlockHash,
    /// Where `Vault` stands: anyone enrolled may deploy contracts that emit the same events.
    pub vault: Address,
    /// The ledger key in force; of an outside chain [`external_key`].
    pub ledger_key: [u8; 32],
}

impl TrustRoot {
    /// The trust root of a ledger under the key in force.
    pub fn new(genesis: &Genesis, ledger_key: [u8; 32]) -> Self {
        Self { chain_id: genesis.chain_id, genesis: genesis.hash(), vault: genesis.vault_address(), ledger_key }
    }

    /// The trust root of a vault whose contracts stand on an outside chain.
    pub fn external(chain_id: u64, genesis: BlockHash, vault: Address) -> Self {
        Self { chain_id, genesis, vault, ledger_key: external_key() }
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut encoder = Encoder::new();
        encoder.u32(FORMAT).u64(self.chain_id).raw(self.genesis.as_bytes());
        encoder.raw(self.vault.as_slice()).raw(&self.ledger_key);
        Fingerprint::new(hash(CONTEXT, encoder.as_slice()))
    }
}
