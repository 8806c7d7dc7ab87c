//! One request of JSON-RPC to one node over HTTP.

use alloy_json_rpc::{Id, Request, Response, ResponsePayload, RpcSend};
use serde::de::DeserializeOwned;

use super::Deadlines;
use super::error::NodeError;
use super::url::NodeUrl;

/// The longest answer that is read. The longest of a node is a run of blocks: 2 MiB and one block of at most 4 MiB with its
/// certificate, in hexadecimal.
pub const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// What asks nodes. It keeps connections, and follows no redirect: what is meant for one host is not told to another.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(deadlines: &Deadlines) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(deadlines.connect)
            .timeout(deadlines.answer)
            .user_agent(concat!("blockhouse/", env!("CARGO_PKG_VERSION")));
        Ok(Self { http: builder.build()? })
    }

    /// Asks a node and reads its answer.
    pub(crate) async fn ask<P, T>(&self, node: &NodeUrl, method: &'static str, params: P) -> Result<T, NodeError>
    where
        P: RpcSend,
        T: DeserializeOwned,
    {
        match self.exchange(node, method, params).await? {
            ResponsePayload::Failure(error) => {
                Err(NodeError::Answered { code: error.code, message: one_line(&error.message) })
            }
            ResponsePayload::Success(value) => {
                serde_json::from_str(value.get()).map_err(|error| NodeError::form(method, error))
            }
        }
    }

    /// Asks a node; its answer as it stands, or the error of the protocol that it answers with.
    pub(crate) async fn exchange<P: RpcSend>(
        &self,
        node: &NodeUrl,
        method: &'static str,
        params: P,
    ) -> Result<ResponsePayload, NodeError> {
        let id = Id::Number(1);
        let request = Request::new(method, id.clone(), params);
        let body = serde_json::to_vec(&request).map_err(|error| NodeError::form(method, error))?;
        let bytes = self.post(node, body).await?;
        let answer: Response = serde_json::from_slice(&bytes).map_err(|error| NodeError::form(method, error))?;
        match answer.payload {
            ResponsePayload::Success(_) if answer.id != id => {
                Err(NodeError::form(method, "it is the answer to another request"))
            }
            payload => Ok(payload),
        }
    }

    async fn post(&self, node: &NodeUrl, body: Vec<u8>) -> Result<Vec<u8>, NodeError> {
        // R3: the text of an error names the whole URL.
        let failed = |error: reqwest::Error| NodeError::Http(error.without_url());
        let request = self.http.post(node.url().clone()).header("content-type", "application/json").body(body);
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(NodeError::Status { status: response.status().as_u16() });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if bytes.len() + piece.len() > ANSWER_MAX {
                return Err(NodeError::TooLong);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// The words of a node, for people: a bound on what it may make this host print, and no line breaks or control characters.
pub(crate) fn one_line(message: &str) -> String {
    const SHOWN_MAX: usize = 400;
    message.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).take(SHOWN_MAX).collect()
}
