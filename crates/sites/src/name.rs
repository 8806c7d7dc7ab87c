//! Names of sites, as people give and read them.
//!
//! # Invariants
//! - **N1** A name is 1 to 255 bytes of UTF-8 without commas, control characters, or blanks at either end, so it can
//!   stand in a comma-separated list and on one line of a terminal.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The greatest length of a name or label, in bytes.
pub(crate) const SITE_TEXT_MAX: usize = 255;

/// The name of a site, unique in its vault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(String);

/// Why a text cannot name a site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it has {length} bytes, the limit is {SITE_TEXT_MAX}")]
    TooLong { length: usize },
    #[error("`{}` holds a comma, a control character or a blank at an end", text.escape_debug())]
    Character { text: String },
}

/// Checks the text of a name or label.
pub(crate) fn check_text(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > SITE_TEXT_MAX {
        return Err(NameError::TooLong { length: text.len() });
    }
    if text.contains(|character: char| character == ',' || character.is_control()) || text.trim() != text {
        return Err(NameError::Character { text: text.to_owned() });
    }
    Ok(())
}

impl SiteName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_text(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The name that a site gets from the last component of its folder, with characters replaced that a name cannot
    /// hold; none for a path without a component.
    pub fn from_path(path: &Path) -> Option<Self> {
        let text = path.file_name()?.to_string_lossy();
        let clean: String = text.chars().map(|c| if c == ',' || c.is_control() { '-' } else { c }).collect();
        Self::parse(clean.trim()).ok()
    }

    /// The same name with a number behind it, to tell sites apart whose folders have one name.
    #[must_use]
    pub fn with_number(&self, number: usize) -> Self {
        let suffix = format!("-{number}");
        let mut text = self.0.clone();
        while text.len() + suffix.len() > SITE_TEXT_MAX {
            text.pop();
        }
        Self(text + &suffix)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SiteName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl serde::Serialize for SiteName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for SiteName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_in_a_list_and_on_a_line() {
        assert_eq!(SiteName::parse("oslo 2 ü").unwrap().as_str(), "oslo 2 ü");
        assert_eq!(SiteName::parse(""), Err(NameError::Empty));
        assert_eq!(SiteName::parse(&"x".repeat(256)), Err(NameError::TooLong { length: 256 }));
        for text in ["a,b", "a\nb", " a", "a ", "\u{1b}[2J"] {
            assert!(matches!(SiteName::parse(text), Err(NameError::Character { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_folder_gives_its_site_a_name() {
        assert_eq!(SiteName::from_path(Path::new("/mnt/a,b\n")).unwrap().as_str(), "a-b-");
        assert_eq!(SiteName::from_path(Path::new("/")), None);
        let long = SiteName::parse(&"ü".repeat(127)).unwrap().with_number(12);
        assert!(long.as_str().ends_with("ü-12") && long.as_str().len() <= SITE_TEXT_MAX);
    }
}
