//! What a running workflow has done so far, to be looked at by whoever shows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that one side adds to and another looks at.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    /// Zero until somebody knows it.
    total: AtomicU64,
    steps: AtomicU64,
    steps_in_all: AtomicU64,
    interrupted: AtomicBool,
}

impl Progress {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was done, for the next of several workflows; who asked to stop is still heard.
    pub fn restart(&self) {
        for counter in [&self.files, &self.bytes, &self.total, &self.steps, &self.steps_in_all] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Files done.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes done.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that there are to do in all, once somebody knows; never fewer than are done.
    pub fn total(&self) -> Option<u64> {
        match self.total.load(Ordering::Relaxed) {
            0 => None,
            total => Some(total.max(self.bytes())),
        }
    }

    /// Steps done, of workflows that know their work beforehand: stripes, objects and entries that were looked at.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Steps that there are in all; zero for workflows that count bytes.
    pub fn steps_in_all(&self) -> u64 {
        self.steps_in_all.load(Ordering::Relaxed).max(self.steps())
    }

    /// Asks the workflow to stop at the next safe place.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// True once somebody asked to stop.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Says how many bytes there are to do in all.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// Takes bytes off the total that are not to be done after all.
    pub fn take_off(&self, bytes: u64) {
        let less = |total: u64| Some(total.saturating_sub(bytes));
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Counts a file, with the bytes of it that were not counted while it was read.
    pub fn add_file(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.add_bytes(bytes);
    }

    /// Counts bytes.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many steps more lie ahead.
    pub fn expect_steps(&self, steps: u64) {
        self.steps_in_all.fetch_add(steps, Ordering::Relaxed);
    }

    /// Counts a step.
    pub fn add_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_unknown_until_it_is_said_and_holds_what_is_done() {
        let progress = Progress::new();
        progress.add_file(5);
        assert_eq!((progress.files(), progress.bytes(), progress.total()), (1, 5, None));
        progress.take_off(3);
        assert_eq!(progress.total(), None);
        progress.set_total(10);
        progress.take_off(3);
        assert_eq!(progress.total(), Some(7));
        progress.add_bytes(4);
        assert_eq!(progress.total(), Some(9), "a source may grow while it is read");
    }
}
