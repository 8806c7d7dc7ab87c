//! `blockhouse site`

mod change;
mod look;

use blockhouse_sites::{SiteName, SiteSpec};
use clap::{Args, Subcommand};

use crate::arguments::{Global, SiteParser};
use crate::exit::{Exit, help};
use crate::output::Output;

/// See the sites, add one, empty and remove one, or declare one lost
#[derive(Debug, Args)]
#[command(after_help = help!("blockhouse site list"))]
pub(crate) struct SiteArgs {
    #[command(subcommand)]
    command: SiteCommand,
}

#[derive(Debug, Subcommand)]
enum SiteCommand {
    /// List the sites: where they are, whether they answer, what they hold
    #[command(after_help = help!("blockhouse site list --json"))]
    List {
        /// Do not count what they hold
        #[arg(long)]
        fast: bool,
    },
    /// Test what sites promise: all of them, or one
    #[command(after_help = help!("blockhouse site probe usb-disk"))]
    Probe {
        /// Its name
        #[arg(value_name = "NAME")]
        site: Option<SiteName>,
    },
    /// Add a site; needs the identity
    ///
    /// Its folder must be absent or empty. It is given what every site has, and counts from then on: new stripes use it, `repair`
    /// spreads those that are there. Run again after an interruption, it finishes what was begun.
    #[command(after_help = help!(
        "blockhouse site add /mnt/d,name=attic,region=home,provider=me --identity ~/owner.identity"
    ))]
    Add {
        /// A folder, or file: URL. Say where it is: ,name=N,region=R,provider=P
        #[arg(value_name = "URL[,…]", value_parser = SiteParser)]
        site: SiteSpec,
    },
    /// Declare sites lost for good, and make again at the others what they held; needs the identity
    ///
    /// For a closed account or a building that is gone: the sites are never asked. It is the only way to give a site up with less
    /// left than planned. Run again after an interruption, it goes on where it stopped.
    #[command(after_help = help!("blockhouse site lost oslo --identity ~/owner.identity"))]
    Lost {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        sites: Vec<SiteName>,
        /// Only say what would be done
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Empty a site that can still be read: what it holds is copied to the others; needs the identity
    ///
    /// It gets nothing new from then on. Nothing is deleted there. Run again after an interruption, it goes on where it stopped.
    #[command(after_help = help!("blockhouse site drain oslo --identity ~/owner.identity"))]
    Drain {
        /// Its name
        #[arg(value_name = "NAME")]
        site: SiteName,
        /// Only say what would be done
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Use the site again as before
        #[arg(long, conflicts_with = "dry_run")]
        cancel: bool,
    },
    /// Remove a site on which nothing is needed any more; needs the identity
    ///
    /// Nothing is deleted there; how to do that is said at the end. It is refused if anything, or any new backup, would be less safe
    /// without the site. Run again after an interruption, it goes on where it stopped.
    #[command(after_help = help!("blockhouse site remove oslo --identity ~/owner.identity"))]
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        site: SiteName,
        /// Only say whether it may be removed
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Use the site again as before, where a removal was begun and not finished
        #[arg(long, conflicts_with = "dry_run")]
        cancel: bool,
    },
}

pub(crate) async fn run(args: SiteArgs, global: &Global, out: &Output) -> anyhow::Result<Exit> {
    match args.command {
        SiteCommand::List { fast } => look::list(fast, global, out).await,
        SiteCommand::Probe { site } => look::probe(site, global, out).await,
        SiteCommand::Add { site } => change::add(site, global, out).await,
        SiteCommand::Lost { sites, dry_run } => change::lost(&sites, dry_run, global, out).await,
        SiteCommand::Drain { site, cancel: true, .. } => change::cancel_drain(&site, global, out).await,
        SiteCommand::Drain { site, dry_run, .. } => change::drain(&site, dry_run, global, out).await,
        SiteCommand::Remove { site, cancel: true, .. } => change::cancel_remove(&site, global, out).await,
        SiteCommand::Remove { site, dry_run, .. } => change::remove(&site, dry_run, global, out).await,
    }
}
