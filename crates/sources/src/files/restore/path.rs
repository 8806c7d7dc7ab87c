//! Paths that cannot lead out of the target.

use std::fmt;

use blockhouse_types::limits::NAME_MAX;

use crate::files::list::join;

/// Why bytes are not a path below a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    #[error("`{}` cannot be the name of a file", name.escape_ascii())]
    Name { name: Vec<u8> },
}

/// A path relative to the target: names that are neither empty, `.` nor `..` and hold no `/` and no NUL, joined by `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestorePath(Vec<u8>);

impl RestorePath {
    /// The target itself.
    pub const fn target() -> Self {
        Self(Vec::new())
    }

    /// Reads names joined by `/`; empty bytes are the target itself.
    pub fn parse(path: &[u8]) -> Result<Self, PathError> {
        if !path.is_empty() {
            path.split(|&byte| byte == b'/').try_for_each(check_name)?;
        }
        Ok(Self(path.to_vec()))
    }

    /// The path of an entry of this folder.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        Ok(Self(join(&self.0, name)))
    }

    /// Whether this is the target itself.
    pub fn is_target(&self) -> bool {
        self.0.is_empty()
    }

    /// The names joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names from the target on.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The folder and the name in it; none for the target itself.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        let name = self.names().last()?;
        let folder = self.0.get(..self.0.len().saturating_sub(name.len() + 1)).unwrap_or_default();
        Some((Self(folder.to_vec()), name))
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    let is_name = !name.is_empty() && name.len() <= NAME_MAX && name != b"." && name != b"..";
    if is_name && !name.contains(&b'/') && !name.contains(&0) {
        Ok(())
    } else {
        Err(PathError::Name { name: name.to_vec() })
    }
}

impl fmt::Display for RestorePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_target() {
            return formatter.write_str(".");
        }
        write!(formatter, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for path in [&b".."[..], b"a/../b", b"/etc/passwd", b"a//b", b"a/", b".", b"a/./b", b"nul\0byte"] {
            assert!(RestorePath::parse(path).is_err(), "{}", path.escape_ascii());
        }
        assert!(RestorePath::target().join(b"a/b").is_err());
        assert!(RestorePath::target().join(&vec![b'a'; NAME_MAX + 1]).is_err());
    }

    #[test]
    fn any_other_bytes_are_names() {
        let path = RestorePath::parse(b"new\nline/\xff\xfe/...").unwrap();
        assert_eq!(path.names().collect::<Vec<_>>(), [&b"new\nline"[..], b"\xff\xfe", b"..."]);
        assert_eq!(path.split_last(), Some((RestorePath::parse(b"new\nline/\xff\xfe").unwrap(), &b"..."[..])));
        assert_eq!(RestorePath::parse(b"a").unwrap().split_last(), Some((RestorePath::target(), &b"a"[..])));
        assert_eq!(RestorePath::target().split_last(), None);
        assert_eq!(path.to_string(), r"new\nline/\xff\xfe/...");
    }
}
