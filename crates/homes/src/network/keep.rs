//! A node that is kept running: healed before it starts, and stopped, healed and started again when its store was altered.
//!
//! - **Owns** when a store is opened, what is examined before a node takes part, and the way from one running of the node to the next.
//! - **Does not** look for damage in a running node, nor say what heals it.
//!
//! # Invariants
//! - **K1** A node takes part only over a store of which the pages by which the database goes were compared, and the last blocks examined. The other
//!   pages are compared first of all once it runs.
//! - **K3** It takes no part once a peer has shown that the ledger was handed over to another network.
//! - **K2** The journal of votes is not touched by healing: who heals votes again with all that he said before.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use super::alarms;
use super::config::{ConfigError, NodeConfig};
use super::folder::{FolderError, NodeFolder};
use super::heal::{HealError, Healed, Healer, Remedy};
use super::network_file::NetworkFile;
use super::node::{HEAL_AGAIN, HEAL_AGAIN_MAX, News, Node, NodeError, Parts};
use super::outdone;
use super::past;
use super::scrub::Pass;
use super::signs::ForkSign;
use super::sync::{Sheet, Sync, SyncNews};
use crate::forks::KeptFork;
use crate::remote::{Remote, RemoteError};
use crate::store::{Access, Damage, Store, StoreError};

/// How long the node waits for another process that has its ledger open: a backup of this host may read it.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// The pause before peers are asked again for what a network took over: they may be starting too. Each is twice as long as the last one.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_mins(1);
/// How often a store is healed in a row before its disk is taken for the cause: a mended one may show more when it is opened.
const HEALS_MAX: u32 = 3;
/// How long a node runs until an earlier failure over a sound store does not count any more.
const SOUND_RUN: Duration = Duration::from_hours(1);

/// What whoever keeps a node running is told.
#[derive(Debug)]
pub enum Told<'a> {
    /// It answers at that address.
    Started(SocketAddr),
    /// The journal of its pool was damaged, and is kept there; what is whole in it goes on.
    PoolDamaged(&'a Path),
    /// It has not all yet of what the ledger held when its network took it over, and waits for a node that has it.
    NoPast { height: u64, base: u64, source: &'a RemoteError },
    /// Its store was altered there: it takes no part until that is healed.
    Damaged(&'a Damage),
    /// It is not healed yet.
    NotHealed(&'a HealError),
    /// It was healed, and takes part again.
    Healed(&'a Healed),
    /// What its operator wrote is no configuration: what was told before holds.
    Misread(&'a ConfigError),
    /// Its ledger is forked, and this proves it.
    Fork(&'a KeptFork),
    /// It may be forked: somebody recorded another block than the one here.
    Sign(&'a ForkSign),
    /// For that it gives no vote from now on.
    Silent,
    /// It is far behind, and comes near before it takes part.
    Sync(&'a SyncNews<'a>),
}

/// Runs the node of that folder until it is to end, or cannot go on.
pub async fn keep(
    folder: &NodeFolder,
    mut tell: impl FnMut(Told<'_>),
    until: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    keep_with(folder, Wishes::default(), &mut tell, until).await
}

/// What whoever runs a node wants of this run alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// It executes all blocks, however far behind it is.
    pub by_blocks: bool,
}

/// The same with wishes.
pub async fn keep_with(
    folder: &NodeFolder,
    wishes: Wishes,
    mut tell: impl FnMut(Told<'_>),
    until: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let (mut parts, mut remedy, mut until) = (parts(folder)?, None, pin!(until));
    if wishes.by_blocks {
        parts.config.sync.state_from = 0;
    }
    let mut in_a_row = InARow::default();
    loop {
        let opening = near_store(folder, &mut parts, remedy, &mut tell);
        // What is dropped half-way was only prepared.
        let store = tokio::select! {
            store = opening => store?,
            () = &mut until => return Ok(()),
        };
        let mut node = Node::start(folder, &parts, store).await?;
        let started = Instant::now();
        if let Some(path) = node.damaged_pool() {
            tell(Told::PoolDamaged(path));
        }
        tell(Told::Started(node.rpc_address()));
        let ending = ending(folder, &mut node, &mut tell, &mut until).await;
        let (why, config) = (node.failure(), node.config());
        node.stop().await;
        parts = Parts { jumped: parts.jumped, healed: parts.healed, ..parts_of(folder, parts.file, config)? };
        remedy = match ending {
            Some(News::Remedy(remedy)) => Some(remedy),
            // What it saw was not on the disk, or is not there any more.
            Some(News::Sound) => in_a_row.note(started.elapsed(), why).map(|()| None)?,
            Some(News::Failed(error)) => return Err(noted(folder, error)),
            Some(News::Silenced) => {
                tell(Told::Silent);
                None
            }
            Some(News::Trouble(_) | News::Misread(_) | News::Fork(_) | News::Sign(_)) | None => return Ok(()),
        };
    }
}

/// What ends a running node; nothing if it is to end.
async fn ending(
    folder: &NodeFolder,
    node: &mut Node,
    tell: &mut impl FnMut(Told<'_>),
    until: &mut (impl Future<Output = ()> + Unpin),
) -> Option<News> {
    loop {
        // Nothing is lost by either.
        tokio::select! {
            news = node.news() => match news {
                News::Trouble(error) => {
                    tell(Told::NotHealed(&error));
                    if let Err(error) = note_unhealed(folder, &error) {
                        return Some(News::Failed(error.into()));
                    }
                }
                News::Misread(error) => tell(Told::Misread(&error)),
                News::Fork(kept) => tell(Told::Fork(&kept)),
                News::Sign(sign) => tell(Told::Sign(&sign)),
                other => return Some(other),
            },
            () = &mut *until => return None,
        }
    }
}

/// How often a node failed over a sound store, each time soon after it had started.
#[derive(Debug, Default)]
struct InARow(u32);

impl InARow {
    /// Once more, after it ran so long.
    fn note(&mut self, ran: Duration, why: Option<String>) -> Result<(), NodeError> {
        self.0 = if ran < SOUND_RUN { self.0 + 1 } else { 1 };
        if self.0 > HEALS_MAX {
            return Err(NodeError::FailedAgain { times: self.0, why: why.unwrap_or_default() });
        }
        Ok(())
    }
}

fn parts(folder: &NodeFolder) -> Result<Parts, NodeError> {
    let file = folder.read_network()?;
    let config = NodeConfig::load(&folder.config())?;
    parts_of(folder, file, config)
}

fn parts_of(folder: &NodeFolder, file: NetworkFile, config: NodeConfig) -> Result<Parts, NodeError> {
    let peers = (!config.rpc_peers.is_empty()).then(|| Remote::new(config.rpc_peers.clone()));
    let peers = peers.transpose().map_err(NodeError::Peers)?;
    let healer = Healer::new(folder.store(), file.genesis.clone(), peers.clone()).of_network(file.network.clone());
    Ok(Parts { file, config, healer, peers, jumped: false, healed: 0 })
}

/// Opens the store, and brings it near to the others where it is far behind.
async fn near_store(
    folder: &NodeFolder,
    parts: &mut Parts,
    remedy: Option<Remedy>,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Store, NodeError> {
    // A kill between the jump and the engine's start must not make it forgotten; what heals the store may take blocks of peers too.
    parts.jumped = if parts.peers.is_some() { folder.note_jump()? } else { folder.has_jumped() };
    let store = sound_store_in_time(folder, parts, remedy, tell).await?;
    let network = &parts.file.network;
    let (base, own) = (network.base(), network.key());
    let Some(peers) = &parts.peers else {
        past::expect_base(&store, &base)?;
        return Ok(store);
    };
    let was_below = store.height() < base.height;
    if !was_below {
        // Before it takes blocks of others with whom it must not take part.
        outdone::expect_in_force(&store, &own, peers).await?;
    }
    let before = store.height();
    let sync = Sync { file: &parts.file, config: &parts.config.sync, peers };
    let store = come_to_base(sync, store, &mut Sheet::begin(folder.syncing()), tell).await?;
    past::expect_base(&store, &base)?;
    if was_below {
        outdone::expect_in_force(&store, &own, peers).await?;
    }
    outdone::expect_own(&store, network, peers)?;
    parts.jumped |= store.height() > before;
    Ok(store)
}

/// Brings a store near to the others; up to the network's base however long it takes until one has what is there.
async fn come_to_base(
    sync: Sync<'_>,
    mut store: Store,
    sheet: &mut Sheet,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Store, NodeError> {
    let (base, mut pause) = (sync.file.network.base().height, AGAIN);
    loop {
        let mut both = |news: &SyncNews<'_>| {
            sheet.note(news);
            tell(Told::Sync(news));
        };
        let problems;
        (store, problems) = sync.come_near(store, &mut both).await?;
        if store.height() >= base {
            return Ok(store);
        }
        tell(Told::NoPast { height: store.height(), base, source: &RemoteError::NoNode { problems } });
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// Opens the store, however long it takes until another node has what heals it: all may be starting at once.
async fn sound_store_in_time(
    folder: &NodeFolder,
    parts: &mut Parts,
    mut remedy: Option<Remedy>,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Store, NodeError> {
    let mut pause = HEAL_AGAIN;
    loop {
        match sound_store(folder, parts, remedy.take(), tell).await {
            Err(NodeError::Heal(error @ HealError::Peers { .. })) => {
                tell(Told::NotHealed(&error));
                note_unhealed(folder, &error)?;
            }
            opened => return opened.map_err(|error| noted(folder, error)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(HEAL_AGAIN_MAX);
    }
}

/// What is not healed yet is to be told on the ledger all the same.
fn note_unhealed(folder: &NodeFolder, error: &HealError) -> Result<(), FolderError> {
    error.damage().map_or(Ok(()), |damage| alarms::note(folder, std::slice::from_ref(damage)))
}

/// The same of the error with which the node ends; that error counts, and what is not noted is found by the next start.
fn noted(folder: &NodeFolder, error: NodeError) -> NodeError {
    if let NodeError::Heal(why) = &error {
        let _ = note_unhealed(folder, why);
    }
    error
}

/// Opens the store, and heals it before if it is not sound.
async fn sound_store(
    folder: &NodeFolder,
    parts: &mut Parts,
    mut remedy: Option<Remedy>,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Store, NodeError> {
    for _ in 0..=HEALS_MAX {
        if let Some(remedy) = remedy.take() {
            apply(folder, parts, remedy, tell).await?;
        }
        match tokio::task::block_in_place(|| open_examined(&folder.store())) {
            Ok(Ok(ref store) | Err(ref store)) if *store.genesis() != parts.file.genesis => {
                return Err(NodeError::OtherGenesis { path: folder.path().to_owned() });
            }
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(altered)) => remedy = parts.healer.examine(&altered).await?,
            Err(error) if error.is_healed_by_replay() => remedy = Some(parts.healer.examine_closed(&error).await?),
            Err(error) => return Err(error.into()),
        }
    }
    Err(NodeError::DamagedAgain { times: HEALS_MAX })
}

async fn apply(
    folder: &NodeFolder,
    parts: &mut Parts,
    remedy: Remedy,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<(), NodeError> {
    let healed = match put_back(folder, parts, remedy, tell) {
        // Its pages are worse than what could be read of it.
        Err(NodeError::Heal(HealError::Store(error))) if error.is_healed_by_replay() => {
            let remedy = parts.healer.examine_closed(&error).await?;
            put_back(folder, parts, remedy, tell)?
        }
        healed => healed?,
    };
    parts.healed += 1;
    parts.jumped |= healed.rebuilt.is_some() && healed.from_peers > 0;
    tell(Told::Healed(&healed));
    Ok(())
}

/// Applies what heals the store. What is wrong is told, and in `alarms`, before: who is killed between tells it again.
fn put_back(
    folder: &NodeFolder,
    parts: &Parts,
    remedy: Remedy,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Healed, NodeError> {
    remedy.damage().iter().for_each(|damage| tell(Told::Damaged(damage)));
    // A store that ends where the network begins looks like that of a node which never voted.
    let is_new = remedy.rebuilt().is_some_and(|height| height <= parts.file.network.base().height);
    if is_new && !folder.remembers_votes()? {
        return Err(NodeError::NothingLeft);
    }
    alarms::note(folder, remedy.damage())?;
    Ok(tokio::task::block_in_place(|| remedy.apply(&folder.store()))?)
}

/// Opens the store, open to be written if its last blocks are sound. They are read before it is, so that a file in which they were altered
/// stays as it was found.
fn open_examined(path: &Path) -> Result<Result<Store, Store>, StoreError> {
    let read = Store::open(path, Access::Read, STORE_WAIT, None)?;
    if examine_recent(&read).is_err() {
        return Ok(Err(read));
    }
    drop(read);
    Store::open(path, Access::Watched, STORE_WAIT, None).map(Ok)
}

fn examine_recent(store: &Store) -> Result<(), Damage> {
    let mut pass = Pass::recent(store)?;
    while pass.step(store)? {}
    Ok(())
}

#[cfg(test)]
mod tests;
