use super::*;
use crate::name::NameError;

fn url(text: &str) -> Result<SiteUrl, UrlError> {
    SiteUrl::parse(text, Path::new("/"))
}

fn spec(text: &str) -> Result<SiteSpec, SpecError> {
    SiteSpec::parse(text, Path::new("/"))
}

#[test]
fn one_folder_has_one_url() {
    for text in ["file:/mnt/a", "file:///mnt/a", "file://localhost/mnt/a", "FILE:/mnt//a/", "file:/mnt/%61"] {
        assert_eq!(url(text).unwrap().to_string(), "file:/mnt/a", "{text}");
    }
}

#[test]
fn any_path_survives_its_url() {
    for bytes in [&b"/a,b=c d"[..], b"/\xff\xfe", b"/100%", b"/a#b?c", b"/\n", "/ü".as_bytes(), b"/"] {
        let here = SiteUrl::File(PathBuf::from(OsString::from_vec(bytes.to_vec())));
        let text = here.to_string();
        assert!(text.is_ascii() && !text.contains([',', '\n', ' ']), "{text}");
        assert_eq!(SiteUrl::parse_absolute(&text).unwrap(), here);
    }
}

#[test]
fn what_is_wrong_with_a_url_is_named() {
    assert!(matches!(url(""), Err(UrlError::Empty)));
    assert!(matches!(url("s3:"), Err(UrlError::Form { .. })));
    assert!(matches!(url("sftp:/x"), Err(UrlError::Form { .. })));
    assert!(matches!(url("gopher:/x"), Err(UrlError::UnknownScheme { .. })));
    assert!(matches!(url("file://oslo/x"), Err(UrlError::Host { .. })));
    assert!(matches!(url("file:x"), Err(UrlError::NotAbsolute { .. })));
    assert!(matches!(url("file://"), Err(UrlError::NotAbsolute { .. })));
    assert!(matches!(url("file:/a/../b"), Err(UrlError::NotNormal { .. })));
    assert!(matches!(url("file:/a/%2e%2E"), Err(UrlError::NotNormal { .. })));
    assert!(matches!(url("file:/a/./b"), Err(UrlError::NotNormal { .. })));
    for text in ["file:/100%", "file:/%4", "file:/%4x", "file:/%é"] {
        assert!(matches!(url(text), Err(UrlError::Escape { .. })), "{text}");
    }
    assert!(matches!(url("file:/a%00"), Err(UrlError::Zero { .. })));
    assert!(matches!(SiteUrl::parse_absolute("a/b"), Err(UrlError::NotAbsolute { .. })));
    let text = url("gopher:/x").unwrap_err().to_string();
    assert!(text.contains("file:, s3:, sftp: and webdav:"), "{text}");
}

#[test]
fn a_plain_path_becomes_absolute() {
    let scratch = tempfile::tempdir().unwrap();
    let real = scratch.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("disk")).unwrap();
    std::os::unix::fs::symlink(real.join("disk"), real.join("link")).unwrap();
    let parse = |text: &str| SiteUrl::parse(text, &real);

    assert_eq!(parse("new").unwrap().folder().unwrap(), real.join("new"));
    assert_eq!(parse("./a:b").unwrap().folder().unwrap(), real.join("a:b"));
    assert_eq!(
        parse("link/new/").unwrap().folder().unwrap(),
        real.join("disk/new"),
        "folders on the way have their real names"
    );
    assert_eq!(
        parse("link").unwrap().folder().unwrap(),
        real.join("link"),
        "the site's own folder keeps the name it was given"
    );
    assert_eq!(parse("disk/..").unwrap().folder().unwrap(), real);
    assert_eq!(parse("disk/.").unwrap().folder().unwrap(), real.join("disk"));
    assert!(matches!(parse("absent/new"), Err(UrlError::Parent { .. })));
    assert!(matches!(parse("a\0b"), Err(UrlError::Zero { .. })));
}

#[test]
fn a_spec_is_read_in_any_order_of_its_labels() {
    let found = spec("file:/mnt/a,provider=hetzner,name=oslo,region=eu north=1").unwrap();
    assert_eq!(found.name.as_str(), "oslo");
    assert_eq!(found.labels.region.as_deref(), Some("eu north=1"));
    assert_eq!(found.labels.provider.as_deref(), Some("hetzner"));
    assert_eq!(spec("file:/mnt/a").unwrap().name.as_str(), "a");
    assert_eq!(spec("file:/mnt/a%2Cb").unwrap().name.as_str(), "a-b");
}

#[test]
fn what_is_wrong_with_a_spec_is_named() {
    assert!(matches!(spec(""), Err(SpecError::Url(UrlError::Empty))));
    assert!(matches!(spec("file:/a,colour=red"), Err(SpecError::UnknownKey { .. })));
    assert!(matches!(spec("file:/a,b"), Err(SpecError::UnknownKey { .. })));
    assert!(matches!(spec("file:/a,"), Err(SpecError::UnknownKey { .. })));
    assert!(matches!(spec("file:/a,name="), Err(SpecError::Value { source: NameError::Empty, .. })));
    assert!(matches!(spec("file:/a,region=\u{7}"), Err(SpecError::Value { .. })));
    assert!(matches!(spec("file:/a,name=x,name=x"), Err(SpecError::Duplicate { .. })));
    assert!(matches!(spec("file:/"), Err(SpecError::NoName { .. })));
}

/// Every way to write a remote place gives its one spelling, which gives itself.
#[test]
fn remote_places_have_one_spelling() {
    for (given, text) in [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a//b/", "s3://bucket/a/b"),
        (
            "s3:https://S3.example:9000/bucket/a?region=eu-1",
            "s3://bucket/a?endpoint=https://s3.example:9000&region=eu-1",
        ),
        ("s3:s3.eu.example/bucket", "s3://bucket?endpoint=https://s3.eu.example"),
        (
            "s3://b/ü,x?endpoint=http://[::1]:9&path_style=true",
            "s3://b/%C3%BC%2Cx?endpoint=http://[::1]:9&path_style=true",
        ),
        ("s3://b?profile=my%20own&conditional=false", "s3://b?profile=my%20own&conditional=false"),
        ("sftp://ann@host:2222/srv/backup", "sftp://ann@host:2222/srv/backup"),
        ("sftp:ann@Host:/srv/backup/", "sftp://ann@host/srv/backup"),
        ("sftp://[::1]:22/x?key=/k%20ey&known_hosts=/h", "sftp://[::1]:22/x?key=/k%20ey&known_hosts=/h"),
        ("webdav:https://cloud.example/dav/a b", "webdav:https://cloud.example/dav/a%20b"),
        ("webdavs://ann@cloud.example:8443/dav", "webdav:https://ann@cloud.example:8443/dav"),
        ("webdav:http://localhost:80/dav", "webdav:http://localhost:80/dav"),
    ] {
        let found = url(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(found.to_string(), text, "{given}");
        assert_eq!(SiteUrl::parse_absolute(text).unwrap(), found, "{text}");
        assert!(text.is_ascii() && !text.contains([',', ' ']), "{text}");
    }
}

#[test]
fn a_url_with_a_secret_is_refused_and_not_repeated() {
    for text in [
        "s3://key:hunter2@bucket/a",
        "s3:https://key:hunter2@host/bucket",
        "s3://bucket?endpoint=https://hunter2@host",
        "s3://bucket?secret_access_key=hunter2",
        "s3://bucket?session_token=hunter2",
        "sftp://ann:hunter2@host/a",
        "sftp:ann:hunter2@host:/a",
        "sftp://host/a?password=hunter2",
        "webdav:https://ann:hunter2@host/a",
    ] {
        let error = url(text).unwrap_err();
        assert!(matches!(error, UrlError::Secret { .. }), "{text}: {error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn remote_places_that_lead_elsewhere_are_refused() {
    for text in [
        "s3://",
        "s3:///a",
        "s3://b/../a",
        "s3://..",
        "s3://b?endpoint=ftp://h",
        "s3://b?path_style=yes",
        "s3://b?x=1",
        "s3://b?region=a&region=b",
        "s3://b/%2e%2e/c",
        "s3://b/%00",
        "s3://b/%ff",
        "sftp://host",
        "sftp://host/",
        "sftp://-oProxyCommand=x/a",
        "sftp://-l@host/a",
        "sftp://host:0/a",
        "sftp://ho st/a",
        "sftp://host/a/../b",
        "sftp://host/a?key=relative",
        "sftp:host:relative",
        "webdav://host/a",
        "webdav:https://host",
        "webdav:https://host/",
        "webdav:http://cloud.example/a",
        "webdav:https://host/a/./b",
        "webdav:https://host/a?x=1",
    ] {
        assert!(url(text).is_err(), "{text}");
    }
    assert!(matches!(url("webdav:http://cloud.example/a"), Err(UrlError::Plain { .. })));
}

#[test]
fn a_remote_site_is_named_by_where_it_is() {
    for (text, name) in [
        ("s3://bucket", "bucket"),
        ("s3://bucket/a/b", "b"),
        ("sftp://host/srv/backup", "backup"),
        ("webdav:https://cloud.example/dav/x", "x"),
    ] {
        assert_eq!(spec(text).unwrap().name.as_str(), name, "{text}");
    }
}

#[test]
fn sites_of_one_host_have_one_device() {
    let device = |text: &str| url(text).unwrap().remote_device().unwrap();
    assert_eq!(device("s3:https://h:1/a"), device("s3:https://h:2/b/c"));
    assert_eq!(device("s3:https://h/a"), device("sftp://ann@h:22/x"));
    assert_eq!(device("s3://a/x"), device("s3://a/y?region=z"));
    assert_ne!(device("s3://a"), device("s3://b"));
    assert!(i64::try_from(device("s3://a")).is_ok(), "it is stored in TOML");
    assert_eq!(url("file:/a").unwrap().remote_device(), None);
}

#[test]
fn limits_stand_with_the_labels() {
    let found = spec("s3://b,upload=2MiB,region=eu,download=10MB").unwrap();
    assert_eq!(found.limits.upload.unwrap().get(), 2 << 20);
    assert_eq!(found.limits.download.unwrap().get(), 10_000_000);
    assert!(matches!(spec("s3://b,upload=fast"), Err(SpecError::Rate { .. })));
    assert!(matches!(spec("s3://b,upload=0"), Err(SpecError::Rate { .. })));
}
