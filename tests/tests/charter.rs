//! A network that takes a ledger over is governed as one that begins its ledger: its validators change by the word of its operators, after a growth,
//! and again after the network that grew was lost and founded anew. Receipts lead from the fingerprints of both to the blocks of after.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/operators.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod operators;

use std::path::{Path, PathBuf};

use blockhouse_tests::network::wait_until;
use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};

use operators::{ANN, BEN, CAT, DAN, EVE, FAY, LENGTH, Operators};

fn receipt(ours: &Operators, snapshot: &str, name: &str) -> PathBuf {
    let to = ours.world.path(name);
    ours.world.call("receipt").arg(snapshot).arg("-o").arg(&to).run().expect(exit::DONE);
    to
}

/// Offline, under that fingerprint.
fn check(ours: &Operators, receipt: &Path, fingerprint: &str) -> i32 {
    ours.world.outside("check-receipt").arg(receipt).arg("--fingerprint").arg(fingerprint).run().code()
}

/// The nodes run, the ledger is theirs, and their operators may speak.
fn begin(ours: &mut Operators, base: u64) {
    (ANN..=EVE).for_each(|index| ours.run(index));
    wait_until(|| (ANN..=EVE).all(|index| ours.node(index).height() > base), "the network takes the ledger over");
    ours.enrol_nodes();
}

/// The fifth comes in the place of the fourth, by the word of three of four; gives the height of the closing block.
fn replace(ours: &Operators) -> u64 {
    let few = ours.govern("propose", ANN).arg("--remove").arg(ours.key(DAN)).run().expect(exit::DONE).text("proposal");
    let early = ours.govern(&format!("enact {few}"), BEN).run().expect(exit::NOT_ALLOWED);
    assert!(early.says("1 governors approve it, 3 are needed"), "{}", early.stderr);
    let from = ours.agree(&ours.propose_to_replace(DAN, EVE));
    let closing = from * LENGTH - 1;
    ours.reach(closing + 3);
    for (index, role) in [(EVE, "validator"), (DAN, "follower")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    assert!(ours.names_followers(closing), "a closing block names who follows");
    closing
}

/// A new node takes a state, and the keys that lead to it; then its past.
fn expect_late_node(ours: &mut Operators) {
    ours.make(FAY);
    ours.join(FAY, &ours.network()).args("--follower").run().expect(exit::DONE);
    ours.edit(FAY, |config| config.sync.state_from = 2);
    let height = ours.node(BEN).height();
    ours.run(FAY);
    wait_until(|| ours.node(FAY).height() >= height, "who comes late has what the others have");
    let bottom = || ours.node(FAY).ask("blockhouse_nodeStatus", &serde_json::json!([]))["history"]["bottom"].clone();
    wait_until(|| bottom() == 0, "the history is filled");
    ours.expect_one_history(&[BEN, FAY]);
}

#[test]
fn a_grown_and_a_refounded_network_change_their_validators() {
    let world = World::with_sites(2);
    let (source, sealed) = (world.path("source"), world.fingerprint());
    tree::plain(&source, 1, 11);
    let first = world.back_up(&source).snapshot();
    let (mut ours, (grown, base)) = Operators::grow(world);
    assert_ne!(sealed, grown);
    begin(&mut ours, base);
    assert_eq!(ours.world.fingerprint(), grown, "the first set keeps the ledger under the key of its charter");
    let of_past = receipt(&ours, &first, "of-past");
    assert_eq!((check(&ours, &of_past, &grown), check(&ours, &of_past, &sealed)), (exit::DONE, exit::CHECK));

    replace(&ours);
    let second = ours.world.back_up(&source).snapshot();
    let changed = ours.world.fingerprint();
    assert_ne!(grown, changed);
    let of_change = receipt(&ours, &second, "of-change");
    for fingerprint in [&grown, &changed] {
        assert_eq!(check(&ours, &of_change, fingerprint), exit::DONE, "links lead from the charter's key on");
    }
    assert_eq!(check(&ours, &of_change, &sealed), exit::CHECK);
    assert_eq!(check(&ours, &receipt(&ours, &first, "of-past-again"), &grown), exit::DONE);
    expect_late_node(&mut ours);

    // All are killed, and go on where they were, without the one that left.
    let height = ours.node(BEN).height();
    (ANN..=FAY).for_each(|index| ours.kill(index));
    for index in [ANN, BEN, CAT, EVE] {
        ours.run(index);
    }
    ours.reach(height + 2);
    ours.expect_one_history(&[ANN, BEN, CAT, EVE]);
    // What is proposed and not carried out ends with the network.
    let open = ours.govern("propose", ANN).arg("--remove").arg(ours.key(EVE)).run().expect(exit::DONE).text("proposal");
    wait_until(|| ours.node(CAT).height() >= ours.node(ANN).height(), "the survivor has it too");

    let (mut ours, (again, base)) = ours.refound(CAT);
    assert!(again != grown && again != changed);
    begin(&mut ours, base);
    let gone = ours.govern(&format!("enact {open}"), ANN).run();
    assert_ne!(gone.code(), exit::DONE, "governors of a network that is over change nothing");
    let closing = replace(&ours);
    let third = ours.world.back_up(&source).snapshot();
    let last = ours.world.fingerprint();
    let of_newest = receipt(&ours, &third, "of-newest");
    for fingerprint in [&again, &last] {
        assert_eq!(check(&ours, &of_newest, fingerprint), exit::DONE);
    }
    for (snapshot, name) in [(&first, "first"), (&second, "second")] {
        assert_eq!(check(&ours, &receipt(&ours, snapshot, name), &again), exit::DONE, "certified anew by the handover");
        ours.world.expect_restores(snapshot, &source);
    }
    assert_eq!(check(&ours, &of_change, &grown), exit::DONE, "what was given out stays what it was");
    expect_late_node(&mut ours);
    (ANN..=FAY).for_each(|index| ours.kill(index));
    for index in [ANN, BEN, EVE] {
        ours.run(index);
    }
    ours.reach(closing + 8);
    ours.expect_one_history(&[ANN, BEN, EVE]);
}
