//! Where words go: data to stdout, talk to stderr.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::arguments::Global;

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write to the standard output")]
pub(crate) struct OutputError(#[source] io::Error);

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
}

impl Output {
    /// As the user asked for it.
    pub(crate) const fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose }
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

    /// Bytes of data as they are, with `--json` too.
    #[expect(clippy::unused_self, reason = "all data goes through the output")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutputError)
    }

    /// A line of data for people, without `--json`.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) -> Result<(), OutputError> {
        if self.json { Ok(()) } else { print(line) }
    }

    /// Data as columns for people, without `--json`.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<(), OutputError> {
        let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let cells = |row: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> = row.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.line(format_args!("{}", cells(&mut head.iter().copied())))?;
        for row in rows {
            self.line(format_args!("{}", cells(&mut row.iter().map(String::as_str))))?;
        }
        Ok(())
    }

    /// Something said beside the data.
    pub(crate) fn talk(&self, words: fmt::Arguments<'_>) {
        if !self.quiet {
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

fn print(line: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(OutputError)
}
