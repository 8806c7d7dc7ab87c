//! Anchoring a ledger's blocks in `AnchorPoint` on an outside chain.
//!
//! - **Owns** where the contract stands, what was anchored there last, and the proof of it.
//! - **Does not** know the ledger: its name, and the block to anchor, come as arguments; nor what the ledger has recorded of it.
//!
//! # Invariants
//! - **P1** What was anchored is found on the chain itself, by whoever has the account: a process that was killed after it, and a host
//!   that was lost, leave nothing behind that only they knew.
//! - **P2** The proof of an anchor is given only of a final block, and after it was checked as whoever gets it will check it.
//!
//! Format: `docs/design/anchors.md`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U64, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use blockhouse_crypto::AccountSecret;
use blockhouse_crypto::hash::hash;
use blockhouse_ledger::anchor::{AttestationKind, EVM_ANCHOR_MAX, EvmAnchor};
use blockhouse_ledger::certificate::BlockPlace;
use blockhouse_ledger::contracts::{AnchorPoint, Anchors};
use blockhouse_ledger::proof::prove_receipt;
use blockhouse_types::BlockHash;
use serde::Deserialize;
use serde_json::json;

use super::answers::ChainBlock;
use super::error::ExternalError;
use super::factory::of_fault;
use super::send::{Wish, address_of};
use super::word::Founding;
use super::{ChainTerms, External, ExternalOptions};
use crate::embedded::HomeError;
use crate::remote::NodeUrl;

const SALT_CONTEXT: &str = "blockhouse v1 anchor point";

/// A chain on which blocks are anchored, as its user names it.
#[derive(Debug, Clone)]
pub struct AnchorChain {
    /// Its nodes, the first one asked first.
    pub nodes: Vec<NodeUrl>,
    /// How many blocks must be above a final one; none: what the nodes call `finalized`.
    pub depth: Option<u64>,
    /// The most that is offered for one unit of gas, in wei; none: what is usual.
    pub max_fee_wei: Option<u64>,
}

/// Who anchors which ledger, and where.
#[derive(Debug, Clone)]
pub struct Anchorer {
    chain: External,
    payer: AccountSecret,
    ledger: B256,
    point: Address,
}

/// The block that was anchored last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAnchor {
    /// Its height.
    pub height: u64,
    /// When, in seconds by the outside chain.
    pub time: u64,
}

/// An anchor that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The block that it is of.
    pub place: BlockPlace,
    /// The transaction that made it.
    pub transaction: B256,
    /// The height of its block on the outside chain.
    pub outside_height: u64,
    /// The hash of that block.
    pub outside_block: BlockHash,
    /// The time of that block.
    pub time: u64,
    /// The proof.
    pub anchor: EvmAnchor,
}

impl Made {
    /// What records it in the ledger's `Anchors`.
    pub fn record(&self) -> Anchors::recordCall {
        Anchors::recordCall {
            kind: AttestationKind::Evm.word(),
            chainId: self.anchor.chain_id,
            target: self.anchor.point,
            txHash: self.transaction,
            height: self.place.height,
            blockHash: B256::new(self.place.hash.to_bytes()),
            data: self.anchor.encode().into(),
        }
    }
}

/// A log, as far as it is read here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnchorLog {
    transaction_hash: B256,
    topics: Vec<B256>,
    data: Bytes,
}

impl Anchorer {
    /// Asks the chain which it is, ends what an earlier process was sending, and makes the contract if it is not there. What is sent is
    /// kept in a file of this folder until it is final.
    pub async fn connect(
        place: &AnchorChain,
        payer: AccountSecret,
        ledger: B256,
        folder: &Path,
    ) -> Result<Self, HomeError> {
        let chain = chain(place, folder).await?;
        chain.finish_waiting(&payer).await?;
        let factory = chain.factory(&payer).await?;
        let (salt, code) = (B256::new(hash(SALT_CONTEXT, b"")), AnchorPoint::BYTECODE.clone());
        let point = factory.create2(salt, keccak256(&code));
        chain.create(&payer, (factory, salt), &[code]).await?;
        Ok(Self { chain, payer, ledger, point })
    }

    /// The account that pays.
    pub fn sender(&self) -> Address {
        address_of(&self.payer)
    }

    /// The contract.
    pub const fn point(&self) -> Address {
        self.point
    }

    /// The chain's id.
    pub fn chain_id(&self) -> u64 {
        self.chain.options().chain_id
    }

    /// True if a record in `Anchors` is of an anchor that this account made here, and proves it: whoever is enrolled records what he likes.
    pub fn is_own(&self, event: &Anchors::Anchored) -> bool {
        if (event.kind, event.chainId, event.target) != (AttestationKind::Evm.word(), self.chain_id(), self.point) {
            return false;
        }
        // The chain id of a place is no part of what is anchored.
        let place = BlockPlace { chain_id: 0, height: event.height, hash: BlockHash::new(event.blockHash.0) };
        let proved = EvmAnchor::decode(&event.data).ok().and_then(|anchor| anchor.check(self.ledger, &place).ok());
        proved.is_some_and(|on_chain| on_chain.sender == self.sender())
    }

    /// What this account anchored last of this ledger, in final blocks.
    pub async fn last(&self) -> Result<Option<LastAnchor>, HomeError> {
        let call = AnchorPoint::latestCall { ledger: self.ledger, sender: self.sender() };
        let latest = self.ask(&call).await?;
        Ok((latest.height != 0).then_some(LastAnchor { height: latest.height, time: latest.anchoredAt }))
    }

    /// Anchors a block that is above the last one, and waits until that is final.
    pub async fn anchor(&self, block: &BlockPlace) -> Result<Made, HomeError> {
        let call = AnchorPoint::anchorCall {
            ledger: self.ledger,
            height: block.height,
            blockHash: B256::new(block.hash.to_bytes()),
        };
        let wish = Wish { to: Some(self.point), input: call.abi_encode().into(), ..Wish::default() };
        let sent = self.chain.send(&self.payer, vec![wish]).await.map_err(of_fault)?;
        let transaction = sent.first().copied().ok_or(HomeError::NoBlocks)?;
        self.proof(transaction, *block).await
    }

    /// The proof of an anchor that was made before: P1. Its block is told by the chain; `chain_id` is the ledger's.
    pub async fn found(&self, last: LastAnchor, chain_id: u64) -> Result<Made, HomeError> {
        let hash = self
            .ask(&AnchorPoint::hashAtCall { ledger: self.ledger, sender: self.sender(), height: last.height })
            .await?;
        let place = BlockPlace { chain_id, height: last.height, hash: BlockHash::new(hash.0) };
        let final_block = self.chain.final_block().await?;
        // The blocks of that second; a chain may have several.
        let first = self.first_at(last.time, &final_block).await?;
        let behind = self.first_at(last.time.saturating_add(1), &final_block).await?;
        let filter = json!({
            "fromBlock": U64::from(first),
            "toBlock": U64::from(behind.saturating_sub(1).max(first).min(final_block.number.to())),
            "address": self.point,
            "topics": [
                AnchorPoint::Anchored::SIGNATURE_HASH,
                self.ledger,
                self.sender().into_word(),
                B256::from(alloy_primitives::U256::from(last.height)),
            ],
        });
        let logs: Vec<AnchorLog> = self.chain.asker().ask_at(&final_block, "eth_getLogs", (filter,)).await?;
        let is_it = |log: &&AnchorLog| {
            let event = AnchorPoint::Anchored::decode_raw_log(log.topics.iter().copied(), &log.data);
            event.is_ok_and(|event| event.height == last.height && event.sender == self.sender())
        };
        let log = logs.iter().find(is_it);
        let transaction = log.ok_or(ExternalError::NoBlock { height: first })?.transaction_hash;
        self.proof(transaction, place).await
    }

    /// P2.
    async fn proof(&self, transaction: B256, place: BlockPlace) -> Result<Made, HomeError> {
        let evidence = self.chain.evidence(transaction).await?;
        let height = evidence.header.number;
        let form = |why: String| ExternalError::Form { height, why };
        let index = evidence.transaction_index;
        let receipt = usize::try_from(index).ok().and_then(|index| evidence.receipts.get(index));
        let receipt = receipt.ok_or_else(|| form("it has fewer receipts than transactions".to_owned()))?;
        let is_it = |log: &alloy_primitives::Log| {
            let event = AnchorPoint::Anchored::decode_log(log);
            log.address == self.point && event.is_ok_and(|event| event.height == place.height)
        };
        let anchor = EvmAnchor {
            chain_id: evidence.root.chain_id,
            genesis: evidence.root.genesis,
            point: self.point,
            header: alloy_rlp::encode(&evidence.header).into(),
            transaction_index: index,
            transaction_receipt: receipt.encoded_2718().into(),
            proof: prove_receipt(&evidence.receipts, index),
            log_index: receipt.logs().iter().position(is_it).unwrap_or_default() as u64,
        };
        if anchor.encode().len() > EVM_ANCHOR_MAX {
            return Err(form(format!("its proof is longer than {EVM_ANCHOR_MAX} bytes")).into());
        }
        let on_chain = anchor.check(self.ledger, &place).map_err(|error| form(crate::chain::chain(&error)))?;
        Ok(Made {
            place,
            transaction,
            outside_height: on_chain.height,
            outside_block: on_chain.block,
            time: on_chain.time,
            anchor,
        })
    }

    /// The height of the first block that is not before that time; that behind the last final block if none is.
    async fn first_at(&self, time: u64, last: &ChainBlock) -> Result<u64, HomeError> {
        let (mut low, mut high) = (0, last.number.to::<u64>().saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.chain.asker().block(&format!("0x{middle:x}")).await?;
            let block = block.ok_or(ExternalError::NoBlock { height: middle })?;
            if block.timestamp.to::<u64>() < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    async fn ask<C: SolCall>(&self, call: &C) -> Result<C::Return, HomeError> {
        const METHOD: &str = "eth_call";
        let last = self.chain.final_block().await?;
        let question = json!({ "to": self.point, "data": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.chain.asker().ask_at(&last, METHOD, (question, last.number)).await?;
        let form = |error: alloy_sol_types::Error| ExternalError::Refused {
            method: METHOD,
            code: 0,
            message: format!("its answer cannot be read: {error}"),
        };
        Ok(C::abi_decode_returns(&answer).map_err(form)?)
    }
}

/// The chain, and the file of what is sent to it. Its name holds what tells chains of one id apart.
async fn chain(place: &AnchorChain, folder: &Path) -> Result<External, HomeError> {
    let founding = Founding::ask(place.nodes.clone(), place.depth).await?;
    let failed = |source| ExternalError::Outbox { action: "make", path: folder.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let genesis = founding.genesis.to_string();
    let outbox = folder.join(format!("{}-{}", founding.chain_id, genesis.get(..8).unwrap_or_default()));
    let usual = ChainTerms::usual(0, place.depth);
    let options = ExternalOptions {
        nodes: place.nodes.clone(),
        chain_id: founding.chain_id,
        genesis: founding.genesis,
        vault: Address::ZERO,
        terms: ChainTerms { max_fee_wei: place.max_fee_wei.unwrap_or(usual.max_fee_wei), ..usual },
        outbox,
    };
    Ok(External::new(options)?)
}
