//! Data folders of running engines, played by processes that hold the same locks and files.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use blockhouse_sources::files::{CaptureError, FilesSource, LiveRemedy, LiveSource, Options, Seen};
use rustix::fs::{FlockOperation, flock};

use crate::scratch::{Scratch, as_nobody, is_root, is_there, skip, source, source_with};

/// A process that does something to files and then waits; it ends when this is dropped.
struct Holder(Child);

impl Holder {
    /// Runs Python: `paths` are `sys.argv[1:]`. None if there is no Python, and that is waived.
    #[track_caller]
    fn start(program: &str, paths: &[&Path]) -> Option<Self> {
        if !is_there("python3", "python3") {
            return None;
        }
        let program = format!("import sys\n{program}\nprint('ready', flush=True)\nsys.stdin.read()");
        let mut command = Command::new("python3");
        command.arg("-c").arg(program).args(paths).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let holder = Self(child);
        assert_eq!(line, "ready\n", "python3 with its modules fcntl and sqlite3 holds the file");
        Some(holder)
    }

    fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FLOCK: &str = "import fcntl; f = open(sys.argv[1], 'rb'); fcntl.flock(f, fcntl.LOCK_EX)";
const POSIX: &str = "import fcntl; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX)";
const OF_DESCRIPTION: &str = "import fcntl, struct; f = open(sys.argv[1], 'r+b'); \
    fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))";

fn files(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        fs::write(folder.join(name), "").unwrap();
    }
}

fn live(source: &FilesSource) -> Option<LiveSource> {
    match source.capture() {
        Ok(_) => None,
        Err(CaptureError::Live(live)) => Some(live),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_held_lock_of_any_kind_refuses() {
    for (program, name, beside) in
        [(FLOCK, "LOCK", "CURRENT"), (POSIX, ".lock", "blocks"), (OF_DESCRIPTION, "mdbx.lck", "mdbx.dat")]
    {
        let scratch = Scratch::new();
        let folder = scratch.path().join("home/node/data");
        files(&folder, &[name, beside]);
        let source = source(scratch.path());
        assert_eq!(live(&source), None, "{name} without a holder");
        let Some(holder) = Holder::start(program, &[&folder.join(name)]) else { return };
        let live = live(&source).unwrap();
        assert_eq!((live.path.clone(), live.seen), (folder.canonicalize().unwrap().join(name), Seen::Locked));
        assert_eq!(live.process.as_ref().unwrap().id, holder.id());
        assert!(live.to_string().contains(&format!("process {}", holder.id())), "{live}");
        let LiveRemedy::StopExcludeOrAllow { folder: excluded, .. } = live.remedy();
        assert_eq!(excluded, folder.canonicalize().unwrap());
    }
}

#[test]
fn a_lock_of_another_user_refuses_too() {
    if !is_root() {
        return skip("needs root to have a process of another user");
    }
    for (program, name, beside) in [(FLOCK, "LOCK", "CURRENT"), (POSIX, ".lock", "blocks")] {
        let scratch = Scratch::new();
        files(scratch.path(), &[name, beside]);
        let source = source(scratch.path());
        let Some(_holder) = Holder::start(program, &[&scratch.path().join(name)]) else { return };
        let seen = as_nobody(|| live(&source).map(|live| live.seen));
        assert_eq!(seen, Some(Seen::Locked));
    }
}

#[test]
fn a_database_file_open_for_writing_refuses() {
    let scratch = Scratch::new();
    files(scratch.path(), &["LOCK", "MANIFEST-000001", "CURRENT"]);
    let manifest = scratch.path().join("MANIFEST-000001");
    let source = source(scratch.path());
    {
        let Some(_reader) = Holder::start("f = open(sys.argv[1], 'rb')", &[&manifest]) else { return };
        assert_eq!(live(&source), None);
    }
    let _writer = Holder::start("f = open(sys.argv[1], 'r+b')", &[&manifest]).unwrap();
    assert_eq!(live(&source).unwrap().seen, Seen::OpenForWriting);
}

#[test]
fn an_open_sqlite_database_refuses() {
    let scratch = Scratch::new();
    let database = scratch.path().join("state.anything");
    let program = "import sqlite3; d = sqlite3.connect(sys.argv[1]); d.execute('pragma journal_mode = wal'); \
        d.execute('create table if not exists t (x)'); d.commit()";
    let Some(holder) = Holder::start(program, &[&database]) else { return };
    for source in [source(scratch.path()), source(&database)] {
        let live = live(&source).unwrap();
        assert_eq!(live.process.unwrap().id, holder.id());
    }
    drop(holder);
    assert_eq!(live(&source(scratch.path())), None, "the log that a killed writer leaves is no writer");
}

#[test]
fn a_process_number_counts_if_the_process_bears_the_name() {
    let scratch = Scratch::new();
    files(scratch.path(), &["PG_VERSION", "postmaster.pid"]);
    let number = scratch.path().join("postmaster.pid");
    let source = source(scratch.path());
    let as_server = "import os; open('/proc/self/comm', 'w').write('postgres'); \
        open(sys.argv[1], 'w').write(f'{os.getpid()}\\n/var/lib\\n')";
    let Some(server) = Holder::start(as_server, &[&number]) else { return };
    let found = live(&source).unwrap();
    assert_eq!((found.process.unwrap().id, found.seen), (server.id(), Seen::NamesProcess));
    drop(server);
    assert_eq!(live(&source), None, "a stale number");
    let other = "import os; open(sys.argv[1], 'w').write(f'{os.getpid()}\\n')";
    let _other = Holder::start(other, &[&number]).unwrap();
    assert_eq!(live(&source), None, "the number of another program");
}

#[test]
fn ordinary_locked_and_open_files_do_not_refuse() {
    let scratch = Scratch::new();
    let names = ["report.odt", ".~lock.report.odt#", ".lock", "LOCK", "build.log"];
    files(scratch.path(), &names);
    let program =
        "import fcntl; fs = [open(p, 'r+b') for p in sys.argv[1:]]\nfor f in fs: fcntl.flock(f, fcntl.LOCK_EX)";
    let paths = names.map(|name| scratch.path().join(name));
    let paths: Vec<_> = paths.iter().map(std::path::PathBuf::as_path).collect();
    let Some(_holder) = Holder::start(program, &paths) else { return };
    assert_eq!(live(&source(scratch.path())), None);
}

#[test]
fn what_is_excluded_or_allowed_does_not_refuse() {
    let scratch = Scratch::new();
    files(&scratch.path().join("node"), &["LOCK", "CURRENT"]);
    let Some(_holder) = Holder::start(FLOCK, &[&scratch.path().join("node/LOCK")]) else { return };
    assert!(live(&source(scratch.path())).is_some());
    assert_eq!(live(&source_with(scratch.path(), &["node/"])), None);
    let options = Options { allow_live: true, ..Options::default() };
    let allowed = FilesSource::try_new(&[scratch.path().to_owned()], &options).unwrap();
    assert_eq!(live(&allowed), None);
    assert!(allowed.capture().unwrap().check_still_quiet().is_ok());
}

#[test]
fn the_own_locks_of_this_process_do_not_refuse() {
    let scratch = Scratch::new();
    files(scratch.path(), &["ledger.redb"]);
    let file = fs::File::open(scratch.path().join("ledger.redb")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    assert_eq!(live(&source(scratch.path())), None);
    let Some(_other) = Holder::start("f = open(sys.argv[1], 'rb')", &[&scratch.path().join("ledger.redb")]) else {
        return;
    };
    assert_eq!(live(&source(scratch.path())), None);
}

#[test]
fn an_engine_that_starts_during_the_capture_is_noticed() {
    let scratch = Scratch::new();
    files(scratch.path(), &["LOCK", "CURRENT"]);
    let source = source(scratch.path());
    let capture = source.capture().unwrap();
    assert!(capture.check_still_quiet().is_ok());
    let Some(_holder) = Holder::start(FLOCK, &[&scratch.path().join("LOCK")]) else { return };
    assert!(capture.check_still_quiet().is_err());
}
