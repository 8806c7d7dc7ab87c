//! An `alloy` provider over a host's ledger: what `vault` talks to, as it would to any Ethereum node.
//!
//! - **Owns** the choice of fillers: fees are zero, nonces are asked for anew each time since other processes of the
//!   same host send with the same account.
//! - **Does not** know contracts.

use std::time::Duration;

use alloy_network::EthereumWallet;
use alloy_provider::utils::{Eip1559Estimation, Eip1559Estimator};
use alloy_provider::{DynProvider, Provider as _, ProviderBuilder};
use alloy_rpc_client::RpcClient;
use alloy_signer_local::PrivateKeySigner;
use blockhouse_crypto::AccountSecret;

use crate::embedded::Embedded;
use crate::external::{External, ExternalTransport};
use crate::transport::EmbeddedTransport;

/// How often a waiting receipt is asked for. A sent transaction is in a block when the sending ends, so the first answer is the last.
const POLL: Duration = Duration::from_millis(10);

/// A provider that reads, and sends what is already signed.
pub fn reader(home: Embedded) -> DynProvider {
    reader_over(EmbeddedTransport::new(home))
}

/// The same over a transport that was made elsewhere.
pub fn reader_over(transport: EmbeddedTransport) -> DynProvider {
    ProviderBuilder::new().disable_recommended_fillers().connect_client(client(transport)).erased()
}

/// A provider that signs with one account, at price zero, and fills in nonce, gas and chain id.
pub fn sender(home: Embedded, signer: PrivateKeySigner) -> DynProvider {
    ProviderBuilder::new()
        .disable_recommended_fillers()
        .with_eip1559_estimator(Eip1559Estimator::new(|_, _| Eip1559Estimation {
            max_fee_per_gas: 0,
            max_priority_fee_per_gas: 0,
        }))
        .with_simple_nonce_management()
        .fetch_chain_id()
        .wallet(EthereumWallet::new(signer))
        .connect_client(client(EmbeddedTransport::new(home)))
        .erased()
}

fn client(transport: EmbeddedTransport) -> RpcClient {
    RpcClient::new(transport, true).with_poll_interval(POLL)
}

/// How often a receipt on an outside chain is asked for; the first answer is the last, as above.
const POLL_CHAIN: Duration = Duration::from_secs(1);

/// A provider over an outside chain. What it sends is signed by the home, which alone knows nonces and fees: it asks for
/// `eth_sendTransaction`, so no filler stands in between.
pub(crate) fn external(chain: External, sender: Option<AccountSecret>) -> DynProvider {
    let client = RpcClient::new(ExternalTransport::new(chain, sender), false).with_poll_interval(POLL_CHAIN);
    ProviderBuilder::new().disable_recommended_fillers().connect_client(client).erased()
}
