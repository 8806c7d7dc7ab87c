//! `s3s-fs` behind hyper, in this process: it keeps buckets as folders.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::runtime::Runtime;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// Its secret.
pub const SECRET_KEY: &str = "a secret of tests";

/// An S3 server on a folder.
#[derive(Debug)]
pub struct S3Server {
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
        let mut server = Self { root: root.to_owned(), port: super::free_port(), runtime: None };
        server.resume();
        server
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
        let service = builder.build();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
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

/// The URL of a site behind a port of this host.
pub(super) fn url_at(port: u16, bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{port}")
}
