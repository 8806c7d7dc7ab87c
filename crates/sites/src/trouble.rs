//! What a remote service refuses for, told from what it and the network say.
//!
//! - **Owns** the reading of statuses, codes and words of services; no other module looks at them.
//! - **Does not** repeat headers or requests: they could hold a secret.

use std::error::Error;

use crate::error::Remedy;

/// What is wrong with a remote site, or with the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    #[error("it does not accept the credentials")]
    Credentials,
    #[error("no credentials for it were found")]
    NoCredentials,
    #[error("these credentials may not do that")]
    Forbidden,
    #[error("the bucket does not exist")]
    NoBucket,
    #[error("the bucket is in another region{}", named(region.as_deref()))]
    OtherRegion { region: Option<String> },
    #[error("its certificate is not trusted")]
    Certificate,
    #[error("its ssh host key is not the known one")]
    HostKey,
    #[error("its host is not known")]
    UnknownHost,
    #[error("nothing answers at its address")]
    Refused,
    #[error("its clock and that of this host differ too much")]
    Clock,
    #[error("it has no room")]
    Full,
    #[error("it is too busy")]
    Busy,
    #[error("the connection broke")]
    Broken,
    #[error("a setting is missing or wrong")]
    Setting,
    #[error("it answers in a way that is not understood")]
    Unclear,
}

fn named(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| format!(": {region}"))
}

impl Trouble {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Credentials | Self::NoCredentials => Remedy::GiveCredentials,
            Self::Forbidden => Remedy::Permit,
            Self::NoBucket => Remedy::MakeBucket,
            Self::OtherRegion { .. } => Remedy::NameRegion,
            Self::Setting => Remedy::CorrectUrl,
            Self::Certificate | Self::HostKey => Remedy::Trust,
            Self::UnknownHost | Self::Refused => Remedy::Reach,
            Self::Clock => Remedy::SetClock,
            Self::Full => Remedy::FreeSpace,
            Self::Busy | Self::Broken | Self::Unclear => Remedy::Examine,
        }
    }

    /// True if no object of the site can be had, whatever is asked.
    pub(crate) fn is_of_the_site(&self) -> bool {
        !matches!(self, Self::Forbidden | Self::Full | Self::Busy | Self::Broken | Self::Unclear)
    }

    /// True if nobody is there, as far as the first calls tell; a server that is too busy is there. A connection that was never of any use is
    /// one with something that listens for a server that is gone.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused | Self::Broken)
    }

    /// The same of a service that has no regions: it sends elsewhere because its address is another one.
    fn without_regions(self) -> Self {
        if matches!(self, Self::OtherRegion { .. }) { Self::Setting } else { self }
    }

    /// True if the same call may succeed a moment later.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Broken | Self::Refused)
    }
}

/// What a service refused, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{trouble} ({said})")]
pub struct ServiceFailure {
    pub trouble: Trouble,
    /// One line of what it said.
    pub said: String,
    /// The same call may succeed a moment later.
    pub is_passing: bool,
}

/// The longest line of a service's words that is repeated.
const SAID_MAX: usize = 300;

/// Words of a service or a library, and what they mean; the first that occurs counts.
const WORDS: [(&str, Trouble); 30] = [
    ("NoSuchBucket", Trouble::NoBucket),
    ("RequestTimeTooSkewed", Trouble::Clock),
    ("InvalidAccessKeyId", Trouble::Credentials),
    ("SignatureDoesNotMatch", Trouble::Credentials),
    ("InvalidToken", Trouble::Credentials),
    ("ExpiredToken", Trouble::Credentials),
    ("InvalidSecurity", Trouble::Credentials),
    ("NotSignedUp", Trouble::Credentials),
    ("PermanentRedirect", Trouble::OtherRegion { region: None }),
    ("AuthorizationHeaderMalformed", Trouble::OtherRegion { region: None }),
    ("IllegalLocationConstraintException", Trouble::OtherRegion { region: None }),
    ("QuotaExceeded", Trouble::Full),
    ("InsufficientStorage", Trouble::Full),
    ("XMinioStorageFull", Trouble::Full),
    ("SlowDown", Trouble::Busy),
    ("invalid peer certificate", Trouble::Certificate),
    ("Host key verification failed", Trouble::HostKey),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Trouble::HostKey),
    ("Permission denied (", Trouble::Credentials),
    ("Too many authentication failures", Trouble::Credentials),
    ("Could not resolve hostname", Trouble::UnknownHost),
    ("dns error", Trouble::UnknownHost),
    ("failed to lookup address", Trouble::UnknownHost),
    ("onnection refused", Trouble::Refused),
    ("No route to host", Trouble::Refused),
    ("signing credential", Trouble::NoCredentials),
    ("signing http request", Trouble::NoCredentials),
    ("no valid credential", Trouble::NoCredentials),
    ("region is missing", Trouble::Setting),
    ("AccessDenied", Trouble::Forbidden),
];

impl ServiceFailure {
    /// A failure of which the kind is known.
    pub(crate) fn new(trouble: Trouble, said: &str) -> Self {
        let is_passing = trouble.is_passing();
        Self { trouble, said: one_line(said), is_passing }
    }

    /// Reads what a storage library reports.
    pub(crate) fn of_storage(error: &opendal::Error) -> Self {
        if let Some(failure) = error.source().and_then(|source| source.downcast_ref::<Self>()) {
            return failure.clone();
        }
        let mut words = error.message().to_owned();
        let mut cause = error.source();
        while let Some(source) = cause {
            words.push_str(": ");
            words.push_str(&source.to_string());
            cause = source.source();
        }
        // The status and the region stand in the context alone, which is looked at and not repeated.
        let whole = error.to_string();
        let status = after(&whole, "status: ").and_then(|status| status.parse().ok());
        let by_status = |status| {
            let is_webdav = after(&whole, "service: ") == Some("webdav");
            by_status(status).map(|trouble| if is_webdav { trouble.without_regions() } else { trouble })
        };
        let trouble = match told_by(&words).or_else(|| status.and_then(by_status)) {
            Some(Trouble::OtherRegion { .. }) => {
                Trouble::OtherRegion { region: region_in(&whole).or(region_in(&words)) }
            }
            Some(trouble) => trouble,
            None => by_kind(error),
        };
        let is_passing = trouble.is_passing() || (trouble == Trouble::Unclear && error.is_temporary());
        if words.trim().is_empty() {
            words = status.map_or_else(|| "it said nothing".to_owned(), |status| format!("HTTP status {status}"));
        }
        Self { trouble, said: one_line(&words), is_passing }
    }

    /// Reads the status of an answer.
    #[cfg(feature = "webdav")]
    pub(crate) fn of_status(status: u16) -> Self {
        let trouble = by_status(status).map_or(Trouble::Unclear, Trouble::without_regions);
        Self::new(trouble, &format!("HTTP status {status}"))
    }

    /// Reads an error of the way to the service.
    #[cfg(any(feature = "webdav", feature = "sftp"))]
    pub(crate) fn of_way(error: &(dyn Error + 'static)) -> Self {
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            words.push_str(": ");
            words.push_str(&source.to_string());
            cause = source.source();
        }
        Self::new(told_by(&words).unwrap_or(Trouble::Broken), &words)
    }

    /// Reads what a program said about the way to the service.
    #[cfg(feature = "sftp")]
    pub(crate) fn of_words(words: &str) -> Self {
        Self::new(told_by(words).unwrap_or(Trouble::Broken), words)
    }
}

/// True if a service says that there are no bytes where some were asked for.
pub(crate) fn is_past_the_end(error: &opendal::Error) -> bool {
    after(&error.to_string(), "status: ") == Some("416")
}

fn told_by(words: &str) -> Option<Trouble> {
    WORDS.iter().find(|(word, _)| words.contains(word)).map(|(_, trouble)| trouble.clone())
}

fn by_status(status: u16) -> Option<Trouble> {
    Some(match status {
        401 => Trouble::Credentials,
        // A method that is not allowed is one that nobody has the right to.
        403 | 405 => Trouble::Forbidden,
        301 | 307 | 308 => Trouble::OtherRegion { region: None },
        302 | 303 => Trouble::Setting,
        413 | 507 => Trouble::Full,
        423 | 429 | 503 => Trouble::Busy,
        500 | 502 | 504 => Trouble::Broken,
        _ => return None,
    })
}

fn by_kind(error: &opendal::Error) -> Trouble {
    match error.kind() {
        opendal::ErrorKind::PermissionDenied => Trouble::Forbidden,
        opendal::ErrorKind::RateLimited => Trouble::Busy,
        opendal::ErrorKind::ConfigInvalid => Trouble::Setting,
        _ if error.message().starts_with("send http request") || error.message().starts_with("read data from") => {
            Trouble::Broken
        }
        _ => Trouble::Unclear,
    }
}

/// The word that follows a mark.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    let rest = rest.trim_start_matches(['"', '\'', ' ', '`']);
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
    rest.get(..end).filter(|word| !word.is_empty())
}

fn region_in(text: &str) -> Option<String> {
    let marks = ["x-amz-bucket-region\": ", "expecting ", "<Region>"];
    marks.iter().find_map(|mark| after(text, mark)).map(str::to_owned)
}

/// One line without control characters, of a length that fits a terminal.
fn one_line(words: &str) -> String {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if line.len() + word.len() > SAID_MAX {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, status: u16) -> ServiceFailure {
        let error = opendal::Error::new(opendal::ErrorKind::Unexpected, message);
        let response = format!("Parts {{ status: {status}, headers: {{\"x-amz-bucket-region\": \"eu-west-1\"}} }}");
        ServiceFailure::of_storage(&error.with_context("response", response))
    }

    #[test]
    fn words_of_services_are_understood() {
        assert_eq!(failure("S3Error { code: \"InvalidAccessKeyId\" }", 403).trouble, Trouble::Credentials);
        assert_eq!(failure("S3Error { code: \"AccessDenied\" }", 403).trouble, Trouble::Forbidden);
        assert_eq!(failure("S3Error { code: \"NoSuchBucket\" }", 404).trouble, Trouble::NoBucket);
        let moved = failure("", 301);
        assert_eq!(moved.trouble, Trouble::OtherRegion { region: Some("eu-west-1".to_owned()) });
        assert_eq!(moved.to_string(), "the bucket is in another region: eu-west-1 (HTTP status 301)");
        assert_eq!(failure("", 507).trouble, Trouble::Full);
        assert!(failure("", 503).is_passing && !failure("", 401).is_passing);
        assert_eq!(failure("what?", 418).trouble, Trouble::Unclear);
        assert_eq!(failure("", 405).trouble, Trouble::Forbidden, "nobody may do that");
    }

    #[test]
    fn a_server_without_regions_that_sends_elsewhere_has_another_address() {
        let error = opendal::Error::new(opendal::ErrorKind::Unexpected, "")
            .with_context("service", "webdav")
            .with_context("response", "Parts { status: 301, headers: {} }");
        assert_eq!(ServiceFailure::of_storage(&error).to_string(), "a setting is missing or wrong (HTTP status 301)");
        #[cfg(feature = "webdav")]
        assert_eq!(ServiceFailure::of_status(308).trouble, Trouble::Setting);
    }

    #[test]
    fn words_are_cut_to_a_line() {
        let said = failure(&format!("a\nb\u{1b}[2J {}", "word ".repeat(200)), 418).said;
        assert!(said.starts_with("a b[2J word") && said.len() < SAID_MAX + 10 && !said.contains('\n'), "{said}");
    }
}
