//! The names of users and groups.
//!
//! `/etc/passwd` and `/etc/group` are read once. Name services (LDAP, NIS, systemd-homed) are not asked: those users are
//! stored by number alone.

use std::{collections::HashMap, path::Path};

/// Users and groups of this host, by number and by name.
#[derive(Debug, Default, Clone)]
pub struct Accounts {
    users: Names,
    groups: Names,
}

#[derive(Debug, Default, Clone)]
struct Names {
    by_number: HashMap<u32, Vec<u8>>,
    by_name: HashMap<Vec<u8>, u32>,
}

impl Accounts {
    /// Reads the two files of this host; a missing one is empty.
    pub fn of_this_host() -> Self {
        Self::parse(&read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
    }

    /// Reads the content of a `passwd` and a `group` file. Lines that are not of their form are passed over.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Names::parse(passwd), groups: Names::parse(group) }
    }

    /// The user's name, empty if unknown.
    pub fn user(&self, uid: u32) -> Vec<u8> {
        self.users.by_number.get(&uid).cloned().unwrap_or_default()
    }

    /// The group's name, empty if unknown.
    pub fn group(&self, gid: u32) -> Vec<u8> {
        self.groups.by_number.get(&gid).cloned().unwrap_or_default()
    }

    /// The user of that name here.
    pub fn uid(&self, user: &[u8]) -> Option<u32> {
        self.users.by_name.get(user).copied()
    }

    /// The group of that name here.
    pub fn gid(&self, group: &[u8]) -> Option<u32> {
        self.groups.by_name.get(group).copied()
    }
}

impl Names {
    /// Both files are `name:password:number:…`; as in the C library, the first line of a name or number counts.
    fn parse(file: &[u8]) -> Self {
        let mut names = Self::default();
        for line in file.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let Some(number) = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()) else { continue };
            if name.is_empty() || name.starts_with(b"#") {
                continue;
            }
            names.by_number.entry(number).or_insert_with(|| name.to_vec());
            names.by_name.entry(name.to_vec()).or_insert(number);
        }
        names
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_number_or_name_counts() {
        let accounts = Accounts::parse(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nanna:x:1000:7::/:\nanna:x:5:5::/:\nbroken\n:x:3:\nx:y:z\n",
            b"wheel:x:10:anna\n",
        );
        assert_eq!(accounts.user(0), b"root");
        assert_eq!(accounts.uid(b"toor"), Some(0));
        assert_eq!(accounts.uid(b"anna"), Some(1000));
        assert_eq!(accounts.group(10), b"wheel");
        assert_eq!((accounts.user(3), accounts.gid(b"root")), (Vec::new(), None));
    }
}
