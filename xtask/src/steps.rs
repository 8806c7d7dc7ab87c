//! Steps of a longer task: each with its heading, its seconds and its end, and a table of all at last.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What ran so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    NotRun,
}

impl Steps {
    /// Runs a step. A failure is printed and remembered: the steps that follow still run.
    pub(crate) fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("\n── {name}");
        let started = Instant::now();
        let result = work();
        let end = if result.is_ok() { End::Passed } else { End::Failed };
        let step = Step { name, took: started.elapsed(), end };
        if let Err(error) = result {
            eprintln!("error: {error:#}");
        }
        println!("── {}", step.line(0));
        self.done.push(step);
        end == End::Passed
    }

    /// Says, here and in the table, that a step is not run.
    pub(crate) fn pass_over(&mut self, name: &'static str, why: &str) {
        println!("\n── {name}\nNOT RUN: {why}");
        self.done.push(Step { name, took: Duration::ZERO, end: End::NotRun });
    }

    /// Prints the table; fails if a step failed.
    pub(crate) fn finish(&self) -> Result<()> {
        let width = self.done.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        println!("\nseconds per step");
        for step in &self.done {
            println!("  {}", step.line(width));
        }
        let all: Duration = self.done.iter().map(|step| step.took).sum();
        println!("  {:width$} {:8.1} s", "all", all.as_secs_f64());
        let failed: Vec<_> = self.done.iter().filter(|step| step.end == End::Failed).map(|step| step.name).collect();
        if !failed.is_empty() {
            bail!("{} of {} steps failed: {}", failed.len(), self.done.len(), failed.join(", "));
        }
        Ok(())
    }
}

impl Step {
    fn line(&self, width: usize) -> String {
        let end = match self.end {
            End::Passed => "passed",
            End::Failed => "FAILED",
            End::NotRun => "NOT RUN",
        };
        format!("{:width$} {:8.1} s  {end}", self.name, self.took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use anyhow::bail;

    #[test]
    fn a_failed_step_fails_the_whole_and_the_next_still_runs() {
        let mut steps = Steps::default();
        assert!(!steps.run("first", || bail!("no")));
        assert!(steps.run("second", || Ok(())));
        steps.pass_over("third", "why");
        let error = steps.finish().unwrap_err().to_string();
        assert_eq!(error, "1 of 3 steps failed: first");
    }
}
