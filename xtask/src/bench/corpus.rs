//! What is backed up: four kinds of data, the same bytes for everyone.
//!
//! | corpus | like | what it is hard for |
//! |---|---|---|
//! | chain | a Bitcoin node's `blk` files | nearly incompressible, large, grows at the end |
//! | tree | a source tree: that of the dependencies, pinned by `Cargo.lock` | many small files that resemble each other |
//! | words | many small files, generated | nothing to learn from one file about another; links |
//! | disk | a virtual machine's image | holes, zeros, repeats, small scattered changes |
//!
//! Changes between the second and the third backup: 5 % more, 1 % altered in place.

mod chain;
mod disk;
mod tree;
mod words;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::entropy::Entropy;
use super::{MIB, Size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Corpus {
    Chain,
    Tree,
    Words,
    Disk,
}

impl Corpus {
    const ALL: [Self; 4] = [Self::Chain, Self::Tree, Self::Words, Self::Disk];

    /// What is measured: the sizes that are published leave the generated words out, which show their floor in small as well.
    pub(crate) fn of(size: Size) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |corpus| size == Size::Small || *corpus != Self::Words)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Tree => "tree",
            Self::Words => "words",
            Self::Disk => "disk",
        }
    }

    /// Writes the corpus into a new folder.
    pub(crate) fn generate(self, folder: &Path, size: Size) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        match self {
            Self::Chain => chain::generate(folder, self.bytes(size)),
            Self::Tree => tree::generate(folder, self.bytes(size)),
            Self::Words => words::generate(folder, self.bytes(size), words_files(size)),
            Self::Disk => disk::generate(folder, self.bytes(size)),
        }
    }

    /// Changes the corpus as a day of use would; gives the bytes that were written.
    pub(crate) fn change(self, folder: &Path, size: Size) -> Result<u64> {
        match self {
            Self::Chain => chain::change(folder, self.bytes(size)),
            Self::Tree | Self::Words => tree::change(folder),
            Self::Disk => disk::change(folder, self.bytes(size)),
        }
    }

    fn bytes(self, size: Size) -> u64 {
        match (self, size) {
            (Self::Tree | Self::Words, Size::Small) => 32 * MIB,
            (_, Size::Small) => 96 * MIB,
            (Self::Chain, Size::Full) => 512 * MIB,
            (Self::Tree | Self::Words, Size::Full) => 190 * MIB,
            (Self::Disk, Size::Full) => 384 * MIB,
        }
    }
}

fn words_files(size: Size) -> u64 {
    match size {
        Size::Small => 2_000,
        Size::Full => 9_000,
    }
}

/// Overwrites one hundredth of a file, block by block, at places of the stream's choice; gives the bytes that were written.
fn overwrite(path: &Path, block: u64, entropy: &mut Entropy) -> Result<u64> {
    let mut write = || -> std::io::Result<u64> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        let piece = usize::try_from(block.min(length)).unwrap_or(usize::MAX);
        let blocks = (length / 100 / block).max(1);
        for _ in 0..blocks {
            let at = entropy.below(length / block) * block;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&entropy.bytes(piece))?;
        }
        Ok(blocks * piece as u64)
    };
    write().with_context(|| format!("could not change {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    File::create_new(path).with_context(|| format!("could not make {}", path.display()))
}

const WORDS: [&str; 36] = [
    "block", "state", "root", "account", "storage", "proof", "receipt", "header", "value", "index", "commit", "verify",
    "restore", "chunk", "the", "of", "and", "to", "in", "is", "that", "for", "with", "as", "on", "be", "by", "this",
    "are", "from", "at", "or", "an", "it", "not", "have",
];

/// That many words, joined by spaces.
fn text(words: usize, entropy: &mut Entropy) -> Vec<u8> {
    let mut text = Vec::with_capacity(words * 6);
    for choice in entropy.bytes(words) {
        text.extend_from_slice(WORDS.get(usize::from(choice) % WORDS.len()).unwrap_or(&"").as_bytes());
        text.push(b' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::compare::Tree;
    use super::{Corpus, Size, chain, disk, tree, words};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn twice(make: impl Fn(&Path)) {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(first.path());
        make(second.path());
        let difference = Tree::read(first.path()).unwrap().difference(&Tree::read(second.path()).unwrap());
        assert_eq!(difference.content, Vec::<String>::new());
    }

    #[test]
    fn corpora_are_the_same_each_time_also_after_the_change() {
        twice(|folder| {
            chain::generate(folder, 3 << 20).unwrap();
            chain::change(folder, 3 << 20).unwrap();
        });
        twice(|folder| {
            words::generate(folder, 1 << 20, 100).unwrap();
            tree::change(folder).unwrap();
        });
        twice(|folder| {
            tree::generate(folder, 1 << 20).unwrap();
            tree::change(folder).unwrap();
        });
        twice(|folder| {
            disk::generate(folder, 20 << 20).unwrap();
            disk::change(folder, 20 << 20).unwrap();
        });
    }

    #[test]
    fn the_change_is_seen() {
        for corpus in Corpus::ALL {
            let folder = tempfile::tempdir().unwrap();
            corpus.generate(folder.path(), Size::Small).unwrap();
            let before = Tree::read(folder.path()).unwrap();
            corpus.change(folder.path(), Size::Small).unwrap();
            assert!(!before.difference(&Tree::read(folder.path()).unwrap()).content.is_empty(), "{}", corpus.name());
        }
    }

    #[test]
    fn the_disk_has_holes() {
        let folder = tempfile::tempdir().unwrap();
        disk::generate(folder.path(), 20 << 20).unwrap();
        let facts = std::fs::metadata(folder.path().join("disk.img")).unwrap();
        assert_eq!(facts.len(), 20 << 20);
        assert!(facts.blocks() * 512 < facts.len() * 9 / 10, "{} blocks", facts.blocks());
    }
}
