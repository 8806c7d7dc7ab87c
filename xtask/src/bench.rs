//! `./x bench`: what backing up costs, stage by stage and beside other tools, on data that is the same everywhere.
//!
//! - **Owns** the sizes, the order of the measured steps and the gates.
//! - **Does not** time the stages: that is `xtask/benches/stages.rs`, a program of its own.
//!
//! # Method
//! - **B1** Every tool meets the same bytes in the same state: all make their first two backups, then the corpora are
//!   changed, then all go on.
//! - **B2** CPU seconds (user and system of the whole process tree) are what is compared: wall seconds depend on what
//!   else the machine does. Peak memory is that of the largest process.
//! - **B3** A restore counts only if the restored tree equals the source.

mod compare;
mod corpus;
mod entropy;
mod floor;
mod gates;
pub(crate) mod measure;
mod peers;
mod report;
mod stages;
mod tools;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use self::corpus::Corpus;
use crate::process;
use crate::task::{BenchOptions, BenchPart};

/// How much data: enough to see the shape in a minute or two, or enough to publish figures.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    #[default]
    Small,
    Full,
}

const MIB: u64 = 1 << 20;

impl Size {
    /// The profile that the measured binary is built with.
    fn profile(self) -> &'static str {
        match self {
            Self::Small => "ci",
            Self::Full => "release",
        }
    }
}

pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    let work = process::target()?.join("bench");
    let out = match &options.out {
        Some(out) => std::path::absolute(out).context("could not find the current folder")?,
        None => process::target()?.join("bench.jsonl"),
    };
    let folder = out.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    fs::write(&out, "").with_context(|| format!("could not write {}", out.display()))?;
    println!("profile `{}`, results in {}", options.size.profile(), out.display());
    clear(&work)?;
    let is_asked = |part| options.part == BenchPart::All || options.part == part;
    if is_asked(BenchPart::Stages) {
        stages(options.size, &work, &out)?;
        clear(&work)?;
        if options.size == Size::Full {
            index(options.size, &work, &out)?;
        }
    }
    if is_asked(BenchPart::Peers) {
        let mut measured = peers::run(options.size, &work, &out)?;
        clear(&work)?;
        measured.stage_seconds = stages::seconds(&out, &measured.rows)?;
        report::print(&measured, options.size);
    }
    if options.part == BenchPart::Remote || (options.part == BenchPart::All && options.size == Size::Full) {
        remote(options.size, &out)?;
    }
    Ok(())
}

/// Six S3 servers behind lines of 20 ms beside six folders.
fn remote(size: Size, out: &Path) -> Result<()> {
    // Both for the whole workspace, so that they share what the tests were built with.
    let mut build = process::cargo("build --workspace --bin blockhouse --bench remote --profile")?;
    process::call(build.arg(size.profile()))?;
    let mut command = process::cargo("bench --workspace --bench remote --profile")?;
    command.arg(size.profile()).args(["--", "--mib", if size == Size::Full { "1024" } else { "128" }]);
    process::call(command.arg("--out").arg(out))
}

/// A vault's index with ten million chunks: what it takes on disk, in memory, and for each look-up.
fn index(size: Size, work: &Path, out: &Path) -> Result<()> {
    let mut command = process::cargo("bench --package xtask --bench index --profile")?;
    process::call(command.arg(size.profile()).arg("--").arg("--out").arg(out).arg(work.join("index")))?;
    clear(work)
}

/// Feeds the stages with one file of each kind: nearly incompressible, and text with holes.
fn stages(size: Size, work: &Path, out: &Path) -> Result<()> {
    let mut command = process::cargo("bench --package xtask --bench stages --profile")?;
    command.arg(size.profile()).arg("--").arg("--out").arg(out);
    for (corpus, file) in [(Corpus::Chain, "blk00000.dat"), (Corpus::Disk, "disk.img")] {
        let folder = work.join(corpus.name());
        corpus.generate(&folder, Size::Small)?;
        command.arg(folder.join(file));
    }
    process::call(&mut command)
}

/// Removes what an earlier run left, also what it could not remove because a test made it read-only.
fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
