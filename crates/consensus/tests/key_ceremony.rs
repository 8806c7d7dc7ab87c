//! Key ceremonies over links that lose, repeat and reorder, with nodes that are killed and dealers that lie.
//!
//! `BLOCKHOUSE_SEED=n` replays one seed, `BLOCKHOUSE_SEEDS=n` runs so many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use blockhouse_consensus::ceremony::{Body, Ceremony, Failure, Here, Message, Outcome, Plan, PlanError, Record};
use blockhouse_consensus::{Keys, Kind, Network};
use blockhouse_ledger::resharing::{self, Group, Step};
use commonware_codec::{Copying, DecodeExt, Encode};
use commonware_cryptography::Signer as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    Dealer, DealerPrivMsg, DealerPubMsg, Info, Player, PlayerAck, Reveal, SignedDealerLog,
};
use commonware_cryptography::bls12381::primitives::group::Share;
use commonware_cryptography::bls12381::primitives::ops::{threshold, verify_message};
use commonware_cryptography::bls12381::primitives::sharing::Mode;
use commonware_cryptography::bls12381::primitives::variant::MinPk;
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_parallel::Sequential;
use commonware_utils::N3f1;
use commonware_utils::ordered::Set;
use rand::RngExt as _;
use rand::rngs::StdRng;

use support::{CHAIN, base, identities, rng, seeds};

/// What a kill leaves of a node: its keys, a share that was made, its record, and the outcome.
struct Disk {
    keys: Keys,
    share: Option<Share>,
    record: Vec<u8>,
    outcome: Option<Outcome>,
}

impl Disk {
    /// The keys with the share that was made.
    fn holding(&self) -> Keys {
        let keys = self.keys.clone();
        self.share.iter().fold(keys, |keys, share| keys.with_share(share.clone()))
    }
}

struct Node {
    disk: Disk,
    /// While it runs.
    running: Option<Ceremony>,
}

/// On its way from one node to another.
struct Letter {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

struct World {
    plan: Plan,
    public: Vec<[u8; 32]>,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    rng: StdRng,
    /// Of a hundred letters, so many are lost, and so many come twice.
    lost: u32,
    twice: u32,
    /// What a node that lies makes of a message on its way out; nothing if it does not send it.
    lie: Box<dyn FnMut(usize, usize, Message) -> Vec<Message>>,
}

impl World {
    /// All four run; messages are lost and come twice, and who is killed comes back, until nobody is killed any more.
    fn suffer(&mut self) {
        (self.lost, self.twice) = (20, 20);
        self.start_all();
        for _ in 0..40 {
            let node = self.rng.random_range(0..4);
            match self.rng.random_range(0..8) {
                0..3 => self.kill(node),
                // All at once, as when the power goes.
                3 => (0..4).for_each(|node| self.kill(node)),
                _ => {}
            }
            self.start_dead();
            if self.run(60) {
                break;
            }
        }
        for _ in 0..400 {
            self.start_dead();
            if self.run(200) {
                break;
            }
        }
    }

    fn new(seed: u64, plan: Plan, keys: &[Keys]) -> Self {
        let public = plan.participants();
        let of = |key: &[u8; 32]| keys.iter().find(|keys| keys.public() == *key).unwrap().clone();
        let disk = |key| Disk { keys: of(key), share: None, record: Record::default().encode(), outcome: None };
        let nodes = public.iter().map(|key| Node { disk: disk(key), running: None }).collect();
        let lie = Box::new(|_, _, message| vec![message]);
        Self { plan, public, nodes, letters: Vec::new(), rng: rng(seed), lost: 0, twice: 0, lie }
    }

    /// A new key of four.
    fn generate(seed: u64, count: usize) -> Self {
        let keys = identities(seed, count);
        let public: Vec<[u8; 32]> = keys.iter().map(Keys::public).collect();
        Self::new(seed, Plan::generate(&[7; 32], &public).unwrap(), &keys)
    }

    /// Starts a node as `node join` does: it counts up, durably, before it says a word.
    fn start(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        let mut record = Record::decode(&disk.record).unwrap();
        record.incarnation += 1;
        disk.record = record.encode();
        let agreed = record.of(&self.plan, &disk.holding());
        let ceremony = Ceremony::new(self.plan.clone(), disk.keys.clone(), record.incarnation, agreed);
        self.nodes[node].running = Some(match &disk.outcome {
            Some(outcome) => ceremony.completed(&outcome.attestation),
            None => ceremony,
        });
    }

    fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.start(node));
    }

    fn start_dead(&mut self) {
        let dead: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].running.is_none()).collect();
        for node in dead {
            self.start(node);
        }
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].running = None;
    }

    /// One step of one node: time passes, or a letter comes.
    fn step(&mut self) {
        let comes = !self.letters.is_empty() && self.rng.random_range(0..8) > 0;
        let (node, sent) = if comes {
            let at = self.rng.random_range(0..self.letters.len());
            let letter = self.letters.swap_remove(at);
            let from = self.public[letter.from];
            let Some(ceremony) = self.nodes[letter.to].running.as_mut() else { return };
            (letter.to, ceremony.hear(&mut self.rng, &from, &letter.bytes))
        } else {
            let node = self.rng.random_range(0..self.nodes.len());
            let Some(ceremony) = self.nodes[node].running.as_mut() else { return };
            (node, ceremony.tick(&mut self.rng))
        };
        for outgoing in sent {
            let to = self.public.iter().position(|key| *key == outgoing.to).unwrap();
            for message in (self.lie)(node, to, outgoing.message) {
                self.post(node, to, &message);
            }
        }
        self.keep(node);
    }

    fn post(&mut self, from: usize, to: usize, message: &Message) {
        let bytes = message.encode().to_vec();
        assert!(bytes.len() <= blockhouse_consensus::ceremony::MESSAGE_MAX);
        assert_eq!(Message::decode(&bytes).unwrap().encode().to_vec(), bytes);
        if self.rng.random_range(0..100) < self.lost {
            return;
        }
        if self.rng.random_range(0..100) < self.twice {
            self.letters.push(Letter { from, to, bytes: bytes.clone() });
        }
        self.letters.push(Letter { from, to, bytes });
    }

    /// Writes what the node says must be durable; it may be killed between any two of these files.
    fn keep(&mut self, node: usize) {
        let Node { disk, running } = &mut self.nodes[node];
        let ceremony = running.as_mut().unwrap();
        let lost = self.lost;
        let dies = |rng: &mut StdRng| lost > 0 && rng.random_range(0..20) == 0;
        if let Some((agreed, share)) = ceremony.to_keep() {
            disk.share = share.cloned();
            if dies(&mut self.rng) {
                *running = None;
                return;
            }
            let mut record = Record::decode(&disk.record).unwrap();
            record.agreed = Some(agreed.clone());
            disk.record = record.encode();
            if dies(&mut self.rng) {
                *running = None;
                return;
            }
            ceremony.kept();
        }
        if let Some(outcome) = ceremony.outcome() {
            let first = disk.outcome.get_or_insert_with(|| outcome.clone());
            assert_eq!((&first.sharing, &first.attestation), (&outcome.sharing, &outcome.attestation));
            if dies(&mut self.rng) {
                *running = None;
                return;
            }
            ceremony.recorded();
        }
    }

    /// Runs until every node has the key; gives the steps.
    fn run(&mut self, most: u32) -> bool {
        for _ in 0..most {
            self.step();
            if self.nodes.iter().all(|node| node.disk.outcome.is_some()) {
                return true;
            }
        }
        false
    }

    /// Runs until a node failed, and gives why every node did that did, from the first step after which one says so.
    fn run_to_failure(&mut self) -> BTreeMap<usize, Failure> {
        for _ in 0..20_000 {
            self.step();
            let failed = |node: &Node| node.running.as_ref().and_then(|ceremony| ceremony.failure().cloned());
            if self.nodes.iter().any(|node| failed(node).is_some()) {
                // The others are told.
                (0..2000).for_each(|_| self.step());
                let all = self.nodes.iter().enumerate();
                return all.filter_map(|(at, node)| failed(node).map(|failure| (at, failure))).collect();
            }
            assert!(self.nodes.iter().all(|node| node.disk.outcome.is_none()), "a key was made");
        }
        panic!("nothing failed");
    }

    /// One key, shares that sign under it, and everybody's word for it.
    fn expect_one_key(&self) -> &Outcome {
        let outcomes: Vec<&Outcome> = self.nodes.iter().map(|node| node.disk.outcome.as_ref().unwrap()).collect();
        let first = outcomes[0];
        for outcome in &outcomes {
            assert_eq!(outcome.sharing, first.sharing);
            assert_eq!(outcome.attestation, first.attestation);
        }
        assert!(first.attestation.holds(&self.plan, &first.sharing));
        expect_signs(&outcomes);
        first
    }
}

/// Every quorum's partial signatures make a signature under the group's key; one less makes none.
fn expect_signs(outcomes: &[&Outcome]) {
    let (sharing, shares): (_, Vec<_>) =
        (&outcomes[0].sharing, outcomes.iter().filter_map(|outcome| outcome.share.as_ref()).collect());
    let partials: Vec<_> =
        shares.iter().map(|share| threshold::sign_message::<MinPk>(share, b"test", b"message")).collect();
    for partial in &partials {
        threshold::verify_message::<MinPk>(sharing, b"test", b"message", partial).unwrap();
    }
    let quorum = sharing.required() as usize;
    for skipped in 0..partials.len() {
        let mut some = partials.clone();
        some.rotate_left(skipped);
        let signature = threshold::recover::<MinPk, _>(sharing, &some[..quorum], &Sequential).unwrap();
        verify_message::<MinPk>(sharing.public(), b"test", b"message", &signature).unwrap();
        assert!(threshold::recover::<MinPk, _>(sharing, &some[..quorum - 1], &Sequential).is_err());
    }
}

#[test]
fn all_make_one_key_whose_shares_sign() {
    for count in [1, 2, 3, 4, 7] {
        let mut world = World::generate(count as u64, count);
        world.start_all();
        assert!(world.run(20_000), "{count} nodes");
        let key = world.expect_one_key().group_key();
        let kind = Kind::Threshold(world.nodes[0].disk.outcome.as_ref().unwrap().sharing.clone());
        let network = Network::try_new(CHAIN, 0, base(), &world.public, kind).unwrap();
        assert_eq!(network.quorum(), count - (count - 1) / 3);
        let mut again = World::generate(count as u64, count);
        again.rng = rng(1000 + count as u64);
        again.start_all();
        assert!(again.run(20_000));
        assert_ne!(again.expect_one_key().group_key(), key, "each ceremony makes another key");
    }
}

/// K1 to K3: whatever is lost, repeated, late, and whoever is killed between any two writes.
#[test]
fn lost_and_late_messages_and_kills_leave_one_key() {
    for seed in seeds(12) {
        println!("BLOCKHOUSE_SEED={seed}");
        let mut world = World::generate(seed, 4);
        world.suffer();
        world.expect_one_key();
    }
}

#[test]
fn who_is_absent_or_has_another_founding_is_told() {
    let mut world = World::generate(3, 4);
    (0..3).for_each(|node| world.start(node));
    assert!(!world.run(5000));
    let progress = world.nodes[0].running.as_ref().unwrap().progress();
    assert_eq!((progress.absent, progress.strange), (vec![world.public[3]], Vec::new()));
    assert!(world.nodes.iter().all(|node| Record::decode(&node.disk.record).unwrap().agreed.is_none()));
    // It comes with another founding file, then with the right one.
    let here = Body::Here(Here { incarnation: 1, attempt: None, signed: None, finished: false });
    let bytes = Message { ceremony: [9; 32], body: here }.encode();
    let from = world.public[3];
    let (rng, node) = (&mut world.rng, &mut world.nodes[0]);
    assert!(node.running.as_mut().unwrap().hear(rng, &from, &bytes).is_empty());
    assert_eq!(node.running.as_ref().unwrap().progress().strange, [from]);
    world.start(3);
    assert!(world.run(20_000));
    assert!(world.nodes[0].running.as_ref().unwrap().progress().complete);
    world.expect_one_key();
}

#[test]
fn a_dealer_that_lies_to_one_player_is_named_by_all() {
    let mut world = World::generate(4, 4);
    world.lie = Box::new(|from, to, mut message| {
        if let (Body::Deal { share, .. }, 2, 1) = (&mut message.body, from, to) {
            let mut bytes = share.encode().to_vec();
            bytes[31] ^= 1;
            *share = DealerPrivMsg::decode(Copying(&bytes[..])).unwrap();
        }
        vec![message]
    });
    world.start_all();
    let failed = world.run_to_failure();
    let dealer = world.public[2];
    assert_eq!(failed[&1], Failure::WrongShare { dealer });
    assert_eq!(failed[&0], Failure::Complaint { by: world.public[1], dealer });
    assert_eq!(failed.len(), 4);
    expect_retry(world);
}

/// After a failure nothing stands in the way of another try.
fn expect_retry(mut world: World) {
    world.lie = Box::new(|_, _, message| vec![message]);
    world.start_all();
    assert!(world.run(20_000));
    world.expect_one_key();
}

/// A second part of the same node, with the same key and number, deals other polynomials to some: the acks do not fit one log.
#[test]
fn a_dealer_that_deals_two_polynomials_gets_no_key_and_is_named() {
    let mut world = World::generate(5, 4);
    world.start_all();
    let mut twin = World::generate(5, 4);
    twin.rng = rng(77);
    twin.start_all();
    // The twin's dealings of node 3 are what node 0 gets of it.
    let mut other = BTreeMap::new();
    for _ in 0..400 {
        for outgoing in twin.nodes[3].running.as_mut().unwrap().tick(&mut twin.rng) {
            if let Body::Deal { .. } = outgoing.message.body {
                other.insert(outgoing.to, outgoing.message.clone());
            }
        }
        twin.step();
    }
    let (zero, others) = (world.public[0], other);
    assert!(others.contains_key(&zero), "the twin was in the same attempt");
    world.lie = Box::new(move |from, to, message| match (&message.body, from, to) {
        (Body::Deal { .. }, 3, 0) => vec![others[&zero].clone()],
        _ => vec![message],
    });
    assert!(!world.run(20_000), "no key is made of two polynomials");
    assert!(world.nodes.iter().all(|node| node.disk.outcome.is_none()));
    for node in 0..3 {
        let progress = world.nodes[node].running.as_ref().unwrap().progress();
        assert_eq!((progress.absent, progress.awaited), (Vec::new(), vec![world.public[3]]), "it is named");
    }
    expect_retry(world);
}

/// A dealer that keeps to no protocol but has its true key: node 3 of four. Of its polynomial it can make two logs that it signs, one with the
/// answers of all and one that reveals the share of player 0.
struct Liar {
    key: PrivateKey,
    validators: Set<PublicKey>,
    deals: Option<Dealing>,
}

struct Dealing {
    attempt: [u8; 32],
    commitment: DealerPubMsg<MinPk>,
    shares: BTreeMap<[u8; 32], DealerPrivMsg>,
    answered: BTreeSet<[u8; 32]>,
    dealers: Option<[Dealer<MinPk, PrivateKey>; 2]>,
    logs: Option<[SignedDealerLog<MinPk, PublicKey>; 2]>,
}

impl Liar {
    fn new(keys: &[Keys]) -> Self {
        let key = PrivateKey::decode(Copying(&keys[3].encode()[8..40])).unwrap();
        let validators = keys.iter().map(|keys| PublicKey::decode(Copying(&keys.public()[..])).unwrap());
        Self { key, validators: Set::from_iter_dedup(validators), deals: None }
    }

    /// The bytes that `docs/design/consensus.md` gives.
    fn info(&self, attempt: &[u8; 32]) -> Info<MinPk, PublicKey> {
        let round = [b"blockhouse v1 ceremony round ".as_slice(), attempt].concat();
        let all = self.validators.clone();
        Info::new::<N3f1>(&round, 0, None, Mode::NonZeroCounter, Reveal::V1, all.clone(), all).unwrap()
    }

    /// Two dealers of one polynomial, and the own answer to it.
    fn begin(&mut self, attempt: [u8; 32]) {
        let info = self.info(&attempt);
        let start = || Dealer::start::<N3f1>(rng(99), info.clone(), self.key.clone(), None).unwrap();
        let ((mut one, commitment, shares), (mut two, ..)) = (start(), start());
        let me = self.key.public_key();
        let share = shares.iter().find(|(key, _)| *key == me).unwrap().1.clone();
        let mut player = Player::new(info.clone(), self.key.clone()).unwrap();
        let ack = player.dealer_message::<N3f1>(me.clone(), commitment.clone(), share).unwrap().unwrap();
        one.receive_player_ack(me.clone(), ack.clone()).unwrap();
        two.receive_player_ack(me, ack).unwrap();
        let bytes = |key: &PublicKey| <[u8; 32]>::try_from(key.as_ref()).unwrap();
        let shares = shares.into_iter().map(|(key, share)| (bytes(&key), share)).collect();
        let (answered, dealers) = (BTreeSet::new(), Some([one, two]));
        self.deals = Some(Dealing { attempt, commitment, shares, answered, dealers, logs: None });
    }

    fn hear_ack(&mut self, from: usize, ack: &PlayerAck<PublicKey>) {
        let (player, deals) = (self.validators[from].clone(), self.deals.as_mut().unwrap());
        let Some([one, two]) = deals.dealers.as_mut() else { return };
        if one.receive_player_ack(player.clone(), ack.clone()).is_ok() {
            deals.answered.insert(player.as_ref().try_into().unwrap());
        }
        if from != 0 {
            let _ = two.receive_player_ack(player, ack.clone());
        }
        if deals.answered.len() == 3 {
            deals.logs = deals.dealers.take().map(|dealers| dealers.map(Dealer::finalize::<N3f1>));
        }
    }
}

/// Runs with a liar that sends these of its logs (0 is clean, 1 reveals) to node 0, and the clean one to the others.
fn lie_with_logs(logs: &'static [usize]) -> BTreeMap<usize, Failure> {
    let mut world = World::generate(6, 4);
    let (mut liar, public) = (Liar::new(&identities(6, 4)), world.public.clone());
    world.lie = Box::new(move |from, to, message| match message.body {
        Body::Ack { ack, .. } if to == 3 => {
            if liar.deals.is_some() {
                liar.hear_ack(from, &ack);
            }
            Vec::new()
        }
        Body::Deal { attempt, .. } if from == 3 => {
            if liar.deals.as_ref().is_none_or(|deals| deals.attempt != attempt) {
                liar.begin(attempt);
            }
            let deals = liar.deals.as_ref().unwrap();
            let (commitment, share) = (deals.commitment.clone(), deals.shares[&public[to]].clone());
            vec![Message { body: Body::Deal { attempt, commitment, share }, ..message }]
        }
        Body::Here(_) if from == 3 => {
            let ceremony = message.ceremony;
            let made = liar.deals.as_ref().and_then(|deals| Some((deals.attempt, deals.logs.clone()?)));
            let log = |(attempt, made): ([u8; 32], [SignedDealerLog<MinPk, PublicKey>; 2])| {
                let which = if to == 0 { logs } else { &[0] };
                let log = |at: &usize| Message { ceremony, body: Body::Log { attempt, log: made[*at].clone() } };
                which.iter().map(log).collect::<Vec<_>>()
            };
            let logs = made.map(log).unwrap_or_default();
            [vec![message], logs].concat()
        }
        _ => vec![message],
    });
    world.start_all();
    let failed = world.run_to_failure();
    expect_retry(world);
    failed
}

#[test]
fn a_dealer_that_reveals_a_share_or_signs_two_logs_is_named() {
    let dealer = identities(6, 4)[3].public();
    let failed = lie_with_logs(&[1]);
    assert_eq!(failed[&0], Failure::Reveals { dealer });
    for logs in [&[0, 1], &[1, 0]] {
        let failed = lie_with_logs(logs);
        assert!(matches!(&failed[&0], Failure::TwoLogs { dealer: d } | Failure::Reveals { dealer: d } if *d == dealer));
        // Who saw both gives both on.
        if failed[&0] == (Failure::TwoLogs { dealer }) {
            assert_eq!((&failed[&1], &failed[&2]), (&Failure::TwoLogs { dealer }, &Failure::TwoLogs { dealer }));
        }
    }
}

/// The old holders hand their key on; what the old shares sign and what the new ones sign is under one key.
#[test]
fn a_key_is_handed_on_to_other_validators() {
    for seed in seeds(3) {
        println!("BLOCKHOUSE_SEED={seed}");
        let mut first = World::generate(seed, 4);
        first.start_all();
        assert!(first.run(20_000));
        let outcome = first.expect_one_key().clone();
        let network =
            Network::try_new(CHAIN, 0, base(), &first.public, Kind::Threshold(outcome.sharing.clone())).unwrap();
        // One leaves, which may or may not help; two come.
        let mut keys: Vec<Keys> = first.nodes.iter().map(|node| node.disk.holding()).collect();
        keys.extend(identities(1000 + seed, 2));
        let to: Vec<[u8; 32]> = keys[1..].iter().map(Keys::public).collect();
        let dealers = if seed % 2 == 0 { &first.public[..] } else { &first.public[1..] };
        let plan = Plan::reshare(&[8; 32], &network, dealers, &to).unwrap();
        let mut second = World::new(seed, plan, &keys);
        (second.lost, second.twice) = (10, 10);
        second.start_all();
        for _ in 0..300 {
            second.start_dead();
            if second.run(200) {
                break;
            }
        }
        let made = second.expect_one_key();
        assert_eq!(made.group_key(), outcome.group_key());
        assert_ne!(made.sharing, outcome.sharing);
        let new = Network::try_new(CHAIN, 1, base(), &to, Kind::Threshold(made.sharing.clone())).unwrap();
        assert_eq!((new.key(), new.quorum()), (network.key(), 4));
    }
}

/// What a ledger settles, a network does: one is replaced who is gone, all who stay and who comes are killed at random, and what they signed is
/// what the ledger takes: of the same key, for the players, signed by all.
#[test]
fn a_step_of_a_ledger_comes_through_losses_and_kills() {
    for seed in seeds(6) {
        println!("BLOCKHOUSE_SEED={seed}");
        let dealt = support::threshold(seed, 4);
        let mut keys = dealt.keys.clone();
        keys.extend(identities(2000 + seed, 1));
        // The last of the four goes, and is not there any more.
        let mut players: Vec<[u8; 32]> =
            keys.iter().enumerate().filter(|(at, _)| *at != 3).map(|(_, keys)| keys.public()).collect();
        players.sort_unstable();
        let dealers = dealt.network.validators().into_iter().filter(|key| players.contains(key)).collect();
        let holders = Group { voters: dealt.network.validators(), polynomial: dealt.network.polynomial().unwrap() };
        let step = Step { subject: [9; 32], holders, dealers, players };
        let plan = Plan::of_step(&step).unwrap();
        assert_eq!((*plan.id(), plan.participants()), (step.ceremony(), step.participants()));
        let mut world = World::new(seed, plan, &keys);
        world.suffer();
        let posted = world.expect_one_key().posted();
        assert!(posted.holds(&step));
        assert_eq!(resharing::Outcome::decode(&posted.encode()).unwrap(), posted);
        expect_refused(&posted, &step);
    }
}

/// Whatever is altered of an outcome, or of what it is for, makes it none.
fn expect_refused(posted: &resharing::Outcome, step: &Step) {
    let altered = |change: &dyn Fn(&mut resharing::Outcome)| {
        let mut other = posted.clone();
        change(&mut other);
        other.holds(step)
    };
    assert!(!altered(&|other| other.transcript[0] ^= 1));
    assert!(!altered(&|other| other.signatures[2][5] ^= 1));
    assert!(!altered(&|other| other.signatures.truncate(3)));
    assert!(!altered(&|other| other.polynomial.clone_from(&step.holders.polynomial)));
    assert!(!posted.holds(&Step { subject: [10; 32], ..step.clone() }));
    let other = support::threshold(77, 4).network.polynomial().unwrap();
    let holders = Group { polynomial: other, ..step.holders.clone() };
    assert!(!posted.holds(&Step { holders, ..step.clone() }));
}

#[test]
fn what_cannot_be_handed_on_is_refused() {
    let dealt = support::threshold(9, 4);
    let (network, all) = (&dealt.network, dealt.network.validators());
    let reshare = |network: &Network, dealers: &[[u8; 32]]| Plan::reshare(&[8; 32], network, dealers, &all);
    assert!(reshare(network, &all[..3]).is_ok());
    assert_eq!(reshare(network, &all[..2]).unwrap_err(), PlanError::Dealers { found: 2, needed: 3 });
    let stranger = identities(10, 1)[0].public();
    let with = [all.clone(), vec![stranger]].concat();
    assert_eq!(reshare(network, &with).unwrap_err(), PlanError::NoHolder { key: stranger });
    assert_eq!(reshare(&support::committee(9, 4).network, &all).unwrap_err(), PlanError::NoGroup);
    let one = support::threshold(11, 1).network;
    assert_eq!(reshare(&one, &one.validators()).unwrap_err(), PlanError::OneKey);
    assert!(matches!(Plan::generate(&[1; 32], &[all[0], all[0]]), Err(PlanError::Network(_))));
}

#[test]
fn records_come_back_and_an_attestation_is_of_one_outcome() {
    let mut world = World::generate(12, 4);
    world.start_all();
    assert!(world.run(20_000));
    let outcome = world.expect_one_key();
    let bytes = &world.nodes[1].disk.record;
    let record = Record::decode(bytes).unwrap();
    assert_eq!(record.encode(), *bytes);
    let keys = world.nodes[1].disk.holding();
    assert_eq!(record.of(&world.plan, &keys).unwrap().0.sharing, outcome.sharing);
    // Without the share, with one of another key, and in another ceremony it is of no use.
    assert!(record.of(&world.plan, &world.nodes[1].disk.keys).is_none());
    let strange = support::threshold(12, 4).keys.remove(1);
    assert!(record.of(&world.plan, &strange).is_none());
    let other = Plan::generate(&[6; 32], &world.public).unwrap();
    assert!(record.of(&other, &keys).is_none());
    assert!(!outcome.attestation.holds(&other, &outcome.sharing));
    let dealt = support::threshold(12, 4).network;
    let Kind::Threshold(sharing) = dealt.kind() else { panic!("it is of one key") };
    assert!(!outcome.attestation.holds(&world.plan, sharing));
    let mut short = outcome.attestation.clone();
    short.signatures.pop();
    assert!(!short.holds(&world.plan, &outcome.sharing));
    short.signatures.push([0; 64]);
    assert!(!short.holds(&world.plan, &outcome.sharing));
}
