//! The floor of a backup: what its stages take one by one, as `benches/stages.rs` wrote it down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::corpus::Corpus;
use super::peers::Row;

/// The name under which the stages' program writes their sum.
const SUM: &str = "sum of the stages";
/// The file of each corpus that the stages are fed with.
const INPUTS: [(Corpus, &str); 2] = [(Corpus::Chain, "blk00000.dat"), (Corpus::Disk, "disk.img")];

/// CPU seconds for a whole corpus, scaled from the milliseconds for each MiB; nothing where the stages were not measured.
pub(super) fn seconds(results: &Path, rows: &[Row]) -> Result<BTreeMap<&'static str, f64>> {
    let text = fs::read_to_string(results).with_context(|| format!("could not read {}", results.display()))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut seconds = BTreeMap::new();
    for (corpus, input) in INPUTS {
        let is_sum = |line: &&Value| {
            line.get("stage").is_some_and(|stage| stage == SUM) && line.get("input").is_some_and(|name| name == input)
        };
        let cost = lines.iter().find(is_sum).and_then(|line| line.get("cpu_ms_per_mib_of_input")?.as_f64());
        let first = rows.iter().find(|row| row.corpus == corpus.name());
        if let (Some(cost), Some(first)) = (cost, first) {
            seconds.insert(corpus.name(), cost * mib(first.source_bytes) / 1e3);
        }
    }
    Ok(seconds)
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
