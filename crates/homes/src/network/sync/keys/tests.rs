//! Ways from key to key: the true one, and what is no part of it.

use blockhouse_consensus::{Base, Kind, Network};
use blockhouse_ledger::certificate::{Certificate, Committee};
use blockhouse_ledger::governance::LEAD;
use blockhouse_ledger::recall::Recall;
use blockhouse_ledger::succession;

use super::*;
use crate::embedded::import_run;
use crate::embedded::run::tests::{CHAIN, LENGTH, NEW, OLD, blocks, certify, genesis, public, store};
use crate::network::SyncConfig;
use crate::remote::Remote;
use crate::store::Store;

const CLOSING: u64 = LEAD * LENGTH - 1;
const OTHERS: [u64; 4] = [6, 7, 8, 9];

/// What a node of the governed network is given.
pub(in crate::network::sync) fn file() -> NetworkFile {
    let genesis = genesis();
    let base = Base { height: 0, hash: genesis.hash() };
    let network = Network::try_new(CHAIN, 0, base, &OLD.map(public), Kind::Committee).unwrap();
    NetworkFile { genesis, network, enrolments: Vec::new(), made: None, handover: None, epoch_length: None }
}

fn key_of(nodes: [u64; 4]) -> [u8; 32] {
    let mut keys = nodes.map(public);
    keys.sort_unstable();
    Committee::key_of(&keys)
}

/// The closing block of the first set.
fn closing() -> Link {
    let (height, objects) = blocks(&genesis(), (NEW, LEAD), CLOSING);
    assert_eq!(height, CLOSING);
    let object = objects.last().unwrap();
    Link { header: object.block.header.clone(), certificate: object.certificate.clone() }
}

/// The same with another header, which these sign.
fn forged(nodes: [u64; 4], change: impl FnOnce(&mut alloy_consensus::Header)) -> Link {
    let mut header = closing().header;
    change(&mut header);
    Link { certificate: certify(nodes, 0, &header), header }
}

fn refused(way: &Way, link: Link) -> String {
    let mut way = way.clone();
    let before = way.clone();
    let why = way.follow(link).unwrap_err();
    assert_eq!(way, before, "{why}");
    why
}

#[test]
fn a_closing_block_leads_to_those_who_follow() {
    let mut way = Way::of(&file());
    way.follow(closing()).unwrap();
    assert_eq!(way.at(1), key_of(OLD));
    assert_eq!((way.at(CLOSING), way.at(CLOSING + 1)), (key_of(OLD), key_of(NEW)));
    assert_eq!(way.at(u64::MAX), key_of(NEW));
    assert_eq!(way.links_below(CLOSING), []);
    assert_eq!(way.links_below(CLOSING + 1), [closing()]);
}

#[test]
fn what_is_no_closing_block_of_those_in_force_is_refused() {
    let first = Way::of(&file());
    let strangers = B256::new(key_of(OTHERS));
    let say = |why: &str, link| {
        let found = refused(&first, link);
        assert!(found.contains(why), "{found}");
    };
    say("is not certified", forged(NEW, |_| {}));
    say("is not certified", Link { header: forged(OLD, |header| header.mix_hash = strangers).header, ..closing() });
    say("do not change with block 30", forged(OLD, |header| header.number -= 1));
    say("names no key", forged(OLD, |header| header.mix_hash = B256::ZERO));
    say("names the validators that are there", forged(OLD, |header| header.mix_hash = B256::new(key_of(OLD))));
    let mut dangling = closing();
    let Certificate::Committee(committee) = &mut dangling.certificate else { panic!("of a committee") };
    committee.finality.descendants = vec![dangling.header.clone()];
    say("was not signed itself", dangling);
    say("was not signed itself", Link { certificate: Certificate::Genesis { key: key_of(OLD) }, ..closing() });
}

/// Their keys may have leaked since: they count no more.
#[test]
fn who_left_closes_nothing_more() {
    let mut way = Way::of(&file());
    way.follow(closing()).unwrap();
    let to_strangers = |header: &mut alloy_consensus::Header| header.mix_hash = B256::new(key_of(OTHERS));
    let later = |nodes| {
        forged(nodes, |header| {
            header.number += LENGTH;
            to_strangers(header);
        })
    };
    assert!(refused(&way, later(OLD)).contains("is not certified"));
    assert!(refused(&way, forged(OLD, to_strangers)).contains("does not stand above"), "a second end of their time");
    assert!(refused(&way, closing()).contains("does not stand above"));
    way.follow(later(NEW)).unwrap();
    assert_eq!(way.at(u64::MAX), key_of(OTHERS));
}

#[test]
fn a_way_has_an_end() {
    let mut way = Way::of(&file());
    way.follow(closing()).unwrap();
    way.steps = vec![way.steps.pop().unwrap(); CHANGES_MAX];
    let next = forged(NEW, |header| {
        header.number += LENGTH;
        header.mix_hash = B256::new(key_of(OTHERS));
    });
    assert!(refused(&way, next).contains("more than 4096 changes"));
}

#[test]
fn a_network_whose_validators_do_not_change_takes_no_link() {
    let mut file = file();
    file.genesis.governance = None;
    assert!(refused(&Way::of(&file), closing()).contains("validators do not change"));
}

/// W2.
#[test]
fn two_ends_of_one_tenure_part() {
    let (mut one, mut other) = (Way::of(&file()), Way::of(&file()));
    one.follow(closing()).unwrap();
    assert_eq!((one.parts_from(&other), other.parts_from(&one)), (None, None), "one is behind");
    other.follow(forged(OLD, |header| header.mix_hash = B256::new(key_of(OTHERS)))).unwrap();
    assert_eq!(one.parts_from(&other), Some(CLOSING));
    let mut same_key = Way::of(&file());
    same_key.follow(forged(OLD, |header| header.gas_used += 1)).unwrap();
    assert_eq!(one.parts_from(&same_key), Some(CLOSING), "whatever the key");
}

#[test]
fn a_state_whose_keys_are_others_is_refused() {
    let (genesis, folder) = (genesis(), tempfile::tempdir().unwrap());
    let mut store = store(&genesis, folder.path());
    let (_, objects) = blocks(&genesis, (NEW, LEAD), CLOSING + 2);
    let (until, after) = objects.split_at(usize::try_from(CLOSING).unwrap());
    let expect = |store: &Store, way: &Way| way.expect(&LedgerKeys::of(store).unwrap(), store.height());
    let (first, mut true_way, mut other) = (Way::of(&file()), Way::of(&file()), Way::of(&file()));
    true_way.follow(closing()).unwrap();
    other.follow(forged(OLD, |header| header.mix_hash = B256::new(key_of(OTHERS)))).unwrap();
    import_run(&mut store, &until[..10], &Recall::default()).unwrap();
    expect(&store, &first).unwrap();
    expect(&store, &true_way).unwrap();
    import_run(&mut store, until, &Recall::default()).unwrap();
    assert!(succession(store.head().header()).is_some());
    for objects in [&after[..0], after] {
        import_run(&mut store, objects, &Recall::default()).unwrap();
        expect(&store, &true_way).unwrap();
        expect(&store, &first).unwrap_err();
        expect(&store, &other).unwrap_err();
    }
}

/// The first block of a network that took a ledger over: above its base, and certified by it.
#[test]
fn the_first_block_of_a_network_is_its_own() {
    let (peers, config) = (Remote::new(vec!["http://127.0.0.1:1".parse().unwrap()]).unwrap(), SyncConfig::default());
    let mut file = file();
    let first = closing();
    let base = |height, hash: B256| Base { height, hash: BlockHash::new(hash.0) };
    let mut expect = |base, link: &Link| {
        file.network = Network::try_new(CHAIN, 0, base, &OLD.map(public), Kind::Committee).unwrap();
        Sync { file: &file, config: &config, peers: &peers }.expect_first(link)
    };
    let parent = first.header.parent_hash;
    expect(base(CLOSING - 1, parent), &first).unwrap();
    assert!(expect(base(CLOSING - 2, parent), &first).unwrap_err().contains("not the first one"));
    assert!(expect(base(CLOSING - 1, B256::ZERO), &first).unwrap_err().contains("not the first one"));
    let by_others = Link { certificate: certify(OTHERS, 0, &first.header), ..first };
    assert!(expect(base(CLOSING - 1, parent), &by_others).is_err());
}
