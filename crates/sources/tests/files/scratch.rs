//! Folders to try things in, and users to try them as.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use blockhouse_sources::files::{FilesSource, Options};
use rustix::{
    process::geteuid,
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// A folder that other users may enter. Removed by `rm`, which goes as deep as it takes.
pub(crate) struct Scratch(Option<tempfile::TempDir>);

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(Some(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    pub(crate) fn folder(&self, name: &str) -> std::path::PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = self.0.take().unwrap().keep();
        // Folders without the right to write keep everyone but root from emptying them.
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&path).stderr(Stdio::null()).status();
        let _ = Command::new("rm").arg("-rf").arg(path).status();
    }
}

pub(crate) fn source(root: &Path) -> FilesSource {
    source_with(root, &[])
}

pub(crate) fn source_with(root: &Path, excludes: &[&str]) -> FilesSource {
    let excludes = excludes.iter().map(|&pattern| pattern.to_owned()).collect();
    FilesSource::try_new(&[root.to_owned()], &Options { excludes, ..Options::default() }).unwrap()
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Runs something as a user without rights; as itself where this is one already. On Linux a thread may have another
/// user than its process.
pub(crate) fn as_nobody<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if is_root() {
                    let (user, group) =
                        (rustix::process::Uid::from_raw(65_534), rustix::process::Gid::from_raw(65_534));
                    set_thread_groups(&[]).unwrap();
                    set_thread_res_gid(group, group, group).unwrap();
                    set_thread_res_uid(user, user, user).unwrap();
                }
                run()
            })
            .join()
            .unwrap()
    })
}

/// Says what is not run, past the test harness, which swallows the words of tests that pass.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    // Who closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "\nNOT RUN: {}, or a part of it: {why}", thread.name().unwrap_or("a test"));
}

/// A program that anyone can install is demanded, unless `BLOCKHOUSE_WAIVE` names it.
#[track_caller]
pub(crate) fn is_there(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let waived = std::env::var("BLOCKHOUSE_WAIVE").unwrap_or_default();
    let is_waived = waived.split(',').any(|word| word.trim() == program);
    assert!(
        found || is_waived,
        "this test needs {program}: apt-get install {package}; or set BLOCKHOUSE_WAIVE={program} to go without"
    );
    if !found {
        skip(&format!("{program} is waived"));
    }
    found
}

#[track_caller]
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> bool {
    is_there(program, package) && Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}
