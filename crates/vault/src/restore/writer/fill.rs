//! Fills files: plans what they want, reuses what is there, writes what arrives, and names them when they have their hash (R1).
//!
//! - **Owns** the window: how much is planned before it is fetched, and in which order things are settled at its end.
//! - **Does not** walk the snapshot.
//!
//! # Invariants
//! - **F1** At the end of an outermost flush nothing is under way but the one file that is being planned: files first, then further
//!   names, then what has to go, then the metadata of folders, deepest first.
//! - **F2** A piece of a file that is reused was compared with the id of its chunk; the whole is compared with its hash all the same.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use blockhouse_pipeline::chunk::{ChunkRef, is_chunk};
use blockhouse_pipeline::content::{Content, Extent};
use blockhouse_sources::files::{FileWriter, Placing, RestorePath, SparedBelow};
use blockhouse_types::EntryKind;
use blockhouse_types::limits::MIB;
use bytes::Bytes;

use super::Writer;
use crate::reader::{ChunkError, ChunkReader, ReadTreeError};
use crate::restore::job::{Job, State};
use crate::restore::plan::Want;
use crate::restore::unfinished;
use crate::restore::{Change, ChangeKind, RestoreSnapshotError};

/// Smaller files are fetched again sooner than compared piece by piece.
const REUSE_MIN: u64 = MIB as u64;
/// Files that are open at a time: the usual limit of a process is 1024, and each holds two handles.
const OPEN_MAX: usize = 128;

/// Where pieces of a file may be found without fetching them.
enum Local {
    /// In what an earlier restore of it left.
    Own,
    /// In the file that it replaces.
    Old(File),
}

impl Writer<'_> {
    /// True if the window is to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.plan.bytes() + self.side_bytes >= self.act.plan_bytes
    }

    /// Plans a file. It is written when the window closes, or when it has grown too long.
    pub(super) fn plan_file(
        &mut self,
        chunks: &mut ChunkReader,
        mut job: Job,
        content: &Content,
        has_left: bool,
    ) -> Result<(), RestoreSnapshotError> {
        let local = self.local(&mut job, has_left)?;
        if local.is_some() {
            job.again = Some(Box::new(content.clone()));
        }
        self.side_bytes += job.bytes();
        let number = self.next_job;
        self.next_job += 1;
        let is_open = matches!(job.state, State::Open(_));
        self.jobs.insert(number, job);
        if is_open {
            self.opened(number)?;
        }
        let chunks = RefCell::new(chunks);
        let (mut at, mut zeros) = (0, 0);
        for extent in content.extents(|reference: &ChunkRef| chunks.borrow_mut().read(reference)) {
            let chunks = &mut **chunks.borrow_mut();
            let extent = match extent {
                Ok(Extent::Hole { length }) => {
                    zeros += length;
                    at += length;
                    continue;
                }
                Ok(extent) => extent,
                Err(error) => {
                    let error = ReadTreeError::from(Box::new(error));
                    return self.give_up(number, crate::chain::chain(&error));
                }
            };
            if !self.has_locally(chunks, (number, local.as_ref()), &extent, (at, zeros))? {
                self.plan_piece(chunks, number, &extent, (at, zeros))?;
            }
            if !self.jobs.contains_key(&number) {
                return Ok(());
            }
            zeros = 0;
            at += extent.length();
        }
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        (job.zeros_after, job.is_planned) = (zeros, true);
        if job.is_whole() { self.complete(number) } else { Ok(()) }
    }

    /// Adds a piece of a file to the plan.
    fn plan_piece(
        &mut self,
        chunks: &mut ChunkReader,
        number: u64,
        extent: &Extent,
        (at, zeros): (u64, u64),
    ) -> Result<(), RestoreSnapshotError> {
        let part = match extent {
            Extent::Part { offset, length, .. } => (*offset, *length),
            Extent::Chunk(chunk) => (0, chunk.plain_len),
            Extent::Hole { .. } => return Ok(()),
        };
        let Some(chunk) = extent.chunk() else { return Ok(()) };
        if self.is_full() {
            self.flush(chunks)?;
        }
        if self.progress.is_interrupted() {
            // A file may be long: whoever asks to stop does not wait for its end.
            return Err(RestoreSnapshotError::Interrupted);
        }
        if !self.plan.knows(&chunk.id) {
            let Some((entry, location)) = chunks.find(&chunk.id) else {
                let error = ReadTreeError::from(ChunkError::Unknown { chunk: chunk.id });
                return self.give_up(number, crate::chain::chain(&error));
            };
            self.plan.place(chunk, &entry, location.slot);
        }
        if let Some(job) = self.jobs.get_mut(&number) {
            job.left += u64::from(self.plan.want(&chunk.id, number, part, (at, zeros)));
        }
        Ok(())
    }

    /// Where pieces of a file may lie already.
    fn local(&mut self, job: &mut Job, has_left: bool) -> Result<Option<Local>, RestoreSnapshotError> {
        if job.size < REUSE_MIN || matches!(job.state, State::Open(_)) {
            return Ok(None);
        }
        if has_left {
            let writer = self.begin(job)?;
            let is_resumed = writer.is_resumed();
            job.state = State::Open(writer);
            if is_resumed {
                return Ok(Some(Local::Own));
            }
        }
        if job.placing == Placing::New {
            return Ok(None);
        }
        let is_file = self.existing(&job.path)?.is_some_and(|existing| existing.kind == EntryKind::File);
        if !is_file {
            return Ok(None);
        }
        // What cannot be read is no help.
        let old = self.target().read_existing(&job.path).ok();
        if old.is_some() && matches!(job.state, State::Waiting) {
            let writer = self.begin(job)?;
            job.state = State::Open(writer);
        }
        Ok(old.map(Local::Old))
    }

    fn begin(&mut self, job: &Job) -> Result<FileWriter, RestoreSnapshotError> {
        let (whole, mark) = ((job.size, job.placing), job.mark());
        Ok(self.target().resume_file(&job.path, whole, mark)?)
    }

    /// Looks for a piece where it may lie already, and takes it if it is there (F2).
    fn has_locally(
        &mut self,
        chunks: &ChunkReader,
        (number, local): (u64, Option<&Local>),
        extent: &Extent,
        (at, zeros): (u64, u64),
    ) -> Result<bool, RestoreSnapshotError> {
        // Of a part of a chunk nothing is known but the whole.
        let (Some(local), Extent::Chunk(chunk)) = (local, extent) else { return Ok(false) };
        if !self.jobs.contains_key(&number) {
            return Ok(false);
        }
        self.open(number)?;
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(false) };
        let State::Open(writer) = &job.state else { return Ok(false) };
        let mut plain = vec![0; chunk.plain_len as usize];
        let found = match local {
            Local::Own => writer.read_at(at, &mut plain)? == plain.len(),
            Local::Old(old) => old.read_exact_at(&mut plain, at).is_ok(),
        };
        if !found || !is_chunk(&chunk.id, chunks.id_subkey(), &plain) {
            return Ok(false);
        }
        if matches!(local, Local::Old(_)) {
            writer.write_at(at, &plain)?;
        }
        job.take(at, zeros, &plain, self.progress)?;
        self.report.reused_bytes += plain.len() as u64;
        Ok(true)
    }

    /// Closes the window (F1).
    pub(super) fn flush(&mut self, chunks: &mut ChunkReader) -> Result<(), RestoreSnapshotError> {
        self.flushes += 1;
        while !(self.plan.is_empty() && self.deferred.is_empty() && self.again.is_empty()) {
            self.fetch(chunks)?;
            self.settle_links(chunks)?;
            for (job, content) in std::mem::take(&mut self.again) {
                self.plan_file(chunks, job, &content, false)?;
            }
        }
        self.flushes -= 1;
        if self.flushes == 0 {
            for (path, rules) in std::mem::take(&mut self.deletions) {
                self.delete(&path, &rules);
            }
            for (path, metadata) in std::mem::take(&mut self.folders) {
                self.set_folder(&path, &metadata)?;
            }
            self.side_bytes = self.jobs.values().map(Job::bytes).sum();
        }
        Ok(())
    }

    /// Takes away what is not in the snapshot. What cannot be taken away is told; what is spared is counted.
    fn delete(&mut self, path: &RestorePath, rules: &SparedBelow) {
        let only_look = self.act.is_rehearsal;
        let Some(target) = self.target.as_mut() else { return };
        match target.remove(path, rules, only_look) {
            Ok(cleared) => {
                self.report.spared += cleared.spared;
                if cleared.entries > 0 {
                    let (kind, path) = (ChangeKind::Deleted, path.as_bytes().to_vec());
                    self.tell_of(&Change { kind, path, bytes: cleared.bytes });
                }
            }
            Err(error) => self.flaw(path, crate::chain::chain(&error)),
        }
    }

    /// Fetches what is planned and writes it.
    fn fetch(&mut self, chunks: &mut ChunkReader) -> Result<(), RestoreSnapshotError> {
        let store = std::sync::Arc::clone(chunks.store());
        let served = self.plan.take(|entry| store.lacks_data_shards(entry));
        let (units, wants): (Vec<_>, Vec<_>) = served.into_iter().map(|served| (served.unit, served.wants)).unzip();
        let mut arriving = self.fetcher.begin(units);
        for wants in wants {
            let opened = arriving.next().map_err(RestoreSnapshotError::Stopped)?;
            let Some(opened) = opened else { return Err(RestoreSnapshotError::Interrupted) };
            let mut slow: Option<(u32, Result<Bytes, String>)> = None;
            for (number, want) in wants {
                if self.progress.is_interrupted() {
                    return Err(RestoreSnapshotError::Interrupted);
                }
                let at = number as usize;
                if let Some(plain) = opened.chunk(at) {
                    self.put(want, plain)?;
                    continue;
                }
                // Another stripe may have it, and a single chunk of a damaged one may be readable.
                if slow.as_ref().is_none_or(|(of, _)| *of != number) {
                    let read =
                        opened.reference(at).map(|reference| chunks.read(reference).map_err(ReadTreeError::from));
                    let read = read.unwrap_or_else(|| Ok(Bytes::new()));
                    slow = Some((number, read.map_err(|error| crate::chain::chain(&error))));
                }
                match &slow {
                    Some((_, Ok(plain))) => self.put(want, plain)?,
                    Some((_, Err(why))) => self.give_up(want.file, why.clone())?,
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Writes a piece out of its chunk.
    fn put(&mut self, want: Want, plain: &[u8]) -> Result<(), RestoreSnapshotError> {
        let (from, length) = (want.from as usize, want.length as usize);
        let Some(job) = self.jobs.get_mut(&want.file) else { return Ok(()) };
        let Some(bytes) = from.checked_add(length).and_then(|end| plain.get(from..end)) else {
            return self.other_content(want.file);
        };
        if job.is_all(want.at, bytes) {
            return self.put_all(want.file, bytes);
        }
        self.open(want.file)?;
        let Some(job) = self.jobs.get_mut(&want.file) else { return Ok(()) };
        if let State::Open(writer) = &job.state {
            writer.write_at(want.at, bytes)?;
            job.take(want.at, want.zeros_before, bytes, self.progress)?;
            job.left = job.left.saturating_sub(1);
        }
        if job.is_whole() { self.complete(want.file) } else { Ok(()) }
    }

    /// A file that comes in one piece is compared before anything of it is written.
    fn put_all(&mut self, number: u64, bytes: &[u8]) -> Result<(), RestoreSnapshotError> {
        let Some(mut job) = self.jobs.remove(&number) else { return Ok(()) };
        if !job.is_hash_of(bytes) {
            self.jobs.insert(number, job);
            return self.other_content(number);
        }
        let mut writer = self.begin(&job)?;
        if writer.is_resumed() {
            writer.start_over()?;
        }
        writer.write_at(0, bytes)?;
        job.count(bytes.len() as u64, self.progress);
        self.name(job, writer)
    }

    /// Makes sure that a file is open, and that not too many are.
    fn open(&mut self, number: u64) -> Result<(), RestoreSnapshotError> {
        let Some(job) = self.jobs.get_mut(&number) else { return Ok(()) };
        if matches!(job.state, State::Open(_)) {
            return Ok(());
        }
        let Some(mut job) = self.jobs.remove(&number) else { return Ok(()) };
        let writer = if let State::Parked(parked) = std::mem::replace(&mut job.state, State::Waiting) {
            self.target().take_up(parked)?
        } else {
            let mut writer = self.begin(&job)?;
            if writer.is_resumed() {
                // Too small, or found too late, to be compared piece by piece.
                writer.start_over()?;
            }
            writer
        };
        job.state = State::Open(writer);
        self.jobs.insert(number, job);
        self.opened(number)
    }

    /// One more file is open: those that were written to longest ago are put aside.
    fn opened(&mut self, number: u64) -> Result<(), RestoreSnapshotError> {
        self.open.push_back(number);
        while self.open.len() > OPEN_MAX {
            let Some(oldest) = self.open.pop_front() else { break };
            if let Some(job) = self.jobs.get_mut(&oldest)
                && let State::Open(writer) = std::mem::replace(&mut job.state, State::Waiting)
            {
                job.state = State::Parked(writer.park()?);
            }
        }
        Ok(())
    }

    /// All of a file is there: it gets its name if it has its hash (R1).
    fn complete(&mut self, number: u64) -> Result<(), RestoreSnapshotError> {
        self.open(number)?;
        let Some(mut job) = self.jobs.remove(&number) else { return Ok(()) };
        self.open.retain(|open| *open != number);
        let State::Open(writer) = std::mem::replace(&mut job.state, State::Waiting) else { return Ok(()) };
        let is_right = job.has_its_hash(&writer, self.progress)?;
        if self.progress.is_interrupted() {
            job.state = State::Open(writer);
            self.jobs.insert(number, job);
            return Err(RestoreSnapshotError::Interrupted);
        }
        match (is_right, job.again.take()) {
            (true, _) => self.name(job, writer),
            // Something that was there deceived us: all of it is fetched.
            (false, Some(content)) => {
                let mut writer = writer;
                writer.start_over()?;
                job.start_over();
                job.state = State::Open(writer);
                self.again.push((job, content));
                Ok(())
            }
            (false, None) => {
                drop(writer);
                self.jobs.insert(number, job);
                self.other_content(number)
            }
        }
    }

    fn name(&mut self, mut job: Job, writer: FileWriter) -> Result<(), RestoreSnapshotError> {
        self.target().clear_way(&job.path)?;
        let missing = writer.finish(&job.metadata)?;
        self.note(missing);
        self.report.files += 1;
        self.report.bytes += job.size;
        job.count(job.size, self.progress);
        self.progress.add_file(0);
        if let Some(inode) = &job.inode {
            self.pending.remove(inode);
        }
        Ok(())
    }

    fn other_content(&mut self, number: u64) -> Result<(), RestoreSnapshotError> {
        let Some(job) = self.jobs.get(&number) else { return Ok(()) };
        let error = RestoreSnapshotError::OtherContent { path: job.path.as_bytes().to_vec() };
        self.give_up(number, crate::chain::chain(&error))
    }

    /// One file that cannot be read is no reason to give up the others.
    fn give_up(&mut self, number: u64, why: String) -> Result<(), RestoreSnapshotError> {
        let Some(mut job) = self.jobs.remove(&number) else { return Ok(()) };
        self.open.retain(|open| *open != number);
        self.report.unread += 1;
        self.flaw(&job.path, why);
        job.count(job.size, self.progress);
        self.progress.add_file(0);
        if let Some(inode) = &job.inode {
            self.pending.remove(inode);
            self.links.forget(inode);
        }
        if let State::Parked(parked) = &job.state {
            self.target().discard(parked)?;
        }
        Ok(())
    }

    /// The restore ends early: what is worth it stays under its temporary name, for the next run. A target that nothing was written
    /// to is left as it was. Gives how much is free.
    pub(in crate::restore) fn abandon(&mut self) -> Option<u64> {
        let jobs: Vec<Job> =
            self.jobs.drain().map(|(_, job)| job).chain(self.again.drain(..).map(|(job, _)| job)).collect();
        let target = self.target.as_mut()?;
        for job in jobs {
            match job.state {
                State::Open(writer) if job.size >= REUSE_MIN => writer.leave(),
                // What cannot be removed now, the next run removes.
                State::Parked(parked) if job.size < REUSE_MIN => drop(target.discard(&parked)),
                _ => {}
            }
        }
        let free = target.free_bytes();
        if !self.act.is_rehearsal && target.is_empty_but(unfinished::name().as_bytes()).unwrap_or(false) {
            unfinished::end(target.path());
        }
        free
    }
}
