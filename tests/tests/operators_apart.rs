//! Operators of a network with one key keep the accounts that speak for their nodes elsewhere: no node may post what comes of a resharing. An operator
//! does, with what any node that took part hands out; a node that was killed meanwhile hands it out again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/operators.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod operators;

use blockhouse_tests::network::wait_until;
use blockhouse_tests::world::{Call, exit};
use serde_json::{Value, json};

use operators::{ANN, BEN, CAT, DAN, EVE, LENGTH, Operators};

/// What a node hands out to be posted.
fn outcome(ours: &Operators, index: usize) -> Value {
    let asked = ours.node(index).try_ask("blockhouse_getResharingOutcome", &json!([]));
    asked.map_or(Value::Null, |answer| answer["result"].clone())
}

fn post(ours: &Operators, words: &str) -> Call {
    ours.world.outside("node validators post --ledger").arg(ours.node(ANN).url()).args(words)
}

#[test]
fn an_operator_posts_what_no_node_may() {
    let mut ours = Operators::found_with_one_key_apart();
    (ANN..=EVE).for_each(|index| ours.run(index));
    ours.take_over(2);
    ours.enrol_nodes();
    let enrol = || ours.world.unlocked("node enrol --operators --json --yes").arg(ours.node(ANN).url());
    let enrolled = enrol().run().expect(exit::DONE).lines();
    assert_eq!(enrolled.iter().filter(|line| line["enrolled_now"] == true).count(), 4, "{enrolled:?}");
    post(&ours, "--print").run().refuses(exit::USAGE, "no outcome of a resharing");

    let from = ours.agree(&ours.propose_to_replace(DAN, EVE));
    for index in [ANN, BEN, CAT, EVE] {
        wait_until(|| outcome(&ours, index)["from"] == format!("{from:#x}"), "all have their shares");
    }
    ours.reach(from * LENGTH + 1);
    let status = ours.status(ANN);
    assert_eq!((&status["to_post"], &status["takes_over"]), (&json!(true), &Value::Null), "{status}");
    let told = ours.world.outside("node status --dir").arg(ours.dir(ANN)).run().expect(exit::DONE);
    assert!(told.says("blockhouse node validators post"), "{}", told.stderr);

    // A kill takes nothing of it.
    let before = outcome(&ours, ANN);
    ours.kill(ANN);
    ours.run(ANN);
    wait_until(|| outcome(&ours, ANN) == before, "it is handed out again");

    // Not everybody may, though anybody could check it.
    let by = |dir: std::path::PathBuf| post(&ours, "--json --dir").arg(dir).run();
    by(ours.dir(BEN)).refuses(exit::NOT_ALLOWED, "speaks for no validator of the set");
    by(ours.office(DAN)).refuses(exit::NOT_ALLOWED, "speaks for no validator of the set");
    let shown = post(&ours, "--print --json").run().expect(exit::DONE).summary();
    assert_eq!((&shown["posted"], shown["from"].as_u64()), (&json!(false), Some(from)));
    assert_eq!(shown["operators"].as_array().unwrap().len(), 4);
    let posted = by(ours.office(CAT)).expect(exit::DONE).summary();
    assert_eq!((&posted["posted"], &posted["data"]), (&json!(true), &shown["data"]));

    wait_until(|| ours.status(ANN)["takes_over"].is_u64(), "it stands on the ledger, and counts");
    let epoch = ours.status(ANN)["takes_over"].as_u64().unwrap();
    by(ours.office(CAT)).refuses(exit::USAGE, "no outcome of a resharing");
    ours.reach(epoch * LENGTH + 2);
    for (index, role) in [(EVE, "validator"), (DAN, "follower")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    let height = ours.node(BEN).height();
    ours.kill(DAN);
    ours.kill(ANN);
    ours.reach(height + 2);
    ours.expect_one_history(&[BEN, CAT, EVE]);
}
