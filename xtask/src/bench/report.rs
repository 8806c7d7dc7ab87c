//! The tables that people read.

use std::collections::BTreeSet;

use super::Size;
use super::corpus::Corpus;
use super::floor::Floor;
use super::gates::{self, BORG, OURS};
use super::peers::{Measured, Row};
use super::tools::Step;

/// Prints the tables of all corpora and the gates.
pub(crate) fn print(measured: &Measured, size: Size) {
    let rows = &measured.rows;
    for corpus in Corpus::of(size) {
        let of_corpus: Vec<_> = rows.iter().filter(|row| row.corpus == corpus.name()).collect();
        println!("\n{}", table(corpus, &of_corpus));
        if corpus == Corpus::Words {
            println!("\n{}", beside_floor(rows, &measured.floor));
        }
    }
    println!("\n{}", gates::table(&gates::gates(measured, size)));
}

fn table(corpus: Corpus, rows: &[&Row]) -> String {
    let steps: Vec<_> = Step::BEFORE_CHANGE.iter().skip(1).chain(&Step::AFTER_CHANGE).map(|step| step.name()).collect();
    let head = ["tool"].into_iter().chain(steps.iter().copied()).chain(LAST_COLUMNS).map(str::to_owned).collect();
    let ruler = vec!["---".to_owned(); 1 + steps.len() + LAST_COLUMNS.len()];
    let tools: BTreeSet<_> = rows.iter().map(|row| row.tool).collect();
    let of_tools = tools.iter().map(|tool| {
        let mine: Vec<_> = rows.iter().copied().filter(|row| row.tool == *tool).collect();
        cells(tool, &mine, &steps)
    });
    let lines: Vec<_> =
        [head, ruler].into_iter().chain(of_tools).map(|cells| format!("| {} |", cells.join(" | "))).collect();
    let source = rows.first().map_or(0, |row| row.source_bytes);
    format!("{}, {} MiB; CPU seconds / wall seconds of each step\n\n{}", corpus.name(), mib(source), lines.join("\n"))
}

const LAST_COLUMNS: [&str; 4] = ["peak MiB", "MiB kept after 1 / 3", "before coding 1 / 3", "restored"];

/// The line of one tool.
fn cells(tool: &str, rows: &[&Row], steps: &[&str]) -> Vec<String> {
    let find = |name: &str| rows.iter().find(|row| row.step == name);
    let nothing = || "–".to_owned();
    let mut cells = vec![tool.replace('|', "\\|")];
    cells.extend(steps.iter().map(|step| {
        find(step).map_or_else(nothing, |row| format!("{:.2} / {:.2}", row.usage.cpu_seconds, row.usage.wall_seconds))
    }));
    cells.push(mib(peak(rows)));
    let kept = |name| find(name).map_or_else(nothing, |row| mib(row.repository_bytes));
    cells.push(format!("{} / {}", kept("backup1"), kept("backup3")));
    let stored: Vec<_> = rows.iter().filter_map(|row| row.stored_bytes).collect();
    cells.push(stored.first().map_or_else(nothing, |first| format!("{} / {}", mib(*first), mib(stored.iter().sum()))));
    let restored = find("restore").and_then(|row| row.difference.as_ref());
    cells.push(restored.map_or_else(nothing, |found| {
        match (found.content.len(), found.metadata.len(), found.holes.len()) {
            (0, 0, 0) => "equal".to_owned(),
            (content, metadata, holes) => {
                format!("content of {content}, metadata of {metadata}, holes of {holes} differ")
            }
        }
    }));
    cells
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit after the point")]
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Of all steps.
fn peak(rows: &[&Row]) -> u64 {
    rows.iter().map(|row| row.usage.peak_bytes).max().unwrap_or(0)
}

/// The first backup of a tool.
fn first<'a>(rows: &'a [Row], tool: &str, corpus: Corpus) -> Option<&'a Row> {
    rows.iter().find(|row| row.tool == tool && row.corpus == corpus.name() && row.step == "backup1")
}

/// What was kept of the words, beside what no tool gets below: reported, no gate.
#[expect(clippy::cast_precision_loss, reason = "printed with two digits after the point")]
fn beside_floor(rows: &[Row], floor: &Floor) -> String {
    let times = |bytes: u64| format!("{} MiB, {:.2} of it", mib(bytes), bytes as f64 / floor.bytes().max(1) as f64);
    let told = |bytes: Option<u64>| bytes.map_or_else(|| "not measured".to_owned(), times);
    let ours = told(first(rows, OURS, Corpus::Words).and_then(|row| row.stored_bytes));
    let borgs = told(first(rows, BORG, Corpus::Words).map(|row| row.repository_bytes));
    format!(
        "floor of words: {} MiB ({} MiB of entropy; {} MiB of text, {} MiB at zstd -19 in blocks of 128 KiB)\n\
         blockhouse before coding: {ours}; borg: {borgs}",
        mib(floor.bytes()),
        mib(floor.incompressible),
        mib(floor.text),
        mib(floor.compressed_text),
    )
}

#[cfg(test)]
mod tests {
    use super::super::floor::Floor;
    use super::super::measure::Usage;
    use super::super::peers::Row;
    use super::beside_floor;

    fn row(tool: &'static str, corpus: &'static str, peak_bytes: u64, stored: Option<u64>, kept: u64) -> Row {
        Row {
            kind: "step",
            tool,
            corpus,
            step: "backup1",
            usage: Usage { wall_seconds: 1.0, cpu_seconds: 1.0, peak_bytes, exit_code: 0 },
            source_bytes: 1000,
            repository_bytes: kept,
            stored_bytes: stored,
            difference: None,
        }
    }

    #[test]
    fn words_are_shown_beside_their_floor() {
        let floor = Floor { incompressible: 3 << 20, text: 7 << 20, compressed_text: 1 << 20 };
        let rows = [
            row("blockhouse", "words", 0, Some(5 << 20), 9 << 20),
            row("borg", "words", 0, None, (4 << 20) + (2 << 20)),
        ];
        let said = beside_floor(&rows, &floor);
        assert!(said.contains("floor of words: 4.0 MiB (3.0 MiB of entropy; 7.0 MiB of text, 1.0 MiB"), "{said}");
        assert!(said.contains("before coding: 5.0 MiB, 1.25 of it; borg: 6.0 MiB, 1.50 of it"), "{said}");
        assert!(beside_floor(&[], &floor).contains("blockhouse before coding: not measured; borg: not measured"));
    }
}
