//! Every decoder of outside bytes ends in a value or an error, and has one encoding for a value.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use blockhouse_ledger::receipt::Receipt;
use blockhouse_ledger::{BlockObject, Certificate, Fork, Genesis, decode_block, decode_header, encode_block};
use blockhouse_types::{Account, RecipientSetHash, VaultId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

prop_compose! {
    fn genesis()(
        vault_id in any::<[u8; 32]>(),
        chain_id in (1_u64 << 32)..(1 << 53),
        owner in any::<[u8; 20]>(),
        recovery in btree_set(any::<[u8; 20]>(), 0..5),
        ledger_key in any::<[u8; 32]>(),
        time in 0_u64..1 << 40,
        gas_limit in 5_000_u64..1 << 40,
        recipients in any::<[u8; 32]>(),
    ) -> Genesis {
        Genesis {
            vault_id: VaultId::new(vault_id),
            chain_id,
            owner: Account::new(owner),
            recovery: recovery.into_iter().map(Account::new).filter(|account| *account != Account::new(owner)).collect(),
            ledger_key,
            time,
            gas_limit,
            forks: vec![(0, Fork::Shanghai)],
            recipients: RecipientSetHash::new(recipients),
            governance: None,
        }
    }
}

proptest! {
    #[test]
    fn a_genesis_reads_back(genesis in genesis()) {
        prop_assert_eq!(Genesis::decode(&genesis.encode()).unwrap(), genesis.clone());
        let block = genesis.block();
        prop_assert_eq!(decode_block(&encode_block(&block)).unwrap(), block);
    }

    /// Rules of a later release, at whatever time they begin: nobody follows until then and guesses.
    #[test]
    fn a_genesis_with_rules_that_are_not_known_is_refused(genesis in genesis(), rules in 2..=u8::MAX) {
        let mut bytes = genesis.encode();
        let time_and_gas = [genesis.time.to_le_bytes(), genesis.gas_limit.to_le_bytes()].concat();
        let begins = bytes.windows(16).position(|found| found == time_and_gas).unwrap();
        // One fork: its count, its time, its number.
        let number = begins + 16 + 1 + 8;
        prop_assert_eq!(bytes[number], genesis.newest_fork().tag());
        bytes[number] = rules;
        let refused = Genesis::decode(&bytes).unwrap_err().to_string();
        prop_assert!(refused.contains("unknown set of rules") && refused.contains("newer blockhouse"), "{refused}");
    }

    #[test]
    fn block_0_reads_back(genesis in genesis(), key in any::<[u8; 32]>(), half in any::<[u8; 32]>()) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&half);
        let object = BlockObject {
            chain_id: genesis.chain_id,
            block: genesis.block(),
            certificate: Certificate::Solo { key, signature },
            genesis: Some(genesis),
        };
        prop_assert_eq!(BlockObject::decode(&object.encode()).unwrap(), object);
    }

    /// What is taken is written back the same.
    #[test]
    fn changed_block_objects_have_no_second_encoding(
        genesis in genesis(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let certificate = Certificate::Solo { key: [1; 32], signature: [2; 64] };
        let object =
            BlockObject { chain_id: genesis.chain_id, block: genesis.block(), certificate, genesis: Some(genesis) };
        let mut bytes = object.encode();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Ok(taken) = BlockObject::decode(&bytes) {
            prop_assert_eq!(taken.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Genesis::decode(&bytes);
        let _ = Certificate::decode(&bytes);
        let _ = BlockObject::decode(&bytes);
        let _ = decode_block(&bytes);
        let _ = decode_header(&bytes);
        let _ = Receipt::parse(&bytes);
    }
}
