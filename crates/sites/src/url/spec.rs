//! A site as it is given on a command line and stored: its URL, name, labels and limits.

use std::path::Path;

use super::{SiteUrl, UrlError};
use crate::limits::{Rate, RateError, SiteLimits};
use crate::name::{NameError, SiteName, check_text};

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
    /// How fast bytes may go to and come from it.
    #[serde(flatten)]
    pub limits: SiteLimits,
}

/// Why a text is not a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    #[error("could not read the URL of a site")]
    Url(#[from] UrlError),
    #[error(
        "`{part}` is not name=…, region=…, provider=…, upload=… or download=…; a comma in a path is written %2C in a URL"
    )]
    UnknownKey { part: String },
    #[error("{key} is given twice")]
    Duplicate { key: String },
    #[error("{key} cannot be used")]
    Value {
        key: String,
        #[source]
        source: NameError,
    },
    #[error("{key} cannot be used")]
    Rate {
        key: String,
        #[source]
        source: RateError,
    },
    #[error("`{url}` gives no name to the site: add ,name=…")]
    NoName { url: SiteUrl },
}

impl SiteSpec {
    /// Reads `URL[,name=N][,region=R][,provider=P][,upload=RATE][,download=RATE]`; a plain path is made absolute from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SpecError> {
        let mut parts = text.split(',');
        let url = SiteUrl::parse(parts.next().unwrap_or_default(), base)?;
        let (mut name, mut region, mut provider) = (None, None, None);
        let (mut upload, mut download) = (None, None);
        for part in parts {
            let unknown = || SpecError::UnknownKey { part: part.to_owned() };
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let slot = match key {
                "name" => &mut name,
                "region" => &mut region,
                "provider" => &mut provider,
                "upload" => &mut upload,
                "download" => &mut download,
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
            None => url.default_name(),
        };
        let Some(name) = name else { return Err(SpecError::NoName { url }) };
        let limits = SiteLimits { upload: rate("upload", upload)?, download: rate("download", download)? };
        Ok(Self { url, name, labels: Labels { region, provider }, limits })
    }
}

fn rate(key: &str, text: Option<String>) -> Result<Option<Rate>, SpecError> {
    let parse = |text: String| text.parse().map_err(|source| SpecError::Rate { key: key.to_owned(), source });
    text.map(parse).transpose()
}
