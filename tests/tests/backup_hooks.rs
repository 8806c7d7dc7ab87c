//! Profiles and hooks of `config.toml`: what runs when, what is refused, and what the program leaves alone in the file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::time::{Duration, Instant};

use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};

/// Appends to the configuration of the vault.
fn configure(world: &World, text: &str) {
    let path = world.vault().join("config.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap() + text).unwrap();
}

fn noted(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("note")).unwrap_or_default();
    let _ = fs::remove_file(world.path("note"));
    text.lines().map(str::to_owned).collect()
}

/// A world with a source, hooks at all three levels that note what they see, and two profiles.
fn world() -> World {
    let world = World::with_sites(1);
    tree::plain(&world.path("source"), 0, 1);
    let note = world.path("note");
    let line = |level: &str| {
        let note = note.display();
        format!("'echo {level} $BLOCKHOUSE_HOOK $BLOCKHOUSE_STATUS $BLOCKHOUSE_PROFILE >> {note}'")
    };
    let all = |level: &str| {
        let line = line(level);
        format!("before = {line}\nafter = [{line}]\nfailed = {line}\nfinally = {line}\n")
    };
    let source = world.path("source").canonicalize().unwrap();
    configure(
        &world,
        &format!(
            "\n# around all of it\n[hooks]\n{}\n[source_hooks.papers] # of one source\n{}
[profiles.home]\npaths = '{}' # mine\nsource = 'papers'\nexclude = ['*.bin']\ntag = 'kind=home'\n[profiles.home.hooks]\n{}
[profiles.db]\ncommand = ['echo', 'dump']\nstdin_filename = 'db.sql'\nlimit_upload = '64MiB'\nlimit_download = 67108864\n",
            all("command"),
            all("source"),
            source.display(),
            all("profile"),
        ),
    );
    world
}

#[test]
fn hooks_run_around_each_other_and_the_file_stays_as_it_was_written() {
    let world = world();
    let config = || fs::read_to_string(world.vault().join("config.toml")).unwrap();
    let done = world.call("backup --json --profile home").run().expect(exit::DONE);
    assert_eq!(done.summary()["profile"], "home");
    assert_eq!(done.number("excluded"), 1);
    let expected = [
        "command before",
        "profile before home",
        "source before home",
        "source after done home",
        "source finally done home",
        "profile after done home",
        "profile finally done home",
        "command after done",
        "command finally done",
    ];
    assert_eq!(noted(&world), expected);
    let text = config();
    for kept in ["# around all of it", "# of one source", "# mine", "paths = '"] {
        assert!(text.contains(kept), "{kept}:\n{text}");
    }
    let listed = world.call("snapshots --json --source papers --tag kind=home").run().expect(exit::DONE);
    assert_eq!(listed.lines().len(), 1);

    let both = world.call("backup --json --all-profiles").run().expect(exit::DONE);
    let profiles: Vec<_> =
        both.lines().iter().filter(|line| line["type"] == "summary").map(|line| line["profile"].clone()).collect();
    assert_eq!(profiles, ["db", "home"]);
    let notes = noted(&world);
    assert_eq!(notes.iter().filter(|line| line.starts_with("command")).count(), 3, "once around all: {notes:?}");
    world.call("backup --profile db --no-hooks").run().expect(exit::DONE);
    assert!(noted(&world).is_empty());
    world.call("backup --profile db --command-timeout 5s").run().expect(exit::DONE);
    world.call("backup").arg(world.path("source")).args("--source papers").run().expect(exit::DONE);
    assert!(noted(&world).contains(&"source before".to_owned()), "by the source's name, without a profile too");
}

/// A failing `before` stops its backup and no other; `failed` and `finally` still run, and are told why.
#[test]
fn a_failing_hook_fails_what_it_is_before() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 0, 1);
    let source = source.canonicalize().unwrap();
    let note = world.path("note");
    let (at, note) = (source.display(), note.display());
    configure(
        &world,
        &format!(
            "
[profiles.a]
paths = '{at}'
[profiles.a.hooks]
before = ['echo one >> {note}', 'echo no database >&2; exit 7', 'echo never >> {note}']
after = 'echo never >> {note}'
failed = 'echo $BLOCKHOUSE_EXIT $BLOCKHOUSE_STATUS: $BLOCKHOUSE_ERROR >> {note}'
finally = 'echo $BLOCKHOUSE_HOOK snapshot=$BLOCKHOUSE_SNAPSHOT >> {note}'
[profiles.b]
paths = '{at}'
[profiles.b.hooks]
after = 'exit 3'
failed = 'echo never >> {note}'
finally = 'echo $BLOCKHOUSE_STATUS ${{BLOCKHOUSE_SNAPSHOT:+has one}} ${{BLOCKHOUSE_PASSPHRASE-hidden}} >> {note}'
[profiles.c]
paths = '{at}'
[profiles.c.hooks]
before = 'sleep 1000'
timeout_secs = 1
"
        ),
    );
    let refused = world.call("backup --profile a").run();
    assert!(refused.says("no database"), "{}", refused.stderr);
    refused.refuses(exit::FAILED, "exit code 7");
    let notes = noted(&world);
    assert_eq!((notes.len(), &notes[0][..], &notes[2][..]), (3, "one", "finally snapshot="), "{notes:?}");
    assert!(notes[1].starts_with("1 failed: the `before` hook") && notes[1].contains("exit code 7"), "{notes:?}");
    assert!(world.snapshots().is_empty());

    let late = world.call("backup --profile b").env("BLOCKHOUSE_PASSPHRASE", "hush").run().expect(exit::FAILED);
    assert!(late.says("warning: the `after` hook"), "{}", late.stderr);
    assert_eq!(noted(&world), ["failed has one hidden"]);
    assert_eq!(world.snapshots().len(), 1, "the snapshot stands");
    world.call("backup --profile c").run().refuses(exit::FAILED, "stopped after 1 s");
    world.call("backup --profile a --profile b").run().expect(exit::FAILED);
    assert_eq!(world.snapshots().len(), 2, "what fails does not keep the next from being done");
}

/// Whoever stops a backup, and be it the service manager, does not lose the cleaning up.
#[test]
fn a_backup_that_is_stopped_still_runs_finally() {
    let world = World::with_sites(1);
    let note = world.path("note");
    let begun = world.path("begun");
    configure(
        &world,
        &format!(
            "[profiles.a]\ncommand = ['sh', '-c', 'echo x; touch {}; sleep 1000']\n[profiles.a.hooks]\nfinally = 'echo $BLOCKHOUSE_STATUS >> {}'\n",
            begun.display(),
            note.display()
        ),
    );
    let running = world.call("backup --profile a").spawn();
    let waiting = Instant::now();
    while !begun.exists() {
        assert!(waiting.elapsed() < Duration::from_mins(2), "the command was never begun");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.terminate();
    running.finish().expect(130);
    assert_eq!(noted(&world), ["interrupted"]);
    assert!(world.snapshots().is_empty());
}

/// A slip in the configuration is named with its place and what was meant; it hinders nothing but what it is about.
#[test]
fn a_slip_in_a_profile_is_named_and_hinders_no_restore() {
    let world = World::with_sites(1);
    let source = world.path("source");
    tree::plain(&source, 0, 1);
    let snapshot = world.back_up(&source).snapshot();
    let before = fs::read_to_string(world.vault().join("config.toml")).unwrap();
    let lines = before.lines().count();
    configure(&world, "\n[profiles.home]\nexlude = ['x']\n");
    let refused = world.call("backup --profile home").run();
    assert!(
        refused.says("did you mean `exclude`?") && refused.says(&format!("line {}, column 1", lines + 3)),
        "{}",
        refused.stderr
    );
    refused.refuses(exit::USAGE, "`exlude` in [profiles.home]");
    world.expect_restores(&snapshot, &source);
    world.call("status").run().expect(exit::DONE);

    let with = |text: &str| {
        fs::write(world.vault().join("config.toml"), before.clone() + text).unwrap();
        world.call("backup --profile home").run()
    };
    with("\n[profiles.home]\npaths = ['here']\n").refuses(exit::USAGE, "not an absolute path");
    with("\n[profiles.home]\nlevel = 'high'\n").refuses(exit::USAGE, "line");
    with("\n[profiles.home]\nlimit_upload = 0\n").refuses(exit::USAGE, "bytes per second above 0");
    with("\n[profiles.home]\nlevel = 99\npaths = '/'\n").refuses(exit::USAGE, "99");
    with("\n[profiles.home]\n").refuses(exit::USAGE, "nothing to back up was given in profile `home`");
    with("\n[profiles.hom]\n").refuses(exit::USAGE, "there is no profile `home`");
    with("\n[profiles.home\n").refuses(exit::USAGE, "unclosed table");
    fs::write(world.vault().join("config.toml"), &before).unwrap();
    world.call("backup --all-profiles").run().refuses(exit::USAGE, "no profile");
}
