//! The bytes of the blocks, valid or not: each block has one encoding, and nothing else is read as one.

use alloy_consensus::Header;
use alloy_primitives::Bytes;

use super::fixture::files;
use crate::block::{BlockError, decode_block, decode_header, encode_block};

/// The bytes of all blocks that the files hold.
fn all() -> Vec<Bytes> {
    let tests = files().into_values().flat_map(std::collections::BTreeMap::into_values);
    let blocks = tests.flat_map(|test| {
        let given = test.blocks.into_iter().map(|given| given.rlp);
        given.chain([test.genesis_rlp]).collect::<Vec<_>>()
    });
    blocks.collect()
}

/// Invalid blocks of the files break rules, none the form.
#[test]
fn every_block_is_read_and_written_as_the_same_bytes() {
    for bytes in all() {
        let block = decode_block(&bytes).unwrap();
        assert_eq!(encode_block(&block), bytes);
        let header = alloy_rlp::encode(&block.header);
        assert_eq!(decode_header(&header).unwrap(), block.header);
    }
}

#[test]
fn a_block_that_is_cut_or_continued_is_refused() {
    for bytes in all() {
        for length in 0..bytes.len() {
            decode_block(&bytes[..length]).unwrap_err();
        }
        for more in [0x00, 0x80, 0xc0, 0xff] {
            decode_block(&[&bytes, [more].as_slice()].concat()).unwrap_err();
        }
    }
}

/// The length of a list could be written with a leading zero too.
#[test]
fn a_block_in_another_encoding_is_refused() {
    for bytes in all() {
        let (first, rest) = bytes.split_first().unwrap();
        let longer = [&[first + 1, 0x00], rest].concat();
        assert!(matches!(decode_block(&longer), Err(BlockError::Rlp { .. } | BlockError::NotCanonical { .. })));
    }
}

/// A changed bit gives no block, or another block in its one encoding.
#[test]
fn no_two_byte_strings_are_one_block() {
    let (mut refused, mut others) = (0, 0);
    for (count, bytes) in all().into_iter().enumerate() {
        let block = decode_block(&bytes).unwrap();
        let mut changed = bytes.to_vec();
        for at in 0..bytes.len() {
            let bit = 1 << ((at + count) % 8);
            changed[at] ^= bit;
            match decode_block(&changed) {
                Ok(other) => {
                    assert_ne!(other, block);
                    assert_eq!(encode_block(&other), changed);
                    others += 1;
                }
                Err(_) => refused += 1,
            }
            changed[at] ^= bit;
        }
    }
    assert!(refused > 0 && others > 0, "{refused} {others}");
}

/// The blocks of the files cover headers of three ages.
#[test]
fn headers_of_every_age_are_read() {
    let headers: Vec<Header> = all().iter().map(|bytes| decode_block(bytes).unwrap().header).collect();
    assert!(headers.iter().any(|header| header.base_fee_per_gas.is_none()));
    assert!(headers.iter().any(|header| header.base_fee_per_gas.is_some() && header.withdrawals_root.is_none()));
    assert!(headers.iter().any(|header| header.parent_beacon_block_root.is_some()));
}
