//! Folders and files: walked, read and written back with everything POSIX says of them.
//!
//! - **Owns** the order of a walk, what counts as unreadable, excluded, changed or live, and the rules of restoring.
//! - **Does not** know chunks, manifests or keys: it hands out metadata and bytes, and takes them back. Linux only.
//!
//! # Invariants
//! - **F1** A walk yields the entries of a folder in ascending byte order of their names, each exactly once.
//! - **F2** What could not be read is yielded as [`Unreadable`] with its reason; only what the user wants left out is, and is counted by reason.
//! - **F3** No symbolic link is ever followed below a root or below a restore target.
//! - **F4** A capture changes nothing but access times, and those only where the system does not let it do otherwise.
//! - **F5** Bytes that a file no longer has are an error, never zeros.
//!
//! Format: `docs/design/manifests.md`, section *Tree*.

mod accounts;
mod attributes;
mod excludes;
mod found;
mod left_out;
mod list;
mod live;
mod read;
mod restore;
mod root_name;
mod selection;
mod source;
mod trail;
mod walk;

pub use accounts::Accounts;
pub use excludes::{ExcludeError, read_exclude_file};
pub use found::{AttributeUnread, DeviceNumber, Entry, Found, Identity, Listing, Reason, Unreadable};
pub use left_out::{LeftOut, LeftOutReason, LeftOutTally};
pub use live::{LiveRemedy, LiveSource, Process, Seen, refuse_live};
pub use read::{ChangedWhileRead, Extent, FileReader, ReadError};
pub use restore::{
    Aspect, Cleared, Conflict, Decision, Existing, FileWriter, Mark, MayGo, MetadataRules, NotRestored, Overwrite,
    OwnerKind, OwnerMapping, OwnerMappingError, Ownership, ParkedFile, PathError, Placing, RestoreError, RestorePath,
    RestoreTarget, Spared, SparedBelow, Special, TEMPORARY_PREFIX, Wanted, decide,
};
pub use root_name::{RootNameError, decode_root_name, encode_root_name};
pub use selection::{IGNORE_FILE, IgnoreProblem};
pub use source::{Capture, CaptureError, FilesSource, OpenSourceError, Options, Root, Roots};
pub use walk::{Event, Folder, Walk};
