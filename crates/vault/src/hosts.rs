//! The hosts of a network's vault: one asks, the owner approves, it joins; and one is revoked.
//!
//! - **Owns** who becomes a writer and what it is given for it, and the making of its vault folder.
//! - **Does not** show anything, nor carry the files from host to host: people do, and compare codes.
//!
//! # Invariants
//! - **J1** A writer's secret never leaves the host that made it.
//! - **J2** There is a vault on the joining host once `config.toml` is there, and then everything else is. A join that was killed is
//!   done again with the same answer.
//! - **J3** A host joins only a ledger that it has verified from block 0, that had the fingerprint of the answer, and that lists it.
//!
//! Page: `docs/design/keys.md`, section *Hosts*.

mod nodes;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use blockhouse_crypto::Secret;
use blockhouse_homes::remote::NodeUrlError;
use blockhouse_homes::{HomeError, NodeUrl, Remote, RemoteError};
use blockhouse_ledger::TrustRoot;
use blockhouse_pipeline::host_answer::{HostAnswer, OpenAnswerError};
use blockhouse_pipeline::host_request::{HostRequest, PendingHost};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_sites::{Patience, SiteName, Sites};
use blockhouse_types::{Account, DecodeError, Fingerprint, VaultId};

use crate::bag::{self, BagChangeError};
use crate::blocks::Purpose;
use crate::folder::{
    Config, HomeKind, LedgerEntry, Unfinished, UpdateError, UserTable, VaultFolder, WriteError, write_durably,
};
use crate::ledger::{LedgerError, WriterRecord};
use crate::publish::{Publication, TooFewCopies};
use crate::recipients;
use crate::sheet;
use crate::unlock::Unlocked;
use crate::vault::{Settings, Vault, enrolled};

pub use nodes::{enrol_node, enrol_operator, operators};

/// Why a host was not asked for, approved, joined or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// There is a vault in the folder.
    #[error("there is a vault in {} already", folder.display())]
    Exists { folder: PathBuf },
    /// Another process makes one there.
    #[error("another process is making a vault in {}", folder.display())]
    Busy { folder: PathBuf },
    /// The name is none.
    #[error("`{name}` is no name of a host: up to 64 visible ASCII characters without a space")]
    Name { name: String },
    /// The host has asked by another name.
    #[error("this host has asked as `{asked}` already, and was not answered yet")]
    AskedAs { asked: String },
    /// The host has not asked.
    #[error("this host has not asked to join a vault: {} is not there", path.display())]
    NotAsked { path: PathBuf },
    /// What was kept of the request cannot be read.
    #[error("could not read {}", path.display())]
    ReadKept {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What was kept of the request is damaged.
    #[error("{} is not what this host wrote", path.display())]
    Kept {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
    /// The folder.
    #[error("could not make the vault folder {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The ledger is in one host alone.
    #[error("the ledger of this vault is sealed by one host, so no other can write to it")]
    OneHost,
    /// The ledger names no operators.
    #[error("the validators of this ledger never change: neither its genesis nor the last handover names governors")]
    NotGoverned,
    /// A writer that was revoked never comes back.
    #[error("the account 0x{account} was revoked, and no account comes back")]
    Revoked { account: Account },
    /// There is no such host.
    #[error("no host of the vault is called `{wanted}` or has such an account")]
    NoHost { wanted: String },
    /// Several hosts are meant.
    #[error("`{wanted}` may mean {count} hosts of the vault")]
    SeveralHosts { wanted: String, count: usize },
    /// The answer.
    #[error("the owner's answer cannot be used")]
    Answer(#[from] OpenAnswerError),
    /// The answer names a node by what is no URL.
    #[error("the answer names a node by what is no URL")]
    Url(#[from] NodeUrlError),
    /// The answer names a site by what is no URL.
    #[error("the answer names a site by `{url}`, which is no URL of a site")]
    Site { url: String },
    /// The nodes keep another vault's ledger, or never had that fingerprint.
    #[error("the ledger of these nodes never had the fingerprint {expected}: it has {found}")]
    Fingerprint { expected: Fingerprint, found: Fingerprint },
    /// The ledger's contracts are not those of the answer.
    #[error("the answer is of the vault {answer}, the ledger of the vault {ledger}")]
    OtherVault { answer: VaultId, ledger: VaultId },
    /// The ledger does not list the host.
    #[error("the ledger does not list this host's account 0x{account} as a writer")]
    NotListed { account: Account },
    /// No site can be reached from here.
    #[error("none of the vault's sites can be used from this host: {}", sites.join(", "))]
    NoSites { sites: Vec<String> },
    /// The nodes.
    #[error(transparent)]
    Nodes(#[from] RemoteError),
    /// The ledger's copy on this host.
    #[error("the ledger could not be followed")]
    Home(#[from] HomeError),
    /// The ledger.
    #[error("the ledger did not take the change")]
    Ledger(#[from] LedgerError),
    /// The key bag.
    #[error(transparent)]
    Bag(#[from] BagChangeError),
    /// Too few copies.
    #[error(transparent)]
    Copies(#[from] TooFewCopies),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A host that was approved.
#[derive(Debug)]
pub struct Approved {
    /// The file for it.
    pub answer: Vec<u8>,
    /// False if it was a writer before: the answer alone was made anew.
    pub is_new: bool,
}

/// A host that has joined.
#[derive(Debug)]
pub struct Joined {
    /// The vault.
    pub vault: VaultId,
    /// Its fingerprint now.
    pub fingerprint: Fingerprint,
    /// Sites that this host cannot use now.
    pub down: Vec<SiteName>,
}

/// One of the vault's hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its writer's account.
    pub account: Account,
    /// What it is called, if that is known here.
    pub name: Option<String>,
    /// False once it is revoked.
    pub is_active: bool,
    /// True for the host that asks.
    pub is_own: bool,
    /// How many snapshots it has committed.
    pub snapshots: u64,
    /// When the last of them, in the ledger's seconds.
    pub last: Option<u64>,
}

/// Asks to be a host: makes a writer's account here, unless this host has asked before.
pub fn request(folder: &VaultFolder, name: &str) -> Result<HostRequest, HostsError> {
    if folder.exists() {
        return Err(HostsError::Exists { folder: folder.root().to_owned() });
    }
    if folder.joining().symlink_metadata().is_ok() {
        let kept = kept(folder)?.request();
        let asked = kept.name().to_owned();
        return if asked == name { Ok(kept) } else { Err(HostsError::AskedAs { asked }) };
    }
    let pending = PendingHost::generate(name, &mut rand::rng());
    let pending = pending.ok_or_else(|| HostsError::Name { name: name.to_owned() })?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder.root())
        .map_err(|source| HostsError::Folder { folder: folder.root().to_owned(), source })?;
    write_durably(&folder.joining(), 0o600, &pending.to_bytes())?;
    Ok(pending.request())
}

/// What a host keeps that has asked.
fn kept(folder: &VaultFolder) -> Result<PendingHost, HostsError> {
    let path = folder.joining();
    let bytes = match fs::read(&path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HostsError::NotAsked { path }),
        Err(source) => return Err(HostsError::ReadKept { path, source }),
    };
    PendingHost::from_bytes(&bytes).map_err(|source| HostsError::Kept { path, source })
}

/// Makes the asking host a writer, and its answer. Asked again for the same request it makes the answer anew.
pub async fn approve(vault: &Vault, unlocked: &Unlocked, request: &HostRequest) -> Result<Approved, HostsError> {
    if vault.nodes().is_none() {
        return Err(HostsError::OneHost);
    }
    let bag = bag::settle(vault, unlocked).await?;
    let (owner, account) = (vault.ledger_as(&bag.owner), request.account());
    let is_new = match owner.writers().await?.iter().find(|writer| writer.account == account) {
        Some(writer) if writer.active => false,
        Some(_) => return Err(HostsError::Revoked { account }),
        None => {
            owner.enrol_writer(WriterRecord::first(account)).await?;
            true
        }
    };
    secure_blocks(vault).await?;
    Config::update(vault.folder(), |config| config.hosts.insert(account, request.name().to_owned()))?;
    let answer = HostAnswer {
        vault: vault.id(),
        write: bag.vault_secret.write_secrets(account),
        recipients: bag.recipients,
        sites: bag.sites,
        code: bag.code,
        chain_id: bag.chain_id,
        genesis: bag.genesis,
        vault_contract: bag.vault_contract,
        access_contract: bag.access_contract,
        fingerprint: vault.standing().await?.fingerprint,
        urls: vault.config().ledger.urls.iter().map(|url| url.as_str().to_owned()).collect(),
    };
    Ok(Approved { answer: answer.seal(request), is_new })
}

/// Copies the ledger's blocks to as many sites as a later reader meets.
async fn secure_blocks(vault: &Vault) -> Result<(), HostsError> {
    let mut published = Publication::begin(vault.sites());
    published.copy_blocks(vault.sites(), vault.home(), vault.standing().await?.height).await;
    Ok(published.require("the ledger's block", vault.quorum())?)
}

/// Makes the vault folder of a host that was approved. `expected` is the vault's fingerprint as the owner told it.
pub async fn join(
    folder: VaultFolder,
    answer: &[u8],
    expected: Option<Fingerprint>,
    settings: Settings,
) -> Result<Joined, HostsError> {
    if folder.exists() {
        return Err(HostsError::Exists { folder: folder.root().to_owned() });
    }
    let pending = kept(&folder)?;
    let answer = HostAnswer::open(answer, &pending.request(), &pending.age)?;
    let config = config_of(&answer)?;
    let nodes = Remote::new(config.ledger.urls.clone())?;
    let failed = |source| HostsError::Folder { folder: folder.root().to_owned(), source };
    let busy = || HostsError::Busy { folder: folder.root().to_owned() };
    let mut unfinished = Unfinished::begin(&folder).map_err(failed)?.ok_or_else(busy)?;
    unfinished.set_aside(&folder).map_err(failed)?;
    let sites = Sites::open_all(&enrolled(&config), Patience::default()).await;
    let mut vault = Vault::assemble(folder, config, Arc::new(sites), settings);
    vault.set_nodes(nodes);
    vault.set_home(vault.embedded(None, Purpose::Block));
    vault.home().own_copy()?.rebuild_from_network(answer.genesis).await?;
    check_ledger(&vault, &answer, expected).await?;
    let account = pending.writer.account();
    if !vault.ledger().writers().await?.iter().any(|writer| writer.active && writer.account == account) {
        return Err(HostsError::NotListed { account });
    }
    let down: Vec<SiteName> = vault.sites().down().map(|(member, _)| member.name().clone()).collect();
    if vault.sites().up().next().is_none() {
        let sites = vault.config().sites.iter().map(|entry| entry.spec.url.to_string()).collect();
        return Err(HostsError::NoSites { sites });
    }
    finish(&vault, pending, answer.write).await?;
    unfinished.keep();
    let fingerprint = vault.standing().await?.fingerprint;
    Ok(Joined { vault: vault.id(), fingerprint, down })
}

/// J3. A handover, or other validators, since the answer has changed the fingerprint: what the ledger had then counts.
async fn check_ledger(vault: &Vault, answer: &HostAnswer, expected: Option<Fingerprint>) -> Result<(), HostsError> {
    let standing = vault.standing().await?;
    let genesis = vault.home().own_copy()?.read(|store| store.genesis().clone()).await?;
    if genesis.vault_id != answer.vault {
        return Err(HostsError::OtherVault { answer: answer.vault, ledger: genesis.vault_id });
    }
    let later = standing.keys.handovers().iter().chain(standing.keys.successions()).map(|change| change.key);
    let had: Vec<Fingerprint> = std::iter::once(standing.keys.first())
        .chain(later)
        .map(|key| TrustRoot::new(&genesis, key).fingerprint())
        .collect();
    match [Some(answer.fingerprint), expected].into_iter().flatten().find(|wanted| !had.contains(wanted)) {
        Some(expected) => Err(HostsError::Fingerprint { expected, found: standing.fingerprint }),
        None => Ok(()),
    }
}

/// J2: the configuration last, and the request goes when it is answered.
async fn finish(
    vault: &Vault,
    pending: PendingHost,
    write: blockhouse_pipeline::domain::WriteSecrets,
) -> Result<(), HostsError> {
    let folder = vault.folder();
    // The nodes seal: the ledger key of this host is in force nowhere.
    let ledger_seed = Secret::random(&mut rand::rng());
    let secrets = HostSecrets { vault: vault.id(), write, writer: pending.writer, ledger_seed };
    write_durably(&folder.secrets(), 0o600, &secrets.to_bytes())?;
    sheet::write(folder, vault.config(), vault.standing().await?.fingerprint)?;
    vault.config().save(folder)?;
    // What stays of it opens an answer that was used up.
    let _ = fs::remove_file(folder.joining());
    vault.keep_summary().await;
    Ok(())
}

fn config_of(answer: &HostAnswer) -> Result<Config, HostsError> {
    let urls = answer.urls.iter().map(|url| url.parse()).collect::<Result<Vec<NodeUrl>, _>>()?;
    let entry = |site| bag::entry_of(site).ok_or_else(|| HostsError::Site { url: site.url.clone() });
    Ok(Config {
        version: 1,
        vault: answer.vault,
        code: answer.code,
        ledger: LedgerEntry {
            home: HomeKind::Network,
            urls,
            chain_id: answer.chain_id,
            genesis: answer.genesis,
            vault: answer.vault_contract,
            access: answer.access_contract,
            chain: None,
            growth: None,
        },
        recipients: recipients::to_entries(&answer.recipients),
        sites: answer.sites.iter().map(entry).collect::<Result<_, _>>()?,
        finished_markings: None,
        sources: std::collections::BTreeMap::new(),
        hosts: std::collections::BTreeMap::new(),
        hooks: UserTable::default(),
        source_hooks: UserTable::default(),
        profiles: UserTable::default(),
    })
}

/// The hosts of the vault, in the order in which they came.
pub async fn list(vault: &Vault) -> Result<Vec<Host>, HostsError> {
    let ledger = vault.ledger();
    let (writers, snapshots) = (ledger.writers().await?, ledger.snapshots().await?);
    let own = vault.secrets().map(|secrets| secrets.writer.account());
    let host = |writer: WriterRecord| {
        let committed = || snapshots.iter().filter(|record| record.writer == writer.account);
        Host {
            account: writer.account,
            name: vault.config().hosts.get(&writer.account).cloned(),
            is_active: writer.active,
            is_own: own == Some(writer.account),
            snapshots: committed().count() as u64,
            last: committed().map(|record| record.time).max(),
        }
    };
    Ok(writers.into_iter().map(host).collect())
}

/// The host that is meant: by its name here, by its account, or by the beginning of that.
pub fn find<'a>(hosts: &'a [Host], wanted: &str) -> Result<&'a Host, HostsError> {
    let digits = wanted.strip_prefix("0x").unwrap_or(wanted);
    let begins = |host: &Host| digits.len() >= 8 && host.account.to_string().starts_with(digits);
    let meant = |host: &&Host| host.name.as_deref() == Some(wanted) || begins(host);
    let found: Vec<&Host> = hosts.iter().filter(meant).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(HostsError::NoHost { wanted: wanted.to_owned() }),
        _ => Err(HostsError::SeveralHosts { wanted: wanted.to_owned(), count: found.len() }),
    }
}

/// Takes a host's rights for ever; what it recorded stays.
pub async fn revoke(vault: &Vault, unlocked: &Unlocked, host: &Host) -> Result<(), HostsError> {
    if vault.nodes().is_none() {
        return Err(HostsError::OneHost);
    }
    if !host.is_active {
        return Err(HostsError::Revoked { account: host.account });
    }
    let bag = bag::settle(vault, unlocked).await?;
    vault.ledger_as(&bag.owner).revoke_writer(host.account).await?;
    secure_blocks(vault).await
}
