//! `blockhouse node run`

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use blockhouse_homes::network::{NodeFolder, SyncNews, Told, Wishes, keep_with};
use clap::Args;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::Dir;
use crate::exit::Exit;
use crate::output::Output;
use crate::stopping;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    dir: Dir,
    /// End when the standard input ends: with the program that started it
    #[arg(long)]
    with_parent: bool,
    /// Execute all blocks of the ledger, also where a new node would fetch the state of a late one
    #[arg(long)]
    by_blocks: bool,
}

/// Begins again with two arenas, unless the user set how many, before anything else is done: glibc keeps one for each of some threads, and
/// what was freed stays in them. Under load a node of many arenas takes half as much memory again.
pub(crate) fn begin_with_few_arenas() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if cfg!(target_env = "gnu") && std::env::var_os(ARENAS).is_none() {
        // By its path: behind `/proc/self/exe` the process would be called `exe`.
        let Ok(program) = std::env::current_exe() else { return };
        let mut words = std::env::args_os();
        let mut again = Command::new(program);
        if let Some(name) = words.next() {
            again.arg0(name);
        }
        // If that cannot be, the node runs as it is.
        let _ = again.args(words).env(ARENAS, "2").exec();
    }
}

pub(crate) async fn run(args: RunArgs, out: &Output) -> anyhow::Result<Exit> {
    let until = async {
        tokio::select! {
            () = stopping::asked() => {}
            () = end_of_input(), if args.with_parent => {}
        }
    };
    let wishes = Wishes { by_blocks: args.by_blocks };
    let mut shown = Shown::default();
    keep_with(&NodeFolder::new(args.dir.path), wishes, |told| shown.tell(&told, out), until).await?;
    Ok(Exit::Success)
}

/// The least time between two lines about how far it is.
const PAUSE: Duration = Duration::from_secs(2);

/// When it last said how far it is.
#[derive(Debug, Default)]
struct Shown(Option<Instant>);

impl Shown {
    fn tell(&mut self, told: &Told<'_>, out: &Output) {
        match told {
            Told::Sync(news @ (SyncNews::Share { .. } | SyncNews::Blocks { .. })) => {
                if self.0.is_none_or(|last| last.elapsed() >= PAUSE) {
                    self.0 = Some(Instant::now());
                    out.warn(format_args!("catching up: {news}"));
                }
            }
            told => tell(told, out),
        }
    }
}

/// A node whose words nobody reads goes on.
fn tell(told: &Told<'_>, out: &Output) {
    match told {
        Told::Started(address) => {
            let _ = out.line(format_args!("the node answers at http://{address}"));
            let _ = out.record(&json!({ "type": "started", "rpc": format!("http://{address}") }));
        }
        Told::PoolDamaged(path) => out.warn(format_args!(
            "warning: the journal of what waits for a block was damaged: what is whole in it goes on, and it is kept at {}",
            path.display()
        )),
        Told::NoPast { height, base, source } => out.warn(format_args!(
            "warning: this node has the ledger up to block {height}, and its network begins above block {base}: {}",
            chain(*source)
        )),
        Told::Damaged(damage) => {
            out.warn(format_args!("warning: {damage}; this node does not vote until it is healed"));
        }
        Told::Misread(error) => {
            out.warn(format_args!("warning: {}; what it said before holds until it is corrected", chain(*error)));
        }
        Told::NotHealed(error) => out.warn(format_args!("warning: {}", chain(error))),
        Told::Sync(news @ SyncNews::Left { .. }) => out.warn(format_args!("warning: {news}")),
        Told::Sync(news) => out.warn(format_args!("catching up: {news}")),
        Told::Fork(kept) => out.warn(format_args!(
            "ALARM: the ledger is forked: it has two certified blocks {}, {} and {}. The evidence is {}: blockhouse check-fork says who signed both",
            kept.proved.height,
            kept.proved.blocks[0],
            kept.proved.blocks[1],
            kept.path.display()
        )),
        Told::Sign(sign) => out.warn(format_args!(
            "ALARM: the ledger may be forked: {sign}. Compare that block with what other operators' nodes have, and with the chain outside: docs/design/forks.md, Signs without proof"
        )),
        Told::Silent => out.warn(format_args!(
            "ALARM: this validator gives no vote from now on, for those with whom it votes have forked the ledger. Show the evidence to the owners and the other operators: docs/design/forks.md says what they can do"
        )),
        Told::Healed(healed) => out.warn(format_args!("healed: {healed}")),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Ends when nobody can write to the standard input any more.
async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 64];
    while input.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}
