//! What 20 ms a request cost: the same bytes backed up to six folders and to six S3 servers that answer so much later, and restored, also
//! with two sites gone. All servers run here, on the same cores and the same disk. They wait themselves: a proxy between would copy every
//! byte once more, on the cores that are measured.
//!
//! `./x bench --only remote`, or `cargo bench --profile ci --workspace --bench remote -- [--mib N] [--out FILE]`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong ends the measurement"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blockhouse_tests::World;
use blockhouse_tests::servers::{ACCESS_KEY, Manner, S3Server, SECRET_KEY};
use blockhouse_tests::tree;
use blockhouse_tests::world::{Call, exit};
use serde_json::json;

const MIB: usize = 1 << 20;
/// How much of it is one file.
const FILE: usize = 16;
/// From a request to its answer, beyond what the servers take.
const ROUND_TRIP: Duration = Duration::from_millis(20);
const SITES: usize = 6;
/// How fast it must be at least, beside folders.
const AT_LEAST: f64 = 0.7;

fn main() {
    let options = Options::from_arguments();
    let folders = folders(options.mib);
    let servers = servers(options.mib);
    println!("\n{} MiB, six sites, wall seconds; {} ms a round trip\n", options.mib, ROUND_TRIP.as_millis());
    println!("| step | folders | S3 | share of the speed | at least | |\n| --- | --- | --- | --- | --- | --- |");
    let mut rows = Vec::new();
    for (step, local, remote) in folders.beside(&servers) {
        let share = local.as_secs_f64() / remote.as_secs_f64();
        let met = if share >= AT_LEAST { "met" } else { "NOT MET" };
        let (local, remote) = (local.as_secs_f64(), remote.as_secs_f64());
        println!("| {step} | {local:.2} | {remote:.2} | {share:.2} | {AT_LEAST} | {met} |");
        rows.push(json!({ "type": "remote", "step": step, "mib": options.mib, "local_seconds": local, "remote_seconds": remote }));
    }
    if let Some(out) = options.out {
        let mut out = fs::File::options().append(true).create(true).open(out).unwrap();
        for row in rows {
            writeln!(out, "{row}").unwrap();
        }
    }
}

struct Options {
    mib: usize,
    out: Option<PathBuf>,
}

impl Options {
    fn from_arguments() -> Self {
        let mut options = Self { mib: 1024, out: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--mib" => options.mib = words.next().unwrap().parse().unwrap(),
                "--out" => options.out = words.next().map(PathBuf::from),
                // What cargo says to every benchmark.
                "--bench" => {}
                other => panic!("`{other}` is no option of this benchmark"),
            }
        }
        options
    }
}

/// Wall time of each step.
struct Measured {
    backup: Duration,
    restore: Duration,
    restore_without_two: Duration,
}

impl Measured {
    fn beside(&self, other: &Self) -> [(&'static str, Duration, Duration); 3] {
        [
            ("backup", self.backup, other.backup),
            ("restore", self.restore, other.restore),
            ("restore, two sites down", self.restore_without_two, other.restore_without_two),
        ]
    }
}

fn folders(mib: usize) -> Measured {
    let world = World::empty();
    let sites: Vec<String> = (1..=SITES).map(|number| world.site(number).display().to_string()).collect();
    measure(&world, &sites, mib, || {
        world.take_away(1);
        world.take_away(2);
    })
}

fn servers(mib: usize) -> Measured {
    let world = World::empty();
    let mut servers: Vec<S3Server> =
        (1..=SITES).map(|number| S3Server::start(&world.path(&format!("s3-{number}")), &["bucket"])).collect();
    for server in &servers {
        server.set(Manner::Far(ROUND_TRIP));
    }
    let site = |(number, server): (usize, &S3Server)| server.url("bucket", "site") + &format!(",name=s{number}");
    let sites: Vec<String> = servers.iter().enumerate().map(site).collect();
    measure(&world, &sites, mib, || servers.drain(..2).for_each(drop))
}

fn measure(world: &World, sites: &[String], mib: usize, lose_two: impl FnOnce()) -> Measured {
    let mut init = world.call("init --no-passphrase --identity-out").arg(world.identity());
    init = init.arg("--paper-key-out").arg(world.paper_key());
    for site in sites {
        init = init.arg("--site").arg(site);
    }
    keys(init).run().expect(exit::DONE);
    let source = world.path("source");
    write_noise(&source, mib);
    let backup = timed(world.call("backup --json").arg(&source));
    let restore = |name: &str| {
        let to = world.path(name);
        let took = timed(world.unlocked("restore latest --json --to").arg(&to));
        tree::assert_equal(&source, &to);
        tree::remove(&to);
        took
    };
    let whole = restore("whole");
    lose_two();
    Measured { backup, restore: whole, restore_without_two: restore("without-two") }
}

fn timed(call: Call) -> Duration {
    // What servers and earlier steps have left to be written to the disk is not this step's.
    rustix::fs::sync();
    let begun = Instant::now();
    keys(call).run().expect(exit::DONE);
    begun.elapsed()
}

fn keys(call: Call) -> Call {
    call.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// Bytes that neither compression nor deduplication makes fewer, the same in every run.
fn write_noise(folder: &Path, mib: usize) {
    fs::create_dir(folder).unwrap();
    for number in 0..mib.div_ceil(FILE) {
        let size = FILE.min(mib - number * FILE) * MIB;
        tree::write(&folder.join(format!("file-{number:03}")), &tree::noise(size, number as u64));
    }
}
