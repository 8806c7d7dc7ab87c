//! `blockhouse dump`

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use blockhouse_vault::dump::{Dump, DumpError, Dumped};
use blockhouse_vault::reader;
use blockhouse_vault::select::{self, PlaceRef};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::{Global, Selectors, joined, place_parser};
use crate::exit::{Exit, help};
use crate::failure::Refusal;
use crate::output::{Output, OutputError};
use crate::{opening, text};

/// How much is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// What one file becomes
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveChoice {
    /// A tar archive
    Tar,
}

/// Write one file of a snapshot, or a folder as a tar archive, to standard output
///
/// An archive holds what `restore` would write, with owners, times to the nanosecond, hard links, devices and extended attributes
/// (POSIX pax records; GNU tar takes attributes with --xattrs). Holes are written as zeros, sockets are left out and told.
/// Every file is compared with its hash before its last bytes are written. If one does not match or cannot be read, the output is
/// cut short so that no reader takes it for whole, and the exit code is 4.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse dump latest /home/ann/papers --identity ~/owner.identity | tar -xf - -C /tmp/papers"))]
pub(crate) struct DumpArgs {
    /// An id, the first digits of one, `latest`, or `latest:SOURCE`; with `:PATH` after it what stands there (`latest::PATH`)
    #[arg(value_name = "SNAP", value_parser = place_parser())]
    snapshot: PlaceRef,
    /// A file or folder, as `ls` or `find` shows it, or from that path on [default: everything]
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Write to this file, which must not be there, instead; it gets its name when all of it was checked
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make an archive of one file too
    #[arg(long, value_enum, value_name = "FORMAT")]
    archive: Option<ArchiveChoice>,
    #[command(flatten)]
    selectors: Selectors,
}

pub(crate) async fn run(args: DumpArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    if let Some(path) = args.output.as_deref().filter(|path| path.symlink_metadata().is_ok()) {
        let what = format!("there is something at {} already", path.display());
        return Err(Refusal::usage(what, "give another path with -o, or move it away").into());
    }
    let vault = opening::reader(global, out).await?;
    let place = select::place(&vault, &args.snapshot, &args.selectors.into()).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "dump")?;
    let (known, path) = (place.known, joined(place.path, args.path));
    let id = known.record.id;
    let opened = reader::open(&vault, &unlocked, known.record).await?;
    let (output, as_archive) = (args.output.clone(), args.archive.is_some());
    let work = move || -> anyhow::Result<Dumped> {
        let dump = Dump::find(opened, path.as_deref(), as_archive)?;
        match output {
            Some(file) => to_file(dump, &file),
            None => to_stdout(dump),
        }
    };
    let done = tokio::task::spawn_blocking(work).await.context("the dump was stopped")??;
    tell(&id.to_string(), &done, args.output.as_deref(), out)
}

fn to_stdout(dump: Dump) -> anyhow::Result<Dumped> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() && dump.is_archive() {
        let hint = "send it on, as with `| tar -x`, or give -o FILE";
        return Err(Refusal::usage("an archive is nothing for a terminal", hint).into());
    }
    let mut to = BufWriter::with_capacity(BUFFER, if stdout.is_terminal() { Sink::screen() } else { Sink::plain() });
    dump.write(&mut to).map_err(|error| match error {
        DumpError::Write(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Refusal::usage("the file is not text, and nothing for a terminal", "send it on, or give -o FILE").into()
        }
        DumpError::Write(error) => OutputError::from(error).into(),
        error => error.into(),
    })
}

/// Standard output; a terminal gets text only.
struct Sink {
    stdout: std::io::Stdout,
    is_screen: bool,
}

impl Sink {
    fn plain() -> Self {
        Self { stdout: std::io::stdout(), is_screen: false }
    }

    fn screen() -> Self {
        Self { is_screen: true, ..Self::plain() }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let is_shown = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
        if self.is_screen && !bytes.iter().all(is_shown) {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdout.flush()
    }
}

/// Writes beside the file and gives the name only to what is whole and durable.
fn to_file(dump: Dump, file: &Path) -> anyhow::Result<Dumped> {
    let mut name = file.file_name().context("the path after -o names no file")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    let failed = || format!("could not write {}", new.display());
    let write = || -> anyhow::Result<Dumped> {
        let created = File::create_new(&new).with_context(failed)?;
        let mut to = BufWriter::with_capacity(BUFFER, created);
        let dumped = dump.write(&mut to)?;
        to.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .with_context(failed)?;
        std::fs::hard_link(&new, file)
            .with_context(|| format!("could not give the file its name {}", file.display()))?;
        Ok(dumped)
    };
    let done = write();
    // Its other name, or what is left of a dump that failed.
    let _ = std::fs::remove_file(&new);
    done
}

fn tell(snapshot: &str, dumped: &Dumped, file: Option<&Path>, out: &Output) -> anyhow::Result<Exit> {
    for left in &dumped.left_out {
        out.warn(format_args!("warning: not in the archive: {}: {}", text::path(&left.path), left.why));
    }
    let (files, bytes) = (text::count(dumped.files, "file"), text::bytes(dumped.bytes));
    if let Some(file) = file {
        out.line(format_args!("{files}, {bytes}, each checked against its hash, in {}", file.display()))?;
        for left in &dumped.left_out {
            out.record(&json!({ "type": "left-out", "path": text::path(&left.path), "why": left.why }))?;
        }
        out.record(&json!({
            "type": "summary",
            "ok": dumped.left_out.is_empty(),
            "snapshot": snapshot,
            "file": file,
            "files": dumped.files,
            "bytes": dumped.bytes,
            "left_out": dumped.left_out.len(),
        }))?;
    } else {
        out.detail(format_args!("{files}, {bytes}, each checked against its hash"));
    }
    Ok(if dumped.left_out.is_empty() { Exit::Success } else { Exit::Unreadable })
}
