//! Calendars of OpenTimestamps: servers that collect digests and put one hash over all of them into Bitcoin.
//!
//! - **Owns** the two requests of their protocol, deadlines and the bound on answers.
//! - **Does not** believe a calendar: what it answers leads to Bitcoin or is worth nothing.
//!
//! Format: `docs/design/anchors.md`, section *OpenTimestamps*.

use std::time::Duration;

use blockhouse_ledger::anchor::{OTS_MAX, OtsError, Timestamp};

use crate::remote::NodeUrl;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const ACCEPT: &str = "application/vnd.opentimestamps.v1";

/// Why a calendar gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    #[error("the client of HTTP could not be made")]
    Client(#[source] reqwest::Error),
    #[error("the calendar {calendar} could not be asked")]
    Http {
        calendar: NodeUrl,
        #[source]
        source: reqwest::Error,
    },
    #[error("the calendar {calendar} answers with status {status}")]
    Status { calendar: NodeUrl, status: u16 },
    #[error("the calendar {calendar} answers with more than {OTS_MAX} bytes")]
    TooLong { calendar: NodeUrl },
    #[error("the answer of the calendar {calendar} cannot be read")]
    Form {
        calendar: NodeUrl,
        #[source]
        source: OtsError,
    },
}

/// What asks calendars.
#[derive(Debug)]
pub struct Calendars {
    http: reqwest::Client,
}

impl Calendars {
    /// A client that follows no redirect.
    pub fn new() -> Result<Self, CalendarError> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .user_agent(concat!("blockhouse/", env!("CARGO_PKG_VERSION")));
        Ok(Self { http: builder.build().map_err(CalendarError::Client)? })
    }

    /// Gives a digest to a calendar: what leads on from it, usually to a promise.
    pub async fn submit(&self, calendar: &NodeUrl, digest: [u8; 32]) -> Result<Timestamp, CalendarError> {
        let request = self.http.post(below(calendar, "digest")).body(digest.to_vec());
        let answer = answer(calendar, request).await?;
        read(calendar, answer.ok_or_else(|| status(calendar, 404))?, digest.len())
    }

    /// What a calendar has by now of a message that it promised to keep; none if Bitcoin does not have it yet.
    pub async fn fetch(&self, calendar: &NodeUrl, message: &[u8]) -> Result<Option<Timestamp>, CalendarError> {
        let request = self.http.get(below(calendar, &format!("timestamp/{}", hex::encode(message))));
        let answer = answer(calendar, request).await?;
        answer.map(|bytes| read(calendar, bytes, message.len())).transpose()
    }
}

/// The bytes of an answer; none where there is nothing.
async fn answer(calendar: &NodeUrl, request: reqwest::RequestBuilder) -> Result<Option<Vec<u8>>, CalendarError> {
    // The text of an error names the whole URL, which may hold a key.
    let failed =
        |source: reqwest::Error| CalendarError::Http { calendar: calendar.clone(), source: source.without_url() };
    let mut response = request.header("accept", ACCEPT).send().await.map_err(failed)?;
    match response.status().as_u16() {
        404 => return Ok(None),
        code if !response.status().is_success() => return Err(status(calendar, code)),
        _ => {}
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if bytes.len() + piece.len() > OTS_MAX {
            return Err(CalendarError::TooLong { calendar: calendar.clone() });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

#[expect(clippy::needless_pass_by_value, reason = "it is an answer, and done with")]
fn read(calendar: &NodeUrl, bytes: Vec<u8>, length: usize) -> Result<Timestamp, CalendarError> {
    Timestamp::decode(&bytes, length).map_err(|source| CalendarError::Form { calendar: calendar.clone(), source })
}

fn status(calendar: &NodeUrl, status: u16) -> CalendarError {
    CalendarError::Status { calendar: calendar.clone(), status }
}

/// A place below a calendar's URL.
fn below(calendar: &NodeUrl, path: &str) -> String {
    format!("{}/{path}", calendar.as_str().trim_end_matches('/'))
}
