//! Where a site is: its URL, and how it is given on a command line.
//!
//! - **Owns** the spelling of `file:` URLs and of `URL[,name=N][,region=R][,provider=P]`.
//! - **Does not** open anything. Only a plain path is looked up, because a stored URL must be absolute.
//!
//! # Invariants
//! - **U1** A URL is absolute, without `.` and `..`, and its text gives back the same URL: any bytes of a path that are
//!   not plain ASCII, and commas, are percent-encoded.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::name::{NameError, SiteName, check_text};

/// What later versions will reach.
const LATER: [&str; 3] = ["s3", "sftp", "webdav"];

/// Where the objects of a site are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiteUrl {
    /// A folder of this host.
    File(PathBuf),
}

/// Why a text is not the URL of a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    #[error("the URL of a site is empty")]
    Empty,
    #[error(
        "`{scheme}:` sites come in a later version, this one knows file: only; mount the storage and give its folder"
    )]
    Later { scheme: String },
    #[error(
        "`{scheme}:` is no kind of site, known is file: ({} come later); a relative path with a colon is written ./{text}",
        list_later()
    )]
    UnknownScheme { scheme: String, text: String },
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

fn list_later() -> String {
    LATER.map(|scheme| format!("{scheme}:")).join(", ")
}

impl SiteUrl {
    /// Reads a `file:` URL, or a plain path, which is made absolute from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, UrlError> {
        match scheme_of(text) {
            Some(_) => Self::parse_absolute(text),
            None if text.is_empty() => Err(UrlError::Empty),
            None => resolve(&base.join(text)).map(Self::File),
        }
    }

    /// Reads a URL as it is stored: one with a scheme.
    pub fn parse_absolute(text: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = scheme_of(text) else {
            return Err(if text.is_empty() { UrlError::Empty } else { UrlError::NotAbsolute { url: text.to_owned() } });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file_path(text, rest).map(Self::File),
            known if LATER.contains(&known) => Err(UrlError::Later { scheme: known.to_owned() }),
            _ => Err(UrlError::UnknownScheme { scheme: scheme.to_owned(), text: text.to_owned() }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
        }
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
        let Self::File(path) = self;
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

/// What the user says about where a site is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Labels {
    /// Where on earth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// A site as it is given: where, its name, its labels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SiteSpec {
    /// Where it is.
    pub url: SiteUrl,
    /// Its name. One that was not given comes from the folder and may not be unique: the caller numbers them.
    pub name: SiteName,
    /// Its labels.
    #[serde(flatten)]
    pub labels: Labels,
}

/// Why a text is not a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    #[error("could not read the URL of a site")]
    Url(#[from] UrlError),
    #[error("`{part}` is not name=…, region=… or provider=…; a comma in a path is written %2C in a file: URL")]
    UnknownKey { part: String },
    #[error("{key} is given twice")]
    Duplicate { key: String },
    #[error("{key} cannot be used")]
    Value {
        key: String,
        #[source]
        source: NameError,
    },
    #[error("`{url}` gives no name to the site: add ,name=…")]
    NoName { url: SiteUrl },
}

impl SiteSpec {
    /// Reads `URL[,name=N][,region=R][,provider=P]`; a plain path is made absolute from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let url = SiteUrl::parse(parts.next().unwrap_or_default(), base)?;
        let (mut name, mut region, mut provider) = (None, None, None);
        for part in parts {
            let unknown = || SpecError::UnknownKey { part: part.to_owned() };
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let slot = match key {
                "name" => &mut name,
                "region" => &mut region,
                "provider" => &mut provider,
                _ => return Err(unknown()),
            };
            check_text(value).map_err(|source| SpecError::Value { key: key.to_owned(), source })?;
            if slot.replace(value.to_owned()).is_some() {
                return Err(SpecError::Duplicate { key: key.to_owned() });
            }
        }
        let name = match name {
            Some(name) => {
                Some(SiteName::parse(&name).map_err(|source| SpecError::Value { key: "name".to_owned(), source })?)
            }
            None => SiteName::from_path(url.path()),
        };
        let Some(name) = name else { return Err(SpecError::NoName { url }) };
        Ok(Self { url, name, labels: Labels { region, provider } })
    }
}

#[cfg(test)]
mod tests;
