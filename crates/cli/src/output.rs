//! Where words go: data to stdout, talk to stderr; with `--quiet` only if something is wrong.
//!
//! # Invariants
//! - **Q1** With `--quiet`, a command that ends with exit code 0 has written nothing but data and warnings; any other has written
//!   all that it would have written without.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::arguments::Global;

/// Adds fields to a record.
pub(crate) fn extend(record: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (record.as_object_mut(), more) {
        fields.extend(more);
    }
}

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write to the standard output")]
pub(crate) struct OutputError(#[source] io::Error);

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl OutputError {
    /// True if the reader went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// The two streams of a command.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// What `--quiet` holds back until it is known whether all went well.
    held: Arc<Mutex<Vec<Held>>>,
}

/// A line that is held back.
#[derive(Debug)]
enum Held {
    /// For stdout.
    Line(String),
    /// For stderr.
    Talk(String),
}

impl Output {
    /// As the user asked for it.
    pub(crate) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose, held: Arc::default() }
    }

    /// Not all went well: what was held back is said after all.
    pub(crate) fn release(&self) -> Result<(), OutputError> {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for words in held {
            match words {
                Held::Line(line) => print(format_args!("{line}"))?,
                Held::Talk(words) => self.warn(format_args!("{words}")),
            }
        }
        Ok(())
    }

    fn hold(&self, words: Held) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }

    /// True if data is wanted as JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// True if everything is wanted.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// True if only errors are wanted besides data.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// One object on a line of its own, with `--json`.
    pub(crate) fn record(&self, value: &impl Serialize) -> Result<(), OutputError> {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(value).map_err(|error| OutputError(error.into()))?;
        print(format_args!("{line}"))
    }

    /// Many of them, written at once.
    pub(crate) fn records(&self, values: impl Iterator<Item = Value>) -> Result<(), OutputError> {
        if !self.json {
            return Ok(());
        }
        let lines: Vec<String> = values.map(|value| value.to_string()).collect();
        if lines.is_empty() { Ok(()) } else { print(format_args!("{}", lines.join("\n"))) }
    }

    /// Bytes of data as they are, with `--json` too.
    #[expect(clippy::unused_self, reason = "all data goes through the output")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// A line of what was asked for, for people: not with `--json`, but with `--quiet` too.
    pub(crate) fn data(&self, line: fmt::Arguments<'_>) -> Result<(), OutputError> {
        if self.json { Ok(()) } else { print(line) }
    }

    /// A line about what was done, for people: not with `--json`, and with `--quiet` only if something is wrong.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) -> Result<(), OutputError> {
        if self.quiet && !self.json {
            self.hold(Held::Line(line.to_string()));
            return Ok(());
        }
        self.data(line)
    }

    /// What was asked for as columns, for people: not with `--json`.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<(), OutputError> {
        self.data(format_args!("{}", columns(head, rows)))
    }

    /// Something said beside the data; with `--quiet` only if something is wrong.
    pub(crate) fn talk(&self, words: fmt::Arguments<'_>) {
        if self.quiet {
            self.hold(Held::Talk(words.to_string()));
        } else {
            self.warn(words);
        }
    }

    /// Something said only to those who want to hear everything.
    pub(crate) fn detail(&self, words: fmt::Arguments<'_>) {
        if self.verbose {
            self.talk(words);
        }
    }

    /// Something that is said even with `--quiet`.
    #[expect(clippy::unused_self, reason = "all words go through the output")]
    pub(crate) fn warn(&self, words: fmt::Arguments<'_>) {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{words}");
    }
}

/// Lines of cells under a head, padded to columns.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // Written at once: a table may have ten thousand rows.
    let mut text = String::new();
    add_row(&mut text, head.iter().copied(), &widths);
    for row in rows {
        text.push('\n');
        add_row(&mut text, row.iter().map(String::as_str), &widths);
    }
    text
}

/// Adds a line of padded cells, without spaces at its end.
fn add_row<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
    }
    text.truncate(text.trim_end_matches(' ').len());
}

fn print(line: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(OutputError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Output {
        Output { json: false, quiet: true, verbose: false, held: Arc::default() }
    }

    #[test]
    fn quiet_holds_back_what_was_done_and_what_was_said() {
        let out = quiet();
        out.line(format_args!("done")).unwrap();
        out.talk(format_args!("by the way"));
        out.clone().line(format_args!("from a thread")).unwrap();
        let held = out.held.lock().unwrap();
        assert!(matches!(&held[..], [Held::Line(_), Held::Talk(_), Held::Line(_)]), "{held:?}");
    }

    #[test]
    fn what_was_held_back_is_released_once() {
        let out = quiet();
        out.talk(format_args!("said by a test of --quiet"));
        out.release().unwrap();
        assert!(out.held.lock().unwrap().is_empty());
    }
}
