//! What is told of an outcome that could not be recorded, by `verify` and by `repair`: after everything that was found.

use blockhouse_vault::recording::Recording;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::{one_line, report};
use crate::output::Output;

/// The part of a summary: whether it stands on the ledger, and if not, why.
pub(crate) fn add_to(summary: &mut Value, recording: &Recording) {
    let why = match recording {
        Recording::Done => None,
        Recording::NotAsked => Some("nothing was changed".to_owned()),
        Recording::NoWriter => Some("this folder has no writer's secrets".to_owned()),
        Recording::Failed(error) => Some(one_line(error)),
    };
    summary["recorded"] = json!(why.is_none());
    summary["not_recorded"] = json!(why);
}

/// Says what was not recorded, and gives the exit code of a failure.
pub(crate) fn tell(recording: Recording, out: &Output) -> Option<Exit> {
    match recording {
        Recording::Done | Recording::NotAsked => None,
        Recording::NoWriter => {
            out.talk(format_args!("nothing was recorded on the ledger: this folder has no writer's secrets"));
            None
        }
        Recording::Failed(error) => Some(report(out, &error.into())),
    }
}
