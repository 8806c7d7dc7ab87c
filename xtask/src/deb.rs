//! `./x deb`: the Debian package: binary, man pages, completions, systemd units, licences.
//!
//! - **Owns** what the package holds and where.
//! - **Does not** sign or publish it. The same commit gives the same files, times too.

mod licences;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use stage::Stage;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DebOptions {
    /// With which profile the binary is built; `ci` takes less time and makes a slower binary.
    pub(crate) profile: String,
    /// A binary that is there already, to be packed as it is.
    pub(crate) binary: Option<PathBuf>,
    /// The folder that the package goes into.
    pub(crate) out: Option<PathBuf>,
}

impl Default for DebOptions {
    fn default() -> Self {
        Self { profile: "release".to_owned(), binary: None, out: None }
    }
}

/// Builds the package and says where it is.
pub(crate) fn run(options: &DebOptions) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => process::build_blockhouse(&options.profile)?,
    };
    let out = match &options.out {
        Some(out) => std::path::absolute(out)?,
        None => process::target()?.join("debian"),
    };
    fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    let package = Package::of(&binary)?;
    let scratch = tempfile::tempdir().context("could not make a scratch folder")?;
    let stage = Stage::new(scratch.path(), package.time)?;
    fill(&stage, &package, &binary)?;
    let path = out.join(format!("blockhouse_{}_{}.deb", package.version, package.architecture));
    stage.settle()?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(stage.root()).arg(&path);
    process::call(build.env("SOURCE_DATE_EPOCH", package.time.to_string()))?;
    println!("{}", path.display());
    Ok(())
}

/// What the package says of itself.
struct Package {
    version: String,
    architecture: String,
    /// Seconds since 1970 of the commit, for every file.
    time: u64,
    /// The least C library that the binary runs with.
    libc: String,
}

impl Package {
    fn of(binary: &Path) -> Result<Self> {
        let told = text_of(Command::new(binary).arg("--version"))?;
        let version = told.split_whitespace().nth(1).context("the binary tells no version")?.to_owned();
        let architecture = text_of(Command::new("dpkg").arg("--print-architecture"))?;
        let bytes = fs::read(binary).with_context(|| format!("could not read {}", binary.display()))?;
        Ok(Self { version, architecture, time: time()?, libc: least_libc(&bytes)? })
    }
}

/// The time of the commit, or what packagers say it is.
fn time() -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().with_context(|| format!("SOURCE_DATE_EPOCH is `{given}`, which is no number of seconds"));
    }
    let told = text_of(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(process::root()?))?;
    told.parse().context("git tells no time of the commit")
}

/// What a command prints, without the end of the line.
fn text_of(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("could not start {}", command.get_program().display()))?;
    let program = command.get_program().display();
    ensure!(done.status.success(), "`{program}` failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// The highest version among the symbols that the binary wants of the C library.
fn least_libc(binary: &[u8]) -> Result<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let places = binary.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let minor = |at: usize| -> Option<u32> {
        let rest = binary.get(at + MARK.len()..)?;
        let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).ok()?.parse().ok()
    };
    let highest = places.filter_map(|(at, _)| minor(at)).max().context("the binary wants no C library")?;
    Ok(format!("2.{highest}"))
}

fn fill(stage: &Stage, package: &Package, binary: &Path) -> Result<()> {
    let root = process::root()?;
    stage.copy(binary, "usr/bin/blockhouse", 0o755)?;
    let strip = Command::new("strip").arg("--strip-unneeded").arg(stage.root().join("usr/bin/blockhouse")).status();
    if strip.is_err() {
        eprintln!("strip is not there: the package is larger than it need be");
    }
    for unit in fs::read_dir(root.join("packaging/systemd")).context("could not list packaging/systemd")? {
        let unit = unit?;
        let name = unit.file_name().into_string().ok().context("a unit has no name in UTF-8")?;
        stage.copy(&unit.path(), &format!("usr/lib/systemd/system/{name}"), 0o644)?;
    }
    man_pages(stage, binary)?;
    completions(stage, binary)?;
    let doc = "usr/share/doc/blockhouse";
    for page in ["README.md", "docs/reference/backup.md", "docs/reference/exit-codes.md", "docs/reference/json.md"] {
        let name = Path::new(page).file_name().context("a page has a name")?.to_string_lossy();
        stage.copy(&root.join(page), &format!("{doc}/{name}"), 0o644)?;
    }
    let changes = fs::read(root.join("CHANGELOG.md")).context("could not read CHANGELOG.md")?;
    stage.compressed(&format!("{doc}/changelog.gz"), &changes)?;
    stage.compressed(&format!("{doc}/changelog.Debian.gz"), debian_changes(package)?.as_bytes())?;
    stage.write(&format!("{doc}/copyright"), licences::copyright()?.as_bytes(), 0o644)?;
    stage.write("DEBIAN/control", control(stage, package)?.as_bytes(), 0o644)?;
    stage.write("DEBIAN/md5sums", stage.sums()?.as_bytes(), 0o644)
}

/// Those of the commands, if the binary makes them.
fn man_pages(stage: &Stage, binary: &Path) -> Result<()> {
    if !knows(binary, "man") {
        eprintln!("this binary makes no man pages: the package has none");
        return Ok(());
    }
    let pages = tempfile::tempdir()?;
    process::call(Command::new(binary).args(["man", "--out"]).arg(pages.path()))?;
    for page in fs::read_dir(pages.path())? {
        let page = page?;
        let name = page.file_name().into_string().ok().context("a page has no name in UTF-8")?;
        stage.compressed(&format!("usr/share/man/man1/{name}.gz"), &fs::read(page.path())?)?;
    }
    Ok(())
}

fn completions(stage: &Stage, binary: &Path) -> Result<()> {
    const SHELLS: [(&str, &str); 3] = [
        ("bash", "usr/share/bash-completion/completions/blockhouse"),
        ("zsh", "usr/share/zsh/vendor-completions/_blockhouse"),
        ("fish", "usr/share/fish/vendor_completions.d/blockhouse.fish"),
    ];
    if !knows(binary, "completions") {
        eprintln!("this binary makes no completions: the package has none");
        return Ok(());
    }
    for (shell, place) in SHELLS {
        let done = Command::new(binary).args(["completions", shell]).output()?;
        ensure!(done.status.success(), "completions for {shell}: {}", String::from_utf8_lossy(&done.stderr).trim());
        stage.write(place, &done.stdout, 0o644)?;
    }
    Ok(())
}

fn knows(binary: &Path, command: &str) -> bool {
    Command::new(binary).args([command, "--help"]).output().is_ok_and(|done| done.status.success())
}

fn control(stage: &Stage, package: &Package) -> Result<String> {
    let Package { version, architecture, libc, .. } = package;
    let size = stage.size()?.div_ceil(1024);
    Ok(format!(
        "Package: blockhouse
Version: {version}
Architecture: {architecture}
Maintainer: The Blockhouse engineers <noreply@blockhouse.invalid>
Installed-Size: {size}
Depends: libc6 (>= {libc}), libgcc-s1
Recommends: ca-certificates
Suggests: fuse3, openssh-client
Section: admin
Priority: optional
Description: verifiable backups over several sites, recorded on a ledger
 Backs up files, folders and streams to several places at once, erasure-coded so
 that any few of them may vanish, encrypted so that none of them can read, and
 recorded on a hash-linked ledger that proves what was backed up when.
"
    ))
}

fn debian_changes(package: &Package) -> Result<String> {
    let date =
        text_of(Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{}", package.time)))?;
    Ok(format!(
        "blockhouse ({}) unstable; urgency=medium

  * Built from this version's source; changelog.gz tells what changed.

 -- The Blockhouse engineers <noreply@blockhouse.invalid>  {date}
",
        package.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_c_library_is_the_highest_that_is_asked_for() {
        let binary = b"\0GLIBC_2.2.5\0GLIBC_2.34\0..GLIBC_2.9\0GLIBC_PRIVATE\0GLIBC_2.\0";
        assert_eq!(least_libc(binary).unwrap(), "2.34");
        assert!(least_libc(b"static").is_err());
    }

    /// Every unit names a program and options that are there; systemd itself is asked where it is installed.
    #[test]
    fn units_are_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
        let units: Vec<_> = fs::read_dir(&folder).unwrap().map(|unit| unit.unwrap().path()).collect();
        assert_eq!(units.len(), 6);
        for unit in &units {
            let text = fs::read_to_string(unit).unwrap();
            let is_service = unit.extension().is_some_and(|end| end == "service");
            assert_eq!(text.contains("ExecStart=/usr/bin/blockhouse "), is_service, "{}", unit.display());
            assert_eq!(text.contains("[Install]"), !is_service, "{}", unit.display());
            assert!(!is_service || text.contains("NoNewPrivileges=yes"), "{}", unit.display());
        }
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("NOT RUN: systemd-analyze is not there, units were not verified by it");
            return;
        }
        // It looks for the program, which is not installed here: another one stands in for it.
        let scratch = tempfile::tempdir().unwrap();
        for unit in &units {
            let text = fs::read_to_string(unit).unwrap().replace("/usr/bin/blockhouse", "/bin/true");
            let name = unit.file_name().unwrap().to_str().unwrap().replace("@.", "@home.");
            fs::write(scratch.path().join(&name), text).unwrap();
        }
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]);
        verify.args(fs::read_dir(scratch.path()).unwrap().map(|unit| unit.unwrap().path()));
        let done = verify.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("blockhouse")).collect();
        assert!(ours.is_empty(), "{said}");
        assert!(done.status.success(), "{said}");
    }
}
