//! No reliance on unsynced data: backups under `strace`, and for every object the proof that it was durable before the
//! acknowledgement.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blockhouse_tests::damage::objects;
use blockhouse_tests::need;
use blockhouse_tests::trace::{CALLS, Trace};
use blockhouse_tests::tree::{self, files};
use blockhouse_tests::world::{Call, World, exit};

/// What the acknowledgement looks like in a trace.
const SUMMARY: &str = r#"\"type\":\"summary\""#;

/// Tracing needs the tool, and a kernel that lets it trace.
#[track_caller]
fn can_trace() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    need::program("strace", "strace", works)
}

fn traced(call: Call, trace: &Path, more: &[&str]) -> Call {
    let mut words: Vec<&OsStr> = ["-f", "-y", "-qq", "-s", "4096", "-e", CALLS].map(OsStr::new).into();
    words.extend(more.iter().map(OsStr::new));
    words.extend([OsStr::new("-o"), trace.as_os_str()]);
    call.under("strace", &words)
}

fn world() -> (World, PathBuf) {
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 3, 1);
    world.back_up(&source);
    tree::write(&source.join("more"), &tree::noise(2 * tree::MIB, 2));
    (world, source)
}

/// O1 and O3 for all that a backup writes.
#[test]
fn every_object_is_durable_before_the_acknowledgement() {
    if !can_trace() {
        return;
    }
    let (world, source) = world();
    let before: BTreeSet<_> = files(&world.path("sites")).into_iter().collect();
    let trace = world.path("trace");
    traced(world.call("backup --json").arg(&source), &trace, &[]).run().expect(exit::DONE);
    let new: Vec<_> = files(&world.path("sites")).into_iter().filter(|path| !before.contains(path)).collect();

    let trace = Trace::read(&trace);
    let said = trace.said(SUMMARY);
    for folder in ["shards", "lists", "snapshots", "wraps", "blocks"] {
        let of_folder = new.iter().filter(|path| path.components().any(|part| part.as_os_str() == folder)).count();
        assert!(of_folder >= 6, "{of_folder} new objects in {folder} at six sites");
    }
    let doubts: Vec<_> = new.iter().filter_map(|path| trace.doubt(path, said)).collect();
    assert!(doubts.is_empty(), "{} of {} objects:\n{}", doubts.len(), new.len(), doubts.join("\n"));
    assert_eq!(trace.in_place_doubt(&world.vault().join("ledger.redb"), said), None);
}

/// A run that is killed between the naming of shards and the sync of their folders leaves names that a loss of power takes
/// back. The next run finds the stripe whole and uses it: it must not acknowledge before it has synced what it found.
#[test]
fn what_a_killed_run_named_is_synced_before_it_counts() {
    if !can_trace() {
        return;
    }
    let (world, source) = world();
    let shards = || (1..=6).flat_map(|number| objects(&world.site(number), "shards")).collect::<BTreeSet<_>>();
    let before = shards();
    // Every sync takes half a second, so that the kill finds names without them.
    let slow =
        traced(world.call("backup").arg(&source), &world.path("slow"), &["-e", "inject=fsync:delay_enter=500000"]);
    let running = slow.spawn();
    let started = Instant::now();
    while shards().difference(&before).count() < 6 {
        assert!(started.elapsed() < Duration::from_mins(1), "no shards came");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill_traced();
    let _ = running.finish();
    let left: Vec<_> = shards().difference(&before).cloned().collect();

    let trace = world.path("trace");
    let next = traced(world.call("backup --json").arg(&source), &trace, &[]).run().expect(exit::DONE);
    let reused = next.number("new_bytes") < tree::MIB as u64;
    assert!(reused, "what was uploaded is used: {} new bytes", next.number("new_bytes"));
    let trace = Trace::read(&trace);
    let said = trace.said(SUMMARY);
    let doubts: Vec<_> = left.iter().filter_map(|path| trace.adoption_doubt(path, said)).collect();
    assert!(doubts.is_empty(), "{} of {} shards:\n{}", doubts.len(), left.len(), doubts.join("\n"));
}
