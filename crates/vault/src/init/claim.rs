//! Taking over a network's ledger that nobody owns yet: its vault becomes that of a new identity.
//!
//! - **Owns** the order of the steps, and what of it an earlier try has done.
//! - **Does not** begin the ledger: its founder did, with a throw-away account as owner whose key is in the enrol key file.
//!
//! # Invariants
//! - **C1** The identity is durable in its file before the ledger is offered to it; from there on no file is taken back.
//! - **C2** Each step looks first whether it is done. So the same command with the same files goes on wherever it was killed.
//! - **C3** A vault in which a snapshot was recorded is never taken over again: its key bag would be replaced.
//! - **C4** At the end owner and paper key are the only recovery accounts, and this host the only writer.
//!
//! Page: `docs/design/host-files.md`, section *Claiming a network's ledger*.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockhouse_crypto::{AccountSecret, Identity, PaperKey};
use blockhouse_homes::Remote;
use blockhouse_ledger::Genesis;
use blockhouse_pipeline::key_bag::SealedBag;
use blockhouse_pipeline::placement::survey;
use blockhouse_sites::{ObjectKey, SiteSpec};
use blockhouse_types::{Account, Code, VaultId};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    Claim, InitError, InitReport, Keys, MadeSites, OwnersFile, distinct, finish, genesis, make_sites, undeclared,
};
use crate::blocks::Purpose;
use crate::folder::{HomeKind, Unfinished, VaultFolder, write_durably};
use crate::ledger::{LedgerError, Policy, WriterRecord};
use crate::publish::Publication;
use crate::unlock::Unlocked;
use crate::vault::{Settings, Vault};

/// The transactions of block 1.
const DEPLOYMENTS: u64 = 3;

/// The owner's files.
pub(super) struct Files {
    pub(super) identity_out: PathBuf,
    pub(super) paper_out: Option<PathBuf>,
    pub(super) passphrase: Option<Zeroizing<String>>,
}

/// Makes a vault of an unclaimed ledger.
pub(super) async fn claim(
    (folder, settings): (VaultFolder, Settings),
    files: Files,
    (sites, code, floor_seconds): (Vec<SiteSpec>, Option<Code>, u64),
    claim: Claim,
) -> Result<InitReport, InitError> {
    if folder.exists() {
        return Err(InitError::Exists { folder: folder.root().to_owned() });
    }
    let code = code.unwrap_or_else(|| Code::default_for(sites.len()));
    let specs = distinct(sites)?;
    survey(code, &undeclared(&specs))?;
    let nodes = Remote::new(claim.nodes.clone())?;
    let genesis = unclaimed(&nodes, &claim).await?;
    let failed = |source| InitError::Folder { folder: folder.root().to_owned(), source };
    let busy = || InitError::Busy { folder: folder.root().to_owned() };
    let mut unfinished = Unfinished::begin(&folder).map_err(failed)?.ok_or_else(busy)?;
    // What an earlier try left is made anew; a vault's own secrets whose configuration was lost are not thrown away with it.
    unfinished.set_aside(&folder).map_err(failed)?;
    let (keys, written) = files.keys(genesis.vault_id)?;
    let mut marked = Vec::new();
    let made = make_sites(keys.vault, specs, (&mut marked, true)).await.map_err(|error| {
        if marked.is_empty() { error } else { InitError::Marked { places: marked, source: Box::new(error) } }
    })?;
    let MadeSites { sites, entries, probes } = made;
    let ledger = (HomeKind::Network, claim.nodes);
    let config = genesis::config(&keys, &genesis, ledger, (code, entries));
    let mut vault = Vault::assemble(folder, config, Arc::new(sites), settings);
    vault.set_nodes(nodes);
    vault.set_home(vault.embedded(None, Purpose::Block));
    vault.home().own_copy()?.rebuild_from_network(genesis.hash()).await?;
    let taker = Taker { vault: &vault, genesis: &genesis, throw_away: &claim.key.owner, keys: &keys };
    taker.begin(floor_seconds).await?;
    taker.refuse_others().await?;
    // C1. From here on these files are what the ledger belongs to.
    unfinished.keep();
    written.into_iter().for_each(OwnersFile::keep);
    taker.take(floor_seconds).await?;
    write_durably(&vault.folder().secrets(), 0o600, &keys.host.to_bytes())?;
    finish(&vault, code, (keys.paper, probes)).await
}

/// What the ledger began with: the nodes must keep the ledger of the enrol key, and that must have been begun for it.
async fn unclaimed(nodes: &Remote, claim: &Claim) -> Result<Genesis, InitError> {
    let genesis = nodes.genesis().await?;
    let (expected, found) = (claim.key.genesis, genesis.hash());
    if expected != found || claim.key.chain_id != genesis.chain_id {
        return Err(InitError::OtherLedger { expected, found });
    }
    let account = claim.key.owner.account();
    if account == genesis.owner { Ok(genesis) } else { Err(InitError::OtherEnrolKey { account, owner: genesis.owner }) }
}

impl Files {
    /// The owner's keys: those that an earlier try left, else new ones; and the files that were written for them.
    pub(super) fn keys(self, vault: VaultId) -> Result<(Keys, Vec<OwnersFile>), InitError> {
        let (mut random, mut written) = (rand::rng(), Vec::new());
        let identity = if is_there(&self.identity_out) {
            self.left_identity(vault)?
        } else {
            let identity = Identity::generate(vault, &mut random);
            let passphrase = self.passphrase.as_deref().map(String::as_str);
            written.push(OwnersFile::write(&self.identity_out, &identity.to_file(passphrase)?)?);
            identity
        };
        let paper = match self.paper_out.as_deref() {
            Some(path) if is_there(path) => left_paper(path)?,
            path => {
                let paper = PaperKey::generate(&mut random);
                if let Some(path) = path {
                    let text = Zeroizing::new(format!("{}\n", paper.words().as_str()));
                    written.push(OwnersFile::write(path, text.as_bytes())?);
                }
                paper
            }
        };
        Ok((Keys::of(identity, paper)?, written))
    }

    fn left_identity(&self, vault: VaultId) -> Result<Identity, InitError> {
        let refused = |source| InitError::NotTakenUp { path: self.identity_out.clone(), source };
        let passphrase = self.passphrase.as_deref().map(String::as_str);
        match Unlocked::identity(self.identity_out.clone(), passphrase, Some(vault)) {
            Ok(Unlocked::Owner(identity)) => Ok(*identity),
            Ok(_) => Err(refused(None)),
            Err(error) => Err(refused(Some(error))),
        }
    }
}

fn left_paper(path: &Path) -> Result<PaperKey, InitError> {
    let refused = |source| InitError::NotTakenUp { path: path.to_owned(), source };
    match Unlocked::paper(path.to_owned()) {
        Ok(Unlocked::Paper(paper)) => Ok(*paper),
        Ok(_) => Err(refused(None)),
        Err(error) => Err(refused(Some(error))),
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Who takes the ledger over.
struct Taker<'a> {
    vault: &'a Vault,
    genesis: &'a Genesis,
    throw_away: &'a AccountSecret,
    keys: &'a Keys,
}

impl Taker<'_> {
    /// Block 1, where the ledger's founder has not made it, or not all of it.
    async fn begin(&self, floor_seconds: u64) -> Result<(), InitError> {
        match self.vault.ledger().nonce(self.throw_away).await? {
            done if done < DEPLOYMENTS => {
                genesis::deploy(self.vault, self.genesis, self.throw_away, (floor_seconds, done)).await
            }
            _ => Ok(()),
        }
    }

    fn own(&self) -> Account {
        self.keys.identity.owner().account()
    }

    /// C3.
    async fn refuse_others(&self) -> Result<(), InitError> {
        let (ledger, own) = (self.vault.ledger(), self.own());
        match ledger.owner().await? {
            owner if owner == self.throw_away.account() => self.refuse_used().await,
            owner if owner == own => match ledger.snapshot_count().await? {
                0 => Ok(()),
                snapshots => Err(InitError::InUse { snapshots }),
            },
            owner => Err(InitError::Claimed { owner }),
        }
    }

    /// Who held the enrol key before may have used it: then what he left is not known, and nobody takes the ledger for untouched.
    async fn refuse_used(&self) -> Result<(), InitError> {
        let (ledger, genesis) = (self.vault.ledger(), self.genesis);
        let is_first = |account: &Account| *account == genesis.owner || genesis.recovery.contains(account);
        let is_untouched = ledger.writers().await?.is_empty()
            && ledger.bag().await?.0 == 0
            && ledger.snapshot_count().await? == 0
            && ledger.recovery_accounts().await?.iter().all(is_first)
            && self.vault.standing().await?.keys.handovers().is_empty();
        if is_untouched { Ok(()) } else { Err(InitError::Used) }
    }

    /// The order of `docs/design/contracts.md`, but that the throw-away account loses its right at the end: until then it is nobody's
    /// harm, for it owns nothing any more, and a ledger that it could still hand over is not in use.
    async fn take(&self, floor_seconds: u64) -> Result<(), InitError> {
        let (vault, own) = (self.vault, self.keys.identity.owner());
        let (founder, owner) = (vault.ledger_as(self.throw_away), vault.ledger_as(own));
        if owner.owner().await? != self.own() {
            if owner.pending_owner().await? != Some(self.own()) {
                founder.transfer_ownership(self.own()).await?;
            }
            self.accept().await?;
        }
        if owner.policy(None).await? != (Policy::OwnerAfterFloor { floor_seconds }) {
            owner.set_floor(own, floor_seconds).await?;
        }
        let paper = self.keys.paper.recovery_account().account();
        if !owner.recovery_accounts().await?.contains(&paper) {
            owner.add_recovery(paper).await?;
        }
        self.be_writer().await?;
        self.publish_bag().await?;
        if owner.default_recipients().await? != self.keys.recipients.hash() {
            owner.set_default_recipients(self.keys.recipients.hash()).await?;
        }
        let others = owner.recovery_accounts().await?;
        for other in others.into_iter().filter(|account| *account != self.own() && *account != paper) {
            owner.remove_recovery(other).await?;
        }
        self.publish_blocks(Publication::begin(vault.sites())).await
    }

    /// Two may try at once, each with the same enrol key: the last offer counts, and the other one is told.
    async fn accept(&self) -> Result<(), InitError> {
        let ledger = self.vault.ledger_as(self.keys.identity.owner());
        match ledger.accept_ownership().await {
            Ok(()) => Ok(()),
            Err(error @ (LedgerError::Refused { .. } | LedgerError::Failed { .. } | LedgerError::Home(_))) => {
                let offered = self.vault.ledger().pending_owner().await?;
                match offered.filter(|account| *account != self.own()) {
                    Some(owner) => Err(InitError::Claimed { owner }),
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// C4. A writer of an earlier try has written nothing.
    async fn be_writer(&self) -> Result<(), InitError> {
        let ledger = self.vault.ledger_as(self.keys.identity.owner());
        for old in ledger.writers().await?.iter().filter(|writer| writer.active) {
            ledger.revoke_writer(old.account).await?;
        }
        Ok(ledger.enrol_writer(WriterRecord::first(self.keys.host.writer.account())).await?)
    }

    /// The bag is at the sites before the ledger names it.
    async fn publish_bag(&self) -> Result<(), InitError> {
        let (vault, owner) = (self.vault, self.vault.ledger_as(self.keys.identity.owner()));
        let version = owner.bag().await?.0 + 1;
        let bag = genesis::bag_of(self.keys, vault.config()).seal(self.keys.vault, version)?.to_bytes();
        let hash = SealedBag::hash(&bag);
        let mut published = Publication::begin(vault.sites());
        published.put(vault.sites(), &ObjectKey::Bag { version, hash }, Bytes::from(bag)).await;
        published.require("the key bag", vault.config().sites.len())?;
        Ok(owner.record_bag(version, hash).await?)
    }

    async fn publish_blocks(&self, mut published: Publication) -> Result<(), InitError> {
        let height = self.vault.standing().await?.height;
        published.copy_blocks(self.vault.sites(), self.vault.home(), height).await;
        Ok(published.require("the beginning of the vault", self.vault.config().sites.len())?)
    }
}
