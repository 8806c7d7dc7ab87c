//! The URL of a node, as the user types it and as it is shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no URL of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeUrlError {
    /// It is none at all. It is not shown: it may hold a key.
    #[error("this is no URL of a node: it should look like http://127.0.0.1:8545")]
    Form,
    /// Nodes are asked over HTTP.
    #[error("nodes are asked over http or https, not over `{scheme}`")]
    Scheme { scheme: String },
}

/// The URL of a node's JSON-RPC, `http` or `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeUrl(reqwest::Url);

impl NodeUrl {
    /// The whole of it, as it is written into the host's configuration.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) const fn url(&self) -> &reqwest::Url {
        &self.0
    }
}

impl FromStr for NodeUrl {
    type Err = NodeUrlError;

    fn from_str(text: &str) -> Result<Self, NodeUrlError> {
        let url = reqwest::Url::parse(text.trim()).map_err(|_| NodeUrlError::Form)?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self(url)),
            "http" | "https" => Err(NodeUrlError::Form),
            // What stands before the first colon of a forgotten `http://` is the host.
            scheme => Err(NodeUrlError::Scheme { scheme: scheme.to_owned() }),
        }
    }
}

impl Serialize for NodeUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// R3: scheme, host and port.
impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_kept_whole_and_shown_without_what_may_be_a_key() {
        let url: NodeUrl = " https://ann:secret@node.example:8545/v3/KEY?token=T ".parse().unwrap();
        assert_eq!(url.as_str(), "https://ann:secret@node.example:8545/v3/KEY?token=T");
        assert_eq!((url.to_string(), format!("{url:?}")), shown("https://node.example:8545"));
        let url: NodeUrl = "http://[::1]:8546".parse().unwrap();
        assert_eq!((url.to_string(), format!("{url:?}")), shown("http://[::1]:8546"));
        assert_eq!("https://node.example".parse::<NodeUrl>().unwrap().to_string(), "https://node.example");
    }

    fn shown(text: &str) -> (String, String) {
        (text.to_owned(), format!("NodeUrl({text})"))
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "node", "http://", "/tmp/x"] {
            assert_eq!(text.parse::<NodeUrl>(), Err(NodeUrlError::Form), "{text}");
        }
        for text in ["ws://node:8546", "file:/tmp/x", "localhost:8545"] {
            assert!(matches!(text.parse::<NodeUrl>(), Err(NodeUrlError::Scheme { .. })), "{text}");
        }
    }
}
