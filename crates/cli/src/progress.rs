//! Long work as it goes on: how much, how fast, how long still; and Ctrl-C.
//!
//! On a terminal a line on stderr, with `--json` an object on stdout every second and at the end: `docs/reference/json.md`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockhouse_vault::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::output::Output;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);
/// How often an object is written.
const SECOND: Duration = Duration::from_secs(1);

/// Shows a workflow's progress until it is dropped.
pub(crate) struct Shown {
    bar: ProgressBar,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// What is told once more at the end.
    recorded: Option<Recorded>,
}

/// Progress for a program that reads the data.
#[derive(Clone)]
struct Recorded {
    out: Output,
    progress: Arc<Progress>,
    started: Instant,
}

/// Shows progress to whoever can see it: a terminal, or a program that reads the data.
pub(crate) fn show(out: &Output, progress: &Arc<Progress>) -> Shown {
    let is_hidden = out.is_quiet() || !std::io::stderr().is_terminal();
    let bar = if is_hidden { ProgressBar::hidden() } else { ProgressBar::no_length() };
    let mut tasks = vec![tokio::spawn(draw(bar.clone(), Arc::clone(progress)))];
    let is_recorded = out.is_json() && !out.is_quiet();
    let recorded =
        is_recorded.then(|| Recorded { out: out.clone(), progress: Arc::clone(progress), started: Instant::now() });
    tasks.extend(recorded.clone().map(|recorded| tokio::spawn(recorded.every_second())));
    Shown { bar, tasks, recorded }
}

async fn draw(bar: ProgressBar, progress: Arc<Progress>) {
    let style = |template: &str| ProgressStyle::with_template(template).expect("the template is well formed");
    bar.set_style(style("{spinner} {msg} files, {bytes}, {bytes_per_sec}, {elapsed}"));
    let known = style("{bar:30} {msg} files, {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let steps = style("{bar:30} {pos} of {len} stripes and objects, {per_sec}, {eta} left");
    let mut is_known = false;
    loop {
        tokio::time::sleep(TICK).await;
        if progress.steps_in_all() > 0 {
            bar.set_style(steps.clone());
            bar.set_length(progress.steps_in_all());
            bar.set_position(progress.steps());
            bar.tick();
            continue;
        }
        if let Some(total) = progress.total() {
            if !is_known {
                is_known = true;
                bar.set_style(known.clone());
            }
            bar.set_length(total);
        }
        bar.set_message(progress.files().to_string());
        bar.set_position(progress.bytes());
        bar.tick();
    }
}

impl Recorded {
    async fn every_second(self) {
        loop {
            tokio::time::sleep(SECOND).await;
            self.once();
        }
    }

    fn once(&self) {
        // Whoever reads may have had enough; the command learns it at its next line of data.
        let _ = self.out.record(&state(&self.progress, self.started.elapsed()));
    }
}

/// Where the work stands, its rate so far, and how long it lasts at that rate.
fn state(progress: &Progress, elapsed: Duration) -> Value {
    if progress.steps_in_all() > 0 {
        return state_of_steps(progress, elapsed);
    }
    let (bytes, total) = (progress.bytes(), progress.total());
    let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    let left = total.filter(|_| rate > 0).map(|total| u128::from(total - bytes.min(total)) / rate);
    json!({
        "type": "progress",
        "files": progress.files(),
        "bytes": bytes,
        "total_bytes": total,
        "bytes_per_second": u64::try_from(rate).unwrap_or(u64::MAX),
        "seconds_left": left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
    })
}

/// The same of work that is counted in steps.
fn state_of_steps(progress: &Progress, elapsed: Duration) -> Value {
    let (steps, total) = (progress.steps(), progress.steps_in_all());
    let left = u128::from(total - steps) * elapsed.as_millis() / 1000;
    let left = left.checked_div(u128::from(steps));
    json!({
        "type": "progress",
        "steps": steps,
        "total_steps": total,
        "seconds_left": left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
    })
}

impl Drop for Shown {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(recorded) = &self.recorded {
            recorded.once();
        }
        self.bar.finish_and_clear();
    }
}

/// The first Ctrl-C, or SIGTERM as a service manager sends it, asks the workflow to stop at the next safe place; the second ends the
/// process.
pub(crate) fn stop_on_interrupt(out: &Output, progress: &Arc<Progress>) {
    let (out, progress) = (out.clone(), Arc::clone(progress));
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    let mut asked = async move || {
        tokio::select! {
            // Nothing is lost with either branch: both wait for the same.
            interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
            terminated = terminated.recv() => terminated.is_some(),
        }
    };
    tokio::spawn(async move {
        if !asked().await {
            return;
        }
        progress.interrupt();
        out.warn(format_args!("stopping at the next safe place; press Ctrl-C again to stop at once"));
        if asked().await {
            std::process::exit(crate::exit::Exit::Interrupted.code().into());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_instead_of_bytes_where_work_is_counted_in_them() {
        let progress = Progress::new();
        progress.expect_steps(10);
        assert_eq!(state(&progress, Duration::from_secs(2))["seconds_left"], Value::Null);
        (0..4).for_each(|_| progress.add_step());
        let told = state(&progress, Duration::from_secs(8));
        assert_eq!((&told["steps"], &told["total_steps"], &told["seconds_left"]), (&json!(4), &json!(10), &json!(12)));
    }

    #[test]
    fn rate_and_time_left_follow_from_what_is_done() {
        let progress = Progress::new();
        progress.add_file(3_000_000);
        let unknown = state(&progress, Duration::from_secs(2));
        assert_eq!(unknown["bytes_per_second"], 1_500_000);
        assert_eq!((&unknown["total_bytes"], &unknown["seconds_left"]), (&Value::Null, &Value::Null));
        progress.set_total(9_000_000);
        let known = state(&progress, Duration::from_secs(2));
        assert_eq!((&known["total_bytes"], &known["seconds_left"]), (&json!(9_000_000), &json!(4)));
        let nothing_yet = state(&Progress::new(), Duration::ZERO);
        assert_eq!((&nothing_yet["bytes_per_second"], &nothing_yet["seconds_left"]), (&json!(0), &Value::Null));
    }
}
