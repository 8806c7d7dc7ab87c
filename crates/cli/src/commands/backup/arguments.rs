//! What can be typed after `blockhouse backup`.

use std::ffi::OsString;
use std::path::PathBuf;

use blockhouse_pipeline::compress::LEVELS;
use clap::{Args, ValueEnum};

use crate::exit::help;
use crate::text::{parse_duration, parse_size, parse_tag};

/// Who shares stored chunks with this source
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dedup {
    /// All sources of this host
    Writer,
    /// This source alone
    Source,
    /// All hosts of the vault
    Vault,
    /// All hosts, for the public blocks of chains
    Chain,
}

/// Back up folders and files, or what a command writes
///
/// All paths of one command become one snapshot of one source. The source is known again by this host and the paths, or by
/// --source. What did not change since is not read again, and what the sites have already is not stored again. Needs neither
/// identity nor passphrase. Profiles in the vault's config.toml hold options for runs without a person; docs/reference/backup.md has
/// their keys.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = help!("blockhouse backup ~/documents --exclude '*.tmp' --tag kind=daily"))]
pub(crate) struct BackupArgs {
    /// What to back up; several paths make one source. `-` is the standard input. With --command: the command and its arguments
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// Do what a profile of config.toml says; repeat for more, one after another
    #[arg(long = "profile", value_name = "NAME", conflicts_with_all = ["paths", "all_profiles"])]
    pub(super) profiles: Vec<String>,
    /// Do what all profiles say, in the order of their names
    #[arg(long, conflicts_with = "paths")]
    pub(super) all_profiles: bool,
    #[command(flatten)]
    pub(super) lists: Lists,
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    #[command(flatten)]
    pub(super) left_out: LeftOutArgs,
    /// Mark the snapshot, to choose it by later; repeat for more
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub(super) tags: Vec<String>,
    /// Write nothing: say which files are new, changed or gone since the last backup, without reading them; with --verbose also what
    /// is left out
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// Read all files again, whatever this host knows of them
    #[arg(long)]
    pub(super) force: bool,
    /// Record no snapshot if nothing changed since the last one of this source and host
    #[arg(long)]
    pub(super) skip_if_unchanged: bool,
    /// Run no hooks of config.toml
    #[arg(long)]
    pub(super) no_hooks: bool,
    /// How hard to compress: more is slower and smaller [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(i64::from(*LEVELS.start())..=i64::from(*LEVELS.end())))]
    pub(super) level: Option<i32>,
    /// Call the source so; else it is known by this host and the paths
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Who shares stored chunks with this source [default: writer]
    #[arg(long, value_enum)]
    pub(super) dedup: Option<Dedup>,
    /// Copy the files of a running node or database as they are; they may not open again
    #[arg(long)]
    pub(super) allow_live: bool,
    /// The name of this host [default: its own]
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,
}

/// Lists of paths.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Lists of paths")]
pub(super) struct Lists {
    /// Back up what a list names, a glob a line, `#` begins a comment; `-` is the standard input. What is missing is told, and makes
    /// the exit code 3; a path within another is part of it. Give --source if the list is another one each time
    #[arg(long = "files-from", value_name = "FILE")]
    pub(super) patterns: Vec<PathBuf>,
    /// The same with a path a line, taken as it is
    #[arg(long = "files-from-verbatim", value_name = "FILE")]
    pub(super) verbatim: Vec<PathBuf>,
    /// The same with paths that end in NUL, as `find -print0` writes them
    #[arg(long = "files-from-raw", value_name = "FILE")]
    pub(super) raw: Vec<PathBuf>,
}

/// Streams.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Streams")]
pub(super) struct StreamArgs {
    /// Back up the standard input as one file. If what writes it fails, nobody can tell: --command can
    #[arg(long, conflicts_with_all = ["paths", "command", "profiles", "all_profiles"])]
    pub(super) stdin: bool,
    /// Back up what a command writes as one file: `--command -- pg_dump db`. If it fails, there is no snapshot
    #[arg(long, visible_alias = "stdin-from-command", requires = "paths")]
    pub(super) command: bool,
    /// The name of that file [default: stdin]
    #[arg(long, value_name = "NAME")]
    pub(super) stdin_filename: Option<OsString>,
    /// Take an empty stream as an empty file; else it is an error
    #[arg(long)]
    pub(super) allow_empty: bool,
    /// Stop a command that neither writes nor ends for so long; 0 waits for ever [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) command_timeout: Option<u64>,
}

/// What is left out.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(next_help_heading = "Leaving out")]
pub(super) struct LeftOutArgs {
    /// Leave out what matches; repeat for more. Without a slash a pattern matches names at any depth, with one a path from
    /// PATH or from the root folder; one that ends in a slash matches folders only. `*` and `?` stop at slashes, `**` does not. `!`
    /// before a pattern takes back what an earlier one left out: the last that matches decides
    #[arg(long = "exclude", value_name = "GLOB")]
    pub(super) excludes: Vec<String>,
    /// The same, with letters of either case alike; they come after the others
    #[arg(long = "iexclude", value_name = "GLOB")]
    pub(super) iexcludes: Vec<String>,
    /// Leave out what the patterns of a file match, one a line, `#` begins a comment; they come before those of --exclude
    #[arg(long = "exclude-file", value_name = "FILE")]
    pub(super) exclude_files: Vec<PathBuf>,
    /// Leave out the content of folders that are tagged as caches by a CACHEDIR.TAG; the tag stays
    #[arg(long)]
    pub(super) exclude_caches: bool,
    /// Leave out the content of folders with a file of this name, which begins with CONTENT if that is given; the file stays
    #[arg(long, value_name = "NAME[:CONTENT]")]
    pub(super) exclude_if_present: Vec<String>,
    /// Leave out files that are larger: 500, 10K, 4M, 2G, 1T
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) exclude_larger_than: Option<u64>,
    /// Leave out what has the attribute nodump (chattr +d)
    #[arg(long)]
    pub(super) exclude_nodump: bool,
    /// Take folders on other file systems than that of PATH without their content
    #[arg(long, short = 'x')]
    pub(super) one_file_system: bool,
    /// Do not look for files named .blockhouseignore, which name what is left out of their folder in the language of .gitignore
    #[arg(long)]
    pub(super) no_ignore_files: bool,
}
