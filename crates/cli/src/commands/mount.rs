//! `blockhouse mount`

mod adapter;
mod point;
mod workers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_vault::mount::{MountSettings, MountedVault, Tell, Trouble};
use clap::Args;
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::adapter::Adapter;
pub(crate) use self::point::PointError;
use crate::arguments::{Global, Selectors};
use crate::exit::{Exit, help};
use crate::output::Output;
use crate::{opening, text};

/// How often damage is looked for that other shards made up for.
const LOOK: Duration = Duration::from_secs(1);

/// Show snapshots as a file system that can only be read
///
/// `snapshots/` has a folder for each snapshot, and what `restore` would write in it; `ids/`, `tags/` and `hosts/` lead there. A
/// snapshot is read when it is looked into, and snapshots that are made meanwhile appear. Every byte is checked; what is damaged
/// beyond repair gives an I/O error, and is named here once. Runs until Ctrl-C, or until DIR is unmounted.
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse mount /mnt/backups --identity ~/owner.identity"))]
pub(crate) struct MountArgs {
    /// Where: an empty folder
    #[arg(value_name = "DIR")]
    point: PathBuf,
    #[command(flatten)]
    selectors: Selectors,
    /// How much memory to keep read data in, as 64M or 1G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    cache: usize,
    /// Let other users in; the kernel then checks owners and modes as they were backed up
    #[arg(long)]
    allow_other: bool,
    /// With --allow-other: let every user read everything
    #[arg(long, requires = "allow_other")]
    no_default_permissions: bool,
    /// Show everything as owned by root
    #[arg(long)]
    owner_root: bool,
}

pub(crate) async fn run(args: MountArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    let point = point::check(&args.point)?;
    let vault = opening::vault(global, out).await?;
    let unlocked = opening::unlock(global, Some(vault.id()), "mount")?;
    let options = options(&args, &text::short(&vault.id()));
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let settings = MountSettings { cache: args.cache, narrow: args.selectors.into(), owner };
    let mounted = Arc::new(MountedVault::open(vault, unlocked, settings, teller(out)).await?);
    let adapter = Adapter::start(Arc::clone(&mounted), args.owner_root)?;
    let at = point.clone();
    let session = tokio::task::spawn_blocking(move || Session::new(adapter, &at, &options)).await?;
    let mut session = session.map_err(|source| PointError::mount(&point, source))?;
    let unmounter = session.unmount_callable();
    tell_begin(&point, mounted.snapshots(), out)?;
    let damage = tokio::spawn(tell_damage(Arc::clone(&mounted), out.clone()));
    let served = serve(session, unmounter, (&point, out)).await;
    damage.abort();
    served?;
    out.line(format_args!("unmounted {}", point.display()))?;
    out.record(&json!({ "type": "summary", "ok": true, "path": point.display().to_string() }))?;
    Ok(Exit::Success)
}

fn options(args: &MountArgs, vault: &str) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::FSName(format!("blockhouse-{vault}")),
    ];
    if args.allow_other {
        config.acl = SessionACL::All;
        if !args.no_default_permissions {
            config.mount_options.push(MountOption::DefaultPermissions);
        }
    }
    config
}

fn tell_begin(point: &Path, snapshots: usize, out: &Output) -> anyhow::Result<()> {
    let how = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3 -u" };
    out.line(format_args!(
        "{} at {}; unmount with Ctrl-C, or `{how} {}`",
        text::count(snapshots as u64, "snapshot"),
        point.display(),
        point.display()
    ))?;
    out.record(&json!({ "type": "mounted", "path": point.display().to_string(), "snapshots": snapshots }))?;
    Ok(())
}

/// Serves until somebody unmounts, or until a signal does.
async fn serve(
    session: Session<Adapter>,
    unmounter: SessionUnmounter,
    (point, out): (&Path, &Output),
) -> anyhow::Result<()> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let mut served = pin!(tokio::task::spawn_blocking(move || session.run()));
    tokio::select! {
        ended = &mut served => return Ok(ended??),
        () = any(&mut signals) => {}
    }
    if !unmount(unmounter, point).await? {
        out.warn(format_args!(
            "{} is in use: it goes when the last file in it is closed; press Ctrl-C again to end at once",
            point.display()
        ));
    }
    tokio::select! {
        ended = &mut served => Ok(ended??),
        // Who still has a file open gets an error from here on.
        () = any(&mut signals) => Ok(()),
    }
}

async fn any(signals: &mut [std::io::Result<Signal>; 3]) {
    let [one, two, three] = signals;
    let wait = async |signal: &mut std::io::Result<Signal>| match signal {
        Ok(signal) => drop(signal.recv().await),
        // A signal that cannot be waited for ends the process as if nobody waited.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(one) => {}
        () = wait(two) => {}
        () = wait(three) => {}
    }
}

/// True if it is gone. If somebody uses it, it is taken out of sight and goes when it is used no more.
async fn unmount(mut unmounter: SessionUnmounter, point: &Path) -> anyhow::Result<bool> {
    let point = point.to_owned();
    let work = move || {
        if unmounter.unmount().is_ok() {
            return Ok(true);
        }
        let detached = nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH);
        detached.map(|()| false).map_err(|error| PointError::Unmount { point, source: error.into() })
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn teller(out: &Output) -> Tell {
    let out = out.clone();
    Box::new(move |trouble: &Trouble| {
        let Trouble { snapshot, path, why } = trouble;
        let path = text::path(path);
        let place = match snapshot {
            None => "the vault".to_owned(),
            Some(id) if path.is_empty() => format!("snapshot {}", text::short(id)),
            Some(id) => format!("snapshot {}: {path}", text::short(id)),
        };
        out.warn(format_args!("cannot be read: {place}: {why}"));
        // Who reads the data may have gone; the mount goes on.
        let _ = out.record(&json!({ "type": "unreadable", "snapshot": snapshot, "path": path, "why": why }));
    })
}

/// Says of each site once that it gave bad shards: nothing is lost by it yet.
async fn tell_damage(mounted: Arc<MountedVault>, out: Output) {
    let mut told = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        for damage in mounted.take_damage() {
            if told.insert(damage.site.clone()) {
                out.warn(format_args!(
                    "warning: {}; it is read from other sites, and `blockhouse repair` mends it",
                    crate::failure::one_line(&damage)
                ));
            }
        }
    }
}

/// Reads a number of bytes: digits, and K, M, G or T for binary thousands.
fn parse_size(text: &str) -> Result<usize, String> {
    let failed = || format!("`{text}` is no size: write a number of bytes, or one with K, M, G or T behind it");
    let short = text.trim_end_matches("iB").trim_end_matches('B');
    let digits = short.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match short.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(failed()),
    };
    let number: usize = digits.parse().map_err(|_| failed())?;
    number
        .checked_mul(1 << shift)
        .filter(|size| *size >= LEAST)
        .ok_or_else(|| format!("`{text}` is too little or too much: give {} or more", text::bytes(LEAST as u64)))
}

/// The least cache: some chunks and a listing.
const LEAST: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("4194304"), Ok(LEAST));
        for text in ["", "M", "1", "64X", "-1M", "1.5G", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
