//! `blockhouse node status`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blockhouse_homes::network::{NetworkFile, NodeConfig, NodeFolder};
use blockhouse_homes::rpc::{NodeRole, NodeStatus, OtherRelease, ResharingStatus};
use blockhouse_homes::{NodeUrl, Remote, RemoteError};
use clap::Args;
use serde_json::{Value, json};

use super::shown;
use crate::exit::Exit;
use crate::failure::{Refusal, one_line};
use crate::output::{Output, extend};
use crate::text;

/// An idle ledger has a block a minute; one that has none for so long stands still, or this node does.
const STILL: u64 = 3 * 60;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The data folder of the node, on this machine
    #[arg(long, value_name = "DIR", required_unless_present = "ledger", conflicts_with = "ledger")]
    dir: Option<PathBuf>,
    /// The URL of its JSON-RPC
    #[arg(long, value_name = "URL")]
    ledger: Option<NodeUrl>,
}

pub(crate) async fn run(args: &StatusArgs, out: &Output) -> anyhow::Result<Exit> {
    let file = args.dir.as_ref().map(|dir| NodeFolder::new(dir).read_network()).transpose()?;
    let url = match (&args.ledger, &args.dir) {
        (Some(url), _) => url.clone(),
        (None, dir) => local_url(&NodeFolder::new(dir.clone().unwrap_or_default()))?,
    };
    let status = Remote::new(vec![url.clone()])?
        .node_status()
        .await
        .map_err(|error| silent(&url, &error, args.dir.as_deref()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let warnings = warnings(&status, file.as_ref(), now);
    tell(&status, now, out)?;
    let (survey, survives) = shown::survival(file.as_ref().and_then(NetworkFile::survival).as_ref(), out)?;
    for warning in &warnings {
        out.warn(format_args!("warning: {warning}"));
    }
    let failure = status.failure.as_ref();
    if let Some(failure) = failure {
        out.data(format_args!("NOT WELL: it takes no part any more: {failure}"))?;
        out.warn(format_args!(
            "hint: look at its disk and at what it logged. An altered store it heals by itself from the nodes in `rpc_peers` of its node.toml; else name some and start it again. The network does without it meanwhile, if no other is missing"
        ));
    }
    let is_forked = status.forks.unsettled > 0;
    if is_forked {
        let dir = args.dir.as_deref().map_or_else(|| "its folder".to_owned(), |dir| dir.display().to_string());
        out.data(format_args!("NOT WELL: the ledger is forked: the evidence is in `forks` of {dir}"))?;
        out.warn(format_args!(
            "hint: blockhouse check-fork FILE says who signed both blocks. Show it to the owners and the other operators: docs/design/forks.md says what they can do"
        ));
    }
    let mut record = as_json(&status, now);
    extend(
        &mut record,
        json!({ "url": url.to_string(), "warnings": warnings, "survey": survey, "survives": survives }),
    );
    out.record(&record)?;
    Ok(if failure.is_some() || is_forked { Exit::CheckFailed } else { Exit::Success })
}

fn as_json(status: &NodeStatus, now: u64) -> Value {
    let mut record = json!({
        "type": "node-status",
        "ok": status.failure.is_none() && status.forks.unsettled == 0,
        "chain_id": status.chain_id,
        "role": status.role,
        "validators": status.validators,
        "quorum": status.quorum,
        "height": status.height,
        "head": status.hash,
        "time": status.time_millis / 1000,
        "now": now,
        "lag": status.lag,
        "view": status.view,
        "final_view": status.final_view,
        "peers": status.peers,
        "conflicts": status.conflicts,
        "pending": status.pending,
        "queued": status.queued,
        "pool_bytes": status.pool_bytes,
        "store_bytes": status.store_bytes,
    });
    extend(&mut record, cares(status));
    record
}

/// Who it is, and what it takes care of beside agreeing.
fn cares(status: &NodeStatus) -> Value {
    json!({
        "public": format!("{:x}", status.key),
        "account": format!("{:#x}", status.account),
        "examined": status.scrub.examined,
        "examining": status.scrub.blocks,
        "passes": status.scrub.passes,
        "healed": status.scrub.healed,
        "untold": status.scrub.untold,
        "forks": status.forks.known,
        "forks_unsettled": status.forks.unsettled,
        "forks_untold": status.forks.untold,
        "silenced": status.forks.silent,
        "fork_signs": status.forks.first_signs,
        "history_from": status.history.bottom,
        "history_trouble": status.history.trouble,
        "anchored_height": status.anchoring.as_ref().map(|anchoring| anchoring.height),
        "cosigned_height": status.witness.as_ref().map(|witness| witness.height),
        "reshares_from": status.resharing.as_ref().map(|it| it.from),
        "takes_over": status.resharing.as_ref().and_then(|it| it.takes_over),
        "to_post": status.resharing.as_ref().is_some_and(|it| it.to_post),
        "reshares_without": status.resharing.as_ref().map(missing).unwrap_or_default(),
        "failure": status.failure,
        "version": status.version,
        "rules": status.rules,
        "rules_named": status.rules_named,
        "releases": status.releases.iter().map(release).collect::<Vec<_>>(),
    })
}

fn release(other: &OtherRelease) -> Value {
    json!({ "rpc": other.rpc, "version": other.version, "rules": other.rules })
}

/// Where the node of a folder answers clients of its own machine.
pub(super) fn local_url(folder: &NodeFolder) -> anyhow::Result<NodeUrl> {
    let mut listen = NodeConfig::load(&folder.config())?.rpc.listen;
    if listen.ip().is_unspecified() {
        listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port());
    }
    Ok(format!("http://{listen}").parse()?)
}

fn silent(url: &NodeUrl, error: &RemoteError, dir: Option<&Path>) -> Refusal {
    let mut why = match error {
        RemoteError::NoNode { problems } => {
            problems.iter().map(|problem| one_line(&problem.error)).collect::<Vec<_>>().join("; ")
        }
        other => one_line(other),
    };
    // A node that is far behind does not answer until it came near.
    if let Some(line) = dir.and_then(|dir| std::fs::read_to_string(NodeFolder::new(dir).syncing()).ok()) {
        why = format!("it is catching up: {}; {why}", text::path(line.as_bytes()));
    }
    Refusal::Silent { url: url.to_string(), why }
}

/// How old its last block is by the clock of this host, in seconds.
const fn age(status: &NodeStatus, now: u64) -> u64 {
    now.saturating_sub(status.time_millis / 1000)
}

fn tell(status: &NodeStatus, now: u64, out: &Output) -> anyhow::Result<()> {
    let role = match status.role {
        NodeRole::Validator => "validator: it votes",
        NodeRole::Follower => "follower: a full copy, no vote",
        NodeRole::Silent => "silent validator: it must not vote",
    };
    let seconds = status.time_millis / 1000;
    out.data(format_args!("node     {role}; version {}", status.version))?;
    out.data(format_args!("ledger   {}", status.chain_id))?;
    out.data(format_args!("block    {} of {}, {}", status.height, text::moment(seconds), ago(age(status, now))))?;
    out.data(format_args!("         {}", status.hash))?;
    if status.lag > 0 {
        out.data(format_args!("behind   {}", text::count(status.lag, "final block")))?;
    }
    let (validators, peers) = (text::count(status.validators, "validator"), text::count(status.peers, "node"));
    out.data(format_args!("network  {validators}, {} must agree; connected to {peers}", status.quorum))?;
    out.data(format_args!("view     {}, the last final one {}", status.view, status.final_view))?;
    let (pending, waits) = (text::count(status.pending, "transaction"), text::bytes(status.pool_bytes));
    out.data(format_args!("waiting  {pending} for the next block, {} for others ({waits})", status.queued))?;
    let scrub = &status.scrub;
    let (healed, untold) = (scrub.healed, text::count(scrub.untold, "alarm"));
    out.data(format_args!(
        "watch    {} of {} read again, {healed} times healed, {untold} not told yet",
        scrub.examined,
        text::count(scrub.blocks, "block")
    ))?;
    if status.history.bottom > 0 {
        let trouble = status.history.trouble.as_ref().map(|why| format!("; left {why}")).unwrap_or_default();
        out.data(format_args!("history  has blocks from {} on, fetches those below{trouble}", status.history.bottom))?;
    }
    if let Some(resharing) = &status.resharing {
        out.data(format_args!("key      {}", told(resharing)))?;
    }
    if let Some(anchoring) = status.anchoring.as_ref().filter(|anchoring| anchoring.height > 0) {
        let time = text::moment(anchoring.time);
        out.data(format_args!("anchors  block {} is anchored outside, recorded {time}", anchoring.height))?;
    }
    if let Some(witness) = status.witness.as_ref().filter(|witness| witness.height > 0) {
        out.data(format_args!("witness  cosigned block {} at {}", witness.height, text::moment(witness.time)))?;
    }
    if !status.key.is_zero() {
        out.data(format_args!("key      {:x}", status.key))?;
        out.data(format_args!("account  {:#x}", status.account))?;
    }
    Ok(())
}

/// Who is missed for handing the network's one key on.
fn missing(resharing: &ResharingStatus) -> Vec<String> {
    resharing.absent.iter().chain(&resharing.awaited).cloned().collect()
}

/// How the network's one key is handed on.
fn told(resharing: &ResharingStatus) -> String {
    let from = resharing.from;
    match resharing.takes_over {
        Some(epoch) => format!("all of the set of epoch {from} have their shares; it takes over with epoch {epoch}"),
        None if resharing.to_post => {
            format!("all of the set of epoch {from} have their shares; that is to be posted by an operator")
        }
        None if resharing.complete => {
            format!("all of the set of epoch {from} have their shares; that is recorded next")
        }
        None => format!("the set of epoch {from} has no shares yet; those before it go on until it has"),
    }
}

fn ago(seconds: u64) -> String {
    if seconds < 3600 { format!("{seconds} s ago") } else { text::age(seconds) }
}

/// What is told of nodes of other releases: that they are, and which of them would stop.
fn releases(status: &NodeStatus) -> impl Iterator<Item = String> {
    let version = &status.version;
    let others = status.of_other_releases().map(move |other| {
        let earlier = if other.rules == 0 { ", a release that does not say which rules it knows" } else { "" };
        format!(
            "the node at {} runs version {}{earlier}; this one runs {version}: upgrade one node after the other, and soon all",
            other.rpc, other.version
        )
    });
    let too_old = status.too_old().map(move |other| {
        format!(
            "the node at {} does not know the rules {} that this ledger's genesis names: it has to be upgraded before they hold",
            other.rpc, status.rules_named
        )
    });
    others.chain(too_old)
}

/// What an operator should look at, though the node goes on.
fn warnings(status: &NodeStatus, file: Option<&NetworkFile>, now: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if file.is_some_and(|file| file.genesis.chain_id != status.chain_id) {
        warnings.push("what answers is a node of another ledger than the folder's".to_owned());
    }
    if let Some(why) = &status.forks.silent {
        warnings.push(format!("this node gives no vote: {why}"));
    } else if status.role == NodeRole::Silent {
        warnings.push("this validator must not vote, for its earlier votes or its share of the key are lost: the network is one vote short until its validators change".to_owned());
    }
    for sign in &status.forks.first_signs {
        warnings.push(format!("the ledger may be forked: {sign}"));
    }
    // A validator counts itself.
    let seen = status.peers + u64::from(status.role == NodeRole::Validator);
    if seen < status.quorum {
        warnings.push(format!("it sees {seen} of the {} nodes that must agree: what it knows may be old, and if no others see each other nothing is recorded", status.quorum));
    }
    if age(status, now) > STILL {
        warnings.push(format!(
            "no block for {} s, where an idle ledger has one a minute: too few validators run, or this node is cut off",
            age(status, now)
        ));
    }
    if let Some(trouble) = status.anchoring.as_ref().and_then(|anchoring| anchoring.trouble.as_ref()) {
        warnings.push(format!("it did not anchor the ledger, and tries again: {trouble}"));
    }
    if let Some(trouble) = status.witness.as_ref().and_then(|witness| witness.trouble.as_ref()) {
        warnings.push(format!("it did not cosign, and tries again: {trouble}"));
    }
    warnings.extend(releases(status));
    if let Some(resharing) = &status.resharing {
        let missing = missing(resharing);
        if !missing.is_empty() {
            warnings.push(format!(
                "the set of epoch {} waits for its shares of the key, for these are missing: {}",
                resharing.from,
                missing.join(", ")
            ));
        }
        if resharing.to_post {
            warnings.push(format!(
                "the set of epoch {} takes over once the operator of any of its validators has posted that all have their shares: blockhouse node validators post --dir DIR --ledger URL. This node's account {:#x} is none of theirs",
                resharing.from, status.account
            ));
        }
        if let Some(trouble) = &resharing.trouble {
            warnings.push(format!("it could not hand the key on, and tries again: {trouble}"));
        }
    }
    if status.conflicts > 0 {
        warnings.push(format!(
            "{} of one validator contradicted each other: its key is used twice, or it lies",
            text::count(status.conflicts, "pair of votes")
        ));
    }
    warnings
}
