//! The write side of remote sites.
//!
//! - **Owns** what all services have in common: equal bytes under a name count as written, temporary objects are swept.
//! - **Does not** retry or watch the time: `site` does. How an object comes to its name is each service's own module.
//!
//! # Invariants
//! - **R1** An object is under its name whole or not at all, also when the connection breaks or this process dies.
//! - **R2** A name that is taken is left as it is. Where a service cannot promise it for two writers at one instant, it
//!   is looked first, and the probe says so.
//! - **R3** After a good answer the object counts as durable: the service's word is taken (SFTP syncs the bytes, too).
//!
//! Format: `docs/design/sites.md`, Remote kinds.
#![cfg_attr(
    not(any(feature = "s3", feature = "sftp", feature = "webdav")),
    expect(clippy::unused_async, reason = "no service")
)]

#[cfg(feature = "webdav")]
mod credentials;
#[cfg(any(feature = "s3", feature = "webdav"))]
mod http;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
mod sftp;
#[cfg(feature = "webdav")]
mod webdav;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::{ErrorKind, Operator};

use crate::disk::Space;
use crate::error::Cause;
use crate::file_layer::{Put, Swept, TEMPORARY_FOLDER, is_temporary_name};
#[cfg(any(feature = "sftp", feature = "webdav"))]
use crate::key::ObjectKey;
use crate::reads::read_range;
use crate::trouble::{ServiceFailure, Trouble};
use crate::url::SiteSpec;
#[cfg(any(feature = "s3", feature = "sftp", feature = "webdav"))]
use crate::url::SiteUrl;

/// A remote service as a place to write to.
#[derive(Debug)]
pub(crate) struct RemoteLayer {
    operator: Operator,
    service: Service,
    /// How long a stream of the service may bring nothing.
    stall: Duration,
}

#[derive(Debug)]
enum Service {
    #[cfg(feature = "s3")]
    S3(s3::S3Writer),
    #[cfg(feature = "sftp")]
    Sftp(sftp::SftpWriter),
    #[cfg(feature = "webdav")]
    Webdav(webdav::WebdavWriter),
}

/// How an attempt to give bytes a name ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(feature = "s3", feature = "sftp", feature = "webdav")), expect(dead_code, reason = "no service"))]
pub(crate) enum Made {
    /// The object is new.
    New,
    /// The name is taken.
    Taken,
    /// A folder is missing and the marker too: this is not the site.
    NoSite,
}

/// What becomes of an object that is removed at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// It is gone.
    None,
    /// It stays as an older version.
    Kept,
    /// It is gone; but what was removed at an earlier time may still be there as an older version.
    Suspended,
}

/// How making the folder of a new site ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(feature = "sftp", feature = "webdav")), expect(dead_code, reason = "buckets are not made"))]
pub(crate) enum Root {
    /// It is there.
    Ready,
    /// The folder that it should be in is not.
    NoParent,
}

/// What a service promises about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// Of two that create one name at the same instant, one is refused.
    pub(crate) atomic_create: bool,
    /// It was told to bring the bytes to the disk.
    pub(crate) synced: bool,
}

#[allow(clippy::match_same_arms, reason = "one arm for each feature")]
impl RemoteLayer {
    /// The service that a URL names.
    #[cfg_attr(
        not(any(feature = "s3", feature = "sftp", feature = "webdav")),
        expect(unused_variables, reason = "no service")
    )]
    pub(crate) fn open(spec: &SiteSpec, stall: Duration) -> Result<Self, Cause> {
        match &spec.url {
            #[cfg(feature = "s3")]
            SiteUrl::S3(place) => {
                let (operator, writer) = s3::open(place, stall)?;
                Ok(Self { operator, service: Service::S3(writer), stall })
            }
            #[cfg(feature = "sftp")]
            SiteUrl::Sftp(place) => {
                let (operator, writer) = sftp::open(place, stall);
                // An object comes as one piece; the connection sees for itself whether the server answers.
                Ok(Self { operator, service: Service::Sftp(writer), stall: Duration::MAX })
            }
            #[cfg(feature = "webdav")]
            SiteUrl::Webdav(place) => {
                let (operator, writer) = webdav::open(place, &spec.name, stall)?;
                Ok(Self { operator, service: Service::Webdav(writer), stall })
            }
            other => {
                let said = format!("this build knows no {}: sites", other.scheme());
                Err(Cause::Service(ServiceFailure::new(Trouble::Setting, &said)))
            }
        }
    }

    /// The side that reads.
    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    /// How long a stream of the service may bring nothing.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    /// True if the service lists by prefix and not by folder.
    pub(crate) fn lists_deep(&self) -> bool {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(_) => true,
            #[cfg(feature = "sftp")]
            Service::Sftp(_) => false,
            #[cfg(feature = "webdav")]
            Service::Webdav(_) => false,
        }
    }

    /// What the site's folder or prefix lies in, from the next one on.
    pub(crate) fn above(&self) -> Result<Vec<Operator>, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(ref writer) => writer.above(),
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => Ok(writer.above()),
            #[cfg(feature = "webdav")]
            Service::Webdav(ref writer) => writer.above(),
        }
    }

    /// Makes the folder of a new site.
    pub(crate) async fn make_root(&self) -> Result<Root, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(_) => Ok(Root::Ready),
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.make_root().await,
            #[cfg(feature = "webdav")]
            Service::Webdav(ref writer) => writer.make_root().await,
        }
    }

    /// Gives bytes a name, unless it is taken.
    #[cfg_attr(
        not(any(feature = "s3", feature = "sftp", feature = "webdav")),
        expect(unused_variables, reason = "no service")
    )]
    async fn create(&self, path: &str, bytes: &Bytes) -> Result<Made, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(ref writer) => writer.create(&self.operator, path, bytes).await,
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.create(path, bytes).await,
            #[cfg(feature = "webdav")]
            Service::Webdav(ref writer) => writer.create(path, bytes).await,
        }
    }

    /// Writes an object; none if this is not the site.
    pub(crate) async fn put(&self, path: &str, bytes: &Bytes) -> Result<Option<Put>, Cause> {
        match self.create(path, bytes).await? {
            Made::New => Ok(Some(Put::Written)),
            Made::NoSite => Ok(None),
            // Also when the answer to an earlier attempt was lost on the way.
            Made::Taken if self.holds(path, bytes).await? => Ok(Some(Put::AlreadyThere)),
            Made::Taken => Err(Cause::Exists),
        }
    }

    /// Tries to give other bytes a name that exists; true if that is refused, as it must be.
    pub(crate) async fn refuses_to_replace(&self, path: &str) -> Result<bool, Cause> {
        Ok(self.create(path, &Bytes::from_static(b"another object")).await? == Made::Taken)
    }

    /// Removes an object; false if it was not there.
    #[cfg_attr(
        not(any(feature = "s3", feature = "sftp", feature = "webdav")),
        expect(unused_variables, reason = "no service")
    )]
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(_) => s3::delete(&self.operator, path).await,
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.delete(path).await,
            #[cfg(feature = "webdav")]
            Service::Webdav(ref writer) => writer.delete(path).await,
        }
    }

    /// What becomes of objects that are removed; asked of one that is there.
    #[cfg_attr(not(feature = "s3"), expect(unused_variables, clippy::unused_async, reason = "no such service"))]
    pub(crate) async fn versions(&self, path: &str) -> Result<Versions, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(_) => s3::versions(&self.operator, path).await,
            #[cfg(feature = "sftp")]
            Service::Sftp(_) => Ok(Versions::None),
            #[cfg(feature = "webdav")]
            Service::Webdav(_) => Ok(Versions::None),
        }
    }

    /// Makes an object durable that another run may have left; false if it is not there.
    #[cfg_attr(
        not(any(feature = "s3", feature = "sftp", feature = "webdav")),
        expect(unused_variables, reason = "no service")
    )]
    pub(crate) async fn settle(&self, path: &str) -> Result<bool, Cause> {
        match self.service {
            // What has its name was taken whole, and the answer is given after it was kept.
            #[cfg(feature = "s3")]
            Service::S3(_) => self.exists(path).await,
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.settle(path).await,
            #[cfg(feature = "webdav")]
            Service::Webdav(_) => self.exists(path).await,
        }
    }

    /// What the service promises; asked after a write.
    pub(crate) async fn word(&self) -> Result<Word, Cause> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(ref writer) => Ok(Word { atomic_create: writer.is_conditional(), synced: false }),
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.word().await,
            #[cfg(feature = "webdav")]
            Service::Webdav(_) => Ok(Word { atomic_create: false, synced: false }),
        }
    }

    /// The room that is left, if the service tells.
    pub(crate) async fn space(&self) -> Option<Space> {
        match self.service {
            #[cfg(feature = "s3")]
            Service::S3(_) => None,
            #[cfg(feature = "sftp")]
            Service::Sftp(ref writer) => writer.space().await,
            #[cfg(feature = "webdav")]
            Service::Webdav(_) => None,
        }
    }

    /// Removes temporary objects that were last written to `age` or longer before `now`.
    pub(crate) async fn sweep(&self, now: SystemTime, age: Duration) -> Result<Swept, Cause> {
        let mut swept = Swept::default();
        for (name, modified) in self.names_in(TEMPORARY_FOLDER).await? {
            if !is_temporary_name(&name) {
                continue;
            }
            // One of which the age is not known is kept, and so is one from the future: it may be in use.
            if modified.is_some_and(|modified| now.duration_since(modified).is_ok_and(|since| since >= age)) {
                self.delete(&format!("{TEMPORARY_FOLDER}/{name}")).await?;
                swept.removed += 1;
            } else {
                swept.kept += 1;
            }
        }
        Ok(swept)
    }

    /// The names of files and folders in a folder, those of folders with a `/`, and when they were last written to.
    pub(crate) async fn names_in(&self, folder: &str) -> Result<Vec<(String, Option<SystemTime>)>, Cause> {
        let path = if folder.is_empty() { "/".to_owned() } else { format!("{folder}/") };
        let mut names = Vec::new();
        let mut lister = match self.operator.lister(&path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            lister => lister?,
        };
        while let Some(entry) = lister.try_next().await? {
            let whole = entry.path();
            let name = if folder.is_empty() { Some(whole) } else { whole.strip_prefix(&path) };
            // A folder lists itself, too.
            if let Some(name) = name.filter(|name| !matches!(*name, "" | "/" | "./")) {
                names.push((name.to_owned(), entry.metadata().last_modified().map(SystemTime::from)));
            }
        }
        Ok(names)
    }

    #[cfg(any(feature = "s3", feature = "webdav"))]
    async fn exists(&self, path: &str) -> Result<bool, Cause> {
        match self.operator.stat(path).await.map_err(Cause::from) {
            Ok(_) => Ok(true),
            Err(Cause::NotFound) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// True if exactly these bytes have the name.
    async fn holds(&self, path: &str, bytes: &Bytes) -> Result<bool, Cause> {
        let length = bytes.len() as u64;
        if self.operator.stat(path).await?.content_length() != length {
            return Ok(false);
        }
        match read_range(&self.operator, path, 0..length, self.stall).await {
            Err(Cause::Short { .. }) => Ok(false),
            read => Ok(read? == *bytes),
        }
    }
}

/// The paths above one without `/` at its ends, the empty one at last; none above the empty one.
#[cfg(any(feature = "s3", feature = "webdav"))]
fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path).filter(|path| !path.is_empty()), |path| {
        Some(path.rsplit_once('/').map_or("", |(above, _)| above)).filter(|_| !path.is_empty())
    })
    .skip(1)
}

/// True if the site's marker may be made where it is missing: it is what is written.
#[cfg(any(feature = "sftp", feature = "webdav"))]
fn is_marker(path: &str) -> bool {
    path == ObjectKey::Marker.path()
}

/// A name for an object that is not yet under its own.
#[cfg(any(feature = "sftp", feature = "webdav"))]
fn temporary_path() -> String {
    format!("{TEMPORARY_FOLDER}/{:032x}", rand::random::<u128>())
}

#[cfg(all(test, any(feature = "s3", feature = "webdav")))]
mod tests {
    #[test]
    fn a_path_lies_in_those_above_it() {
        let above = |path| super::parents(path).collect::<Vec<_>>();
        assert_eq!(above("a/b/c"), ["a/b", "a", ""]);
        assert_eq!(above("a"), [""]);
        assert!(above("").is_empty());
    }
}
