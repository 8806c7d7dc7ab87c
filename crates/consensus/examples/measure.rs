//! Four processes of one network on this machine, and what they cost.
//!
//! ```text
//! cargo run --profile ci -p blockhouse-consensus --example measure -- threshold|committee busy|idle|paced SECONDS [dead]
//! ```
//!
//! `busy`: a block as soon as there is a turn. `paced`: ten a second. `idle`: a heartbeat a minute. `dead`: the fourth
//! node ends after a quarter of the time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "an example measures and prints"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blockhouse_consensus::{Application, Config, Dealt, Engine, Keys, Standing, Stop};
use blockhouse_ledger::{Block, Certificate};
use support::{Judge, Ledger, block, committee, threshold};

const HEARTBEAT: Duration = Duration::from_mins(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scheme, load, seconds, rest @ ..] = arguments.as_slice() else {
        println!("threshold|committee busy|idle|paced SECONDS [dead]");
        return;
    };
    let seconds: u64 = seconds.parse().unwrap();
    match rest {
        [folder, index] => node(scheme, load, seconds, Path::new(folder), index.parse().unwrap()),
        _ => network(scheme, load, seconds, rest.first().is_some_and(|word| word == "dead")),
    }
}

/// Starts the processes and waits for them.
fn network(scheme: &str, load: &str, seconds: u64, dead: bool) {
    let folder = tempfile::tempdir().unwrap();
    let start = |index: u64| -> Child {
        let mine = if dead && index == 3 { seconds / 4 } else { seconds };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([scheme, load, &mine.to_string()]).arg(folder.path()).arg(index.to_string());
        command.spawn().unwrap()
    };
    let children: Vec<Child> = (0..4).map(start).collect();
    for mut child in children {
        child.wait().unwrap();
    }
}

/// A ledger that makes blocks at a pace and notes how long each took to become final.
struct Paced {
    ledger: Ledger,
    every: Duration,
    last: Mutex<Instant>,
    latencies: Mutex<Vec<(Instant, u64)>>,
}

fn millis() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Application for Paced {
    async fn propose(&self, pending: Vec<Arc<Block>>) -> Option<Block> {
        let due = *self.last.lock().unwrap() + self.every;
        tokio::time::sleep_until(due.into()).await;
        let parent = match pending.last() {
            Some(parent) => Arc::clone(parent),
            None => Application::block(&self.ledger, self.ledger.height())?,
        };
        Some(block(Some(&parent.header), parent.header.number + 1, &millis().to_be_bytes()))
    }

    async fn verify(&self, pending: Vec<Arc<Block>>, block: Arc<Block>) -> bool {
        Application::verify(&self.ledger, pending, block).await
    }

    async fn finalize(&self, block: Arc<Block>, certificate: Certificate) -> Result<(), Stop> {
        let made = u64::from_be_bytes(block.header.extra_data.as_ref().try_into().unwrap());
        self.latencies.lock().unwrap().push((Instant::now(), millis().saturating_sub(made)));
        *self.last.lock().unwrap() = Instant::now();
        Application::finalize(&self.ledger, block, certificate).await
    }

    async fn sync(&self) -> Result<(), Stop> {
        Application::sync(&self.ledger).await
    }

    fn standing(&self) -> Standing {
        Application::standing(&self.ledger)
    }

    fn block(&self, height: u64) -> Option<Arc<Block>> {
        Application::block(&self.ledger, height)
    }

    fn certificate(&self, height: u64) -> Option<Certificate> {
        Application::certificate(&self.ledger, height)
    }
}

/// One process.
fn node(scheme: &str, load: &str, seconds: u64, folder: &Path, index: usize) {
    let seed = u64::from(std::os::unix::process::parent_id());
    let dealt: Dealt = if scheme == "threshold" { threshold(seed, 4) } else { committee(seed, 4) };
    let port = 20_000 + u16::try_from(seed % 10_000).unwrap() * 4;
    let address = |index: usize| format!("127.0.0.1:{}", port + u16::try_from(index).unwrap());
    let every = match load {
        "busy" => Duration::ZERO,
        "paced" => Duration::from_millis(100),
        _ => HEARTBEAT,
    };
    let application = Arc::new(Paced {
        ledger: Ledger::new(&dealt.network, u8::try_from(index).unwrap(), &Judge::default()),
        every,
        last: Mutex::new(Instant::now()),
        latencies: Mutex::default(),
    });
    let addresses: BTreeMap<_, _> = dealt.keys.iter().map(Keys::public).zip((0..4).map(address)).collect();
    let listen = address(index).parse().unwrap();
    let network = dealt.network.clone();
    let config = Config {
        network,
        addresses,
        followers: Vec::new(),
        listen,
        never_voted: false,
        keep_blocks: None,
        jumped: false,
        silent: false,
    };
    let folder = folder.join(index.to_string());
    Engine::prepare(&folder, dealt.keys[index].public()).unwrap();
    let (handle, _inbox) = Engine::start(config, dealt.keys[index].clone(), Arc::clone(&application), &folder).unwrap();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    report(index, &application, begun, &folder);
    let status = handle.status();
    println!("node {index}: {status:?}");
    handle.stop().unwrap();
}

fn report(index: usize, application: &Paced, begun: Instant, folder: &Path) {
    let seconds = begun.elapsed().as_secs_f64();
    let latencies = application.latencies.lock().unwrap().clone();
    let mut sorted: Vec<u64> = latencies.iter().map(|(_, latency)| *latency).collect();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or_default();
    let gaps = latencies.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or_default();
    let (rss, cpu) = costs();
    println!(
        "node {index}: {:.1} blocks/s, final after p50 {} ms p99 {} ms, longest gap {} ms; rss {rss} MiB, cpu {:.2} %; folder {} KiB",
        f64::from(u32::try_from(latencies.len()).unwrap()) / seconds,
        at(50),
        at(99),
        gaps.as_millis(),
        100.0 * cpu / seconds,
        size(folder) / 1024,
    );
}

/// Resident memory in MiB, and seconds of processor.
fn costs() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let rss: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (rss / 1024, ticks / 100.0)
}

fn size(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}
