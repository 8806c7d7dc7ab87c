//! Making a site: a folder that nobody else uses, and its marker.

mod remote;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use bytes::Bytes;
use rustix::io::Errno;

use super::line::{Line, Turn};
use super::{Site, Work, blocking};
use crate::backend::{Backend, Writer};
use crate::disk::{Disk, RealDisk};
use crate::error::{Cause, DownReason, Operation, SiteDown, SiteError, is};
use crate::file_layer::{TEMPORARY_FOLDER, is_temporary_name};
use crate::key::ObjectKey;
use crate::marker::{Expected, Marker};
use crate::patience::Patience;
use crate::url::SiteSpec;

/// What a fresh file system has by itself.
const LOST_AND_FOUND: &str = "lost+found";

/// Why a site could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    #[error("{place} is a site of vault {} already", marker.vault)]
    Taken { place: String, marker: Box<Marker> },
    #[error("{place} lies within a site of vault {}, `{}`", marker.vault, marker.name)]
    Within { place: String, marker: Box<Marker> },
    #[error("{place} is not empty, it holds `{}`", found.escape_debug())]
    NotEmpty { place: String, found: String },
    #[error("{place} is not a folder")]
    NotAFolder { place: String },
    #[error("the folder that {place} should be in is missing")]
    NoParent { place: String },
    #[error("could not make or look into the folder {place}")]
    Folder {
        place: String,
        #[source]
        source: io::Error,
    },
    #[error("could not prepare {place}")]
    Service {
        place: String,
        #[source]
        source: Box<SiteError>,
    },
    #[error("could not write the marker")]
    Marker(#[source] Box<SiteError>),
    #[error("could not open the new site")]
    Down(#[source] SiteDown),
}

impl Site {
    /// Makes a site in a folder that is absent or empty.
    pub async fn create(spec: &SiteSpec, marker: &Marker, patience: Patience) -> Result<Self, CreateError> {
        let line = Line::new(spec, patience);
        let backend = prepare(spec, &line).await?;
        write_marker(&backend, marker, &line).await?;
        Self::open_on(backend, spec, Expected::from(marker), patience).await.map_err(CreateError::Down)
    }

    /// Makes a site again that was lost; one that is there as expected is only opened.
    pub async fn recreate(spec: &SiteSpec, marker: &Marker, patience: Patience) -> Result<Self, CreateError> {
        match Self::open(spec, Expected::from(marker), patience).await {
            Ok(site) => Ok(site),
            Err(down) => match *down.reason {
                DownReason::Absent { .. } | DownReason::NoMarker { .. } => Self::create(spec, marker, patience).await,
                _ => Err(CreateError::Down(down)),
            },
        }
    }
}

async fn prepare(spec: &SiteSpec, line: &Line) -> Result<Backend, CreateError> {
    let work = Work { operation: Operation::Create, object: "its folder", bytes: 0 };
    let Some(folder) = spec.url.folder() else { return remote::prepare(spec, line).await };
    let prepared = line
        .run(work, |turn: Turn| {
            let path = folder.to_owned();
            blocking(move || {
                let _turn = turn;
                Ok(prepare_folder(&path))
            })
        })
        .await;
    prepared.map_err(|error| CreateError::Marker(Box::new(error)))?
}

async fn write_marker(backend: &Backend, marker: &Marker, line: &Line) -> Result<(), CreateError> {
    let path = ObjectKey::Marker.path();
    let bytes = Bytes::from(marker.encode());
    let work = Work { operation: Operation::Put, object: &path, bytes: bytes.len() as u64 };
    let written = match &backend.writer {
        Writer::Remote(layer) => line.run(work, |_turn| layer.put(&path, &bytes)).await.map(drop),
        Writer::File(layer) => {
            let written = line.run(work, |turn: Turn| {
                let (layer, bytes, path) = (layer.clone(), bytes.clone(), path.clone());
                blocking(move || {
                    let _turn = turn;
                    layer.put(&path, &bytes).map_err(Cause::from)
                })
            });
            written.await.map(drop)
        }
    };
    written.map_err(|error| CreateError::Marker(Box::new(error)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Makes the folder durable, or sees that it is empty.
fn prepare_folder(path: &Path) -> Result<Backend, CreateError> {
    let failed = |source| CreateError::Folder { place: shown(path), source };
    if let Some(marker) = path.ancestors().skip(1).find_map(marker_in) {
        return Err(CreateError::Within { place: shown(path), marker: Box::new(marker) });
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(path);
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_empty(path)?;
            // A run that was killed may have made it. An older folder is durable, so a parent that may not be read
            // is no reason to refuse.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CreateError::NoParent { place: shown(path) });
        }
        Err(error) if is(&error, Errno::NOTDIR) => return Err(CreateError::NoParent { place: shown(path) }),
        Err(error) => return Err(failed(error)),
    }
    Backend::file(path).map_err(failed)
}

/// Refuses a folder that holds anything but what a killed run or a fresh file system leaves.
fn check_empty(path: &Path) -> Result<(), CreateError> {
    let failed = |source| CreateError::Folder { place: shown(path), source };
    let disk = match RealDisk::open(path) {
        Err(error) if is(&error, Errno::NOTDIR) => return Err(CreateError::NotAFolder { place: shown(path) }),
        disk => disk.map_err(failed)?,
    };
    for entry in disk.list_folder("").map_err(failed)? {
        let found = match entry.name.as_str() {
            LOST_AND_FOUND => continue,
            TEMPORARY_FOLDER => {
                let inside = disk.list_folder(TEMPORARY_FOLDER).map_err(failed)?;
                match inside.into_iter().find(|entry| !is_temporary_name(&entry.name)) {
                    None => continue,
                    Some(entry) => format!("{TEMPORARY_FOLDER}/{}", entry.name),
                }
            }
            _ => entry.name,
        };
        return Err(not_empty(path, found));
    }
    Ok(())
}

/// Says whose the folder is, if it is a site.
fn not_empty(path: &Path, found: String) -> CreateError {
    let place = shown(path);
    match marker_in(path) {
        Some(marker) => CreateError::Taken { place, marker: Box::new(marker) },
        None => CreateError::NotEmpty { place, found },
    }
}

/// The marker in a folder, if there is one that can be read.
fn marker_in(folder: &Path) -> Option<Marker> {
    let path = folder.join(ObjectKey::Marker.path());
    let is_marker = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= ObjectKey::Marker.max_len());
    is_marker.then(|| std::fs::read(path).ok()).flatten().and_then(|bytes| Marker::decode(&bytes).ok())
}
