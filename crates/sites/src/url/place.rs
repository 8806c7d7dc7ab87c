//! Where remote sites are, and how that is written.
//!
//! - **Owns** the spelling of `s3:`, `sftp:` and `webdav:` URLs.
//! - **Does not** hold a secret: a URL with a password is refused, for it would be stored and shown.
//!
//! Reference: `docs/reference/sites.md`.

use std::fmt::{self, Write as _};

use super::{UrlError, percent_decode};

/// A prefix in a bucket of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Place {
    pub bucket: String,
    /// Without `/` at its ends; empty for the whole bucket.
    pub prefix: String,
    /// Scheme, host and port; none for AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Whether the bucket stands in the path, not in the host name; none for what suits the endpoint.
    pub path_style: Option<bool>,
    /// The profile of `~/.aws` to take credentials from.
    pub profile: Option<String>,
    /// False for a service that does not know conditional writes: then it is looked before it is written.
    pub conditional: bool,
}

/// A folder of an SFTP server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SftpPlace {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// From the server's root.
    pub path: String,
    /// The file of the private key, if it is not the one that ssh takes by itself.
    pub key: Option<String>,
    /// The file of known host keys, if it is not ssh's own.
    pub known_hosts: Option<String>,
}

/// A folder of a WebDAV server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebdavPlace {
    pub user: Option<String>,
    /// Scheme, host and port.
    pub endpoint: String,
    /// From the server's root.
    pub path: String,
}

impl S3Place {
    /// Whose loss takes the site along: the host of the endpoint, or the bucket at AWS.
    pub(super) fn authority(&self) -> String {
        self.endpoint.as_deref().map_or_else(|| format!("aws/{}", self.bucket), |endpoint| host_of(endpoint).to_owned())
    }

    /// Reads what follows `s3:`.
    pub(super) fn parse(url: &str, rest: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError::Form { url: redacted(url), form: "s3://BUCKET/PREFIX?endpoint=https://HOST" };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (endpoint, path) = if let Some(path) = place.strip_prefix("//") {
            (None, path)
        } else {
            let (scheme, after) = match place.split_once("://") {
                Some((scheme @ ("http" | "https"), after)) => (scheme, after),
                Some(_) => return Err(wrong()),
                None => ("https", place),
            };
            let (host, path) = after.split_once('/').ok_or_else(wrong)?;
            (Some(bare_endpoint(url, &format!("{scheme}://{host}"), wrong)?), path)
        };
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_bucket = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if bucket.contains('@') {
            return Err(UrlError::Secret { url: redacted(url) });
        }
        if bucket.is_empty() || !bucket.chars().all(is_bucket) || bucket.chars().all(|c| c == '.') {
            return Err(wrong());
        }
        let prefix = decoded_path(url, prefix)?;
        let mut found = Self {
            bucket: bucket.to_owned(),
            prefix,
            endpoint,
            region: None,
            path_style: None,
            profile: None,
            conditional: true,
        };
        for (key, value) in query_of(url, query)? {
            let flag = || match value.as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(UrlError::Query { url: redacted(url), key: key.clone() }),
            };
            match key.as_str() {
                "endpoint" if found.endpoint.is_none() => found.endpoint = Some(bare_endpoint(url, &value, wrong)?),
                "region" => found.region = Some(value),
                "path_style" => found.path_style = Some(flag()?),
                "profile" => found.profile = Some(value),
                "conditional" => found.conditional = flag()?,
                _ => return Err(unknown(url, &key)),
            }
        }
        Ok(found)
    }
}

impl SftpPlace {
    pub(super) fn parse(url: &str, rest: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError::Form { url: redacted(url), form: "sftp://USER@HOST:PORT/FOLDER" };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match place.strip_prefix("//") {
            Some(place) => place.split_once('/').ok_or_else(wrong)?,
            // As scp has it: user@host:/folder.
            None => place.split_once(":/").ok_or_else(wrong)?,
        };
        let (user, host, port) = authority_of(url, authority, wrong)?;
        let path = decoded_path(url, path)?;
        if path.is_empty() {
            return Err(wrong());
        }
        let mut found = Self { user, host, port, path: format!("/{path}"), key: None, known_hosts: None };
        for (key, value) in query_of(url, query)? {
            let slot = match key.as_str() {
                "key" => &mut found.key,
                "known_hosts" => &mut found.known_hosts,
                _ => return Err(unknown(url, &key)),
            };
            if !value.starts_with('/') {
                return Err(UrlError::Query { url: redacted(url), key });
            }
            *slot = Some(value);
        }
        Ok(found)
    }
}

impl WebdavPlace {
    pub(super) fn parse(url: &str, rest: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError::Form { url: redacted(url), form: "webdav:https://HOST/FOLDER" };
        let (scheme, after) = rest.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "http" | "https") || after.contains('?') {
            return Err(wrong());
        }
        let (authority, path) = after.split_once('/').ok_or_else(wrong)?;
        let path = decoded_path(url, path)?;
        if path.is_empty() {
            return Err(wrong());
        }
        let (endpoint, user) = endpoint_of(url, &format!("{scheme}://{authority}"), wrong)?;
        if scheme == "http" && !is_this_host(host_of(&endpoint)) {
            return Err(UrlError::Plain { url: redacted(url) });
        }
        Ok(Self { user, endpoint, path: format!("/{path}") })
    }
}

#[cfg(feature = "webdav")]
impl WebdavPlace {
    /// The URL that requests go to, without a `/` at its end.
    pub(crate) fn http_url(&self) -> String {
        struct Path<'a>(&'a str);
        impl fmt::Display for Path<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encoded(f, self.0, IN_PATH)
            }
        }
        format!("{}{}", self.endpoint, Path(&self.path))
    }

    /// The name of the server.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.endpoint)
    }
}

/// A URL with everything before an `@` taken out: it may be a secret.
pub(super) fn redacted(url: &str) -> String {
    match (url.split_once(':'), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}:…@{rest}"),
        _ => url.to_owned(),
    }
}

fn unknown(url: &str, key: &str) -> UrlError {
    let lower = key.to_ascii_lowercase();
    if ["secret", "password", "token", "access"].iter().any(|word| lower.contains(word)) {
        // Not even the rest of the URL is repeated: the value stands in it.
        let place = url.split_once('?').map_or("", |(place, _)| place);
        return UrlError::Secret { url: redacted(place) };
    }
    UrlError::Query { url: redacted(url), key: key.to_owned() }
}

/// User, host and port.
fn authority_of(
    url: &str,
    authority: &str,
    wrong: impl Fn() -> UrlError,
) -> Result<(Option<String>, String, Option<u16>), UrlError> {
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => return Err(UrlError::Secret { url: redacted(url) }),
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or((port.is_empty()).then_some(""))),
        None => place.split_once(':').map_or((place, Some("")), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some("") => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(&wrong)?),
        None => return Err(wrong()),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    // A leading - would be an option of ssh.
    if host.is_empty() || host.starts_with('-') || !host.chars().all(is_host) {
        return Err(wrong());
    }
    let user = match user {
        None => None,
        Some(user) => {
            let bytes = percent_decode(user).ok_or_else(|| UrlError::Escape { url: redacted(url) })?;
            let user = String::from_utf8(bytes).map_err(|_| wrong())?;
            if user.is_empty() || user.starts_with('-') || user.chars().any(|c| c.is_control() || c == ':') {
                return Err(wrong());
            }
            Some(user)
        }
    };
    Ok((user, host.to_ascii_lowercase(), port))
}

/// The endpoint without what it may not hold, and the user in it.
fn endpoint_of(url: &str, text: &str, wrong: impl Fn() -> UrlError) -> Result<(String, Option<String>), UrlError> {
    let (scheme, authority) = text.split_once("://").unwrap_or(("https", text));
    if !matches!(scheme, "http" | "https") {
        return Err(wrong());
    }
    let (user, host, port) = authority_of(url, authority.trim_end_matches('/'), &wrong)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Ok((format!("{scheme}://{host}{port}"), user))
}

/// An endpoint that names no user: the credentials of S3 are not given that way.
fn bare_endpoint(url: &str, text: &str, wrong: impl Fn() -> UrlError) -> Result<String, UrlError> {
    match endpoint_of(url, text, wrong)? {
        (endpoint, None) => Ok(endpoint),
        (_, Some(_)) => Err(UrlError::Secret { url: redacted(url) }),
    }
}

/// The host of an endpoint that was read by [`endpoint_of`].
pub(super) fn host_of(endpoint: &str) -> &str {
    let place = endpoint.split_once("://").map_or(endpoint, |(_, place)| place);
    match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, _)) => host,
        None => place.split_once(':').map_or(place, |(host, _)| host),
    }
}

fn is_this_host(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

/// A path without empty parts.
fn decoded_path(url: &str, path: &str) -> Result<String, UrlError> {
    let bytes = percent_decode(path).ok_or_else(|| UrlError::Escape { url: redacted(url) })?;
    if bytes.contains(&0) {
        return Err(UrlError::Zero { url: redacted(url) });
    }
    let text = String::from_utf8(bytes).map_err(|_| UrlError::Escape { url: redacted(url) })?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(UrlError::NotNormal { url: redacted(url) });
    }
    Ok(parts.join("/"))
}

fn query_of(url: &str, query: &str) -> Result<Vec<(String, String)>, UrlError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| unknown(url, part))?;
        let value = percent_decode(value).and_then(|bytes| String::from_utf8(bytes).ok());
        let value = value.filter(|value| !value.is_empty() && !value.chars().any(char::is_control));
        let value = value.ok_or_else(|| unknown(url, key))?;
        if found.iter().any(|(other, _)| other == key) {
            return Err(unknown(url, key));
        }
        found.push((key.to_owned(), value));
    }
    Ok(found)
}

/// Writes text with everything encoded that has a meaning in a URL or a list.
fn encoded(f: &mut fmt::Formatter<'_>, text: &str, plain: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

const IN_PATH: &str = "/-_.~+=";
const IN_QUERY: &str = "/-_.~:[]";
const IN_USER: &str = "-_.~+";

fn write_query(f: &mut fmt::Formatter<'_>, values: &[(&str, Option<&str>)]) -> fmt::Result {
    let mut mark = '?';
    for (key, value) in values {
        if let Some(value) = value {
            write!(f, "{mark}{key}=")?;
            encoded(f, value, IN_QUERY)?;
            mark = '&';
        }
    }
    Ok(())
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            f.write_char('/')?;
            encoded(f, &self.prefix, IN_PATH)?;
        }
        let flag = |flag: bool| if flag { "true" } else { "false" };
        write_query(
            f,
            &[
                ("endpoint", self.endpoint.as_deref()),
                ("region", self.region.as_deref()),
                ("path_style", self.path_style.map(flag)),
                ("profile", self.profile.as_deref()),
                ("conditional", (!self.conditional).then_some("false")),
            ],
        )
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            encoded(f, user, IN_USER)?;
            f.write_char('@')?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        encoded(f, &self.path, IN_PATH)?;
        write_query(f, &[("key", self.key.as_deref()), ("known_hosts", self.known_hosts.as_deref())])
    }
}

impl fmt::Display for WebdavPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = self.endpoint.split_once("://").unwrap_or(("https", &self.endpoint));
        write!(f, "webdav:{scheme}://")?;
        if let Some(user) = &self.user {
            encoded(f, user, IN_USER)?;
            f.write_char('@')?;
        }
        f.write_str(host)?;
        encoded(f, &self.path, IN_PATH)
    }
}
