//! The nodes of a network that founds a ledger anew, made and not run yet.

use std::path::PathBuf;

use blockhouse_tests::network::{Node, RunningNode, free_ports};
use blockhouse_tests::world::{Call, World, exit};

const NAMES: [&str; 4] = ["ann", "ben", "cat", "dan"];
/// How many there are.
pub(crate) const COUNT: u16 = 4;

/// Four nodes, numbered from 0; the first one is on the vault's host.
pub(crate) struct Anew<'a> {
    world: &'a World,
    ports: u16,
}

impl<'a> Anew<'a> {
    pub(crate) fn make(world: &'a World) -> Self {
        let ours = Self { world, ports: free_ports(2 * COUNT) };
        for (number, name) in (0..).zip(NAMES) {
            let (port, rpc) = (ours.ports + number, ours.node(number).port());
            let words = format!("--name {name} --listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc}");
            world.outside("node init --dir").arg(ours.dir(number)).args(&words).run().expect(exit::DONE);
        }
        ours
    }

    pub(crate) fn dir(&self, number: u16) -> PathBuf {
        self.world.path(NAMES[usize::from(number)])
    }

    pub(crate) fn node(&self, number: u16) -> Node {
        Node::apart(self.dir(number), self.ports + COUNT + number)
    }

    /// The command that founds it.
    pub(crate) fn refound(&self) -> Call {
        let call = self.world.unlocked("node refound --json").arg("--dir").arg(self.dir(0)).arg("--found");
        let call = (1..COUNT).fold(call, |call, number| call.arg(self.dir(number).join("enrolment")));
        (0..COUNT).fold(call, |call, number| call.arg("--ledger").arg(self.node(number).url()))
    }

    /// Joins a node but the first one, and runs it.
    pub(crate) fn run(&self, number: u16, fingerprint: &str) -> RunningNode {
        if number > 0 {
            let join = self.world.outside("node join --dir").arg(self.dir(number)).arg("--network");
            let join = join.arg(self.dir(0).join("network")).arg("--rpc-peer").arg(self.node(0).url());
            join.args(&format!("--expect {fingerprint}")).run().expect(exit::DONE);
        }
        self.node(number).run_again()
    }
}
