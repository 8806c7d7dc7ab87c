//! The HTTP client of remote sites.

use std::time::Duration;

use crate::error::Cause;
use crate::trouble::{ServiceFailure, Trouble};

/// A host that is there answers in a round trip; fifteen seconds get over three lost packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that follows no redirect: what is signed for one host must not be told to another.
///
/// Certificates are checked against those that the system trusts; `SSL_CERT_FILE` names others.
pub(super) fn client() -> Result<reqwest::Client, Cause> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("blockhouse/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| {
        let mut said = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            said = format!("{said}: {cause}");
        }
        Cause::Service(ServiceFailure::new(Trouble::Setting, &said))
    })
}

/// An operator that uses this client.
pub(super) fn with_client(operator: opendal::Operator, client: reqwest::Client) -> opendal::Operator {
    let transport = opendal_http_transport_reqwest::ReqwestTransport::new(client);
    let context = opendal::OperationContext::new().with_http_transport(opendal::HttpTransporter::new(transport));
    operator.with_context(context)
}
