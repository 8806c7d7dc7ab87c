//! A target for the parameters of JSON-RPC: what any client may send to any method over an undamaged store.

use std::sync::LazyLock;
use std::time::Duration;

use blockhouse_homes::Store;
use blockhouse_homes::rpc::{Cursor, answer_text, method_names};
use blockhouse_homes::store::Access;
use tempfile::TempDir;

use super::homes::undamaged;
use crate::{Target, Verdict};

/// The codes that a method may answer with.
const CODES: [i64; 8] = [3, -32_000, -32_001, -32_002, -32_003, -32_005, -32_601, -32_602];

/// One method, named by the first byte, with the rest as its parameters.
pub(super) const RPC: Target = Target {
    name: "json-rpc",
    decoders: &[],
    run: |input| {
        let Some((which, params)) = input.split_first() else { return Verdict::Refused };
        let Ok(params) = std::str::from_utf8(params) else { return Verdict::Refused };
        let names: Vec<&str> = method_names().collect();
        let method = names[usize::from(*which) % names.len()];
        let answer = answer_text(&LEDGER.1, method, params).expect("nothing is damaged");
        match answer {
            Ok(_) => Verdict::Accepted,
            Err(code) => {
                assert!(CODES.contains(&code), "{method} answers with the code {code}");
                Verdict::Refused
            }
        }
    },
    seeds: || {
        let seed = |method: &str, params: &str| {
            let which = method_names().position(|name| name == method).expect("a method of the table");
            [&[u8::try_from(which).unwrap()], params.as_bytes()].concat()
        };
        let account = "0x00000000000000000000000000000000000000aa";
        let hash = format!("0x{}", "11".repeat(32));
        vec![
            seed("eth_chainId", "[]"),
            seed("eth_getBlockByNumber", r#"["latest",true]"#),
            seed("eth_getBlockByHash", &format!(r#"["{hash}",false]"#)),
            seed("eth_getBlockReceipts", r#"["0x1"]"#),
            seed("eth_getTransactionByBlockNumberAndIndex", r#"["0x1","0x0"]"#),
            seed("eth_getProof", &format!(r#"["{account}",["0x0","0x1"],"latest"]"#)),
            seed("eth_getStorageAt", &format!(r#"["{account}","0x0","latest"]"#)),
            seed("eth_call", &format!(r#"[{{"to":"{account}","input":"0x01","gas":"0xffff"}},"pending"]"#)),
            seed("eth_createAccessList", &format!(r#"[{{"from":"{account}","data":"0x6001600055","gas":"0xffff"}}]"#)),
            seed(
                "eth_getLogs",
                &format!(r#"[{{"fromBlock":"0x0","topics":[null,["{hash}"]],"address":"{account}"}}]"#),
            ),
            seed("blockhouse_getEvents", &format!(r#"[{{"account":"{account}","order":"oldest","limit":"0x2"}}]"#)),
            seed("eth_feeHistory", r#"["0x2","latest",[10,50.5]]"#),
            seed("blockhouse_getBlockObjects", r#"["0x0","0x3"]"#),
            seed("web3_sha3", r#"["0x00"]"#),
        ]
    },
};

/// Where a page of events begins.
pub(super) const CURSOR: Target = Target {
    name: "event-cursor",
    decoders: &["homes/rpc/events/cursor.rs::decode"],
    run: |bytes| Verdict::canonical(bytes, Cursor::decode(bytes), Cursor::encode),
    seeds: || vec![[&[1][..], &[0, 0, 0, 0, 7, 0, 0, 3], &[9; 8]].concat()],
};

static LEDGER: LazyLock<(TempDir, Store)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    std::fs::write(&path, undamaged()).unwrap();
    let store = Store::open(&path, Access::Read, Duration::ZERO, None).unwrap();
    (folder, store)
});
