//! Nothing is left of a network, and nothing of the host that backed up to its ledger: the blocks at the sites are enough to read, and to found a network
//! anew that goes on above the last of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/anew.rs"]
mod anew;

use std::fs;
use std::path::PathBuf;

use anew::{Anew, COUNT};
use blockhouse_tests::network::{Network, Node, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, World, exit};

/// A command on the vault's new host.
fn on_host(world: &World, words: &str) -> Call {
    world.outside(words).env("BLOCKHOUSE_VAULT", world.path("host"))
}

/// The owner makes it one of the vault's hosts.
fn join_host(world: &World, fingerprint: &str) {
    let (request, answer) = (world.path("host.request"), world.path("host.answer"));
    on_host(world, "host request --name host -o").arg(&request).run().expect(exit::DONE);
    let approve = world.unlocked("host approve --yes").arg(&request).arg("-o").arg(&answer);
    approve.run().expect(exit::DONE);
    on_host(world, "host join").arg(&answer).args(&format!("--fingerprint {fingerprint}")).run().expect(exit::DONE);
}

#[test]
fn a_network_of_which_nothing_is_left_goes_on_from_the_sites() {
    let world = World::empty();
    let network = Network::start(&world.path("old"), 4, "--signing committee");
    let init = world.init(3).args("--enrol-key").arg(world.path("old/enrol.key"));
    let init = network.nodes().iter().fold(init, |call, node| call.arg("--ledger").arg(node.url()));
    init.run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 5);
    let first = world.back_up(&source).snapshot();
    let (before, receipt) = (world.fingerprint(), world.path("old.json"));
    world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    let lost: Vec<String> = network.nodes().iter().map(Node::url).collect();
    network.nodes().iter().for_each(Node::kill);
    drop(network);
    fs::remove_dir_all(world.path("old")).unwrap();
    fs::rename(world.vault(), world.path("lost-host")).unwrap();

    // From two sites of three, without anything else: it reads, and changes nothing there.
    let held = tree::files(&world.path("sites"));
    let recover = |network: &[String]| {
        let call = world.unlocked("recover --read-only --json").args(&format!("--fingerprint {before}"));
        let call = call.arg("--site").arg(world.site(1)).arg("--site").arg(world.site(2));
        network.iter().fold(call, |call, url| call.arg("--network").arg(url))
    };
    recover(&lost).run().expect(exit::DONE);
    assert_eq!(tree::files(&world.path("sites")), held);
    world.expect_restores(&first, &source);
    assert_eq!(world.fingerprint(), before);
    let backup = world.call("backup").arg(&source).run();
    assert_ne!(backup.code(), exit::DONE, "a folder that only reads writes nothing");

    // No node of the old network answers, so none has a quorum: the new one begins above the last block at the sites.
    let ours = Anew::make(&world);
    let made = ours.refound().run().expect(exit::DONE).summary();
    let (after, height) = (made["fingerprint"].as_str().unwrap().to_owned(), made["height"].as_u64().unwrap());
    assert_ne!(after, before);
    let _running: Vec<_> = (0..COUNT).map(|number| ours.run(number, &after)).collect();
    wait_until(|| (0..COUNT).all(|number| ours.node(number).height() > height), "the new network goes on");
    world.expect_restores(&first, &source);
    assert_eq!(world.fingerprint(), after);

    // Another host backs up to it, and what was backed up before is there.
    join_host(&world, &after);
    tree::write(&source.join("more"), &tree::noise(50_000, 6));
    let second = on_host(&world, "backup --json").arg(&source).run().expect(exit::DONE).snapshot();
    world.expect_restores(&second, &source);
    let check = |receipt: &PathBuf, fingerprint: &str| {
        world.outside("check-receipt").arg(receipt).arg("--fingerprint").arg(fingerprint).run().expect(exit::DONE);
    };
    check(&receipt, &before);
    let again = world.path("again.json");
    world.call("receipt").arg(&first).arg("-o").arg(&again).run().expect(exit::DONE);
    check(&again, &after);
}
