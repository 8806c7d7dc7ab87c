//! `blockhouse node run`

use blockhouse_homes::network::{Node, NodeFolder};
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
}

pub(crate) async fn run(args: RunArgs, out: &Output) -> anyhow::Result<Exit> {
    let node = Node::start(&NodeFolder::new(args.dir.path)).await?;
    if let Some(path) = node.damaged_pool() {
        out.warn(format_args!(
            "warning: the journal of what waits for a block was damaged: what is whole in it goes on, and it is kept at {}",
            path.display()
        ));
    }
    let address = node.rpc_address();
    out.line(format_args!("the node answers at http://{address}"))?;
    out.record(&json!({ "type": "started", "rpc": format!("http://{address}") }))?;
    let ended = tokio::select! {
        error = node.ended() => Some(error),
        () = stopping::asked() => None,
        () = end_of_input(), if args.with_parent => None,
    };
    node.stop().await;
    match ended {
        None => Ok(Exit::Success),
        Some(error) => Err(error.into()),
    }
}

/// Ends when nobody can write to the standard input any more.
async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 64];
    while input.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}
