//! Where a vault's ledger is: the one place at which the homes meet.
//!
//! - **Owns** the choice between a ledger whose blocks this host keeps (homes 1 and 2) and one on an outside chain (home 3).
//! - **Does not** hide that the second has no blocks here: who needs them asks for [`Home::own_copy`].

use alloy_primitives::B256;
use alloy_provider::DynProvider;
use alloy_signer_local::PrivateKeySigner;
use blockhouse_crypto::AccountSecret;

use crate::embedded::{Embedded, Evidence, HomeError, Standing};
use crate::external::External;
use crate::provider;

/// A vault's ledger, as this host sees it.
#[derive(Debug, Clone)]
pub enum Home {
    /// This host keeps a checked copy of all blocks; it seals them itself, or a network does.
    Own(Embedded),
    /// An outside chain keeps it, and its nodes are asked.
    External(External),
}

impl Home {
    /// The copy of all blocks on this host; an error where there is none.
    pub const fn own_copy(&self) -> Result<&Embedded, HomeError> {
        match self {
            Self::Own(home) => Ok(home),
            Self::External(_) => Err(HomeError::NoBlocks),
        }
    }

    /// Where the ledger stands.
    pub async fn standing(&self) -> Result<Standing, HomeError> {
        match self {
            Self::Own(home) => home.standing().await,
            Self::External(chain) => chain.standing().await,
        }
    }

    /// The evidence for a transaction.
    pub async fn evidence(&self, transaction: B256) -> Result<Evidence, HomeError> {
        match self {
            Self::Own(home) => home.evidence(transaction).await,
            Self::External(chain) => chain.evidence(transaction).await,
        }
    }

    /// A provider that reads.
    pub fn reader(&self) -> DynProvider {
        match self {
            Self::Own(home) => provider::reader(home.clone()),
            Self::External(chain) => provider::external(chain.clone(), None),
        }
    }

    /// A provider that sends as that account.
    #[expect(clippy::missing_panics_doc, reason = "an account's secret was checked when it was made")]
    pub fn sender(&self, account: &AccountSecret) -> DynProvider {
        match self {
            Self::Own(home) => {
                let signer = PrivateKeySigner::from_slice(account.secret().expose());
                provider::sender(home.clone(), signer.expect("an account's secret was checked when it was made"))
            }
            Self::External(chain) => provider::external(chain.clone(), Some(account.clone())),
        }
    }
}

impl From<Embedded> for Home {
    fn from(home: Embedded) -> Self {
        Self::Own(home)
    }
}

impl From<External> for Home {
    fn from(chain: External) -> Self {
        Self::External(chain)
    }
}
