//! The table that people read, and the gates: what must hold, said as met or not met.

use std::collections::BTreeSet;

use super::corpus::Corpus;
use super::floor::Floor;
use super::peers::{Measured, Row};
use super::tools::Step;

const OURS: &str = "blockhouse";
const BORG: &str = "borg";
/// What a backup, a check and a restore may use at most.
const PEAK_BYTES: u64 = 256 << 20;
/// Our stored bytes before coding beside borg's repository, after the first backup, in hundredths.
/// Not on generated words: there all tools come close to the floor, and what is left between them says little.
const STORED: [(Corpus, u64); 2] = [(Corpus::Chain, 105), (Corpus::Tree, 90)];

/// Prints the tables of all corpora and the gates.
pub(crate) fn print(measured: &Measured) {
    let rows = &measured.rows;
    for corpus in Corpus::ALL {
        let of_corpus: Vec<_> = rows.iter().filter(|row| row.corpus == corpus.name()).collect();
        println!("\n{}", table(corpus, &of_corpus));
        if corpus == Corpus::Words {
            println!("\n{}", beside_floor(rows, &measured.floor));
        }
    }
    println!();
    for gate in gates(rows) {
        println!("{gate}");
    }
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
    cells.push(restored.map_or_else(nothing, |found| match (found.content.len(), found.metadata.len()) {
        (0, 0) => "equal".to_owned(),
        (content, metadata) => format!("content of {content}, metadata of {metadata} differ"),
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

fn gates(rows: &[Row]) -> Vec<String> {
    let ours: Vec<_> = rows.iter().filter(|row| row.tool == OURS).collect();
    let peak = peak(&ours);
    let mut gates =
        vec![gate(!ours.is_empty() && peak <= PEAK_BYTES, &format!("peak memory {} MiB of 256 MiB", mib(peak)))];
    for (corpus, hundredths) in STORED {
        let stored = first(rows, OURS, corpus).and_then(|row| row.stored_bytes).unwrap_or(0);
        let theirs = first(rows, BORG, corpus).map_or(0, |row| row.repository_bytes);
        let most = theirs * hundredths / 100;
        let text = format!("{}: stored before coding {} MiB of {} MiB", corpus.name(), mib(stored), mib(most));
        gates.push(gate(stored > 0 && stored <= most, &format!("{text} (borg: {} MiB)", mib(theirs))));
    }
    gates.extend(ours.iter().filter_map(|row| Some((row.corpus, row.difference.as_ref()?))).map(|(corpus, found)| {
        let equal = found.content.is_empty() && found.metadata.is_empty();
        gate(equal, &format!("{corpus}: restored tree equals the source"))
    }));
    gates
}

fn gate(met: bool, text: &str) -> String {
    format!("gate {}: {text}", if met { "met    " } else { "NOT MET" })
}

#[cfg(test)]
mod tests {
    use super::super::floor::Floor;
    use super::super::measure::Usage;
    use super::super::peers::Row;
    use super::{beside_floor, gates};

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

    fn met(rows: &[Row]) -> Vec<bool> {
        gates(rows).iter().map(|gate| !gate.contains("NOT MET")).collect()
    }

    #[test]
    fn gates_are_met_at_their_limit_and_not_above_it() {
        let rows = |extra: u64| {
            vec![
                row("blockhouse", "chain", (256 << 20) + extra, Some(1050 + extra), 9000),
                row("blockhouse", "tree", 0, Some(900 + extra), 9000),
                row("borg", "chain", 1 << 40, None, 1000),
                row("borg", "tree", 0, None, 1000),
            ]
        };
        assert_eq!(met(&rows(0)), [true; 3]);
        assert_eq!(met(&rows(1)), [false; 3]);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(met(&[]), [false; 3]);
    }

    #[test]
    fn words_are_shown_beside_their_floor_and_have_no_gate() {
        let floor = Floor { incompressible: 3 << 20, text: 7 << 20, compressed_text: 1 << 20 };
        let rows = [
            row("blockhouse", "words", 0, Some(5 << 20), 9 << 20),
            row("borg", "words", 0, None, (4 << 20) + (2 << 20)),
        ];
        let said = beside_floor(&rows, &floor);
        assert!(said.contains("floor of words: 4.0 MiB (3.0 MiB of entropy; 7.0 MiB of text, 1.0 MiB"), "{said}");
        assert!(said.contains("before coding: 5.0 MiB, 1.25 of it; borg: 6.0 MiB, 1.50 of it"), "{said}");
        assert!(beside_floor(&[], &floor).contains("blockhouse before coding: not measured; borg: not measured"));
        assert!(gates(&rows).iter().all(|gate| !gate.contains("words")));
    }
}
