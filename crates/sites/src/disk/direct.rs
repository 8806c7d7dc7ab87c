//! Long writes and reads past the page cache.
//!
//! A backup writes a shard once and syncs it at once; a verification reads it once. By way of the page cache all of it would take room there, and push out
//! what the node of this host keeps. So long transfers go past it (`O_DIRECT`), where the file system takes that. The end of a file that is written, short
//! transfers, and all of them elsewhere, take the usual way. Either way nothing is durable before the sync.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use blockhouse_types::limits::{KIB, MIB};
use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};

use crate::error::is;

/// What is written at once; shorter files gain nothing.
const BLOCK: usize = MIB;
/// The shortest read that goes past the cache: what is shorter may be asked for again soon.
const READ_MIN: u64 = 512 * KIB as u64;
/// Where a block has to begin in memory and in the file: at pages. A disk with longer blocks refuses, and gets the usual way.
const ALIGNMENT: usize = 4 * KIB;

/// What a file system says that has the flag but not the transfer, or not this one.
const REFUSALS: [Errno; 3] = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS];

/// Writes the pieces one after the other to the end of an empty file.
pub(super) fn write_all(mut file: &File, pieces: &[&[u8]]) -> io::Result<()> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut is_direct = length >= BLOCK && set_direct(file, true).is_ok();
    if !is_direct {
        return pieces.iter().try_for_each(|piece| file.write_all(piece));
    }
    let mut block = Block::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            rest = block.fill(rest);
            if block.filled == BLOCK {
                write_block(file, block.bytes(), &mut is_direct)?;
                block.filled = 0;
            }
        }
    }
    if is_direct {
        set_direct(file, false)?;
    }
    file.write_all(block.bytes())
}

/// Writes a whole block; the usual way from where the direct one is refused: by a file system that has the flag but not the write, or after a
/// write that was cut short by a full disk.
fn write_block(mut file: &File, mut bytes: &[u8], is_direct: &mut bool) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if *is_direct && REFUSALS.iter().any(|errno| is(&error, *errno)) => {
                set_direct(file, false)?;
                *is_direct = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a range that lies in the file; none if it is short, or the file system does not take part. What the disk cannot give is an error: the cache
/// may still have it, and would hide that.
pub(crate) fn read(file: &File, range: &Range<u64>) -> io::Result<Option<Bytes>> {
    let length = range.end.saturating_sub(range.start);
    if length < READ_MIN || set_direct(file, true).is_err() {
        return Ok(None);
    }
    let lead = range.start % ALIGNMENT as u64;
    let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
    let wanted = usize::try_from(lead + length).map_err(|_| too_long())?;
    let whole = wanted.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_long)?;
    let mut room = vec![0; whole + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let mut done = 0;
    while done < wanted {
        let rest = room.get_mut(start + done..start + whole).unwrap_or_default();
        match pread(file, rest, range.start - lead + done as u64) {
            Ok(read) if read > 0 => done += read,
            Err(Errno::INTR) => {}
            Err(errno) if !REFUSALS.contains(&errno) => return Err(errno.into()),
            // It is cut shorter by now, or the rest begins beside a page.
            Ok(_) | Err(_) => {
                set_direct(file, false)?;
                return Ok(None);
            }
        }
    }
    let from = start + usize::try_from(lead).unwrap_or(0);
    Ok(Some(Bytes::from(room).slice(from..start + wanted)))
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

/// Room for one block, where the disk can take it from.
struct Block {
    room: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Block {
    fn new() -> Self {
        let room = vec![0; BLOCK + ALIGNMENT];
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { room, start, filled: 0 }
    }

    /// Takes as many bytes as there is room for, and gives the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        let from = self.start + self.filled;
        if let Some(room) = self.room.get_mut(from..from + taken.len()) {
            room.copy_from_slice(taken);
        }
        self.filled += taken.len();
        rest
    }

    fn bytes(&self) -> &[u8] {
        self.room.get(self.start..self.start + self.filled).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Lengths about a block, in pieces that end anywhere.
    #[test]
    fn what_is_written_is_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(3 * BLOCK + 7).collect();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + ALIGNMENT, bytes.len()] {
            for first in [0, 1, 17_000, BLOCK, length] {
                let bytes = &bytes[..length];
                let (one, other) = bytes.split_at(first.min(length));
                let path = folder.path().join(format!("{length}-{first}"));
                write_all(&File::create_new(&path).unwrap(), &[one, other]).unwrap();
                assert!(fs::read(&path).unwrap() == bytes, "{length} bytes, {first} in the first piece");
                fs::remove_file(&path).unwrap();
            }
        }
    }

    /// As after a write that was cut short: what is left begins nowhere near a page.
    #[test]
    fn a_write_that_is_refused_takes_the_usual_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create_new(&path).unwrap();
        let takes_part = set_direct(&file, true).is_ok();
        let mut block = Block::new();
        block.fill(&vec![7; BLOCK]);
        let mut is_direct = takes_part;
        write_block(&file, &block.bytes()[1..], &mut is_direct).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![7; BLOCK - 1]);
        // Some file systems take a write that begins anywhere in memory.
        let is_set = rustix::fs::fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT);
        assert_eq!(is_set, is_direct, "the file goes on as the writer believes");
    }

    /// Where the file system has the flag, a long read takes the direct way, and a short one never does.
    #[test]
    fn long_reads_go_past_the_cache_where_they_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 2 * BLOCK]).unwrap();
        let file = File::open(&path).unwrap();
        let takes_part = set_direct(&file, true).is_ok();
        let long = read(&file, &(1..1 + READ_MIN)).unwrap();
        assert_eq!(long.is_some(), takes_part);
        assert!(long.is_none_or(|bytes| bytes == vec![7; usize::try_from(READ_MIN).unwrap()]));
        assert_eq!(read(&file, &(0..READ_MIN - 1)).unwrap(), None);
    }
}
