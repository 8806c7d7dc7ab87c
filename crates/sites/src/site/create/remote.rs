//! Making a site at a service: a folder or prefix that nobody else uses.

use bytes::Bytes;
use opendal::Operator;

use super::{CreateError, LOST_AND_FOUND};
use crate::backend::{Backend, Writer};
use crate::error::{Cause, Operation, SiteError};
use crate::file_layer::{TEMPORARY_FOLDER, is_temporary_name};
use crate::key::ObjectKey;
use crate::marker::Marker;
use crate::reads::read_whole;
use crate::remote::{RemoteLayer, Root};
use crate::site::line::{Line, Work};
use crate::trouble::{ServiceFailure, Trouble};
use crate::url::SiteSpec;

/// What stands where the site should be.
enum Found {
    Nothing,
    NoParent,
    Marker(Box<Marker>),
    /// Nothing, but it lies within another site.
    Within(Box<Marker>),
    Stranger(String),
}

/// Makes the folder of a site, or sees that it is empty.
pub(super) async fn prepare(spec: &SiteSpec, line: &Line) -> Result<Backend, CreateError> {
    let work = Work { operation: Operation::Create, object: "its folder", bytes: 0 };
    let place = || spec.url.place();
    let failed = |source: SiteError| CreateError::Service { place: place(), source: Box::new(source) };
    if !spec.url.is_built() {
        let said = format!("this build knows no {}: sites", spec.url.scheme());
        return Err(failed(line.error(work, Cause::Service(ServiceFailure::new(Trouble::Setting, &said)))));
    }
    let backend = Backend::remote(spec, line.patience().stall()).map_err(|cause| failed(line.error(work, cause)))?;
    if let Writer::Remote(layer) = &backend.writer {
        match line.run(work, |_turn| look(layer)).await.map_err(failed)? {
            Found::Nothing => {}
            Found::NoParent => return Err(CreateError::NoParent { place: place() }),
            Found::Marker(marker) => return Err(CreateError::Taken { place: place(), marker }),
            Found::Within(marker) => return Err(CreateError::Within { place: place(), marker }),
            Found::Stranger(found) => return Err(CreateError::NotEmpty { place: place(), found }),
        }
    }
    Ok(backend)
}

async fn look(layer: &RemoteLayer) -> Result<Found, Cause> {
    // What is wrong with the service as a whole is said first: of the places above, nothing that it refuses is a reason.
    match marker_at(layer.operator(), layer).await {
        Err(cause) if cause.is_gone() || cause.is_passing() => return Err(cause),
        _ => {}
    }
    // Before a folder is made there: what lies within a site is in the way of its listings, and goes when its owner deletes it.
    if let Some(marker) = marker_above(layer).await? {
        return Ok(Found::Within(Box::new(marker)));
    }
    if layer.make_root().await? == Root::NoParent {
        return Ok(Found::NoParent);
    }
    let temporary = format!("{TEMPORARY_FOLDER}/");
    for (name, _) in layer.names_in("").await? {
        let stranger = match name.trim_end_matches('/') {
            LOST_AND_FOUND => continue,
            TEMPORARY_FOLDER => {
                let inside = layer.names_in(TEMPORARY_FOLDER).await?;
                match inside.into_iter().find(|(name, _)| !is_temporary_name(name)) {
                    None => continue,
                    Some((name, _)) => format!("{temporary}{name}"),
                }
            }
            _ => name,
        };
        return Ok(match marker_at(layer.operator(), layer).await {
            Ok(bytes) => match Marker::decode(&bytes) {
                Ok(marker) => Found::Marker(Box::new(marker)),
                Err(_) => Found::Stranger(stranger),
            },
            Err(Cause::NotFound | Cause::TooLong { .. }) => Found::Stranger(stranger),
            Err(cause) => return Err(cause),
        });
    }
    Ok(Found::Nothing)
}

/// The marker of a site that this one would lie within. What may not be looked at, or is no marker, is none.
async fn marker_above(layer: &RemoteLayer) -> Result<Option<Marker>, Cause> {
    for above in layer.above()? {
        let read = marker_at(&above, layer).await;
        if let Some(found) = read.ok().and_then(|bytes| Marker::decode(&bytes).ok()) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The bytes of a marker, if one is there.
async fn marker_at(operator: &Operator, layer: &RemoteLayer) -> Result<Bytes, Cause> {
    read_whole(operator, &ObjectKey::Marker.path(), ObjectKey::Marker.max_len(), layer.stall()).await
}
