use blockhouse_consensus::Keys;
use blockhouse_crypto::Secret;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::network::Place;
use crate::network::succession::tests::genesis;

fn secret(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

/// A proposal of each kind.
fn proposals() -> [RecoveryProposal; 2] {
    let enrol = |number: u64| {
        let keys = Keys::generate(&mut StdRng::seed_from_u64(number));
        let (name, address) = (format!("n{number}").parse().unwrap(), format!("h{number}:1").parse().unwrap());
        Enrolment::sign(&keys, name, address, Place::default(), None)
    };
    let genesis = genesis();
    let succession = Succession::try_new(genesis.clone(), (1..=4).map(enrol).collect(), None).unwrap();
    let base = Base { height: 7, hash: BlockHash::new([9; 32]) };
    let (added, removed) = (vec![Account::new([3; 20]), Account::new([4; 20])], vec![Account::new([5; 20])]);
    let change = RecoveryChange { number: 2, added, removed, threshold: 3 };
    [RecoveryProposal::Handover { succession, base }, RecoveryProposal::Change { genesis, change }]
}

/// W2.
#[test]
fn a_proposal_comes_back_and_every_byte_of_it_counts() {
    for proposal in proposals() {
        let bytes = proposal.encode();
        let read = RecoveryProposal::decode(&bytes).unwrap();
        assert_eq!((read.encode(), read.digest()), (bytes.clone(), proposal.digest()));
        for at in 0..bytes.len() {
            assert!(RecoveryProposal::decode(&bytes[..at]).is_err());
        }
        assert!(RecoveryProposal::decode(&[bytes, vec![0]].concat()).is_err());
    }
}

/// The bytes are those of the page, written here by hand.
#[test]
fn the_bytes_are_those_of_the_page() {
    let [handover, change] = proposals();
    let with_length = |bytes: &[u8]| {
        let mut encoder = Encoder::new();
        encoder.bytes(bytes);
        encoder.finish()
    };
    let begin = |matter: u8| [b"BHRP\x01\0\0\0".as_slice(), &with_length(&genesis().encode()), &[matter]].concat();
    let two = |byte: u8| [byte; 20];
    let expected = [&begin(1)[..], &2_u64.to_le_bytes(), &[3, 2], &two(3), &two(4), &[1], &two(5)].concat();
    assert_eq!(change.encode(), expected);
    let RecoveryProposal::Handover { succession, .. } = &handover else { unreachable!("the first one") };
    let mut expected = [&begin(0)[..], &7_u64.to_le_bytes(), &[9; 32], &[4]].concat();
    for enrolment in succession.enrolments() {
        expected.extend(with_length(&enrolment.encode()));
    }
    assert_eq!(handover.encode(), expected);
    let word = change.sign(&secret(2));
    let expected = [b"BHRA\x01\0\0\0".as_slice(), &change.digest(), &word.signature].concat();
    assert_eq!(word.encode(), expected);
}

/// W1.
#[test]
fn a_word_is_for_one_proposal_of_one_ledger() {
    let [handover, change] = proposals();
    let RecoveryProposal::Handover { succession, base } = &handover else { unreachable!("the first one") };
    let mut genesis = succession.genesis().clone();
    genesis.chain_id += 1;
    let elsewhere = Succession::try_new(genesis, succession.enrolments().to_vec(), None).unwrap();
    let above = Base { height: 8, hash: BlockHash::new([8; 32]) };
    let others = [
        RecoveryProposal::Handover { succession: succession.clone(), base: above },
        RecoveryProposal::Handover { succession: elsewhere, base: *base },
        change,
    ];
    for other in others {
        let refused = handover.approvals(&[other.sign(&secret(2))], (secret(1).account(), 2), |_| true);
        assert!(matches!(refused, Err(ProposalError::OtherProposal { .. })), "{refused:?}");
    }
}

#[test]
fn as_many_distinct_recovery_accounts_agree_as_it_takes() {
    let [proposal, _] = proposals();
    let words = |secrets: &[u8]| secrets.iter().map(|byte| proposal.sign(&secret(*byte))).collect::<Vec<_>>();
    let recovery = [1, 2, 3].map(|byte| secret(byte).account());
    let ask = |secrets: &[u8], needed| {
        let sender = secret(1).account();
        proposal.approvals(&words(secrets), (sender, needed), |account| recovery.contains(account))
    };
    assert_eq!(ask(&[], 1).unwrap().len(), 0);
    let both = ask(&[3, 2], 3).unwrap();
    assert_eq!(both, ask(&[2, 3], 3).unwrap(), "they ascend by account");
    assert!(matches!(ask(&[2], 3), Err(ProposalError::TooFew { given: 2, needed: 3 })));
    assert!(matches!(ask(&[2, 2], 3), Err(ProposalError::Twice { .. })));
    assert!(matches!(ask(&[1, 2], 3), Err(ProposalError::Sender { .. })));
    assert!(matches!(ask(&[2, 4], 3), Err(ProposalError::NotRecovery { .. })));
    let word = words(&[2]).remove(0);
    assert_eq!(Word::decode(&word.encode()).unwrap(), word);
    let mut altered = word.encode();
    altered.push(0);
    assert!(Word::decode(&altered).is_err());
    assert_eq!(word.account(), secret(2).account());
}
