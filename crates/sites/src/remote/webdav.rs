//! WebDAV servers: an object is put into `.tmp` and moved to its name, which must be free.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use opendal::Operator;
use opendal::services::Webdav;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Client, Method, RequestBuilder};

use super::credentials::{self, Login};
use super::{Made, Root, http, is_marker, parents, temporary_path};
use crate::disk::split;
use crate::error::{Cause, Silence};
use crate::file_layer::TEMPORARY_FOLDER;
use crate::key::ObjectKey;
use crate::name::SiteName;
use crate::trouble::ServiceFailure;
use crate::url::WebdavPlace;

const CREATED: u16 = 201;
const NO_CONTENT: u16 = 204;
const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;
/// A folder on the way is missing.
const CONFLICT: u16 = 409;
const FAILED: u16 = 500;
/// The destination exists and must not be replaced.
const PRECONDITION_FAILED: u16 = 412;

/// The write side of a folder of a WebDAV server.
#[derive(Debug)]
pub(super) struct WebdavWriter {
    place: WebdavPlace,
    client: Client,
    /// The URL of the site's folder, without a `/` at its end.
    base: String,
    login: Option<Login>,
    /// How long the server may be silent once it has a request.
    stall: Duration,
    /// Folders that this process has seen or made.
    folders: Mutex<HashSet<String>>,
}

pub(super) fn open(place: &WebdavPlace, name: &SiteName, stall: Duration) -> Result<(Operator, WebdavWriter), Cause> {
    let login = credentials::find(place, name)?;
    let (client, base) = (http::client()?, place.http_url());
    let operator = operator_at(&base, login.as_ref(), &client, stall)?;
    Ok((operator, WebdavWriter { place: place.clone(), client, base, login, stall, folders: Mutex::default() }))
}

/// The objects below a URL.
fn operator_at(base: &str, login: Option<&Login>, client: &Client, stall: Duration) -> Result<Operator, Cause> {
    let mut service = Webdav::default().endpoint(base).root("/");
    if let Some(login) = login {
        service = service.username(&login.user).password(&login.password);
    }
    Ok(http::with_client(Operator::new(service)?, client.clone(), stall))
}

impl WebdavWriter {
    /// The folders that the site's own lies in, the server's root at last.
    pub(super) fn above(&self) -> Result<Vec<Operator>, Cause> {
        let folder = |path: &str| {
            let path = if path.is_empty() { String::new() } else { format!("/{path}") };
            let place = WebdavPlace { path, ..self.place.clone() };
            operator_at(&place.http_url(), self.login.as_ref(), &self.client, self.stall)
        };
        parents(self.place.path.trim_start_matches('/')).map(folder).collect()
    }

    pub(super) async fn make_root(&self) -> Result<Root, Cause> {
        match self.send(self.request("MKCOL", "")).await? {
            CREATED | METHOD_NOT_ALLOWED => Ok(Root::Ready),
            CONFLICT | NOT_FOUND => Ok(Root::NoParent),
            status => Err(refused(status)),
        }
    }

    pub(super) async fn create(&self, path: &str, bytes: &Bytes) -> Result<Made, Cause> {
        let temporary = temporary_path();
        let put = || self.upload(&temporary, bytes);
        let mut status = put().await?;
        if matches!(status, CONFLICT | NOT_FOUND) {
            self.folders().clear();
            if !self.make_folders(path, TEMPORARY_FOLDER).await? {
                return Ok(Made::NoSite);
            }
            status = put().await?;
        }
        if !(200..300).contains(&status) {
            return Err(refused(status));
        }
        let made = self.move_to(&temporary, path).await;
        if !matches!(made, Ok(Made::New)) {
            // A later sweep takes what cannot be removed now: the outcome is the one to report.
            let _ = self.send(self.request("DELETE", &temporary)).await;
        }
        made
    }

    /// Gives a temporary object its name.
    async fn move_to(&self, temporary: &str, path: &str) -> Result<Made, Cause> {
        let request = || {
            let request = self.request("MOVE", temporary).header("Overwrite", "F");
            request.header("Destination", format!("{}/{path}", self.base))
        };
        // Of a missing folder some servers say no more than that they failed, so it is made before.
        if !self.make_folders(path, split(path).0).await? {
            return Ok(Made::NoSite);
        }
        let mut status = self.send(request()).await?;
        if matches!(status, CONFLICT | NOT_FOUND | FAILED) {
            // Somebody removed a folder that was seen before.
            self.folders().clear();
            if !self.make_folders(path, split(path).0).await? {
                return Ok(Made::NoSite);
            }
            status = self.send(request()).await?;
        }
        match status {
            CREATED | NO_CONTENT => Ok(Made::New),
            PRECONDITION_FAILED => Ok(Made::Taken),
            status => Err(refused(status)),
        }
    }

    pub(super) async fn delete(&self, path: &str) -> Result<bool, Cause> {
        match self.send(self.request("DELETE", path)).await? {
            NOT_FOUND => Ok(false),
            status if (200..300).contains(&status) => Ok(true),
            status => Err(refused(status)),
        }
    }

    /// Makes a folder and those above it for an object to come; false if they are missing because the site is.
    async fn make_folders(&self, object: &str, folder: &str) -> Result<bool, Cause> {
        let is_known = folder.is_empty() || self.folders().contains(folder);
        if is_known {
            return Ok(true);
        }
        if !is_marker(object) {
            match self.send(self.request("HEAD", &ObjectKey::Marker.path())).await? {
                NOT_FOUND => return Ok(false),
                status if (200..300).contains(&status) => {}
                status => return Err(refused(status)),
            }
        }
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        for part in ends.filter_map(|end| folder.get(..end)).filter(|part| !part.is_empty()) {
            if self.folders().contains(part) {
                continue;
            }
            match self.send(self.request("MKCOL", &format!("{part}/"))).await? {
                CREATED | METHOD_NOT_ALLOWED => self.folders().insert(part.to_owned()),
                status => return Err(refused(status)),
            };
        }
        Ok(true)
    }

    /// Paths of objects are plain ASCII: nothing in them has to be encoded.
    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("the methods of WebDAV are words");
        let request = self.client.request(method, format!("{}/{path}", self.base));
        match &self.login {
            Some(login) => request.basic_auth(&login.user, Some(&login.password)),
            None => request,
        }
    }

    /// Puts bytes under a path, whatever is there; the status of the answer.
    async fn upload(&self, path: &str, bytes: &Bytes) -> Result<u16, Cause> {
        let (pieces, taken) = http::upload(bytes.clone());
        let body = Body::wrap_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
        // Of a stream nobody knows the length, and not every server takes one without.
        let request = self.request("PUT", path).header(CONTENT_LENGTH, bytes.len()).body(body);
        let answer = http::answered(self.status(request), taken, self.stall).await;
        answer.unwrap_or_else(|Silence { allowed }| Err(Cause::Deadline { allowed }))
    }

    /// The status of the answer to a request without a body.
    async fn send(&self, request: RequestBuilder) -> Result<u16, Cause> {
        let answer = tokio::time::timeout(self.stall, self.status(request)).await;
        answer.unwrap_or(Err(Cause::Deadline { allowed: self.stall }))
    }

    /// The status of the answer, whenever it comes. What it says besides is read to its end, so that the connection can serve again.
    async fn status(&self, request: RequestBuilder) -> Result<u16, Cause> {
        let failed = |error: reqwest::Error| Cause::Service(ServiceFailure::of_way(&error.without_url()));
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut left = ANSWER_MAX;
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
        Ok(status)
    }

    /// A panic elsewhere cannot have left the set half-changed.
    fn folders(&self) -> MutexGuard<'_, HashSet<String>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest page that is read beside a status.
const ANSWER_MAX: usize = 64 * 1024;

fn refused(status: u16) -> Cause {
    Cause::Service(ServiceFailure::of_status(status))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::remote::http::tests::{LONG, STALL, server};

    /// Without a login: nothing of the tester's own is asked.
    fn writer(base: String) -> WebdavWriter {
        let place = WebdavPlace { user: None, endpoint: base.clone(), path: "/".to_owned() };
        let (client, folders) = (http::client().unwrap(), Mutex::default());
        WebdavWriter { place, client, base, login: None, stall: STALL, folders }
    }

    /// An upload goes its own way here, not that of the storage library: it was found at the deadline of the whole object.
    #[tokio::test]
    async fn a_server_that_takes_an_upload_and_is_silent_has_failed_after_the_stall() {
        let (url, begin) = server(LONG, false);
        begin.send(()).unwrap();
        let made = writer(url).create("shards/one", &Bytes::from(vec![7; LONG])).await;
        assert!(matches!(made, Err(Cause::Deadline { allowed }) if allowed == STALL), "{made:?}");
    }

    #[tokio::test]
    async fn an_upload_that_takes_longer_than_the_stall_is_no_silence() {
        let (url, begin) = server(LONG, true);
        let (writer, bytes) = (writer(url), Bytes::from(vec![7; LONG]));
        let mut putting = pin!(writer.upload("shards/one", &bytes));
        let early = tokio::time::timeout(3 * STALL, &mut putting).await;
        assert!(early.is_err(), "the server has not read yet");
        begin.send(()).unwrap();
        assert_eq!(putting.await.unwrap(), 200);
    }
}
