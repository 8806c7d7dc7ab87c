//! `blockhouse backup`
//!
//! - **Owns** the order of a run: hooks of the command around its jobs, hooks of profile and source around each of them.
//! - **Does not** know what an option means: `request` turns what was typed and what a profile says into one request.

mod arguments;
mod dry_run;
mod hooked;
mod report;
mod request;

use std::sync::Arc;
use std::time::Instant;

use blockhouse_sites::limit_process;
use blockhouse_sources::files::{Event, FilesSource, Options};
use blockhouse_types::EntryKind;
use blockhouse_vault::backup::{BackupRequest, Origin, back_up};
use blockhouse_vault::folder::Profiles;
use blockhouse_vault::progress::Progress;

pub(crate) use self::arguments::BackupArgs;
use self::hooked::{Ended, Levels, Run};
use self::request::Job;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure;
use crate::output::Output;
use crate::progress;
use crate::{opening, passphrase};

pub(crate) async fn run(args: BackupArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let profiles = Profiles::load(&global.folder()?)?;
    let jobs = request::jobs(&args, &profiles)?;
    if args.dry_run {
        return dry_run(jobs, global, out).await;
    }
    let progress = Arc::new(Progress::new());
    progress::stop_on_interrupt(out, &progress);
    let hooks = if args.no_hooks { Profiles::default() } else { profiles };
    let levels = Levels::of_command(&hooks, &global.folder()?);
    let run = Run { out, progress: &progress };
    let ended = run.within(levels, async || run_jobs(jobs, &hooks, global, &run).await).await;
    Ok(ended.exit)
}

async fn dry_run(jobs: Vec<Job>, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let mut exit = Exit::Success;
    for job in jobs {
        limit_process(job.limits(global.limits()));
        let vault = opening::vault(global, out).await?;
        let done = dry_run::run(&vault, &job, out)?;
        exit = worse(exit, done);
    }
    Ok(exit)
}

/// Runs one job after another; one that fails does not keep the next from being done.
async fn run_jobs(jobs: Vec<Job>, hooks: &Profiles, global: &Global, run: &Run<'_>) -> Ended {
    let mut all = Ended::well();
    for job in jobs {
        if run.progress.is_interrupted() {
            all.take(Ended::failed(Exit::Interrupted, "the backup was interrupted".to_owned()));
            break;
        }
        run.progress.restart();
        let levels = Levels::of_job(hooks, &job, &global.folder().map(|folder| folder.root().to_owned()));
        let ended = run
            .within(levels, async || match back_up_job(&job, global, run).await {
                Ok(ended) => ended,
                Err(error) => {
                    let told = failure::one_line(error.as_ref());
                    Ended::failed(failure::report(run.out, &error), told)
                }
            })
            .await;
        all.take(ended);
    }
    all
}

async fn back_up_job(job: &Job, global: &Global, run: &Run<'_>) -> anyhow::Result<Ended> {
    let started = Instant::now();
    let request = job.request()?;
    limit_process(job.limits(global.limits()));
    let vault = opening::vault(global, run.out).await?;
    let (out, progress) = (run.out, run.progress);
    if !out.is_quiet() && (out.is_json() || passphrase::is_interactive()) {
        count_ahead(&request, progress);
    }
    let shown = progress::show(out, progress);
    let done = back_up(&vault, &request, progress).await;
    drop(shown);
    let done = done?;
    let exit = report::tell(&done, job.profile.as_deref(), started.elapsed().as_secs_f64(), out)?;
    Ok(Ended::done(exit, &done))
}

/// Of two ends the one that whoever runs this must see: what failed before what is flawed, and the first of several.
fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Success => 0,
        Exit::Degraded => 1,
        Exit::Unreadable => 2,
        _ => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// When a backup has run so long, its files are counted: one that ends sooner is not slowed down by a second walk.
const WORTH_COUNTING: std::time::Duration = std::time::Duration::from_secs(2);

/// Counts beside the backup, so that the time left can be told. What fails here fails there too, and is told there.
fn count_ahead(request: &BackupRequest, progress: &Arc<Progress>) {
    let Origin::Paths(paths) = &request.origin else { return };
    // The backup itself refuses what is live.
    let options = Options { allow_live: true, ..request.options.clone() };
    let (paths, progress) = (paths.clone(), Arc::clone(progress));
    std::thread::spawn(move || {
        std::thread::sleep(WORTH_COUNTING);
        let Ok(source) = FilesSource::try_new(&paths, &options) else { return };
        let Ok(capture) = source.capture() else { return };
        let is_file = |event: &Event| match event {
            Event::Entry { found, .. } if found.kind == EntryKind::File => Some(found.size),
            _ => None,
        };
        progress.set_total(capture.walk().filter_map(|event| is_file(&event)).sum());
    });
}
