//! `blockhouse-fuzz [TARGET] [--runs N | --seconds S] [--seed N] [--list]`: `./x fuzz` calls it.
//!
//! Every target runs in a process of its own with little memory, so that an abort, an overflowing stack or a greedy
//! allocation is a failure like any other. What failed is written to `fuzz/failures/` and named with the command that
//! runs it again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to its terminal")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blockhouse_fuzz::{Budget, Target, drive, input, package, targets};
use nix::sys::resource::{Resource, setrlimit};

/// Address space of a worker. Inputs have a mebibyte at most: who needs more than this believed a length.
const WORKER_BYTES: u64 = 2 << 30;
/// No input takes this long; what does hangs.
const HANG: Duration = Duration::from_mins(1);
const DEFAULT_SEED: u64 = 1;
/// Also when a build has put another file in its place.
const THIS_PROGRAM: &str = "/proc/self/exe";

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match options.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
struct Options {
    target: Option<&'static Target>,
    budget: Budget,
    seed: u64,
    list: bool,
    /// This process is the one that runs the target.
    worker: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let budget = Budget::Time(Duration::from_secs(10));
        let mut options = Self { target: None, budget, seed: DEFAULT_SEED, list: false, worker: false };
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64> {
                let value = words.next().with_context(|| format!("`{word}` needs a value"))?;
                value.parse().with_context(|| format!("`{value}` is no number"))
            };
            match word.as_str() {
                "--runs" => options.budget = Budget::Runs(number()?),
                "--seconds" => options.budget = Budget::Time(Duration::from_secs(number()?)),
                "--seed" => options.seed = number()?,
                "--list" => options.list = true,
                "--worker" => options.worker = true,
                name => {
                    let target = targets::ALL.iter().find(|target| target.name == name);
                    options.target = Some(target.with_context(|| format!("`{name}` is no target: see --list"))?);
                }
            }
        }
        ensure!(!options.worker || options.target.is_some(), "a worker needs a target");
        Ok(options)
    }

    fn run(&self) -> Result<()> {
        match self.target {
            _ if self.list => {
                for target in targets::ALL {
                    println!("{}", target.name);
                }
                Ok(())
            }
            Some(target) if self.worker => work(target, self.seed, self.budget),
            Some(target) => self.supervise(&[target]),
            None => self.supervise(&targets::ALL.iter().collect::<Vec<_>>()),
        }
    }

    /// Runs targets in workers, as many at once as there are processors.
    fn supervise(&self, targets: &[&'static Target]) -> Result<()> {
        let waiting = Mutex::new(targets.iter().copied().collect::<VecDeque<_>>());
        let failed = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(target) = take(&waiting) {
                        if let Err(error) = self.employ(target) {
                            eprintln!("{}: {error:#}", target.name);
                            failed.lock().expect("no thread panics while it holds the list").push(target.name);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().expect("no thread panics while it holds the list");
        ensure!(failed.is_empty(), "{} of {} targets failed: {}", failed.len(), targets.len(), failed.join(", "));
        println!("{} targets, no failure", targets.len());
        Ok(())
    }

    fn employ(&self, target: &Target) -> Result<()> {
        let mut command = Command::new(THIS_PROGRAM);
        command.args(["--worker", target.name, "--seed"]).arg(self.seed.to_string());
        match self.budget {
            Budget::Runs(runs) => command.arg("--runs").arg(runs.to_string()),
            Budget::Time(time) => command.arg("--seconds").arg(time.as_secs().to_string()),
        };
        let status = command.status().context("could not start a worker")?;
        ensure!(status.success(), "failed ({status}); again: ./x fuzz {} --seed {}", target.name, self.seed);
        Ok(())
    }
}

fn take(waiting: &Mutex<VecDeque<&'static Target>>) -> Option<&'static Target> {
    waiting.lock().expect("no thread panics while it holds the list").pop_front()
}

/// The worker: runs the target; an input that breaks a promise is kept.
fn work(target: &'static Target, seed: u64, budget: Budget) -> Result<()> {
    setrlimit(Resource::RLIMIT_AS, WORKER_BYTES, WORKER_BYTES).context("could not limit the memory")?;
    let current: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    std::thread::spawn(move || watch(target, seed, current));
    match drive(target, seed, budget, current) {
        Ok(count) => {
            println!("{:28} {:9} runs, {:9} accepted", target.name, count.runs, count.accepted);
            Ok(())
        }
        Err(failure) => {
            let path = keep(target, seed, failure.run, &failure.input)?;
            bail!("run {} of seed {seed} broke a promise: {}", failure.run, path.display())
        }
    }
}

/// Ends the process when one input takes too long.
fn watch(target: &'static Target, seed: u64, current: &AtomicU64) {
    let mut last = u64::MAX;
    loop {
        let run = current.load(Ordering::Relaxed);
        if run == last {
            let kept = keep(target, seed, run, &input(target, &(target.seeds)(), seed, run));
            eprintln!("{}: run {run} of seed {seed} hangs: {kept:?}", target.name);
            std::process::abort();
        }
        last = run;
        std::thread::sleep(HANG);
    }
}

fn keep(target: &Target, seed: u64, run: u64, input: &[u8]) -> Result<PathBuf> {
    let folder = package().join("failures");
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let path = folder.join(format!("{}-{seed}-{run}", target.name));
    std::fs::write(&path, input).with_context(|| format!("could not write {}", path.display()))?;
    Ok(path)
}
