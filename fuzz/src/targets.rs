//! All targets.

mod anchors;
mod consensus;
mod crypto;
mod external;
mod homes;
mod hosts;
mod ledger;
mod nodes;
mod objects;
mod pack;
mod pool;
mod rpc;
mod shard;
mod sites;
mod sources;
mod types;
mod vault;

use crate::Target;

/// Every target, by crate.
pub const ALL: &[Target] = &[
    types::CODE,
    types::IDS,
    crypto::RECIPIENT,
    crypto::AGE_FILE,
    crypto::IDENTITY,
    crypto::PAPER_KEY,
    crypto::SIGNATURE,
    crypto::SEALED,
    shard::SHARD,
    shard::PREFIX,
    shard::NAME,
    shard::REBUILD,
    pack::PACK,
    pack::TRAILER,
    pack::TABLE,
    pack::CHUNK,
    pack::DECOMPRESS,
    objects::MANIFEST,
    objects::SEALED_MANIFEST,
    objects::FACTS,
    objects::CONTENT,
    objects::ENTRY,
    objects::ENTRY_FACTS,
    objects::LISTING,
    objects::SNAPSHOT,
    objects::WRAPS,
    objects::READERS_MAP,
    objects::SEALED_MAP,
    objects::LIST_NODE,
    objects::SEALED_BAG,
    objects::KEY_BAG,
    objects::HOST_SECRETS,
    hosts::ENROL_KEY,
    hosts::HOST_REQUEST,
    hosts::PENDING_HOST,
    hosts::HOST_ANSWER,
    hosts::NODE_URL,
    ledger::GENESIS,
    ledger::CERTIFICATE,
    ledger::FORK,
    ledger::HEADER,
    ledger::LINK,
    ledger::BLOCK,
    ledger::BLOCK_OBJECT,
    ledger::REPLAY,
    ledger::PROGRAM,
    ledger::RECEIPT,
    ledger::RECEIPT_PROOF,
    ledger::EVENT,
    anchors::ANCHOR_FILE,
    anchors::EVM_ANCHOR,
    anchors::COSIGNATURE,
    anchors::ACCOUNT_KEY,
    anchors::OTS,
    anchors::CALENDAR_ANSWER,
    anchors::BITCOIN_HEADER,
    consensus::NETWORK,
    consensus::NODE_KEYS,
    consensus::CEREMONY_MESSAGE,
    consensus::CEREMONY_RECORD,
    consensus::RESHARING_OUTCOME,
    nodes::ENROLMENT,
    nodes::PLACE,
    nodes::NETWORK_FILE,
    nodes::FOUNDING_FILE,
    nodes::PROPOSAL,
    nodes::NODE_CONFIG,
    nodes::GOSSIP,
    nodes::ALARMS,
    nodes::STATE_PART,
    nodes::UNDO_RECORD,
    sites::MARKER,
    sites::OBJECT_KEY,
    sites::SITE_NAME,
    sites::SITE_SPEC,
    sources::RESTORE_PATH,
    sources::ROOT_NAME,
    sources::ACCOUNTS,
    homes::LEDGER_STORE,
    external::CHAIN_ANSWERS,
    external::OUTBOX,
    external::FOUNDING,
    rpc::RPC,
    rpc::CURSOR,
    pool::JOURNAL,
    pool::TRANSACTION,
    vault::INDEX,
    vault::SUMMARY,
    vault::FILE_CACHE,
    vault::CONFIG,
    vault::PROFILES,
    vault::KEY_FILES,
    vault::SNAPSHOT_REF,
];
