//! Storage sites: the durable local layer, remote services, probe, deadlines and the layout of objects.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod backend;
pub mod disk;
mod domains;
mod error;
mod file_layer;
mod key;
mod limits;
mod marker;
mod name;
mod patience;
mod reads;
mod remote;
mod site;
mod sites;
mod trouble;
#[doc(hidden)]
pub mod twin;
mod url;

pub use backend::Backend;
pub use domains::{DomainKind, Domains, SiteDomain};
pub use error::{Cause, DownReason, Operation, Remedy, SiteDown, SiteError};
pub use file_layer::{FileLayer, Put, Swept, WriteError};
pub use key::{BLOCKS_PER_FOLDER, KeyError, ObjectKey, Prefix};
pub use limits::{Rate, RateError, SiteLimits, limit_process};
pub use marker::{Expected, Marker};
pub use name::{NameError, SiteName};
pub use patience::{Patience, Spare};
pub use remote::Versions;
pub use site::{CreateError, Listed, Listing, ProbeReport, SITE_CONCURRENCY, Site, SiteState};
pub use sites::{Enrolled, FetchError, Fetched, Member, NotDurable, Outcome, Refusal, Sites};
pub use trouble::{ServiceFailure, Trouble};
pub use url::{Labels, S3Place, SftpPlace, SiteSpec, SiteUrl, SpecError, UrlError, WebdavPlace};
