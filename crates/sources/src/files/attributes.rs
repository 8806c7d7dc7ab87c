//! Extended attributes, ACLs among them, of any open entry.
//!
//! A handle opened with `O_PATH` serves no attribute calls, but its name under `/proc/self/fd` does and leads to exactly
//! that inode, also where it is a symbolic link. Without `/proc`, attributes are reported as unread or not restored.

use std::os::fd::{AsFd, AsRawFd};

use blockhouse_types::Attribute;
use rustix::{
    fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr},
    io::Errno,
};

/// The greatest list of names and the greatest value that Linux passes on (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const GREATEST: usize = 64 * 1024;

/// A path that leads to exactly the open inode.
pub(crate) fn path_of(handle: impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

/// What an entry's attributes are, by ascending name, and which of them could not be read.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) read: Vec<Attribute>,
    pub(crate) unread: Vec<(Vec<u8>, Errno)>,
}

impl Attributes {
    pub(crate) fn of(handle: impl AsFd) -> Self {
        let path = path_of(handle);
        let mut attributes = Self::default();
        let mut names = match names(&path) {
            Ok(names) => names,
            Err(error) => {
                attributes.unread.push((Vec::new(), error));
                return attributes;
            }
        };
        names.sort_unstable();
        for name in names {
            match value(&path, &name) {
                Ok(Some(value)) => attributes.read.push(Attribute { name, value }),
                Ok(None) => {}
                Err(error) => attributes.unread.push((name, error)),
            }
        }
        attributes
    }
}

/// Makes the attributes of an entry be `wanted`; what could not be done is returned by name.
///
/// Attributes that are not wanted are removed where they can carry content or rights: `user.*`, ACLs (a folder's default
/// ACL is inherited by what is created in it) and capabilities. Labels that the system itself gives are left.
pub(crate) fn make(handle: impl AsFd, wanted: &[Attribute]) -> Vec<(Vec<u8>, Errno)> {
    let path = path_of(handle);
    let mut failed = Vec::new();
    for name in names(&path).unwrap_or_default() {
        if is_ours_to_remove(&name) && !wanted.iter().any(|attribute| attribute.name == name) {
            failed.extend(removexattr(path.as_str(), name.as_slice()).err().map(|error| (name, error)));
        }
    }
    for Attribute { name, value: content } in wanted {
        if value(&path, name).ok().flatten().as_ref() != Some(content) {
            let set = setxattr(path.as_str(), name.as_slice(), content, XattrFlags::empty());
            failed.extend(set.err().map(|error| (name.clone(), error)));
        }
    }
    failed
}

fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

fn names(path: &str) -> Result<Vec<Vec<u8>>, Errno> {
    let list = match read_growing(|buffer| listxattr(path, buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        result => result?,
    };
    Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// One value; none if the attribute is gone or the file system has none.
fn value(path: &str, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    match read_growing(|buffer| getxattr(path, name, buffer)) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        result => result.map(Some),
    }
}

/// Reads into a small buffer and, if that is too small, once more into the greatest: no size is asked for that could
/// change before the read.
fn read_growing(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match read(&mut small) {
        Ok(length) => return Ok(small.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; GREATEST];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}
