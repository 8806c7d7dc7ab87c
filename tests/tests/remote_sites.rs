//! Sites at S3, SFTP and WebDAV servers, through the real binary: what they hold, what they lose, what they refuse.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blockhouse_tests::servers::{ACCESS_KEY, Apache, Line, Manner, OTHER_REGION, Proxy, S3Server, SECRET_KEY, Sshd};
use blockhouse_tests::world::{Call, exit};
use blockhouse_tests::{Output, World, tree};

/// Credentials as a user gives them; nothing of the tester's own is asked.
fn keys(call: Call) -> Call {
    let call = call.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    call.env("BLOCKHOUSE_WEBDAV_PASSWORD", "a password of tests")
}

fn init(world: &World, sites: &[String]) -> Call {
    let mut call = world.call("init --json --no-passphrase --identity-out").arg(world.identity());
    call = call.arg("--paper-key-out").arg(world.paper_key());
    for site in sites {
        call = call.arg("--site").arg(site);
    }
    keys(call)
}

fn run(world: &World, words: &str) -> Output {
    keys(world.unlocked(words)).run()
}

fn back_up(world: &World, source: &Path) -> Output {
    keys(world.call("backup --json").arg(source)).run()
}

fn source(world: &World, name: &str, megabytes: usize) -> PathBuf {
    let folder = world.path(name);
    fs::create_dir(&folder).unwrap();
    for number in 0..megabytes {
        let bytes: Vec<u8> = (0..1 << 20).map(|_| rand::random::<u8>()).collect();
        fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
    }
    folder
}

#[track_caller]
fn expect_restores(world: &World, snapshot: &str, expected: &Path) {
    let to = world.path(&format!("restored-{:016x}", rand::random::<u64>()));
    keys(world.unlocked("restore --json").arg(snapshot).arg("--to").arg(&to)).run().expect(exit::DONE);
    tree::assert_equal(expected, &to);
    tree::remove(&to);
}

/// Two folders, two buckets, an SFTP and a WebDAV server: backed up, two servers off, all back.
#[test]
fn six_sites_of_four_kinds_lose_two_and_give_all_back() {
    let world = World::empty();
    let mut s3 = S3Server::start(&world.path("s3"), &["one", "two"]);
    let Some(sshd) = Sshd::start(&world.path("sshd")) else { return };
    let Some(mut apache) = Apache::start(&world.path("apache")) else { return };
    fs::create_dir(world.path("sftp")).unwrap();
    let sites = [
        world.site(1).display().to_string(),
        world.site(2).display().to_string(),
        s3.url("one", "backup") + ",name=s3-one,region=north",
        s3.url("two", "a/b") + ",name=s3-two,upload=64MiB,download=64MiB",
        sshd.url(&world.path("sftp/site")) + ",name=sftp",
        apache.url("site") + ",name=dav",
    ];
    let made = init(&world, &sites).run().expect(exit::DONE);
    assert!(made.says("`s3-one` cannot promise all") && made.says("`dav` cannot promise all"), "{}", made.stderr);
    assert!(!made.says("`sftp` cannot promise all"), "{}", made.stderr);
    let config = fs::read_to_string(world.vault().join("config.toml")).unwrap();
    assert!(config.contains("limit_upload = 67108864"), "{config}");
    assert!(!config.contains(SECRET_KEY) && !config.contains(apache.password()), "{config}");

    let tree = source(&world, "tree", 3);
    let snapshot = back_up(&world, &tree).expect(exit::DONE).text("snapshot");
    expect_restores(&world, &snapshot, &tree);
    run(&world, "verify --json --read-data=100").expect(exit::DONE);

    // The bucket `two` and the WebDAV server are off: with 4+2, two may be.
    apache.stop();
    fs::rename(s3.bucket("two"), world.path("away")).unwrap();
    fs::create_dir(s3.bucket("two")).unwrap();
    expect_restores(&world, &snapshot, &tree);
    let more = source(&world, "more", 2);
    let degraded = back_up(&world, &more);
    assert!([exit::DONE, exit::DEGRADED].contains(&degraded.code()), "{}", degraded.stderr);
    let later = degraded.text("snapshot");
    expect_restores(&world, &later, &more);

    // They are back, one of them empty: it is made again, and everything is mended.
    apache.resume();
    keys(world.call("repair --json --recreate s3-two")).run().expect(exit::DONE);
    run(&world, "verify --json --read-data=100").expect(exit::DONE);
    s3.stop();
    expect_restores(&world, &snapshot, &tree);
    expect_restores(&world, &later, &more);
}

#[test]
fn what_is_wrong_with_a_remote_site_is_named() {
    let world = World::empty();
    let s3 = S3Server::start(&world.path("s3"), &["one"]);
    let refused = |url: &str, what: &str| {
        let sites: Vec<String> = vec![url.to_owned() + ",name=bad"];
        init(&world, &sites).run().refuses(exit::FAILED, what);
        assert!(!world.vault().join("config.toml").exists());
    };
    // Wrong secret, unknown key, no key at all.
    let wrong = |name: &str, value: &str| {
        let call = init(&world, &[s3.url("one", "x") + ",name=bad"]).env(name, value);
        call.run().refuses(exit::FAILED, "does not accept the credentials");
    };
    wrong("AWS_SECRET_ACCESS_KEY", "guessed");
    wrong("AWS_ACCESS_KEY_ID", "AKIDOTHER");
    for empty in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        let none = init(&world, &[s3.url("one", "x")]).env(empty, "");
        none.run().refuses(exit::FAILED, "no credentials for it were found");
    }
    refused(&s3.url("absent", "x"), "the bucket does not exist");
    refused("s3://one/x?endpoint=http://127.0.0.1:1", "nothing answers at its address");
    refused("s3://one/x?endpoint=http://host.invalid", "its host is not known");
    refused("sftp://ann@127.0.0.1:1/x", "nothing answers at its address");
    refused("webdav:http://ann@127.0.0.1:1/x", "nothing answers at its address");
    let secret = init(&world, &["webdav:https://ann:hunter2@host/x".to_owned()]).run().expect(exit::USAGE);
    assert!(secret.says("holds a secret") && !secret.says("hunter2"), "{}", secret.stderr);

    // Two vaults in one bucket: beside each other, not in each other.
    init(&world, &[s3.url("one", "mine")]).run().expect(exit::DONE);
    let other = World::empty();
    init(&other, &[s3.url("one", "mine")]).run().refuses(exit::FAILED, "is a site of vault");
    init(&other, &[s3.url("one", "")]).run().refuses(exit::FAILED, "is not empty");
    init(&other, &[s3.url("one", "mine/deep/inner")]).run().refuses(exit::FAILED, "lies within a site of vault");
    // The prefixes are names, not letters.
    init(&World::empty(), &[s3.url("one", "mine2")]).run().expect(exit::DONE);
    init(&other, &[s3.url("one", "theirs")]).run().expect(exit::DONE);
}

/// A site within another one's folder would be in its listings, and go with it.
#[test]
fn a_site_within_another_site_is_refused_at_every_kind() {
    let (world, other) = (World::empty(), World::empty());
    let Some(sshd) = Sshd::start(&world.path("sshd")) else { return };
    let Some(apache) = Apache::start(&world.path("apache")) else { return };
    let folder = world.path("files");
    let sites =
        [world.site(1).display().to_string(), sshd.url(&folder) + ",name=sftp", apache.url("site") + ",name=dav"];
    init(&world, &sites).run().expect(exit::DONE);
    let within =
        [world.site(1).join("inner").display().to_string(), sshd.url(&folder.join("inner")), apache.url("site/inner")];
    for site in within {
        init(&other, &[site]).run().refuses(exit::FAILED, "lies within a site of vault");
    }
    assert!(!folder.join("inner").exists() && !apache.site("site/inner").exists(), "nothing was made there");
}

/// A bucket that moved: the region is named, at a new site and at one that was used.
#[test]
fn a_bucket_in_another_region_is_told_with_its_region() {
    let world = World::empty();
    let s3 = S3Server::start(&world.path("s3"), &["one"]);
    let what = format!("the bucket is in another region: {OTHER_REGION}");
    let sites = [s3.url("one", "x"), world.site(1).display().to_string(), world.site(2).display().to_string()];
    s3.set(Manner::Moved);
    init(&world, &sites).run().refuses(exit::FAILED, &what);
    s3.set(Manner::Plain);
    init(&world, &sites).run().expect(exit::DONE);
    s3.set(Manner::Moved);
    let listed = keys(world.call("site list --json")).run().expect(exit::DONE).lines();
    let why = listed.iter().find(|site| site["state"] == "down").unwrap()["why"].as_str().unwrap().to_owned();
    assert!(why.contains(&what), "{why}");
}

/// Credentials that may add and not delete are the ones to give: they are taken, said, and a leftover closes no site.
#[test]
fn credentials_that_may_not_delete_are_enough_for_backups() {
    let world = World::empty();
    let s3 = S3Server::start(&world.path("s3"), &["one"]);
    s3.set(Manner::NoDelete);
    let Some(apache) = Apache::start_without_delete(&world.path("apache")) else { return };
    let sites =
        [world.site(1).display().to_string(), s3.url("one", "site") + ",name=bucket", apache.url("site") + ",name=dav"];
    let made = init(&world, &sites).run().expect(exit::DONE);
    for site in ["bucket", "dav"] {
        assert!(made.says(&format!("`{site}` cannot promise all: these credentials cannot delete")), "{}", made.stderr);
    }
    // What a killed run left, older than a day.
    for files in [s3.bucket("one").join("site"), apache.site("site")] {
        let leftover = files.join(".tmp").join("0".repeat(32));
        tree::write(&leftover, b"half");
        tree::set_time(&leftover, 1_000_000_000, 0);
    }
    let tree = source(&world, "tree", 1);
    let snapshot = back_up(&world, &tree).expect(exit::DONE).text("snapshot");
    expect_restores(&world, &snapshot, &tree);
    let probed = keys(world.call("site probe --json")).run().expect(exit::DONE).lines();
    let can_delete: Vec<_> = probed.iter().filter_map(|line| line["can_delete"].as_bool()).collect();
    assert_eq!(can_delete, [true, false, false], "{probed:?}");
}

/// What a bucket with versions is told to remove stays there: the rotation does not say that the old keys open nothing.
#[test]
fn a_bucket_that_keeps_versions_keeps_what_old_keys_open() {
    let world = World::empty();
    let s3 = S3Server::start(&world.path("s3"), &["one"]);
    s3.set(Manner::Versions);
    let sites = [
        world.site(1).display().to_string(),
        world.site(2).display().to_string(),
        s3.url("one", "site") + ",name=bucket",
    ];
    init(&world, &sites).run().expect(exit::DONE);
    back_up(&world, &source(&world, "tree", 1)).expect(exit::DONE);
    let rotate = || {
        let call = world.unlocked("key rotate --json --new-no-passphrase --new-identity-out");
        let call = call.arg(world.path("new-identity")).arg("--new-paper-key-out").arg(world.path("new-paper"));
        keys(call).run().expect(exit::CHECK)
    };
    let rotated = rotate();
    let summary = rotated.summary();
    let left = &summary["left"];
    assert!(left["bucket"]["why"].as_str().unwrap().contains("kept as an older version"), "{left}");
    assert_eq!((left.as_object().unwrap().len(), &left["bucket"]["wraps"]), (1, &serde_json::Value::Null));
    assert_eq!((rotated.number("wraps_removed"), rotated.number("bags_removed")), (2, 2), "at the two folders");
    assert!(rotated.says("can still open"), "{}", rotated.stderr);
    // Nothing old is listed any more, and it is as true as before.
    assert!(rotate().summary()["left"]["bucket"].is_object());
    // One that keeps none any more was not told from one that never did.
    s3.set(Manner::Suspended);
    let why = rotate().summary()["left"]["bucket"]["why"].to_string();
    assert!(why.contains("may keep older versions"), "{why}");
}

/// A program that runs to reach a site is told nothing that it does not need.
#[test]
fn ssh_sees_no_secret_of_ours() {
    let world = World::empty();
    let (programs, seen) = (world.path("programs"), world.path("seen"));
    tree::write(&programs.join("ssh"), format!("#!/bin/sh\nenv > '{}'\nexit 255\n", seen.display()).as_bytes());
    fs::set_permissions(programs.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let call = init(&world, &["sftp://ann@127.0.0.1/srv/site".to_owned()]).env("PATH", path);
    call.env("AWS_SESSION_TOKEN", "a token").run().expect(exit::FAILED);
    let seen = fs::read_to_string(seen).unwrap();
    for secret in ["BLOCKHOUSE_", SECRET_KEY, "a token", "a password of tests"] {
        assert!(!seen.contains(secret), "{secret} is in what ssh sees");
    }
    assert!(seen.contains("HOME="), "the rest it has");
}

#[test]
fn keys_and_certificates_that_are_not_trusted_are_refused() {
    let world = World::empty();
    let Some(sshd) = Sshd::start(&world.path("sshd")) else { return };
    let Some(apache) = Apache::start_tls(&world.path("apache")) else { return };
    let site = world.path("remote");
    let strange = world.path("strange-hosts");
    fs::write(&strange, "").unwrap();
    let sites = [sshd.url_with(&site, &strange)];
    init(&world, &sites).run().refuses(exit::FAILED, "ssh host key is not the known one");
    fs::write(sshd.key().with_file_name("authorized"), "").unwrap();
    init(&world, &[sshd.url(&site)]).run().refuses(exit::FAILED, "does not accept the credentials");

    let dav = [apache.url("site")];
    init(&world, &dav).run().refuses(exit::FAILED, "its certificate is not trusted");
    let trusting = |call: Call| call.env("SSL_CERT_FILE", apache.certificate());
    let wrong = trusting(init(&world, &dav)).env("BLOCKHOUSE_WEBDAV_PASSWORD", "guessed");
    wrong.run().refuses(exit::FAILED, "does not accept the credentials");
    trusting(init(&world, &dav)).run().expect(exit::DONE);

    let other = World::empty();
    let Some(expired) = Apache::start_expired(&other.path("apache")) else { return };
    let call = init(&other, &[expired.url("site")]).env("SSL_CERT_FILE", expired.certificate());
    let refused = call.run().expect(exit::FAILED);
    assert!(refused.says("its certificate is not trusted") && refused.says("expired"), "{}", refused.stderr);
}

/// A line that cuts and corrupts: what is read is right or an error, what was written wrong is found and mended.
#[test]
fn a_bad_line_costs_repairs_and_no_byte() {
    let seed: u64 =
        std::env::var("BLOCKHOUSE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("replay with BLOCKHOUSE_SEED={seed}");
    let world = World::empty();
    let s3 =
        S3Server::start(&world.path("s3"), &["bucket-1", "bucket-2", "bucket-3", "bucket-4", "bucket-5", "bucket-6"]);
    let proxies: Vec<Proxy> = (0..6).map(|number| Proxy::start(s3.port(), Line::default(), seed ^ number)).collect();
    let sites: Vec<String> =
        (1..).zip(&proxies).map(|(number, proxy)| proxy.s3_url(&format!("bucket-{number}"), "site")).collect();
    let sites: Vec<String> = (1..).zip(sites).map(|(number, url)| format!("{url},name=b{number}")).collect();
    init(&world, &sites).run().expect(exit::DONE);
    let tree = source(&world, "tree", 4);

    // Two lines turn bits that are written, all cut now and then.
    for (number, proxy) in proxies.iter().enumerate() {
        let corrupt_writes = if number < 2 { 400_000 } else { 0 };
        proxy.set(Line { cut_after: 3_000_000, corrupt_writes, ..Line::default() });
    }
    let backup = back_up(&world, &tree);
    assert!([exit::DONE, exit::DEGRADED].contains(&backup.code()), "seed {seed}: {}", backup.stderr);
    assert!(proxies.iter().map(Proxy::faults).sum::<u64>() > 0, "seed {seed}: the lines were good");
    let snapshot = backup.text("snapshot");

    // Reads are turned, too, at two sites.
    for (number, proxy) in proxies.iter().enumerate() {
        let corrupt_reads = if number < 2 { 100_000 } else { 0 };
        proxy.set(Line { corrupt_reads, ..Line::default() });
    }
    expect_restores(&world, &snapshot, &tree);
    for proxy in &proxies {
        proxy.set(Line::default());
    }
    keys(world.call("repair --json --read-data")).run().expect(exit::DONE);
    run(&world, "verify --json --read-data=100").expect(exit::DONE);
    expect_restores(&world, &snapshot, &tree);
}

/// A server that lets nothing be written any more: the site is closed, the backup goes on and says so.
#[test]
fn a_site_without_the_right_to_write_is_closed_and_named() {
    let world = World::empty();
    let Some(apache) = Apache::start(&world.path("apache")) else { return };
    let mut sites: Vec<String> = (1..=5).map(|number| world.site(number).display().to_string()).collect();
    sites.push(apache.url("site") + ",name=dav");
    init(&world, &sites).run().expect(exit::DONE);
    let read_only = fs::Permissions::from_mode(0o555);
    for folder in
        fs::read_dir(apache.site("site")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        fs::set_permissions(folder, read_only.clone()).unwrap();
    }
    let root = rustix::process::geteuid().is_root();
    if !blockhouse_tests::need::right(root, "only as root does Apache work as another user") {
        return;
    }
    let tree = source(&world, "tree", 1);
    let backup = back_up(&world, &tree);
    assert!([exit::DONE, exit::DEGRADED].contains(&backup.code()), "{}", backup.stderr);
    assert!(backup.says("dav"), "{}", backup.stderr);
    expect_restores(&world, &backup.text("snapshot"), &tree);
}
