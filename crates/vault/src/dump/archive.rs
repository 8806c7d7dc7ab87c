//! A folder as a tar archive: ustar headers, with POSIX pax records for what does not fit into them.
//!
//! - **Owns** which header and records an entry gets, and the end of the archive.
//! - **Does not** keep holes: they are written as zeros, which every reader of archives understands.

use std::collections::HashMap;
use std::io::Write;

use blockhouse_pipeline::tree::{Body, Entry};
use blockhouse_types::{Link, Metadata, Timestamp};
use tar::{EntryType, Header};

use super::{DumpError, Dumped, LeftOut};
use crate::find::join;
use crate::reader::{self, ChunkReader};

/// The length of a block of the format.
const BLOCK: usize = 512;
/// What a header holds of a name.
const NAME_MAX: usize = 100;
/// The greatest number of an owner that a header holds: seven octal digits.
const OWNER_MAX: u32 = 0o7_777_777;
/// The greatest length and time that a header holds: eleven octal digits.
const NUMBER_MAX: u64 = 0o77_777_777_777;
/// What is announced at the end of an archive that was given up, and does not follow (U2). A part of a block alone would be passed
/// over by GNU tar.
const ANNOUNCED: u64 = 1024;

/// An archive while it is written.
pub(super) struct Archive<'a> {
    to: &'a mut dyn Write,
    dumped: Dumped,
    /// The first name of each file that has several.
    links: HashMap<Link, Vec<u8>>,
}

impl<'a> Archive<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to, dumped: Dumped::default(), links: HashMap::new() }
    }

    /// Writes an entry and all that is in it, depth first.
    pub(super) fn tree(&mut self, chunks: &mut ChunkReader, path: Vec<u8>, entry: Entry) -> Result<(), DumpError> {
        let mut waiting = vec![(path, entry)];
        while let Some((path, entry)) = waiting.pop() {
            let Body::Directory(listing) = &entry.body else {
                self.entry(chunks, &path, &entry)?;
                continue;
            };
            let name = if path.is_empty() { b"./".to_vec() } else { [&path[..], b"/"].concat() };
            self.head(&name, &entry.metadata, &Kind::plain(EntryType::Directory))?;
            let entries = reader::list(chunks, &path, listing);
            let entries = entries.map_err(|source| DumpError::Read { path: path.clone(), source })?;
            waiting.extend(entries.into_iter().rev().map(|entry| (join(&path, &entry.name), entry)));
        }
        Ok(())
    }

    /// Ends the archive, or makes sure that it is not taken for a whole one.
    pub(super) fn end(self, done: Result<(), DumpError>) -> Result<Dumped, DumpError> {
        if let Err(error) = done {
            if !matches!(error, DumpError::Write(_)) {
                let mut records = header(b"./this-archive-is-not-whole", &Metadata::default());
                records.set_entry_type(EntryType::XHeader);
                records.set_size(ANNOUNCED);
                records.set_cksum();
                self.to.write_all(records.as_bytes()).and_then(|()| self.to.flush())?;
            }
            return Err(error);
        }
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.dumped)
    }

    fn entry(&mut self, chunks: &mut ChunkReader, path: &[u8], entry: &Entry) -> Result<(), DumpError> {
        let metadata = &entry.metadata;
        if let Some(link) = metadata.link {
            match self.links.get(&link).cloned() {
                Some(first) => return self.head(path, metadata, &Kind::pointing(EntryType::Link, &first)),
                None => drop(self.links.insert(link, path.to_vec())),
            }
        }
        let device = |kind, device: &blockhouse_pipeline::tree::Device| {
            let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            Kind { device: Some((number(device.major), number(device.minor))), ..Kind::plain(kind) }
        };
        match &entry.body {
            Body::File { content, hash } => {
                let size = content.length();
                self.head(path, metadata, &Kind { size, ..Kind::plain(EntryType::Regular) })?;
                super::file(chunks, (content, hash), path, self.to)?;
                self.pad(size)?;
                self.dumped.files += 1;
                self.dumped.bytes += size;
                Ok(())
            }
            Body::Symlink { target } => self.head(path, metadata, &Kind::pointing(EntryType::Symlink, target)),
            Body::Fifo => self.head(path, metadata, &Kind::plain(EntryType::Fifo)),
            Body::CharDevice(number) => self.head(path, metadata, &device(EntryType::Char, number)),
            Body::BlockDevice(number) => self.head(path, metadata, &device(EntryType::Block, number)),
            Body::Socket => {
                self.leave_out(path, "a socket is nothing that an archive can hold".to_owned());
                Ok(())
            }
            Body::Unreadable { reason, .. } => {
                self.leave_out(path, format!("it could not be read when the snapshot was made: {reason}"));
                Ok(())
            }
            // Folders are written by `tree`.
            Body::Directory(_) => Ok(()),
        }
    }

    fn leave_out(&mut self, path: &[u8], why: String) {
        self.dumped.left_out.push(LeftOut { path: path.to_vec(), why });
    }

    /// The records that are needed, and the header.
    fn head(&mut self, path: &[u8], metadata: &Metadata, kind: &Kind<'_>) -> Result<(), DumpError> {
        let mut records = Vec::new();
        if path.len() > NAME_MAX {
            record(&mut records, b"path", path);
        }
        if kind.target.len() > NAME_MAX {
            record(&mut records, b"linkpath", kind.target);
        }
        if kind.size > NUMBER_MAX {
            record(&mut records, b"size", kind.size.to_string().as_bytes());
        }
        for (name, number) in [(&b"uid"[..], metadata.uid), (b"gid", metadata.gid)] {
            if number > OWNER_MAX {
                record(&mut records, name, number.to_string().as_bytes());
            }
        }
        if !fits(metadata.mtime) {
            record(&mut records, b"mtime", decimal(metadata.mtime).as_bytes());
        }
        for attribute in &metadata.attributes {
            if attribute.name.contains(&b'=') {
                let name = attribute.name.escape_ascii();
                self.leave_out(path, format!("an archive cannot name the attribute `{name}`"));
                continue;
            }
            record(&mut records, &[b"SCHILY.xattr.", &attribute.name[..]].concat(), &attribute.value);
        }
        if !records.is_empty() {
            let mut header = header(b"././@PaxHeader", &Metadata { mode: 0o644, ..Metadata::default() });
            header.set_entry_type(EntryType::XHeader);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.to.write_all(header.as_bytes())?;
            self.to.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.to.write_all(kind.header(path, metadata)?.as_bytes())?;
        Ok(())
    }

    /// Fills the last block up.
    fn pad(&mut self, length: u64) -> Result<(), DumpError> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        let zeros = [0; BLOCK];
        Ok(self.to.write_all(zeros.get(over..).filter(|_| over > 0).unwrap_or_default())?)
    }
}

/// What an entry is, as a header says it.
struct Kind<'a> {
    entry: EntryType,
    size: u64,
    target: &'a [u8],
    device: Option<(u32, u32)>,
}

impl<'a> Kind<'a> {
    const fn plain(entry: EntryType) -> Self {
        Self { entry, size: 0, target: b"", device: None }
    }

    const fn pointing(entry: EntryType, target: &'a [u8]) -> Self {
        Self { target, ..Self::plain(entry) }
    }

    fn header(&self, path: &[u8], metadata: &Metadata) -> Result<Header, DumpError> {
        let mut header = header(path, metadata);
        header.set_entry_type(self.entry);
        header.set_size(self.size.min(NUMBER_MAX));
        if let Some(ustar) = header.as_ustar_mut() {
            copy(&mut ustar.linkname, self.target);
        }
        if let Some((major, minor)) = self.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        Ok(header)
    }
}

/// A header with what every entry has; numbers that do not fit stand in records.
fn header(path: &[u8], metadata: &Metadata) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(metadata.mode);
    header.set_uid(metadata.uid.min(OWNER_MAX).into());
    header.set_gid(metadata.gid.min(OWNER_MAX).into());
    header.set_mtime(u64::try_from(metadata.mtime.seconds).unwrap_or(0).min(NUMBER_MAX));
    if let Some(ustar) = header.as_ustar_mut() {
        copy(&mut ustar.name, path);
        // The last byte of a name of an account ends it.
        copy(ustar.uname.split_last_mut().map_or(&mut [], |(_, name)| name), &metadata.user);
        copy(ustar.gname.split_last_mut().map_or(&mut [], |(_, name)| name), &metadata.group);
    }
    header
}

fn copy(field: &mut [u8], value: &[u8]) {
    field.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
}

fn fits(time: Timestamp) -> bool {
    time.nanoseconds == 0 && u64::try_from(time.seconds).is_ok_and(|seconds| seconds <= NUMBER_MAX)
}

/// Seconds with their fraction, as pax writes them: `-0.25` is a quarter of a second before 1970.
fn decimal(time: Timestamp) -> String {
    if time.seconds >= 0 || time.nanoseconds == 0 {
        return format!("{}.{:09}", time.seconds, time.nanoseconds);
    }
    format!("-{}.{:09}", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds)
}

/// `<length> <key>=<value>\n`, the length that of all of it.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for value in [0, 1, 5, 6, 80, 88, 89, 90, 91, 985, 986, 987, 988, 10_000] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; value]);
            let text = String::from_utf8(records.clone()).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), records.len(), "{value}");
        }
    }

    #[test]
    fn times_before_1970_count_backwards() {
        let time = |seconds, nanoseconds| decimal(Timestamp { seconds, nanoseconds });
        assert_eq!(time(5, 250_000_000), "5.250000000");
        assert_eq!(time(-1, 750_000_000), "-0.250000000");
        assert_eq!(time(-6, 750_000_000), "-5.250000000");
        assert_eq!(time(-6, 0), "-6.000000000");
        assert!(fits(Timestamp { seconds: 5, nanoseconds: 0 }) && !fits(Timestamp { seconds: -5, nanoseconds: 0 }));
    }

    #[test]
    fn long_names_and_large_owners_get_records() {
        let mut bytes = Vec::new();
        let metadata = Metadata { uid: OWNER_MAX + 1, ..Metadata::default() };
        let path = vec![b'n'; 150];
        Archive::new(&mut bytes).head(&path, &metadata, &Kind::plain(EntryType::Fifo)).unwrap();
        assert_eq!(bytes.len(), 3 * BLOCK);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(&format!("path={}", "n".repeat(150))) && text.contains("uid=2097152"));
    }
}
