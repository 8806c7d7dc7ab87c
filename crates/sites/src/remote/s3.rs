//! S3 services: one request writes an object, on the condition that its name is free.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opendal::services::S3Config;
use opendal::{Configurator, ErrorKind, Operator};

use super::{Made, Versions, http, parents};
use crate::error::Cause;
use crate::trouble::{ServiceFailure, Trouble};
use crate::url::S3Place;

/// What services that have no regions are told, if nobody names one.
const DEFAULT_REGION: &str = "us-east-1";

/// The version of an object that was written while its bucket kept none, though it did once.
const SUSPENDED: &str = "null";

/// The write side of a bucket.
#[derive(Debug)]
pub(super) struct S3Writer {
    place: S3Place,
    /// How long the service may be silent.
    stall: Duration,
    /// False once the service said that it knows no conditional writes.
    conditional: AtomicBool,
}

pub(super) fn open(place: &S3Place, stall: Duration) -> Result<(Operator, S3Writer), Cause> {
    let operator = operator_at(place, &place.prefix, stall)?;
    Ok((operator, S3Writer { place: place.clone(), stall, conditional: AtomicBool::new(place.conditional) }))
}

/// The objects below a prefix of the bucket.
fn operator_at(place: &S3Place, prefix: &str, stall: Duration) -> Result<Operator, Cause> {
    let mut config = S3Config::default();
    config.bucket.clone_from(&place.bucket);
    config.root = Some(format!("/{prefix}"));
    config.endpoint.clone_from(&place.endpoint);
    config.profile.clone_from(&place.profile);
    let set = |name: &str| std::env::var(name).ok().filter(|region| !region.is_empty());
    let region = place.region.clone().or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    config.region = region.or_else(|| place.endpoint.is_some().then(|| DEFAULT_REGION.to_owned()));
    // A dot would make it a name that the certificate is not for.
    let in_path = place.path_style.unwrap_or(place.endpoint.is_some() || place.bucket.contains('.'));
    config.enable_virtual_host_style = !in_path;
    // The metadata service of a host at AWS has credentials for AWS, and elsewhere nobody answers at its address.
    config.disable_ec2_metadata = place.endpoint.is_some();
    Ok(http::with_client(Operator::new(config.into_builder())?, http::client()?, stall))
}

impl S3Writer {
    /// True as long as the service takes conditional writes.
    pub(super) fn is_conditional(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    /// The prefixes that the site's own lies in, the bucket itself at last.
    pub(super) fn above(&self) -> Result<Vec<Operator>, Cause> {
        parents(&self.place.prefix).map(|prefix| operator_at(&self.place, prefix, self.stall)).collect()
    }

    pub(super) async fn create(&self, operator: &Operator, path: &str, bytes: &Bytes) -> Result<Made, Cause> {
        if self.is_conditional() {
            match operator.write_with(path, bytes.clone()).if_not_exists(true).await {
                Ok(_) => return Ok(Made::New),
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => return Ok(Made::Taken),
                // Two writers at one name: who comes second is told to try again.
                Err(error) if error.message().contains("ConditionalRequestConflict") => {
                    return Err(Cause::Service(ServiceFailure::new(Trouble::Busy, error.message())));
                }
                Err(error) if error.message().contains("NotImplemented") => {
                    self.conditional.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    let cause = Cause::from(error);
                    // Who refuses before he has taken all of it may close, and then his answer is lost: what is there now tells.
                    let is_cut = cause.trouble() == Some(&Trouble::Broken);
                    return if is_cut && operator.stat(path).await.is_ok() { Ok(Made::Taken) } else { Err(cause) };
                }
            }
        }
        match operator.stat(path).await {
            Ok(_) => return Ok(Made::Taken),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        operator.write(path, bytes.clone()).await?;
        Ok(Made::New)
    }
}

/// Removes an object. The service answers alike whether it was there, so it is asked before.
pub(super) async fn delete(operator: &Operator, path: &str) -> Result<bool, Cause> {
    match operator.stat(path).await.map_err(Cause::from) {
        Err(Cause::NotFound) => return Ok(false),
        found => found?,
    };
    operator.delete(path).await?;
    Ok(true)
}

/// What the service does with what is removed under a name. It says so of each object that is there: of a bucket that never kept
/// versions by saying none, of one that does not any more by one that is none.
pub(super) async fn versions(operator: &Operator, path: &str) -> Result<Versions, Cause> {
    Ok(match operator.stat(path).await?.version() {
        None => Versions::None,
        Some(SUSPENDED) => Versions::Suspended,
        Some(_) => Versions::Kept,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// More than the kernel takes for a server that reads nothing of it.
    const LONG: usize = 64 << 20;
    const STALL: Duration = Duration::from_mins(1);

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    /// A server that reads the head of a request, answers and closes; with an empty answer it only closes. `early` is for who writes,
    /// `there` for who asks what is there.
    fn server(early: String, there: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, mut head, mut byte) = (socket.unwrap(), Vec::new(), [0]);
                // One byte at a time: of what follows the head none is read.
                while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let answer = if head.starts_with(b"PUT ") { &early } else { &there };
                // Who has gone already hears nothing.
                let _ = socket.write_all(answer.as_bytes());
            }
        });
        url
    }

    /// Creates a long object there. Nothing of the tester's own is asked.
    async fn create(early: String, there: String) -> Result<Made, Cause> {
        let (url, bucket) = (server(early, there), "bucket");
        let service = opendal::services::S3::default().bucket(bucket).endpoint(&url).region(DEFAULT_REGION);
        let service = service.access_key_id("AKIDTEST").secret_access_key("a secret of tests");
        let operator = Operator::new(service.disable_config_load().disable_ec2_metadata())?;
        let operator = http::with_client(operator, http::client()?, STALL);
        let place = S3Place {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            endpoint: Some(url),
            region: None,
            path_style: None,
            profile: None,
            conditional: true,
        };
        let writer = S3Writer { place, stall: STALL, conditional: AtomicBool::new(true) };
        writer.create(&operator, "shards/one", &Bytes::from(vec![7; LONG])).await
    }

    /// The answer is read, or lost with the connection that breaks under the upload: the name is taken in both cases.
    #[tokio::test]
    async fn a_name_that_is_refused_before_all_of_the_object_was_taken_is_taken() {
        let refused = "<Error><Code>PreconditionFailed</Code><Message>it is there</Message></Error>";
        let made = create(answer("412 Precondition Failed", refused), answer("200 OK", "")).await;
        assert!(matches!(made, Ok(Made::Taken)), "{made:?}");
    }

    /// As if the answer was lost: it was a broken line, though the object is there.
    #[tokio::test]
    async fn a_line_that_breaks_under_an_upload_is_told_from_a_name_that_is_taken() {
        let made = create(String::new(), answer("200 OK", "")).await;
        assert!(matches!(made, Ok(Made::Taken)), "{made:?}");
        let failed = create(String::new(), answer("404 Not Found", "")).await.unwrap_err();
        assert_eq!(failed.trouble(), Some(&Trouble::Broken), "{failed:?}");
    }
}
