//! A vault in a temporary folder, and the binary that works on it.
//!
//! - **Owns** where things are, how the binary is called, and what is demanded of every call.
//!
//! # Invariants
//! - **W1** No call panics, and none ends by a signal that the test did not send.
//! - **W2** A call sees no `BLOCKHOUSE_…` variable of the tester, and never a terminal.
//! - **W3** What a call with `--json` writes is what the page of JSON says.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

/// How a command ends, as the manual lists it.
pub mod exit {
    /// Done.
    pub const DONE: i32 = 0;
    /// Failed.
    pub const FAILED: i32 = 1;
    /// Wrong usage.
    pub const USAGE: i32 = 2;
    /// Some source files could not be read, or something could not be restored.
    pub const UNREADABLE: i32 = 3;
    /// A check failed.
    pub const CHECK: i32 = 4;
    /// Not allowed.
    pub const NOT_ALLOWED: i32 = 5;
    /// The ledger or its nodes cannot be reached.
    pub const UNREACHABLE: i32 = 6;
    /// Recorded but degraded.
    pub const DEGRADED: i32 = 7;
    /// No vault.
    pub const NO_VAULT: i32 = 10;
    /// Another process is at it.
    pub const BUSY: i32 = 11;
    /// Wrong passphrase.
    pub const PASSPHRASE: i32 = 12;
}

/// A temporary folder with sites, a vault and whatever a test adds.
#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// A folder with nothing in it but the one for sites.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("blockhouse-").tempdir().unwrap();
        fs::create_dir(folder.path().join("sites")).unwrap();
        Self { folder }
    }

    /// A vault over `sites` sites with the code that suits their number, its identity without a passphrase.
    pub fn with_sites(sites: usize) -> Self {
        let world = Self::empty();
        world.init(sites).run().expect(exit::DONE);
        world
    }

    /// The call that makes the vault.
    pub fn init(&self, sites: usize) -> Call {
        let mut call = self.call("init --no-passphrase --identity-out").arg(self.identity());
        call = call.arg("--paper-key-out").arg(self.paper_key());
        for number in 1..=sites {
            call = call.arg("--site").arg(self.site(number));
        }
        call
    }

    /// Something in the world's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The vault folder.
    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// The identity file.
    pub fn identity(&self) -> PathBuf {
        self.path("identity")
    }

    /// The file of the paper key.
    pub fn paper_key(&self) -> PathBuf {
        self.path("paper-key")
    }

    /// The folder of a site; they are numbered from 1 and named `site-1` and so on.
    pub fn site(&self, number: usize) -> PathBuf {
        self.path("sites").join(format!("site-{number}"))
    }

    /// A call of the binary on this vault; the words are split at spaces.
    pub fn call(&self, words: &str) -> Call {
        let mut call = self.outside(words);
        call.command.env("BLOCKHOUSE_VAULT", self.vault());
        call
    }

    /// A call with the identity.
    pub fn unlocked(&self, words: &str) -> Call {
        let mut call = self.call(words);
        call.command.env("BLOCKHOUSE_IDENTITY", self.identity());
        call
    }

    /// A call that is told of no vault, in a folder without one.
    pub fn outside(&self, words: &str) -> Call {
        Call::new(self.folder.path(), words)
    }

    /// Backs a folder up; it must succeed.
    pub fn back_up(&self, source: &Path) -> Output {
        self.call("backup --json").arg(source).run().expect(exit::DONE)
    }

    /// Restores a snapshot to a new folder of this name and gives the folder.
    pub fn restore(&self, snapshot: &str, name: &str) -> PathBuf {
        let to = self.path(name);
        self.unlocked("restore --json").arg(snapshot).arg("--to").arg(&to).run().expect(exit::DONE);
        to
    }

    /// Restores a snapshot, compares it with `expected` and removes it again.
    pub fn expect_restores(&self, snapshot: &str, expected: &Path) {
        let name = format!("restored-{:016x}", rand::random::<u64>());
        let restored = self.restore(snapshot, &name);
        crate::tree::assert_equal(expected, &restored);
        crate::tree::remove(&restored);
    }

    /// The ids of all snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<String> {
        let listed = self.call("snapshots --json").run().expect(exit::DONE);
        listed.lines().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The fingerprint that `status` shows.
    pub fn fingerprint(&self) -> String {
        self.call("status --json").run().text("fingerprint")
    }

    /// Takes a site away; it comes back with [`World::bring_back`].
    pub fn take_away(&self, number: usize) {
        fs::rename(self.site(number), self.path(&format!("away-{number}"))).unwrap();
    }

    /// Brings a site back.
    pub fn bring_back(&self, number: usize) {
        fs::rename(self.path(&format!("away-{number}")), self.site(number)).unwrap();
    }

    /// Destroys a site with its folder.
    pub fn destroy(&self, number: usize) {
        fs::remove_dir_all(self.site(number)).unwrap();
    }
}

/// The binary under test: it lies beside the tests' own folder, where cargo built it.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let binary = own.parent().and_then(Path::parent).unwrap().join("blockhouse");
    assert!(binary.is_file(), "{} is not there: run cargo build --profile ci -p blockhouse first", binary.display());
    binary
}

/// One call of the binary, while it is put together.
#[derive(Debug)]
pub struct Call {
    command: Command,
}

impl Call {
    fn new(folder: &Path, words: &str) -> Self {
        let mut command = Command::new(binary());
        command.args(words.split_whitespace()).current_dir(folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BLOCKHOUSE_") {
                command.env_remove(name);
            }
        }
        // Nothing of the tester's own home is found or written.
        command.env("HOME", folder);
        Self { command }
    }

    /// The same call, made by another program: its words come first, then the binary and what it was given.
    #[must_use]
    pub fn under(self, program: &str, words: &[&OsStr]) -> Self {
        let mut command = Command::new(program);
        command.args(words).arg(self.command.get_program()).args(self.command.get_args()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments, split at spaces.
    #[must_use]
    pub fn args(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads on its standard input.
    #[must_use]
    pub fn reading(mut self, input: fs::File) -> Self {
        self.command.stdin(input);
        self
    }

    /// Its current folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to its end, which must be its own.
    #[must_use = "how it ended is the test"]
    pub fn run(self) -> Output {
        let arguments: Vec<String> = self.command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let is_ours = Path::new(self.command.get_program()) == binary();
        let output = self.spawn().finish();
        assert!(output.status.code().is_some(), "{} was ended by {}", output.line, output.status);
        if is_ours && arguments.iter().any(|word| word == "--json") {
            output.is_as_the_page_says(&arguments);
        }
        output
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let line = line(&self.command);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().unwrap_or_else(|error| panic!("could not start `{line}`: {error}"));
        Running { line, child }
    }
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// A call that runs.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
}

impl Running {
    /// Ends it as kill -9 does. Nothing happens if it has ended.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        let own = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
    }

    /// The same for the binary where another program started it; that program sees the end and ends too.
    pub fn kill_traced(&self) {
        let tracer = self.child.id();
        let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
        for child in children.split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            // It may have ended by itself.
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
    }

    /// Waits for its end.
    pub fn finish(self) -> Output {
        let Self { line, child } = self;
        let done = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{line} panicked:\n{stderr}");
        let by_signal = done.status.signal();
        assert!(matches!(by_signal, None | Some(9)), "{line} was ended by signal {by_signal:?}:\n{stderr}");
        Output { line, status: done.status, stdout: done.stdout, stderr }
    }
}

/// What a call left.
#[derive(Debug)]
pub struct Output {
    /// The call, as it could be typed.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its data.
    pub stdout: Vec<u8>,
    /// Its talk.
    pub stderr: String,
}

impl Output {
    /// Its exit code; −1 if it was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Demands an exit code.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "most calls are made for the demand alone")]
    pub fn expect(self, code: i32) -> Self {
        let text = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code(), code, "{}\nstdout: {text}\nstderr: {}", self.line, self.stderr);
        self
    }

    /// Demands one clear error with this exit code, and that it names `what`.
    #[track_caller]
    pub fn refuses(self, code: i32, what: &str) {
        let refused = self.expect(code);
        let errors = refused.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "{} should say one error:\n{}", refused.line, refused.stderr);
        assert!(refused.says(what), "{} should name `{what}`:\n{}", refused.line, refused.stderr);
    }

    /// True if its talk has these words, whatever their case; lines are joined, for long ones may be wrapped.
    pub fn says(&self, words: &str) -> bool {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        flat(&self.stderr).contains(&flat(words))
    }

    /// The whole JSON objects on its stdout.
    pub fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.stdout);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// W3: every line of JSON is as `docs/reference/json.md` says. Data that is no JSON, as of `dump`, is not looked at.
    fn is_as_the_page_says(&self, arguments: &[String]) {
        let text = String::from_utf8_lossy(&self.stdout);
        for line in text.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
            let faults = crate::schema::Schema::page().faults(arguments, &value);
            assert!(faults.is_empty(), "{}: docs/reference/json.md says otherwise of {value}: {faults:#?}", self.line);
        }
    }

    /// The summary, if it came so far.
    pub fn try_summary(&self) -> Option<Value> {
        self.lines().into_iter().find(|line| line["type"] == "summary")
    }

    /// The summary.
    #[track_caller]
    pub fn summary(&self) -> Value {
        self.try_summary().unwrap_or_else(|| panic!("{} gave no summary:\n{}", self.line, self.stderr))
    }

    /// A number of its last line.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = self.last();
        value[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {value}"))
    }

    /// A text of its last line.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        let value = self.last();
        value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}")).to_owned()
    }

    #[track_caller]
    fn last(&self) -> Value {
        self.lines().pop().unwrap_or_else(|| panic!("{} wrote nothing:\n{}", self.line, self.stderr))
    }

    /// The snapshot that a backup made.
    #[track_caller]
    pub fn snapshot(&self) -> String {
        self.text("snapshot")
    }
}
