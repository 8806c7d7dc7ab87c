//! Targets for what sites are called and what they hold beside shards.

use std::path::Path;

use blockhouse_sites::{Marker, ObjectKey, SiteName, SiteSpec, SiteUrl};
use blockhouse_types::{SiteId, VaultId};

use crate::{Target, Verdict};

/// The object that says whose site it is.
pub(super) const MARKER: Target = Target {
    name: "marker",
    decoders: &["sites/marker.rs::decode"],
    run: |bytes| Verdict::canonical_object(bytes, Marker::decode(bytes), Marker::encode),
    seeds: || {
        let name = SiteName::parse("oslo").unwrap();
        vec![Marker { vault: VaultId::new([1; 32]), site: SiteId::new([2; 32]), name }.encode()]
    },
};

/// The path of an object, as a listing gives it.
pub(super) const OBJECT_KEY: Target = Target {
    name: "object-key",
    decoders: &["sites/key.rs::parse", "sites/key.rs::from_str"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        Verdict::canonical(bytes, ObjectKey::parse(text), |key| key.path().into_bytes())
    },
    seeds: || {
        let id = "0a".repeat(32);
        let keys = [
            "site".to_owned(),
            format!("shards/0a/{id}-05"),
            format!("lists/{id}"),
            format!("snapshots/{id}"),
            format!("wraps/{id}/00000001"),
            format!("maps/{id}/00000001"),
            format!("bags/00000003-{id}"),
            format!("blocks/1/1024-{id}"),
            format!("handovers/1-{id}"),
        ];
        keys.into_iter().map(String::into_bytes).collect()
    },
};

/// The name of a site.
pub(super) const SITE_NAME: Target = Target {
    name: "site-name",
    decoders: &["sites/name.rs::parse", "sites/name.rs::from_str"],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        Verdict::canonical(bytes, SiteName::parse(text), |name| name.as_str().as_bytes().to_vec())
    },
    seeds: || vec![b"oslo".to_vec(), "Z\u{fc}rich 2".into()],
};

/// A site as it is typed, and its URL as it is stored.
pub(super) const SITE_SPEC: Target = Target {
    name: "site-spec",
    decoders: &[
        "sites/url.rs::parse",
        "sites/url.rs::parse_absolute",
        "sites/url/place.rs::parse",
        "sites/url/spec.rs::parse",
        "sites/limits.rs::from_str",
    ],
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
        Verdict::of(SiteUrl::parse_absolute(text));
        let spec = SiteSpec::parse(text, Path::new("/base"));
        if let Ok(spec) = &spec {
            assert!(spec.url.folder().is_none_or(Path::is_absolute), "a site's folder is relative");
            let stored = spec.url.to_string();
            assert_eq!(SiteUrl::parse_absolute(&stored).ok().as_ref(), Some(&spec.url), "{stored}");
        }
        Verdict::of(spec)
    },
    seeds: || {
        let specs = [
            "file:///srv/a%20b/%2C",
            "/srv/x,name=oslo,region=no,provider=own",
            "s3:https://h.example:9000/bucket/a%2Cb?region=eu&path_style=true,upload=2MiB,download=77",
            "sftp://ann@[::1]:22/srv/x?key=/k,name=cellar",
            "webdav:https://ann@h.example/dav/x",
        ];
        specs.map(|spec| spec.as_bytes().to_vec()).into()
    },
};
