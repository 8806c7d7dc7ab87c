//! What a file system has promised to keep.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Luck;
use crate::disk::split;

/// What a name stands for: a file by its number, or a folder by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Folder,
}

#[derive(Debug, Default)]
struct FileState {
    written: Vec<u8>,
    synced: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct FolderState {
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    /// Changes since the last sync, in their order; none is a removal.
    pending: Vec<(String, Option<Entry>)>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    files: Vec<FileState>,
    /// The kernel gives the inode number of a removed file to a new one, so only the latest owner counts.
    by_inode: HashMap<u64, usize>,
    folders: BTreeMap<String, FolderState>,
}

impl Model {
    pub(super) fn create(&mut self, path: &str, inode: u64) {
        let file = self.files.len();
        self.files.push(FileState::default());
        self.by_inode.insert(inode, file);
        self.set(path, Some(Entry::File(file)));
    }

    pub(super) fn write(&mut self, inode: u64, bytes: &[u8]) {
        if let Some(file) = self.file(inode) {
            file.written.extend_from_slice(bytes);
        }
    }

    pub(super) fn sync_file(&mut self, inode: u64) {
        if let Some(file) = self.file(inode) {
            file.synced = Some(file.written.clone());
        }
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.link(from, to);
        self.set(from, None);
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        let entry = self.get(from);
        self.set(to, entry);
    }

    pub(super) fn unlink(&mut self, path: &str) {
        self.set(path, None);
    }

    pub(super) fn make_folder(&mut self, path: &str) {
        self.set(path, Some(Entry::Folder));
    }

    pub(super) fn sync_folder(&mut self, path: &str) {
        let folder = self.folders.entry(path.to_owned()).or_default();
        folder.durable = folder.now.clone();
        folder.pending.clear();
    }

    fn file(&mut self, inode: u64) -> Option<&mut FileState> {
        self.by_inode.get(&inode).and_then(|file| self.files.get_mut(*file))
    }

    fn get(&self, path: &str) -> Option<Entry> {
        let (folder, name) = split(path);
        self.folders.get(folder)?.now.get(name).copied()
    }

    fn set(&mut self, path: &str, entry: Option<Entry>) {
        let (folder, name) = split(path);
        let folder = self.folders.entry(folder.to_owned()).or_default();
        apply(&mut folder.now, name, entry);
        folder.pending.push((name.to_owned(), entry));
    }

    pub(super) fn survivors(&self, luck: Luck, into: &Path) -> io::Result<()> {
        let mut dice = match luck {
            Luck::Seeded(seed) => Dice::Thrown(Box::new(StdRng::seed_from_u64(seed))),
            Luck::None => Dice::Always(false),
            Luck::All => Dice::Always(true),
        };
        self.write_folder("", &mut dice, into)
    }

    fn write_folder(&self, path: &str, dice: &mut Dice, into: &Path) -> io::Result<()> {
        let Some(folder) = self.folders.get(path) else { return Ok(()) };
        let mut names = folder.durable.clone();
        for (name, entry) in &folder.pending {
            if dice.is_lucky() {
                apply(&mut names, name, *entry);
            }
        }
        for (name, entry) in names {
            let target = into.join(&name);
            match entry {
                Entry::Folder => {
                    fs::create_dir(&target)?;
                    let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                    self.write_folder(&below, dice, &target)?;
                }
                Entry::File(file) => {
                    let state = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
                    fs::write(target, dice.content(state))?;
                }
            }
        }
        Ok(())
    }
}

fn apply(names: &mut BTreeMap<String, Entry>, name: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(name.to_owned(), entry),
        None => names.remove(name),
    };
}

enum Dice {
    Always(bool),
    Thrown(Box<StdRng>),
}

impl Dice {
    fn is_lucky(&mut self) -> bool {
        match self {
            Self::Always(lucky) => *lucky,
            Self::Thrown(random) => random.random(),
        }
    }

    /// What is left of a file's bytes.
    fn content(&mut self, file: &FileState) -> Vec<u8> {
        let synced = file.synced.clone().unwrap_or_default();
        if synced == file.written || !self.is_lucky() {
            return synced;
        }
        let Self::Thrown(random) = self else { return file.written.clone() };
        let length = random.random_range(synced.len()..=file.written.len());
        let mut bytes: Vec<u8> = file.written.iter().copied().take(length).collect();
        // The length of a file can be durable before its bytes are.
        if random.random() {
            bytes.iter_mut().skip(synced.len()).for_each(|byte| *byte = 0);
        }
        bytes
    }
}
