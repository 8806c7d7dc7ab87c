//! Mending: good copies where there are none or bad ones.

use std::sync::Arc;

use blockhouse_sites::{Put, Site, SiteError, Sites};
use bytes::Bytes;
use futures::future::join_all;

use super::copies::{Looked, read_one};
use super::needed::{Needed, Truth, Verdict};
use super::{CopyState, MendError, PlainReport};

/// What was done at one site.
#[derive(Debug, Default)]
struct Done {
    is_removed: bool,
    is_written: bool,
    failed: Option<SiteError>,
}

/// What mending would do; what it would not mend stays lacking.
pub(super) fn plan(sites: &Sites, looked: &Looked, report: &mut PlainReport) {
    let has_good = !looked.good.is_empty() || matches!(looked.needed.truth, Truth::Bytes(_));
    for (member, state) in &looked.flaws {
        let is_open = sites.members().get(*member).is_some_and(|at| at.writable().is_some());
        if has_good && is_open && matches!(state, CopyState::Missing | CopyState::Wrong) {
            report.written += 1;
            report.removed += u64::from(matches!(state, CopyState::Wrong));
        } else {
            report.whereabouts.note_lacking(looked.needed.key, *member);
        }
    }
}

/// Puts good copies where they are missing and in the place of bad ones, at all sites at the same time. What is counted is what
/// the sites did.
pub(super) async fn mend(sites: &Sites, looked: &Looked, report: &mut PlainReport) {
    let object = looked.needed.key;
    let good = good_copy(sites, &looked.needed).await;
    let tasks = looked.flaws.iter().filter_map(|(member, state)| Some((*member, sites.members().get(*member)?, state)));
    let tasks = tasks.map(async |(member, at, state)| {
        let site = at.name().clone();
        let done = match (state, &good, at.writable()) {
            (CopyState::Disputed, ..) => Err(MendError::Disputed { object }),
            (CopyState::Unreadable(source), ..) => Err(MendError::Site { object, site, source: Arc::clone(source) }),
            // That no site has it is told by itself.
            (_, None, _) => Ok(Done::default()),
            (_, _, None) => Err(MendError::Closed { object, site }),
            (CopyState::Missing, Some(good), Some(open)) => Ok(put(open, &looked.needed, good, Done::default()).await),
            (CopyState::Wrong, Some(good), Some(open)) => Ok(replace(open, &looked.needed, good).await),
        };
        (member, at.name().clone(), done)
    });
    for (member, site, done) in join_all(tasks).await {
        let is_mended = match done {
            Ok(done) => {
                report.written += u64::from(done.is_written);
                report.removed += u64::from(done.is_removed);
                let failed = done.failed.map(Arc::new);
                let is_mended = failed.is_none() && good.is_some();
                report.failed.extend(failed.map(|source| MendError::Site { object, site, source }));
                is_mended
            }
            Err(error) => {
                report.failed.push(error);
                false
            }
        };
        if !is_mended {
            report.whereabouts.note_lacking(object, member);
        }
    }
}

/// The right bytes: the host's own, or those of a site.
async fn good_copy(sites: &Sites, needed: &Needed) -> Option<Bytes> {
    if let Truth::Bytes(bytes) = &needed.truth {
        return Some(bytes.clone());
    }
    let is_good = |bytes: &[u8]| needed.judge(bytes) == Verdict::Good;
    sites.get_any(&needed.key, is_good).await.ok().map(|fetched| fetched.bytes)
}

/// P2: a bad copy is looked at once more before it goes.
async fn replace(site: &Site, needed: &Needed, good: &Bytes) -> Done {
    let mut done = Done::default();
    match read_one(site, needed).await {
        Ok(Verdict::Good) => return done,
        Ok(Verdict::Wrong | Verdict::Candidate(_)) => match site.delete(&needed.key).await {
            Ok(was_there) => done.is_removed = was_there,
            Err(error) => return Done { failed: Some(error), ..done },
        },
        Err(error) if error.is_not_found() => {}
        Err(error) => return Done { failed: Some(error), ..done },
    }
    put(site, needed, good, done).await
}

async fn put(site: &Site, needed: &Needed, good: &Bytes, done: Done) -> Done {
    match site.put(&needed.key, good.clone()).await {
        Ok(put) => Done { is_written: put == Put::Written, ..done },
        Err(error) => Done { failed: Some(error), ..done },
    }
}
