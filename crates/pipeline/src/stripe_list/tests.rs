use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use blockhouse_crypto::hash;
use blockhouse_types::DecodeError;

use super::*;

fn ids(count: u32) -> Vec<StripeId> {
    let set: BTreeSet<_> = (0..count).map(|i| StripeId::new(hash::content(&i.to_le_bytes()))).collect();
    set.into_iter().collect()
}

fn store(nodes: &[StoredNode]) -> HashMap<ListHash, Vec<u8>> {
    nodes.iter().map(|node| (node.hash, node.bytes.clone())).collect()
}

fn read(root: ListHash, stored: &HashMap<ListHash, Vec<u8>>) -> Result<Vec<StripeId>, ReadListError<Infallible>> {
    read_list(root, |hash| Ok(stored[&hash].clone()))
}

#[test]
fn a_list_reads_back_at_every_size() {
    for count in [0, 1, 256, 257, 5000] {
        let list = StripeList::build(&ids(count)).unwrap();
        assert_eq!(read(list.root(), &store(list.nodes())).unwrap(), ids(count));
        assert_eq!(list.nodes().len() == 1, count <= 256);
    }
}

/// Ids that agree in all but the last nibbles: the deepest tree there is.
#[test]
fn ids_with_one_long_prefix_make_a_deep_list() {
    let ids: Vec<_> = (0..300_u16)
        .map(|i| {
            let mut bytes = [0x5a; 32];
            bytes[30..].copy_from_slice(&i.to_be_bytes());
            StripeId::new(bytes)
        })
        .collect();
    let list = StripeList::build(&ids).unwrap();
    assert_eq!(read(list.root(), &store(list.nodes())).unwrap(), ids);
    assert!(list.nodes().len() > 60);
}

#[test]
fn build_takes_only_sets() {
    let mut wrong = ids(3);
    wrong.swap(0, 1);
    assert!(StripeList::build(&wrong).is_err());
    let twice = [ids(1)[0], ids(1)[0]];
    assert!(StripeList::build(&twice).is_err());
}

#[test]
fn one_more_stripe_shares_all_nodes_but_one_path() {
    let all = ids(20_000);
    let mut fewer = all.clone();
    fewer.remove(777);
    let (old, new) = (StripeList::build(&fewer).unwrap(), StripeList::build(&all).unwrap());
    let stored = store(old.nodes());
    let needed = new.needed_nodes(|hash| stored.contains_key(&hash));
    assert!(needed.len() <= 4, "{}", needed.len());
    assert_eq!(needed.last().unwrap().hash, new.root());
    let mut together = stored;
    together.extend(needed.into_iter().map(|node| (node.hash, node.bytes.clone())));
    assert_eq!(read(new.root(), &together).unwrap(), all);
    assert_eq!(new.needed_nodes(|_| false).len(), new.nodes().len());
    assert!(new.needed_nodes(|_| true).is_empty());
}

/// Stores a node under its own hash and tells what the reader says of it.
fn verdict(nodes: &[ListNode]) -> Result<Vec<StripeId>, ReadListError<Infallible>> {
    let stored: HashMap<_, _> =
        nodes.iter().map(ListNode::to_bytes).map(|bytes| (ListNode::hash(&bytes), bytes)).collect();
    read(ListNode::hash(&nodes.last().unwrap().to_bytes()), &stored)
}

fn child(node: &ListNode, nibble: u8) -> Child {
    Child { nibble, count: node.count(), hash: ListNode::hash(&node.to_bytes()) }
}

/// L2: every other tree over the same ids is refused.
#[test]
fn only_the_canonical_tree_is_read() {
    let all = ids(300);
    let leaf = |depth, ids: &[StripeId]| ListNode::Leaf { depth, ids: ids.to_vec() };
    let runs: Vec<_> = all.chunk_by(|a, b| nibble(a, 0) == nibble(b, 0)).map(|run| leaf(1, run)).collect();
    let children: Vec<_> = (0..).zip(&runs).map(|(nibble, run)| child(run, nibble)).collect();
    let tree = |children: &[Child], runs: &[ListNode]| {
        let root = ListNode::Inner { depth: 0, children: children.to_vec() };
        verdict(&[runs, &[root]].concat())
    };
    assert_eq!(tree(&children, &runs).unwrap(), all);

    assert!(matches!(verdict(&[leaf(0, &all)]), Err(ReadListError::Decode { .. })), "a leaf of 300");
    assert!(matches!(verdict(&[leaf(1, &all[..9])]), Err(ReadListError::Depth { .. })));
    let few = ListNode::Inner { depth: 0, children: children[..2].to_vec() };
    assert!(matches!(verdict(&[runs.clone(), vec![few]].concat()), Err(ReadListError::Decode { .. })));

    let mut counts = children.clone();
    counts[3].count += 1;
    assert!(matches!(tree(&counts, &runs), Err(ReadListError::Count { .. })));

    let mut swapped = runs.clone();
    swapped.swap(2, 3);
    let places: Vec<_> = (0..).zip(&swapped).map(|(nibble, run)| child(run, nibble)).collect();
    assert!(matches!(tree(&places, &swapped), Err(ReadListError::Prefix { .. })));

    let deep: Vec<_> = all.chunk_by(|a, b| nibble(a, 0) == nibble(b, 0)).map(|run| leaf(2, run)).collect();
    let places: Vec<_> = (0..).zip(&deep).map(|(nibble, run)| child(run, nibble)).collect();
    assert!(matches!(tree(&places, &deep), Err(ReadListError::Depth { .. })));
}

#[test]
fn every_altered_byte_gives_another_hash_or_no_node() {
    for count in [0, 3, 400] {
        let list = StripeList::build(&ids(count)).unwrap();
        let root = list.nodes().last().unwrap();
        for at in 0..root.bytes.len() {
            let mut flipped = root.bytes.clone();
            flipped[at] ^= 1;
            let mut stored = store(list.nodes());
            stored.insert(root.hash, flipped);
            assert!(matches!(read(root.hash, &stored), Err(ReadListError::OtherNode { .. })), "byte {at}");
            assert!(ListNode::from_bytes(&root.bytes[..at]).is_err(), "length {at}");
        }
    }
}

#[test]
fn nodes_have_one_form() {
    let [a, b] = [ids(2)[0], ids(2)[1]];
    let refused =
        |node: ListNode| matches!(ListNode::from_bytes(&node.to_bytes()), Err(DecodeError::NotCanonical { .. }));
    assert!(refused(ListNode::Leaf { depth: 0, ids: vec![b, a] }));
    assert!(refused(ListNode::Leaf { depth: 0, ids: vec![a, a] }));
    assert!(refused(ListNode::Leaf { depth: 1, ids: vec![] }));
    let child = |nibble, count| Child { nibble, count, hash: ListHash::new([1; 32]) };
    assert!(refused(ListNode::Inner { depth: 0, children: vec![] }));
    assert!(refused(ListNode::Inner { depth: 0, children: vec![child(1, 256)] }));
    assert!(refused(ListNode::Inner { depth: 0, children: vec![child(1, 257), child(2, 0)] }));
    assert!(refused(ListNode::Inner { depth: 0, children: vec![child(1, u64::MAX), child(2, 1)] }));
    assert!(refused(ListNode::Inner { depth: 64, children: vec![child(1, 257)] }));
    let too_deep = ListNode::Leaf { depth: 65, ids: vec![a] };
    assert!(matches!(ListNode::from_bytes(&too_deep.to_bytes()), Err(DecodeError::Limit { .. })));
}

fn walk(
    root: ListHash,
    whole: &mut WholeSubtrees,
    stored: &HashMap<ListHash, Vec<u8>>,
) -> Result<(BTreeSet<StripeId>, Vec<ListHash>), ReadListError<Infallible>> {
    let (mut found, mut order) = (BTreeSet::new(), Vec::new());
    walk_unseen(
        root,
        whole,
        |hash| Ok(stored[&hash].clone()),
        |hash, length, node| {
            assert_eq!(length, stored[&hash].len());
            order.push(hash);
            if let ListNode::Leaf { ids, .. } = node {
                found.extend(ids.iter().copied());
            }
        },
    )?;
    Ok((found, order))
}

#[test]
fn what_was_walked_before_is_not_walked_again() {
    let all = ids(20_000);
    let mut fewer = all.clone();
    fewer.remove(777);
    let (old, new) = (StripeList::build(&fewer).unwrap(), StripeList::build(&all).unwrap());
    let mut stored = store(old.nodes());
    stored.extend(store(new.nodes()));
    let mut whole = WholeSubtrees::default();
    let (mut found, order) = walk(old.root(), &mut whole, &stored).unwrap();
    assert_eq!(order, old.nodes().iter().map(|node| node.hash).collect::<Vec<_>>(), "children before their parents");
    let (more, again) = walk(new.root(), &mut whole, &stored).unwrap();
    assert!(again.len() <= 4 && again.last() == Some(&new.root()), "{again:?}");
    found.extend(more);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(walk(new.root(), &mut whole, &stored).unwrap().1, []);
}

#[test]
fn a_subtree_that_was_walked_is_refused_where_it_may_not_stand() {
    let list = StripeList::build(&ids(5000)).unwrap();
    let mut stored = store(list.nodes());
    let mut whole = WholeSubtrees::default();
    walk(list.root(), &mut whole, &stored).unwrap();
    let ListNode::Inner { depth, children } = ListNode::from_bytes(&stored[&list.root()]).unwrap() else {
        panic!("5000 ids are more than a leaf holds")
    };
    let mut walk_changed = |change: fn(&mut Vec<Child>)| {
        let mut children = children.clone();
        change(&mut children);
        let bytes = ListNode::Inner { depth, children }.to_bytes();
        let root = ListNode::hash(&bytes);
        stored.insert(root, bytes);
        walk(root, &mut whole, &stored)
    };
    assert!(matches!(walk_changed(|it| it[0].count += 1), Err(ReadListError::Count { .. })));
    let swap = |it: &mut Vec<Child>| {
        it.swap(0, 1);
        (it[0].nibble, it[1].nibble) = (0, 1);
    };
    assert!(matches!(walk_changed(swap), Err(ReadListError::Prefix { .. })));
    assert!(matches!(walk(children[0].hash, &mut whole, &stored), Err(ReadListError::Depth { .. })));
}
