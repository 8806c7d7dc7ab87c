//! `blockhouse node join` with a founding file: the nodes make their key.

use std::time::Duration;

use blockhouse_homes::network::{GatherError, Gathered, Gathering, NodeFolder};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::join::JoinArgs;
use super::shown;
use crate::exit::Exit;
use crate::failure::Refusal;
use crate::output::{Output, extend};
use crate::stopping;

pub(super) async fn run(args: &JoinArgs, out: &Output) -> anyhow::Result<Exit> {
    if args.follower {
        let what = "nobody follows a network whose key is not made yet";
        return Err(Refusal::usage(what, "join with the network file of one of its validators, later").into());
    }
    let mut gathering = Gathering::plan(NodeFolder::new(&args.dir.path), &args.network)?.healed_by(&args.rpc_peers);
    if let Some(expected) = args.expect {
        gathering = gathering.expect(expected)?;
    }
    let summary = shown::founding(gathering.founding(), out)?;
    let key = gathering.key_text();
    out.talk(format_args!("\nMaking the key of the network, with all of its validators."));
    let gathered = hold(gathering, args.wait.map(Duration::from_secs), out).await?;
    tell(&gathered, &key, (args, summary), out)?;
    Ok(Exit::Success)
}

/// Holds the ceremony on a thread of its own, which ends before this does: a stop leaves what a kill would.
async fn hold(gathering: Gathering, patience: Option<Duration>, out: &Output) -> anyhow::Result<Gathered> {
    let (stop, stopped) = oneshot::channel();
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel::<String>();
    let tell = move |line: &str| drop(lines.send(line.to_owned()));
    let mut held = tokio::task::spawn_blocking(move || gathering.hold(patience, tell, stopped));
    let (mut stop, mut asked) = (Some(stop), Box::pin(stopping::asked()));
    loop {
        tokio::select! {
            Some(line) = told.recv() => out.talk(format_args!("{line}")),
            () = &mut asked, if stop.is_some() => drop(stop.take().map(|stop| stop.send(()))),
            ended = &mut held => {
                while let Ok(line) = told.try_recv() {
                    out.talk(format_args!("{line}"));
                }
                let ended = ended.map_err(|error| GatherError::Connections { reason: error.to_string() })?;
                return Ok(ended?);
            }
        }
    }
}

fn tell(
    Gathered { network, unfinished }: &Gathered,
    key: &str,
    (args, mut summary): (&JoinArgs, Value),
    out: &Output,
) -> anyhow::Result<()> {
    let fingerprint = network.fingerprint();
    out.line(format_args!("fingerprint  {fingerprint}"))?;
    out.line(format_args!("joined as validator {key}"))?;
    if !unfinished.is_empty() {
        out.warn(format_args!(
            "warning: these did not say that they have the key too: {}. Who does not, runs the same again while another does, or joins with the file `network` of this node's folder",
            unfinished.join(", ")
        ));
    }
    out.talk(format_args!(
        "\nCompare the fingerprint with the other operators, all of it, before you start the node: another one is another network.\n\nNext: blockhouse node run --dir {}",
        args.dir.path.display()
    ));
    extend(
        &mut summary,
        json!({ "fingerprint": fingerprint, "role": "validator", "public": key, "unfinished": unfinished }),
    );
    out.record(&summary)?;
    Ok(())
}
