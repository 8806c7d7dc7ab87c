//! The tree of a package before it is packed: files with their modes, all of one time.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

/// The tree.
pub(super) struct Stage {
    root: PathBuf,
    time: SystemTime,
}

impl Stage {
    /// An empty tree in a scratch folder.
    pub(super) fn new(scratch: &Path, time: u64) -> Result<Self> {
        let root = scratch.join("blockhouse");
        fs::create_dir(&root)?;
        Ok(Self { root, time: SystemTime::UNIX_EPOCH + Duration::from_secs(time) })
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a file.
    pub(super) fn write(&self, place: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(place);
        let folder = path.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds a copy of a file.
    pub(super) fn copy(&self, from: &Path, place: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        self.write(place, &bytes, mode)
    }

    /// Adds a file that is compressed, without a name or a time in it.
    pub(super) fn compressed(&self, place: &str, bytes: &[u8]) -> Result<()> {
        let mut gzip = Command::new("gzip");
        let mut child =
            gzip.args(["-9n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("could not start gzip")?;
        let mut input = child.stdin.take().context("gzip takes no input")?;
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let done = child.wait_with_output()?;
        writer.join().ok().context("the thread that feeds gzip ended early")??;
        ensure!(done.status.success(), "gzip failed: {}", done.status);
        self.write(place, &done.stdout, 0o644)
    }

    /// The sums of all files but those about the package.
    pub(super) fn sums(&self) -> Result<String> {
        let mut sums = String::new();
        for path in self.files()? {
            let place = path.strip_prefix(&self.root)?.to_owned();
            if place.starts_with("DEBIAN") {
                continue;
            }
            let told = super::text_of(Command::new("md5sum").arg("--").arg(&path))?;
            let sum = told.split_whitespace().next().context("md5sum tells no sum")?.to_owned();
            writeln!(sums, "{sum}  {}", place.display())?;
        }
        Ok(sums)
    }

    /// The bytes of all files.
    pub(super) fn size(&self) -> Result<u64> {
        self.files()?.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
    }

    /// Gives everything its mode and its time.
    pub(super) fn settle(&self) -> Result<()> {
        let mut waiting = vec![self.root.clone()];
        let mut folders = Vec::new();
        while let Some(folder) = waiting.pop() {
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    File::open(&path)?.set_modified(self.time)?;
                }
            }
            folders.push(folder);
        }
        folders.iter().try_for_each(|folder| Ok(File::open(folder)?.set_modified(self.time)?))
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut waiting, mut files) = (vec![self.root.clone()], Vec::new());
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() { waiting.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        Ok(files)
    }
}
