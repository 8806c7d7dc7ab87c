//! Targets for a ledger on an outside chain: what its nodes answer, and what this host keeps about it.

use alloy_consensus::Header;
use alloy_primitives::keccak256;
use blockhouse_homes::external::{is_outbox, read_block, read_evidence, read_logs};
use blockhouse_vault::init::is_begun;

use crate::{Target, Verdict};

/// Answers of a chain's nodes: a byte says to which question.
pub(super) const CHAIN_ANSWERS: Target = Target {
    name: "chain-answers",
    decoders: &[],
    run: |input| {
        let Some((kind, rest)) = input.split_first() else { return Verdict::Refused };
        let is_taken = match kind % 3 {
            0 => read_block(rest).is_some(),
            1 => read_logs(rest).is_some(),
            _ => {
                let (block, receipts) = halves(rest);
                read_evidence(block, receipts).inspect(|(header, _)| check(header, block)).is_some()
            }
        };
        verdict(is_taken)
    },
    seeds: || {
        let block = br#"0{"number":"0x7","hash":"0x0101010101010101010101010101010101010101010101010101010101010101","timestamp":"0x64","baseFeePerGas":"0x7"}"#;
        let logs = br#"1[{"blockNumber":"0x7","data":"0x"},{"blockNumber":"0x8","blockTimestamp":"0x1"}]"#;
        vec![block.to_vec(), logs.to_vec()]
    },
};

/// What was sent to a chain and is not final yet.
pub(super) const OUTBOX: Target = Target {
    name: "outbox",
    decoders: &[],
    run: |input| verdict(is_outbox(input)),
    seeds: || {
        let raw = "0x0102";
        let hash = keccak256([1, 2]);
        let form = format!(r#"{{"hash":"{hash}","raw":"{raw}","fees":{{"dynamic":{{"most":3,"tip":1}}}}}}"#);
        let account = "0x0101010101010101010101010101010101010101";
        let waiting =
            format!(r#"{{"account":"{account}","nonce":4,"value":"0x0","input":"0x","gas":21000,"forms":[{form}]}}"#);
        vec![
            format!(r#"{{"version":1,"waiting":[{waiting}]}}"#).into_bytes(),
            br#"{"version":1,"waiting":[]}"#.to_vec(),
        ]
    },
};

/// The note of a vault that was begun on a chain.
pub(super) const FOUNDING: Target = Target {
    name: "founding",
    decoders: &[],
    run: |input| verdict(is_begun(input)),
    seeds: || {
        let id = "01".repeat(32);
        vec![format!("vault = \"{id}\"\nchain_id = 1\ngenesis = \"{id}\"\nsince = 7\n").into_bytes()]
    },
};

const fn verdict(is_taken: bool) -> Verdict {
    if is_taken { Verdict::Accepted } else { Verdict::Refused }
}

/// Two answers in one input, with a zero between them.
fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let middle = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    (&input[..middle], input.get(middle + 1..).unwrap_or_default())
}

/// A header that is taken has the hash that the answer names: nothing else is a proof's beginning.
fn check(header: &Header, block: &[u8]) {
    let text = String::from_utf8_lossy(block).to_lowercase();
    assert!(text.contains(&header.hash_slow().to_string()), "a header with another hash was taken");
}
