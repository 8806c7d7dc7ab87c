//! Many small files as people have them: the sources of Blockhouse's own dependencies, which are at hand wherever it is
//! built and the same everywhere, since `Cargo.lock` pins them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Entropy, create};
use crate::process;

/// Larger files are left out.
const FILE_MAX: u64 = 256 << 10;
/// The time of every file.
const MODIFIED: Duration = Duration::from_secs(1_700_000_000);

/// Copies package after package until there are `total` bytes, or no more packages.
pub(crate) fn generate(folder: &Path, total: u64) -> Result<()> {
    let mut copied = 0;
    for package in packages()? {
        if copied >= total {
            break;
        }
        let name = package.file_name().context("a package has no name")?;
        for file in files_below(&package)? {
            copied += copy(&package.join(&file), &folder.join(name).join(&file))?;
        }
    }
    ensure!(copied > 0, "the sources of the dependencies were not found");
    Ok(())
}

/// One file of a hundred gets 40 bytes in its middle; every twentieth is copied with another beginning.
pub(crate) fn change(folder: &Path) -> Result<u64> {
    let mut written = 0;
    let mut entropy = Entropy::new(12);
    let files = files_below(folder)?;
    let any = |entropy: &mut Entropy| files.get(entropy.index(files.len())).context("the folder holds no file");
    for _ in 0..(files.len() / 100).max(1) {
        let path = folder.join(any(&mut entropy)?);
        let mut content = read(&path)?;
        let at = entropy.index(content.len() + 1);
        content.splice(at..at, entropy.bytes(40));
        written += 40;
        fs::write(&path, content).with_context(|| format!("could not write {}", path.display()))?;
    }
    let new = folder.join("new");
    fs::create_dir_all(&new).with_context(|| format!("could not make {}", new.display()))?;
    for number in 0..(files.len() / 20).max(1) {
        let old = read(&folder.join(any(&mut entropy)?))?;
        let path = new.join(format!("{number:05}"));
        let content = [entropy.bytes(old.len() / 2), old].concat();
        written += content.len() as u64;
        create(&path)?.write_all(&content).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(written)
}

/// The folders of all dependencies that come from a registry, by name and version.
fn packages() -> Result<Vec<PathBuf>> {
    let output = process::cargo("metadata --format-version 1 --locked")?.output().context("could not start cargo")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    let outside = packages.iter().filter(|package| package.get("source").is_some_and(Value::is_string));
    let folders = outside.filter_map(|package| Path::new(package.get("manifest_path")?.as_str()?).parent());
    let mut folders: Vec<_> = folders.map(Path::to_owned).collect();
    folders.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(folders)
}

/// All regular files below a folder, relative to it, in the order of their paths.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut waiting, mut files) = (vec![PathBuf::new()], Vec::new());
    while let Some(below) = waiting.pop() {
        let listed = folder.join(&below);
        let entries = fs::read_dir(&listed).with_context(|| format!("could not list {}", listed.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("could not list {}", listed.display()))?;
            let kind = entry.file_type().with_context(|| format!("could not list {}", listed.display()))?;
            let path = below.join(entry.file_name());
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies content and nothing else, so that the copy is the same everywhere; returns its length.
fn copy(from: &Path, to: &Path) -> Result<u64> {
    let content = read(from)?;
    if content.len() as u64 > FILE_MAX {
        return Ok(0);
    }
    let parent = to.parent().context("a file has no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
    let mut file = create(to)?;
    file.write_all(&content)
        .and_then(|()| file.set_modified(SystemTime::UNIX_EPOCH + MODIFIED))
        .with_context(|| format!("could not write {}", to.display()))?;
    Ok(content.len() as u64)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}
