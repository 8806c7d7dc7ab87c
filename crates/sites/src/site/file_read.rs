//! Reading a part of a file of this host: one call, into memory that was never written to before.
//!
//! - **Owns** what an answer of the file system means for who reads an object.
//! - **Does not** wait or retry: `line` does.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use crate::disk::{Disk, direct};
use crate::error::{Cause, is};

/// All bytes of the range, or none. This blocks.
pub(super) fn read_range(disk: &dyn Disk, path: &str, range: Range<u64>) -> Result<Bytes, Cause> {
    let file = disk.open_to_read(path).map_err(cause_of_open)?;
    let metadata = file.metadata().map_err(Cause::Read)?;
    if !metadata.is_file() {
        return Err(Cause::NotAFile);
    }
    let length = range.end.saturating_sub(range.start);
    // A length that the file has not is not believed before there is room for it.
    if range.end > metadata.len() {
        return Err(Cause::Short { end: range.end });
    }
    if let Some(bytes) = direct::read(&file, &range).map_err(Cause::Read)? {
        return Ok(bytes);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(usize::MAX));
    while (bytes.len() as u64) < length {
        let at = range.start + bytes.len() as u64;
        match pread(&file, spare_capacity(&mut bytes), at) {
            // Cut shorter since we asked for its length.
            Ok(0) => return Err(Cause::Short { end: range.end }),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Cause::Read(errno.into())),
        }
    }
    // The memory may have had more room than was asked for.
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(bytes.into())
}

fn cause_of_open(error: io::Error) -> Cause {
    // A file where a folder should be: nothing can be below it.
    if is(&error, Errno::NOENT) || is(&error, Errno::NOTDIR) {
        return Cause::NotFound;
    }
    // A socket, or links that lead round.
    if is(&error, Errno::LOOP) || is(&error, Errno::NXIO) {
        return Cause::NotAFile;
    }
    Cause::Read(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    #[test]
    fn a_range_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(3_000_000).collect();
        fs::write(folder.path().join("a"), &bytes).unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        // Short and long, at pages and beside them, to the end and not.
        for range in [0..0, 0..1, 7..99_999, 0..3_000_000, 4096..2_998_272, 1..2_999_999, 3_000_000..3_000_000] {
            let read = read_range(&disk, "a", range.clone()).unwrap();
            assert_eq!(read, bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
        }
        for range in [0..3_000_001, 4_000_000..4_000_001, 0..u64::MAX] {
            assert!(matches!(read_range(&disk, "a", range), Err(Cause::Short { .. })));
        }
    }

    #[test]
    fn what_is_no_file_is_told_apart_from_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), b"x").unwrap();
        fs::write(path("folder/moved"), b"x").unwrap();
        std::os::unix::fs::symlink(path("round"), path("round")).unwrap();
        std::os::unix::fs::symlink(path("folder"), path("way")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, mode, 0).unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        for name in ["folder", "round", "socket", "pipe"] {
            assert!(matches!(read_range(&disk, name, 0..1), Err(Cause::NotAFile)), "{name}");
        }
        for name in ["absent", "absent/x", "file/x", "way/x"] {
            assert!(matches!(read_range(&disk, name, 0..1), Err(Cause::NotFound)), "{name}");
        }
        assert_eq!(read_range(&disk, "way/moved", 0..1).unwrap(), b"x"[..], "a folder may have been moved");
    }
}
