//! The files of Ethereum's tests as they are read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;

/// One sub-test: a tree of blocks over one genesis.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubTest {
    pub(super) network: String,
    #[serde(rename = "genesisRLP")]
    pub(super) genesis_rlp: Bytes,
    pub(super) genesis_block_header: Named,
    pub(super) pre: BTreeMap<Address, Account>,
    pub(super) post_state: BTreeMap<Address, Account>,
    pub(super) blocks: Vec<Given>,
    /// The head after all blocks.
    pub(super) lastblockhash: B256,
}

/// A block to be taken, or to be refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    pub(super) rlp: Bytes,
    /// Of a valid block.
    pub(super) block_header: Option<Named>,
    /// Why it must be refused.
    pub(super) expect_exception: Option<String>,
}

/// The parts of a header that the files name in full.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    pub(super) hash: B256,
    pub(super) state_root: B256,
    pub(super) receipt_trie: B256,
    pub(super) transactions_trie: B256,
    pub(super) bloom: Bytes,
    pub(super) gas_used: U256,
}

/// An account before or after.
#[derive(Deserialize)]
pub(super) struct Account {
    pub(super) balance: U256,
    pub(super) nonce: U256,
    pub(super) code: Bytes,
    pub(super) storage: BTreeMap<U256, U256>,
}

/// Where the files lie.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures/ethereum")
}

/// All files, by their paths below the folder.
pub(super) fn files() -> BTreeMap<String, BTreeMap<String, SubTest>> {
    fn walk(below: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    let (folder, mut paths) = (folder(), Vec::new());
    walk(&folder, &mut paths);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        let tests = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, tests)
    };
    paths.into_iter().map(read).collect()
}
