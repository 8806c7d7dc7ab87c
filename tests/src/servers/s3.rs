//! `s3s-fs` behind hyper, in this process: it keeps buckets as folders.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use tokio::runtime::Runtime;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// Its secret.
pub const SECRET_KEY: &str = "a secret of tests";

/// What the server does that `s3s-fs` by itself does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Plain,
    /// As a server far away that is meant for it: each answer comes so much later, and objects are read at once. `s3s-fs` reads them 4 KiB at
    /// a time, which is slower than any line.
    Far(Duration),
    /// Every object has a version, as in a bucket that keeps what is removed.
    Versions,
    /// Every object has the version `null`, as in a bucket whose versions were suspended.
    Suspended,
    /// Nobody may delete.
    NoDelete,
    /// Its buckets are in another region.
    Moved,
}

/// The region in which the buckets of a server are that moved.
pub const OTHER_REGION: &str = "eu-north-1";

/// An S3 server on a folder.
#[derive(Debug)]
pub struct S3Server {
    manner: Arc<Mutex<Manner>>,
    root: PathBuf,
    port: u16,
    /// All of the server runs on it, and ends with it.
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts a server with these buckets.
    pub fn start(root: &Path, buckets: &[&str]) -> Self {
        for bucket in buckets {
            std::fs::create_dir_all(root.join(bucket)).unwrap();
        }
        let manner = Arc::default();
        let mut server = Self { manner, root: root.to_owned(), port: super::free_port(), runtime: None };
        server.resume();
        server
    }

    /// Makes it another one, from the next request on.
    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Ends it as a host that goes off does; its folder stays.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again on its port.
    pub fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let files = s3s_fs::FileSystem::new(&self.root).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, manner, root) = (builder.build(), self.manner.clone(), self.root.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, manner, root) = (service.clone(), manner.clone(), root.clone());
                let root = root.clone();
                let service =
                    service_fn(move |request| answer(service.clone(), *manner.lock().unwrap(), root.clone(), request));
                tokio::spawn(async move {
                    // A client that leaves is no failure of the server.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        self.runtime = Some(runtime);
        super::wait_for(self.port, "the S3 server");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a bucket's objects are.
    pub fn bucket(&self, bucket: &str) -> PathBuf {
        self.root.join(bucket)
    }

    /// The URL of a site in it.
    pub fn url(&self, bucket: &str, prefix: &str) -> String {
        url_at(self.port, bucket, prefix)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(
    service: S3Service,
    manner: Manner,
    root: PathBuf,
    request: Request<Incoming>,
) -> Result<Response<Body>, HttpError> {
    let deletes = request.method() == Method::DELETE
        || (request.method() == Method::POST && request.uri().query().is_some_and(|query| query.starts_with("delete")));
    match manner {
        Manner::NoDelete if deletes => return Ok(refused(StatusCode::FORBIDDEN, "AccessDenied")),
        Manner::Moved => {
            let mut moved = refused(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect");
            moved.headers_mut().insert("x-amz-bucket-region", HeaderValue::from_static(OTHER_REGION));
            return Ok(moved);
        }
        Manner::Far(delay) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let object = (matches!(manner, Manner::Far(_)) && request.method() == Method::GET)
        .then(|| root.join(request.uri().path().trim_start_matches('/')));
    let mut answer = Service::call(&service, request).await?;
    if let Some(object) = object.filter(|object| answer.status().is_success() && object.is_file()) {
        *answer.body_mut() = read_at_once(object, answer.headers()).await;
    }
    let version = match manner {
        Manner::Versions => Some("3sL4kqtJlcpXroDTDmJ"),
        Manner::Suspended => Some("null"),
        _ => None,
    };
    if let Some(version) = version {
        answer.headers_mut().insert("x-amz-version-id", HeaderValue::from_static(version));
    }
    Ok(answer)
}

/// The bytes that an answer promises by its headers.
async fn read_at_once(object: PathBuf, headers: &HeaderMap) -> Body {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let length: usize = text(CONTENT_LENGTH).unwrap().parse().unwrap();
    // `bytes FIRST-LAST/ALL`
    let first = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    let first: u64 = first.map_or(0, |first| first.parse().unwrap());
    let read = move || {
        let mut bytes = vec![0; length];
        File::open(object).unwrap().read_exact_at(&mut bytes, first).unwrap();
        bytes
    };
    Body::from(tokio::task::spawn_blocking(read).await.unwrap())
}

fn refused(status: StatusCode, code: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("<Error><Code>{code}</Code><Message>no</Message></Error>")));
    *answer.status_mut() = status;
    answer
}

/// The URL of a site behind a port of this host.
pub(super) fn url_at(port: u16, bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{port}")
}
