//! What a receipt on an outside chain is made of: the block's header, and the transaction receipts under its root.

use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{B256, U64};
use alloy_rpc_types_eth::TransactionReceipt;
use blockhouse_ledger::certificate::Certificate;

use super::External;
use super::answers::{TransactionPlace, WholeBlock, checked_receipts};
use super::ask::AskError;
use super::error::ExternalError;
use crate::embedded::{Evidence, HomeError};

impl External {
    /// Gathers the evidence for a final transaction. What the nodes give is checked against the block's own hash.
    pub(crate) async fn evidence(&self, transaction: B256) -> Result<Evidence, HomeError> {
        let none = || ExternalError::NoTransaction { hash: transaction };
        let last = self.final_block().await?;
        let place: Option<TransactionPlace> = self.asker().ask("eth_getTransactionReceipt", (transaction,)).await?;
        let place = place.ok_or_else(none)?;
        if !self.is_final(&place, &last).await? {
            return Err(none().into());
        }
        let height = place.block_number.to();
        let form = |why| ExternalError::Form { height, why };
        let block: Option<WholeBlock> = self.asker().ask("eth_getBlockByHash", (place.block_hash, false)).await?;
        let block = block.ok_or_else(none)?;
        let named = block.header.hash;
        let (header, transactions) = block.checked().map_err(form)?;
        if (header.number, named) != (height, place.block_hash) {
            return Err(form(format!("its header is that of block {} ({named})", header.number)).into());
        }
        let receipts = self.receipts(&header, place.block_hash, &transactions).await?;
        Ok(Evidence {
            root: self.root(),
            links: Vec::new(),
            header,
            descendants: Vec::new(),
            certificate: Certificate::External,
            transaction_index: place.transaction_index.to(),
            receipts,
        })
    }

    /// All receipts of a block; one by one where a node does not give them together.
    async fn receipts(
        &self,
        header: &Header,
        block: B256,
        transactions: &[B256],
    ) -> Result<Vec<ReceiptEnvelope>, ExternalError> {
        const TOGETHER: &str = "eth_getBlockReceipts";
        let form = |why| ExternalError::Form { height: header.number, why };
        let height = U64::from(header.number);
        let together = self.asker().raw(TOGETHER, (height,)).await;
        let receipts: Vec<TransactionReceipt> = match together {
            Ok(raw) => serde_json::from_str(raw.get()).map_err(|error| form(error.to_string()))?,
            Err(AskError::Answered(_)) => {
                let mut receipts = Vec::with_capacity(transactions.len());
                for hash in transactions {
                    let one: Option<TransactionReceipt> =
                        self.asker().ask("eth_getTransactionReceipt", (*hash,)).await?;
                    receipts.push(one.ok_or_else(|| form(format!("transaction {hash} has no receipt")))?);
                }
                receipts
            }
            Err(AskError::Failed(error)) => return Err(error),
        };
        if receipts.iter().any(|receipt| receipt.block_hash != Some(block)) {
            return Err(form("its receipts are those of another block".to_owned()));
        }
        checked_receipts(receipts, header).map_err(form)
    }
}
