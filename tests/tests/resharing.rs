//! A network that signs with one key changes its validators and keeps the key: a fifth node comes in the place of the fourth. While the fifth is absent
//! the old set goes on and names it; one is killed in the midst of the resharing; then one more dies, and blocks go on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/late.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod late;
#[path = "support/operators.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod operators;

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_ledger::Certificate;
use blockhouse_tests::network::wait_until;
use blockhouse_tests::tree;
use blockhouse_tests::world::exit;
use serde_json::{Value, json};

use late::Run;
use operators::{ANN, BEN, CAT, DAN, EVE, FAY, LENGTH, Operators};

/// The length of a key file with a share; without, it is shorter.
const WITH_SHARE: u64 = 77;

fn key_file(ours: &Operators, index: usize) -> Vec<u8> {
    fs::read(ours.dir(index).join("node.key")).unwrap()
}

/// How many shares a node has beside the one in its key file.
fn shares(ours: &Operators, index: usize) -> usize {
    fs::read_dir(ours.dir(index).join("shares")).map_or(0, |entries| entries.flatten().count())
}

#[test]
fn a_fifth_node_gets_its_share_of_the_key_in_the_place_of_the_fourth() {
    let mut ours = Operators::found_with_one_key();
    (ANN..=EVE).for_each(|index| ours.run(index));
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    ours.take_over(3);
    let before = ours.world.fingerprint();
    let old_receipt = backed_up(&ours, &source, "old-receipt");
    ours.enrol_nodes();
    let old_keys: Vec<Vec<u8>> = (ANN..=EVE).map(|index| key_file(&ours, index)).collect();

    without_the_newcomer(&mut ours);
    let epoch = with_it_and_a_kill(&mut ours);
    taken_over(&ours, epoch, &old_keys);

    comes_by_state(&ours, epoch * LENGTH - 1);

    // The one that left is not needed any more, and one more may die.
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
    let height = ours.node(BEN).height();
    ours.kill(DAN);
    ours.reach(height + 2);
    ours.kill(ANN);
    ours.reach(height + 5);

    // The key is the same, and so is all that hangs on it: offline, without a link.
    let new_receipt = backed_up(&ours, &source, "new-receipt");
    assert_eq!(ours.world.fingerprint(), before);
    for receipt in [&old_receipt, &new_receipt] {
        let check = ours.world.outside("check-receipt").arg(receipt);
        check.args(&format!("--fingerprint {before}")).run().expect(exit::DONE);
        assert!(!fs::read_to_string(receipt).unwrap().contains("\"links\""));
    }
    ours.world.expect_restores(&ours.world.back_up(&source).snapshot(), &source);

    // The same folders go on after all of it was stopped.
    let height = ours.node(BEN).height();
    (ANN..=EVE).for_each(|index| ours.kill(index));
    for index in [BEN, CAT, EVE] {
        ours.run(index);
    }
    ours.reach(height + 2);
    ours.expect_one_history(&[BEN, CAT, EVE]);
}

fn backed_up(ours: &Operators, source: &Path, name: &str) -> PathBuf {
    let receipt = ours.world.path(name);
    ours.world.back_up(source);
    ours.world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    receipt
}

/// Who is absent delays the change, is named, and stops nothing.
fn without_the_newcomer(ours: &mut Operators) {
    ours.kill(EVE);
    let from = ours.agree(&ours.propose_to_replace(DAN, EVE));
    // At its beginning a ceremony has not heard the others yet either.
    let key = ours.key(EVE);
    let missed = json!([format!("{key} (127.0.0.1:{})", ours.port(EVE))]);
    wait_until(|| ours.status(ANN)["reshares_without"] == missed, "who is missed is named, and nobody else");
    let told = ours.world.outside("node status --dir").arg(ours.dir(ANN)).run().expect(exit::DONE);
    assert!(told.says("waits for its shares of the key") && told.says(&key), "{}", told.stderr);
    ours.reach(from * LENGTH + 1);
    assert!(!ours.names_followers(from * LENGTH - 1), "nobody follows");
    for index in [ANN, BEN, CAT, DAN] {
        assert_eq!(ours.status(index)["role"], "validator");
    }
    assert_eq!(ours.status(ANN)["takes_over"], Value::Null);
}

/// It comes, and one of the others dies as soon as it has a new share; gives the epoch that follows.
fn with_it_and_a_kill(ours: &mut Operators) -> u64 {
    ours.run(EVE);
    wait_until(|| shares(ours, CAT) > 0, "a new share is durable beside the old one");
    ours.kill(CAT);
    ours.run(CAT);
    let settled = |index| ours.status(index)["takes_over"].as_u64();
    wait_until(|| settled(ANN).is_some(), "the outcome stands on the ledger");
    let epoch = settled(ANN).unwrap();
    wait_until(|| settled(EVE) == Some(epoch), "all know when it counts");
    epoch
}

fn taken_over(ours: &Operators, epoch: u64, old_keys: &[Vec<u8>]) {
    ours.reach(epoch * LENGTH + 3);
    for (index, role) in [(EVE, "validator"), (DAN, "follower"), (CAT, "validator"), (ANN, "validator")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    assert!(ours.names_followers(epoch * LENGTH - 1), "others follow");
    for (index, old) in (ANN..=EVE).zip(old_keys) {
        let is_settled = || key_file(ours, index) != *old && shares(ours, index) == 0;
        wait_until(is_settled, "old shares are erased, and new ones in their place");
        let has_share = key_file(ours, index).len() as u64 == WITH_SHARE;
        assert_eq!(has_share, index != DAN, "{index}");
    }
    let height = ours.node(EVE).height();
    let text = ours.node(EVE).ask("blockhouse_certificate", &json!([format!("{height:#x}")]));
    let certificate = hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap();
    assert!(matches!(Certificate::decode(&certificate).unwrap(), Certificate::Threshold(_)));
}

/// Who has only what the founders were given takes a state above the change: the closing block leads to those who have shares now.
fn comes_by_state(ours: &Operators, closing: u64) {
    ours.make(FAY);
    ours.join(FAY, &ours.network()).args("--follower").run().expect(exit::DONE);
    ours.edit(FAY, |config| config.sync.state_from = 1);
    let mut fay = Run::start(&ours.node(FAY), "");
    fay.answers(&ours.node(FAY));
    let talk = fay.talk();
    let followed = format!("changes of the validators: 1, the last with block {closing}");
    assert!(talk.contains(&followed) && talk.contains("has the state of block"), "{talk}");
    wait_until(|| ours.status(FAY)["history_from"] == 0, "it has what is below too");
    ours.expect_one_history(&[ANN, FAY]);
}
