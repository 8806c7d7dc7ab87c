//! `blockhouse completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::exit::{Exit, help};
use crate::output::Output;

/// Write the completions of a shell to standard output
///
/// bash: into ~/.local/share/bash-completion/completions/blockhouse; zsh: as _blockhouse into a folder of $fpath; fish: into
/// ~/.config/fish/completions/blockhouse.fish; elvish and powershell: into their start files.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse completions bash > ~/.local/share/bash-completion/completions/blockhouse"))]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, out: &Output) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "blockhouse", &mut script);
    out.raw(&script)?;
    Ok(Exit::Success)
}
