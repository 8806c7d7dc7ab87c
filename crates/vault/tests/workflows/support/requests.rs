//! What the tests of workflows ask for where nothing special matters; each says what it wants otherwise.

use std::path::{Path, PathBuf};

use blockhouse_pipeline::domain::DomainKind;
use blockhouse_sites::SiteSpec;
use blockhouse_sources::files::Options;
use blockhouse_vault::backup::{BackupRequest, Origin};
use blockhouse_vault::folder::VaultFolder;
use blockhouse_vault::init::InitRequest;

/// A vault in `vault` and its identity in `identity` below `base`, over these sites.
pub(crate) fn to_init(base: &Path, sites: impl IntoIterator<Item = PathBuf>) -> InitRequest {
    InitRequest {
        folder: VaultFolder::new(base.join("vault")),
        identity_out: base.join("identity"),
        paper_out: None,
        passphrase: None,
        sites: sites.into_iter().map(|path| site_at(&path)).collect(),
        code: None,
        floor_seconds: 0,
        ledger: None,
    }
}

/// The site in that folder.
pub(crate) fn site_at(path: &Path) -> SiteSpec {
    SiteSpec::parse(path.to_str().unwrap(), Path::new("/")).unwrap()
}

/// A backup of that folder.
pub(crate) fn to_back_up(path: PathBuf) -> BackupRequest {
    BackupRequest {
        origin: Origin::Paths(vec![path]),
        source: None,
        host: "here".to_owned(),
        options: Options::default(),
        tags: Vec::new(),
        level: 3,
        dedup: DomainKind::Writer,
        force: false,
        skip_if_unchanged: false,
    }
}
