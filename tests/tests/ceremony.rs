//! Four operators found a network that signs with one key, which nobody ever had: their nodes make it together.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blockhouse_ledger::Certificate;
use blockhouse_tests::network::{Node, free_ports, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, Running, World, exit};
use serde_json::json;

const NAMES: [&str; 4] = ["ann", "ben", "cat", "dan"];
/// The length of a key file with a share; without, it is shorter.
const WITH_SHARE: u64 = 77;

/// Operators with a folder and two ports each.
struct Operators {
    world: World,
    ports: u16,
}

impl Operators {
    /// Each made a node, and one founded the network of all.
    fn founded() -> (Self, String) {
        let ours = Self { world: World::empty(), ports: free_ports(8) };
        for (name, number) in NAMES.into_iter().zip(0..) {
            let call = ours.world.outside("node init --json --dir").arg(ours.dir(name)).args(&format!("--name {name}"));
            let (port, rpc) = (ours.ports + number, ours.ports + 4 + number);
            let call = call.args(&format!("--listen 127.0.0.1:{port} --rpc-listen 127.0.0.1:{rpc}"));
            call.run().expect(exit::DONE);
        }
        let call = ours.world.outside("node init --json --signing threshold --dir").arg(ours.world.path("founded"));
        let files = NAMES.map(|name| ours.dir(name).join("enrolment"));
        let founded = files.iter().fold(call.args("--found"), Call::arg).run().expect(exit::DONE);
        let number = founded.summary()["founding"].as_str().unwrap().to_owned();
        assert_eq!((&founded.summary()["validators"], &founded.summary()["quorum"]), (&json!(4), &json!(3)));
        (ours, number)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn founding(&self) -> PathBuf {
        self.world.path("founded").join("founding")
    }

    fn join(&self, name: &str, file: &Path, words: &str) -> Call {
        let call = self.world.outside("node join --json").args(words).arg("--dir").arg(self.dir(name));
        call.arg("--network").arg(file)
    }

    fn gather(&self, name: &str) -> Running {
        self.join(name, &self.founding(), "").spawn()
    }

    fn node(&self, number: u16) -> Node {
        Node::apart(self.dir(NAMES[usize::from(number)]), self.ports + 4 + number)
    }

    fn has_share(&self, name: &str) -> bool {
        fs::metadata(self.dir(name).join("node.key")).unwrap().len() == WITH_SHARE
    }
}

#[test]
fn four_operators_make_one_key_though_one_is_absent_and_then_killed() {
    let (ours, number) = Operators::founded();
    absent(&ours, &number);
    let fingerprint = make_the_key(&ours);
    what_is_left(&ours);
    certified_by_it(&ours, &fingerprint);
}

/// Who is absent is named, and nothing that is left stands in the way of the next try.
fn absent(ours: &Operators, number: &str) {
    let words = format!("--wait 4 --expect {number}");
    let waiting: Vec<Running> =
        NAMES[..3].iter().map(|name| ours.join(name, &ours.founding(), &words).spawn()).collect();
    for waits in waiting {
        let refused = waits.finish().expect(exit::UNREACHABLE);
        assert!(refused.says(&format!("`dan` (127.0.0.1:{})", ours.ports + 3)), "{}", refused.stderr);
        assert!(refused.says("nothing is lost: run the same again"), "{}", refused.stderr);
    }
    assert!(NAMES.iter().all(|name| !ours.has_share(name) && !ours.dir(name).join("network").exists()));
    let other = "11".repeat(32);
    ours.join("ann", &ours.founding(), &format!("--expect {other}")).run().refuses(exit::CHECK, "was expected");
    ours.join("ann", &ours.founding(), "--follower").run().refuses(exit::USAGE, "whose key is not made yet");
    let run = ours.world.outside("node run --dir").arg(ours.dir("ann")).run();
    run.refuses(exit::FAILED, "it has no `network` file");
    let copied = std::process::Command::new("cp").arg("-r").arg(ours.dir("dan")).arg(ours.dir("lost")).status();
    assert!(copied.unwrap().success());
}

/// One is killed as soon as it begins, and again as soon as it has a share.
fn make_the_key(ours: &Operators) -> String {
    let others: Vec<Running> = NAMES[..3].iter().map(|name| ours.gather(name)).collect();
    for moment in ["ceremony", "share", "network"] {
        let mut killed = ours.gather("dan");
        let dir = ours.dir("dan");
        wait_until(|| if moment == "share" { ours.has_share("dan") } else { dir.join(moment).exists() }, moment);
        killed.kill();
        drop(killed.finish());
    }
    let last = ours.gather("dan").finish().expect(exit::DONE).summary()["fingerprint"].clone();
    for other in others {
        let joined = other.finish().expect(exit::DONE);
        assert_eq!((&joined.summary()["fingerprint"], &joined.summary()["role"]), (&last, &json!("validator")));
    }
    last.as_str().unwrap().to_owned()
}

fn what_is_left(ours: &Operators) {
    let network = ours.dir("ann").join("network");
    let bytes = fs::read(&network).unwrap();
    for name in NAMES {
        assert_eq!(fs::read(ours.dir(name).join("network")).unwrap(), bytes, "all have the same");
        let key = ours.dir(name).join("node.key");
        assert!(ours.has_share(name));
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        // The share is in no other file.
        let key = fs::read(key).unwrap();
        let share = &key[key.len() - 32..];
        for entry in fs::read_dir(ours.dir(name)).unwrap().map(Result::unwrap) {
            let is_file = entry.file_type().unwrap().is_file() && entry.file_name() != "node.key";
            let holds = |bytes: Vec<u8>| bytes.windows(32).any(|window| window == share);
            assert!(!is_file || !holds(fs::read(entry.path()).unwrap()), "{}", entry.file_name().display());
        }
    }
    // Killed before the last file had its name, and all others have left: anybody's network file completes it.
    fs::remove_file(ours.dir("dan").join("network")).unwrap();
    ours.join("dan", &network, "").run().expect(exit::DONE);
    // Without the share, nobody is a validator of it; with another ending, nobody believes it.
    ours.join("lost", &network, "").run().refuses(exit::CHECK, "has no share of the network's key");
    let mut altered = bytes;
    *altered.last_mut().unwrap() ^= 1;
    let path = ours.world.path("altered");
    fs::write(&path, altered).unwrap();
    ours.join("lost", &path, "").run().refuses(exit::CHECK, "signs with one key, which somebody dealt");
}

fn certified_by_it(ours: &Operators, fingerprint: &str) {
    let founded = ours.world.path("founded");
    let enrol_key = founded.join("enrol.key");
    let complete = |network: &Path| {
        ours.world.outside("node init --json --complete").arg(network).arg("--dir").arg(&founded).run()
    };
    complete(&ours.world.path("altered")).refuses(exit::USAGE, "is not what the validators");
    assert_eq!(complete(&ours.dir("ben").join("network")).expect(exit::DONE).summary()["fingerprint"], *fingerprint);
    let mode = fs::metadata(&enrol_key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let running: Vec<_> = (0..4).map(|number| ours.node(number).run_again()).collect();
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    let init = ours.world.init(3).args("--json --enrol-key").arg(&enrol_key).arg("--ledger").arg(ours.node(1).url());
    assert_eq!(init.run().expect(exit::DONE).summary()["fingerprint"], *fingerprint);
    let snapshot = ours.world.back_up(&source).snapshot();
    ours.world.expect_restores(&snapshot, &source);

    let node = ours.node(0);
    let height = node.height();
    let text = node.ask("blockhouse_certificate", &json!([format!("{height:#x}")]));
    let certificate = hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap();
    assert!(certificate.len() <= 200, "{} bytes", certificate.len());
    assert!(matches!(Certificate::decode(&certificate).unwrap(), Certificate::Threshold(_)));

    let receipt = ours.world.path("receipt.json");
    ours.world.call("receipt latest -o").arg(&receipt).run().expect(exit::DONE);
    drop(running);
    let check = ours.world.outside("check-receipt").arg(&receipt).args(&format!("--fingerprint {fingerprint}"));
    check.run().expect(exit::DONE);
    let other = ours.world.outside("check-receipt").arg(&receipt).args(&format!("--fingerprint {}", "22".repeat(32)));
    assert_eq!(other.run().code(), exit::CHECK);
}
