//! What `/proc` says of other processes and of locks.

use std::{
    collections::HashSet,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{major, minor, stat},
    io::pread,
};

use crate::files::trail::Node;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number, as seen from here.
    pub id: i32,
    /// Its name, as `/proc/<id>/comm` has it.
    pub name: String,
}

impl Process {
    /// The process of that number, if it runs.
    pub(super) fn running(id: i32) -> Option<Self> {
        let name = fs::read(format!("/proc/{id}/comm")).ok()?;
        Some(Self { id, name: String::from_utf8_lossy(&name).trim_end().to_owned() })
    }

    fn bears_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.contains(name))
    }
}

/// How a process uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Locked,
    OpenForWriting,
    OpenForReading,
}

/// The first use by another process, of one of the wanted files, that `choose` picks.
pub(super) fn find_user<T>(
    is_wanted: impl Fn(Node) -> bool,
    choose: impl Fn(Node, Use) -> Option<T>,
) -> Option<(T, Process)> {
    other_processes().find_map(|id| {
        let mut wanted = open_files(id).filter(|(node, _)| is_wanted(*node));
        let chosen = wanted.find_map(|(node, descriptor)| choose(node, usage(id, &descriptor)?))?;
        Some((chosen, Process::running(id)?))
    })
}

/// The first process that has the file open in any way.
pub(super) fn first_user(wanted: Node) -> Option<Process> {
    other_processes().find(|&id| open_files(id).any(|(node, _)| node == wanted)).and_then(Process::running)
}

/// The process whose number stands at the beginning of a file, if it bears one of the names.
pub(super) fn named_in(file: impl AsFd, names: &[&str]) -> Option<Process> {
    let mut start = [0; 32];
    let length = pread(file, &mut start, 0).ok()?;
    let digits: Vec<u8> = start.get(..length)?.iter().copied().take_while(u8::is_ascii_digit).collect();
    let id = std::str::from_utf8(&digits).ok()?.parse().ok()?;
    Process::running(id).filter(|process| process.bears_one_of(names))
}

/// A process of one of these names whose working folder it is: finds servers in containers, whose numbers differ here.
pub(super) fn working_in(folder: Node, names: &[&str]) -> Option<Process> {
    let works_there = |id: &i32| node_of(Path::new(&format!("/proc/{id}/cwd"))) == Some(folder);
    other_processes().filter(works_there).filter_map(Process::running).find(|process| process.bears_one_of(names))
}

/// The files that this process has open.
pub(super) fn own_files() -> HashSet<Node> {
    i32::try_from(std::process::id()).map(|id| open_files(id).map(|(node, _)| node).collect()).unwrap_or_default()
}

fn other_processes() -> impl Iterator<Item = i32> {
    let own = i32::try_from(std::process::id()).ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |id| Some(*id) != own)
}

/// The open files of a process and the names of their descriptors; empty if this user may not see them.
fn open_files(id: i32) -> impl Iterator<Item = (Node, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((node_of(&entry.path())?, PathBuf::from(entry.file_name()))))
}

fn node_of(path: &Path) -> Option<Node> {
    stat(path).ok().map(|stat| Node::of(&stat))
}

fn usage(id: i32, descriptor: &Path) -> Option<Use> {
    let state = fs::read_to_string(Path::new(&format!("/proc/{id}/fdinfo")).join(descriptor)).ok()?;
    Some(parse_usage(&state))
}

/// Reads `/proc/<id>/fdinfo/<n>`: `flags:` in octal with the access mode in the last two bits, one `lock:` line per lock.
fn parse_usage(state: &str) -> Use {
    let flags = state.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u64::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0);
    let access_mode = flags & 0b11;
    if state.lines().any(|line| line.starts_with("lock:")) {
        Use::Locked
    } else if access_mode == 0 {
        Use::OpenForReading
    } else {
        Use::OpenForWriting
    }
}

/// The system's list of file locks.
#[derive(Debug, Default)]
pub(super) struct Locks(Vec<Lock>);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lock {
    /// Of an open file description, which belongs to no one process.
    of_description: bool,
    /// The holder; -1 where it has none, as seen from here.
    holder: i32,
    major: u32,
    minor: u32,
    inode: u64,
}

impl Locks {
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/locks").unwrap_or_default())
    }

    fn parse(table: &str) -> Self {
        Self(table.lines().filter_map(Lock::parse).collect())
    }

    /// The first lock on a file. On file systems that show each program another device
    /// number than the kernel uses (btrfs), only locks of descriptions count here: asking for the others is left to
    /// the caller, who can.
    pub(super) fn on(&self, node: Node) -> Option<&Lock> {
        let (major, minor) = (major(node.device), minor(node.device));
        let is_it = |lock: &&Lock| {
            lock.inode == node.inode && (lock.of_description || (lock.major == major && lock.minor == minor))
        };
        self.0.iter().find(is_it)
    }
}

impl Lock {
    /// Who holds it, if that process can be seen.
    pub(super) fn holder(&self) -> Option<Process> {
        Process::running(self.holder)
    }

    /// `1: POSIX  ADVISORY  WRITE 1234 08:02:131 0 EOF`; lines with `->` wait for a lock. Leases are no locks.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let class = fields.next().filter(|class| ["POSIX", "FLOCK", "OFDLCK"].contains(class))?;
        let holder = fields.nth(2)?.parse().ok()?;
        let mut place = fields.next()?.split(':');
        Some(Self {
            of_description: class == "OFDLCK",
            holder,
            major: u32::from_str_radix(place.next()?, 16).ok()?,
            minor: u32::from_str_radix(place.next()?, 16).ok()?,
            inode: place.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_locks_is_read() {
        let locks = Locks::parse(
            "1: POSIX  ADVISORY  WRITE 1234 fe:0a:131 0 EOF\n1: -> POSIX  ADVISORY  WRITE 9 fe:0a:131 0 EOF\n\
             2: FLOCK  ADVISORY  READ 77 00:1b:9 0 EOF\n3: OFDLCK ADVISORY  WRITE -1 08:02:5 128 128\n\
             4: LEASE  ACTIVE    READ 5 08:02:6 0 EOF\nnonsense\n",
        );
        let expected = [(false, 1234, 0xfe, 10, 131), (false, 77, 0, 0x1b, 9), (true, -1, 8, 2, 5)];
        let found: Vec<_> =
            locks.0.iter().map(|lock| (lock.of_description, lock.holder, lock.major, lock.minor, lock.inode)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_state_of_a_descriptor_is_read() {
        assert_eq!(parse_usage("pos:\t0\nflags:\t0100000\nmnt_id:\t29\n"), Use::OpenForReading);
        assert_eq!(parse_usage("pos:\t0\nflags:\t0100002\nmnt_id:\t29\n"), Use::OpenForWriting);
        assert_eq!(parse_usage("pos:\t0\nflags:\t0100001\n"), Use::OpenForWriting);
        assert_eq!(parse_usage("flags:\t0100000\nlock:\t1: FLOCK  ADVISORY  READ 1 08:02:6 0 EOF\n"), Use::Locked);
    }
}
