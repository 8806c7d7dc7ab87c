//! What can be typed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use blockhouse_sites::{Rate, SiteLimits, SiteSpec};
use blockhouse_vault::folder::{VAULT_VARIABLE, VaultFolder};
use blockhouse_vault::select::{Narrow, PlaceRef};
use blockhouse_vault::vault::Settings;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

#[cfg(feature = "mount")]
use crate::commands::mount;
#[cfg(feature = "node")]
use crate::commands::node;
use crate::commands::{
    alarm, anchor, backup, check_fork, check_receipt, completions, copy, demo, diff, dump, find, forget, freeze,
    history, host, init, key, ls, man, prune, receipt, recover, repair, restore, retention, site, snapshots, stats,
    status, tag, verify,
};
use crate::exit::help;
use crate::failure::{Refusal, one_line};
use crate::text::{parse_tag, parse_time};

/// Verifiable backups: spread over sites so that any few may vanish, recorded on a ledger that proves them
#[derive(Debug, Parser)]
#[command(name = "blockhouse", version, max_term_width = 120, propagate_version = true)]
#[command(after_help = help!("blockhouse demo"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    Diff(diff::DiffArgs),
    Dump(dump::DumpArgs),
    #[cfg(feature = "mount")]
    Mount(mount::MountArgs),
    Restore(restore::RestoreArgs),
    Copy(copy::CopyArgs),
    Verify(verify::VerifyArgs),
    Repair(repair::RepairArgs),
    Retention(retention::RetentionArgs),
    Forget(forget::ForgetArgs),
    Prune(prune::PruneArgs),
    Freeze(freeze::FreezeArgs),
    Unfreeze(freeze::UnfreezeArgs),
    Alarm(alarm::AlarmArgs),
    Tag(tag::TagArgs),
    Receipt(receipt::ReceiptArgs),
    CheckReceipt(check_receipt::CheckReceiptArgs),
    CheckFork(check_fork::CheckForkArgs),
    Anchor(anchor::AnchorArgs),
    History(history::HistoryArgs),
    Status(status::StatusArgs),
    Site(site::SiteArgs),
    Stats(stats::StatsArgs),
    Host(host::HostArgs),
    Key(key::KeyArgs),
    #[cfg(feature = "node")]
    Node(node::NodeArgs),
    Recover(recover::RecoverArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// What every command takes.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The vault folder [default: ~/.local/share/blockhouse]
    #[arg(long, global = true, value_name = "DIR", env = VAULT_VARIABLE)]
    vault: Option<PathBuf>,
    /// The owner's identity file
    #[arg(long, global = true, value_name = "FILE", env = "BLOCKHOUSE_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,
    /// A file with the words of the paper key, instead of the identity
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) paper_key: Option<PathBuf>,
    /// Take the passphrase from the first line of this file
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["passphrase_command", "no_passphrase"])]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Take the passphrase from the first line that this command prints
    #[arg(long, global = true, value_name = "CMD", conflicts_with = "no_passphrase")]
    pub(crate) passphrase_command: Option<String>,
    /// Use no passphrase, and do not ask for one
    #[arg(long, global = true)]
    pub(crate) no_passphrase: bool,
    /// Data as JSON, one object on each line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing if all goes well, but the data that was asked for
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Do not ask before what cannot be undone
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Take the clock of this host as right, however far it is from the ledger's time
    #[arg(long, global = true)]
    pub(crate) accept_clock: bool,
    /// Go on with fewer sites than the plan asks for
    #[arg(long, global = true)]
    pub(crate) accept_risk: bool,
    /// Write at most so many bytes per second to all sites together, such as 2MiB
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_upload: Option<Rate>,
    /// Read at most so many bytes per second from all sites together
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_download: Option<Rate>,
}

impl Global {
    /// The vault folder.
    pub(crate) fn folder(&self) -> anyhow::Result<VaultFolder> {
        if let Some(folder) = &self.vault {
            return Ok(VaultFolder::new(folder));
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let data = data.or_else(|| Some(set("HOME")?.join(".local/share")));
        let none = || Refusal::usage("there is no home folder to look for the vault in", "give it with --vault DIR");
        Ok(VaultFolder::new(data.ok_or_else(none)?.join("blockhouse")))
    }

    /// How fast bytes may go to and come from all sites together.
    pub(crate) fn limits(&self) -> SiteLimits {
        SiteLimits { upload: self.limit_upload, download: self.limit_download }
    }

    /// How vaults are opened.
    pub(crate) fn settings(&self) -> Settings {
        Settings { accept_clock: self.accept_clock, accept_risk: self.accept_risk, ..Settings::default() }
    }
}

/// What narrows the choice of a snapshot.
#[derive(Debug, Default, Args)]
pub(crate) struct Selectors {
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only snapshots of this source: its name, one of its paths, or its id
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Only snapshots with this tag; repeat for more
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<String>,
    /// Only snapshots of this time or before: a day, a time, or @SECONDS
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<u64>,
}

impl From<Selectors> for Narrow {
    fn from(selectors: Selectors) -> Self {
        let Selectors { host, source, tags, at } = selectors;
        Self { host, source, tags, at }
    }
}

/// Reads SNAP or SNAP:PATH. The path may hold any bytes.
pub(crate) fn place_parser() -> impl TypedValueParser<Value = PlaceRef> {
    OsStringValueParser::new().try_map(PlaceRef::try_from)
}

/// The path that follows a snapshot's colon, and one more given beside it that goes on from there.
pub(crate) fn joined(start: Option<Vec<u8>>, path: Option<OsString>) -> Option<Vec<u8>> {
    match (start, path.map(OsStringExt::into_vec)) {
        (Some(start), Some(path)) => Some([&start[..], b"/", &path].concat()),
        (start, path) => start.or(path),
    }
}

/// Reads a site as it is typed. What is refused is not said again by `clap`, for a URL may hold a secret: the reason has it redacted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SiteParser;

impl TypedValueParser for SiteParser {
    type Value = SiteSpec;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<SiteSpec, clap::Error> {
        let refuse = |why: String| {
            let of = argument.map(|argument| format!(" for `{argument}`")).unwrap_or_default();
            command.clone().error(ErrorKind::ValueValidation, format!("no site{of}: {why}"))
        };
        let text = value.to_str().ok_or_else(|| refuse("a URL is UTF-8; other bytes are written %XX".to_owned()))?;
        let base = std::env::current_dir();
        let base = base.map_err(|error| refuse(format!("could not tell the current folder: {error}")))?;
        SiteSpec::parse(text, &base).map_err(|error| refuse(one_line(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_the_exit_codes() {
        let mut cli = Cli::command();
        cli.build();
        let mut waiting: Vec<_> = cli.get_subcommands().filter(|it| it.get_name() != "help").collect();
        assert_eq!(waiting.len(), 32 + usize::from(cfg!(feature = "mount")) + usize::from(cfg!(feature = "node")));
        while let Some(command) = waiting.pop() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example:") && after.contains("130 interrupted"), "{}", command.get_name());
            waiting.extend(command.get_subcommands().filter(|it| it.get_name() != "help"));
        }
    }

    #[test]
    fn codes_without_data_are_refused_and_without_parity_taken() {
        let init = "blockhouse init --site /tmp/a --identity-out i --paper-key-out -";
        assert_eq!(parse(&format!("{init} --code 0+2")).unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(parse(&format!("{init} --code 4")).unwrap_err(), ErrorKind::ValueValidation);
        assert!(parse(&format!("{init} --code 2+0")).is_ok());
    }

    #[test]
    fn flags_are_read() {
        let Command::Verify(args) = parse("blockhouse verify --read-data").unwrap().command else { panic!("verify") };
        assert_eq!(args.read_data, Some(10_000));
        let Command::Verify(args) = parse("blockhouse verify latest --read-data=5").unwrap().command else {
            panic!("verify")
        };
        assert_eq!((args.read_data, args.snapshot.is_some()), (Some(500), true));
        assert!(parse("blockhouse verify --read-data=0").is_err());
        assert!(parse("blockhouse restore latest").is_err());
        assert!(parse("blockhouse restore latest --to x --overwrite sometimes").is_err());
        assert!(parse("blockhouse restore ../x --to x").is_err());
        assert!(parse("blockhouse restore 7f3a:../x --to x --strip-components 2").is_ok());
        assert!(parse("blockhouse restore latest: --to x").is_err());
        assert!(parse("blockhouse backup --command").is_err());
        assert!(parse("blockhouse backup x --profile home").is_err());
        assert!(parse("blockhouse backup --stdin-filename db.sql --command -- pg_dump -Fc db").is_ok());
        assert!(parse("blockhouse backup x --tag novalue").is_err());
        assert!(parse("blockhouse backup x --level 20").is_err());
        assert!(parse("blockhouse --json backup x -n --level 19 --vault v").unwrap().global.json);
        assert!(parse("blockhouse recover --identity i").is_err());
    }
}
