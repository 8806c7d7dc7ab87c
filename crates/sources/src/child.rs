//! Programs that this one starts: each in a process group of its own, so that it can be ended with all that it started.
//!
//! - **Owns** what a program does not get to see, and how it is ended.
//! - **Does not** know why it runs: dumps of databases and hooks of backups are the callers'.
//!
//! # Invariants
//! - **G1** No program sees a variable of this one but the vault's place, for passphrases may stand in them; nor the credentials of S3,
//!   which open the sites.
//! - **G2** A program that is given up is asked to end, and ended a few seconds later, with its whole group.

use std::{
    ffi::OsStr,
    fmt, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// All variables of this program begin so.
const OWN: &str = "BLOCKHOUSE_";
/// The one that holds no secret and that a program may want.
const VAULT: &str = "BLOCKHOUSE_VAULT";
/// What the sites' credentials are read from beside the own ones.
const OF_SITES: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a program has after it was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// True for a variable of this program, or one that credentials of the sites stand in.
pub fn is_secret(variable: &OsStr) -> bool {
    let is_own = variable.as_encoded_bytes().starts_with(OWN.as_bytes()) && variable != VAULT;
    is_own || OF_SITES.iter().any(|secret| variable == *secret)
}

/// Takes what other programs must not know out of what `command` will see (G1).
pub fn without_secrets(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_secret(name)) {
        command.env_remove(name);
    }
    command
}

/// A program that runs. Dropped, it is ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

/// How waiting for a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It ran longer than it may, and was ended.
    TooLong,
    /// Somebody asked to stop, and it was ended.
    Stopped,
}

impl Running {
    /// Starts a program in a group of its own, without what it must not see.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_as_it_is(without_secrets(command))
    }

    /// The same, with the variables that the caller has chosen.
    pub fn start_as_it_is(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self { child, ended: None })
    }

    /// What it writes, if that was asked for.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end; without a limit as long as it takes.
    pub fn wait(&mut self, limit: Option<Duration>, is_stopped: &dyn Fn() -> bool) -> io::Result<Waited> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.look()? {
                return Ok(Waited::Ended(status));
            }
            let is_over = limit.is_some_and(|limit| begun.elapsed() >= limit);
            if is_over || is_stopped() {
                self.end();
                return Ok(if is_over { Waited::TooLong } else { Waited::Stopped });
            }
            std::thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Ends it with its group (G2). Nothing happens if it has ended.
    pub fn end(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if !matches!(self.look(), Ok(None)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }

    /// The group has the number of its first process, which nobody else gets while that was not waited for.
    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Fails only if all of them ended meanwhile.
        let _ = group.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a program ended, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HowEnded(pub ExitStatus);

impl fmt::Display for HowEnded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(out, "exit code {code}"),
            (None, Some(signal)) => write!(out, "ended by signal {signal}"),
            (None, None) => write!(out, "ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn how_a_program_ended_is_told() {
        let ended = |script: &str| match Running::start(&mut shell(script)).unwrap().wait(None, &|| false).unwrap() {
            Waited::Ended(status) => HowEnded(status).to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(ended("exit 7"), "exit code 7");
        assert_eq!(ended("kill -9 $$"), "ended by signal 9");
    }

    /// What a shell started goes with it: else a hanging grandchild would stay for ever.
    #[test]
    fn a_program_that_hangs_goes_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("grandchild");
        let script = format!("sleep 1000 & echo $! > {}.new; mv {0}.new {0}; wait", note.display());
        let mut running = Running::start(&mut shell(&script)).unwrap();
        assert_eq!(running.wait(None, &|| note.exists()).unwrap(), Waited::Stopped);
        let grandchild = std::fs::read_to_string(&note).unwrap();
        let is_gone = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", grandchild.trim()));
            state.map_or(true, |state| state.contains(") Z "))
        };
        let begun = Instant::now();
        while !is_gone() {
            assert!(begun.elapsed() < Duration::from_mins(1), "the grandchild still runs");
            std::thread::sleep(LOOK);
        }
        let mut stubborn = Running::start(&mut shell("trap '' TERM; while :; do sleep 0.1; done")).unwrap();
        assert_eq!(stubborn.wait(Some(Duration::from_millis(300)), &|| false).unwrap(), Waited::TooLong);
        assert!(stubborn.ended.is_some());
    }
}
