//! A network of several operators: each makes a node, one founds the network, all join it; what does not fit is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blockhouse_tests::network::{Node, free_ports, wait_until};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, Output, World, exit};
use serde_json::{Value, json};

const NAMES: [&str; 5] = ["ann", "ben", "cat", "dan", "eve"];

/// Operators with a folder and two ports each, numbered from 0.
struct Operators {
    world: World,
    ports: u16,
    rpc_ports: u16,
}

impl Operators {
    fn new() -> Self {
        let count = u16::try_from(NAMES.len()).unwrap();
        let ports = free_ports(2 * count);
        Self { world: World::empty(), ports, rpc_ports: ports + count }
    }

    fn dir(&self, number: u16) -> PathBuf {
        self.world.path(NAMES[usize::from(number)])
    }

    fn enrolment(&self, number: u16) -> PathBuf {
        self.dir(number).join("enrolment")
    }

    fn node(&self, number: u16) -> Node {
        Node::apart(self.dir(number), self.rpc_ports + number)
    }

    /// Makes a node with these words beside; it must succeed.
    fn init(&self, number: u16, words: &str) -> Output {
        self.try_init(number, NAMES[usize::from(number)], self.ports + number, words).expect(exit::DONE)
    }

    fn try_init(&self, number: u16, name: &str, port: u16, words: &str) -> Output {
        let call = self.world.outside("node init --json").args(words).arg("--dir").arg(self.dir(number));
        let call = call.args(&format!("--name {name} --listen 127.0.0.1:{port}"));
        call.args(&format!("--rpc-listen 127.0.0.1:{}", self.rpc_ports + number)).run()
    }

    fn found(&self, to: &str, files: &[PathBuf]) -> Output {
        let call = self.world.outside("node init --json").arg("--dir").arg(self.world.path(to)).arg("--found");
        files.iter().fold(call, Call::arg).run()
    }

    /// Founds a network of the first so many.
    fn found_of(&self, to: &str, count: u16) -> Output {
        self.found(to, &(0..count).map(|number| self.enrolment(number)).collect::<Vec<_>>()).expect(exit::DONE)
    }

    fn network(&self, of: &str) -> PathBuf {
        self.world.path(of).join("network")
    }

    fn join(&self, number: u16, network: &Path, words: &str) -> Output {
        let call = self.world.outside("node join --json").args(words).arg("--dir").arg(self.dir(number));
        call.arg("--network").arg(network).run()
    }

    fn status(&self, number: u16) -> Output {
        self.world.outside("node status --json --dir").arg(self.dir(number)).run()
    }
}

/// As the screen of `node join --follower` says it.
fn serve_follower(dir: &Path, key: &str) {
    let path = dir.join("node.toml");
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("\n[").unwrap();
    fs::write(&path, format!("{}\nfollowers = [\"{key}\"]{}", &text[..at], &text[at..])).unwrap();
}

#[test]
fn four_operators_found_a_network_and_a_fifth_follows_it() {
    let ours = Operators::new();
    for (number, site) in (0..).zip(["fra", "fra", "ams", "ams"]) {
        let made = ours.init(number, &format!("--place site={site},provider=p{number}"));
        assert_eq!(made.summary()["file"], json!(ours.enrolment(number)));
        let key = fs::metadata(ours.dir(number).join("node.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600, "a key is its owner's alone");
    }
    let key = ours.init(4, "").summary()["public"].as_str().unwrap().to_owned();

    // Two data centres: the founder is told before anybody joins, and everybody who joins is told again.
    let founded = ours.found_of("founded", 4);
    assert!(
        founded.says("warning: the loss of one site can stop the ledger: `ams` has 2 of 4 nodes"),
        "{}",
        founded.stderr
    );
    let survives = &founded.summary()["survives"];
    assert_eq!(survives[0], json!({ "domain": "node", "of": 4, "any": 1, "fatal": [] }));
    assert_eq!(survives[1], json!({ "domain": "site", "of": 2, "any": 0, "fatal": ["ams", "fra"] }));
    assert_eq!(survives[2], json!({ "domain": "provider", "of": 4, "any": 1, "fatal": [] }));
    let fingerprint = founded.summary()["fingerprint"].as_str().unwrap().to_owned();
    let network = ours.network("founded");
    for number in 0..4 {
        let joined = ours.join(number, &network, &format!("--expect {fingerprint}")).expect(exit::DONE);
        assert_eq!((&joined.summary()["role"], joined.says("`fra` has 2 of 4 nodes")), (&json!("validator"), true));
        serve_follower(&ours.dir(number), &key);
    }
    let joined = ours.join(4, &network, "--follower").expect(exit::DONE);
    assert!(joined.says(&format!("followers = [\"{key}\"]")) && joined.says("Compare the fingerprint"));

    let mut running: Vec<_> = (0..5).map(|number| Some(ours.node(number).run_again())).collect();
    claim_and_back_up(&ours, &fingerprint);
    let (first, follower) = (ours.node(0), ours.node(4));
    let height = first.height();
    assert!(height > 0);
    wait_until(|| follower.height() >= height, "the follower follows");
    assert_eq!(follower.hash_at(height), first.hash_at(height));

    let status = ours.status(0).expect(exit::DONE).lines().pop().unwrap();
    assert_eq!(
        (&status["role"], &status["validators"], &status["quorum"]),
        (&json!("validator"), &json!(4), &json!(3))
    );
    assert_eq!(status["survives"], *survives, "the places are in the network file");
    let by_url = ours.world.outside("node status --json --ledger").arg(follower.url()).run().expect(exit::DONE);
    assert_eq!(by_url.lines()[0]["role"], "follower");

    ours.world.unlocked("node enrol --json --yes").arg(follower.url()).run().expect(exit::DONE);
    running[4] = None;
    make_witness(&follower.dir);
    running[4] = Some(follower.run_again());
    check_by_witness(&ours, &key, &status["public"]);
    running[4] = None;
    let gone = ours.status(4).expect(exit::UNREACHABLE);
    assert!(gone.says("gives no status") && gone.says("blockhouse node run --dir"), "{}", gone.stderr);
}

/// As an operator does who keeps no ledger and is to say what he saw.
fn make_witness(dir: &Path) {
    let path = dir.join("node.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[witness]\ninterval_secs = 1\n")).unwrap();
}

/// A receipt is checked by what the fifth operator cosigned, who has no vote; no validator's key does.
fn check_by_witness(ours: &Operators, witness: &str, validator: &Value) {
    let (receipt, file) = (ours.world.path("receipt.json"), ours.world.path("anchor.json"));
    wait_until(
        || {
            let made = ours.world.call("receipt latest --json -o").arg(&receipt).arg("--anchored").arg(&file).run();
            made.code() == exit::DONE
        },
        "the follower cosigns",
    );
    let check = |key: &str| {
        let check = ours.world.outside("check-receipt --json").arg(&receipt).arg("--anchor").arg(&file);
        check.arg("--fingerprint").arg(ours.world.fingerprint()).arg("--witness").arg(key).run()
    };
    assert_eq!(check(witness).expect(exit::DONE).summary()["anchored"][0]["witness"], witness);
    check(validator.as_str().unwrap()).refuses(exit::CHECK, "no cosignature of the witness");
    let status = ours.status(4).expect(exit::DONE).lines().pop().unwrap();
    assert_eq!(status["role"], "follower");
    assert!(status["cosigned_height"].as_u64().unwrap() > 0, "{status}");
}

/// The ledger that the operators agreed on is the one that a vault's owner takes over and backs up to. His host knows the follower alone, who can
/// propose nothing: all that is recorded went from it to the validators.
fn claim_and_back_up(ours: &Operators, fingerprint: &str) {
    let source = ours.world.path("source");
    tree::plain(&source, 1, 7);
    let enrol_key = ours.world.path("founded").join("enrol.key");
    let init = ours.world.init(3).args("--json --enrol-key").arg(enrol_key);
    let claimed = init.arg("--ledger").arg(ours.node(4).url()).run().expect(exit::DONE);
    assert_eq!(claimed.summary()["fingerprint"], fingerprint, "one number for the operators and for the vault");
    let snapshot = ours.world.back_up(&source).snapshot();
    ours.world.expect_restores(&snapshot, &source);
}

#[test]
fn enrolments_that_make_no_network_are_refused_with_the_reason() {
    let ours = Operators::new();
    (0..4).for_each(|number| drop(ours.init(number, "--place site=a")));
    let files: Vec<PathBuf> = (0..4).map(|number| ours.enrolment(number)).collect();
    let with = |file: PathBuf| [&files[..], &[file]].concat();
    ours.found("x", &with(files[1].clone())).refuses(exit::USAGE, "the enrolment of `ben` is given twice");

    let bytes = fs::read(&files[0]).unwrap();
    let altered = ours.world.path("altered");
    let at = bytes.windows(3).position(|window| window == b"ann").unwrap();
    fs::write(&altered, [&bytes[..at], b"aNn", &bytes[at + 3..]].concat()).unwrap();
    ours.found("x", &with(altered.clone())).refuses(exit::CHECK, "`aNn` was altered");
    for junk in [&b""[..], b"BHNE", &[7; 5000], &bytes[..bytes.len() - 1]] {
        fs::write(&altered, junk).unwrap();
        ours.found("x", &with(altered.clone())).refuses(exit::CHECK, "cannot be read");
    }
    ours.found("x", &with(ours.world.path("nowhere"))).refuses(exit::FAILED, "could not read the enrolment");

    assert_eq!(ours.try_init(4, "eve", ours.ports, "").code(), exit::DONE);
    ours.found("x", &with(ours.enrolment(4))).refuses(exit::USAGE, "`ann` and `eve` have the same address");
    fs::remove_dir_all(ours.dir(4)).unwrap();
    assert_eq!(ours.try_init(4, "ann", ours.ports + 4, "").code(), exit::DONE);
    ours.found("x", &with(ours.enrolment(4))).refuses(exit::USAGE, "two nodes are called `ann`");
    assert!(!ours.world.path("x").exists(), "nothing was made of what was refused");

    ours.found("ann", &files).refuses(exit::USAGE, "has a file `node.key` already");
    ours.found("founded", &files).expect(exit::DONE);
    ours.found("founded", &files).refuses(exit::USAGE, "has a file `network` already");
    // Killed before the network file had its name: the enrol key may be of a ledger in use, and stays.
    fs::rename(ours.network("founded"), ours.world.path("founded/network.new")).unwrap();
    ours.found("founded", &files).refuses(exit::USAGE, "has a file `enrol.key` already");
    let mode = fs::metadata(ours.world.path("founded/enrol.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_node_is_made_once_and_joins_its_own_network_alone() {
    let ours = Operators::new();
    (0..3).for_each(|number| drop(ours.init(number, "")));
    ours.try_init(0, "ann", ours.ports, "").refuses(exit::FAILED, "a node was made in");
    let call = |words: &str| ours.world.outside("node init --dir").arg(ours.dir(4)).args(words).run();
    call("--name eve --listen 0.0.0.0:9650").refuses(exit::USAGE, "other nodes cannot reach this one");
    assert_eq!(call("--name eve").code(), exit::USAGE);
    assert_eq!(call("--name eve --listen h:1").code(), exit::USAGE);
    assert_eq!(call("--name a,b --listen 127.0.0.1:1").code(), exit::USAGE);
    assert_eq!(call("--name eve --listen 127.0.0.1:1 --place city=x").code(), exit::USAGE);
    assert!(!ours.dir(4).exists(), "nothing was made of what was refused");

    let run = |number: u16| ours.world.outside("node run --dir").arg(ours.dir(number)).run();
    run(0).refuses(exit::FAILED, "it has no `network` file");
    // One network of the first two, another of the third.
    ours.found_of("founded", 2);
    ours.found("other", &[ours.enrolment(2)]).expect(exit::DONE);
    let (network, other) = (ours.network("founded"), ours.network("other"));
    let refused = ours.join(0, &other, "").expect(exit::USAGE);
    assert!(refused.says("is no validator of the network") && refused.says("say --follower"), "{}", refused.stderr);
    ours.join(0, &network, "--follower").refuses(exit::USAGE, "has a vote");
    ours.join(0, &network, &format!("--expect {}", "00".repeat(32))).refuses(exit::CHECK, "was expected");
    ours.join(4, &network, "").refuses(exit::FAILED, "has no key");
    ours.join(0, &ours.world.path("nowhere"), "").refuses(exit::FAILED, "could not read");

    let bytes = fs::read(&network).unwrap();
    let altered = ours.world.path("altered");
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    fs::write(&altered, &flipped).unwrap();
    ours.join(0, &altered, "").refuses(exit::CHECK, "does not fit together");
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&altered, &flipped).unwrap();
    ours.join(0, &altered, "").refuses(exit::FAILED, "cannot be read");
    fs::write(&altered, [bytes.clone(), vec![0; 1 << 20]].concat()).unwrap();
    ours.join(0, &altered, "").refuses(exit::FAILED, "cannot be read");

    ours.join(0, &network, "").expect(exit::DONE);
    ours.join(0, &network, "").refuses(exit::FAILED, "is a folder of a node already");
    ours.try_init(0, "ann", ours.ports, "").refuses(exit::FAILED, "is a folder of a node already");
    ours.status(0).refuses(exit::UNREACHABLE, "gives no status");
    ours.status(1).refuses(exit::FAILED, "it has no `network` file");
}

/// The status of a node that is held by the test: it fails on request.
fn serve_status(failure: &str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let result = json!({
        "chainId": 7, "role": "validator", "validators": 4, "quorum": 3, "height": 9, "hash": format!("0x{}", "11".repeat(32)),
        "timeMillis": 1_700_000_000_000_u64, "lag": 0, "view": 12, "finalView": 11, "peers": 1, "conflicts": 2, "pending": 0,
        "queued": 0, "poolBytes": 0, "failure": failure, "version": "0.1.0",
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    port
}

#[test]
fn the_status_of_a_node_that_failed_is_a_failed_check() {
    let world = World::empty();
    let status = |json: &str| {
        let port = serve_status("the store of the node failed");
        world.outside("node status").args(json).args(&format!("--ledger http://127.0.0.1:{port}")).run()
    };
    let told = status("").expect(exit::CHECK);
    let text = String::from_utf8(told.stdout.clone()).unwrap();
    assert!(text.contains("NOT WELL: it takes no part any more: the store of the node failed"), "{text}");
    assert!(told.says("hint: look at its disk"), "{}", told.stderr);
    assert!(told.says("contradicted each other") && told.says("no block for") && told.says("it sees 2 of the 3"));
    let line = status("--json").expect(exit::CHECK).lines().pop().unwrap();
    assert_eq!((&line["ok"], &line["height"]), (&json!(false), &json!(9)));
    assert_eq!(line["warnings"].as_array().unwrap().len(), 3);
    assert_eq!(world.outside("node status").run().code(), exit::USAGE, "a folder or a URL is needed");
}
