//! Which snapshot is meant: an id, a unique prefix of one, `latest`, `latest:SOURCE`.

use std::str::FromStr;

use blockhouse_crypto::hash;
use blockhouse_types::{SnapshotId, SourceId};

use crate::folder::{Config, SourceEntry};
use crate::ledger::{LedgerError, SnapshotRecord};
use crate::vault::Vault;

/// How a snapshot was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The newest, of the only source or of the one named.
    Latest(Option<String>),
    /// The digits that its id begins with.
    Prefix(String),
}

/// A text that asks for no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no snapshot: give an id, the first digits of one, `latest` or `latest:SOURCE`")]
pub struct SnapshotRefError {
    text: String,
}

impl FromStr for SnapshotRef {
    type Err = SnapshotRefError;

    fn from_str(text: &str) -> Result<Self, SnapshotRefError> {
        if text == "latest" {
            return Ok(Self::Latest(None));
        }
        if let Some(source) = text.strip_prefix("latest:").filter(|source| !source.is_empty()) {
            return Ok(Self::Latest(Some(source.to_owned())));
        }
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_prefix = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return Err(SnapshotRefError { text: text.to_owned() });
        }
        Ok(Self::Prefix(digits.to_ascii_lowercase()))
    }
}

/// What narrows the choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrow {
    /// Only of this host.
    pub host: Option<String>,
    /// Only of this source, by name, root or id.
    pub source: Option<String>,
    /// Only with all these tags.
    pub tags: Vec<String>,
    /// Only committed at or before this time, seconds since 1970.
    pub at: Option<u64>,
}

/// A snapshot and what this host knows of its source.
#[derive(Debug, Clone)]
pub struct Known {
    /// The snapshot.
    pub record: SnapshotRecord,
    /// Its source's name here, if it has one.
    pub source: Option<SourceEntry>,
}

/// Why no snapshot was chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The ledger.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// There is none.
    #[error("{}", none(wanted, *is_narrowed))]
    None { wanted: SnapshotRef, is_narrowed: bool },
    /// The prefix fits several.
    #[error("`{prefix}` is the beginning of {} snapshots: {}", found.len(), ids(found))]
    Ambiguous { prefix: String, found: Vec<SnapshotId> },
    /// Several sources have a latest one.
    #[error("the vault has several sources, say which: {}", candidates.iter().map(|name| format!("latest:{name}")).collect::<Vec<_>>().join(", "))]
    SeveralSources { candidates: Vec<String> },
}

fn none(wanted: &SnapshotRef, is_narrowed: bool) -> String {
    let narrowed = if is_narrowed { " among those that --host, --source, --tag and --at leave" } else { "" };
    match wanted {
        SnapshotRef::Latest(None) => format!("there is no snapshot{narrowed}"),
        SnapshotRef::Latest(Some(source)) => format!("there is no snapshot of a source `{source}`{narrowed}"),
        SnapshotRef::Prefix(prefix) => format!("there is no snapshot `{prefix}`{narrowed}"),
    }
}

fn ids(found: &[SnapshotId]) -> String {
    let shown: Vec<String> = found.iter().take(8).map(|id| id.to_string().chars().take(12).collect()).collect();
    shown.join(", ")
}

impl Known {
    /// The source's name, or its id.
    pub fn source_name(&self) -> String {
        self.source.as_ref().map_or_else(|| self.record.source.to_string(), |entry| entry.name.clone())
    }

    /// Its name or id is exactly this.
    fn is_called(&self, source: &str) -> bool {
        self.source.as_ref().is_some_and(|entry| entry.name == source) || self.record.source.to_string() == source
    }

    /// It holds this path, or its id begins like this.
    fn is_of(&self, source: &str) -> bool {
        let holds = self.source.as_ref().is_some_and(|entry| entry.roots.iter().any(|root| root == source));
        holds || (source.len() >= 8 && self.record.source.to_string().starts_with(source))
    }
}

/// Every snapshot that is not forgotten and fits, in the order of the ledger.
pub async fn all(vault: &Vault, narrow: &Narrow) -> Result<Vec<Known>, LedgerError> {
    all_by(vault, vault.config(), narrow).await
}

/// The same with what `config` knows: it may be newer than the vault was when it was opened.
pub(crate) async fn all_by(vault: &Vault, config: &Config, narrow: &Narrow) -> Result<Vec<Known>, LedgerError> {
    let tags = tag_commitments(vault, &narrow.tags);
    let name = |source: &SourceId| config.sources.get(source).cloned();
    let snapshots = vault.ledger().snapshots().await?.into_iter().filter(|record| !record.forgotten);
    let mut known: Vec<Known> = snapshots.map(|record| Known { source: name(&record.source), record }).collect();
    if let Some(source) = &narrow.source {
        // A source that is called so is meant, before others that hold the path.
        let is_called = known.iter().any(|known| known.is_called(source));
        known.retain(|known| if is_called { known.is_called(source) } else { known.is_of(source) });
    }
    known.retain(|known| fits(known, narrow, &tags));
    Ok(known)
}

fn fits(known: &Known, narrow: &Narrow, tags: &[[u8; 32]]) -> bool {
    let on_host = |host: &String| known.source.as_ref().is_some_and(|entry| entry.host == *host);
    narrow.host.as_ref().is_none_or(on_host)
        && narrow.at.is_none_or(|at| known.record.time <= at)
        && tags.iter().all(|tag| known.record.tags.iter().any(|other| other.0 == *tag))
}

/// The commitments of tags, as commits carry them; without the index key nothing matches.
fn tag_commitments(vault: &Vault, tags: &[String]) -> Vec<[u8; 32]> {
    let key = vault.secrets().map(|secrets| tag_key(&secrets.write.index_key));
    let commit = |tag: &String| key.as_ref().map_or([0; 32], |key| hash::keyed(key, tag.as_bytes()));
    tags.iter().map(commit).collect()
}

/// What tags are committed to with.
pub(crate) fn tag_key(index_key: &blockhouse_crypto::Secret) -> blockhouse_crypto::Secret {
    hash::derive("blockhouse v1 tag", index_key, [])
}

/// The one snapshot that is meant.
pub async fn one(vault: &Vault, wanted: &SnapshotRef, narrow: &Narrow) -> Result<Known, SelectError> {
    let is_narrowed = *narrow != Narrow::default();
    let mut narrow = narrow.clone();
    if let SnapshotRef::Latest(Some(source)) = wanted {
        narrow.source = Some(source.clone());
    }
    let mut fitting = all(vault, &narrow).await?;
    if let SnapshotRef::Prefix(prefix) = wanted {
        fitting.retain(|known| known.record.id.to_string().starts_with(prefix));
        if fitting.len() > 1 {
            let found = fitting.iter().map(|known| known.record.id).collect();
            return Err(SelectError::Ambiguous { prefix: prefix.clone(), found });
        }
    }
    let mut sources: Vec<String> = fitting.iter().map(Known::source_name).collect();
    sources.sort();
    sources.dedup();
    if sources.len() > 1 {
        return Err(SelectError::SeveralSources { candidates: sources });
    }
    fitting.pop().ok_or_else(|| SelectError::None { wanted: wanted.clone(), is_narrowed })
}
