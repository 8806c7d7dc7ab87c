//! No reliance on unsynced data: one backup under `strace`, and for every object the proof that it was durable before the
//! acknowledgement.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::Command;

use blockhouse_tests::trace::{CALLS, Trace};
use blockhouse_tests::tree::{self, files};
use blockhouse_tests::world::{World, exit};

/// Tracing needs the tool, and a kernel that lets it trace.
fn can_trace() -> bool {
    Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

#[test]
fn every_object_is_durable_before_the_acknowledgement() {
    if !can_trace() {
        println!("skipped: strace is not installed or may not trace here");
        return;
    }
    let world = World::with_sites(6);
    let source = world.path("source");
    tree::plain(&source, 3, 1);
    world.back_up(&source);
    tree::write(&source.join("more"), &tree::noise(2 * tree::MIB, 2));

    let before: BTreeSet<_> = files(&world.path("sites")).into_iter().collect();
    let trace = world.path("trace");
    let words = ["-f", "-y", "-qq", "-s", "4096", "-e", CALLS, "-o"].map(OsStr::new);
    let call = world.call("backup --json").arg(&source);
    call.under("strace", &[&words[..], &[trace.as_os_str()]].concat()).run().expect(exit::DONE);
    let new: Vec<_> = files(&world.path("sites")).into_iter().filter(|path| !before.contains(path)).collect();

    let trace = Trace::read(&trace);
    let said = trace.said(r#"\"type\":\"summary\""#);
    for folder in ["shards", "lists", "snapshots", "wraps", "blocks"] {
        let of_folder = new.iter().filter(|path| path.components().any(|part| part.as_os_str() == folder)).count();
        assert!(of_folder >= 6, "{of_folder} new objects in {folder} at six sites");
    }
    // What came after the acknowledgement is no part of it: the block that ends the session may.
    let doubts: Vec<_> = new.iter().filter_map(|path| trace.doubt(path, said)).collect();
    assert!(doubts.is_empty(), "{} of {} objects:\n{}", doubts.len(), new.len(), doubts.join("\n"));
    assert_eq!(trace.in_place_doubt(&world.vault().join("ledger.redb"), said), None);
}
