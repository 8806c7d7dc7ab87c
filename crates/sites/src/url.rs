//! Where a site is: its URL, and how it is given on a command line.
//!
//! - **Owns** the spelling of URLs; `place` those of remote sites, `spec` that of a site with its labels.
//! - **Does not** open anything. Only a plain path is looked up, because a stored URL must be absolute.
//!
//! # Invariants
//! - **U1** A URL is absolute, without `.` and `..`, and its text gives back the same URL: any bytes of a path that are
//!   not plain ASCII, and commas, are percent-encoded.
//! - **U2** No URL holds a secret: it is stored, shown and sealed into the key bag as it is.

mod place;
mod spec;

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::name::SiteName;
use place::redacted;

pub use place::{S3Place, SftpPlace, WebdavPlace};
pub use spec::{Labels, SiteSpec, SpecError};

/// Device numbers of remote sites have this bit, those of disks have not; the sign bit is free, for TOML has none.
const REMOTE_DEVICE: u64 = 1 << 62;

/// Where the objects of a site are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiteUrl {
    /// A folder of this host.
    File(PathBuf),
    /// A prefix in a bucket.
    S3(S3Place),
    /// A folder of an SFTP server.
    Sftp(SftpPlace),
    /// A folder of a WebDAV server.
    Webdav(WebdavPlace),
}

/// Why a text is not the URL of a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    #[error("the URL of a site is empty")]
    Empty,
    #[error("this build of blockhouse knows no `{scheme}:` sites: take one that was built with the feature `{scheme}`")]
    NotBuilt { scheme: &'static str },
    #[error(
        "`{scheme}:` is no kind of site, known are file:, s3:, sftp: and webdav:; a relative path with a colon is written ./{text}"
    )]
    UnknownScheme { scheme: String, text: String },
    #[error("`{url}` is not of the form {form}")]
    Form { url: String, form: &'static str },
    #[error("`{url}`: `{key}` is no setting of such a site, is given twice, or has a value that it cannot have")]
    Query { url: String, key: String },
    #[error(
        "the URL {url} holds a secret, and URLs are stored and shown: leave it out and give it by the environment or a file (docs/reference/sites.md)"
    )]
    Secret { url: String },
    #[error("`{url}` would send the password in clear over the network: write https://")]
    Plain { url: String },
    #[error("`{url}` names the host `{host}`; a file: URL is of this host: mount its folder and write file:/path")]
    Host { url: String, host: String },
    #[error("`{url}` is not absolute: write file:/path, or a path without `file:`")]
    NotAbsolute { url: String },
    #[error("`{url}` holds `.` or `..`: write the path without them")]
    NotNormal { url: String },
    #[error("`{url}` holds a % that is not followed by two hexadecimal digits; % itself is written %25")]
    Escape { url: String },
    #[error("`{url}` holds a zero byte")]
    Zero { url: String },
    #[error("could not find the folder `{}`, which the site's folder should be in: create or mount it first", parent.display())]
    Parent {
        parent: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl SiteUrl {
    /// Reads a URL of a kind that this build can reach, or a plain path, which is made absolute from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, UrlError> {
        match scheme_of(text) {
            Some(_) => match Self::parse_absolute(text)? {
                url if url.is_built() => Ok(url),
                url => Err(UrlError::NotBuilt { scheme: url.scheme() }),
            },
            None if text.is_empty() => Err(UrlError::Empty),
            None => resolve(&base.join(text)).map(Self::File),
        }
    }

    /// Reads a URL as it is stored: one with a scheme. Whether this build can reach it is not asked.
    pub fn parse_absolute(text: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = scheme_of(text) else {
            return Err(if text.is_empty() { UrlError::Empty } else { UrlError::NotAbsolute { url: text.to_owned() } });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file_path(text, rest).map(Self::File),
            "s3" => S3Place::parse(text, rest).map(Self::S3),
            "sftp" => SftpPlace::parse(text, rest).map(Self::Sftp),
            "webdav" => WebdavPlace::parse(text, rest).map(Self::Webdav),
            "webdavs" => WebdavPlace::parse(text, &format!("https:{rest}")).map(Self::Webdav),
            _ => Err(UrlError::UnknownScheme { scheme: scheme.to_owned(), text: redacted(text) }),
        }
    }

    /// The folder of a site on this host.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::S3(_) | Self::Sftp(_) | Self::Webdav(_) => None,
        }
    }

    /// The kind of site, which is also the name of the feature that reaches it.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::S3(_) => "s3",
            Self::Sftp(_) => "sftp",
            Self::Webdav(_) => "webdav",
        }
    }

    /// True if this build can reach such a site.
    pub fn is_built(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::S3(_) => cfg!(feature = "s3"),
            Self::Sftp(_) => cfg!(feature = "sftp"),
            Self::Webdav(_) => cfg!(feature = "webdav"),
        }
    }

    /// Where it is, for people: the path of a folder, else the URL.
    pub fn place(&self) -> String {
        self.folder().map_or_else(|| self.to_string(), |path| path.display().to_string())
    }

    /// The name that a site gets from where it is: the last part of its path, else its bucket or host.
    pub fn default_name(&self) -> Option<SiteName> {
        let or = |path: &str, other: &str| SiteName::from_path(Path::new(path)).or(SiteName::parse(other).ok());
        match self {
            Self::File(path) => SiteName::from_path(path),
            Self::S3(place) => or(&place.prefix, &place.bucket),
            Self::Sftp(place) => or(&place.path, &place.host),
            Self::Webdav(place) => or(&place.path, place::host_of(&place.endpoint)),
        }
    }

    /// A number that remote sites have in common which are lost together: those of one host, or of one bucket at AWS.
    pub fn remote_device(&self) -> Option<u64> {
        let authority = match self {
            Self::File(_) => return None,
            Self::S3(place) => place.authority(),
            Self::Sftp(place) => place.host.clone(),
            Self::Webdav(place) => place::host_of(&place.endpoint).to_owned(),
        };
        let hash = blake3::hash(authority.as_bytes());
        let number = hash.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Some((number & (REMOTE_DEVICE - 1)) | REMOTE_DEVICE)
    }
}

/// The scheme and what follows it, if the text begins with one.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme.then_some((scheme, rest))
}

fn file_path(url: &str, rest: &str) -> Result<PathBuf, UrlError> {
    let url = || url.to_owned();
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(authority) => {
            let (host, _) = authority.split_once('/').ok_or_else(|| UrlError::NotAbsolute { url: url() })?;
            if !host.is_empty() && host != "localhost" {
                return Err(UrlError::Host { url: url(), host: host.to_owned() });
            }
            authority.strip_prefix(host).unwrap_or(authority)
        }
    };
    if !path.starts_with('/') {
        return Err(UrlError::NotAbsolute { url: url() });
    }
    let bytes = percent_decode(path).ok_or_else(|| UrlError::Escape { url: url() })?;
    if bytes.contains(&0) {
        return Err(UrlError::Zero { url: url() });
    }
    // `Path::components` drops `.` by itself, so dots are looked for in the bytes.
    if bytes.split(|byte| *byte == b'/').any(|part| part == b"." || part == b"..") {
        return Err(UrlError::NotNormal { url: url() });
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)).components().collect())
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, rest) = rest.split_at_checked(2)?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.extend_from_slice(&byte);
        left = rest;
    }
    Some(bytes)
}

/// The path with its folder's real name. The last component stays as it was typed: it may not exist yet, or be a
/// symbolic link that is meant to be moved.
fn resolve(path: &Path) -> Result<PathBuf, UrlError> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(UrlError::Zero { url: path.display().to_string() });
    }
    let (parent, last) = match path.components().next_back() {
        Some(Component::Normal(last)) => (path.parent().unwrap_or(path), Some(last)),
        _ => (path, None),
    };
    let real = parent.canonicalize().map_err(|source| UrlError::Parent { parent: parent.to_owned(), source })?;
    Ok(match last {
        Some(last) => real.join(last),
        None => real,
    })
}

impl fmt::Display for SiteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Self::File(path) => path,
            Self::S3(place) => return place.fmt(f),
            Self::Sftp(place) => return place.fmt(f),
            Self::Webdav(place) => return place.fmt(f),
        };
        f.write_str("file:")?;
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' | b'+' | b'@' | b'=' => {
                    f.write_char(char::from(*byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

impl serde::Serialize for SiteUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SiteUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse_absolute(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
