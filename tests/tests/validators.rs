//! The validators of a running network change: a fifth node comes in the place of the fourth, one is killed meanwhile, and the network stands one
//! more death afterwards. Receipts lead from the fingerprint of before to the blocks of after.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/operators.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod operators;

use std::path::PathBuf;

use blockhouse_tests::network::{free_ports, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::exit;
use serde_json::{Value, json};

use operators::{ANN, BEN, CAT, DAN, EVE, LENGTH, Operators};

/// A node goes on at another port, and dials nobody: whoever is connected to it has found it.
fn move_to(ours: &mut Operators, index: usize, address: &str) {
    ours.kill(index);
    let own = ours.key(index);
    ours.edit(index, |config| {
        config.listen = address.parse().unwrap();
        for (port, (key, other)) in (1..).zip(&mut config.validators) {
            *other = if *key == own { address.to_owned() } else { format!("127.0.0.1:{port}") };
        }
    });
    ours.run(index);
}

#[test]
fn a_fifth_node_takes_the_place_of_the_fourth() {
    let mut ours = Operators::found();
    (ANN..=EVE).for_each(|index| ours.run(index));
    let refused = ours.govern("list", ANN).run().expect(exit::NOT_ALLOWED);
    assert!(refused.says("not made yet") && refused.says("--enrol-key"), "{}", refused.stderr);

    // A vault takes the ledger over, and its owner lets the nodes speak.
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    ours.take_over(3);
    let before = ours.world.fingerprint();
    let old_snapshot = ours.world.back_up(&source).snapshot();
    let old_receipt = ours.world.path("old-receipt");
    ours.world.call("receipt latest -o").arg(&old_receipt).run().expect(exit::DONE);
    ours.enrol_nodes();

    // The governors are the four that founded it, and three of them must agree.
    ours.govern("propose", EVE).arg("--remove").arg(ours.key(DAN)).run().refuses(exit::NOT_ALLOWED, "is no governor");
    let two = ours.govern("propose", ANN).arg("--remove").arg(ours.key(DAN)).run().expect(exit::DONE).text("proposal");
    let early = ours.govern(&format!("enact {two}"), ANN).run().expect(exit::NOT_ALLOWED);
    assert!(early.says("1 governors approve it, 3 are needed"), "{}", early.stderr);
    ours.govern(&format!("withdraw {two}"), ANN).run().expect(exit::DONE);
    let from = ours.agree(&ours.propose_to_replace(DAN, EVE));
    let listed = ours.govern("list", DAN).run().expect(exit::DONE);
    let members: Vec<Value> = listed.lines().into_iter().filter(|line| line["type"] == "set-member").collect();
    let epoch = listed.number("epoch");
    assert!(members[0]["from"] == 0 && (epoch + 1..=epoch + 2).contains(&from), "{members:?}");
    let closing = from * LENGTH - 1;

    // One is killed before the change. The three others close the tenure; the next begins with a dead one among its four.
    ours.reach(closing - 3);
    ours.kill(CAT);
    ours.reach(closing + 3);
    for (index, role) in [(EVE, "validator"), (DAN, "follower")] {
        wait_until(|| ours.status(index)["role"] == role, "who came votes, and who left follows");
    }
    assert!(ours.names_followers(closing), "a closing block names who follows");

    // Who was away finds its way across, and votes again: its folder was there without a gap.
    ours.run(CAT);
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(CAT).height() >= height, "who was away comes across the change");
    wait_until(|| ours.status(CAT)["role"] == "validator" && ours.status(CAT)["validators"] == 4, "it votes again");

    // The one that left is not needed any more, and one more may die.
    wait_until(|| ours.node(DAN).height() >= height, "who left follows");
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
    ours.kill(DAN);
    ours.reach(height + 2);
    ours.kill(ANN);
    ours.reach(height + 5);

    // The vault goes on, under another fingerprint; who has only the old one checks a new receipt all the same, offline.
    let new_snapshot = ours.world.back_up(&source).snapshot();
    let after = ours.world.fingerprint();
    assert_ne!(before, after);
    let new_receipt = ours.world.path("new-receipt");
    ours.world.call("receipt latest -o").arg(&new_receipt).run().expect(exit::DONE);
    let check = |receipt: &PathBuf, fingerprint: &str| {
        let call = ours.world.outside("check-receipt").arg(receipt);
        call.arg("--fingerprint").arg(fingerprint).run()
    };
    check(&new_receipt, &before).expect(exit::DONE);
    check(&new_receipt, &after).expect(exit::DONE);
    check(&old_receipt, &before).expect(exit::DONE);
    // What was recorded before is no word of those who came later; the vault itself knows what it had then.
    check(&old_receipt, &after).refuses(exit::CHECK, "of the vault with fingerprint");
    for receipt in [&old_receipt, &new_receipt] {
        ours.world.call("check-receipt").arg(receipt).run().expect(exit::DONE);
    }
    for snapshot in [&old_snapshot, &new_snapshot] {
        ours.world.expect_restores(snapshot, &source);
    }

    // The same folders go on after all of it was stopped, with the one that was dead meanwhile.
    let height = ours.node(BEN).height();
    (ANN..=EVE).for_each(|index| ours.kill(index));
    for index in [ANN, BEN, EVE] {
        ours.run(index);
    }
    ours.reach(height + 2);
    ours.expect_one_history(&[ANN, BEN, EVE]);
}

/// None of those that run is started again.
#[test]
fn nodes_come_and_move_while_the_others_run() {
    let mut ours = Operators::found();
    ours.edit(EVE, |config| config.rpc_peers.clear());
    (ANN..=EVE).for_each(|index| ours.run(index));
    ours.take_over(1);
    ours.enrol_nodes();

    // Nobody serves the follower, and it was told of nobody to ask: now it is.
    assert_eq!((ours.node(EVE).height(), ours.peers(EVE)), (0, 0));
    ours.edit(EVE, |config| config.rpc_peers.push(ours.node(ANN).url().parse().unwrap()));
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(EVE).height() >= height, "it asks the node that its operator names");
    ours.edit(EVE, |config| config.rpc_peers.clear());
    // A validator names it: from then on it is served as the others are.
    ours.edit(CAT, |config| config.followers.push(ours.key(EVE)));
    wait_until(|| ours.peers(EVE) == 1, "a validator lets in whom its operator names");
    ours.reach(height + 2);
    wait_until(|| ours.node(EVE).height() >= height + 2, "it is served");

    // The ledger says where a validator is from some epoch on, and the others look for it there.
    let ports = free_ports(2);
    let [first, second] = [ports, ports + 1].map(|port| format!("127.0.0.1:{port}"));
    let moved = format!("{}={first}", ours.key(DAN));
    let propose = ours.govern("propose", ANN).arg("--move").arg(moved);
    let proposal = propose.run().expect(exit::DONE).text("proposal");
    let listed = ours.govern("list", BEN).run().expect(exit::DONE);
    let open: Vec<Value> = listed.lines().into_iter().filter(|line| line["type"] == "proposal").collect();
    assert_eq!(open[0]["changes"], json!([format!("moves validator {} at {first}", ours.key(DAN))]));
    let from = ours.agree(&proposal);
    ours.reach(from * LENGTH - 2);
    move_to(&mut ours, DAN, &first);
    ours.reach(from * LENGTH);
    wait_until(|| ours.peers(DAN) == 3, "the others find it where the ledger says");
    wait_until(|| ours.status(DAN)["role"] == "validator", "it votes");

    // What an operator writes himself goes before.
    move_to(&mut ours, DAN, &second);
    for index in [ANN, BEN, CAT] {
        ours.edit(index, |config| drop(config.validators.insert(ours.key(DAN), second.clone())));
    }
    wait_until(|| ours.peers(DAN) == 3, "the others find it where their operators say");
    let height = ours.node(BEN).height();
    wait_until(|| ours.node(DAN).height() >= height, "it has what the others have");
    ours.expect_one_history(&[ANN, BEN, CAT, DAN, EVE]);
}
