//! Storage sites: the durable local layer, probe, deadlines and the layout of objects.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod backend;
pub mod disk;
mod domains;
mod error;
mod file_layer;
mod key;
mod marker;
mod name;
mod patience;
mod site;
mod sites;
#[doc(hidden)]
pub mod twin;
mod url;

pub use backend::Backend;
pub use domains::{DomainKind, Domains, SiteDomain};
pub use error::{Cause, DownReason, Operation, Remedy, SiteDown, SiteError};
pub use file_layer::{FileLayer, Put, Swept, WriteError};
pub use key::{BLOCKS_PER_FOLDER, KeyError, ObjectKey, Prefix};
pub use marker::{Expected, Marker};
pub use name::{NameError, SiteName};
pub use patience::Patience;
pub use site::{CreateError, Listed, Listing, ProbeReport, SITE_CONCURRENCY, Site, SiteState};
pub use sites::{Enrolled, FetchError, Fetched, Member, NotDurable, Outcome, Refusal, Sites};
pub use url::{Labels, SiteSpec, SiteUrl, SpecError, UrlError};
