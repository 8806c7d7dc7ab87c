//! What no tool gets below on the `words` corpus, measured, so that its figures can be judged.
//!
//! Three of ten of its files are entropy and keep their length whatever is done to them. The others are words in random
//! order, of which a compressor learns the list and nothing more: zstd at level 19, on blocks as long as our chunks are on
//! average, shows what that is worth. No tool backs up at that level; a gate in the shape "less than borg" would ask for
//! fewer bytes than there is information.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::compare::bytes_below;

/// Text is compressed in pieces of this length.
const BLOCK: usize = 128 << 10;
const LEVEL: i32 = 19;
/// No more text than this is compressed, evenly spread: the words are alike everywhere, and level 19 is slow.
const SAMPLE: u64 = 48 << 20;

/// The floor of one folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Floor {
    /// Bytes of files that do not shrink.
    pub(crate) incompressible: u64,
    /// Bytes of files that are text.
    pub(crate) text: u64,
    /// What the text shrinks to.
    pub(crate) compressed_text: u64,
}

impl Floor {
    /// Measures a folder in which every file is either text or entropy.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let stride = (bytes_below(folder)? / SAMPLE).max(1);
        let mut text = Text { waiting: Vec::with_capacity(2 * BLOCK), stride, blocks: 0, plain: 0, compressed: 0 };
        let mut floor = Self::default();
        for file in files(folder)? {
            let bytes = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
            if bytes.is_ascii() {
                floor.text += bytes.len() as u64;
                text.add(&bytes)?;
            } else {
                floor.incompressible += bytes.len() as u64;
            }
        }
        text.end()?;
        let scaled = u128::from(text.compressed) * u128::from(floor.text) / u128::from(text.plain.max(1));
        floor.compressed_text = u64::try_from(scaled).unwrap_or(u64::MAX);
        Ok(floor)
    }

    /// What is left at least.
    pub(crate) fn bytes(&self) -> u64 {
        self.incompressible + self.compressed_text
    }
}

/// The text of all files, one after another, in blocks of which some are compressed.
struct Text {
    waiting: Vec<u8>,
    /// One block of so many is compressed.
    stride: u64,
    blocks: u64,
    plain: u64,
    compressed: u64,
}

impl Text {
    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.waiting.len() + bytes.len() >= BLOCK {
            let (now, later) = bytes.split_at(BLOCK - self.waiting.len());
            self.waiting.extend_from_slice(now);
            self.block()?;
            bytes = later;
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.block() }
    }

    fn block(&mut self) -> Result<()> {
        if self.blocks.is_multiple_of(self.stride) {
            let small = zstd::bulk::compress(&self.waiting, LEVEL).context("could not compress a block")?;
            self.plain += self.waiting.len() as u64;
            self.compressed += small.len() as u64;
        }
        self.blocks += 1;
        self.waiting.clear();
        Ok(())
    }
}

/// The files below a folder in the order of their paths, hard links once, symbolic links left out.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    use std::os::unix::fs::MetadataExt;
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_owned()]);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder)
            .and_then(Iterator::collect)
            .map(|entries: Vec<fs::DirEntry>| entries.into_iter().map(|entry| entry.path()).collect())
            .with_context(|| format!("could not list {}", folder.display()))?;
        entries.sort();
        for path in entries {
            let facts = fs::symlink_metadata(&path).with_context(|| format!("could not read {}", path.display()))?;
            if facts.is_dir() {
                waiting.push(path);
            } else if facts.is_file() && seen.insert((facts.dev(), facts.ino())) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::entropy::Entropy;
    use super::{BLOCK, Floor};
    use std::fs;

    #[test]
    fn entropy_keeps_its_length_and_text_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        let noise = Entropy::new(1).bytes(300_000);
        let text = b"a few words, again and again ".repeat(20_000);
        fs::write(folder.path().join("noise"), &noise).unwrap();
        fs::write(folder.path().join("text"), &text).unwrap();
        fs::hard_link(folder.path().join("text"), folder.path().join("link")).unwrap();
        let floor = Floor::of(folder.path()).unwrap();
        assert_eq!((floor.incompressible, floor.text), (300_000, text.len() as u64));
        let blocks = text.len().div_ceil(BLOCK) as u64;
        assert!(floor.compressed_text >= blocks && floor.compressed_text < text.len() as u64 / 100);
        assert_eq!(floor.bytes(), floor.incompressible + floor.compressed_text);
    }

    #[test]
    fn nothing_has_no_floor() {
        assert_eq!(Floor::of(tempfile::tempdir().unwrap().path()).unwrap(), Floor::default());
    }
}
