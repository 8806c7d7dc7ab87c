//! Names of nodes, and where nodes stand: what fails together with them.
//!
//! - **Owns** what a name may be, and how a place is written: as that of a storage site.
//! - **Does not** say what a loss does to a network: `survival` does.
//!
//! # Invariants
//! - **P1** A label is 1 to 64 visible ASCII characters without a comma: it comes from strangers, stands in lists, and nothing in it
//!   can be taken for something else on a screen.

use std::fmt;
use std::str::FromStr;

/// The greatest length of a label in bytes.
pub(super) const LABEL_MAX: usize = 64;

/// A name of a node, or of something that nodes share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no name: 1 to {LABEL_MAX} visible ASCII characters without a comma are", text.escape_debug())]
pub struct LabelError {
    /// The text.
    pub text: String,
}

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let is_fit = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        if text.is_empty() || text.len() > LABEL_MAX || !text.bytes().all(is_fit) {
            // What is shown of it is bounded too.
            return Err(LabelError { text: text.chars().take(LABEL_MAX).collect() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a loss may take at once, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// One node.
    Node,
    /// All nodes of one data centre.
    Site,
    /// All nodes that one provider runs.
    Provider,
    /// All nodes of one region.
    Region,
}

impl Domain {
    /// Those that a place names.
    pub const WIDER: [Self; 3] = [Self::Site, Self::Provider, Self::Region];

    /// As it is written and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Site => "site",
            Self::Provider => "provider",
            Self::Region => "region",
        }
    }
}

/// Where a node stands, as far as its operator tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its data centre.
    pub site: Option<Label>,
    /// Who runs the machine under it.
    pub provider: Option<Label>,
    /// Where on earth it is.
    pub region: Option<Label>,
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    #[error("`{}` is none of site=NAME, provider=NAME, region=NAME", text.escape_debug())]
    Kind { text: String },
    #[error("it names its {kind} twice")]
    Twice { kind: String },
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl Place {
    /// What it says of one kind of domain.
    pub const fn of(&self, domain: Domain) -> Option<&Label> {
        match domain {
            Domain::Node => None,
            Domain::Site => self.site.as_ref(),
            Domain::Provider => self.provider.as_ref(),
            Domain::Region => self.region.as_ref(),
        }
    }
}

/// Reads `site=S,provider=P,region=R`, each at most once, in any order.
impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut place = Self::default();
        for part in text.split(',') {
            let unknown = || PlaceError::Kind { text: part.chars().take(LABEL_MAX).collect() };
            let (kind, name) = part.split_once('=').ok_or_else(unknown)?;
            let field = match kind {
                "site" => &mut place.site,
                "provider" => &mut place.provider,
                "region" => &mut place.region,
                _ => return Err(unknown()),
            };
            if field.replace(name.parse()?).is_some() {
                return Err(PlaceError::Twice { kind: kind.to_owned() });
            }
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_in_any_order_and_in_part() {
        let label = |text: &str| Some(text.parse().unwrap());
        let place: Place = "region=eu,site=fra-1,provider=acme".parse().unwrap();
        assert_eq!(place, Place { site: label("fra-1"), provider: label("acme"), region: label("eu") });
        assert_eq!("site=a=b".parse(), Ok(Place { site: label("a=b"), ..Place::default() }));
    }

    #[test]
    fn what_is_no_place_says_why() {
        let refused = |text: &str| text.parse::<Place>().unwrap_err().to_string();
        assert!(refused("").contains("none of site=NAME"));
        assert!(refused("city=fra").contains("`city=fra` is none of"));
        assert!(refused("site=a,,").contains("none of"));
        assert!(refused("site=a,site=b").contains("its site twice"));
        assert!(refused("site=").contains("is no name"));
        assert!(refused("site=a b").contains("`a b` is no name"));
    }

    #[test]
    fn labels_can_stand_on_a_screen() {
        for text in ["", "a,b", "a b", "a\n", "\u{1b}[2J", "ü", &"x".repeat(LABEL_MAX + 1)] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
        }
        assert!("x".repeat(LABEL_MAX).parse::<Label>().is_ok());
    }
}
