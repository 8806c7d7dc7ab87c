//! What must hold beside other tools: every gate a line, met or not.
//!
//! - **Owns** the gates and their limits.
//! - **Does not** measure: it reads the rows of [`super::peers`] and the floor of [`mod@super::stages`].
//!
//! # Invariants
//! - **G1** What was not measured is not met.

use super::Size;
use super::corpus::Corpus;
use super::peers::{Measured, Row};

pub(super) const OURS: &str = "blockhouse";
pub(super) const BORG: &str = "borg";
const RUSTIC: &str = "rustic";
const MIB: f64 = 1024.0 * 1024.0;
/// What a command may use at most, and a restore.
const PEAK_MIB: f64 = 256.0;
const RESTORE_PEAK_MIB: f64 = 128.0;

/// One thing that must hold.
#[derive(Debug)]
pub(super) struct Gate {
    name: String,
    ours: Option<f64>,
    /// Beside what: a peer, or a bound.
    beside: &'static str,
    theirs: Option<f64>,
    /// Ours is at most so many times theirs.
    limit: f64,
}

impl Gate {
    fn ratio(&self) -> Option<f64> {
        let (ours, theirs) = (self.ours?, self.theirs?);
        (theirs > 0.0).then(|| ours / theirs)
    }

    pub(super) fn is_met(&self) -> bool {
        self.ratio().is_some_and(|ratio| ratio <= self.limit)
    }

    /// The line of the table.
    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let met = if self.is_met() { "met" } else { "NOT MET" };
        let (ours, theirs, ratio) = (number(self.ours), number(self.theirs), number(self.ratio()));
        format!("| {} | {ours} | {} {theirs} | {ratio} | {:.2} | {met} |", self.name, self.beside, self.limit)
    }
}

/// The table of gates, and how many of them are met.
pub(super) fn table(gates: &[Gate]) -> String {
    let head = "| gate | ours | beside | ratio | at most | |\n| --- | --- | --- | --- | --- | --- |";
    let lines: Vec<_> = gates.iter().map(Gate::line).collect();
    let met = gates.iter().filter(|gate| gate.is_met()).count();
    format!("{head}\n{}\n\n{met} of {} gates are met", lines.join("\n"), gates.len())
}

/// All gates over what was measured.
pub(super) fn gates(measured: &Measured, size: Size) -> Vec<Gate> {
    let rows = Rows(&measured.rows);
    let mut gates = Vec::new();
    for (corpus, cpu, stored) in [(Corpus::Chain, 0.7, 1.05), (Corpus::Tree, 0.6, 0.89)] {
        gates.push(rows.cpu("first backup", (corpus, "backup1"), BORG, cpu));
        let (ours, theirs) = (rows.stored(corpus, 1), rows.repository(corpus, BORG, "backup1"));
        gates.push(gate(corpus, "stored before coding, MiB", ours, (BORG, theirs), stored));
    }
    gates.push(rows.cpu("first backup", (Corpus::Chain, "backup1"), RUSTIC, 0.4));
    let wall = |tool| rows.find(Corpus::Chain, tool, "backup1").map(|row| row.usage.wall_seconds);
    gates.push(gate(Corpus::Chain, "first backup, wall s", wall(OURS), (BORG, wall(BORG)), 0.5));
    let (total, theirs) = (rows.stored(Corpus::Chain, 3), rows.repository(Corpus::Chain, BORG, "backup3"));
    gates.push(gate(Corpus::Chain, "stored after the change, MiB", total, (BORG, theirs), 0.85));
    let floor = measured.stage_seconds.get(Corpus::Chain.name()).copied();
    let first = rows.seconds(Corpus::Chain, OURS, "backup1");
    gates.push(gate(Corpus::Chain, "first backup, CPU s", first, ("sum of the stages", floor), 1.3));
    for corpus in Corpus::of(size).filter(|corpus| *corpus != Corpus::Words) {
        gates.extend(later(&rows, corpus, measured.changed.get(corpus.name()).copied()));
    }
    gates.push(rows.peak("peak memory of all commands, MiB", |_| true, PEAK_MIB));
    gates.push(rows.peak("peak memory of restore, MiB", |row| row.step == "restore", RESTORE_PEAK_MIB));
    gates
}

/// What follows the first backup of a corpus.
fn later(rows: &Rows<'_>, corpus: Corpus, changed: Option<u64>) -> Vec<Gate> {
    let mut gates = vec![
        rows.cpu("unchanged backup", (corpus, "backup2"), RUSTIC, 1.0),
        rows.cpu("changed backup", (corpus, "backup3"), BORG, 0.8),
    ];
    if corpus != Corpus::Tree {
        let growth = rows.added(corpus);
        let theirs = rows.repository(corpus, RUSTIC, "backup3").zip(rows.repository(corpus, RUSTIC, "backup2"));
        let theirs = theirs.map(|(after, before)| after - before);
        gates.push(gate(corpus, "growth at the change, MiB", growth, (RUSTIC, theirs), 0.4));
        gates.push(gate(corpus, "growth at the change, MiB", growth, ("changed", changed.map(mib)), 2.5));
    }
    gates.push(rows.cpu("restore", (corpus, "restore"), RUSTIC, 1.0));
    gates.push(rows.cpu("verify --read-data", (corpus, "verify"), RUSTIC, 0.8));
    let restored = rows.find(corpus, OURS, "restore").and_then(|row| row.difference.as_ref());
    let wrong = restored.map(|found| count(found.content.len() + found.metadata.len() + found.holes.len()));
    let equal = wrong.map(|wrong| if wrong == 0.0 { 1.0 } else { 1.0 + wrong });
    gates.push(gate(corpus, "restored tree, holes too: 1 is equal", equal, ("the source", Some(1.0)), 1.0));
    gates
}

fn gate(
    corpus: Corpus,
    what: &str,
    ours: Option<f64>,
    (beside, theirs): (&'static str, Option<f64>),
    limit: f64,
) -> Gate {
    Gate { name: format!("{}: {what}", corpus.name()), ours, beside, theirs, limit }
}

struct Rows<'a>(&'a [Row]);

impl Rows<'_> {
    fn find(&self, corpus: Corpus, tool: &str, step: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.corpus == corpus.name() && row.tool == tool && row.step == step)
    }

    fn seconds(&self, corpus: Corpus, tool: &str, step: &str) -> Option<f64> {
        self.find(corpus, tool, step).map(|row| row.usage.cpu_seconds)
    }

    fn cpu(&self, what: &str, (corpus, step): (Corpus, &str), peer: &'static str, limit: f64) -> Gate {
        let seconds = |tool| self.seconds(corpus, tool, step);
        gate(corpus, &format!("{what}, CPU s"), seconds(OURS), (peer, seconds(peer)), limit)
    }

    fn repository(&self, corpus: Corpus, tool: &str, step: &str) -> Option<f64> {
        self.find(corpus, tool, step).map(|row| mib(row.repository_bytes))
    }

    /// What our first backups stored before coding, together.
    fn stored(&self, corpus: Corpus, backups: usize) -> Option<f64> {
        let steps = ["backup1", "backup2", "backup3"];
        steps.iter().take(backups).map(|step| self.find(corpus, OURS, step)?.stored_bytes.map(mib)).sum()
    }

    /// What the backup after the change added.
    fn added(&self, corpus: Corpus) -> Option<f64> {
        self.find(corpus, OURS, "backup3")?.stored_bytes.map(mib)
    }

    fn peak(&self, what: &str, is_meant: impl Fn(&Row) -> bool, bound: f64) -> Gate {
        let ours = self.0.iter().filter(|row| row.tool == OURS && is_meant(row));
        let peak = ours.map(|row| row.usage.peak_bytes).max().map(mib);
        Gate { name: what.to_owned(), ours: peak, beside: "bound", theirs: Some(bound), limit: 1.0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

#[expect(clippy::cast_precision_loss, reason = "few")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::super::measure::Usage;
    use super::*;

    fn row(tool: &'static str, step: &'static str, cpu_seconds: f64, kept: u64) -> Row {
        Row {
            kind: "step",
            tool,
            corpus: "chain",
            step,
            usage: Usage { wall_seconds: 1.0, cpu_seconds, peak_bytes: 256 << 20, exit_code: 0 },
            source_bytes: 1000,
            repository_bytes: kept << 20,
            stored_bytes: (tool == OURS).then_some(kept << 20),
            difference: None,
        }
    }

    fn met(measured: &Measured, name: &str) -> Vec<bool> {
        let gates = gates(measured, Size::Full);
        gates.iter().filter(|gate| gate.name == name).map(Gate::is_met).collect()
    }

    #[test]
    fn gates_are_met_at_their_limit_and_not_above_it() {
        let measured = |cpu: f64, kept: u64| Measured {
            rows: vec![
                row(OURS, "backup1", cpu, kept),
                row(BORG, "backup1", 10.0, 100),
                row(RUSTIC, "backup1", 17.5, 1),
            ],
            stage_seconds: [("chain", 5.39)].into(),
            ..Measured::default()
        };
        let (at, above) = (measured(7.0, 105), measured(7.01, 106));
        for name in ["chain: first backup, CPU s", "chain: stored before coding, MiB"] {
            assert!(met(&at, name).into_iter().all(|met| met), "{name}");
            assert!(met(&above, name).into_iter().all(|met| !met), "{name}");
        }
        assert_eq!(met(&at, "peak memory of all commands, MiB"), [true]);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert!(gates(&Measured::default(), Size::Full).iter().all(|gate| !gate.is_met()), "G1");
        assert!(table(&gates(&Measured::default(), Size::Full)).contains("0 of "));
    }

    #[test]
    fn growth_is_measured_beside_the_bytes_that_changed() {
        let steps = [("backup1", 500, 400), ("backup2", 0, 401), ("backup3", 40, 501)];
        let rows = steps
            .iter()
            .flat_map(|(step, ours, theirs)| [row(OURS, step, 1.0, *ours), row(RUSTIC, step, 1.0, *theirs)]);
        let measured = |changed: u64| Measured {
            rows: rows.clone().collect(),
            changed: [("chain", changed << 20)].into(),
            ..Measured::default()
        };
        assert_eq!(met(&measured(16), "chain: growth at the change, MiB"), [true, true]);
        assert_eq!(met(&measured(15), "chain: growth at the change, MiB"), [true, false]);
    }
}
