//! The mount point: what is refused before anything is mounted, and why mounting failed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The kernel's door.
const DEVICE: &str = "/dev/fuse";

/// Why nothing is mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PointError {
    #[error("there is no folder {} to mount at", point.display())]
    Missing { point: PathBuf },
    #[error("{} is no folder", point.display())]
    NotAFolder { point: PathBuf },
    #[error("the folder {} is not empty", point.display())]
    NotEmpty { point: PathBuf },
    #[error("{} is a mount whose process is gone", point.display())]
    Stale { point: PathBuf },
    #[error("could not look at {}", point.display())]
    Look {
        point: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("this system has no {DEVICE}")]
    NoDevice,
    #[error("{DEVICE} may not be opened")]
    DeviceClosed(#[source] io::Error),
    #[error("the program fusermount3 is not there, and only root mounts without it")]
    NoHelper,
    #[error("other users may not be let in")]
    OthersForbidden(#[source] io::Error),
    #[error("could not mount at {}", point.display())]
    Mount {
        point: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not unmount {}", point.display())]
    Unmount {
        point: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The whole path of a folder that can be mounted at.
pub(crate) fn check(point: &Path) -> Result<PathBuf, PointError> {
    let failed = |source: io::Error| match (source.kind(), source.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => PointError::Missing { point: point.to_owned() },
        (io::ErrorKind::NotADirectory, _) => PointError::NotAFolder { point: point.to_owned() },
        (_, Some(code)) if code == Errno::NOTCONN.raw_os_error() => PointError::Stale { point: point.to_owned() },
        _ => PointError::Look { point: point.to_owned(), source },
    };
    let mut inside = std::fs::read_dir(point).map_err(failed)?;
    if inside.next().is_some() {
        return Err(PointError::NotEmpty { point: point.to_owned() });
    }
    match std::fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PointError::NoDevice),
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Err(PointError::NoDevice),
        Err(error) => return Err(PointError::DeviceClosed(error)),
    }
    std::fs::canonicalize(point).map_err(failed)
}

impl PointError {
    /// Why the mounting itself failed.
    pub(super) fn mount(point: &Path, source: io::Error) -> Self {
        match source.kind() {
            // All else was there a moment ago.
            io::ErrorKind::NotFound => Self::NoHelper,
            io::ErrorKind::PermissionDenied => Self::OthersForbidden(source),
            _ => Self::Mount { point: point.to_owned(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_mounted_at() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        assert!(matches!(check(&path("none")), Err(PointError::Missing { .. })));
        std::fs::write(path("file"), b"").unwrap();
        assert!(matches!(check(&path("file")), Err(PointError::NotAFolder { .. })));
        assert!(matches!(check(base.path()), Err(PointError::NotEmpty { .. })));
    }
}
