//! Set up, demo, test, bench, check and contracts: for people and CI alike. `./x` is how it is called.
//!
//! One file per command; this one reads what was typed and turns the end into an exit code: 0 done, 1 failed,
//! 2 wrong usage.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to its terminal")]

mod bench;
mod check;
mod contracts;
mod deb;
mod demo;
mod earlier;
mod ethereum;
mod fuzz;
mod long;
mod process;
mod python;
mod steps;
mod task;
mod test;

use std::process::ExitCode;

use crate::task::Task;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let task = match Task::parse(&arguments) {
        Ok(task) => task,
        Err(problem) => {
            eprintln!("error: {problem}\n\n{}", task::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Demo { path } => demo::run(path.as_deref()),
        Task::Test => test::run(),
        Task::Check => check::run(),
        Task::Long { seed } => long::run(seed),
        Task::Contracts { check } => contracts::run(check),
        Task::Deb(options) => deb::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Measure(order) => bench::measure::run(&order),
        Task::Help => {
            println!("{}", task::USAGE);
            Ok(())
        }
    }
}
