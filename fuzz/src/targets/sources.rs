//! Targets for names and paths that a manifest brings to a restore.

use blockhouse_sources::files::{Accounts, RestorePath, decode_root_name, encode_root_name};

use crate::{Target, Verdict};

/// A path below the target of a restore: none leads out of it.
pub(super) const RESTORE_PATH: Target = Target {
    name: "restore-path",
    decoders: &["sources/files/restore/path.rs::parse", "sources/files/restore/path.rs::join"],
    run: |bytes| {
        Verdict::of(RestorePath::target().join(bytes));
        let path = RestorePath::parse(bytes);
        if let Ok(path) = &path {
            let leads_out = |name: &[u8]| name == b".." || name == b"." || name.contains(&0) || name.contains(&b'/');
            assert!(!path.as_bytes().starts_with(b"/") && !path.names().any(leads_out), "a path leads out");
        }
        Verdict::of(path)
    },
    seeds: || vec![b"home/anna/a.txt".to_vec(), b"new\nline/\xff..".to_vec(), Vec::new()],
};

/// The name of a snapshot's root.
pub(super) const ROOT_NAME: Target = Target {
    name: "root-name",
    decoders: &["sources/files/root_name.rs::decode_root_name"],
    run: |bytes| Verdict::canonical(bytes, decode_root_name(bytes), |path| encode_root_name(path)),
    seeds: || vec![b"%2Fhome%2Fanna".to_vec(), b"%2F%25".to_vec()],
};

/// The host's `passwd` and `group`.
pub(super) const ACCOUNTS: Target = Target {
    name: "accounts",
    decoders: &["sources/files/accounts.rs::parse"],
    run: |bytes| {
        let accounts = Accounts::parse(bytes, bytes);
        if accounts.uid(b"anna").is_some() { Verdict::Accepted } else { Verdict::Refused }
    },
    seeds: || vec![b"root:x:0:0:root:/root:/bin/sh\nanna:x:1000:100::/home/anna:/bin/sh\n".to_vec()],
};
