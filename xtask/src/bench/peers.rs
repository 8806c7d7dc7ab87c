//! Runs every step of every tool over every corpus and writes a row for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Size;
use super::compare::{Difference, Tree, bytes_below};
use super::corpus::Corpus;
use super::floor::Floor;
use super::measure::{Order, Usage, measure};
use super::tools::{self, Step, Tool};

/// No step of any tool takes this long; what does has hung.
const LIMIT: Duration = Duration::from_mins(30);

/// One step of one tool over one corpus.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) corpus: &'static str,
    pub(crate) step: &'static str,
    #[serde(flatten)]
    pub(crate) usage: Usage,
    pub(crate) source_bytes: u64,
    /// Everything the tool keeps, with parity where it has some.
    pub(crate) repository_bytes: u64,
    /// What a backup added before coding, as its summary says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difference: Option<Difference>,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    /// What no tool gets below on [`Corpus::Words`].
    pub(crate) floor: Floor,
    /// The bytes that were written between the second and the third backup, by corpus.
    pub(crate) changed: BTreeMap<&'static str, u64>,
    /// CPU seconds that the stages alone take for the whole corpus, by corpus.
    pub(crate) stage_seconds: BTreeMap<&'static str, f64>,
}

/// The floor as a line of the results.
#[derive(Serialize)]
struct FloorLine {
    #[serde(rename = "type")]
    kind: &'static str,
    corpus: &'static str,
    #[serde(flatten)]
    floor: Floor,
    floor_bytes: u64,
}

pub(crate) fn run(size: Size, work: &Path, out: &Path) -> Result<Measured> {
    let tools = tools::all(size.profile())?;
    let results =
        File::options().append(true).open(out).with_context(|| format!("could not open {}", out.display()))?;
    let mut run = Run { work: work.to_owned(), out: results, rows: Vec::new(), failed: BTreeSet::new() };
    for tool in &tools {
        let version = tool.version()?;
        println!("{}: {version}", tool.name);
        run.write(&BTreeMap::from([("type", "version"), ("tool", tool.name), ("version", &version)]))?;
    }
    let corpora: Vec<Corpus> = Corpus::of(size).collect();
    for corpus in &corpora {
        corpus.generate(&run.source(*corpus), size)?;
    }
    let floor = if corpora.contains(&Corpus::Words) { run.floor(Corpus::Words)? } else { Floor::default() };
    run.all(&tools, &corpora, &Step::BEFORE_CHANGE)?;
    let mut changed = BTreeMap::new();
    for corpus in &corpora {
        changed.insert(corpus.name(), corpus.change(&run.source(*corpus), size)?);
    }
    run.all(&tools, &corpora, &Step::AFTER_CHANGE)?;
    if run.failed.is_empty() {
        return Ok(Measured { rows: run.rows, floor, changed, stage_seconds: BTreeMap::new() });
    }
    let failed: Vec<_> = run.failed.iter().map(|(tool, corpus)| format!("{tool} on {corpus}")).collect();
    bail!("not all steps could be measured: {}; see {}", failed.join(", "), work.display())
}

struct Run {
    work: PathBuf,
    out: File,
    rows: Vec<Row>,
    /// Tool and corpus whose later steps are skipped.
    failed: BTreeSet<(&'static str, &'static str)>,
}

impl Run {
    fn source(&self, corpus: Corpus) -> PathBuf {
        self.work.join("source").join(corpus.name())
    }

    fn floor(&mut self, corpus: Corpus) -> Result<Floor> {
        let floor = Floor::of(&self.source(corpus))?;
        let floor_bytes = floor.bytes();
        self.write(&FloorLine { kind: "floor", corpus: corpus.name(), floor, floor_bytes })?;
        Ok(floor)
    }

    fn all(&mut self, tools: &[Tool], corpora: &[Corpus], steps: &[Step]) -> Result<()> {
        for tool in tools {
            for corpus in corpora {
                for step in steps {
                    self.step(tool, *corpus, *step)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, tool: &Tool, corpus: Corpus, step: Step) -> Result<()> {
        let key = (tool.name, corpus.name());
        let Some(command) = tool.command(step) else { return Ok(()) };
        if self.failed.contains(&key) {
            return Ok(());
        }
        let places = Places::make(&self.work, key, self.source(corpus))?;
        let order = Order {
            stdout: places.base.join(format!("{}.out", step.name())),
            stderr: places.base.join(format!("{}.err", step.name())),
            result: places.base.join("usage.json"),
            limit: LIMIT,
            command,
        };
        let usage = measure(&order, &places.environment(tool, step))?;
        if usage.exit_code != 0 {
            self.failed.insert(key);
            let said = fs::read_to_string(&order.stderr).unwrap_or_default();
            eprintln!("{} {} {} ended with {}:\n{said}", key.0, key.1, step.name(), usage.exit_code);
        }
        let row = Row {
            kind: "step",
            tool: key.0,
            corpus: key.1,
            step: step.name(),
            usage,
            source_bytes: bytes_below(&places.source)?,
            repository_bytes: bytes_below(&places.repository)?,
            stored_bytes: matches!(step, Step::Backup(_)).then(|| stored_bytes(&order.stdout)).flatten(),
            difference: if step == Step::Restore { Some(places.compare()?) } else { None },
        };
        say(&row);
        self.write(&row)?;
        self.rows.push(row);
        Ok(())
    }

    fn write(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row).context("could not encode a result")?;
        line.push(b'\n');
        self.out.write_all(&line).context("could not write a result")
    }
}

fn say(row: &Row) {
    println!(
        "{:17} {:6} {:8} wall {:7.2} s, cpu {:7.2} s, peak {:5} MiB, repository {:6} MiB",
        row.tool,
        row.corpus,
        row.step,
        row.usage.wall_seconds,
        row.usage.cpu_seconds,
        row.usage.peak_bytes >> 20,
        row.repository_bytes >> 20,
    );
}

/// `stored_bytes` of the summary that ends `backup --json`; other tools write none.
fn stored_bytes(stdout: &Path) -> Option<u64> {
    let text = fs::read_to_string(stdout).ok()?;
    let summary: serde_json::Value = serde_json::from_str(text.lines().last()?).ok()?;
    (summary.get("type")? == "summary").then(|| summary.get("stored_bytes")?.as_u64()).flatten()
}

/// The folders of one tool and corpus.
struct Places {
    base: PathBuf,
    source: PathBuf,
    repository: PathBuf,
    state: PathBuf,
    restored: PathBuf,
}

impl Places {
    fn make(work: &Path, (tool, corpus): (&str, &str), source: PathBuf) -> Result<Self> {
        let base = work.join("run").join(tool.replace('|', "-")).join(corpus);
        let [repository, state, restored] = ["repository", "state", "restored"].map(|name| base.join(name));
        for folder in [&repository, &state, &restored] {
            fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        Ok(Self { base, source, repository, state, restored })
    }

    fn environment(&self, tool: &Tool, step: Step) -> Vec<(String, String)> {
        let number = if let Step::Backup(number) = step { number } else { 3 };
        let place = |path: &Path| path.display().to_string();
        [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", place(&self.state)),
            ("LANG", "C.UTF-8".to_owned()),
            ("BIN", place(&tool.program)),
            ("SRC", place(&self.source)),
            ("REPO", place(&self.repository)),
            ("STATE", place(&self.state)),
            ("DST", place(&self.restored)),
            ("N", number.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Compares what was restored with the source, and removes it.
    fn compare(&self) -> Result<Difference> {
        let difference = Tree::read(&self.source)?.difference(&Tree::read(&self.restored)?);
        fs::remove_dir_all(&self.restored).with_context(|| format!("could not remove {}", self.restored.display()))?;
        Ok(difference)
    }
}
