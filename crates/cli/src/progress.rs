//! Long work on the terminal: how much, how fast, how long still; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blockhouse_vault::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Shows a workflow's progress until it is dropped.
pub(crate) struct Shown {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

/// The bytes that there are in all, once somebody counted them; zero before.
pub(crate) type Total = Arc<AtomicU64>;

/// Shows progress on a terminal; elsewhere nothing.
pub(crate) fn show(out: &Output, progress: &Arc<Progress>, total: &Total) -> Shown {
    let is_hidden = out.is_quiet() || !std::io::stderr().is_terminal();
    let bar = if is_hidden { ProgressBar::hidden() } else { ProgressBar::no_length() };
    let style = |template: &str| ProgressStyle::with_template(template).expect("the template is well formed");
    let counting = style("{spinner} {msg} files, {bytes}, {bytes_per_sec}, {elapsed}");
    let known = style("{bar:30} {msg} files, {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.set_style(counting);
    let (watched, progress, total) = (bar.clone(), Arc::clone(progress), Arc::clone(total));
    let task = tokio::spawn(async move {
        let mut is_known = false;
        loop {
            tokio::time::sleep(TICK).await;
            let in_all = total.load(Ordering::Relaxed);
            if in_all > 0 && !is_known {
                is_known = true;
                watched.set_style(known.clone());
            }
            if is_known {
                watched.set_length(in_all.max(progress.bytes()));
            }
            watched.set_message(progress.files().to_string());
            watched.set_position(progress.bytes());
            watched.tick();
        }
    });
    Shown { bar, task }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// The first Ctrl-C asks the workflow to stop at the next safe place, the second ends the process.
pub(crate) fn stop_on_interrupt(out: &Output, progress: &Arc<Progress>) {
    let (out, progress) = (out.clone(), Arc::clone(progress));
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        progress.interrupt();
        out.warn(format_args!("stopping at the next safe place; press Ctrl-C again to stop at once"));
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(crate::exit::Exit::Interrupted.code().into());
        }
    });
}
