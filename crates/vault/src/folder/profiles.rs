//! Profiles and hooks in `config.toml`: what a user writes there by hand, and the words for what is wrong with it.
//!
//! - **Owns** the keys, and where in the file a wrong one stands.
//! - **Does not** run anything or know the command line.
//!
//! Format: `docs/design/host-files.md`; for users `docs/reference/backup.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blockhouse_sites::Rate;
use serde::{Deserialize, Deserializer};
use toml_edit::{Document, Table, TableLike};

use super::{ConfigError, VaultFolder};
use crate::hooks::Hooks;

/// Why profiles and hooks cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// There is no vault, or its configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key that means nothing.
    #[error("{}, line {line}, column {column}: `{key}` in [{table}] is no key{}", path.display(), nearest_text(*nearest))]
    UnknownKey { path: PathBuf, line: usize, column: usize, table: String, key: String, nearest: Option<&'static str> },
    /// A value that a key does not take.
    #[error("{} has a profile or hook that cannot be understood", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Where a profile is used, nobody knows the current folder.
    #[error("`{}` in `{key}` of profile `{profile}` is not an absolute path, in {}", value.display(), path.display())]
    Relative { path: PathBuf, profile: String, key: &'static str, value: PathBuf },
    /// There is no such profile.
    #[error("there is no profile `{name}` in {}{}", path.display(), known_text(known))]
    None { path: PathBuf, name: String, known: Vec<String> },
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { ", nor any other".to_owned() } else { format!("; there are: {}", known.join(", ")) }
}

/// All that `config.toml` says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Profiles {
    /// Around every `backup` command.
    pub hooks: Hooks,
    /// Around every backup of a source, by its name.
    pub source_hooks: BTreeMap<String, Hooks>,
    /// The profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The file they are from.
    #[serde(skip)]
    path: PathBuf,
}

/// What `blockhouse backup --profile NAME` does. Each key is the option of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Profile {
    /// What to back up.
    #[serde(deserialize_with = "one_or_many")]
    pub paths: Vec<PathBuf>,
    /// Lists of patterns of paths.
    #[serde(deserialize_with = "one_or_many")]
    pub files_from: Vec<PathBuf>,
    /// Lists of paths.
    #[serde(deserialize_with = "one_or_many")]
    pub files_from_verbatim: Vec<PathBuf>,
    /// Lists of paths that end in NUL.
    #[serde(deserialize_with = "one_or_many")]
    pub files_from_raw: Vec<PathBuf>,
    /// A command whose output is backed up: its name and its arguments.
    pub command: Vec<String>,
    /// How long that may neither write nor end; 0 for ever.
    pub command_timeout_secs: Option<u64>,
    /// The name of the file that its output becomes.
    pub stdin_filename: Option<String>,
    /// Whether it may write nothing.
    pub allow_empty: bool,
    /// Patterns of what is left out.
    #[serde(deserialize_with = "one_or_many")]
    pub exclude: Vec<String>,
    /// The same, ignoring case.
    #[serde(deserialize_with = "one_or_many")]
    pub iexclude: Vec<String>,
    /// Files of patterns.
    #[serde(deserialize_with = "one_or_many")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the content of tagged caches.
    pub exclude_caches: bool,
    /// Leave out the content of folders with such a file.
    #[serde(deserialize_with = "one_or_many")]
    pub exclude_if_present: Vec<String>,
    /// Leave out files above this length.
    pub exclude_larger_than: Option<Size>,
    /// Leave out what has the attribute `nodump`.
    pub exclude_nodump: bool,
    /// Stay on the file systems of the paths.
    pub one_file_system: bool,
    /// Honour ignore files.
    pub ignore_files: Option<bool>,
    /// Copy the files of running nodes and databases.
    pub allow_live: bool,
    /// Tags.
    #[serde(deserialize_with = "one_or_many")]
    pub tag: Vec<String>,
    /// The name of the source.
    pub source: Option<String>,
    /// The name of the host.
    pub host: Option<String>,
    /// The level of compression.
    pub level: Option<i32>,
    /// Who shares chunks: `writer`, `source`, `vault` or `chain`.
    pub dedup: Option<String>,
    /// Read all files.
    pub force: bool,
    /// Record nothing if nothing changed.
    pub skip_if_unchanged: bool,
    /// How fast bytes may go to all sites together.
    #[serde(deserialize_with = "rate")]
    pub limit_upload: Option<Rate>,
    /// How fast they may come from them.
    #[serde(deserialize_with = "rate")]
    pub limit_download: Option<Rate>,
    /// Around the backups of this profile.
    pub hooks: Hooks,
}

/// A number of bytes, as a number or as text with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// With a unit.
    Text(String),
}

const PROFILE_KEYS: [&str; 28] = [
    "paths",
    "files_from",
    "files_from_verbatim",
    "files_from_raw",
    "command",
    "command_timeout_secs",
    "stdin_filename",
    "allow_empty",
    "exclude",
    "iexclude",
    "exclude_file",
    "exclude_caches",
    "exclude_if_present",
    "exclude_larger_than",
    "exclude_nodump",
    "one_file_system",
    "ignore_files",
    "allow_live",
    "tag",
    "source",
    "host",
    "level",
    "dedup",
    "force",
    "skip_if_unchanged",
    "limit_upload",
    "limit_download",
    "hooks",
];
const HOOK_KEYS: [&str; 5] = ["before", "after", "failed", "finally", "timeout_secs"];

impl Profiles {
    /// Reads them from the configuration of the vault in `folder`.
    pub fn load(folder: &VaultFolder) -> Result<Self, ProfileError> {
        let path = folder.config();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ConfigError::NoVault { folder: folder.root().to_owned() }.into());
            }
            Err(source) => return Err(ConfigError::Read { path, source }.into()),
        };
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, ProfileError> {
        let read = toml::from_str(text);
        // Of two words on one slip the one that names the nearest key says more.
        if let Ok(document) = Document::parse(text) {
            Check { text, path: &path }.document(document.as_table())?;
        }
        let profiles: Self =
            read.map_err(|source| ProfileError::Form { path: path.clone(), source: Box::new(source) })?;
        for (name, profile) in &profiles.profiles {
            profile.refuse_relative(name, &path)?;
        }
        Ok(Self { path, ..profiles })
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Result<&Profile, ProfileError> {
        self.profiles.get(name).ok_or_else(|| ProfileError::None {
            path: self.path.clone(),
            name: name.to_owned(),
            known: self.profiles.keys().cloned().collect(),
        })
    }
}

impl Profile {
    fn refuse_relative(&self, profile: &str, path: &std::path::Path) -> Result<(), ProfileError> {
        let all = [
            ("paths", &self.paths),
            ("files_from", &self.files_from),
            ("files_from_verbatim", &self.files_from_verbatim),
            ("files_from_raw", &self.files_from_raw),
            ("exclude_file", &self.exclude_file),
        ];
        for (key, values) in all {
            if let Some(value) = values.iter().find(|value| value.is_relative()) {
                let (path, profile, value) = (path.to_owned(), profile.to_owned(), value.clone());
                return Err(ProfileError::Relative { path, profile, key, value });
            }
        }
        Ok(())
    }
}

/// Looks for keys that mean nothing.
struct Check<'a> {
    text: &'a str,
    path: &'a std::path::Path,
}

impl Check<'_> {
    fn document(&self, root: &Table) -> Result<(), ProfileError> {
        if let Some(hooks) = root.get("hooks").and_then(toml_edit::Item::as_table_like) {
            self.keys(hooks, "hooks", &HOOK_KEYS)?;
        }
        for (name, table) in tables(root, "source_hooks") {
            self.keys(table, &format!("source_hooks.{name}"), &HOOK_KEYS)?;
        }
        for (name, table) in tables(root, "profiles") {
            let place = format!("profiles.{name}");
            self.keys(table, &place, &PROFILE_KEYS)?;
            if let Some(hooks) = table.get("hooks").and_then(toml_edit::Item::as_table_like) {
                self.keys(hooks, &format!("{place}.hooks"), &HOOK_KEYS)?;
            }
        }
        Ok(())
    }

    fn keys(&self, table: &dyn TableLike, place: &str, known: &[&'static str]) -> Result<(), ProfileError> {
        for (key, item) in table.iter() {
            if known.contains(&key) {
                continue;
            }
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span()).unwrap_or(0..0);
            let before = self.text.get(..span.start).unwrap_or_default();
            let (line, column) =
                (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
            let nearest = nearest(key, known);
            let (path, table, key) = (self.path.to_owned(), place.to_owned(), key.to_owned());
            return Err(ProfileError::UnknownKey { path, line, column, table, key, nearest });
        }
        Ok(())
    }
}

fn tables<'a>(root: &'a Table, name: &str) -> impl Iterator<Item = (&'a str, &'a dyn TableLike)> {
    let named = root.get(name).and_then(toml_edit::Item::as_table_like);
    let items = named.into_iter().flat_map(|tables| tables.iter());
    items.filter_map(|(name, item)| Some((name, item.as_table_like()?)))
}

/// The known key that a slip of the pen may have meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let meant = key.replace('-', "_").to_lowercase();
    let near = known.iter().map(|known| (distance(&meant, known), *known)).min()?;
    (near.0 <= 1 + meant.chars().count() / 4).then_some(near.1)
}

/// How many letters have to be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, letter) in one.chars().enumerate() {
        let mut diagonal = number;
        let mut left = number + 1;
        for (cell, wanted) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(letter != *wanted);
            diagonal = *cell;
            left = changed.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = number + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// One text where a list of them is meant.
pub(crate) fn one_or_many<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Bytes per second, as a number or as text with a unit.
fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "bytes per second above 0, as a number or as a text such as \"2MiB\"")]
    enum NumberOrText {
        Number(Rate),
        Text(String),
    }
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(rate) => Ok(Some(rate)),
        NumberOrText::Text(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profiles, ProfileError> {
        Profiles::parse(text, PathBuf::from("/v/config.toml"))
    }

    #[test]
    fn profiles_are_read_and_the_rest_of_the_file_is_not_looked_at() {
        let text = "
version = 1
[hooks]
finally = ['logger done']
[source_hooks.papers]
before = 'sync'
[profiles.home]
paths = '/home'
exclude = ['*.tmp', 'cache/']
exclude_larger_than = '2G'
ignore_files = false
[profiles.home.hooks]
failed = ['a', 'b']
timeout_secs = 5
[profiles.db]
command = ['pg_dump', 'db']
stdin_filename = 'db.sql'
";
        let profiles = parse(text).unwrap();
        let home = profiles.get("home").unwrap();
        assert_eq!((home.paths.len(), &home.exclude[..]), (1, &["*.tmp".to_owned(), "cache/".to_owned()][..]));
        assert_eq!((home.hooks.failed.len(), home.hooks.timeout_secs), (2, 5));
        assert_eq!(profiles.source_hooks["papers"].before, ["sync"]);
        assert_eq!(profiles.get("db").unwrap().command, ["pg_dump", "db"]);
        let none = profiles.get("hom").unwrap_err().to_string();
        assert!(none.contains("`hom`") && none.contains("db, home"), "{none}");
    }

    #[test]
    fn limits_are_numbers_or_texts_above_0() {
        let text = "[profiles.a]\nlimit_upload = '2MiB'\nlimit_download = 500000\n[profiles.b]";
        let profiles = parse(text).unwrap();
        let limits = |name: &str| {
            let profile = profiles.get(name).unwrap();
            [profile.limit_upload, profile.limit_download].map(|rate| rate.map(Rate::get))
        };
        assert_eq!((limits("a"), limits("b")), ([Some(2 << 20), Some(500_000)], [None, None]));
        for wrong in ["0", "-1", "'fast'", "'0'", "true", "1.5"] {
            let error = parse(&format!("[profiles.a]\nlimit_upload = {wrong}")).unwrap_err();
            let ProfileError::Form { source, .. } = error else { panic!("{wrong}: {error}") };
            assert!(source.to_string().contains("bytes per second above 0"), "{wrong}: {source}");
        }
        let slip = parse("[profiles.a]\nlimit-upload = 1").unwrap_err().to_string();
        assert!(slip.contains("did you mean `limit_upload`?"), "{slip}");
    }

    #[test]
    fn a_wrong_key_is_named_with_its_place_and_the_nearest_one() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        let text = refused("version = 1\n\n[profiles.home]\npaths = ['/a']\n  exlude = ['x']\n");
        assert_eq!(
            text,
            "/v/config.toml, line 5, column 3: `exlude` in [profiles.home] is no key; did you mean `exclude`?"
        );
        assert!(refused("[hooks]\nbefor = 'x'").contains("`before`"));
        assert!(refused("[profiles.a]\none-file-system = true").contains("`one_file_system`"));
        assert!(refused("[profiles.a.hooks]\nfinaly = 'x'").contains("[profiles.a.hooks]"));
        let strange = refused("[source_hooks.x]\nsomething = 1");
        assert!(strange.contains("`something`") && !strange.contains("mean"), "{strange}");
        assert!(refused("[profiles]\na = { exclud = [] }").contains("`exclude`"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        let error = parse("[profiles.a]\nlevel = 'high'").unwrap_err();
        let ProfileError::Form { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("line 2"), "{source}");
        let error = parse("[profiles.a]\npaths = ['here']").unwrap_err();
        assert!(matches!(error, ProfileError::Relative { key: "paths", .. }), "{error}");
    }

    /// The list of keys is that of the fields: each is taken, and none is missing.
    #[test]
    fn every_key_is_a_field() {
        for key in PROFILE_KEYS {
            let values = ["'/x'", "true", "1", "['/x']", "{}"];
            let taken = values.iter().any(|value| parse(&format!("[profiles.a]\n{key} = {value}")).is_ok());
            assert!(taken, "{key}");
        }
    }
}
