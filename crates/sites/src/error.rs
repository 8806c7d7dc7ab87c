//! What can go wrong at a site, and what it means for the run.
//!
//! - **Owns** the error of every operation of a site and the reasons for which a site is down.
//! - **Does not** decide what a backup does about it: `vault` does, from [`SiteError`]'s questions and [`Remedy`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_types::{DecodeError, SiteId, VaultId};
use rustix::io::Errno;

use crate::disk::DiskCall;
use crate::file_layer::WriteError;
use crate::name::SiteName;
use crate::trouble::{ServiceFailure, Trouble};

/// What was asked of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Open the site.
    Open,
    /// Make the site's folder.
    Create,
    /// Write an object.
    Put,
    /// Read an object or a part of it.
    Get,
    /// Ask for the length of an object.
    Stat,
    /// List objects.
    List,
    /// Remove an object.
    Delete,
    /// Remove left-over temporary files.
    Sweep,
    /// Test what the site promises.
    Probe,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Put => "write",
            Self::Get => "read",
            Self::Stat => "look for",
            Self::List => "list",
            Self::Delete => "remove",
            Self::Sweep => "sweep",
            Self::Probe => "probe",
        })
    }
}

/// An operation of a site that failed.
#[derive(Debug, thiserror::Error)]
#[error("site `{site}` could not {operation} {object}")]
pub struct SiteError {
    pub site: SiteName,
    pub operation: Operation,
    /// The path of the object or folder inside the site.
    pub object: String,
    #[source]
    pub cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    #[error("it is not there")]
    NotFound,
    #[error("something else has its name already")]
    Exists,
    #[error("what has its name is not a file")]
    NotAFile,
    #[error("it is {length} bytes long, its kind allows {limit}")]
    TooLong { length: u64, limit: u64 },
    #[error("it ends before byte {end}")]
    Short { end: u64 },
    #[error("the site took longer than {} s", allowed.as_secs_f64())]
    Deadline { allowed: Duration },
    #[error("the site is down")]
    Down(#[source] Arc<DownReason>),
    #[error("the site takes no more writes in this run")]
    Closed(#[source] Arc<DownReason>),
    #[error("could not {call}")]
    Disk {
        call: DiskCall,
        #[source]
        source: io::Error,
    },
    #[error("could not read from the file system")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Service(#[from] ServiceFailure),
}

/// A service gave no answer for so long: how a service of ours tells it through the storage library.
#[derive(Debug, thiserror::Error)]
#[error("it was silent for {} s", allowed.as_secs_f64())]
pub(crate) struct Silence {
    pub(crate) allowed: Duration,
}

/// Why a site is down, or takes no writes, for the rest of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    #[error("its folder {place} is missing")]
    Absent { place: String },
    #[error("{place} is not a folder")]
    NotAFolder { place: String },
    #[error("{place} holds no marker of a site")]
    NoMarker { place: String },
    #[error(
        "this build of blockhouse knows no `{feature}:` sites: take one that was built with the feature `{feature}`"
    )]
    NotBuilt { feature: &'static str },
    #[error("its marker belongs to vault {found}, not to {expected}")]
    OtherVault { found: VaultId, expected: VaultId },
    #[error("its marker is that of site {found} (`{name}`), not {expected}")]
    OtherSite { found: SiteId, expected: SiteId, name: SiteName },
    #[error("its marker cannot be understood")]
    BadMarker(#[source] DecodeError),
    #[error("it took longer than {} s to {operation} {object}", allowed.as_secs_f64())]
    Deadline { operation: Operation, object: String, allowed: Duration },
    #[error("it could not {operation} {object}")]
    Failed {
        operation: Operation,
        object: String,
        #[source]
        source: io::Error,
    },
    #[error("it could not {operation} {object}")]
    Service {
        operation: Operation,
        object: String,
        #[source]
        source: ServiceFailure,
    },
}

/// What may bring a site back; the user interface makes a hint of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Mount or connect its storage.
    BringBack,
    /// The folder is another one than it was: correct its URL, or make it again with `repair --recreate`.
    RecreateOrCorrect,
    /// Make room.
    FreeSpace,
    /// Give this user the right to it.
    Permit,
    /// The storage itself fails or is too slow: look at it.
    Examine,
    /// Give the right credentials, by the environment or a file.
    GiveCredentials,
    /// Make the bucket, or correct its name.
    MakeBucket,
    /// Name the right region in its URL.
    NameRegion,
    /// Correct its URL or the settings that it names.
    CorrectUrl,
    /// Let this host trust its certificate or host key, if it is the right one.
    Trust,
    /// Start the server, or correct the address.
    Reach,
    /// Set the clock of this host.
    SetClock,
    /// Take a build that has the feature.
    Rebuild,
}

impl DownReason {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Absent { .. } => Remedy::BringBack,
            Self::NotAFolder { .. }
            | Self::NoMarker { .. }
            | Self::OtherVault { .. }
            | Self::OtherSite { .. }
            | Self::BadMarker(_) => Remedy::RecreateOrCorrect,
            Self::Failed { source, .. } if is_full(source) => Remedy::FreeSpace,
            Self::Failed { source, .. } if is_permission(source) => Remedy::Permit,
            Self::Failed { source, .. } if is_gone(source) => Remedy::BringBack,
            Self::Failed { .. } | Self::Deadline { .. } => Remedy::Examine,
            Self::NotBuilt { .. } => Remedy::Rebuild,
            Self::Service { source, .. } => source.trouble.remedy(),
        }
    }
}

/// A site that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("site `{site}` is down")]
pub struct SiteDown {
    pub site: SiteName,
    #[source]
    pub reason: Arc<DownReason>,
}

impl SiteError {
    /// The object is not at the site.
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::NotFound)
    }

    /// Another object, or the same with other bytes, has the name.
    pub fn is_exists(&self) -> bool {
        matches!(self.cause, Cause::Exists)
    }

    /// The site has no room.
    pub fn is_full(&self) -> bool {
        self.cause.io_error().is_some_and(is_full) || self.cause.trouble() == Some(&Trouble::Full)
    }

    /// This user may not do it, or the site can only be read.
    pub fn is_permission(&self) -> bool {
        self.cause.io_error().is_some_and(is_permission)
            || matches!(self.cause.trouble(), Some(Trouble::Forbidden | Trouble::Credentials))
    }

    /// The same call may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        self.cause.is_passing()
    }

    /// The site is down, or went down by this.
    pub fn is_down(&self) -> bool {
        matches!(self.cause, Cause::Down(_) | Cause::Deadline { .. })
    }
}

impl Cause {
    /// What a service refuses for.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Service(failure) => Some(&failure.trouble),
            Self::Closed(reason) | Self::Down(reason) => match reason.as_ref() {
                DownReason::Service { source, .. } => Some(&source.trouble),
                _ => None,
            },
            _ => None,
        }
    }

    fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Disk { source, .. } | Self::Read(source) => Some(source),
            Self::Closed(reason) | Self::Down(reason) => match reason.as_ref() {
                DownReason::Failed { source, .. } => Some(source),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Somebody removed the temporary file or a folder under our hands; both are made afresh.
            Self::Disk { source, .. } if is(source, Errno::NOENT) => true,
            Self::Disk { source, .. } | Self::Read(source) => is_passing(source),
            Self::Service(failure) => failure.is_passing,
            _ => false,
        }
    }

    /// The whole site is out of reach, not only this object.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Disk { source, .. } | Self::Read(source) => is_gone(source),
            Self::Service(failure) => failure.trouble.is_of_the_site(),
            _ => false,
        }
    }

    /// The failure concerns writing in general, not this name alone.
    pub(crate) fn closes_for_writing(&self) -> bool {
        let of_this_name = [Errno::NOTDIR, Errno::LOOP, Errno::ISDIR, Errno::MLINK];
        match self {
            Self::Disk { source, .. } => !of_this_name.iter().any(|errno| is(source, *errno)),
            Self::Service(_) => true,
            _ => false,
        }
    }

    /// The same of a removal: one that is not permitted says nothing about writes. Credentials that can only add are the ones to give.
    pub(crate) fn of_removal_closes_for_writing(&self) -> bool {
        match self {
            Self::Disk { source, .. } if is_permission(source) => false,
            Self::Service(failure) if failure.trouble == Trouble::Forbidden => false,
            _ => self.closes_for_writing(),
        }
    }

    /// The same failure as a reason that outlives this error.
    pub(crate) fn to_reason(&self, operation: Operation, object: &str) -> DownReason {
        let object = object.to_owned();
        match self {
            Self::Deadline { allowed } => DownReason::Deadline { operation, object, allowed: *allowed },
            Self::Service(failure) => DownReason::Service { operation, object, source: failure.clone() },
            _ => DownReason::Failed { operation, object, source: self.as_io_error() },
        }
    }

    fn as_io_error(&self) -> io::Error {
        match (self, self.io_error().map(|error| (error.raw_os_error(), error))) {
            (_, Some((Some(code), _))) => io::Error::from_raw_os_error(code),
            (_, Some((None, error))) => io::Error::new(error.kind(), error.to_string()),
            (other, None) => io::Error::other(other.to_string()),
        }
    }
}

impl From<WriteError> for Cause {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Exists => Self::Exists,
            WriteError::Disk { call, source } => Self::Disk { call, source },
        }
    }
}

impl From<opendal::Error> for Cause {
    fn from(error: opendal::Error) -> Self {
        if error.kind() == opendal::ErrorKind::NotFound {
            return Self::NotFound;
        }
        if let Some(Silence { allowed }) = error.source().and_then(|source| source.downcast_ref::<Silence>()) {
            return Self::Deadline { allowed: *allowed };
        }
        match operating_system_error(&error) {
            // A file where a folder should be: nothing can be below it.
            Some(source) if is(&source, Errno::NOTDIR) => Self::NotFound,
            Some(source) => Self::Read(source),
            None => Self::Service(ServiceFailure::of_storage(&error)),
        }
    }
}

/// The error of the file system behind one of `opendal`, whose own kinds call nearly all of them temporary.
///
/// Deeper down it is one of a connection, about which `trouble` knows more.
fn operating_system_error(error: &opendal::Error) -> Option<io::Error> {
    let source = error.source()?;
    let code = source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)?;
    Some(io::Error::from_raw_os_error(code))
}

pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_any(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| is(error, *errno))
}

fn is_full(error: &io::Error) -> bool {
    is_any(error, &[Errno::NOSPC, Errno::DQUOT])
}

fn is_permission(error: &io::Error) -> bool {
    is_any(error, &[Errno::ACCESS, Errno::PERM, Errno::ROFS])
}

fn is_gone(error: &io::Error) -> bool {
    is_any(error, &[Errno::STALE, Errno::NOTCONN, Errno::NODEV, Errno::NXIO, Errno::SHUTDOWN, Errno::HOSTDOWN])
}

fn is_passing(error: &io::Error) -> bool {
    let errnos = [
        Errno::INTR,
        Errno::AGAIN,
        Errno::BUSY,
        Errno::TIMEDOUT,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::CONNRESET,
        Errno::CONNABORTED,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
    ];
    error.kind() == io::ErrorKind::Interrupted || is_any(error, &errnos)
}
