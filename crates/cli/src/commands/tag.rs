//! `blockhouse tag`

use blockhouse_vault::folder::Config;
use blockhouse_vault::retention;
use blockhouse_vault::select::{self, Narrow, SnapshotRef};
use clap::Args;
use serde_json::json;

use crate::arguments::Global;
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::text::parse_tag;
use crate::{opening, text};

/// Add tags to a snapshot, or take them away
///
/// A rule of retention may keep what has a tag, so taking one away needs the identity; adding does not, once a rule was laid down. The ledger
/// holds commitments of tags only: their names stay in this host's config.toml.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse tag 3f9a12 --add keep=audit-2026"))]
pub(crate) struct TagArgs {
    /// The snapshot: an id, the first digits of one, `latest`, `latest:SOURCE`
    #[arg(value_name = "SNAP")]
    snapshot: SnapshotRef,
    /// Add this tag; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag, required_unless_present = "remove")]
    add: Vec<String>,
    /// Take this tag away; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    remove: Vec<String>,
}

pub(crate) async fn run(args: TagArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let vault = opening::vault(global, out).await?;
    let known = select::one(&vault, &args.snapshot, &Narrow::default()).await?;
    let id = known.record.id;
    let has_module = vault.ledger().modules().await?.tags.is_some();
    let needs_owner = !args.remove.is_empty() || !has_module;
    let unlocked = match (opening::has_key(global), needs_owner) {
        (true, _) | (_, true) => Some(opening::unlock(global, Some(vault.id()), "tag --remove, or the first tag,")?),
        (false, false) => None,
    };
    retention::tag(&vault, unlocked.as_ref(), id, (&args.add, &args.remove)).await?;
    let (_, tags) = Config::update(vault.folder(), |config| {
        let Some(source) = config.sources.get_mut(&known.record.source) else { return Vec::new() };
        let tags = source.tags.entry(id.to_string()).or_default();
        tags.retain(|tag| !args.remove.contains(tag));
        let fresh: Vec<String> = args.add.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
        tags.extend(fresh);
        let tags = tags.clone();
        if tags.is_empty() {
            source.tags.remove(&id.to_string());
        }
        tags
    })?;
    out.line(format_args!("snapshot {} has now: {}", text::short(&id), tags.join(" ")))?;
    out.record(&json!({
        "type": "summary",
        "ok": true,
        "snapshot": id,
        "added": args.add,
        "removed": args.remove,
        "tags": tags,
    }))?;
    Ok(Exit::Success)
}
