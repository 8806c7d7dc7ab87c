//! What a chain's nodes say to somebody who has no vault on it, or not yet.

use std::time::Duration;

use alloy_primitives::B256;
use blockhouse_types::BlockHash;

use super::ask::{AskError, Asker};
use super::error::ExternalError;
use crate::remote::NodeUrl;

/// Nobody waits here who could not ask again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a node says about one height of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainWord {
    /// The chain's id.
    pub chain_id: u64,
    /// The chain's block 0.
    pub genesis: BlockHash,
    /// The block of that height, if there is one.
    pub block: Option<BlockHash>,
    /// Whether that height is final; none if the node calls no block final.
    pub is_final: Option<bool>,
}

impl ChainWord {
    /// Asks the node at that URL.
    pub async fn ask(url: NodeUrl, height: u64) -> Result<Self, ExternalError> {
        let asker = Asker::new(vec![url], PATIENCE)?;
        let last = final_height(&asker).await?;
        Ok(Self {
            chain_id: asker.chain_id().await?,
            genesis: beginning(&asker).await?,
            block: asker.hash_at(height).await?.map(of_hash),
            is_final: last.map(|last| height <= last),
        })
    }
}

/// What has to be known of a chain before a vault is put on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// The chain's id.
    pub chain_id: u64,
    /// The chain's block 0.
    pub genesis: BlockHash,
    /// Its newest block.
    pub height: u64,
    /// The nodes are those of a network of this program: a vault is not put on it but takes it over.
    pub is_network: bool,
}

impl Founding {
    /// Asks the nodes. Without a depth the chain must have a final block.
    pub async fn ask(nodes: Vec<NodeUrl>, depth: Option<u64>) -> Result<Self, ExternalError> {
        let asker = Asker::new(nodes, PATIENCE)?;
        let (chain_id, genesis) = (asker.chain_id().await?, beginning(&asker).await?);
        if depth.is_none() && final_height(&asker).await?.is_none() {
            return Err(ExternalError::NoFinality);
        }
        let latest = asker.block("latest").await?.ok_or(ExternalError::NoBlock { height: 0 })?;
        let is_network = match asker.raw("blockhouse_genesis", ()).await {
            Ok(_) => true,
            Err(AskError::Answered(_)) => false,
            Err(AskError::Failed(error)) => return Err(error),
        };
        Ok(Self { chain_id, genesis, height: latest.number.to(), is_network })
    }
}

async fn final_height(asker: &Asker) -> Result<Option<u64>, ExternalError> {
    use super::answers::ChainBlock;
    match asker.try_ask::<_, Option<ChainBlock>>("eth_getBlockByNumber", ("finalized", false)).await {
        Ok(block) => Ok(block.map(|block| block.number.to())),
        Err(AskError::Answered(_)) => Ok(None),
        Err(AskError::Failed(error)) => Err(error),
    }
}

async fn beginning(asker: &Asker) -> Result<BlockHash, ExternalError> {
    asker.hash_at(0).await?.map(of_hash).ok_or(ExternalError::NoBlock { height: 0 })
}

const fn of_hash(hash: B256) -> BlockHash {
    BlockHash::new(hash.0)
}
