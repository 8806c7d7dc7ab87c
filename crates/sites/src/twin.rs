//! Test support: a disk that loses its power.
//!
//! - **Owns** a model of what a file system has promised: the bytes of a file as of its last sync, the names of a
//!   folder as of its last sync, and everything since then as *maybe*.
//! - **Does not** fake the calls: they go to a real folder through [`RealDisk`], so reads see what they would see. Syncs
//!   alone are not passed on: the model decides what survives, and thousands of losses are tried in seconds.
//!
//! # Invariants
//! - **P1** [`Luck::None`] leaves what was synced and nothing else. Any other luck leaves a random choice of what the
//!   standard allows: each change of a name since the folder's sync came through or not, independently, also the two
//!   halves of a rename; bytes of a file since its sync are there, missing, cut, or zeros.

mod model;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskCall, FolderEntry, RealDisk, Space};

use model::Model;

/// Which of the unsynced effects survive a loss of power.
#[derive(Debug, Clone, Copy)]
pub enum Luck {
    /// None.
    None,
    /// All.
    All,
    /// A choice that depends on the seed.
    Seeded(u64),
}

/// A disk that forgets what was not synced.
#[derive(Debug)]
pub struct ForgetfulDisk {
    real: RealDisk,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    model: Model,
    calls: Vec<DiskCall>,
    calls_left: Option<usize>,
    faults: HashMap<DiskCall, (i32, usize)>,
    stalled: bool,
}

impl ForgetfulDisk {
    /// On a folder whose present content is durable.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut state = State::default();
        scan(path, "", &mut state.model)?;
        Ok(Self { real: RealDisk::open(path)?, state: Mutex::new(state), released: Condvar::new() })
    }

    /// The power fails after so many further calls: all later ones fail and do nothing.
    pub fn cut_power_after(&self, calls: usize) {
        self.state().calls_left = Some(calls);
    }

    /// The power is back, and nothing was lost: what a killed process leaves to the next one.
    pub fn restore_power(&self) {
        self.state().calls_left = None;
    }

    /// The next `times` calls of this kind fail with this error of the operating system.
    pub fn fail(&self, call: DiskCall, code: i32, times: usize) {
        self.state().faults.insert(call, (code, times));
    }

    /// All calls wait until [`ForgetfulDisk::release`].
    pub fn stall(&self) {
        self.state().stalled = true;
    }

    /// Lets waiting calls go on.
    pub fn release(&self) {
        self.state().stalled = false;
        self.released.notify_all();
    }

    /// The changing calls so far, in their order.
    pub fn calls(&self) -> Vec<DiskCall> {
        self.state().calls.clone()
    }

    /// Writes what a loss of power would leave now into an empty folder.
    pub fn survivors(&self, luck: Luck, into: &Path) -> io::Result<()> {
        self.state().model.survivors(luck, into)
    }

    /// Lets a changing call happen, unless the power is gone or a fault was asked for.
    fn begin(&self, call: DiskCall) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.meet(call)?;
        if let Some(left) = state.calls_left.as_mut() {
            *left -= 1;
        }
        state.calls.push(call);
        Ok(state)
    }

    /// Waits while calls are stalled; fails without power, or as it was told to.
    fn meet(&self, call: DiskCall) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        while state.stalled {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.calls_left == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        if let Some((code, times)) = state.faults.get_mut(&call).filter(|(_, times)| *times > 0) {
            *times -= 1;
            return Err(io::Error::from_raw_os_error(*code));
        }
        Ok(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for ForgetfulDisk {
    fn create_new(&self, path: &str) -> io::Result<File> {
        let mut state = self.begin(DiskCall::CreateNew)?;
        let file = self.real.create_new(path)?;
        state.model.create(path, file.metadata()?.ino());
        Ok(file)
    }

    fn write_all(&self, file: &File, pieces: &[&[u8]]) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Write)?;
        self.real.write_all(file, pieces)?;
        state.model.write(file.metadata()?.ino(), &pieces.concat());
        Ok(())
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        let mut state = self.begin(DiskCall::SyncFile)?;
        state.model.sync_file(file.metadata()?.ino());
        Ok(())
    }

    fn open(&self, path: &str) -> io::Result<File> {
        self.real.open(path)
    }

    fn open_to_read(&self, path: &str) -> io::Result<File> {
        drop(self.meet(DiskCall::Read)?);
        self.real.open_to_read(path)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.real.exists(path)
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Rename)?;
        self.real.rename_noreplace(from, to)?;
        state.model.rename(from, to);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Link)?;
        self.real.link(from, to)?;
        state.model.link(from, to);
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Unlink)?;
        self.real.unlink(path)?;
        state.model.unlink(path);
        Ok(())
    }

    fn make_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.begin(DiskCall::MakeFolder)?;
        self.real.make_folder(path)?;
        state.model.make_folder(path);
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.begin(DiskCall::SyncFolder)?;
        // Only that it is a folder that can be reached; see the module's text.
        self.real.list_folder(path)?;
        state.model.sync_folder(path);
        Ok(())
    }

    fn list_folder(&self, path: &str) -> io::Result<Vec<FolderEntry>> {
        self.real.list_folder(path)
    }

    fn device(&self, path: &str) -> io::Result<u64> {
        self.real.device(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }
}

/// Takes a real folder into the model, as durable.
fn scan(root: &Path, folder: &str, model: &mut Model) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            model.make_folder(&path);
            scan(root, &path, model)?;
        } else if entry.file_type()?.is_file() {
            let inode = entry.metadata()?.ino();
            model.create(&path, inode);
            model.write(inode, &fs::read(entry.path())?);
            model.sync_file(inode);
        }
    }
    model.sync_folder(folder);
    Ok(())
}
