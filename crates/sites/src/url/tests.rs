use super::*;

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
    assert!(matches!(url("s3://bucket"), Err(UrlError::Later { .. })));
    assert!(matches!(url("sftp:/x"), Err(UrlError::Later { .. })));
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
    assert!(text.contains("file:") && text.contains("s3:, sftp:, webdav: come later"), "{text}");
}

#[test]
fn a_plain_path_becomes_absolute() {
    let scratch = tempfile::tempdir().unwrap();
    let real = scratch.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("disk")).unwrap();
    std::os::unix::fs::symlink(real.join("disk"), real.join("link")).unwrap();
    let parse = |text: &str| SiteUrl::parse(text, &real);

    assert_eq!(parse("new").unwrap().path(), real.join("new"));
    assert_eq!(parse("./a:b").unwrap().path(), real.join("a:b"));
    assert_eq!(parse("link/new/").unwrap().path(), real.join("disk/new"), "folders on the way have their real names");
    assert_eq!(parse("link").unwrap().path(), real.join("link"), "the site's own folder keeps the name it was given");
    assert_eq!(parse("disk/..").unwrap().path(), real);
    assert_eq!(parse("disk/.").unwrap().path(), real.join("disk"));
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
