//! Threads that answer, so that one slow answer holds up no other.
//!
//! - **Owns** the threads and the bound of what waits for them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many questions wait. A kernel asks few ahead, and one for each thread that waits for an answer: more wait in the kernel.
const WAITING: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Some threads that work off one queue. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    queue: SyncSender<Job>,
}

impl Workers {
    /// Starts so many threads.
    pub(super) fn start(name: &str, count: usize) -> io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..count {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Has a job done. Its reply, if it is dropped without an answer, is an I/O error.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The threads live as long as this; a job that is not taken is dropped.
        let _ = self.queue.send(Box::new(job));
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // One answer that fails in a way nobody foresaw is an I/O error; the others go on.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}
