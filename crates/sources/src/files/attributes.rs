//! Extended attributes, ACLs among them, of any open entry.
//!
//! A handle opened with `O_PATH` serves no attribute calls, but its name under `/proc/self/fd` does and leads to exactly
//! that inode, also where it is a symbolic link. Without `/proc`, attributes are reported as unread or not restored.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use blockhouse_types::Attribute;
use rustix::{
    fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, removexattr, setxattr},
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
        let path = AtPath::of(handle);
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

/// Where the attributes of one inode are read and written.
pub(crate) trait Place {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno>;
    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno>;
    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno>;
    fn remove(&self, name: &[u8]) -> Result<(), Errno>;
}

/// By a name under `/proc`: for handles opened with `O_PATH`.
pub(crate) struct AtPath(String);

impl AtPath {
    pub(crate) fn of(handle: impl AsFd) -> Self {
        Self(path_of(handle))
    }
}

impl Place for AtPath {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        listxattr(self.0.as_str(), buffer)
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        getxattr(self.0.as_str(), name, buffer)
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        setxattr(self.0.as_str(), name, value, XattrFlags::empty())
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        removexattr(self.0.as_str(), name)
    }
}

/// By the handle itself: for files that are open.
pub(crate) struct OfFile<'a>(pub(crate) BorrowedFd<'a>);

impl Place for OfFile<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        flistxattr(self.0, buffer)
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        fgetxattr(self.0, name, buffer)
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        fsetxattr(self.0, name, value, XattrFlags::empty())
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        fremovexattr(self.0, name)
    }
}

/// Makes the attributes of an entry be `wanted`; what could not be done is returned by name, with whether anything was tried.
///
/// Attributes that are not wanted are removed where they can carry content or rights: `user.*`, ACLs (a folder's default
/// ACL is inherited by what is created in it) and capabilities. Labels that the system itself gives are left.
pub(crate) fn make(place: &impl Place, wanted: &[Attribute]) -> (Vec<(Vec<u8>, Errno)>, bool) {
    let (mut failed, mut changed) = (Vec::new(), false);
    for name in names(place).unwrap_or_default() {
        if is_ours_to_remove(&name) && !wanted.iter().any(|attribute| attribute.name == name) {
            changed = true;
            failed.extend(place.remove(&name).err().map(|error| (name, error)));
        }
    }
    for Attribute { name, value: content } in wanted {
        if value(place, name).ok().flatten().as_ref() != Some(content) {
            changed = true;
            failed.extend(place.set(name, content).err().map(|error| (name.clone(), error)));
        }
    }
    (failed, changed)
}

fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

fn names(place: &impl Place) -> Result<Vec<Vec<u8>>, Errno> {
    let list = match read_growing(|buffer| place.list(buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        result => result?,
    };
    Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// One value; none if the attribute is gone or the file system has none.
fn value(place: &impl Place, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    match read_growing(|buffer| place.get(name, buffer)) {
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
