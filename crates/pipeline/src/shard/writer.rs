//! The writer's signature in a shard's header (T4).

use blockhouse_crypto::account::{SIGNATURE_LEN, recover};
use blockhouse_crypto::hash::hash_parts;
use blockhouse_crypto::{AccountSecret, SignatureError};
use blockhouse_types::{Account, SessionId, StripeId, VaultId};

/// Whose stripe a header says it is. Says nothing until it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedWriter {
    /// The session that wrote the stripe.
    pub session: SessionId,
    /// The account that says so.
    pub account: Account,
    /// Its signature.
    pub signature: [u8; SIGNATURE_LEN],
}

/// Why a header's claim does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    #[error("stripe {stripe} carries no valid signature")]
    Signature {
        stripe: StripeId,
        #[source]
        source: SignatureError,
    },
    #[error("stripe {stripe} says account {claimed} wrote it, the signature is another's")]
    OtherAccount { stripe: StripeId, claimed: Account },
}

/// Whose stripe it is, proved by the signature. Whether that account was a writer the ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeWriter {
    stripe: StripeId,
    claim: ClaimedWriter,
}

impl ClaimedWriter {
    /// Checks the signature over vault, session and stripe.
    pub fn verify(&self, vault: &VaultId, stripe: StripeId) -> Result<StripeWriter, WriterError> {
        let signer = recover(&digest(vault, &self.session, &stripe), &self.signature)
            .map_err(|source| WriterError::Signature { stripe, source })?;
        if signer != self.account {
            return Err(WriterError::OtherAccount { stripe, claimed: self.account });
        }
        Ok(StripeWriter { stripe, claim: *self })
    }
}

impl StripeWriter {
    /// Signs a stripe.
    pub fn sign(account: &AccountSecret, vault: &VaultId, session: SessionId, stripe: StripeId) -> Self {
        let signature = account.sign(&digest(vault, &session, &stripe));
        Self { stripe, claim: ClaimedWriter { session, account: account.account(), signature } }
    }

    /// The stripe that was signed.
    pub const fn stripe(&self) -> StripeId {
        self.stripe
    }

    /// The account that signed.
    pub const fn account(&self) -> Account {
        self.claim.account
    }

    /// The session it signed for.
    pub const fn session(&self) -> SessionId {
        self.claim.session
    }

    /// What stands in headers.
    pub const fn claim(&self) -> ClaimedWriter {
        self.claim
    }
}

fn digest(vault: &VaultId, session: &SessionId, stripe: &StripeId) -> [u8; 32] {
    let parts = [vault.as_bytes(), session.as_bytes(), stripe.as_bytes()];
    hash_parts("blockhouse v1 stripe writer", parts.map(|part| &part[..]))
}
