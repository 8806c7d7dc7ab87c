//! Bytes to chunk, pack, stripe and shard and back; manifests, stripe lists and placement plans.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod chunk;
pub mod code;
pub mod compress;
pub mod content;
pub mod cut;
pub mod domain;
pub mod host_answer;
pub mod host_request;
pub mod host_secrets;
pub mod key_bag;
pub mod manifest;
pub mod pack;
pub mod placement;
pub mod readers_map;
pub mod shard;
pub mod snapshot;
pub mod stripe;
pub mod stripe_list;
pub mod tree;
pub mod wraps;
