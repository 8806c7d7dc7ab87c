//! What was typed, turned into a valid task or into one sentence about what is wrong with it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::bench::{Size, measure::Order};
use crate::deb::DebOptions;
use crate::fuzz::Budget;

pub(crate) const USAGE: &str = "\
usage: ./x COMMAND

  demo [PATH]          back up real blocks (and PATH) over six sites, lose two, damage a third, restore, prove
  test                 everything that must pass on every change: Rust, format pages, contracts, fuzz smoke
  check                test, and format, lints, documents, licences and advisories of dependencies
  long [--seed N]      in full what test runs short: 200 kills, every byte flipped, a million fuzz runs a target
  contracts [--check]  rebuild the contracts' ABI and bytecode; with --check, fail if they differ
  deb [--out FOLDER]   the Debian package: binary, man pages, completions, systemd units
        [--profile P | --binary FILE]  built with another profile than `release`, or not built anew
  bench [--full]       seconds, memory and stored bytes beside borg, restic and tar|zstd|openssl
        [--out FILE]   where the results go, one JSON object per line
        [--only WHAT]  `stages` (GB/s of each stage), `peers` (the comparison) or `remote` (S3 behind a line of 20 ms)
  fuzz [TARGET]        feed mutated bytes to every decoder, or to one
        [--runs N | --seconds S] [--seed N] [--list]
  help                 this text";

/// One thing that xtask can do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Demo {
        path: Option<PathBuf>,
    },
    Test,
    Check,
    Long {
        seed: Option<u64>,
    },
    Contracts {
        check: bool,
    },
    Deb(DebOptions),
    Bench(BenchOptions),
    Fuzz(FuzzOptions),
    /// Runs one command and writes down what it used; `bench` calls this, people do not.
    Measure(Order),
    Help,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    pub(crate) size: Size,
    pub(crate) out: Option<PathBuf>,
    pub(crate) part: BenchPart,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BenchPart {
    #[default]
    All,
    Stages,
    Peers,
    /// Sites behind a slow line.
    Remote,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FuzzOptions {
    pub(crate) target: Option<String>,
    pub(crate) budget: Budget,
    pub(crate) seed: Option<u64>,
    pub(crate) list: bool,
}

impl Task {
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut words = Words(arguments.iter());
        let Some(command) = words.next_text()? else { return Err("no command was given".to_owned()) };
        let task = match command {
            "demo" => Self::Demo { path: words.0.next().map(PathBuf::from) },
            "test" => Self::Test,
            "check" => Self::Check,
            "long" => Self::Long { seed: seed(&mut words)? },
            "contracts" => Self::Contracts { check: words.flag("--check")? },
            "deb" => Self::Deb(deb(&mut words)?),
            "bench" => Self::Bench(bench(&mut words)?),
            "fuzz" => Self::Fuzz(fuzz(&mut words)?),
            "measure" => Self::Measure(measure(&mut words)?),
            "help" | "--help" | "-h" => Self::Help,
            other => return Err(format!("`{other}` is no command")),
        };
        match words.0.next() {
            None => Ok(task),
            Some(word) => Err(format!("`{}` is not expected here", word.display())),
        }
    }
}

/// The words that were not looked at yet.
struct Words<'a>(std::slice::Iter<'a, OsString>);

impl<'a> Words<'a> {
    fn next_text(&mut self) -> Result<Option<&'a str>, String> {
        self.0.next().map(|word| text(word)).transpose()
    }

    fn value(&mut self, of: &str) -> Result<&'a OsStr, String> {
        self.0.next().map(OsString::as_os_str).ok_or_else(|| format!("`{of}` needs a value"))
    }

    fn number(&mut self, of: &str) -> Result<u64, String> {
        let word = text(self.value(of)?)?;
        word.parse().map_err(|_| format!("`{of}` needs a whole number, not `{word}`"))
    }

    /// Whether the next word is this flag; none other may be.
    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.next_text()? {
            None => Ok(false),
            Some(word) if word == name => Ok(true),
            Some(word) => Err(format!("`{word}` is not expected here")),
        }
    }
}

fn text(word: &OsStr) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("`{}` is not UTF-8", word.display()))
}

fn seed(words: &mut Words<'_>) -> Result<Option<u64>, String> {
    if words.flag("--seed")? { words.number("--seed").map(Some) } else { Ok(None) }
}

fn bench(words: &mut Words<'_>) -> Result<BenchOptions, String> {
    let mut options = BenchOptions::default();
    while let Some(word) = words.next_text()? {
        match word {
            "--full" => options.size = Size::Full,
            "--out" => options.out = Some(words.value(word)?.into()),
            "--only" => {
                options.part = match text(words.value(word)?)? {
                    "stages" => BenchPart::Stages,
                    "peers" => BenchPart::Peers,
                    "remote" => BenchPart::Remote,
                    other => return Err(format!("`--only` takes `stages`, `peers` or `remote`, not `{other}`")),
                }
            }
            other => return Err(format!("`{other}` is not expected here")),
        }
    }
    Ok(options)
}

fn deb(words: &mut Words<'_>) -> Result<DebOptions, String> {
    let mut options = DebOptions::default();
    while let Some(word) = words.next_text()? {
        match word {
            "--profile" => text(words.value(word)?)?.clone_into(&mut options.profile),
            "--binary" => options.binary = Some(words.value(word)?.into()),
            "--out" => options.out = Some(words.value(word)?.into()),
            other => return Err(format!("`{other}` is not expected here")),
        }
    }
    Ok(options)
}

fn fuzz(words: &mut Words<'_>) -> Result<FuzzOptions, String> {
    let mut options = FuzzOptions::default();
    while let Some(word) = words.next_text()? {
        match word {
            "--runs" => options.budget = Budget::Runs(words.number(word)?),
            "--seconds" => options.budget = Budget::Seconds(words.number(word)?),
            "--seed" => options.seed = Some(words.number(word)?),
            "--list" => options.list = true,
            flag if flag.starts_with('-') => return Err(format!("`{flag}` is not expected here")),
            target if options.target.is_none() => options.target = Some(target.to_owned()),
            other => return Err(format!("`{other}` is a second target")),
        }
    }
    Ok(options)
}

fn measure(words: &mut Words<'_>) -> Result<Order, String> {
    let mut path = || words.value("measure").map(PathBuf::from);
    let (stdout, stderr, result) = (path()?, path()?, path()?);
    let limit = std::time::Duration::from_secs(words.number("measure")?);
    let command = text(words.value("measure")?)?.to_owned();
    Ok(Order { stdout, stderr, result, limit, command })
}

#[cfg(test)]
mod tests {
    use super::{BenchOptions, BenchPart, DebOptions, FuzzOptions, Task, USAGE};
    use crate::bench::Size;
    use crate::fuzz::Budget;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn parse(line: &str) -> Result<Task, String> {
        Task::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(parse("test"), Ok(Task::Test));
        assert_eq!(parse("check"), Ok(Task::Check));
        assert_eq!(parse("long"), Ok(Task::Long { seed: None }));
        assert_eq!(parse("long --seed 7"), Ok(Task::Long { seed: Some(7) }));
        assert_eq!(parse("demo"), Ok(Task::Demo { path: None }));
        assert_eq!(parse("demo a/b"), Ok(Task::Demo { path: Some("a/b".into()) }));
        assert_eq!(parse("contracts"), Ok(Task::Contracts { check: false }));
        assert_eq!(parse("contracts --check"), Ok(Task::Contracts { check: true }));
        let deb = DebOptions { profile: "ci".to_owned(), binary: None, out: Some("o".into()) };
        assert_eq!(parse("deb --profile ci --out o"), Ok(Task::Deb(deb)));
        let bench = BenchOptions { size: Size::Full, out: Some("r".into()), part: BenchPart::Stages };
        assert_eq!(parse("bench --full --out r --only stages"), Ok(Task::Bench(bench)));
        let fuzz = FuzzOptions { target: Some("shard".into()), budget: Budget::Runs(9), seed: Some(7), list: false };
        assert_eq!(parse("fuzz shard --runs 9 --seed 7"), Ok(Task::Fuzz(fuzz)));
    }

    /// The entry and the page for contributors name every command.
    #[test]
    fn every_command_is_named_where_people_look() {
        let (entry, page) = (include_str!("../../x"), include_str!("../../CONTRIBUTING.md"));
        let head = entry.lines().find(|line| line.starts_with("#   ./x ")).unwrap();
        let commands = USAGE.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let commands: Vec<_> = commands.filter(|name| !name.is_empty()).collect();
        assert_eq!(commands.len(), 9, "{commands:?}");
        for name in commands {
            assert!(parse(name).is_ok(), "{name} is in the usage and is no command");
            assert!(head.split([' ', '|']).any(|word| word == name), "the head of x does not name {name}");
            assert!(name == "help" || page.contains(&format!("`./x {name}")), "CONTRIBUTING.md does not name {name}");
        }
        assert!(entry.lines().count() < 60, "the entry stays short");
    }

    #[test]
    fn wrong_usage_names_the_word() {
        for (line, expected) in [
            ("", "no command"),
            ("tset", "`tset` is no command"),
            ("test now", "`now` is not expected"),
            ("long --seed", "`--seed` needs a value"),
            ("long 7", "`7` is not expected"),
            ("demo a b", "`b` is not expected"),
            ("contracts --chekc", "`--chekc` is not expected"),
            ("deb ci", "`ci` is not expected"),
            ("bench --out", "`--out` needs a value"),
            ("bench --only all", "not `all`"),
            ("fuzz --runs many", "not `many`"),
            ("fuzz a b", "`b` is a second target"),
        ] {
            let problem = parse(line).unwrap_err();
            assert!(problem.contains(expected), "{line}: {problem}");
        }
    }

    #[test]
    fn a_demo_path_need_not_be_utf_8() {
        let path = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(Task::parse(&["demo".into(), path.clone()]), Ok(Task::Demo { path: Some(path.into()) }));
    }
}
