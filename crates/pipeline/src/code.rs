//! The erasure code: parity from data, and lost runs from any k of n.
//!
//! - **Owns** the matrix, and the columns that keep the work inside the processor's cache.
//! - **Does not** know packs or shards: it sees runs of equal length, data first, parity after.
//!
//! # Invariants
//! - **R1** Any k runs that were coded together give back all n.
//! - **R2** A byte of a run depends only on the bytes at the same place of the others, so the width of a column does
//!   not show, and a range of runs is coded like the whole.
//!
//! Format: `docs/design/stripes.md`, section *Code*.

use blockhouse_types::Code;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// The bytes of all runs together that one step works on: they fit a second-level cache.
const COLUMN_BYTES: usize = 256 * 1024;
/// The least width of a column, so that narrow ones do not cost more in calls than they save.
const COLUMN_MIN: usize = 1024;

/// True if this processor has the instructions that the code's vectors are compiled for: on x86-64 those of Haswell (2013).
///
/// Without them the first stripe would end the process by a signal; ask before.
pub fn processor_suffices() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// One run as reconstruction sees it.
#[derive(Debug)]
pub enum Run<'a> {
    /// Known bytes.
    Given(&'a [u8]),
    /// Lost, and to be computed in place.
    Wanted(&'a mut [u8]),
    /// Lost, and not asked for.
    Absent,
}

/// Why runs cannot be reconstructed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    #[error("a {code} code has {} runs, {found} were offered", code.shards())]
    Count { code: Code, found: usize },
    #[error("{found} of the {} runs that a {code} code needs are there", code.data())]
    TooFew { code: Code, found: usize },
    #[error("run {run} has {found} bytes, others have {expected}")]
    Length { run: usize, found: usize, expected: usize },
}

/// A code with its matrix. Costs an inversion to make: keep it.
pub struct Coder {
    code: Code,
    /// `None` for a code without parity, which the matrix crate does not take.
    matrix: Option<ReedSolomon>,
}

impl Coder {
    /// The coder of a code.
    pub fn new(code: Code) -> Self {
        let matrix = (code.parity() > 0).then(|| {
            ReedSolomon::new(code.data(), code.parity()).expect("a code has 1 to 255 shards, the field room for 256")
        });
        Self { code, matrix }
    }

    /// Its code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Fills `parity`, m runs back to back, from the k runs of `data`, back to back and of the same length.
    pub fn parity_into(&self, data: &[u8], parity: &mut [u8]) -> Result<(), CodingError> {
        let (code, run_len) = (self.code, data.len() / self.code.data());
        if !data.len().is_multiple_of(code.data()) {
            let found = data.len() - run_len * (code.data() - 1);
            return Err(CodingError::Length { run: code.data() - 1, found, expected: run_len });
        }
        let expected = run_len * code.parity();
        if parity.len() != expected {
            return Err(CodingError::Length { run: code.data(), found: parity.len(), expected });
        }
        let Some(matrix) = self.matrix.as_ref().filter(|_| run_len > 0) else {
            return Ok(());
        };
        for (from, to) in self.columns(run_len) {
            let inputs: Vec<&[u8]> = data.chunks(run_len).filter_map(|run| run.get(from..to)).collect();
            let mut outputs: Vec<&mut [u8]> =
                parity.chunks_mut(run_len).filter_map(|run| run.get_mut(from..to)).collect();
            matrix.encode_sep(&inputs, &mut outputs).expect("k inputs and m outputs of equal width were just made");
        }
        Ok(())
    }

    /// Computes every wanted run from any k given ones.
    pub fn reconstruct(&self, runs: &mut [Run<'_>]) -> Result<(), CodingError> {
        let code = self.code;
        if runs.len() != code.shards() {
            return Err(CodingError::Count { code, found: runs.len() });
        }
        let run_len = common_length(runs)?;
        let found = runs.iter().filter(|run| matches!(run, Run::Given(_))).count();
        let wanted = |runs: &[Run<'_>]| runs.iter().any(|run| matches!(run, Run::Wanted(_)));
        if !wanted(runs) {
            return Ok(());
        }
        let Some(matrix) = self.matrix.as_ref().filter(|_| found >= code.data()) else {
            return Err(CodingError::TooFew { code, found });
        };
        let parity_wanted = runs.get(code.data()..).is_some_and(wanted);
        let mut scratch = vec![0; self.column_width() * code.shards()];
        for (from, to) in self.columns(run_len) {
            let mut column: Vec<(&mut [u8], bool)> =
                scratch.chunks_mut(to - from).zip(&*runs).map(|(part, run)| load(part, run, from)).collect();
            let done =
                if parity_wanted { matrix.reconstruct(&mut column) } else { matrix.reconstruct_data(&mut column) };
            done.expect("at least k of n columns of equal width are there");
            for ((part, _), run) in column.iter().zip(runs.iter_mut()) {
                if let Run::Wanted(out) = run {
                    out.get_mut(from..to).expect("a column lies inside every run").copy_from_slice(part);
                }
            }
        }
        Ok(())
    }

    fn column_width(&self) -> usize {
        (COLUMN_BYTES / self.code.shards()).max(COLUMN_MIN).next_multiple_of(64)
    }

    fn columns(&self, run_len: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let width = self.column_width();
        (0..run_len).step_by(width).map(move |from| (from, run_len.min(from + width)))
    }
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coder({})", self.code)
    }
}

/// Copies a given run's column into the scratch; says whether it was given.
fn load<'a>(part: &'a mut [u8], run: &Run<'_>, from: usize) -> (&'a mut [u8], bool) {
    let column = match run {
        Run::Given(bytes) => bytes.get(from..from + part.len()),
        Run::Wanted(_) | Run::Absent => None,
    };
    if let Some(bytes) = column {
        part.copy_from_slice(bytes);
    }
    (part, column.is_some())
}

/// The one length that all given and wanted runs have.
fn common_length(runs: &[Run<'_>]) -> Result<usize, CodingError> {
    let mut common = None;
    for (at, run) in runs.iter().enumerate() {
        let found = match run {
            Run::Given(bytes) => bytes.len(),
            Run::Wanted(bytes) => bytes.len(),
            Run::Absent => continue,
        };
        let expected = *common.get_or_insert(found);
        if found != expected {
            return Err(CodingError::Length { run: at, found, expected });
        }
    }
    Ok(common.unwrap_or(0))
}

#[cfg(test)]
mod tests;
