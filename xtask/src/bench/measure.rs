//! Runs one shell command and says what its whole process tree used.
//!
//! The kernel adds up what a process waited for, so every command gets a process of its own that waits for nothing
//! else: `xtask measure`. It also keeps the parent's own memory out of the peak: a new process inherits the peak of
//! the one that made it.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Also when a build has put another file in its place.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How often the end of the command is looked for.
const PAUSE: Duration = Duration::from_millis(2);

/// What is to be run, and where its output and the result go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
    pub(crate) result: PathBuf,
    /// When the process group is killed.
    pub(crate) limit: Duration,
    pub(crate) command: String,
}

/// What a process tree used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) wall_seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Of the largest process.
    pub(crate) peak_bytes: u64,
    /// As a shell says it: 128 and more for a signal.
    pub(crate) exit_code: i32,
}

/// Runs the order in a process of its own, with this environment and no other.
pub(crate) fn measure(order: &Order, environment: &[(String, String)]) -> Result<Usage> {
    let status = Command::new(THIS_PROGRAM)
        .arg("measure")
        .args([&order.stdout, &order.stderr, &order.result])
        .arg(order.limit.as_secs().to_string())
        .arg(&order.command)
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not start {THIS_PROGRAM}"))?;
    ensure!(status.success(), "could not measure `{}`", order.command);
    let result = std::fs::read(&order.result).with_context(|| format!("could not read {}", order.result.display()))?;
    serde_json::from_slice(&result).with_context(|| format!("{} is no measurement", order.result.display()))
}

/// The process of its own.
pub(crate) fn run(order: &Order) -> Result<()> {
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("could not make {}", path.display()));
    let started = Instant::now();
    let mut child = Command::new("bash")
        .args(["-o", "pipefail", "-c", &order.command])
        .stdin(Stdio::null())
        .stdout(create(&order.stdout)?)
        .stderr(create(&order.stderr)?)
        .process_group(0)
        .spawn()
        .context("could not start bash")?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id does not fit")?);
    let status = loop {
        if let Some(status) = child.try_wait().context("could not wait for the command")? {
            break status;
        }
        if started.elapsed() > order.limit {
            killpg(group, Signal::SIGKILL).context("could not end the command")?;
        }
        std::thread::sleep(PAUSE);
    };
    let usage = usage(started.elapsed(), status)?;
    let text = serde_json::to_vec(&usage).context("could not encode the measurement")?;
    std::fs::write(&order.result, text).with_context(|| format!("could not write {}", order.result.display()))
}

fn usage(wall: Duration, status: ExitStatus) -> Result<Usage> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("could not ask for the usage of the command")?;
    Ok(Usage {
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds: seconds(used.user_time()) + seconds(used.system_time()),
        peak_bytes: u64::try_from(used.max_rss()).unwrap_or(0) * 1024,
        exit_code: status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
    })
}

#[expect(clippy::cast_precision_loss, reason = "seconds of one command, far below 2^53")]
fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}
