//! Stripe lists at the sites: read back, node by node, each from whichever site has a good copy.

use std::sync::Arc;

use blockhouse_pipeline::stripe_list::{ListNode, ReadListError, read_list};
use blockhouse_sites::{FetchError, ObjectKey, Sites};
use blockhouse_types::{ListHash, StripeId};
use tokio::runtime::Handle;

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// A node is missing or is not one.
    #[error("stripe list {root} could not be read")]
    Read {
        root: ListHash,
        #[source]
        source: Box<ReadListError<FetchError>>,
    },
    /// A task ended early.
    #[error("the reading of a stripe list was stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// The stripes in the list of that root, ascending.
pub async fn read(sites: &Arc<Sites>, root: ListHash) -> Result<Vec<StripeId>, ListError> {
    let (sites, runtime) = (Arc::clone(sites), Handle::current());
    let fetch = move |hash: ListHash| {
        let key = ObjectKey::List(hash);
        let fetched = runtime.block_on(sites.get_any(&key, |bytes| ListNode::hash(bytes) == hash))?;
        Ok(fetched.bytes.to_vec())
    };
    let read = tokio::task::spawn_blocking(move || read_list(root, fetch)).await.map_err(ListError::Stopped)?;
    read.map_err(|source| ListError::Read { root, source: Box::new(source) })
}
