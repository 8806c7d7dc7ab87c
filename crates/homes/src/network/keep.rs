//! A node that is kept running: healed before it starts, and stopped, healed and started again when its store was altered.
//!
//! - **Owns** when a store is opened, what is examined before a node takes part, and the way from one running of the node to the next.
//! - **Does not** look for damage in a running node, nor say what heals it.
//!
//! # Invariants
//! - **K1** A node takes part only over a store that was opened with all its pages compared, and whose last blocks were examined.
//! - **K2** The journal of votes is not touched by healing: who heals votes again with all that he said before.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use super::alarms;
use super::config::NodeConfig;
use super::folder::NodeFolder;
use super::heal::{HealError, Healed, Healer, Remedy};
use super::node::{HEAL_AGAIN, News, Node, NodeError, Parts};
use super::scrub::Pass;
use crate::remote::Remote;
use crate::store::{Access, Damage, Store};

/// How long the node waits for another process that has its ledger open: a backup of this host may read it.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// How often a store is healed in a row before its disk is taken for the cause: a mended one may show more when it is opened.
const HEALS_MAX: u32 = 3;

/// What whoever keeps a node running is told.
#[derive(Debug)]
pub enum Told<'a> {
    /// It answers at that address.
    Started(SocketAddr),
    /// The journal of its pool was damaged, and is kept there; what is whole in it goes on.
    PoolDamaged(&'a Path),
    /// Its store was altered there: it takes no part until that is healed.
    Damaged(&'a Damage),
    /// It is not healed yet.
    NotHealed(&'a HealError),
    /// It was healed, and takes part again.
    Healed(&'a Healed),
}

/// Runs the node of that folder until it is to end, or cannot go on.
pub async fn keep(
    folder: &NodeFolder,
    mut tell: impl FnMut(Told<'_>),
    until: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let (mut parts, mut remedy, mut until) = (parts(folder)?, None, pin!(until));
    loop {
        let opening = sound_store_in_time(folder, &mut parts, remedy, &mut tell);
        // What is dropped half-way was only prepared.
        let store = tokio::select! {
            store = opening => store?,
            () = &mut until => return Ok(()),
        };
        let mut node = Node::start(folder, &parts, store).await?;
        if let Some(path) = node.damaged_pool() {
            tell(Told::PoolDamaged(path));
        }
        tell(Told::Started(node.rpc_address()));
        let ending = loop {
            // Nothing is lost by either.
            tokio::select! {
                news = node.news() => match news {
                    News::Trouble(error) => tell(Told::NotHealed(&error)),
                    other => break Some(other),
                },
                () = &mut until => break None,
            }
        };
        node.stop().await;
        remedy = match ending {
            Some(News::Remedy(remedy)) => Some(remedy),
            Some(News::Failed(error)) => return Err(error),
            Some(News::Trouble(_) | News::Sound) | None => return Ok(()),
        };
    }
}

fn parts(folder: &NodeFolder) -> Result<Parts, NodeError> {
    let file = folder.read_network()?;
    let config = NodeConfig::load(&folder.config())?;
    let peers = (!config.rpc_peers.is_empty()).then(|| Remote::new(config.rpc_peers.clone()));
    let peers = peers.transpose().map_err(NodeError::Peers)?;
    let healer = Healer::new(folder.store(), file.genesis.clone(), peers);
    Ok(Parts { file, config, healer, healed: 0 })
}

/// Opens the store, however long it takes until another node has what heals it: all may be starting at once.
async fn sound_store_in_time(
    folder: &NodeFolder,
    parts: &mut Parts,
    mut remedy: Option<Remedy>,
    tell: &mut impl FnMut(Told<'_>),
) -> Result<Store, NodeError> {
    loop {
        match sound_store(folder, parts, remedy.take(), tell).await {
            Err(NodeError::Heal(error @ HealError::Peers { .. })) => tell(Told::NotHealed(&error)),
            opened => return opened,
        }
        tokio::time::sleep(HEAL_AGAIN).await;
    }
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
        match tokio::task::block_in_place(|| Store::open(&folder.store(), Access::Write, STORE_WAIT, None)) {
            Ok(store) if *store.genesis() != parts.file.genesis => {
                return Err(NodeError::OtherGenesis { path: folder.path().to_owned() });
            }
            Ok(store) => match tokio::task::block_in_place(|| examine_recent(&store)) {
                Ok(()) => return Ok(store),
                Err(_) => remedy = parts.healer.examine(&store).await?,
            },
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
    remedy.damage().iter().for_each(|damage| tell(Told::Damaged(damage)));
    // A store that ends where the network begins looks like that of a node which never voted.
    let is_new = remedy.rebuilt().is_some_and(|height| height <= parts.file.network.base().height);
    if is_new && !folder.engine().exists() {
        return Err(NodeError::NothingLeft);
    }
    // Who is killed between the two tells of what he did not heal yet, and heals it then.
    alarms::note(folder, remedy.damage())?;
    let healed = match tokio::task::block_in_place(|| remedy.apply(&folder.store())) {
        // Its pages are worse than what could be read of it.
        Err(HealError::Store(error)) if error.is_healed_by_replay() => {
            let remedy = parts.healer.examine_closed(&error).await?;
            tokio::task::block_in_place(|| remedy.apply(&folder.store()))?
        }
        healed => healed?,
    };
    parts.healed += 1;
    tell(Told::Healed(&healed));
    Ok(())
}

fn examine_recent(store: &Store) -> Result<(), Damage> {
    let mut pass = Pass::recent(store)?;
    while pass.step(store)? {}
    Ok(())
}
