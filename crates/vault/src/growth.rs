//! Growth: a network takes over the ledger that this host has sealed, with its whole history, and this host becomes one of its clients. And
//! refounding: another network takes it over from one that lost more validators than it can do without.
//!
//! - **Owns** the order of the steps on the host's side, and what is done at the sites once the network has begun.
//! - **Does not** know nodes: who is to keep the ledger is 32 bytes here, and the handover to them is signed by the caller, last.
//!
//! # Invariants
//! - **W1** At every instant either this host can seal, or the network can begin, or neither; never both. The handover is signed only after
//!   [`leave`] and [`follow_network`] have returned: the store is marked, `config.toml` names the network, the old ledger key is gone.
//! - **W2** Each step looks first whether it is done. So the same command goes on wherever it was killed, with the same block as base.
//!   Of a network that others keep this host cannot say that it is gone: whoever refounds it answers for that.
//! - **W3** Nothing that was acknowledged is cut off: the last block that was sealed here is at the sites before the network may begin.
//!
//! Page: `docs/design/node.md`, section *Taking a ledger over*.

mod settle;

use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_homes::{Embedded, HomeError, NodeUrl, Options, Remote, RemoteError, Standing};
use blockhouse_ledger::{Genesis, TrustRoot};
use blockhouse_types::{BlockHash, Fingerprint};

use crate::blocks::Purpose;
use crate::folder::{Config, GrowthEntry, HomeKind, UpdateError, WriteError, write_durably};
use crate::ledger::{LedgerError, Recovery, address};
use crate::publish::{Publication, TooFewCopies};
use crate::vault::Vault;

pub use settle::SettleError;

/// Why the ledger was not left to a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowthError {
    /// A network keeps it.
    #[error("a network keeps the ledger of this vault already")]
    IsNetwork,
    /// No network keeps it.
    #[error("no network keeps the ledger of this vault: this host seals it")]
    NoNetwork,
    /// A chain keeps it.
    #[error("the ledger of this vault is on an outside chain, which no network takes over")]
    IsExternal,
    /// It was begun otherwise.
    #[error("the ledger was left to the network of the fingerprint {begun}, and this one has {given}")]
    OtherNetwork { begun: Fingerprint, given: Fingerprint },
    /// The account may not.
    #[error("the account of the identity may not hand the ledger over")]
    NotRecovery,
    /// The ledger's copy on this host.
    #[error("the ledger of this host could not be left")]
    Home(#[from] HomeError),
    /// The ledger.
    #[error("the ledger could not be asked")]
    Ledger(#[from] LedgerError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The nodes.
    #[error(transparent)]
    Nodes(#[from] RemoteError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The block above which the network begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBlock {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// A growth that may be begun, or go on.
#[derive(Debug, Clone)]
pub struct Growth {
    /// What the ledger began with.
    pub genesis: Genesis,
    /// The last block now; once the ledger was left, the base.
    pub last: LastBlock,
    /// How many transactions the account that hands the ledger over has made.
    pub nonce: u64,
    /// Who may hand it over, and how many of them it takes.
    pub recovery: Recovery,
    /// The vault's fingerprint from the handover on.
    pub fingerprint: Fingerprint,
    /// This host has to stop sealing first.
    pub is_sealed_here: bool,
}

/// Who kept the ledger before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// This host.
    Host,
    /// A network that cannot go on.
    Network,
}

/// What leaving the ledger to the network of that key begins with. Nothing is changed.
pub async fn plan(
    vault: &Vault,
    before: Before,
    heir: [u8; 32],
    account: &AccountSecret,
) -> Result<Growth, GrowthError> {
    let config = &vault.config().ledger;
    match (config.home, before, &config.growth) {
        (HomeKind::External, ..) => return Err(GrowthError::IsExternal),
        (HomeKind::Embedded, Before::Network, _) => return Err(GrowthError::NoNetwork),
        (HomeKind::Network, Before::Host, None) => return Err(GrowthError::IsNetwork),
        _ => {}
    }
    let home = vault.home().own_copy()?;
    let genesis = home.read(|store| store.genesis().clone()).await?;
    let standing = vault.standing().await?;
    let (given, last) = (TrustRoot::new(&genesis, heir).fingerprint(), last_block(&standing));
    if let Some(begun) = &config.growth {
        if begun.fingerprint != given {
            return Err(GrowthError::OtherNetwork { begun: begun.fingerprint, given });
        }
        if begun.height != last.height {
            return Err(GrowthError::IsNetwork);
        }
    }
    let recovery = vault.ledger().recovery().await?;
    if !recovery.accounts.contains(&account.account()) {
        return Err(GrowthError::NotRecovery);
    }
    let nonce = home.nonce(address(account.account())).await?;
    let is_sealed_here = config.home == HomeKind::Embedded;
    Ok(Growth { genesis, last, nonce, recovery, fingerprint: given, is_sealed_here })
}

/// Takes what one node has above this host's copy, whatever the others have; the height that the copy has then.
pub async fn follow_one(vault: &Vault, node: &NodeUrl) -> Result<u64, GrowthError> {
    let remote = Remote::new(vec![node.clone()])?;
    let clock = std::sync::Arc::clone(&vault.settings().clock);
    let home = Embedded::new(Options::of_network(vault.folder().ledger(), clock, remote));
    home.follow().await?;
    Ok(home.standing().await?.height)
}

/// Ends the sealing of this host for good, and secures the last block that it sealed (W3).
pub async fn leave(vault: &Vault, heir: [u8; 32], growth: &Growth) -> Result<LastBlock, GrowthError> {
    // Before anything is done: who cannot be reached now would hold it up half-way.
    secure_blocks(vault).await?;
    if !growth.is_sealed_here {
        // Another command may have taken more of the old nodes since it was planned.
        return Ok(last_block(&vault.standing().await?));
    }
    let left = vault.home().own_copy()?.leave_to(heir).await?;
    secure_blocks(vault).await?;
    Ok(last_block(&left))
}

/// Makes this host a client of the network's nodes, and throws its ledger key away. The network may begin when this has returned.
pub fn follow_network(
    vault: &mut Vault,
    nodes: Vec<NodeUrl>,
    base: LastBlock,
    fingerprint: Fingerprint,
) -> Result<(), GrowthError> {
    let remote = Remote::new(nodes.clone())?;
    let LastBlock { height, hash } = base;
    let growth = Some(GrowthEntry { height, hash, fingerprint });
    Config::update(vault.folder(), |config| {
        config.ledger.home = HomeKind::Network;
        config.ledger.urls = nodes;
        config.ledger.growth = growth;
    })?;
    if let Some(mut secrets) = vault.secrets().cloned() {
        secrets.ledger_seed = Secret::random(&mut rand::rng());
        write_durably(&vault.folder().secrets(), 0o600, &secrets.to_bytes())?;
        vault.set_secrets(secrets);
    }
    vault.set_nodes(remote);
    vault.set_home(vault.embedded(None, Purpose::Block));
    Ok(())
}

async fn secure_blocks(vault: &Vault) -> Result<(), GrowthError> {
    let mut published = Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), vault.standing().await?.height).await;
    Ok(published.require("the ledger's last block", vault.quorum())?)
}

fn last_block(standing: &Standing) -> LastBlock {
    LastBlock { height: standing.height, hash: BlockHash::new(standing.hash.0) }
}
