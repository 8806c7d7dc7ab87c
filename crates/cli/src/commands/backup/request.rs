//! What was typed and what a profile says, made one request.
//!
//! A flag outdoes a profile's value; what can be given several times is added to the profile's. Lists and exclude files are read when
//! the job is done, not before: a hook may make them.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use blockhouse_pipeline::compress::{DEFAULT_LEVEL, LEVELS};
use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sites::SiteLimits;
use blockhouse_sources::files::{Options, Roots, read_exclude_file};
use blockhouse_sources::files_from::{ListForm, paths_of};
use blockhouse_sources::stream::{StreamOrigin, StreamSource};
use blockhouse_vault::backup::{BackupRequest, Origin};
use blockhouse_vault::folder::{Profile, Profiles, Size};
use clap::ValueEnum;

use super::arguments::{BackupArgs, Dedup};
use crate::failure::Refusal;
use crate::text::{parse_size, parse_tag};

/// The standard input among paths and lists.
const STDIN: &str = "-";
/// How a stream is called if nobody says it.
const STREAM_NAME: &str = "stdin";
/// How long a command may neither write nor end.
const SILENCE: Duration = Duration::from_hours(1);

/// One backup to be made.
#[derive(Debug)]
pub(super) struct Job {
    /// The profile it is of.
    pub(super) profile: Option<String>,
    paths: Vec<PathBuf>,
    lists: Vec<(PathBuf, ListForm)>,
    stream: Option<StreamSource>,
    exclude_files: Vec<PathBuf>,
    /// What the profile allows all sites together.
    limits: SiteLimits,
    /// All but what is read from files.
    rest: BackupRequest,
}

/// The jobs of a command line.
pub(super) fn jobs(args: &BackupArgs, profiles: &Profiles) -> anyhow::Result<Vec<Job>> {
    let mut names: Vec<&str> = args.profiles.iter().map(String::as_str).collect();
    if args.all_profiles {
        names = profiles.profiles.keys().map(String::as_str).collect();
        if names.is_empty() {
            return Err(Refusal::usage(
                "config.toml has no profile",
                "write one: docs/reference/backup.md has the keys",
            )
            .into());
        }
    }
    if names.is_empty() {
        return Ok(vec![job(args, None, &Profile::default())?]);
    }
    names.into_iter().map(|name| job(args, Some(name), profiles.get(name)?)).collect()
}

fn job(args: &BackupArgs, name: Option<&str>, profile: &Profile) -> anyhow::Result<Job> {
    let job = Job {
        profile: name.map(str::to_owned),
        paths: if args.stream.command { Vec::new() } else { paths(args, profile) },
        lists: lists(args, profile),
        stream: stream(args, profile)?,
        exclude_files: both(&profile.exclude_file, &args.left_out.exclude_files),
        limits: SiteLimits { upload: profile.limit_upload, download: profile.limit_download },
        rest: BackupRequest {
            origin: Origin::Paths(Vec::new()),
            source: args.source.clone().or_else(|| profile.source.clone()),
            host: args.host.clone().or_else(|| profile.host.clone()).unwrap_or_else(own_name),
            options: options(args, profile)?,
            tags: tags(args, profile)?,
            level: level(args, profile)?,
            dedup: dedup(args, profile)?,
            force: args.force || profile.force,
            skip_if_unchanged: args.skip_if_unchanged || profile.skip_if_unchanged,
        },
    };
    job.refuse_unclear(name)?;
    Ok(job)
}

impl Job {
    /// What the job is of, for people and hooks.
    pub(super) fn source(&self) -> String {
        if let Some(name) = &self.rest.source {
            return name.clone();
        }
        match &self.stream {
            Some(stream) => String::from_utf8_lossy(stream.name()).into_owned(),
            None => self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "),
        }
    }

    /// The name of the host.
    pub(super) fn host(&self) -> &str {
        &self.rest.host
    }

    /// How fast bytes may go to and come from all sites together, if so much was typed.
    pub(super) fn limits(&self, typed: SiteLimits) -> SiteLimits {
        SiteLimits { upload: typed.upload.or(self.limits.upload), download: typed.download.or(self.limits.download) }
    }

    /// The stream, if it is one.
    pub(super) const fn stream(&self) -> Option<&StreamSource> {
        self.stream.as_ref()
    }

    /// The request, with what stands in files.
    pub(super) fn request(&self) -> anyhow::Result<BackupRequest> {
        let mut request = self.rest.clone();
        let mut patterns = Vec::new();
        for path in &self.exclude_files {
            patterns.extend(read_exclude_file(path)?);
        }
        patterns.append(&mut request.options.excludes);
        request.options.excludes = patterns;
        request.origin = match &self.stream {
            Some(stream) => Origin::Stream(stream.clone()),
            None => Origin::Paths(self.all_paths()?),
        };
        Ok(request)
    }

    fn all_paths(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut paths = self.paths.clone();
        for (list, form) in &self.lists {
            let text = read_list(list).with_context(|| format!("could not read the list `{}`", list.display()))?;
            paths.extend(paths_of(&list.display().to_string(), *form, &text)?);
        }
        if paths.is_empty() && !self.lists.is_empty() {
            let what = format!(
                "the list `{}` names no path",
                self.lists.first().map_or_else(String::new, |(list, _)| list.display().to_string())
            );
            return Err(Refusal::Usage { what, hint: None }.into());
        }
        Ok(paths)
    }

    fn refuse_unclear(&self, profile: Option<&str>) -> anyhow::Result<()> {
        let whose = profile.map_or_else(String::new, |name| format!(" in profile `{name}`"));
        let has_paths = !self.paths.is_empty() || !self.lists.is_empty();
        if has_paths && self.stream.is_some() {
            let hint = "a stream is a source of its own: back it up with a command of its own";
            return Err(Refusal::usage(format!("paths and a stream were given{whose}"), hint).into());
        }
        if !has_paths && self.stream.is_none() {
            let hint = "name paths, a list with --files-from, a command with --command, or a profile with --profile";
            return Err(Refusal::usage(format!("nothing to back up was given{whose}"), hint).into());
        }
        if self.stream.is_some() && self.rest.skip_if_unchanged {
            let hint = "the file that a stream becomes has the time of its backup: leave --skip-if-unchanged out; what is the same is stored once";
            return Err(Refusal::usage(format!("a stream is never unchanged{whose}"), hint).into());
        }
        let stdins = self.lists.iter().filter(|(list, _)| list == Path::new(STDIN)).count();
        if stdins > 1 {
            return Err(
                Refusal::usage("the standard input was given for two lists", "give one of them as a file").into()
            );
        }
        Ok(())
    }
}

fn read_list(list: &Path) -> std::io::Result<Vec<u8>> {
    if list != Path::new(STDIN) {
        return std::fs::read(list);
    }
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text)?;
    Ok(text)
}

fn both<T: Clone>(one: &[T], other: &[T]) -> Vec<T> {
    one.iter().chain(other).cloned().collect()
}

fn is_stdin_path(args: &BackupArgs) -> bool {
    !args.stream.command && args.paths.iter().any(|path| path == STDIN)
}

fn paths(args: &BackupArgs, profile: &Profile) -> Vec<PathBuf> {
    let typed = args.paths.iter().filter(|path| *path != STDIN).map(PathBuf::from);
    profile.paths.iter().cloned().chain(typed).collect()
}

fn lists(args: &BackupArgs, profile: &Profile) -> Vec<(PathBuf, ListForm)> {
    let all = [
        (both(&profile.files_from, &args.lists.patterns), ListForm::Patterns),
        (both(&profile.files_from_verbatim, &args.lists.verbatim), ListForm::Verbatim),
        (both(&profile.files_from_raw, &args.lists.raw), ListForm::Raw),
    ];
    all.into_iter().flat_map(|(lists, form)| lists.into_iter().map(move |list| (list, form))).collect()
}

fn stream(args: &BackupArgs, profile: &Profile) -> anyhow::Result<Option<StreamSource>> {
    let origin = if args.stream.command {
        StreamOrigin::Command(args.paths.clone())
    } else if args.stream.stdin || is_stdin_path(args) {
        StreamOrigin::Stdin
    } else if profile.command.is_empty() {
        let is_meant = args.stream.stdin_filename.is_some() || profile.stdin_filename.is_some();
        if is_meant {
            let hint = "say where it comes from: --stdin, or --command -- COMMAND";
            return Err(Refusal::usage("a name for a stream was given, and no stream", hint).into());
        }
        return Ok(None);
    } else {
        StreamOrigin::Command(profile.command.iter().map(OsString::from).collect())
    };
    let name = args.stream.stdin_filename.clone().or_else(|| profile.stdin_filename.as_ref().map(OsString::from));
    let name = name.unwrap_or_else(|| OsStr::new(STREAM_NAME).to_owned());
    let silence = args.stream.command_timeout.or(profile.command_timeout_secs).map(Duration::from_secs);
    let mut stream = StreamSource::try_new(&name, origin)?;
    stream.allow_empty = args.stream.allow_empty || profile.allow_empty;
    stream.silence = Some(silence.unwrap_or(SILENCE)).filter(|limit| !limit.is_zero());
    Ok(Some(stream))
}

fn options(args: &BackupArgs, profile: &Profile) -> anyhow::Result<Options> {
    let (typed, lists) = (&args.left_out, lists(args, profile));
    let size = match &profile.exclude_larger_than {
        None => None,
        Some(Size::Bytes(bytes)) => Some(*bytes),
        Some(Size::Text(text)) => Some(parse_size(text).map_err(|what| Refusal::Usage { what, hint: None })?),
    };
    Ok(Options {
        excludes: both(&profile.exclude, &typed.excludes),
        iexcludes: both(&profile.iexclude, &typed.iexcludes),
        exclude_caches: profile.exclude_caches || typed.exclude_caches,
        exclude_if_present: both(&profile.exclude_if_present, &typed.exclude_if_present),
        exclude_larger_than: typed.exclude_larger_than.or(size),
        exclude_nodump: profile.exclude_nodump || typed.exclude_nodump,
        one_file_system: profile.one_file_system || typed.one_file_system,
        no_ignore_files: typed.no_ignore_files || profile.ignore_files == Some(false),
        roots: if lists.is_empty() { Roots::Named } else { Roots::Listed },
        allow_live: profile.allow_live || args.allow_live,
    })
}

fn tags(args: &BackupArgs, profile: &Profile) -> anyhow::Result<Vec<String>> {
    for tag in &profile.tag {
        parse_tag(tag).map_err(|what| Refusal::Usage { what, hint: None })?;
    }
    Ok(both(&profile.tag, &args.tags))
}

fn level(args: &BackupArgs, profile: &Profile) -> anyhow::Result<i32> {
    let level = args.level.or(profile.level).unwrap_or(DEFAULT_LEVEL);
    if LEVELS.contains(&level) {
        return Ok(level);
    }
    let what = format!("{level} is no level of compression: they go from {} to {}", LEVELS.start(), LEVELS.end());
    Err(Refusal::Usage { what, hint: None }.into())
}

fn dedup(args: &BackupArgs, profile: &Profile) -> anyhow::Result<DomainKind> {
    let of_profile = profile.dedup.as_ref().map(|name| {
        let what = || format!("`{name}` is no domain of dedup: there are writer, source, vault and chain");
        Dedup::from_str(name, false).map_err(|_| Refusal::Usage { what: what(), hint: None })
    });
    Ok(match args.dedup.or(of_profile.transpose()?).unwrap_or(Dedup::Writer) {
        Dedup::Writer => DomainKind::Writer,
        Dedup::Source => DomainKind::Source,
        Dedup::Vault => DomainKind::Vault,
        Dedup::Chain => DomainKind::Chain,
    })
}

fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Cli, Command};

    /// A profile could not set limits; a flag outdoes the profile's, each way for itself.
    #[test]
    fn limits_are_those_of_the_profile_unless_they_were_typed() {
        let rate = |text: &str| Some(text.parse().unwrap());
        let profile = Profile {
            paths: vec![PathBuf::from("/home")],
            limit_upload: rate("1MiB"),
            limit_download: rate("4MiB"),
            ..Profile::default()
        };
        let limits = |line: &str, profile: &Profile| {
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            let Command::Backup(args) = &cli.command else { panic!("{line}") };
            job(args, Some("home"), profile).unwrap().limits(cli.global.limits())
        };
        let line = "blockhouse backup --profile home";
        let of_profile = SiteLimits { upload: rate("1MiB"), download: rate("4MiB") };
        assert_eq!(limits(line, &profile), of_profile);
        let typed = limits(&format!("{line} --limit-upload 2MiB"), &profile);
        assert_eq!(typed, SiteLimits { upload: rate("2MiB"), ..of_profile });
        let without = Profile { limit_upload: None, limit_download: None, ..profile };
        assert_eq!(limits(line, &without), SiteLimits::default());
    }
}
